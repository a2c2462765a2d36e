//! The system catalogs: tables made up from the catalog and the session when a query reads them.

mod calls;
mod fixed;
mod headwater;
mod names;
mod objects;
mod rows;
mod types;
mod views;

use std::sync::{Arc, Mutex};

pub use self::types::type_of_oid;

use arrow::array::RecordBatch;

use self::rows::Table;
use super::prepared::Prepared;
use super::settings::Settings;
use crate::catalog::Catalog;
use crate::engine::{Counters, Job, Published};
use crate::sql::system_relation;
use crate::zset::RelationId;

/// What the system catalogs and functions of one statement know.
pub struct System {
    pub catalog: Arc<Catalog>,
    pub published: Arc<Published>,
    pub settings: Arc<Mutex<Settings>>,
    pub search_path: Vec<String>,
    pub user: String,
    pub database: String,
    pub pid: i32,
    /// The session's prepared statements by name, and its cursors: name and text.
    pub prepared: Vec<(String, Arc<Prepared>)>,
    pub cursors: Vec<(String, String)>,
    /// What runs beside the steps.
    pub jobs: Vec<Job>,
    pub counters: Arc<Counters>,
}

impl System {
    /// The rows of a system relation; `None` if there is none of that name.
    pub fn table(&self, schema: &str, name: &str) -> Option<RecordBatch> {
        let relation = system_relation(schema, name)?;
        let mut table = Table::new(relation);
        match schema {
            "pg_catalog" => self.fill_pg_catalog(name, &mut table),
            "information_schema" => views::fill_information_schema(self, name, &mut table),
            _ => headwater::fill(self, name, &mut table),
        }
        Some(table.finish())
    }

    /// Rows and bytes that a relation holds.
    fn held(&self, id: RelationId) -> (usize, usize) {
        self.published.held(id)
    }

    /// Relations that are not listed stay empty: what they describe does not exist here.
    fn fill_pg_catalog(&self, name: &str, table: &mut Table) {
        match name {
            "pg_class" => objects::pg_class(self, table),
            "pg_attribute" => objects::pg_attribute(self, table),
            "pg_attrdef" => objects::pg_attrdef(self, table),
            "pg_index" => objects::pg_index(self, table),
            "pg_constraint" => objects::pg_constraint(self, table),
            "pg_depend" => objects::pg_depend(self, table),
            "pg_rewrite" => objects::pg_rewrite(self, table),
            "pg_namespace" => objects::pg_namespace(self, table),
            "pg_type" => types::pg_type(table),
            "pg_tables" => views::pg_tables(self, table),
            "pg_views" => views::pg_views(self, table),
            "pg_matviews" => views::pg_matviews(self, table),
            "pg_indexes" => views::pg_indexes(self, table),
            "pg_stat_activity" => views::pg_stat_activity(table),
            "pg_stat_user_tables" | "pg_stat_all_tables" => views::pg_stat_tables(self, table),
            "pg_statio_all_tables" => views::pg_statio_tables(self, table),
            "pg_prepared_statements" => views::pg_prepared_statements(self, table),
            "pg_cursors" => views::pg_cursors(self, table),
            _ => fixed::fill(self, name, table),
        }
    }
}
