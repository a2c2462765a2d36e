//! The simple query cycle: one text, statement after statement, rows sent as they come.

use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::response::{CommandComplete, EmptyQueryResponse, ReadyForQuery, TransactionStatus};
use pgwire::messages::startup::ParameterStatus;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::{Connection, End};
use super::copy;
use super::encode::{self, Format, Rows};
use super::sqlstate::{Severity, notice_response};
use crate::error::SqlError;
use crate::session::{Response, RowStream, Session};

/// A batch is sent in portions of about this many bytes.
const PORTION: usize = 64 << 10;

/// How a statement ended, when the connection lives on.
pub enum Outcome {
    Done,
    /// The portal has more rows.
    Suspended,
    Failed(SqlError),
}

/// Runs a text and says that the server is ready again.
pub async fn query<S>(connection: &mut Connection<S>, session: &mut Session, text: &str) -> Result<(), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if let Outcome::Failed(error) = run(connection, session, text).await? {
        send_notices(connection, session)?;
        connection.send_error(&error, Severity::Error)?;
    }
    ready(connection, session).await
}

async fn run<S>(connection: &mut Connection<S>, session: &mut Session, text: &str) -> Result<Outcome, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut script = match session.script(text) {
        Ok(script) => script,
        Err(error) => return Ok(Outcome::Failed(error)),
    };
    while let Some(result) = connection.watch(session.next(&mut script)).await? {
        let outcome = match result {
            Ok(response) => respond(connection, session, response, None).await?,
            Err(error) => Outcome::Failed(error),
        };
        if let Outcome::Failed(_) = &outcome {
            return Ok(outcome);
        }
    }
    Ok(Outcome::Done)
}

/// Sends one statement's response. `formats` are those of a portal; without one the rows are described and sent as text.
pub async fn respond<S>(
    connection: &mut Connection<S>,
    session: &mut Session,
    response: Response,
    formats: Option<&[i16]>,
) -> Result<Outcome, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    send_notices(connection, session)?;
    let outcome = match response {
        Response::Empty => {
            connection.send(&PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new()))?;
            Outcome::Done
        }
        Response::Command { tag } => complete(connection, session, tag)?,
        Response::Rows(rows) => send_rows(connection, session, rows, formats).await?,
        Response::CopyIn(copy_in) => copy::receive(connection, session, copy_in).await?,
        Response::CopyOut(copy_out) => copy::send(connection, session, copy_out).await?,
    };
    Ok(outcome)
}

/// Says that a statement is done, with what it has changed in the settings.
pub fn complete<S>(connection: &mut Connection<S>, session: &mut Session, tag: String) -> Result<Outcome, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    send_notices(connection, session)?;
    connection.send(&PgWireBackendMessage::CommandComplete(CommandComplete::new(tag)))?;
    Ok(Outcome::Done)
}

async fn send_rows<S>(
    connection: &mut Connection<S>,
    session: &mut Session,
    mut rows: RowStream,
    formats: Option<&[i16]>,
) -> Result<Outcome, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let width = rows.columns().len();
    let described = formats.is_none();
    let formats = match encode::formats(formats.unwrap_or(&[]), width) {
        Ok(formats) => formats,
        Err(error) => return Ok(Outcome::Failed(error)),
    };
    if described {
        connection.send(&encode::row_description(rows.columns(), &formats))?;
    }
    if rows.is_live() {
        connection.flush().await?;
    }
    if let Outcome::Failed(error) = send_batches(connection, session, &mut rows, &formats).await? {
        return Ok(Outcome::Failed(error));
    }
    match rows.suspended() {
        true => Ok(Outcome::Suspended),
        false => complete(connection, session, rows.tag()),
    }
}

async fn send_batches<S>(
    connection: &mut Connection<S>,
    session: &mut Session,
    rows: &mut RowStream,
    formats: &[Format],
) -> Result<Outcome, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let style = session.text_style();
    while let Some(batch) = connection.watch(rows.next()).await? {
        let encoded = batch.and_then(|batch| Rows::new(&batch, rows.columns(), formats, &style));
        let encoded = match encoded {
            Ok(encoded) => encoded,
            Err(error) => return Ok(Outcome::Failed(error)),
        };
        let mut row = 0;
        while row < encoded.len() {
            row = encoded.write(row, PORTION, &mut connection.out);
            connection.flush_if_full().await?;
        }
        if rows.is_live() {
            connection.flush().await?;
        }
    }
    Ok(Outcome::Done)
}

/// Sends what a statement had to say besides its result.
pub fn send_notices<S>(connection: &mut Connection<S>, session: &mut Session) -> Result<(), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    for notice in session.notices() {
        connection.send(&notice_response(&notice))?;
    }
    Ok(())
}

/// Says that the next query may come, and sends everything.
pub async fn ready<S>(connection: &mut Connection<S>, session: &mut Session) -> Result<(), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    send_notices(connection, session)?;
    for (name, value) in session.parameter_changes() {
        connection.send(&PgWireBackendMessage::ParameterStatus(ParameterStatus::new(name, value)))?;
    }
    let status = match session.transaction_status() {
        b'T' => TransactionStatus::Transaction,
        b'E' => TransactionStatus::Error,
        _ => TransactionStatus::Idle,
    };
    session.idle();
    connection.send(&PgWireBackendMessage::ReadyForQuery(ReadyForQuery::new(status)))?;
    connection.flush().await
}
