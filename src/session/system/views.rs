//! The views for people and tools over the objects: `pg_tables`, `pg_matviews`, `information_schema` and the like.

use super::System;
use super::names::{index_definition, key_definition};
use super::objects::{self, key_name, relkind};
use super::rows::Table;
use crate::catalog::{Column, Relation, RelationKind};
use crate::session::activity;
use crate::zset::PgType;

const OWNER: &str = "headwater";

fn of_kind(system: &System, kind: RelationKind) -> impl Iterator<Item = &Relation> {
    system.catalog.relations().map(AsRef::as_ref).filter(move |relation: &&Relation| relation.kind == kind)
}

fn has_index(system: &System, relation: &Relation) -> bool {
    !relation.primary_key.is_empty()
        || of_kind(system, RelationKind::Index).any(|index| index.depends_on.contains(&relation.id))
}

pub fn pg_tables(system: &System, table: &mut Table) {
    for relation in of_kind(system, RelationKind::Table) {
        table.row([
            ("schemaname", relation.schema.clone().into()),
            ("tablename", relation.name.clone().into()),
            ("tableowner", OWNER.into()),
            ("hasindexes", has_index(system, relation).into()),
        ]);
    }
}

pub fn pg_views(system: &System, table: &mut Table) {
    for relation in of_kind(system, RelationKind::View) {
        table.row([
            ("schemaname", relation.schema.clone().into()),
            ("viewname", relation.name.clone().into()),
            ("viewowner", OWNER.into()),
            ("definition", format!("{};", relation.definition).into()),
        ]);
    }
}

pub fn pg_matviews(system: &System, table: &mut Table) {
    for relation in of_kind(system, RelationKind::MaterializedView) {
        table.row([
            ("schemaname", relation.schema.clone().into()),
            ("matviewname", relation.name.clone().into()),
            ("matviewowner", OWNER.into()),
            ("hasindexes", has_index(system, relation).into()),
            ("ispopulated", true.into()),
            ("definition", format!("{};", relation.definition).into()),
        ]);
    }
}

pub fn pg_indexes(system: &System, table: &mut Table) {
    let mut add = |owner: &Relation, name: String, definition: String| {
        table.row([
            ("schemaname", owner.schema.clone().into()),
            ("tablename", owner.name.clone().into()),
            ("indexname", name.into()),
            ("indexdef", definition.into()),
        ]);
    };
    for relation in system.catalog.relations() {
        if !relation.primary_key.is_empty() {
            add(relation, key_name(relation), key_definition(relation));
        }
        if relation.kind == RelationKind::Index
            && let Some((owner, columns)) = objects::indexed(&system.catalog, relation)
        {
            add(owner, relation.name.clone(), index_definition(relation, owner, &columns));
        }
    }
}

/// All sessions of the server.
pub fn pg_stat_activity(table: &mut Table) {
    for session in activity::list() {
        table.row([
            ("datid", super::fixed::DATABASE_OID.into()),
            ("datname", session.database.clone().into()),
            ("pid", session.pid.into()),
            ("usesysid", objects::OWNER_OID.into()),
            ("usename", session.user.clone().into()),
            ("application_name", session.application_name.clone().into()),
            ("client_addr", Some(session.client.clone()).filter(|client| !client.is_empty()).into()),
            ("backend_start", session.connected_at.into()),
            ("query_start", Some(session.query_at).filter(|at| *at > 0).into()),
            ("state_change", Some(session.query_at).filter(|at| *at > 0).into()),
            ("state", session.state.into()),
            ("query", session.query.clone().into()),
            ("backend_type", "client backend".into()),
        ]);
    }
}

pub fn pg_stat_tables(system: &System, table: &mut Table) {
    for relation in system.catalog.relations().filter(|relation| relation.kind.is_kept()) {
        table.row([
            ("relid", relation.oid.into()),
            ("schemaname", relation.schema.clone().into()),
            ("relname", relation.name.clone().into()),
            ("n_live_tup", system.held(relation.id).0.into()),
        ]);
    }
}

pub fn pg_statio_tables(system: &System, table: &mut Table) {
    for relation in system.catalog.relations().filter(|relation| relation.kind.is_kept()) {
        table.row([
            ("relid", relation.oid.into()),
            ("schemaname", relation.schema.clone().into()),
            ("relname", relation.name.clone().into()),
        ]);
    }
}

pub fn pg_prepared_statements(system: &System, table: &mut Table) {
    for (name, prepared) in &system.prepared {
        let text = prepared.text().to_string();
        table.row([("name", name.clone().into()), ("statement", text.into()), ("from_sql", true.into())]);
    }
}

pub fn pg_cursors(system: &System, table: &mut Table) {
    for (name, text) in &system.cursors {
        table.row([("name", name.clone().into()), ("statement", text.clone().into())]);
    }
}

