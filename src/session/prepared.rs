//! Prepared statements and portals, of the protocol and of SQL's PREPARE and EXECUTE.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as StdMutex};

use arrow::array::{ArrayRef, RecordBatch};
use datafusion::scalar::ScalarValue;
use futures::StreamExt;
use futures::stream;
use tokio::sync::Mutex;

use super::cancel::Guard;
use super::describe;
use super::execute::reads_rows;
use super::response::{Response, RowStream};
use super::session::Session;
use super::transaction::Status;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::sql::{self, Execute, OutputColumn, Parsed, Prepare, Statement};
use crate::zset::PgType;

/// What a statement takes and gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    pub parameters: Vec<PgType>,
    /// `None` if it gives no rows.
    pub columns: Option<Vec<OutputColumn>>,
}

/// A parsed statement with its parameters, and its binding as long as that is fresh.
pub struct Prepared {
    /// `None` for an empty text.
    parsed: Option<Arc<Parsed>>,
    types: Vec<Option<PgType>>,
    description: Description,
    bound: StdMutex<Option<Bound>>,
}

/// A binding, and what must still be so for it to be valid.
struct Bound {
    version: u64,
    search_path: Vec<String>,
    statement: Arc<Statement>,
}

impl Prepared {
    /// A statement that is run once.
    pub(super) fn once(parsed: Arc<Parsed>) -> Self {
        let description = Description { parameters: Vec::new(), columns: None };
        Self { parsed: Some(parsed), types: Vec::new(), description, bound: StdMutex::default() }
    }

    pub fn text(&self) -> &str {
        self.parsed.as_ref().map_or("", |parsed| &parsed.text)
    }

    pub fn description(&self) -> &Description {
        &self.description
    }
}

/// A prepared statement with values for its parameters, and its rows once it runs.
pub struct Portal {
    prepared: Arc<Prepared>,
    parameters: Vec<ScalarValue>,
    rows: Option<Arc<Mutex<Rest>>>,
    columns: Option<Arc<[OutputColumn]>>,
    done: Option<String>,
}

/// The rows of a portal that were not fetched yet.
pub(super) struct Rest {
    pub rows: RowStream,
    pub leftover: Option<RecordBatch>,
}

impl Rest {
    pub fn new(rows: RowStream) -> Self {
        Self { rows, leftover: None }
    }

    /// The next rows, at most so many; `None` at the end.
    pub async fn take(&mut self, rows_max: usize) -> Option<SqlResult<RecordBatch>> {
        let batch = match self.leftover.take() {
            Some(batch) => batch,
            None => loop {
                match self.rows.next().await? {
                    Ok(batch) if batch.num_rows() == 0 => {}
                    Ok(batch) => break batch,
                    Err(error) => return Some(Err(error)),
                }
            },
        };
        if batch.num_rows() <= rows_max {
            return Some(Ok(batch));
        }
        self.leftover = Some(batch.slice(rows_max, batch.num_rows() - rows_max));
        Some(Ok(batch.slice(0, rows_max)))
    }
}

impl Session {
    /// Parse: a statement under a name (empty: the unnamed one), with the OIDs of the parameter types that the client
    /// knows (0 or `None`: to be inferred).
    ///
    /// # Errors
    /// Several statements, a syntax error, a name that is taken, or anything that binding refuses.
    pub async fn prepare(&mut self, name: &str, text: &str, types: &[Option<u32>]) -> SqlResult<Description> {
        self.notice_failed_stream();
        self.tell_activity("active", Some(text));
        let types = types.iter().map(|oid| oid.filter(|oid| *oid != 0).and_then(super::system::type_of_oid)).collect();
        let prepared = self.make_prepared(name, text, types);
        let prepared = prepared.map_err(|error| self.fail(error))?;
        let description = prepared.description.clone();
        self.statements.insert(name.to_string(), Arc::new(prepared));
        Ok(description)
    }

    fn make_prepared(&mut self, name: &str, text: &str, types: Vec<Option<PgType>>) -> SqlResult<Prepared> {
        let mut parsed = sql::parse(text)?;
        if parsed.len() > 1 {
            let message = "cannot insert multiple commands into a prepared statement";
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
        }
        self.refuse_taken(name)?;
        match parsed.pop() {
            Some(parsed) => self.prepare_parsed(Arc::new(parsed), types),
            None => {
                let description = Description { parameters: Vec::new(), columns: None };
                Ok(Prepared { parsed: None, types, description, bound: StdMutex::default() })
            }
        }
    }

