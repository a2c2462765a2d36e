//! One flat match: a bound statement → what it answers.

use std::sync::Arc;

use datafusion::scalar::ScalarValue;

use super::cancel::Guard;
use super::change::{self, Outcome};
use super::outside::World;
use super::prepared::Prepared;
use super::read::Reader;
use super::response::{Response, RowStream};
use super::session::{Session, now_micros};
use super::transaction::{Status, View};
use crate::catalog::{CatalogEdit, Relation, RelationKind};
use crate::engine::{TableChange, Write, WriteError};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::sql::{
    self, Accepted, Begin, BindContext, CreateTableAs, CursorSource, Define, Discard, InsertRows, Notice, Parsed, Set,
    Severity, Statement, TIME_ZONE, TransactionEnd,
};
use crate::zset::{PgType, RelationId, Step};

/// How often a statement is evaluated anew because others changed what it had read.
const ATTEMPTS_MAX: usize = 1000;

/// Why a statement did not answer.
pub(super) enum Stop {
    /// Something that it had read or bound to has changed: do it again on the newest step.
    Again,
    Error(SqlError),
}

impl From<SqlError> for Stop {
    fn from(error: SqlError) -> Self {
        Stop::Error(error)
    }
}

type Executed = Result<Response, Stop>;

fn command(tag: impl Into<String>) -> Executed {
    Ok(Response::Command { tag: tag.into() })
}

impl Session {
    /// Binds and runs one statement, again and again while others get in its way.
    pub(super) async fn run(&mut self, parsed: &Arc<Parsed>, parameters: &[ScalarValue]) -> SqlResult<Response> {
        self.run_prepared(&Prepared::once(parsed.clone()), parameters).await
    }

    pub(super) async fn run_prepared(
        &mut self,
        prepared: &Prepared,
        parameters: &[ScalarValue],
    ) -> SqlResult<Response> {
        let guard = self.guard();
        for _ in 0..ATTEMPTS_MAX {
            let statement = self.bind_or_refuse(prepared, parameters)?;
            match Box::pin(self.execute_statement(statement, &guard)).await {
                Ok(response) => return Ok(response),
                Err(Stop::Error(error)) => return Err(error),
                Err(Stop::Again) => guard.check()?,
            }
        }
        Err(conflict())
    }

    /// In a failed transaction everything is refused but its end.
    fn bind_or_refuse(&mut self, prepared: &Prepared, parameters: &[ScalarValue]) -> SqlResult<Statement> {
        let bound = self.bind_prepared(prepared);
        if self.transaction.status == Status::Failed {
            let ends = bound.as_deref().is_ok_and(|bound| {
                matches!(bound, Statement::Commit(_) | Statement::Rollback(_) | Statement::RollbackToSavepoint(_))
            });
            if !ends {
                self.refuse_if_failed()?;
            }
        }
        match parameters {
            [] => bound.map(Arc::unwrap_or_clone),
            parameters => sql::substitute(Arc::unwrap_or_clone(bound?), parameters),
        }
    }

    /// Binds a text on what the next statement sees.
    pub(super) fn bind(&mut self, parsed: &Parsed, types: &[Option<PgType>]) -> SqlResult<Statement> {
        let view = self.view();
        let statement = self.bind_on(&view, parsed, types)?;
        if !self.transaction.has_changes() || !reads_rows(&statement) {
            return Ok(statement);
        }
        // What a materialized view keeps does not have the transaction's own changes: it is read as the plain view
        // that it also is.
        match view.stale() {
            stale if stale.is_empty() => Ok(statement),
            stale => self.bind_on(&view.with_plain_views(&stale), parsed, types),
        }
    }

    fn bind_on(&self, view: &View, parsed: &Parsed, types: &[Option<PgType>]) -> SqlResult<Statement> {
        let search_path = self.settings().search_path(&self.info.user);
        let world = World { allowed_paths: self.allowed_paths() };
        let context =
            BindContext { catalog: &view.catalog, search_path: &search_path, parameter_types: types, outside: &world };
        sql::bind(parsed, &context)
    }

