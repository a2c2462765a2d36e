//! What an edit may be refused for, and what else a DROP takes with it.

use std::collections::HashSet;

use super::edit::CatalogEdit;
use super::relation::Relation;
use super::snapshot::{Catalog, is_system_schema};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::zset::RelationId;

/// As many columns as PostgreSQL allows.
const COLUMNS_MAX: usize = 1600;

impl Catalog {
    /// Whether the edit can be applied. Called when a statement is bound, and again by the engine at its step.
    pub fn check(&self, edit: &CatalogEdit) -> SqlResult<()> {
        match edit {
            CatalogEdit::CreateSchema { name, .. } => self.check_new_schema(name),
            CatalogEdit::DropSchema { name } => self.check_drop_schema(name),
            CatalogEdit::RenameSchema { name, new_name } => {
                self.check_user_schema(name)?;
                self.check_new_schema(new_name)
            }
            CatalogEdit::Create(relation) => self.check_create(relation),
            CatalogEdit::Replace(relation) => self.check_replace(relation),
            CatalogEdit::Drop(id) => self.check_drop(*id),
            CatalogEdit::Rename { id, new_name } => {
                let relation = self.existing(*id)?;
                self.check_free(&relation.schema, new_name)
            }
            CatalogEdit::RenameColumn { id, column, new_name } => self.check_column_name(*id, *column, new_name),
            CatalogEdit::Move { id, new_schema } => {
                let relation = self.existing(*id)?;
                self.check_user_schema(new_schema)?;
                self.check_free(new_schema, &relation.name)
            }
            CatalogEdit::Redefine { id, .. } => self.existing(*id).map(|_| ()),
        }
    }

    /// Checks edits one after the other, each on the catalog that the ones before leave; gives the last catalog.
    pub fn check_all(&self, edits: &[CatalogEdit]) -> SqlResult<Catalog> {
        let mut catalog = self.clone();
        for edit in edits {
            catalog.check(edit)?;
            catalog = catalog.apply(edit);
        }
        Ok(catalog)
    }

    /// Relations whose definition reads this one.
    pub fn dependents(&self, id: RelationId) -> Vec<RelationId> {
        self.objects().filter(|other| other.depends_on.contains(&id)).map(|other| other.id).collect()
    }

    /// The relations given and all that depend on them, directly or not; dependents first, so that they can be
    /// dropped in this order.
    pub fn with_dependents(&self, ids: &[RelationId]) -> Vec<RelationId> {
        let mut seen = HashSet::new();
        let mut order = Vec::new();
        // A stack of (relation, whether its dependents are done), so that long chains cannot exhaust the call stack.
        let mut waiting: Vec<(RelationId, bool)> = ids.iter().rev().map(|id| (*id, false)).collect();
        while let Some((id, done)) = waiting.pop() {
            if done {
                order.push(id);
            } else if seen.insert(id) {
                waiting.push((id, true));
                waiting.extend(self.dependents(id).into_iter().map(|dependent| (dependent, false)));
            }
        }
        order
    }

    /// The edits of `DROP relations [CASCADE]`, or the refusal 2BP01 that lists the dependents.
    pub fn drop_edits(&self, ids: &[RelationId], cascade: bool) -> SqlResult<Vec<CatalogEdit>> {
        let all = self.with_dependents(ids);
        let given: HashSet<RelationId> = ids.iter().copied().collect();
        let others: Vec<RelationId> =
            all.iter().copied().filter(|id| !given.contains(id) && !self.is_index(*id)).collect();
        if !others.is_empty() && !cascade {
            return Err(self.still_needed(ids, &others));
        }
        Ok(all.into_iter().map(CatalogEdit::Drop).collect())
    }

    /// The edits of `DROP SCHEMA name [CASCADE]`.
    pub fn drop_schema_edits(&self, name: &str, cascade: bool) -> SqlResult<Vec<CatalogEdit>> {
        self.check_user_schema(name)?;
        let inside: Vec<_> = self.objects().filter(|relation| relation.schema == name).map(|r| r.id).collect();
        let mut edits = match inside.is_empty() || cascade {
            true => self.drop_edits(&inside, true)?,
            false => return Err(self.schema_not_empty(name, &inside)),
        };
        edits.push(CatalogEdit::DropSchema { name: name.to_string() });
        Ok(edits)
    }

    /// How messages name a relation: `materialized view v`, with its schema unless that is `public`.
    pub fn describe(&self, id: RelationId) -> String {
        match self.get(id) {
            Some(relation) => format!("{} {}", relation.kind, display_name(relation)),
            None => format!("relation {}", id.0),
        }
    }

