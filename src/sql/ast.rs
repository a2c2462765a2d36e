//! Syntax trees of the statements that sqlparser does not know, or knows differently.

use std::fmt;
use std::time::Duration;

use sqlparser::ast::{ColumnDef, Expr, Ident, ObjectName, Query, Statement as SqlStatement, TableConstraint};

use super::emit::Written;
use super::statement::{Begin, CopyFormat, CopyHeader, Discard, ExplainFormat, FetchCount, Set};
use crate::catalog::RelationKind;

/// One parsed statement.
#[derive(Debug, Clone)]
pub enum Ast {
    /// As sqlparser gives it: queries, INSERT, UPDATE, DELETE, TRUNCATE, CREATE INDEX, and what is refused.
    Sql(Box<SqlStatement>),
    CreateSchema {
        name: ObjectName,
        if_not_exists: bool,
    },
    CreateRelation(Box<CreateRelation>),
    CreateView(Box<CreateView>),
    CreateSink(Box<CreateSink>),
    Drop(DropObjects),
    AlterRelation {
        kind: RelationKind,
        name: ObjectName,
        if_exists: bool,
        change: Alteration,
    },
    AlterSchema {
        name: Ident,
        new_name: Ident,
    },
    Copy(Box<Copy>),
    Subscribe(Box<SubscribeAst>),
    Explain(Box<ExplainAst>),
    Declare(Box<Declare>),
    Fetch(super::statement::Fetch),
    Close(Option<String>),
    Prepare {
        name: String,
        types: Vec<sqlparser::ast::DataType>,
        body: Box<Ast>,
    },
    Execute {
        name: String,
        arguments: Vec<Expr>,
    },
    Deallocate(Option<String>),
    Begin(Begin),
    Commit {
        chain: bool,
    },
    Rollback {
        chain: bool,
    },
    Savepoint(String),
    Release(String),
    RollbackTo(String),
    SetTransaction(Begin),
    Set(Set),
    Show(Box<ShowAst>),
    Reset(Option<String>),
    Discard(Discard),
    Listen(String),
    Unlisten(Option<String>),
    Notify(String, String),
    Refresh {
        name: ObjectName,
    },
    Verify {
        name: ObjectName,
    },
    Flush,
    Checkpoint,
    /// A statement that tools send and that has nothing to do here; with its command tag.
    Accepted(&'static str),
}

/// `CREATE TABLE` and `CREATE SOURCE`.
#[derive(Debug, Clone)]
pub struct CreateRelation {
    pub kind: RelationKind,
    pub or_replace: bool,
    pub if_not_exists: bool,
    pub name: ObjectName,
    pub columns: Columns,
    pub constraints: Vec<TableConstraint>,
    pub watermarks: Vec<(Ident, Expr)>,
    pub includes: Vec<Include>,
    pub append_only: bool,
    pub options: Vec<(String, String)>,
    pub format: Option<Format>,
    /// CREATE TABLE … AS.
    pub query: Option<Box<Query>>,
    pub with_data: bool,
}

#[derive(Debug, Clone)]
pub enum Columns {
    /// No list at all.
    None,
    /// `(*)`: the connector finds them.
    Star,
    /// `(a, b)` of CREATE TABLE … AS.
    Names(Vec<Ident>),
    Definitions(Vec<ColumnDef>),
}

/// `INCLUDE partition AS p`.
#[derive(Debug, Clone)]
pub struct Include {
    pub what: Ident,
    pub alias: Option<Ident>,
}

/// `FORMAT PLAIN ENCODE JSON (option = 'value')`.
#[derive(Debug, Clone)]
pub struct Format {
    pub format: String,
    pub encode: String,
    pub options: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
pub struct CreateView {
    pub materialized: bool,
    pub or_replace: bool,
    pub if_not_exists: bool,
    pub name: ObjectName,
    pub columns: Vec<Ident>,
    pub options: Vec<(String, String)>,
    pub query: Box<Query>,
}

#[derive(Debug, Clone)]
pub struct CreateSink {
    pub if_not_exists: bool,
    pub name: ObjectName,
    pub from: SinkInput,
    pub options: Vec<(String, String)>,
    pub format: Option<Format>,
}

#[derive(Debug, Clone)]
pub enum SinkInput {
    Relation(ObjectName),
    Query(Box<Query>),
}

#[derive(Debug, Clone)]
pub struct DropObjects {
    pub what: DropWhat,
    pub if_exists: bool,
    pub names: Vec<ObjectName>,
    pub cascade: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropWhat {
    Schema,
    Relation(RelationKind),
}

#[derive(Debug, Clone)]
pub enum Alteration {
    Rename(Ident),
    RenameColumn(Ident, Ident),
    SetSchema(Ident),
}

#[derive(Debug, Clone)]
pub struct Copy {
    pub what: CopyWhat,
    /// FROM, else TO.
    pub from: bool,
    /// `None` for STDIN and STDOUT.
    pub path: Option<String>,
    pub options: CopyOptionsAst,
}

#[derive(Debug, Clone)]
pub enum CopyWhat {
    Table(ObjectName, Vec<Ident>),
    Query(Box<Query>),
    Subscribe(Box<SubscribeAst>),
}

/// COPY's options as given.
#[derive(Debug, Clone, Default)]
pub struct CopyOptionsAst {
    pub format: Option<CopyFormat>,
    pub delimiter: Option<char>,
    pub null: Option<String>,
    pub header: Option<CopyHeader>,
    pub quote: Option<char>,
    pub escape: Option<char>,
    pub force_quote: Option<Names>,
    pub force_not_null: Option<Names>,
    pub force_null: Option<Names>,
}

/// A list of columns, or `*`.
#[derive(Debug, Clone)]
pub enum Names {
    All,
    Some(Vec<Ident>),
}

#[derive(Debug, Clone)]
pub struct SubscribeAst {
    pub what: SubscribeWhat,
    pub options: Vec<(String, String)>,
    pub as_of: Option<u64>,
    pub up_to: Option<u64>,
}

#[derive(Debug, Clone)]
pub enum SubscribeWhat {
    Relation(ObjectName),
    Query(Box<Query>),
}

#[derive(Debug, Clone)]
pub struct ExplainAst {
    pub what: ExplainWhat,
    pub verbose: bool,
    pub analyze: bool,
    pub format: ExplainFormat,
}

#[derive(Debug, Clone)]
pub enum ExplainWhat {
    Statement(Box<Ast>),
    /// EXPLAIN [ANALYZE] MATERIALIZED VIEW v.
    View(ObjectName),
}

#[derive(Debug, Clone)]
pub struct Declare {
    pub name: String,
    pub binary: bool,
    pub hold: bool,
    pub what: DeclareWhat,
}

#[derive(Debug, Clone)]
pub enum DeclareWhat {
    Query(Box<Query>),
    Subscribe(Box<SubscribeAst>),
}

#[derive(Debug, Clone)]
pub enum ShowAst {
    All,
    /// A setting, in lower case.
    Setting(String),
    Schemas,
    Databases,
    /// Relations of a kind, maybe of one schema, maybe with names like a pattern.
    Relations {
        kind: RelationKind,
        schema: Option<Ident>,
        like: Option<String>,
    },
    /// DESCRIBE and SHOW COLUMNS.
    Columns(ObjectName),
    Create(RelationKind, ObjectName),
    /// Relations of `hw_catalog` that the engine fills: `SHOW JOBS` reads `hw_jobs`.
    System(&'static str),
}

struct Options<'a>(&'a [(String, String)]);

impl fmt::Display for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (key, value)) in self.0.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            write!(f, "{comma}{key} = '{}'", value.replace('\'', "''"))?;
        }
        Ok(())
    }
}

