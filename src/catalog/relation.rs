//! What the catalog knows of one relation.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::zset::{PgType, RelationId};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RelationKind {
    /// Rows given by clients or, with the option `connector`, by a connector; stored.
    Table,
    /// Rows given by a connector; read by views, not stored.
    Source,
    /// A name for a query.
    View,
    /// A query whose rows are kept and kept up to date.
    MaterializedView,
    /// Where the rows of a relation or query go to.
    Sink,
    /// The object of CREATE INDEX.
    Index,
    /// A function written in SQL: its name has its parameters' types, its columns are the parameters, its definition is
    /// the query that gives its value.
    Function,
}

impl RelationKind {
    /// As messages name it.
    pub fn noun(self) -> &'static str {
        match self {
            RelationKind::Table => "table",
            RelationKind::Source => "source",
            RelationKind::View => "view",
            RelationKind::MaterializedView => "materialized view",
            RelationKind::Sink => "sink",
            RelationKind::Index => "index",
            RelationKind::Function => "function",
        }
    }

    /// As statements name it.
    pub fn keyword(self) -> &'static str {
        match self {
            RelationKind::Table => "TABLE",
            RelationKind::Source => "SOURCE",
            RelationKind::View => "VIEW",
            RelationKind::MaterializedView => "MATERIALIZED VIEW",
            RelationKind::Sink => "SINK",
            RelationKind::Index => "INDEX",
            RelationKind::Function => "FUNCTION",
        }
    }

    /// Whether a query can read it.
    pub fn is_readable(self) -> bool {
        !matches!(self, RelationKind::Sink | RelationKind::Index | RelationKind::Function)
    }

    /// Whether workers keep its rows.
    pub fn is_kept(self) -> bool {
        matches!(self, RelationKind::Table | RelationKind::MaterializedView)
    }
}

impl fmt::Display for RelationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.noun())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub pg_type: PgType,
    pub nullable: bool,
    /// SQL text of the DEFAULT expression.
    pub default: Option<String>,
}

impl Column {
    pub fn new(name: impl Into<String>, pg_type: PgType) -> Self {
        Self { name: name.into(), pg_type, nullable: true, default: None }
    }
}

/// How late the rows of a relation may come: `WATERMARK FOR column AS column - delay`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// The column of a row's time.
    pub column: usize,
    /// Microseconds by which the watermark is behind the newest time.
    pub delay: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relation {
    pub id: RelationId,
    /// As clients see it in `pg_class`.
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub kind: RelationKind,
    pub columns: Vec<Column>,
    /// Indices of the key's columns, in the key's order; empty if no key is declared.
    pub primary_key: Vec<usize>,
    pub append_only: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<Watermark>,
    /// Indexes: the columns of the indexed relation by which its rows are arranged; empty if nothing is kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub index_key: Vec<usize>,
    /// Indexes: whether no two rows may have the same columns.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unique: bool,
    /// Views and sinks: the SELECT, all names in it qualified. Everything else: the CREATE statement.
    pub definition: String,
    /// Relations that the definition reads, each once.
    pub depends_on: Vec<RelationId>,
    /// WITH options, and those of FORMAT and ENCODE as `format`, `encode` and by their own names.
    pub options: BTreeMap<String, String>,
}

impl Relation {
    /// The columns as Arrow sees them. Every batch of the relation has exactly this schema.
    pub fn arrow_schema(&self) -> SchemaRef {
        let fields = self.columns.iter().map(|column| column.pg_type.field(&column.name, column.nullable));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The connector that fills or empties it, if any.
    pub fn connector(&self) -> Option<&str> {
        self.options.get("connector").map(String::as_str)
    }

    /// Whether it is an index that keeps the rows of this relation.
    pub fn indexes(&self, id: RelationId) -> bool {
        self.kind == RelationKind::Index && !self.index_key.is_empty() && self.depends_on.contains(&id)
    }

    /// The columns by which workers arrange it: the primary key, else all; for an index those of the indexed relation.
    pub fn arrangement_key(&self) -> Vec<usize> {
        if self.kind == RelationKind::Index {
            return self.index_key.clone();
        }
        match self.primary_key.is_empty() {
            true => (0..self.columns.len()).collect(),
            false => self.primary_key.clone(),
        }
    }
}
