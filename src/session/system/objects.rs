//! The objects of the catalog with OIDs: relations, their columns, keys and defaults, as `pg_class` and its like list them.

use super::System;
use super::rows::{Cell, Table};
use crate::catalog::{Catalog, Column, Relation, RelationKind};
use crate::sql::{SystemRelation, system_relations};
use crate::zset::PgType;

/// The OID of schema `pg_catalog`.
pub const PG_CATALOG_OID: u32 = 11;
const INFORMATION_SCHEMA_OID: u32 = 13_200;
/// The owner of everything, also shown as the user who is connected.
pub const OWNER_OID: u32 = 10;
/// OIDs of the index and the constraint of a primary key, and of defaults, lie this much above the table's.
const KEY_INDEX: u32 = 1_000_000_000;
const KEY_CONSTRAINT: u32 = 2_000_000_000;
const DEFAULTS: u32 = 3_000_000_000;
const HEAP: u32 = 2;
const BTREE: u32 = 403;

pub fn schema_oid(catalog: &Catalog, name: &str) -> u32 {
    match name {
        "pg_catalog" => PG_CATALOG_OID,
        "information_schema" => INFORMATION_SCHEMA_OID,
        name => catalog.schema(name).map_or(0, |schema| schema.oid),
    }
}

/// All schemas with their OIDs.
pub fn schemas(catalog: &Catalog) -> Vec<(u32, String)> {
    let system = [(PG_CATALOG_OID, "pg_catalog"), (INFORMATION_SCHEMA_OID, "information_schema")];
    let system = system.into_iter().map(|(oid, name)| (oid, name.to_string()));
    system.chain(catalog.schemas().map(|schema| (schema.oid, schema.name.clone()))).collect()
}

/// `pg_class.relkind`.
pub fn relkind(kind: RelationKind) -> &'static str {
    match kind {
        RelationKind::Table => "r",
        RelationKind::View => "v",
        RelationKind::MaterializedView => "m",
        // Tools know foreign tables as what lives elsewhere and can be read.
        RelationKind::Source | RelationKind::Sink => "f",
        RelationKind::Index => "i",
        // Listed in pg_proc alone.
        RelationKind::Function => "",
    }
}

/// One thing that `pg_class` lists.
pub struct Object<'a> {
    pub oid: u32,
    pub schema: &'a str,
    pub name: String,
    pub relkind: &'static str,
    pub columns: Vec<(&'a str, &'a PgType)>,
    pub origin: Origin<'a>,
}

/// Where an object comes from.
pub enum Origin<'a> {
    Relation(&'a Relation),
    /// The index of this table's primary key.
    KeyIndex(&'a Relation),
    System,
}

/// All that `pg_class` lists.
pub fn objects(catalog: &Catalog) -> Vec<Object<'_>> {
    let mut all = Vec::new();
    for relation in catalog.relations().filter(|relation| relation.kind != RelationKind::Sink) {
        all.push(Object {
            oid: relation.oid,
            schema: &relation.schema,
            name: relation.name.clone(),
            relkind: relkind(relation.kind),
            columns: relation.columns.iter().map(|column| (column.name.as_str(), &column.pg_type)).collect(),
            origin: Origin::Relation(relation),
        });
        if !relation.primary_key.is_empty() {
            let columns = relation.primary_key.iter().map(|index| &relation.columns[*index]);
            all.push(Object {
                oid: KEY_INDEX + relation.oid,
                schema: &relation.schema,
                name: key_name(relation),
                relkind: "i",
                columns: columns.map(|column| (column.name.as_str(), &column.pg_type)).collect(),
                origin: Origin::KeyIndex(relation),
            });
        }
    }
    all.extend(system_relations().map(system_object));
    all
}

fn system_object<'a>(relation: &'static SystemRelation) -> Object<'a> {
    let is_table = relation.schema == "pg_catalog" && relation.columns.first().is_some_and(|(name, _)| *name == "oid");
    Object {
        oid: relation.oid,
        schema: relation.schema,
        name: relation.name.to_string(),
        relkind: if is_table { "r" } else { "v" },
        columns: relation.columns.iter().map(|(name, kind)| (*name, kind)).collect(),
        origin: Origin::System,
    }
}

/// The name of the index and the constraint of a primary key.
pub fn key_name(relation: &Relation) -> String {
    format!("{}_pkey", relation.name)
}

pub fn key_index_oid(relation: &Relation) -> u32 {
    KEY_INDEX + relation.oid
}

