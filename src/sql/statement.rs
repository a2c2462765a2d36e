//! What a text means once it is bound: a closed list of statements with ids and plans, no names left to resolve.

use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use datafusion::logical_expr::LogicalPlan;

use super::parse::Parsed;
use crate::catalog::{CatalogEdit, Relation};
use crate::error::SqlError;
use crate::zset::{PgType, RelationId};

/// A bound statement. Whoever executes it matches every variant.
#[derive(Debug, Clone)]
pub enum Statement {
    /// SELECT, VALUES, TABLE, WITH, and all SHOWs and DESCRIBEs that the catalog can answer.
    Query(Query),
    Insert(Insert),
    Update(Update),
    Delete(Delete),
    Truncate(Truncate),
    CopyFrom(CopyFrom),
    CopyTo(CopyTo),
    /// Every change of the catalog.
    Define(Define),
    /// CREATE TABLE … AS, SELECT … INTO: define, then insert.
    CreateTableAs(CreateTableAs),
    Subscribe(Subscribe),
    Explain(Explain),
    DeclareCursor(DeclareCursor),
    Fetch(Fetch),
    /// CLOSE name, or CLOSE ALL as `None`.
    CloseCursor(Option<String>),
    Prepare(Prepare),
    Execute(Execute),
    /// DEALLOCATE name, or DEALLOCATE ALL as `None`.
    Deallocate(Option<String>),
    Begin(Begin),
    Commit(TransactionEnd),
    Rollback(TransactionEnd),
    Savepoint(String),
    ReleaseSavepoint(String),
    RollbackToSavepoint(String),
    /// SET TRANSACTION and SET SESSION CHARACTERISTICS.
    SetTransaction(Begin),
    Set(Set),
    /// SHOW of a setting.
    Show(String),
    ShowAll,
    /// RESET name, or RESET ALL as `None`.
    Reset(Option<String>),
    Discard(Discard),
    Listen(String),
    /// UNLISTEN name, or UNLISTEN * as `None`.
    Unlisten(Option<String>),
    /// NOTIFY channel, payload.
    Notify(String, String),
    /// FLUSH: every acknowledged write is visible already, so it does nothing.
    Flush,
    /// Writes a checkpoint now.
    Checkpoint,
    /// Compares a materialized view with its query.
    Verify(Arc<Relation>),
    /// Accepted because tools send it, and with nothing to do.
    Accepted(Accepted),
}

/// A column of a result, named as PostgreSQL names it. Names may repeat; the plan's own are `c0`, `c1`, ….
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputColumn {
    pub name: String,
    pub pg_type: PgType,
}

/// A bound query. The plan's columns have exactly the Arrow types of `columns`.
#[derive(Debug, Clone)]
pub struct Query {
    pub plan: LogicalPlan,
    pub columns: Vec<OutputColumn>,
    /// Relations that it reads, each once; views inlined, so these are tables, sources and materialized views.
    pub reads: Vec<RelationId>,
    /// The command tag's first word: `SELECT`, `SHOW`.
    pub tag: &'static str,
}

/// `INSERT`. The rows have the table's columns in the table's order, and the table's types.
#[derive(Debug, Clone)]
pub struct Insert {
    pub table: Arc<Relation>,
    pub rows: InsertRows,
    pub conflict: Option<Conflict>,
    pub returning: Option<Returning>,
}

#[derive(Debug, Clone)]
pub enum InsertRows {
    /// Literal VALUES.
    Batch(RecordBatch),
    Plan(LogicalPlan),
}

/// `ON CONFLICT (target) DO …`. The target is always the primary key.
#[derive(Debug, Clone)]
pub enum Conflict {
    Nothing,
    /// A plan over [`CONFLICTS`], where the executor puts one row per conflict: the old row's columns `o0, o1, …`, then
    /// those of the row proposed `n0, n1, …`. Gives old columns, then new columns; rows that the WHERE leaves out are
    /// not changed.
    Update(LogicalPlan),
}