    fn refuse_taken(&self, name: &str) -> SqlResult<()> {
        match !name.is_empty() && self.statements.contains_key(name) {
            true => Err(SqlError::new(
                SqlState::DUPLICATE_PREPARED_STATEMENT,
                format!("prepared statement \"{name}\" already exists"),
            )),
            false => Ok(()),
        }
    }

    fn prepare_parsed(&mut self, parsed: Arc<Parsed>, types: Vec<Option<PgType>>) -> SqlResult<Prepared> {
        let bound = self.bind(&parsed, &types);
        if self.transaction.status == Status::Failed
            && !matches!(bound, Ok(Statement::Commit(_) | Statement::Rollback(_) | Statement::RollbackToSavepoint(_)))
        {
            self.refuse_if_failed()?;
        }
        let statement = bound?;
        let inferred = sql::parameter_types(&statement);
        let count = inferred.len().max(types.len());
        let parameter = |index: usize| {
            let declared = types.get(index).cloned().flatten();
            let inferred = inferred.get(index).cloned().flatten();
            // A numeric is read with the digits that its place asks for.
            match (declared, inferred) {
                (Some(PgType::Numeric(None)), Some(numeric @ PgType::Numeric(_))) => numeric,
                (declared, inferred) => declared.or(inferred).unwrap_or(PgType::Text),
            }
        };
        let parameters = (0..count).map(parameter).collect();
        let columns = describe::columns(self, &statement);
        let bound = self.fresh(Arc::new(statement));
        Ok(Prepared {
            parsed: Some(parsed),
            types,
            description: Description { parameters, columns },
            bound: StdMutex::new(bound),
        })
    }

    /// A binding to keep, unless it depends on what a transaction has changed.
    fn fresh(&mut self, statement: Arc<Statement>) -> Option<Bound> {
        if self.transaction.touches(reads_rows(&statement)) {
            return None;
        }
        let version = self.view().catalog.version();
        let search_path = self.settings().search_path(&self.info.user);
        Some(Bound { version, search_path, statement })
    }

    /// The bound statement: the kept binding if everything it depends on is as it was.
    pub(super) fn bind_prepared(&mut self, prepared: &Prepared) -> SqlResult<Arc<Statement>> {
        let Some(parsed) = &prepared.parsed else {
            return Err(SqlError::internal("an empty statement is never bound"));
        };
        let version = self.view().catalog.version();
        let kept = prepared.bound.lock().expect("no holder of the binding panics").take();
        if let Some(kept) = kept
            && !self.transaction.touches(reads_rows(&kept.statement))
            && kept.version == version
        {
            let search_path = self.settings().search_path(&self.info.user);
            if kept.search_path == search_path {
                let statement = kept.statement.clone();
                *prepared.bound.lock().expect("no holder of the binding panics") = Some(kept);
                return Ok(statement);
            }
        }
        let statement = Arc::new(self.bind(parsed, &prepared.types)?);
        let is_kept = !prepared.description.parameters.is_empty() || prepared.description.columns.is_some();
        if is_kept {
            let fresh = self.fresh(statement.clone());
            *prepared.bound.lock().expect("no holder of the binding panics") = fresh;
        }
        Ok(statement)
    }

    fn statement(&self, name: &str) -> SqlResult<Arc<Prepared>> {
        self.statements.get(name).cloned().ok_or_else(|| {
            let shown = if name.is_empty() {
                "unnamed prepared statement does not exist".to_string()
            } else {
                format!("prepared statement \"{name}\" does not exist")
            };
            SqlError::new(SqlState::INVALID_STATEMENT_NAME, shown)
        })
    }

    /// Describe of a statement, without running it.
    ///
    /// # Errors
    /// 26000 if there is none of that name.
    pub fn describe_statement(&mut self, name: &str) -> SqlResult<Description> {
        let statement = self.statement(name);
        statement.map(|prepared| prepared.description.clone()).map_err(|error| self.fail(error))
    }