pub fn fill_information_schema(system: &System, name: &str, table: &mut Table) {
    match name {
        "tables" => tables(system, table),
        "columns" => columns(system, table),
        "views" => views(system, table),
        "schemata" => schemata(system, table),
        "table_constraints" => table_constraints(system, table),
        "key_column_usage" => key_columns(system, table, true),
        "constraint_column_usage" => key_columns(system, table, false),
        "constraint_table_usage" => constraint_tables(system, table),
        "character_sets" => character_sets(system, table),
        "applicable_roles" | "enabled_roles" => roles(name, table),
        "table_privileges" | "role_table_grants" => table_privileges(system, table),
        "view_table_usage" => view_tables(system, table),
        // What the others describe does not exist here.
        _ => {}
    }
}

/// Relations that `information_schema` shows. PostgreSQL leaves materialized views out; tools that ask here would
/// then not find what Headwater is for, so they are shown as views.
fn shown(system: &System) -> impl Iterator<Item = &Relation> {
    system.catalog.relations().map(AsRef::as_ref).filter(|relation: &&Relation| relation.kind.is_readable())
}

fn table_type(kind: RelationKind) -> &'static str {
    match relkind(kind) {
        "r" => "BASE TABLE",
        "f" => "FOREIGN",
        _ => "VIEW",
    }
}

fn tables(system: &System, table: &mut Table) {
    for relation in shown(system) {
        let writable = relation.kind == RelationKind::Table;
        table.row([
            ("table_catalog", system.database.clone().into()),
            ("table_schema", relation.schema.clone().into()),
            ("table_name", relation.name.clone().into()),
            ("table_type", table_type(relation.kind).into()),
            ("is_insertable_into", yes(writable).into()),
            ("is_typed", "NO".into()),
        ]);
    }
    for relation in crate::sql::system_relations() {
        table.row([
            ("table_catalog", system.database.clone().into()),
            ("table_schema", relation.schema.into()),
            ("table_name", relation.name.into()),
            ("table_type", "VIEW".into()),
            ("is_insertable_into", "NO".into()),
            ("is_typed", "NO".into()),
        ]);
    }
}

fn yes(is: bool) -> &'static str {
    if is { "YES" } else { "NO" }
}

fn columns(system: &System, table: &mut Table) {
    for relation in shown(system) {
        for (index, column) in relation.columns.iter().enumerate() {
            let required = !column.nullable || relation.primary_key.contains(&index);
            let default = column.default.as_deref();
            column_row(system, table, (&relation.schema, &relation.name), (index, column), (required, default));
        }
    }
    for relation in crate::sql::system_relations() {
        for (index, (name, kind)) in relation.columns.iter().enumerate() {
            let column = Column::new(*name, kind.clone());
            column_row(system, table, (relation.schema, relation.name), (index, &column), (false, None));
        }
    }
}

fn column_row(
    system: &System,
    table: &mut Table,
    (schema, name): (&str, &str),
    (index, column): (usize, &Column),
    (required, default): (bool, Option<&str>),
) {
    let kind = &column.pg_type;
    let is_array = matches!(kind, PgType::Array(_));
    let length = match kind {
        PgType::Varchar(length) | PgType::Bpchar(length) => *length,
        _ => None,
    };
    let [precision, radix, scale] = numeric(kind);
    let is_time = matches!(kind, PgType::Timestamp | PgType::Timestamptz | PgType::Time | PgType::Interval);
    let type_name = super::types::of(kind).map_or("text", |info| info.name);
    // Without length and precision, which have columns of their own.
    let data_type = if is_array { "ARRAY".to_string() } else { super::types::format(kind.oid(), -1) };
    table.row([
        ("table_catalog", system.database.clone().into()),
        ("table_schema", schema.into()),
        ("table_name", name.into()),
        ("column_name", column.name.clone().into()),
        ("ordinal_position", (index + 1).into()),
        ("column_default", default.into()),
        ("is_nullable", yes(!required).into()),
        ("data_type", data_type.into()),
        ("character_maximum_length", length.into()),
        ("numeric_precision", precision.into()),
        ("numeric_precision_radix", radix.into()),
        ("numeric_scale", scale.into()),
        ("datetime_precision", is_time.then_some(6).into()),
        ("udt_catalog", system.database.clone().into()),
        ("udt_schema", "pg_catalog".into()),
        ("udt_name", type_name.into()),
        ("dtd_identifier", (index + 1).to_string().into()),
        ("character_octet_length", super::rows::Cell::Null),
        ("interval_precision", super::rows::Cell::Null),
        ("maximum_cardinality", super::rows::Cell::Null),
        ("is_self_referencing", "NO".into()),
        ("is_identity", "NO".into()),
        ("identity_cycle", "NO".into()),
        ("is_generated", "NEVER".into()),
        ("is_updatable", "YES".into()),
    ]);
}

/// `numeric_precision`, its radix, and the scale.
fn numeric(kind: &PgType) -> [Option<i32>; 3] {
    match kind {
        PgType::Int2 => [Some(16), Some(2), Some(0)],
        PgType::Int4 => [Some(32), Some(2), Some(0)],
        PgType::Int8 => [Some(64), Some(2), Some(0)],
        PgType::Float4 => [Some(24), Some(2), None],
        PgType::Float8 => [Some(53), Some(2), None],
        PgType::Numeric(Some((precision, scale))) => [Some((*precision).into()), Some(10), Some((*scale).into())],
        PgType::Numeric(None) => [None, Some(10), None],
        _ => [None; 3],
    }
}

