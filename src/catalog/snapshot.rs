//! The catalog as of one step: immutable, shared by everyone who reads at that step.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use super::edit::CatalogEdit;
use super::relation::{Column, Relation, RelationKind};
use crate::zset::{PgType, RelationId};

/// The only database there is; connections under other names see the same one.
pub const DATABASE: &str = "dev";
pub const PUBLIC_SCHEMA: &str = "public";
/// Headwater's own relations.
pub const CATALOG_SCHEMA: &str = "hw_catalog";
/// Schemas that users cannot create, drop, or create relations in.
pub const SYSTEM_SCHEMAS: [&str; 3] = ["pg_catalog", "information_schema", CATALOG_SCHEMA];
/// The relation of messages that sources could not decode.
pub const DEAD_LETTERS: RelationId = RelationId(1);
/// The relation of how far the times of relations with a watermark have come.
pub const WATERMARKS: RelationId = RelationId(2);
/// The relation of rows that came behind the watermark.
pub const LATE_ROWS: RelationId = RelationId(3);
/// Ids below are Headwater's own relations.
pub const FIRST_USER_ID: u64 = 64;
/// PostgreSQL's first OID for objects of users; a relation's OID is this plus its id.
pub const OID_BASE: u32 = 16384;

pub fn is_system_schema(name: &str) -> bool {
    SYSTEM_SCHEMAS.contains(&name)
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    pub name: String,
    pub oid: u32,
}

/// Which schemas and relations exist. Cheap to clone apart from the maps; relations are shared.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "StoredCatalog", into = "StoredCatalog")]
pub struct Catalog {
    pub(super) schemas: BTreeMap<String, Schema>,
    pub(super) relations: BTreeMap<RelationId, Arc<Relation>>,
    /// (schema, name) → id; derived from `relations`.
    pub(super) names: HashMap<(String, String), RelationId>,
    pub(super) next_id: u64,
    /// Rises with every edit, so that a cached binding knows whether it is stale.
    pub(super) version: u64,
}

/// The catalog as it lies in manifests.
#[derive(Serialize, Deserialize)]
struct StoredCatalog {
    schemas: Vec<Schema>,
    relations: Vec<Relation>,
    next_id: u64,
    version: u64,
}

impl From<StoredCatalog> for Catalog {
    fn from(mut stored: StoredCatalog) -> Self {
        // A catalog that was written by an older version may lack some of our own.
        let known: Vec<RelationId> = stored.relations.iter().map(|relation| relation.id).collect();
        stored.relations.extend(own_relations().into_iter().filter(|own| !known.contains(&own.id)));
        let key = |relation: &Relation| (relation.schema.clone(), relation.name.clone());
        Self {
            names: stored.relations.iter().map(|relation| (key(relation), relation.id)).collect(),
            schemas: stored.schemas.into_iter().map(|schema| (schema.name.clone(), schema)).collect(),
            relations: stored.relations.into_iter().map(|relation| (relation.id, Arc::new(relation))).collect(),
            next_id: stored.next_id,
            version: stored.version,
        }
    }
}

impl From<Catalog> for StoredCatalog {
    fn from(catalog: Catalog) -> Self {
        Self {
            schemas: catalog.schemas.into_values().collect(),
            relations: catalog.relations.into_values().map(Arc::unwrap_or_clone).collect(),
            next_id: catalog.next_id,
            version: catalog.version,
        }
    }
}

impl Catalog {
    /// What an empty data directory begins with: schema `public`, and `hw_catalog` with the dead letters.
    pub fn bootstrap() -> Self {
        let schemas = [(PUBLIC_SCHEMA, 2200), (CATALOG_SCHEMA, OID_BASE - 1)];
        let stored = StoredCatalog {
            schemas: schemas.map(|(name, oid)| Schema { name: name.to_string(), oid }).to_vec(),
            relations: own_relations(),
            next_id: FIRST_USER_ID,
            version: 0,
        };
        stored.into()
    }

    pub fn schemas(&self) -> impl Iterator<Item = &Schema> {
        self.schemas.values()
    }

    pub fn schema(&self, name: &str) -> Option<&Schema> {
        self.schemas.get(name)
    }