fn write_with(f: &mut fmt::Formatter<'_>, options: &[(String, String)]) -> fmt::Result {
    match options.is_empty() {
        true => Ok(()),
        false => write!(f, " WITH ({})", Options(options)),
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " FORMAT {} ENCODE {}", self.format.to_uppercase(), self.encode.to_uppercase())?;
        match self.options.is_empty() {
            true => Ok(()),
            false => write!(f, " ({})", Options(&self.options)),
        }
    }
}

fn write_list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: impl IntoIterator<Item = T>) -> fmt::Result {
    f.write_str("(")?;
    for (i, item) in items.into_iter().enumerate() {
        write!(f, "{}{item}", if i > 0 { ", " } else { "" })?;
    }
    f.write_str(")")
}

/// The statement again, in the form that SHOW CREATE gives and that parses to the same tree.
impl fmt::Display for CreateRelation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_replace = if self.or_replace { "OR REPLACE " } else { "" };
        let if_not_exists = if self.if_not_exists { "IF NOT EXISTS " } else { "" };
        write!(f, "CREATE {or_replace}{} {if_not_exists}{}", self.kind.keyword(), self.name)?;
        let items = match &self.columns {
            Columns::None => Vec::new(),
            Columns::Star => vec!["*".to_string()],
            Columns::Names(names) => names.iter().map(Ident::to_string).collect(),
            Columns::Definitions(columns) => {
                let watermark = |(name, value): &(Ident, Expr)| format!("WATERMARK FOR {name} AS {value}");
                let columns = columns.iter().map(ColumnDef::to_string);
                let constraints = self.constraints.iter().map(TableConstraint::to_string);
                columns.chain(constraints).chain(self.watermarks.iter().map(watermark)).collect()
            }
        };
        if !items.is_empty() || matches!(self.columns, Columns::Definitions(_)) {
            f.write_str(" ")?;
            write_list(f, items)?;
        }
        if self.append_only {
            f.write_str(" APPEND ONLY")?;
        }
        for include in &self.includes {
            write!(f, " INCLUDE {}", include.what)?;
            if let Some(alias) = &include.alias {
                write!(f, " AS {alias}")?;
            }
        }
        write_with(f, &self.options)?;
        if let Some(format) = &self.format {
            write!(f, "{format}")?;
        }
        if let Some(query) = &self.query {
            write!(f, " AS {query}{}", if self.with_data { "" } else { " WITH NO DATA" })?;
        }
        Ok(())
    }
}

