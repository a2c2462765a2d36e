//! One client's conversation: statements in, responses out, with all that lives from one statement to the next.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::activity::{self, Activity, Registered};
use super::cancel::{Canceller, Guard};
use super::cursor::Cursor;
use super::prepared::{Portal, Prepared};
use super::response::Response;
use super::settings::Settings;
use super::transaction::{Status, Transaction, View};
use crate::engine::Engine;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::sql::{self, Notice, Parsed};

/// Who is connected, as the protocol's start-up says.
#[derive(Debug, Clone, Default)]
pub struct SessionInfo {
    pub user: String,
    pub database: String,
    pub application_name: String,
    /// What the client is told as its backend's process id.
    pub pid: i32,
    /// Where the client is: `127.0.0.1`; empty for an embedding program.
    pub client: String,
    /// Further settings of the start-up message, such as `search_path`.
    pub settings: Vec<(String, String)>,
}

/// A conversation with the engine. One statement at a time.
pub struct Session {
    pub(super) engine: Engine,
    pub(super) info: SessionInfo,
    pub(super) settings: Arc<Mutex<Settings>>,
    pub(super) transaction: Transaction,
    pub(super) statements: BTreeMap<String, Arc<Prepared>>,
    pub(super) portals: BTreeMap<String, Portal>,
    pub(super) cursors: BTreeMap<String, Cursor>,
    pub(super) notices: Vec<Notice>,
    canceller: Canceller,
    /// Set by a row stream that failed after its response was given out.
    pub(super) stream_failed: Arc<AtomicBool>,
    registered: Registered,
}

/// The statements of one simple-query text that are still to be run.
pub struct Script {
    statements: VecDeque<Arc<Parsed>>,
    /// Several statements make one implicit transaction.
    several: bool,
    empty: bool,
}

pub(super) fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

impl Session {
    /// Begins a conversation.
    ///
    /// # Errors
    /// A setting of the start-up message is unknown or has a wrong value.
    pub fn new(engine: Engine, info: SessionInfo) -> SqlResult<Session> {
        let named = info.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let application = [("application_name", info.application_name.as_str())];
        let mut settings = Settings::start(application.into_iter().chain(named))?;
        settings.set_start("session_authorization", &info.user);
        settings.set_start("max_connections", &engine.config().max_connections.to_string());
        let canceller = Canceller::default();
        let activity = Activity {
            pid: info.pid,
            user: info.user.clone(),
            database: info.database.clone(),
            application_name: info.application_name.clone(),
            client: info.client.clone(),
            connected_at: now_micros(),
            state: "idle",
            ..Activity::default()
        };
        let registered = activity::register(activity, canceller.clone());
        Ok(Session {
            engine,
            info,
            settings: Arc::new(Mutex::new(settings)),
            transaction: Transaction::none(),
            statements: BTreeMap::new(),
            portals: BTreeMap::new(),
            cursors: BTreeMap::new(),
            notices: Vec::new(),
            canceller,
            stream_failed: Arc::default(),
            registered,
        })
    }

    /// Cancels what this session runs, from any thread: for CancelRequest, or when the client is gone.
    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    pub fn info(&self) -> &SessionInfo {
        &self.info
    }

    /// What ReadyForQuery says: `I` idle, `T` in a transaction, `E` in a failed one.
    pub fn transaction_status(&mut self) -> u8 {
        self.notice_failed_stream();
        match self.transaction.status {
            Status::Idle | Status::Implicit => b'I',
            Status::Open => b'T',
            Status::Failed => b'E',
        }
    }

    /// Notices since the last call, to be sent before the response that they belong to.
    pub fn notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Reported parameters that changed since the last call: one ParameterStatus for each.
    pub fn parameter_changes(&mut self) -> Vec<(String, String)> {
        self.settings().take_changes()
    }

    /// The parameters that a client is told when it connects.
    pub fn startup_parameters(&mut self) -> Vec<(String, String)> {
        self.settings().take_changes();
        self.settings().reported()
    }

    pub(super) fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a simple-query text. Nothing runs before `next`.
    ///
    /// # Errors
    /// A syntax error anywhere in the text; then none of it is run.
    pub fn script(&mut self, text: &str) -> SqlResult<Script> {
        self.notice_failed_stream();
        self.tell_activity("active", Some(text));
        // The unnamed statement and portal do not survive a simple query.
        self.statements.remove("");
        self.portals.remove("");
        let parsed = match sql::parse(text) {
            Ok(parsed) => parsed,
            Err(error) => return Err(self.fail(error)),
        };
        let statements: VecDeque<Arc<Parsed>> = parsed.into_iter().map(Arc::new).collect();
        Ok(Script { several: statements.len() > 1, empty: statements.is_empty(), statements })
    }