    pub fn get(&self, id: RelationId) -> Option<&Arc<Relation>> {
        self.relations.get(&id)
    }

    /// The columns of the rows that workers keep for a relation: for an index those of the indexed one.
    pub fn kept_schema(&self, relation: &Relation) -> Option<SchemaRef> {
        match relation.kind {
            RelationKind::Index => self.get(*relation.depends_on.first()?).map(|indexed| indexed.arrow_schema()),
            _ => Some(relation.arrow_schema()),
        }
    }

    /// All relations in the order of their creation.
    pub fn relations(&self) -> impl Iterator<Item = &Arc<Relation>> {
        self.objects().filter(|object| object.kind != RelationKind::Function)
    }

    /// The functions that users have made.
    pub fn functions(&self) -> impl Iterator<Item = &Arc<Relation>> {
        self.objects().filter(|object| object.kind == RelationKind::Function)
    }

    /// Relations and functions in the order of their creation.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<Relation>> {
        self.relations.values()
    }

    /// The id that the next relation gets. Ids are never used again.
    pub fn next_id(&self) -> RelationId {
        RelationId(self.next_id)
    }

    /// Rises with every edit.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The relation of that name in that schema.
    pub fn named(&self, schema: &str, name: &str) -> Option<&Arc<Relation>> {
        self.names.get(&(schema.to_string(), name.to_string())).and_then(|id| self.get(*id))
    }

    /// The relation that a name means: in the schema given, else in the first schema of the path that has it.
    pub fn find(&self, schema: Option<&str>, name: &str, search_path: &[String]) -> Option<&Arc<Relation>> {
        match schema {
            Some(schema) => self.named(schema, name),
            None => search_path.iter().find_map(|schema| self.named(schema, name)),
        }
    }

    /// The catalog after an edit that [`Catalog::check`] has let pass.
    #[must_use]
    pub fn apply(&self, edit: &CatalogEdit) -> Catalog {
        let mut after = self.clone();
        after.version += 1;
        match edit {
            CatalogEdit::CreateSchema { name, oid } => {
                after.next_id = after.next_id.max(u64::from(oid.saturating_sub(OID_BASE)) + 1);
                after.schemas.insert(name.clone(), Schema { name: name.clone(), oid: *oid });
            }
            CatalogEdit::DropSchema { name } => {
                after.schemas.remove(name);
            }
            CatalogEdit::RenameSchema { name, new_name } => after.rename_schema(name, new_name),
            CatalogEdit::Create(relation) => {
                after.next_id = after.next_id.max(relation.id.0 + 1);
                after.put(relation.clone());
            }
            CatalogEdit::Replace(relation) => after.edit(relation.id, |old| *old = relation.clone()),
            CatalogEdit::Drop(id) => {
                after.take(*id);
            }
            CatalogEdit::Rename { id, new_name } => after.edit(*id, |old| old.name.clone_from(new_name)),
            CatalogEdit::Move { id, new_schema } => after.edit(*id, |old| old.schema.clone_from(new_schema)),
            CatalogEdit::Redefine { id, definition } => after.edit(*id, |old| old.definition.clone_from(definition)),
            CatalogEdit::RenameColumn { id, column, new_name } => after.edit(*id, |old| {
                if let Some(column) = old.columns.get_mut(*column) {
                    column.name.clone_from(new_name);
                }
            }),
        }
        after
    }

    fn edit(&mut self, id: RelationId, change: impl FnOnce(&mut Relation)) {
        if let Some(old) = self.take(id) {
            let mut relation = Arc::unwrap_or_clone(old);
            change(&mut relation);
            self.put(relation);
        }
    }

    fn put(&mut self, relation: Relation) {
        self.names.insert((relation.schema.clone(), relation.name.clone()), relation.id);
        self.relations.insert(relation.id, Arc::new(relation));
    }

    fn take(&mut self, id: RelationId) -> Option<Arc<Relation>> {
        let relation = self.relations.remove(&id)?;
        self.names.remove(&(relation.schema.clone(), relation.name.clone()));
        Some(relation)
    }

    fn rename_schema(&mut self, name: &str, new_name: &str) {
        if let Some(mut schema) = self.schemas.remove(name) {
            schema.name = new_name.to_string();
            self.schemas.insert(new_name.to_string(), schema);
        }
        let inside = self.relations.values().filter(|relation| relation.schema == name);
        for id in inside.map(|relation| relation.id).collect::<Vec<_>>() {
            self.edit(id, |relation| relation.schema = new_name.to_string());
        }
    }
}