fn views(system: &System, table: &mut Table) {
    let views = [RelationKind::View, RelationKind::MaterializedView];
    for relation in shown(system).filter(|relation| views.contains(&relation.kind)) {
        table.row([
            ("table_catalog", system.database.clone().into()),
            ("table_schema", relation.schema.clone().into()),
            ("table_name", relation.name.clone().into()),
            ("view_definition", format!("{};", relation.definition).into()),
            ("check_option", "NONE".into()),
            ("is_updatable", "NO".into()),
            ("is_insertable_into", "NO".into()),
        ]);
    }
}

fn schemata(system: &System, table: &mut Table) {
    for (_, name) in objects::schemas(&system.catalog) {
        table.row([
            ("catalog_name", system.database.clone().into()),
            ("schema_name", name.into()),
            ("schema_owner", OWNER.into()),
        ]);
    }
}

fn keyed(system: &System) -> impl Iterator<Item = &Relation> {
    shown(system).filter(|relation| !relation.primary_key.is_empty())
}

fn table_constraints(system: &System, table: &mut Table) {
    for relation in keyed(system) {
        table.row([
            ("constraint_catalog", system.database.clone().into()),
            ("constraint_schema", relation.schema.clone().into()),
            ("constraint_name", key_name(relation).into()),
            ("table_catalog", system.database.clone().into()),
            ("table_schema", relation.schema.clone().into()),
            ("table_name", relation.name.clone().into()),
            ("constraint_type", "PRIMARY KEY".into()),
            ("is_deferrable", "NO".into()),
            ("initially_deferred", "NO".into()),
            ("enforced", "YES".into()),
        ]);
    }
}

fn key_columns(system: &System, table: &mut Table, with_position: bool) {
    for relation in keyed(system) {
        for (position, column) in relation.primary_key.iter().enumerate() {
            table.row([
                ("constraint_catalog", system.database.clone().into()),
                ("constraint_schema", relation.schema.clone().into()),
                ("constraint_name", key_name(relation).into()),
                ("table_catalog", system.database.clone().into()),
                ("table_schema", relation.schema.clone().into()),
                ("table_name", relation.name.clone().into()),
                ("column_name", relation.columns[*column].name.clone().into()),
            ]);
            if with_position {
                table.amend([
                    ("ordinal_position", (position + 1).into()),
                    ("position_in_unique_constraint", super::rows::Cell::Null),
                ]);
            }
        }
    }
}

fn constraint_tables(system: &System, table: &mut Table) {
    for relation in keyed(system) {
        table.row([
            ("table_catalog", system.database.clone().into()),
            ("table_schema", relation.schema.clone().into()),
            ("table_name", relation.name.clone().into()),
            ("constraint_catalog", system.database.clone().into()),
            ("constraint_schema", relation.schema.clone().into()),
            ("constraint_name", key_name(relation).into()),
        ]);
    }
}

fn character_sets(system: &System, table: &mut Table) {
    table.row([
        ("character_set_name", "UTF8".into()),
        ("character_repertoire", "UCS".into()),
        ("form_of_use", "UTF8".into()),
        ("default_collate_catalog", system.database.clone().into()),
        ("default_collate_schema", "pg_catalog".into()),
        ("default_collate_name", "C".into()),
    ]);
}

fn roles(name: &str, table: &mut Table) {
    match name {
        "enabled_roles" => table.row([("role_name", OWNER.into())]),
        _ => table.row([("grantee", OWNER.into()), ("role_name", OWNER.into()), ("is_grantable", "YES".into())]),
    }
}

fn table_privileges(system: &System, table: &mut Table) {
    for relation in shown(system) {
        let privileges: &[&str] = match relation.kind {
            RelationKind::Table => &["INSERT", "SELECT", "UPDATE", "DELETE", "TRUNCATE"],
            _ => &["SELECT"],
        };
        for privilege in privileges {
            table.row([
                ("grantor", OWNER.into()),
                ("grantee", OWNER.into()),
                ("table_catalog", system.database.clone().into()),
                ("table_schema", relation.schema.clone().into()),
                ("table_name", relation.name.clone().into()),
                ("privilege_type", (*privilege).into()),
                ("is_grantable", "YES".into()),
                ("with_hierarchy", "NO".into()),
            ]);
        }
    }
}

fn view_tables(system: &System, table: &mut Table) {
    let views = [RelationKind::View, RelationKind::MaterializedView];
    for relation in shown(system).filter(|relation| views.contains(&relation.kind)) {
        for read in relation.depends_on.iter().filter_map(|id| system.catalog.get(*id)) {
            table.row([
                ("view_catalog", system.database.clone().into()),
                ("view_schema", relation.schema.clone().into()),
                ("view_name", relation.name.clone().into()),
                ("table_catalog", system.database.clone().into()),
                ("table_schema", read.schema.clone().into()),
                ("table_name", read.name.clone().into()),
            ]);
        }
    }
}