    /// Runs one bound statement.
    async fn execute_statement(&mut self, statement: Statement, guard: &Guard) -> Executed {
        self.refuse_if_read_only(&statement)?;
        match statement {
            Statement::Query(query) => Ok(Response::Rows(self.query(&query, guard).await?)),
            Statement::Insert(insert) => {
                let reader = self.reader(guard);
                let outcome = change::insert(&reader, &insert).await?;
                self.apply(&reader, outcome).await
            }
            Statement::Update(update) => {
                let reader = self.reader(guard);
                let outcome = change::update(&reader, &update).await?;
                self.apply(&reader, outcome).await
            }
            Statement::Delete(delete) => {
                let reader = self.reader(guard);
                let outcome = change::delete(&reader, &delete).await?;
                self.apply(&reader, outcome).await
            }
            Statement::Truncate(truncate) => {
                let reader = self.reader(guard);
                self.apply(&reader, change::truncate(&truncate)).await
            }
            Statement::CopyFrom(copy) => self.copy_from(copy, guard).await,
            Statement::CopyTo(copy) => Ok(self.copy_to(copy, guard).await?),
            Statement::Define(define) => self.define(define, guard).await,
            Statement::CreateTableAs(create) => self.create_table_as(create, guard).await,
            Statement::Subscribe(subscribe) => Ok(self.subscribe(subscribe, guard).await?),
            Statement::Explain(explain) => Ok(self.explain(&explain, guard).await?),
            Statement::DeclareCursor(declare) => Ok(self.declare_cursor(declare, guard).await?),
            Statement::Fetch(fetch) => Ok(self.fetch(&fetch, guard).await?),
            Statement::CloseCursor(name) => Ok(self.close_cursor(name.as_deref())?),
            Statement::Prepare(prepare) => Ok(self.prepare_statement(prepare)?),
            Statement::Execute(execute) => self.execute_prepared(execute, guard).await.map_err(Stop::Error),
            Statement::Deallocate(name) => Ok(self.deallocate(name.as_deref())?),
            Statement::Begin(begin) => self.begin(begin),
            Statement::Commit(end) => self.end(end, true).await,
            Statement::Rollback(end) => self.end(end, false).await,
            Statement::Savepoint(name) => self.savepoint(&name),
            Statement::ReleaseSavepoint(name) => {
                self.refuse_outside("RELEASE SAVEPOINT")?;
                self.transaction.release(&name)?;
                command("RELEASE")
            }
            Statement::RollbackToSavepoint(name) => {
                self.refuse_outside("ROLLBACK TO SAVEPOINT")?;
                let settings = self.transaction.rollback_to(&name)?;
                self.settings().go_back(settings);
                command("ROLLBACK")
            }
            Statement::SetTransaction(begin) => self.set_transaction(begin),
            Statement::Set(set) => self.set(&set),
            Statement::Show(name) => Ok(self.show(&name)?),
            Statement::ShowAll => Ok(self.show_all()),
            Statement::Reset(name) => {
                match name {
                    Some(name) => self.settings().set(&name, None, false)?,
                    None => self.settings().reset_all(),
                }
                command("RESET")
            }
            Statement::Discard(what) => self.discard(what),
            Statement::Listen(_) => command("LISTEN"),
            Statement::Unlisten(_) => command("UNLISTEN"),
            Statement::Notify(..) => command("NOTIFY"),
            Statement::Flush => command("FLUSH"),
            Statement::Checkpoint => {
                self.engine.checkpoint().await?;
                command("CHECKPOINT")
            }
            Statement::Verify(view) => Ok(self.verify(&view, guard).await?),
            Statement::Accepted(Accepted { tag, notices }) => {
                self.notices.extend(notices);
                command(tag)
            }
        }
    }