/// The table whose primary key has this OID as its index or constraint.
pub fn key_owner(catalog: &Catalog, oid: u32) -> Option<&Relation> {
    let of = |base: u32| oid.checked_sub(base);
    let found = |table: Option<u32>| {
        let table = table?;
        let mut all = catalog.relations();
        all.find(|relation| relation.oid == table && !relation.primary_key.is_empty())
    };
    found(of(KEY_INDEX)).or_else(|| found(of(KEY_CONSTRAINT))).map(AsRef::as_ref)
}

/// The columns of an index that was made by CREATE INDEX: indices into its table's columns. Its own columns carry
/// their names.
pub fn indexed<'a>(catalog: &'a Catalog, index: &Relation) -> Option<(&'a Relation, Vec<usize>)> {
    let table = catalog.get(*index.depends_on.first()?)?;
    Some((table, index.index_key.clone()))
}

pub fn pg_class(system: &System, table: &mut Table) {
    let catalog = &system.catalog;
    for object in objects(catalog) {
        let relation = match object.origin {
            Origin::Relation(relation) => Some(relation),
            Origin::KeyIndex(_) | Origin::System => None,
        };
        let has_index = relation.is_some_and(|relation| has_index(catalog, relation));
        let is_index = object.relkind == "i";
        table.row([
            ("oid", object.oid.into()),
            ("tableoid", 1259_u32.into()),
            ("relname", object.name.clone().into()),
            ("relnamespace", schema_oid(catalog, object.schema).into()),
            ("relowner", OWNER_OID.into()),
            (
                "relam",
                (if is_index {
                    BTREE
                } else if matches!(object.relkind, "r" | "m") {
                    HEAP
                } else {
                    0
                })
                .into(),
            ),
            ("relfilenode", object.oid.into()),
            ("reltuples", relation.map_or(-1, |relation| system.held(relation.id).0 as i64).into()),
            ("relhasindex", has_index.into()),
            ("relpersistence", "p".into()),
            ("relkind", object.relkind.into()),
            ("relnatts", object.columns.len().into()),
            ("relhasrules", (object.relkind == "v" || object.relkind == "m").into()),
            ("relispopulated", true.into()),
            ("relreplident", (if is_index { "n" } else { "d" }).into()),
        ]);
    }
}

fn has_index(catalog: &Catalog, relation: &Relation) -> bool {
    let indexes = catalog.relations().filter(|other| other.kind == RelationKind::Index);
    !relation.primary_key.is_empty() || indexes.into_iter().any(|index| index.depends_on.contains(&relation.id))
}

pub fn pg_attribute(system: &System, table: &mut Table) {
    for object in objects(&system.catalog) {
        let columns: Option<&[Column]> = match object.origin {
            Origin::Relation(relation) => Some(&relation.columns),
            Origin::KeyIndex(_) | Origin::System => None,
        };
        let key: &[usize] = match object.origin {
            Origin::Relation(relation) => &relation.primary_key,
            Origin::KeyIndex(_) | Origin::System => &[],
        };
        for (index, (name, kind)) in object.columns.iter().enumerate() {
            let column = columns.map(|columns| &columns[index]);
            let required = column.is_some_and(|column| !column.nullable) || key.contains(&index);
            let info = super::types::of(kind);
            table.row([
                ("attrelid", object.oid.into()),
                ("attname", (*name).into()),
                ("atttypid", kind.oid().into()),
                ("attstattarget", (-1).into()),
                ("attlen", info.map_or(-1, |info| info.len).into()),
                ("attnum", (index + 1).into()),
                ("attndims", i32::from(matches!(kind, PgType::Array(_))).into()),
                ("attcacheoff", (-1).into()),
                ("atttypmod", kind.typmod().into()),
                ("attbyval", info.is_some_and(|info| info.by_value).into()),
                ("attalign", info.map_or("i", |info| info.align).into()),
                ("attstorage", info.map_or("x", |info| info.storage).into()),
                ("attcompression", "".into()),
                ("attnotnull", required.into()),
                ("atthasdef", column.is_some_and(|column| column.default.is_some()).into()),
                ("attidentity", "".into()),
                ("attgenerated", "".into()),
                ("attislocal", true.into()),
                ("attcollation", info.map_or(0, |info| info.collation).into()),
            ]);
        }
    }
}

