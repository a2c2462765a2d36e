//! How a conversation begins: encryption refused, cancel requests passed on, the client greeted.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::BytesMut;
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::startup::{
    Authentication, BackendKeyData, GssEncRequest, NegotiateProtocolVersion, ParameterStatus, SecretKey, SslRequest,
    Startup,
};
use pgwire::messages::{DecodeContext, Message, PgWireBackendMessage, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::{Connection, End, violation};
use crate::error::{SqlError, SqlState};
use crate::session::{Session, SessionInfo};

/// A start-up packet is never longer in PostgreSQL either.
const PACKET_MAX: i32 = 10_000;
/// The newest minor version of protocol 3 that is spoken.
const NEWEST_MINOR: u16 = 2;

/// What a client came for.
pub enum Request {
    Talk(Greeting),
    /// Stop what the session with this process id runs.
    Cancel(i32, SecretKey),
}

/// A start-up message.
pub struct Greeting {
    pub minor: u16,
    pub parameters: BTreeMap<String, String>,
}

/// Reads until it is known what the client came for.
pub async fn receive<S>(connection: &mut Connection<S>) -> Result<Request, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let header = connection.peek(8).await?;
        let length = i32::from_be_bytes([header[0], header[1], header[2], header[3]]);
        if !(8..=PACKET_MAX).contains(&length) {
            return Err(violation("invalid length of startup packet"));
        }
        let length = length as usize;
        if SslRequest::is_ssl_request_packet(header) || GssEncRequest::is_gss_enc_request_packet(header) {
            connection.skip(8);
            connection.out.push(b'N');
            connection.flush().await?;
            continue;
        }
        let is_cancel = CancelRequest::is_cancel_request_packet(header);
        connection.peek(length).await?;
        let packet = connection.take(length);
        return if is_cancel { cancel_request(&packet) } else { startup(packet) };
    }
}

/// Process id and key follow the eight bytes of the header; the key has four bytes, or more since protocol 3.2.
fn cancel_request(packet: &[u8]) -> Result<Request, End> {
    match packet.get(8..12).zip(packet.get(12..)).filter(|(_, key)| (4..=256).contains(&key.len())) {
        Some((pid, key)) => {
            let pid = i32::from_be_bytes([pid[0], pid[1], pid[2], pid[3]]);
            Ok(Request::Cancel(pid, SecretKey::Bytes(bytes::Bytes::copy_from_slice(key))))
        }
        None => Err(violation("malformed cancel request")),
    }
}

fn startup(mut packet: BytesMut) -> Result<Request, End> {
    let (major, minor) = (u16::from_be_bytes([packet[4], packet[5]]), u16::from_be_bytes([packet[6], packet[7]]));
    if major != Startup::PG_PROTOCOL_LATEST {
        let message = format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{NEWEST_MINOR}");
        return Err(End::Fatal(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message)));
    }
    let context = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
    match Startup::decode(&mut packet, &context) {
        Ok(Some(startup)) => Ok(Request::Talk(Greeting { minor, parameters: startup.parameters })),
        _ => Err(violation("malformed startup packet")),
    }
}

/// Refuses whoever cannot be let in. Only connections from this machine are trusted.
pub fn admit(peer: IpAddr, user: &str) -> Result<(), SqlError> {
    if peer.to_canonical().is_loopback() {
        return Ok(());
    }
    let message = format!("no authentication is set up for host \"{peer}\", user \"{user}\"");
    Err(SqlError::new(SqlState(*b"28000"), message)
        .detail("Only connections from the machine itself are trusted.")
        .hint("Connect to 127.0.0.1, for example through an SSH tunnel."))
}