    fn is_index(&self, id: RelationId) -> bool {
        self.get(id).is_some_and(|relation| relation.kind == super::RelationKind::Index)
    }

    fn still_needed(&self, ids: &[RelationId], others: &[RelationId]) -> SqlError {
        let mut lines = Vec::new();
        for other in others.iter().rev() {
            let on =
                self.get(*other).and_then(|o| o.depends_on.iter().find(|id| ids.contains(id) || others.contains(id)));
            let on = on.map(|on| self.describe(*on)).unwrap_or_default();
            lines.push(format!("{} depends on {on}", self.describe(*other)));
        }
        let message = match ids {
            [id] => format!("cannot drop {} because other objects depend on it", self.describe(*id)),
            _ => "cannot drop desired object(s) because other objects depend on them".to_string(),
        };
        SqlError::new(SqlState::DEPENDENT_OBJECTS, message)
            .detail(lines.join("\n"))
            .hint("Use DROP ... CASCADE to drop the dependent objects too.")
    }

    fn schema_not_empty(&self, name: &str, inside: &[RelationId]) -> SqlError {
        let lines = inside.iter().map(|id| format!("{} depends on schema {name}", self.describe(*id)));
        SqlError::new(
            SqlState::DEPENDENT_OBJECTS,
            format!("cannot drop schema {name} because other objects depend on it"),
        )
        .detail(lines.collect::<Vec<_>>().join("\n"))
        .hint("Use DROP ... CASCADE to drop the dependent objects too.")
    }

    fn existing(&self, id: RelationId) -> SqlResult<&Relation> {
        let gone = || SqlError::new(SqlState::UNDEFINED_TABLE, format!("relation {} was dropped meanwhile", id.0));
        self.get(id).map(|relation| &**relation).ok_or_else(gone)
    }

    fn check_drop(&self, id: RelationId) -> SqlResult<()> {
        let relation = self.existing(id)?;
        self.check_user_schema(&relation.schema)?;
        let dependents = self.dependents(id);
        match dependents.is_empty() {
            true => Ok(()),
            false => Err(self.still_needed(&[id], &dependents)),
        }
    }

    fn check_create(&self, relation: &Relation) -> SqlResult<()> {
        self.check_user_schema(&relation.schema)?;
        self.check_free(&relation.schema, &relation.name)?;
        if self.relations.contains_key(&relation.id) || relation.id.0 < self.next_id {
            return Err(SqlError::new(
                SqlState::SERIALIZATION_FAILURE,
                "another statement changed the catalog meanwhile",
            )
            .hint("Run the statement again."));
        }
        for id in &relation.depends_on {
            self.existing(*id)?;
        }
        check_columns(relation)
    }

    fn check_replace(&self, relation: &Relation) -> SqlResult<()> {
        self.existing(relation.id)?;
        let above = self.with_dependents(&[relation.id]);
        match relation.depends_on.iter().find(|id| above.contains(id)) {
            None => check_columns(relation),
            Some(id) => {
                let message = format!("view \"{}\" cannot read {}, which reads it", relation.name, self.describe(*id));
                Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message))
            }
        }
    }

    fn check_free(&self, schema: &str, name: &str) -> SqlResult<()> {
        match self.named(schema, name) {
            None => Ok(()),
            Some(_) => Err(SqlError::new(SqlState::DUPLICATE_TABLE, format!("relation \"{name}\" already exists"))),
        }
    }

    fn check_new_schema(&self, name: &str) -> SqlResult<()> {
        if is_system_schema(name) || name.starts_with("pg_") {
            return Err(SqlError::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                format!("unacceptable schema name \"{name}\""),
            )
            .detail("The prefix \"pg_\" and Headwater's own schemas are reserved."));
        }
        match self.schema(name) {
            None => Ok(()),
            Some(_) => Err(SqlError::new(SqlState::DUPLICATE_SCHEMA, format!("schema \"{name}\" already exists"))),
        }
    }

    /// Refuses schemas that do not exist or belong to the system.
    pub fn check_user_schema(&self, name: &str) -> SqlResult<()> {
        if is_system_schema(name) {
            return Err(SqlError::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                format!("permission denied for schema {name}"),
            )
            .detail("System schemas cannot be changed."));
        }
        match self.schema(name) {
            Some(_) => Ok(()),
            None => Err(self.schema_not_found(name)),
        }
    }

    fn check_drop_schema(&self, name: &str) -> SqlResult<()> {
        self.check_user_schema(name)?;
        let inside: Vec<_> = self.objects().filter(|relation| relation.schema == name).map(|r| r.id).collect();
        match inside.is_empty() {
            true => Ok(()),
            false => Err(self.schema_not_empty(name, &inside)),
        }
    }

    fn check_column_name(&self, id: RelationId, column: usize, new_name: &str) -> SqlResult<()> {
        let relation = self.existing(id)?;
        let taken = relation.columns.iter().enumerate().any(|(i, other)| i != column && other.name == new_name);
        match taken {
            false => Ok(()),
            true => Err(SqlError::new(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{new_name}\" of relation \"{}\" already exists", relation.name),
            )),
        }
    }
}

