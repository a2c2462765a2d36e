//! COPY in and out over the wire.

use pgwire::messages::copy::{CopyDone, CopyInResponse, CopyOutResponse};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::{Connection, End, violation};
use super::simple::{Outcome, complete};
use crate::error::{SqlError, SqlState};
use crate::session::{CopyIn, CopyOut, Session};

fn overall(binary: bool, columns: usize) -> (i8, i16, Vec<i16>) {
    (i8::from(binary), columns as i16, vec![i16::from(binary); columns])
}

/// Takes the client's data. After an error the rest of it is ignored as it comes, outside.
pub async fn receive<S>(connection: &mut Connection<S>, session: &mut Session, copy: CopyIn) -> Result<Outcome, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (format, columns, formats) = overall(copy.binary, copy.columns.len());
    connection.send(&PgWireBackendMessage::CopyInResponse(CopyInResponse::new(format, columns, formats)))?;
    connection.flush().await?;
    let mut copy = copy;
    loop {
        let message = tokio::select! {
            biased;
            message = connection.receive() => message?,
            error = copy.interrupted() => return Ok(Outcome::Failed(session.abort_copy(copy, error))),
        };
        match message {
            PgWireFrontendMessage::CopyData(data) => {
                if let Err(error) = copy.push(&data.data) {
                    return Ok(Outcome::Failed(session.abort_copy(copy, error)));
                }
            }
            PgWireFrontendMessage::CopyDone(_) => {
                return match connection.watch(session.finish_copy(copy)).await? {
                    Ok(tag) => complete(connection, session, tag),
                    Err(error) => Ok(Outcome::Failed(error)),
                };
            }
            PgWireFrontendMessage::CopyFail(reason) => {
                let message = format!("COPY from stdin failed: {}", reason.message);
                let error = SqlError::new(SqlState::QUERY_CANCELED, message);
                return Ok(Outcome::Failed(session.abort_copy(copy, error)));
            }
            // Libraries send these without thinking; PostgreSQL ignores them, too.
            PgWireFrontendMessage::Flush(_) | PgWireFrontendMessage::Sync(_) => {}
            PgWireFrontendMessage::Terminate(_) => return Err(End::Closed),
            _ => return Err(violation("unexpected message during COPY from stdin")),
        }
    }
}

/// Sends the data of a COPY TO STDOUT, one message per row.
pub async fn send<S>(connection: &mut Connection<S>, session: &mut Session, copy: CopyOut) -> Result<Outcome, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (format, columns, formats) = overall(copy.binary, copy.columns);
    connection.send(&PgWireBackendMessage::CopyOutResponse(CopyOutResponse::new(format, columns, formats)))?;
    let mut copy = copy;
    if copy.live {
        connection.flush().await?;
    }
    while let Some(rows) = connection.watch(copy.next()).await? {
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => return Ok(Outcome::Failed(error)),
        };
        for row in rows.rows() {
            connection.out.push(b'd');
            connection.out.extend_from_slice(&(row.len() as u32 + 4).to_be_bytes());
            connection.out.extend_from_slice(row);
            connection.flush_if_full().await?;
        }
        if copy.live {
            connection.flush().await?;
        }
    }
    connection.send(&PgWireBackendMessage::CopyDone(CopyDone::new()))?;
    complete(connection, session, copy.tag())
}