    fn refuse_if_read_only(&self, statement: &Statement) -> SqlResult<()> {
        let read_only = match self.transaction.is_active() {
            true => self.transaction.read_only,
            false => self.settings().bool("default_transaction_read_only"),
        };
        let verb = match statement {
            Statement::Insert(_) => "INSERT",
            Statement::Update(_) => "UPDATE",
            Statement::Delete(_) => "DELETE",
            Statement::Truncate(_) => "TRUNCATE TABLE",
            Statement::CopyFrom(_) => "COPY FROM",
            Statement::Define(define) => define.tag,
            Statement::CreateTableAs(_) => "CREATE TABLE AS",
            _ => return Ok(()),
        };
        match read_only {
            true => {
                let message = format!("cannot execute {verb} in a read-only transaction");
                Err(SqlError::new(SqlState::READ_ONLY_TRANSACTION, message))
            }
            false => Ok(()),
        }
    }

    /// Writes what a statement does: at once, or at the transaction's COMMIT.
    pub(super) async fn apply(&mut self, reader: &Reader, outcome: Outcome) -> Executed {
        change::check_tables(&reader.view.catalog, &outcome.changes)?;
        if self.transaction.is_active() {
            for change in &outcome.changes {
                change::check_unique(&reader.view, change)?;
            }
            for change in &outcome.changes {
                self.transaction.absorb(&change.table, change.truncate, &change.rows);
            }
        } else {
            self.write(&outcome).await?;
        }
        Ok(match outcome.returning {
            None => Response::Command { tag: outcome.tag },
            Some((columns, batches)) => {
                Response::Rows(RowStream::of_batches(columns, batches, "").with_tag(outcome.tag))
            }
        })
    }

    async fn write(&mut self, outcome: &Outcome) -> Result<(), Stop> {
        let changes = table_changes(outcome);
        if changes.is_empty() {
            return Ok(());
        }
        match self.engine.write(Write { changes, sync: self.waits_for_disk() }).await {
            Err(WriteError::Refused(error)) if outcome.retry_on_duplicate && is_of_primary_key(&error, outcome) => {
                Err(Stop::Again)
            }
            result => taken(result),
        }
    }

    pub(super) fn waits_for_disk(&self) -> bool {
        self.settings().find("synchronous_commit").is_none_or(|value| value != "off")
    }

    async fn define(&mut self, mut define: Define, guard: &Guard) -> Executed {
        let zone = self.settings().time_zone();
        for edit in &mut define.edits {
            if let CatalogEdit::Create(relation) = edit
                && relation.kind == RelationKind::MaterializedView
                && zone != "UTC"
            {
                relation.options.insert(TIME_ZONE.to_string(), zone.clone());
            }
        }
        self.define_edits(&define.edits, guard).await?;
        self.notices.extend(define.notices);
        for edit in &define.edits {
            if let CatalogEdit::Create(relation) = edit
                && relation.kind == RelationKind::MaterializedView
            {
                self.forecast(relation);
            }
        }
        command(define.tag)
    }

    /// Tells of state that grows for ever because a source only grows.
    fn forecast(&mut self, view: &Relation) {
        let catalog = self.view().catalog;
        let grows = |id: &RelationId| catalog.get(*id).is_some_and(|relation| relation.append_only);
        if !view.depends_on.iter().any(grows) {
            return;
        }
        // A view that could be made can be planned; if it cannot any more, there is nothing to tell.
        let query = sql::bind_definition(view, &catalog);
        let growing = query.and_then(|query| self.engine.growing(&query.plan)).unwrap_or_default();
        self.notices.extend(growing.into_iter().map(|growth| {
            let hint = format!("In {}: {}.", growth.operator, growth.remedy);
            Notice { hint: Some(hint), ..Notice::notice(growth.reason) }
        }));
    }

    async fn define_edits(&mut self, edits: &[CatalogEdit], guard: &Guard) -> Result<(), Stop> {
        if edits.is_empty() {
            return Ok(());
        }
        let view = self.view();
        if self.transaction.is_active() {
            return Ok(self.transaction.define(&view, edits)?);
        }
        let defined = self.engine.define(view.catalog.version(), edits.to_vec());
        taken(match edits.iter().any(is_filled) {
            // Filling it may take long; it ends with the statement.
            true => guard.run(async { Ok(defined.await) }).await?,
            false => defined.await,
        })
    }