/// `RETURNING` of an INSERT: a plan over [`CHANGED`], where the executor puts the rows inserted or updated, with the
/// table's columns under the names `n0, n1, …`.
#[derive(Debug, Clone)]
pub struct Returning {
    pub plan: LogicalPlan,
    pub columns: Vec<OutputColumn>,
}

/// The schema (of database `headwater`) in which an executor gives a plan its own rows: `CONFLICTS` and `CHANGED`.
pub const ROWS_SCHEMA: &str = "hw_rows";
/// Relation of [`ROWS_SCHEMA`]: pairs of old and proposed rows.
pub const CONFLICTS: &str = "conflicts";
/// Relation of [`ROWS_SCHEMA`]: the rows inserted or updated.
pub const CHANGED: &str = "changed";

/// `UPDATE`. The plan gives the table's old columns, then its new columns, then the RETURNING columns; each row to be
/// updated once.
#[derive(Debug, Clone)]
pub struct Update {
    pub table: Arc<Relation>,
    pub plan: LogicalPlan,
    pub returning: Option<Vec<OutputColumn>>,
}

/// `DELETE`. The plan gives the table's columns, then the RETURNING columns; each row to be deleted once.
#[derive(Debug, Clone)]
pub struct Delete {
    pub table: Arc<Relation>,
    pub plan: LogicalPlan,
    pub returning: Option<Vec<OutputColumn>>,
}

#[derive(Debug, Clone)]
pub struct Truncate {
    pub tables: Vec<Arc<Relation>>,
}

/// `COPY table [(columns)] FROM`.
#[derive(Debug, Clone)]
pub struct CopyFrom {
    pub table: Arc<Relation>,
    /// Indices of the columns that the data has, in the data's order.
    pub columns: Vec<usize>,
    /// One row with the values of the other columns (their DEFAULT, else NULL), under their own names; `None` if the
    /// data has all columns.
    pub defaults: Option<LogicalPlan>,
    pub from: CopyPlace,
    pub options: CopyOptions,
}

/// `COPY … TO`.
#[derive(Debug, Clone)]
pub struct CopyTo {
    pub what: CopySource,
    pub to: CopyPlace,
    pub options: CopyOptions,
}

