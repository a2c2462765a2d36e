//! The columns of the system relations that psql and drivers ask for; `session` fills them with rows.
//!
//! `system_relations.txt` has one relation a line, with the columns of PostgreSQL 15 followed by those that later
//! versions renamed or added, because clients choose their statements by version. What PostgreSQL types `"char"`,
//! `regproc` or `pg_node_tree` is text here, its vectors are arrays.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{Schema, SchemaRef};

use crate::zset::PgType;

/// One relation of `pg_catalog`, `information_schema` or `hw_catalog` that is made up when it is read.
#[derive(Debug, Clone)]
pub struct SystemRelation {
    pub schema: &'static str,
    pub name: &'static str,
    pub columns: Vec<(&'static str, PgType)>,
    pub arrow: SchemaRef,
    /// Its OID; the one that PostgreSQL gives it where clients know it by heart.
    pub oid: u32,
}

static RELATIONS: LazyLock<Vec<SystemRelation>> = LazyLock::new(|| {
    let lines = include_str!("system_relations.txt").lines().enumerate();
    lines.map(|(index, line)| parse_line(index, line)).collect()
});

/// By `schema.name`.
static BY_NAME: LazyLock<HashMap<String, &'static SystemRelation>> = LazyLock::new(|| {
    RELATIONS.iter().map(|relation| (format!("{}.{}", relation.schema, relation.name), relation)).collect()
});

/// The schemas whose relations are made up.
pub const SYSTEM_SCHEMAS: [&str; 3] = ["pg_catalog", "information_schema", "hw_catalog"];

/// The system relation of this name, if there is one.
pub fn system_relation(schema: &str, name: &str) -> Option<&'static SystemRelation> {
    BY_NAME.get(&format!("{schema}.{name}")).copied()
}

/// All system relations.
pub fn system_relations() -> impl Iterator<Item = &'static SystemRelation> {
    RELATIONS.iter()
}

fn parse_line(index: usize, line: &'static str) -> SystemRelation {
    let (name, columns) = line.split_once(": ").expect("a line is `schema.name: columns`");
    let (schema, name) = name.split_once('.').expect("a relation's name has its schema");
    let columns: Vec<(&'static str, PgType)> = (columns.split(", "))
        .map(|column| {
            let (column, kind) = column.split_once(' ').expect("a column is `name type`");
            (column, PgType::parse(kind).expect("system columns have known types"))
        })
        .collect();
    let fields: Vec<_> = columns.iter().map(|(name, kind)| kind.field(name, true)).collect();
    let oid = well_known_oid(schema, name).unwrap_or(12_000 + index as u32);
    SystemRelation { schema, name, columns, arrow: Arc::new(Schema::new(fields)), oid }
}

/// The OIDs of the catalogs that drivers have compiled in, or that `'pg_class'::regclass` is compared with.
fn well_known_oid(schema: &str, name: &str) -> Option<u32> {
    const OIDS: [(&str, u32); 23] = [
        ("pg_tablespace", 1213),
        ("pg_type", 1247),
        ("pg_attribute", 1249),
        ("pg_proc", 1255),
        ("pg_class", 1259),
        ("pg_authid", 1260),
        ("pg_database", 1262),
        ("pg_am", 2601),
        ("pg_attrdef", 2604),
        ("pg_cast", 2605),
        ("pg_constraint", 2606),
        ("pg_description", 2609),
        ("pg_index", 2610),
        ("pg_language", 2612),
        ("pg_namespace", 2615),
        ("pg_opclass", 2616),
        ("pg_operator", 2617),
        ("pg_rewrite", 2618),
        ("pg_trigger", 2620),
        ("pg_opfamily", 2753),
        ("pg_extension", 3079),
        ("pg_collation", 3456),
        ("pg_enum", 3501),
    ];
    OIDS.iter().find(|known| schema == "pg_catalog" && known.0 == name).map(|known| known.1)
}

/// Whether a catalog describes something that does not exist here, so that it never has a row.
pub fn is_always_empty(name: &str) -> bool {
    const EMPTY: [&str; 30] = [
        "pg_aggregate",
        "pg_auth_members",
        "pg_conversion",
        "pg_db_role_setting",
        "pg_description",
        "pg_enum",
        "pg_event_trigger",
        "pg_extension",
        "pg_foreign_data_wrapper",
        "pg_foreign_server",
        "pg_foreign_table",
        "pg_inherits",
        "pg_locks",
        "pg_partitioned_table",
        "pg_policies",
        "pg_policy",
        "pg_publication",
        "pg_publication_namespace",
        "pg_publication_rel",
        "pg_publication_tables",
        "pg_range",
        "pg_replication_slots",
        "pg_rules",
        "pg_sequence",
        "pg_sequences",
        "pg_shdescription",
        "pg_statistic_ext",
        "pg_stats",
        "pg_subscription",
        "pg_trigger",
    ];
    EMPTY.binary_search(&name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_relation_of_its_own() {
        assert_eq!(system_relations().count(), BY_NAME.len());
    }

    #[test]
    fn catalogs_have_the_columns_of_old_and_new_versions() {
        let database = system_relation("pg_catalog", "pg_database").expect("there is one");
        for column in ["daticulocale", "datlocale"] {
            assert!(database.arrow.column_with_name(column).is_some(), "{column}");
        }
    }
}