/// The name as it is written in messages: qualified unless the schema is `public`.
fn display_name(relation: &Relation) -> String {
    match relation.schema.as_str() {
        super::PUBLIC_SCHEMA => relation.name.clone(),
        schema => format!("{schema}.{}", relation.name),
    }
}

fn check_columns(relation: &Relation) -> SqlResult<()> {
    if relation.columns.len() > COLUMNS_MAX {
        return Err(SqlError::new(
            SqlState::CONFIGURATION_LIMIT,
            format!("tables can have at most {COLUMNS_MAX} columns"),
        ));
    }
    let mut names = HashSet::new();
    for column in &relation.columns {
        if !names.insert(&column.name) {
            let message = format!("column \"{}\" specified more than once", column.name);
            return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::tests::table;
    use super::*;

    fn chain() -> Catalog {
        let mut catalog = Catalog::bootstrap();
        let mut last = Vec::new();
        for name in ["t", "v", "w"] {
            let relation = table(&catalog, name, &last);
            last = vec![relation.id];
            catalog = catalog.check_all(&[CatalogEdit::Create(relation)]).expect("a new name");
        }
        catalog
    }

    #[test]
    fn a_drop_without_cascade_names_the_dependents() {
        let catalog = chain();
        let t = catalog.named("public", "t").expect("created").id;
        let error = catalog.drop_edits(&[t], false).expect_err("v depends on it");
        assert_eq!(error.code, SqlState::DEPENDENT_OBJECTS);
        let detail = "materialized view v depends on table t\nmaterialized view w depends on materialized view v";
        assert_eq!(error.detail.as_deref(), Some(detail));
    }

    #[test]
    fn a_cascade_drops_dependents_first() {
        let catalog = chain();
        let t = catalog.named("public", "t").expect("created").id;
        let edits = catalog.drop_edits(&[t], true).expect("cascade");
        assert_eq!(edits.len(), 3);
        let after = catalog.check_all(&edits).expect("in an order that leaves nothing hanging");
        assert!(after.named("public", "t").is_none() && after.named("public", "w").is_none());
    }

    #[test]
    fn dropping_all_of_a_chain_together_needs_no_cascade() {
        let catalog = chain();
        let ids: Vec<_> = ["t", "v", "w"].iter().map(|n| catalog.named("public", n).expect("created").id).collect();
        assert_eq!(catalog.drop_edits(&ids, false).expect("all given").len(), 3);
    }

    #[test]
    fn names_are_unique_and_system_schemas_closed() {
        let catalog = chain();
        let code = |edit| catalog.check(&edit).expect_err("refused").code;
        assert_eq!(code(CatalogEdit::Create(table(&catalog, "t", &[]))), SqlState::DUPLICATE_TABLE);
        let mut stray = table(&catalog, "x", &[]);
        stray.schema = "hw_catalog".to_string();
        assert_eq!(code(CatalogEdit::Create(stray.clone())), SqlState::INSUFFICIENT_PRIVILEGE);
        stray.schema = "nowhere".to_string();
        assert_eq!(code(CatalogEdit::Create(stray)), SqlState::INVALID_SCHEMA);
        let schema = |name: &str| CatalogEdit::CreateSchema { name: name.to_string(), oid: 20000 };
        assert_eq!(code(schema("public")), SqlState::DUPLICATE_SCHEMA);
        assert_eq!(code(schema("pg_x")), SqlState::INSUFFICIENT_PRIVILEGE);
    }

    #[test]
    fn a_stale_id_is_refused() {
        let catalog = chain();
        let stale = table(&Catalog::bootstrap(), "x", &[]);
        assert_eq!(
            catalog.check(&CatalogEdit::Create(stale)).expect_err("stale").code,
            SqlState::SERIALIZATION_FAILURE
        );
    }
}