    /// Bind: a portal under a name (empty: the unnamed one) from a statement and one array of length 1 for each
    /// parameter, of the type that the description gives.
    ///
    /// # Errors
    /// No such statement, a name that is taken, or a wrong number of values.
    pub async fn bind_portal(&mut self, portal: &str, statement: &str, values: &[ArrayRef]) -> SqlResult<()> {
        let made = self.make_portal(portal, statement, values);
        let made = made.map_err(|error| self.fail(error))?;
        self.portals.insert(portal.to_string(), made);
        Ok(())
    }

    fn make_portal(&mut self, portal: &str, statement: &str, values: &[ArrayRef]) -> SqlResult<Portal> {
        let prepared = self.statement(statement)?;
        if !portal.is_empty() && self.portals.contains_key(portal) {
            let message = format!("portal \"{portal}\" already exists");
            return Err(SqlError::new(SqlState::DUPLICATE_CURSOR, message));
        }
        let needed = prepared.description.parameters.len();
        if needed != values.len() {
            let message = format!(
                "bind message supplies {} parameters, but prepared statement \"{statement}\" requires {needed}",
                values.len()
            );
            return Err(SqlError::new(SqlState::PROTOCOL_VIOLATION, message));
        }
        let parameters = values.iter().map(scalar).collect::<SqlResult<Vec<ScalarValue>>>()?;
        Ok(Portal { prepared, parameters, rows: None, columns: None, done: None })
    }

    fn portal(&self, name: &str) -> SqlResult<&Portal> {
        self.portals
            .get(name)
            .ok_or_else(|| SqlError::new(SqlState::INVALID_CURSOR_NAME, format!("portal \"{name}\" does not exist")))
    }

    /// Describe of a portal: its columns, `None` if it gives no rows. Cursors of DECLARE are portals too.
    ///
    /// # Errors
    /// 34000 if there is none of that name.
    pub fn describe_portal(&mut self, name: &str) -> SqlResult<Option<Vec<OutputColumn>>> {
        if let Some(cursor) = self.cursors.get(name) {
            return Ok(Some(cursor.columns().to_vec()));
        }
        let columns = self.portal(name).map(|portal| portal.prepared.description.columns.clone());
        columns.map_err(|error| self.fail(error))
    }

    /// Execute: runs a portal, or goes on with it after it was suspended. With `rows_max` above 0 the stream ends
    /// after so many rows and says that it is suspended. Call `sync` when the client sends Sync: INSERTs of one
    /// pipeline are written there.
    ///
    /// # Errors
    /// Whatever the statement meets.
    pub async fn execute_portal(&mut self, name: &str, rows_max: usize) -> SqlResult<Response> {
        self.notice_failed_stream();
        let response = self.run_portal(name, rows_max).await;
        response.map_err(|error| self.fail(error))
    }

    async fn run_portal(&mut self, name: &str, rows_max: usize) -> SqlResult<Response> {
        let portal = self.portal(name)?;
        if let Some(rest) = portal.rows.clone() {
            let columns = portal.columns.clone().unwrap_or_else(|| Vec::new().into());
            return Ok(Response::Rows(limited(rest, columns, rows_max)));
        }
        if let Some(tag) = &portal.done {
            return Ok(Response::Command { tag: tag.clone() });
        }
        let (prepared, parameters) = (portal.prepared.clone(), portal.parameters.clone());
        if prepared.parsed.is_none() {
            return Ok(Response::Empty);
        }
        self.tell_activity("active", Some(prepared.text()));
        self.begin_pipeline(&prepared)?;
        let response = self.run_prepared(&prepared, &parameters).await?;
        // The statement may have closed its own portal: DISCARD ALL.
        let Some(portal) = self.portals.get_mut(name) else { return Ok(response) };
        Ok(match response {
            Response::Rows(rows) if rows_max > 0 => {
                let columns: Arc<[OutputColumn]> = rows.columns().into();
                let rest = Arc::new(Mutex::new(Rest::new(rows)));
                (portal.rows, portal.columns) = (Some(rest.clone()), Some(columns.clone()));
                Response::Rows(limited(rest, columns, rows_max))
            }
            Response::Command { tag } => {
                portal.done = Some(tag.clone());
                Response::Command { tag }
            }
            other => other,
        })
    }

