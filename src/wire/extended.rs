//! The extended query cycle: parse, bind, describe, execute, close; after an error everything up to Sync is skipped.

use std::collections::HashMap;

use arrow::array::ArrayRef;
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Describe, Execute, Parse, ParseComplete, PortalSuspended,
    TARGET_TYPE_BYTE_PORTAL, TARGET_TYPE_BYTE_STATEMENT,
};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::{Connection, End};
use super::simple::{self, Outcome, respond};
use super::sqlstate::Severity;
use super::{decode, encode};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::session::Session;

/// What the protocol remembers between messages, beside the session.
#[derive(Default)]
pub struct Extended {
    /// An error was told; messages are ignored until Sync.
    skipping: bool,
    /// The result formats that each portal was bound with.
    formats: HashMap<String, Vec<i16>>,
}

impl Extended {
    /// Serves one message of the extended protocol.
    pub async fn serve<S>(
        &mut self,
        connection: &mut Connection<S>,
        session: &mut Session,
        message: PgWireFrontendMessage,
    ) -> Result<(), End>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if let PgWireFrontendMessage::Sync(_) = message {
            return self.sync(connection, session).await;
        }
        if self.skipping {
            return Ok(());
        }
        let outcome = match message {
            PgWireFrontendMessage::Parse(parse) => self.parse(connection, session, parse).await?,
            PgWireFrontendMessage::Bind(bind) => self.bind(connection, session, bind).await?,
            PgWireFrontendMessage::Describe(describe) => self.describe(connection, session, &describe)?,
            PgWireFrontendMessage::Execute(execute) => self.execute(connection, session, &execute).await?,
            PgWireFrontendMessage::Close(close) => self.close(connection, session, &close)?,
            PgWireFrontendMessage::Flush(_) => {
                connection.flush().await?;
                Outcome::Done
            }
            _ => Outcome::Failed(SqlError::new(SqlState::PROTOCOL_VIOLATION, "unexpected message")),
        };
        if let Outcome::Failed(error) = outcome {
            self.skipping = true;
            simple::send_notices(connection, session)?;
            connection.send_error(&error, Severity::Error)?;
        }
        connection.flush_if_full().await
    }

    async fn sync<S>(&mut self, connection: &mut Connection<S>, session: &mut Session) -> Result<(), End>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.skipping = false;
        // Ends the implicit transaction of the messages since the last Sync.
        if let Err(error) = connection.watch(session.sync()).await? {
            connection.send_error(&error, Severity::Error)?;
        }
        simple::ready(connection, session).await
    }

    async fn parse<S>(
        &mut self,
        connection: &mut Connection<S>,
        session: &mut Session,
        parse: Parse,
    ) -> Result<Outcome, End>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = parse.name.unwrap_or_default();
        let types: Vec<Option<u32>> = parse.type_oids.iter().copied().map(Some).collect();
        let prepared = connection.watch(session.prepare(&name, &parse.query, &types)).await?;
        answer(connection, prepared.map(drop), PgWireBackendMessage::ParseComplete(ParseComplete::new()))
    }

    async fn bind<S>(
        &mut self,
        connection: &mut Connection<S>,
        session: &mut Session,
        bind: Bind,
    ) -> Result<Outcome, End>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let portal = bind.portal_name.clone().unwrap_or_default();
        let bound = match bind_values(session, &bind) {
            Ok(values) => {
                let statement = bind.statement_name.as_deref().unwrap_or_default();
                connection.watch(session.bind_portal(&portal, statement, &values)).await?
            }
            Err(error) => Err(session.fail(error)),
        };
        if bound.is_ok() {
            self.formats.insert(portal, bind.result_column_format_codes);
        }
        answer(connection, bound, PgWireBackendMessage::BindComplete(BindComplete::new()))
    }

    fn describe<S>(
        &mut self,
        connection: &mut Connection<S>,
        session: &mut Session,
        describe: &Describe,
    ) -> Result<Outcome, End>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = describe.name.as_deref().unwrap_or_default();
        let (columns, codes) = match describe.target_type {
            TARGET_TYPE_BYTE_STATEMENT => match session.describe_statement(name) {
                Ok(description) => {
                    let types = description.parameters.iter().map(crate::zset::PgType::oid).collect();
                    connection.send(&PgWireBackendMessage::ParameterDescription(ParameterDescription::new(types)))?;
                    (description.columns, [].as_slice())
                }
                Err(error) => return Ok(Outcome::Failed(error)),
            },
            TARGET_TYPE_BYTE_PORTAL => match session.describe_portal(name) {
                Ok(columns) => (columns, self.formats.get(name).map_or([].as_slice(), Vec::as_slice)),
                Err(error) => return Ok(Outcome::Failed(error)),
            },
            other => return Ok(bad_target(other)),
        };
        let Some(columns) = columns else {
            connection.send(&PgWireBackendMessage::NoData(NoData::new()))?;
            return Ok(Outcome::Done);
        };
        match encode::formats(codes, columns.len()) {
            Ok(formats) => {
                connection.send(&encode::row_description(&columns, &formats))?;
                Ok(Outcome::Done)
            }
            Err(error) => Ok(Outcome::Failed(error)),
        }
    }

    async fn execute<S>(
        &mut self,
        connection: &mut Connection<S>,
        session: &mut Session,
        execute: &Execute,
    ) -> Result<Outcome, End>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = execute.name.as_deref().unwrap_or_default();
        // 0 stands for no limit, and so does a negative number.
        let limit = usize::try_from(execute.max_rows).unwrap_or(0);
        let response = match connection.watch(session.execute_portal(name, limit)).await? {
            Ok(response) => response,
            Err(error) => return Ok(Outcome::Failed(error)),
        };
        let formats = self.formats.get(name).cloned().unwrap_or_default();
        let outcome = respond(connection, session, response, Some(&formats)).await?;
        if let Outcome::Suspended = outcome {
            connection.send(&PgWireBackendMessage::PortalSuspended(PortalSuspended::new()))?;
        }
        Ok(outcome)
    }

    fn close<S>(&mut self, connection: &mut Connection<S>, session: &mut Session, close: &Close) -> Result<Outcome, End>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = close.name.as_deref().unwrap_or_default();
        match close.target_type {
            TARGET_TYPE_BYTE_STATEMENT => session.close_statement(name),
            TARGET_TYPE_BYTE_PORTAL => {
                session.close_portal(name);
                self.formats.remove(name);
            }
            other => return Ok(bad_target(other)),
        }
        connection.send(&PgWireBackendMessage::CloseComplete(CloseComplete::new()))?;
        Ok(Outcome::Done)
    }
}

/// The values of a Bind in the statement's types; its result formats have to fit the statement, too.
fn bind_values(session: &mut Session, bind: &Bind) -> SqlResult<Vec<ArrayRef>> {
    let description = session.describe_statement(bind.statement_name.as_deref().unwrap_or_default())?;
    if let Some(columns) = &description.columns {
        encode::formats(&bind.result_column_format_codes, columns.len())?;
    }
    let style = session.text_style();
    decode::parameters(&bind.parameters, &bind.parameter_format_codes, &description.parameters, style)
}

fn answer<S>(
    connection: &mut Connection<S>,
    result: SqlResult<()>,
    message: PgWireBackendMessage,
) -> Result<Outcome, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match result {
        Ok(()) => {
            connection.send(&message)?;
            Ok(Outcome::Done)
        }
        Err(error) => Ok(Outcome::Failed(error)),
    }
}

fn bad_target(target: u8) -> Outcome {
    Outcome::Failed(SqlError::new(SqlState::PROTOCOL_VIOLATION, format!("invalid message subtype {target}")))
}