    /// Runs the next statement of a text; `None` when there is none left, or after an error. Call it until then, each
    /// time after the response before was used up: rows read to their end, a COPY finished.
    pub async fn next(&mut self, script: &mut Script) -> Option<SqlResult<Response>> {
        if std::mem::take(&mut script.empty) {
            return Some(Ok(Response::Empty));
        }
        self.notice_failed_stream();
        let Some(parsed) = script.statements.pop_front() else { return self.end_script().await };
        if self.transaction.status == Status::Idle && script.several {
            self.begin_implicit();
        }
        let is_last = script.statements.is_empty();
        let result = self.run_in_script(&parsed, is_last).await;
        if result.is_err() {
            script.statements.clear();
        }
        match result {
            Ok(Response::Rows(rows)) => Some(Ok(Response::Rows(rows.of_statement(parsed)))),
            result => Some(result.map_err(|error| self.fail(sql::explained(error, &parsed)))),
        }
    }

    /// Commits what the last statement could not: its data came after its response (COPY FROM STDIN).
    async fn end_script(&mut self) -> Option<SqlResult<Response>> {
        match self.transaction.status {
            Status::Implicit => self.commit().await.err().map(Err),
            _ => None,
        }
    }

    async fn run_in_script(&mut self, parsed: &Arc<Parsed>, is_last: bool) -> SqlResult<Response> {
        let mut response = self.run(parsed, &[]).await?;
        if is_last && self.transaction.status == Status::Implicit && !matches!(response, Response::CopyIn(_)) {
            // An error in the rows must undo what the text has written before.
            if self.transaction.has_changes()
                && let Response::Rows(rows) = response
            {
                response = Response::Rows(rows.buffered().await?);
            }
            self.commit().await?;
        }
        Ok(response)
    }

    /// Runs a whole text and collects what its statements answer: for embedding programs and tests.
    ///
    /// # Errors
    /// The first error ends it.
    pub async fn execute(&mut self, text: &str) -> SqlResult<Vec<Executed>> {
        let mut script = self.script(text)?;
        let mut done = Vec::new();
        while let Some(response) = self.next(&mut script).await {
            match response? {
                Response::Rows(mut rows) => {
                    let columns = rows.columns().to_vec();
                    let mut batches = Vec::new();
                    while let Some(batch) = rows.next().await {
                        batches.push(batch?);
                    }
                    done.push(Executed { columns, batches, tag: rows.tag() });
                }
                Response::Command { tag } => done.push(Executed { columns: Vec::new(), batches: Vec::new(), tag }),
                Response::CopyIn(_) | Response::CopyOut(_) => {
                    return Err(SqlError::unsupported(
                        "COPY with the client is not possible here",
                        "Connect with a PostgreSQL client, or COPY to and from a file.",
                    ));
                }
                Response::Empty => {}
            }
        }
        Ok(done)
    }

    /// An implicit transaction over several statements.
    pub(super) fn begin_implicit(&mut self) {
        let read_only = self.settings().bool("default_transaction_read_only");
        self.settings().begin();
        self.transaction = Transaction::begin(Status::Implicit, read_only, now_micros());
    }

    pub(super) fn guard(&self) -> Guard {
        self.canceller.guard(self.settings().statement_timeout())
    }

    pub(super) fn view(&mut self) -> View {
        let engine = self.engine.clone();
        self.transaction.view(&engine)
    }

    /// The time that `now()` gives to the running statement.
    pub(super) fn statement_time(&self) -> i64 {
        match self.transaction.is_active() {
            true => self.transaction.started_at,
            false => now_micros(),
        }
    }

    /// Records that a statement failed: an open transaction is then good for ROLLBACK only, an implicit one is over.
    pub fn fail(&mut self, error: SqlError) -> SqlError {
        self.abort();
        error
    }

    fn abort(&mut self) {
        match self.transaction.status {
            Status::Open | Status::Failed => self.transaction.status = Status::Failed,
            Status::Implicit => self.rollback(),
            Status::Idle => {}
        }
    }

    /// Throws the transaction away, with its settings and cursors.
    pub(super) fn rollback(&mut self) {
        self.transaction = Transaction::none();
        self.settings().end(false);
        self.close_cursors_of_transaction(false);
    }

    pub(super) fn notice_failed_stream(&mut self) {
        if self.stream_failed.swap(false, Ordering::AcqRel) {
            self.abort();
        }
    }

    pub(super) fn refuse_if_failed(&self) -> SqlResult<()> {
        match self.transaction.status {
            Status::Failed => Err(SqlError::new(
                SqlState::TRANSACTION_ABORTED,
                "current transaction is aborted, commands ignored until end of transaction block",
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn tell_activity(&self, state: &'static str, query: Option<&str>) {
        let application_name = self.settings().find("application_name").unwrap_or_default();
        self.registered.update(|activity| {
            activity.state = state;
            activity.application_name = application_name;
            if let Some(query) = query {
                activity.query = query.chars().take(1024).collect();
                activity.query_at = now_micros();
            }
        });
    }

    /// Tells that the session waits for its client.
    pub fn idle(&mut self) {
        let state = match self.transaction.status {
            Status::Idle | Status::Implicit => "idle",
            Status::Open => "idle in transaction",
            Status::Failed => "idle in transaction (aborted)",
        };
        self.tell_activity(state, None);
    }
}

/// What one statement of a text answered.
#[derive(Debug, Clone)]
pub struct Executed {
    /// Empty if the statement gives no rows.
    pub columns: Vec<sql::OutputColumn>,
    pub batches: Vec<arrow::array::RecordBatch>,
    pub tag: String,
}