    /// Plain INSERTs outside of a transaction wait for Sync, so that a pipeline of them is one write; whatever follows
    /// one before Sync belongs to the same transaction, as all of a pipeline does in PostgreSQL.
    fn begin_pipeline(&mut self, prepared: &Prepared) -> SqlResult<()> {
        if self.transaction.status == Status::Idle
            && let Statement::Insert(insert) = &*self.bind_prepared(prepared)?
            && insert.conflict.is_none()
        {
            self.begin_implicit();
        }
        Ok(())
    }

    /// Sync: the pipeline is over, and what waits is written.
    ///
    /// # Errors
    /// The write is refused: to be sent before ReadyForQuery.
    pub async fn sync(&mut self) -> SqlResult<()> {
        self.notice_failed_stream();
        match self.transaction.status {
            Status::Implicit => self.commit().await,
            _ => Ok(()),
        }
    }

    /// Close of a statement; unknown names are no error.
    pub fn close_statement(&mut self, name: &str) {
        self.statements.remove(name);
    }

    /// Close of a portal; unknown names are no error.
    pub fn close_portal(&mut self, name: &str) {
        self.portals.remove(name);
    }

    pub(super) fn prepare_statement(&mut self, prepare: Prepare) -> SqlResult<Response> {
        self.refuse_taken(&prepare.name)?;
        let prepared = self.prepare_parsed(Arc::new(prepare.body), prepare.types)?;
        self.statements.insert(prepare.name, Arc::new(prepared));
        Ok(Response::Command { tag: "PREPARE".to_string() })
    }

    pub(super) async fn execute_prepared(&mut self, execute: Execute, guard: &Guard) -> SqlResult<Response> {
        let prepared = self.statement(&execute.name)?;
        let needed = &prepared.description.parameters;
        let given = execute.arguments.as_ref().map_or(0, |query| query.columns.len());
        if needed.len() != given {
            let message = format!("wrong number of parameters for prepared statement \"{}\"", execute.name);
            let detail = format!("Expected {} parameters but got {given}.", needed.len());
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message).detail(detail));
        }
        let mut parameters = Vec::with_capacity(given);
        if let Some(query) = &execute.arguments {
            let batches = self.reader(guard).collect(&query.plan, Vec::new()).await?;
            let row = batches.iter().find(|batch| batch.num_rows() > 0);
            let row = row.ok_or_else(|| SqlError::internal("the arguments of EXECUTE are one row"))?;
            for (column, kind) in row.columns().iter().zip(needed) {
                let value = scalar(&column.slice(0, 1))?;
                let value = value.cast_to(&kind.arrow()).map_err(|error| crate::functions::sql_error(&error))?;
                parameters.push(value);
            }
        }
        self.run_prepared(&prepared, &parameters).await
    }

    pub(super) fn deallocate(&mut self, name: Option<&str>) -> SqlResult<Response> {
        let tag = match name {
            Some(name) => {
                self.statement(name)?;
                self.statements.remove(name);
                "DEALLOCATE"
            }
            None => {
                self.statements.clear();
                "DEALLOCATE ALL"
            }
        };
        Ok(Response::Command { tag: tag.to_string() })
    }
}

fn scalar(array: &ArrayRef) -> SqlResult<ScalarValue> {
    ScalarValue::try_from_array(array, 0).map_err(|error| crate::functions::sql_error(&error))
}

/// At most so many rows of a portal; what is left stays for the next Execute.
fn limited(rest: Arc<Mutex<Rest>>, columns: Arc<[OutputColumn]>, rows_max: usize) -> RowStream {
    let suspended = Arc::new(AtomicBool::new(false));
    let flag = suspended.clone();
    let left = if rows_max == 0 { usize::MAX } else { rows_max };
    let batches = stream::unfold((rest, left), move |(rest, left)| {
        let flag = flag.clone();
        async move {
            if left == 0 {
                flag.store(true, Ordering::Release);
                return None;
            }
            let batch = rest.lock().await.take(left).await?;
            let taken = batch.as_ref().map_or(left, RecordBatch::num_rows);
            Some((batch, (rest, left - taken)))
        }
    });
    RowStream::new(columns, batches.boxed(), "SELECT").with_suspension(suspended)
}