pub fn pg_attrdef(system: &System, table: &mut Table) {
    for relation in system.catalog.relations() {
        let defaults = relation.columns.iter().enumerate();
        for (index, text) in defaults.filter_map(|(index, column)| Some((index, column.default.as_ref()?))) {
            table.row([
                ("oid", (u64::from(DEFAULTS) + u64::from(relation.oid % 500_000) * 2000 + index as u64).into()),
                ("adrelid", relation.oid.into()),
                ("adnum", (index + 1).into()),
                ("adbin", text.clone().into()),
            ]);
        }
    }
}

pub fn pg_index(system: &System, table: &mut Table) {
    let mut add = |oid: u32, owner: &Relation, columns: &[usize], unique: bool, primary: bool| {
        let zeros = || Cell::list(columns.iter().map(|_| 0));
        table.row([
            ("indexrelid", oid.into()),
            ("indrelid", owner.oid.into()),
            ("indnatts", columns.len().into()),
            ("indnkeyatts", columns.len().into()),
            ("indisunique", unique.into()),
            ("indisprimary", primary.into()),
            ("indimmediate", true.into()),
            ("indisvalid", true.into()),
            ("indisready", true.into()),
            ("indislive", true.into()),
            ("indkey", Cell::list(columns.iter().map(|column| column + 1))),
            ("indcollation", zeros()),
            ("indclass", zeros()),
            ("indoption", zeros()),
        ]);
    };
    for relation in system.catalog.relations() {
        if !relation.primary_key.is_empty() {
            add(key_index_oid(relation), relation, &relation.primary_key, true, true);
        }
        if relation.kind == RelationKind::Index
            && let Some((owner, columns)) = indexed(&system.catalog, relation)
        {
            add(relation.oid, owner, &columns, relation.unique, false);
        }
    }
}

pub fn pg_constraint(system: &System, table: &mut Table) {
    for relation in system.catalog.relations().filter(|relation| !relation.primary_key.is_empty()) {
        table.row([
            ("oid", (KEY_CONSTRAINT + relation.oid).into()),
            ("tableoid", 2606_u32.into()),
            ("conname", key_name(relation).into()),
            ("connamespace", schema_oid(&system.catalog, &relation.schema).into()),
            ("contype", "p".into()),
            ("convalidated", true.into()),
            ("conenforced", true.into()),
            ("conrelid", relation.oid.into()),
            ("conindid", key_index_oid(relation).into()),
            ("confupdtype", " ".into()),
            ("confdeltype", " ".into()),
            ("confmatchtype", " ".into()),
            ("conislocal", true.into()),
            ("connoinherit", true.into()),
            ("conkey", Cell::list(relation.primary_key.iter().map(|column| column + 1))),
        ]);
    }
}

/// Which view reads what, in the way of PostgreSQL: a view's rule depends on the relations.
pub fn pg_depend(system: &System, table: &mut Table) {
    const PG_CLASS: u32 = 1259;
    const PG_REWRITE: u32 = 2618;
    for relation in system.catalog.relations() {
        for id in &relation.depends_on {
            let Some(read) = system.catalog.get(*id) else { continue };
            let is_index = relation.kind == RelationKind::Index;
            table.row([
                ("classid", (if is_index { PG_CLASS } else { PG_REWRITE }).into()),
                ("objid", (if is_index { relation.oid } else { rule_oid(relation) }).into()),
                ("refclassid", PG_CLASS.into()),
                ("refobjid", read.oid.into()),
                ("deptype", (if is_index { "a" } else { "n" }).into()),
            ]);
        }
    }
}

fn rule_oid(relation: &Relation) -> u32 {
    KEY_INDEX + KEY_INDEX / 2 + relation.oid
}

pub fn pg_rewrite(system: &System, table: &mut Table) {
    let views = [RelationKind::View, RelationKind::MaterializedView];
    for relation in system.catalog.relations().filter(|relation| views.contains(&relation.kind)) {
        table.row([
            ("oid", rule_oid(relation).into()),
            ("tableoid", 2618_u32.into()),
            ("rulename", "_RETURN".into()),
            ("ev_class", relation.oid.into()),
            ("ev_type", "1".into()),
            ("ev_enabled", "O".into()),
            ("is_instead", true.into()),
        ]);
    }
}

pub fn pg_namespace(system: &System, table: &mut Table) {
    for (oid, name) in schemas(&system.catalog) {
        table.row([("oid", oid.into()), ("nspname", name.into()), ("nspowner", OWNER_OID.into())]);
    }
}