impl fmt::Display for CreateView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_replace = if self.or_replace { "OR REPLACE " } else { "" };
        let materialized = if self.materialized { "MATERIALIZED " } else { "" };
        let if_not_exists = if self.if_not_exists { "IF NOT EXISTS " } else { "" };
        write!(f, "CREATE {or_replace}{materialized}VIEW {if_not_exists}{}", self.name)?;
        if !self.columns.is_empty() {
            f.write_str(" ")?;
            write_list(f, &self.columns)?;
        }
        write_with(f, &self.options)?;
        write!(f, " AS {}", Written(&self.query))
    }
}

impl fmt::Display for CreateSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CREATE SINK {}{}", if self.if_not_exists { "IF NOT EXISTS " } else { "" }, self.name)?;
        match &self.from {
            SinkInput::Relation(name) => write!(f, " FROM {name}")?,
            SinkInput::Query(query) => write!(f, " AS {}", Written(query))?,
        }
        write_with(f, &self.options)?;
        match &self.format {
            Some(format) => write!(f, "{format}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for SubscribeAst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            SubscribeWhat::Relation(name) => write!(f, "SUBSCRIBE TO {name}")?,
            SubscribeWhat::Query(query) => write!(f, "SUBSCRIBE TO ({query})")?,
        }
        write_with(f, &self.options)?;
        if let Some(step) = self.as_of {
            write!(f, " AS OF {step}")?;
        }
        match self.up_to {
            Some(step) => write!(f, " UP TO {step}"),
            None => Ok(()),
        }
    }
}

/// `100ms`, `1s`, `5 minutes`, `1 day`, or a number of seconds.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim() {
        "us" | "microsecond" | "microseconds" => 1e-6,
        "ms" | "millisecond" | "milliseconds" => 1e-3,
        "" | "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * unit).ok()
}

impl fmt::Display for super::statement::Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.discard { "MOVE" } else { "FETCH" };
        match self.count {
            FetchCount::Rows(rows) => write!(f, "{verb} {rows} FROM {}", crate::catalog::quote_name(&self.cursor))?,
            FetchCount::All => write!(f, "{verb} ALL FROM {}", crate::catalog::quote_name(&self.cursor))?,
        }
        match self.timeout {
            Some(timeout) => write!(f, " WITH (timeout = '{}ms')", timeout.as_millis()),
            None => Ok(()),
        }
    }
}