    async fn create_table_as(&mut self, create: CreateTableAs, guard: &Guard) -> Executed {
        let (Some(table), Some(query)) = (create.table, create.rows) else {
            return self.define(create.define, guard).await;
        };
        // The rows are those from before the table is there.
        let reader = self.reader(guard);
        let batches = reader.collect(&query.plan, Vec::new()).await?;
        let outcome = change::fill(&Arc::new(table), &batches)?;
        let edits = create.define.edits;
        if self.transaction.is_active() {
            self.transaction.define(&reader.view, &edits)?;
            for change in &outcome.changes {
                self.transaction.absorb(&change.table, change.truncate, &change.rows);
            }
        } else {
            let base = reader.view.catalog.version();
            taken(self.engine.define_and_write(base, edits, table_changes(&outcome)).await)?;
        }
        self.notices.extend(create.define.notices);
        command(outcome.tag)
    }

    fn begin(&mut self, begin: Begin) -> Executed {
        match self.transaction.status {
            Status::Open | Status::Failed => {
                self.warn("25001", "there is already a transaction in progress");
            }
            Status::Implicit => self.transaction.status = Status::Open,
            Status::Idle => {
                let read_only = self.settings().bool("default_transaction_read_only");
                self.settings().begin();
                self.transaction = super::transaction::Transaction::begin(Status::Open, read_only, now_micros());
            }
        }
        self.set_modes(begin)?;
        command("BEGIN")
    }

    fn set_modes(&mut self, begin: Begin) -> SqlResult<()> {
        if let Some(read_only) = begin.read_only {
            self.transaction.read_only = read_only;
            let value = if read_only { "on" } else { "off" };
            self.settings().set("transaction_read_only", Some(&[value.to_string()]), true)?;
        }
        if let Some(isolation) = begin.isolation {
            self.settings().set("transaction_isolation", Some(&[isolation.to_string()]), true)?;
        }
        Ok(())
    }

    fn set_transaction(&mut self, begin: Begin) -> Executed {
        match self.transaction.is_active() {
            true => self.set_modes(begin)?,
            false => self.warn("25P01", "SET TRANSACTION can only be used in transaction blocks"),
        }
        command("SET")
    }

    async fn end(&mut self, end: TransactionEnd, commit: bool) -> Executed {
        let status = self.transaction.status;
        if matches!(status, Status::Idle | Status::Implicit) {
            self.warn("25P01", "there is no transaction in progress");
        }
        let modes = (self.transaction.read_only, now_micros());
        let tag = match commit && status != Status::Failed {
            true => {
                self.commit().await?;
                "COMMIT"
            }
            false => {
                self.rollback();
                "ROLLBACK"
            }
        };
        if end.chain && matches!(status, Status::Open | Status::Failed) {
            self.settings().begin();
            self.transaction = super::transaction::Transaction::begin(Status::Open, modes.0, modes.1);
        }
        command(tag)
    }

    /// Makes the transaction's changes durable and visible, all or none.
    pub(super) async fn commit(&mut self) -> SqlResult<()> {
        let sync = self.waits_for_disk();
        let work = self.transaction.finish();
        let result = match (work.edits.is_empty(), work.changes.is_empty()) {
            (true, true) => Ok(()),
            (true, false) => self.engine.write(Write { changes: work.changes, sync }).await.map(drop),
            (false, _) => self.engine.define_and_write(work.base, work.edits, work.changes).await.map(drop),
        };
        self.settings().end(result.is_ok());
        self.close_cursors_of_transaction(result.is_ok());
        result.map_err(|error| match error {
            WriteError::Conflict => conflict(),
            WriteError::Refused(error) => error,
        })
    }