impl Greeting {
    /// Tells a client that asks for more than is spoken here what it gets instead.
    pub fn negotiate<S>(&self, connection: &mut Connection<S>) -> Result<(), End>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let unknown: Vec<String> = self.parameters.keys().filter(|name| name.starts_with("_pq_.")).cloned().collect();
        if self.minor <= NEWEST_MINOR && unknown.is_empty() {
            return Ok(());
        }
        let version = 3 << 16 | i32::from(self.minor.min(NEWEST_MINOR));
        let answer = NegotiateProtocolVersion::new(version, unknown);
        connection.send(&PgWireBackendMessage::NegotiateProtocolVersion(answer))
    }

    /// A key for cancelling, as long as the client's protocol version has it.
    pub fn secret_key(&self) -> SecretKey {
        let random = uuid::Uuid::new_v4();
        let bytes = random.as_bytes();
        match self.minor.min(NEWEST_MINOR) {
            0 | 1 => SecretKey::I32(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
            _ => SecretKey::Bytes(bytes::Bytes::copy_from_slice(bytes)),
        }
    }

    pub fn user(&self) -> &str {
        self.parameters.get("user").map_or("headwater", String::as_str)
    }

    /// What the session needs to know.
    ///
    /// # Errors
    /// The client wants what is not offered: another encoding, or replication.
    pub fn session_info(&self, pid: i32, client: IpAddr) -> Result<SessionInfo, SqlError> {
        let mut info = SessionInfo {
            user: self.user().to_string(),
            database: self.parameters.get("database").map_or("dev", String::as_str).to_string(),
            pid,
            client: client.to_canonical().to_string(),
            ..SessionInfo::default()
        };
        for (name, value) in &self.parameters {
            match name.as_str() {
                "user" | "database" => {}
                "application_name" => info.application_name = value.clone(),
                "options" => info.settings.extend(options(value)?),
                "replication" if !matches!(value.as_str(), "false" | "off" | "no" | "0") => {
                    return Err(SqlError::unsupported(
                        "replication connections are not supported",
                        "Use SUBSCRIBE to follow a table or view.",
                    ));
                }
                "replication" => {}
                name if name.starts_with("_pq_.") => {}
                _ => info.settings.push((name.clone(), value.clone())),
            }
        }
        Ok(info)
    }
}

/// Settings in the form of command-line options: `-c name=value`, `-cname=value`, `--name=value`; `\ ` is a space.
fn options(text: &str) -> Result<Vec<(String, String)>, SqlError> {
    let mut words = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let word = words.last_mut().expect("there is always a word");
        match character {
            '\\' => word.extend(characters.next()),
            character if character.is_ascii_whitespace() => words.push(String::new()),
            character => word.push(character),
        }
    }
    let mut settings = Vec::new();
    let mut words = words.into_iter().filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let setting = match (word.strip_prefix("--"), word.strip_prefix("-c")) {
            (Some(setting), _) => setting.to_string(),
            (None, Some("")) => words.next().unwrap_or_default(),
            (None, Some(setting)) => setting.to_string(),
            (None, None) => return Err(bad_option(&word)),
        };
        let (name, value) = setting.split_once('=').ok_or_else(|| bad_option(&setting))?;
        settings.push((name.replace('-', "_"), value.to_string()));
    }
    Ok(settings)
}

fn bad_option(word: &str) -> SqlError {
    SqlError::new(SqlState::SYNTAX_ERROR, format!("invalid command-line argument for server process: {word}"))
        .hint("Only -c name=value is understood.")
}

/// Greets the client: it is let in, these are the settings, this is the key for cancelling.
pub fn greet<S>(connection: &mut Connection<S>, session: &mut Session, pid: i32, key: SecretKey) -> Result<(), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    connection.send(&PgWireBackendMessage::Authentication(Authentication::Ok))?;
    for (name, value) in session.startup_parameters() {
        connection.send(&PgWireBackendMessage::ParameterStatus(ParameterStatus::new(name, value)))?;
    }
    connection.send(&PgWireBackendMessage::BackendKeyData(BackendKeyData::new(pid, key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_like_a_command_line() {
        let pairs = |text: &str| options(text).expect(text);
        let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
        assert_eq!(pairs("-c search_path=a"), [pair("search_path", "a")]);
        assert_eq!(pairs(" -cjit=off --statement-timeout=5s"), [pair("jit", "off"), pair("statement_timeout", "5s")]);
        assert_eq!(pairs("-c search_path=a,\\ b"), [pair("search_path", "a, b")]);
        assert!(options("-x").is_err() && options("-c novalue").is_err());
    }

    #[test]
    fn only_the_machine_itself_is_trusted() {
        for trusted in ["127.0.0.1", "127.0.0.5", "::1", "::ffff:127.0.0.1"] {
            assert!(admit(trusted.parse().expect("an address"), "u").is_ok());
        }
        let error = admit("10.0.0.1".parse().expect("an address"), "u").expect_err("refused");
        assert_eq!(error.code.as_str(), "28000");
    }
}
