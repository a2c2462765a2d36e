//! Which columns a statement will give, told without running it.

use super::session::Session;
use super::subscribe;
use crate::sql::{OutputColumn, Statement};
use crate::zset::PgType;

pub fn text_column(name: &str) -> OutputColumn {
    OutputColumn { name: name.to_string(), pg_type: PgType::Text }
}

/// The columns of the rows that a statement gives; `None` if it gives none.
pub fn columns(session: &Session, statement: &Statement) -> Option<Vec<OutputColumn>> {
    match statement {
        Statement::Query(query) => Some(query.columns.clone()),
        Statement::Insert(insert) => insert.returning.as_ref().map(|returning| returning.columns.clone()),
        Statement::Update(update) => update.returning.clone(),
        Statement::Delete(delete) => delete.returning.clone(),
        Statement::Subscribe(subscribe) => Some(subscribe::columns(subscribe)),
        Statement::Explain(_) => Some(vec![text_column("QUERY PLAN")]),
        Statement::Fetch(fetch) if !fetch.discard => {
            session.cursors.get(&fetch.cursor).map(|cursor| cursor.columns().to_vec())
        }
        Statement::Execute(execute) => {
            session.statements.get(&execute.name).and_then(|prepared| prepared.description().columns.clone())
        }
        Statement::Show(name) => Some(vec![text_column(&shown_name(session, name))]),
        Statement::ShowAll => Some(["name", "setting", "description"].map(text_column).to_vec()),
        Statement::Verify(view) => Some(super::verify::columns(view)),
        Statement::Truncate(_)
        | Statement::CopyFrom(_)
        | Statement::CopyTo(_)
        | Statement::Define(_)
        | Statement::CreateTableAs(_)
        | Statement::DeclareCursor(_)
        | Statement::Fetch(_)
        | Statement::CloseCursor(_)
        | Statement::Prepare(_)
        | Statement::Deallocate(_)
        | Statement::Begin(_)
        | Statement::Commit(_)
        | Statement::Rollback(_)
        | Statement::Savepoint(_)
        | Statement::ReleaseSavepoint(_)
        | Statement::RollbackToSavepoint(_)
        | Statement::SetTransaction(_)
        | Statement::Set(_)
        | Statement::Reset(_)
        | Statement::Discard(_)
        | Statement::Listen(_)
        | Statement::Unlisten(_)
        | Statement::Notify(..)
        | Statement::Flush
        | Statement::Checkpoint
        | Statement::Accepted(_) => None,
    }
}

/// A parameter's name as it heads the column of SHOW: `TimeZone` whatever the case it was asked in.
pub fn shown_name(session: &Session, name: &str) -> String {
    let all = session.settings().all();
    let known = all.into_iter().find(|shown| shown.name.eq_ignore_ascii_case(name));
    known.map_or_else(|| name.to_string(), |shown| shown.name)
}