/// The relations that the engine itself fills.
fn own_relations() -> Vec<Relation> {
    let dead_letters = [
        ("source", PgType::Text),
        ("place", PgType::Text),
        ("position", PgType::Int8),
        ("bytes", PgType::Bytea),
        ("reason", PgType::Text),
        ("hw_step", PgType::Int8),
    ];
    let watermarks = [("id", PgType::Int8), ("relation", PgType::Text), ("watermark", PgType::Timestamp)];
    let late_rows = [
        ("relation", PgType::Text),
        ("row", PgType::Jsonb),
        ("watermark", PgType::Timestamp),
        ("hw_step", PgType::Int8),
    ];
    vec![
        own_relation(DEAD_LETTERS, "hw_dead_letters", &dead_letters, true),
        own_relation(WATERMARKS, "hw_watermarks", &watermarks, false),
        own_relation(LATE_ROWS, "hw_late_rows", &late_rows, true),
    ]
}

fn own_relation(id: RelationId, name: &str, columns: &[(&str, PgType)], append_only: bool) -> Relation {
    let column = |(name, kind): &(&str, PgType)| Column { nullable: false, ..Column::new(*name, kind.clone()) };
    Relation {
        id,
        oid: OID_BASE + id.0 as u32,
        schema: CATALOG_SCHEMA.to_string(),
        name: name.to_string(),
        kind: RelationKind::Table,
        columns: columns.iter().map(column).collect(),
        primary_key: Vec::new(),
        append_only,
        watermark: None,
        index_key: Vec::new(),
        unique: false,
        definition: String::new(),
        depends_on: Vec::new(),
        options: BTreeMap::new(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn table(catalog: &Catalog, name: &str, depends_on: &[RelationId]) -> Relation {
        let id = catalog.next_id();
        Relation {
            id,
            oid: OID_BASE + id.0 as u32,
            schema: PUBLIC_SCHEMA.to_string(),
            name: name.to_string(),
            kind: if depends_on.is_empty() { RelationKind::Table } else { RelationKind::MaterializedView },
            columns: vec![Column::new("a", PgType::Int4)],
            primary_key: Vec::new(),
            append_only: false,
            watermark: None,
            index_key: Vec::new(),
            unique: false,
            definition: String::new(),
            depends_on: depends_on.to_vec(),
            options: BTreeMap::new(),
        }
    }

    #[test]
    fn a_catalog_survives_json() {
        let catalog = Catalog::bootstrap();
        let catalog = catalog.apply(&CatalogEdit::Create(table(&catalog, "t", &[])));
        let text = serde_json::to_string(&catalog).expect("a catalog is JSON");
        let read: Catalog = serde_json::from_str(&text).expect("what was written is read");
        assert_eq!(read.find(None, "t", &["public".to_string()]).map(|t| t.id), Some(RelationId(FIRST_USER_ID)));
        assert_eq!(read.next_id(), catalog.next_id());
    }

    #[test]
    fn ids_are_not_used_again_after_a_drop() {
        let catalog = Catalog::bootstrap();
        let t = table(&catalog, "t", &[]);
        let after = catalog.apply(&CatalogEdit::Create(t.clone())).apply(&CatalogEdit::Drop(t.id));
        assert!(after.next_id() > t.id);
        assert!(after.named("public", "t").is_none());
    }

    #[test]
    fn renaming_a_schema_moves_its_relations() {
        let catalog = Catalog::bootstrap();
        let t = table(&catalog, "t", &[]);
        let rename = CatalogEdit::RenameSchema { name: "public".to_string(), new_name: "p".to_string() };
        let after = catalog.apply(&CatalogEdit::Create(t.clone())).apply(&rename);
        assert_eq!(after.named("p", "t").map(|t| t.id), Some(t.id));
        assert!(after.schema("public").is_none());
    }
}