    fn savepoint(&mut self, name: &str) -> Executed {
        self.refuse_outside("SAVEPOINT")?;
        let values = self.settings().values();
        self.transaction.savepoint(name, values);
        command("SAVEPOINT")
    }

    fn refuse_outside(&self, what: &str) -> SqlResult<()> {
        match self.transaction.status {
            Status::Open | Status::Failed => Ok(()),
            Status::Idle | Status::Implicit => {
                let message = format!("{what} can only be used in transaction blocks");
                Err(SqlError::new(SqlState::NO_ACTIVE_TRANSACTION, message))
            }
        }
    }

    fn set(&mut self, set: &Set) -> Executed {
        if set.local && self.transaction.status == Status::Idle {
            self.warn("25P01", "SET LOCAL can only be used in transaction blocks");
            return command("SET");
        }
        self.settings().set(&set.name, set.value.as_deref(), set.local)?;
        if set.name == "transaction_read_only" && self.transaction.is_active() {
            let read_only = self.settings().bool("transaction_read_only");
            self.transaction.read_only = read_only;
        }
        command("SET")
    }

    fn discard(&mut self, what: Discard) -> Executed {
        if what == Discard::All {
            if matches!(self.transaction.status, Status::Open | Status::Failed) {
                let message = "DISCARD ALL cannot run inside a transaction block";
                return Err(SqlError::new(SqlState::ACTIVE_TRANSACTION, message).into());
            }
            self.statements.clear();
            self.cursors.clear();
            self.settings().reset_all();
        }
        command(match what {
            Discard::All => "DISCARD ALL",
            Discard::Plans => "DISCARD PLANS",
            Discard::Sequences => "DISCARD SEQUENCES",
            Discard::Temporary => "DISCARD TEMP",
        })
    }

    pub(super) fn warn(&mut self, code: &'static str, message: &str) {
        self.notices.push(Notice { severity: Severity::Warning, code, ..Notice::warning(message) });
    }
}

/// Whether a write was refused for the key that ON CONFLICT looks at, and not for that of another unique index.
fn is_of_primary_key(error: &SqlError, outcome: &Outcome) -> bool {
    let named = |change: &change::Change| error.message.ends_with(&format!("\"{}_pkey\"", change.table.name));
    error.code == SqlState::UNIQUE_VIOLATION && outcome.changes.iter().any(named)
}

/// What a statement changes, as the engine takes it.
fn table_changes(outcome: &Outcome) -> Vec<TableChange> {
    let changes = outcome.changes.iter().map(|change| TableChange {
        table: change.table.id,
        truncate: change.truncate,
        rows: change.rows.clone(),
    });
    changes.filter(|change| change.truncate || !change.rows.is_empty()).collect()
}

fn is_filled(edit: &CatalogEdit) -> bool {
    let is_filled = |kind| matches!(kind, RelationKind::MaterializedView | RelationKind::Index);
    matches!(edit, CatalogEdit::Create(relation) if is_filled(relation.kind))
}

/// Whether the engine has taken a change; if others got in its way, the statement is run again.
fn taken(result: Result<Step, WriteError>) -> Result<(), Stop> {
    match result {
        Ok(_) => Ok(()),
        Err(WriteError::Conflict) => Err(Stop::Again),
        Err(WriteError::Refused(error)) => Err(Stop::Error(error)),
    }
}

fn conflict() -> SqlError {
    SqlError::new(SqlState::SERIALIZATION_FAILURE, "could not serialize access due to concurrent update")
        .hint("Run the transaction again.")
}

/// Whether a statement runs a query over relations.
pub(super) fn reads_rows(statement: &Statement) -> bool {
    match statement {
        Statement::Query(_)
        | Statement::Update(_)
        | Statement::Delete(_)
        | Statement::CopyTo(_)
        | Statement::CreateTableAs(_) => true,
        Statement::DeclareCursor(declare) => matches!(declare.what, CursorSource::Query(_)),
        Statement::Insert(insert) => matches!(insert.rows, InsertRows::Plan(_)),
        _ => false,
    }
}