#[derive(Debug, Clone)]
pub enum CopySource {
    Query(Query),
    Subscribe(Box<Subscribe>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyPlace {
    Client,
    /// A path on the server, to be confined to the allowed paths.
    File(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFormat {
    Text,
    Csv,
    Binary,
    /// Only to files: one JSON object a line.
    Json,
    /// Only to files.
    Parquet,
}

/// COPY's options, with PostgreSQL's defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOptions {
    pub format: CopyFormat,
    pub delimiter: char,
    /// The text that stands for NULL.
    pub null: String,
    pub header: CopyHeader,
    pub quote: char,
    pub escape: char,
    /// Columns always quoted on the way out; `*` as all of them.
    pub force_quote: Vec<usize>,
    /// Columns in which the unquoted NULL text is an empty string.
    pub force_not_null: Vec<usize>,
    /// Columns in which the quoted NULL text is NULL too.
    pub force_null: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyHeader {
    No,
    Yes,
    /// The header's names must be the columns' names.
    Match,
}

/// A change of the catalog: all edits in one step, or none.
#[derive(Debug, Clone)]
pub struct Define {
    /// The command tag: `CREATE TABLE`.
    pub tag: &'static str,
    /// Empty if there is nothing to do (`IF EXISTS`, `IF NOT EXISTS`).
    pub edits: Vec<CatalogEdit>,
    pub notices: Vec<Notice>,
}

#[derive(Debug, Clone)]
pub struct CreateTableAs {
    pub define: Define,
    /// The table created by `define`; `None` if it was there already.
    pub table: Option<Relation>,
    /// Gives the table's rows; `None` for WITH NO DATA.
    pub rows: Option<Query>,
}

/// Something to tell the client beside the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub severity: Severity,
    /// SQLSTATE and texts; class 00 for a NOTICE, 01 for a WARNING.
    pub code: &'static str,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Notice,
    Warning,
}

impl Notice {
    pub fn notice(message: impl Into<String>) -> Self {
        Self { severity: Severity::Notice, code: "00000", message: message.into(), detail: None, hint: None }
    }

    pub fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, code: "01000", message: message.into(), detail: None, hint: None }
    }
}

/// `SUBSCRIBE`. Its result columns are `hw_step bigint`, `hw_weight bigint` (with PROGRESS between them
/// `hw_progressed boolean`), then the relation's own.
#[derive(Debug, Clone)]
pub struct Subscribe {
    pub target: SubscribeTarget,
    /// Of the relation or query, without those that SUBSCRIBE adds.
    pub columns: Vec<OutputColumn>,
    /// Whether what is there already comes first.
    pub snapshot: bool,
    /// Whether rows say "complete up to here".
    pub progress: bool,
    /// Continue after this step.
    pub as_of: Option<u64>,
    /// End before this step.
    pub up_to: Option<u64>,
}

#[derive(Debug, Clone)]
pub enum SubscribeTarget {
    /// A table, source or materialized view.
    Relation(RelationId),
    /// Anything else: a dataflow is built for as long as the subscription lasts.
    Query(Query),
}

#[derive(Debug, Clone)]
pub struct Explain {
    pub what: ExplainTarget,
    pub verbose: bool,
    pub analyze: bool,
    pub format: ExplainFormat,
}

#[derive(Debug, Clone)]
pub enum ExplainTarget {
    Query(Query),
    /// INSERT, UPDATE, DELETE: the plan that finds the rows.
    Change(Box<Statement>),
    /// CREATE MATERIALIZED VIEW and the like: the dataflow of this query.
    Dataflow(Query),
    /// A materialized view that exists.
    Relation(RelationId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExplainFormat {
    Text,
    Json,
    Dot,
}

#[derive(Debug, Clone)]
pub struct DeclareCursor {
    pub name: String,
    pub what: CursorSource,
    /// WITH HOLD: outlives the transaction.
    pub hold: bool,
    pub binary: bool,
}

#[derive(Debug, Clone)]
pub enum CursorSource {
    Query(Query),
    Subscribe(Box<Subscribe>),
}

/// `FETCH` and `MOVE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    pub cursor: String,
    pub count: FetchCount,
    /// How long to wait for rows of a SUBSCRIBE; `None` means until there are some.
    pub timeout: Option<Duration>,
    /// MOVE: the rows are skipped.
    pub discard: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchCount {
    /// That many rows, forward.
    Rows(u64),
    All,
}

#[derive(Debug, Clone)]
pub struct Prepare {
    pub name: String,
    /// Declared parameter types; the rest is inferred.
    pub types: Vec<Option<PgType>>,
    pub body: Parsed,
}

#[derive(Debug, Clone)]
pub struct Execute {
    pub name: String,
    /// A query of one row with the arguments; `None` if there are none.
    pub arguments: Option<Query>,
}

/// BEGIN's modes; `None` where nothing was said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Begin {
    pub read_only: Option<bool>,
    pub isolation: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionEnd {
    /// AND CHAIN: begin a new one at once.
    pub chain: bool,
}

/// `SET name = value`; names in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    pub name: String,
    /// `None` for DEFAULT. Several values (`search_path = a, b`) as they are.
    pub value: Option<Vec<String>>,
    /// SET LOCAL: until the end of the transaction.
    pub local: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    All,
    Plans,
    Sequences,
    Temporary,
}

#[derive(Debug, Clone)]
pub struct Accepted {
    pub tag: &'static str,
    pub notices: Vec<Notice>,
}

impl From<SqlError> for Notice {
    /// For refusals that are only worth a notice.
    fn from(error: SqlError) -> Self {
        Notice { detail: error.detail, hint: error.hint, ..Notice::notice(error.message) }
    }
}
