//! One client's socket: messages in, messages out, with limits.

use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{Buf, BytesMut};
use pgwire::messages::{DecodeContext, PgWireBackendMessage, PgWireFrontendMessage, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::sqlstate::{Severity, error_response};
use crate::error::{SqlError, SqlState};

/// A longer message ends the connection.
const MESSAGE_MAX: usize = 256 << 20;
/// Once so much is waiting to leave it is sent.
const FLUSH_AT: usize = 64 << 10;
/// While a statement runs, the client's next messages are read up to this size; then TCP holds the client back.
const READ_AHEAD: usize = 1 << 20;

/// Why a connection ends.
#[derive(Debug)]
pub enum End {
    /// The client left.
    Closed,
    /// The socket failed.
    Io(io::Error),
    /// The client broke the protocol, or may not be here; it is told.
    Fatal(SqlError),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => End::Closed,
            _ => End::Io(error),
        }
    }
}

/// A socket with what has been read and not understood yet, and what is still to be written.
pub struct Connection<S> {
    stream: S,
    incoming: BytesMut,
    /// Encoders append to it; [`Connection::send`] does so for whole messages.
    pub out: Vec<u8>,
    scratch: BytesMut,
    context: DecodeContext,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub fn new(stream: S) -> Self {
        let context = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
        Connection { stream, incoming: BytesMut::new(), out: Vec::new(), scratch: BytesMut::new(), context }
    }

    /// The start-up is over: from here on messages have a type byte.
    pub fn started(&mut self) {
        self.context.awaiting_frontend_ssl = false;
        self.context.awaiting_frontend_startup = false;
    }

    /// The next message of the client.
    pub async fn receive(&mut self) -> Result<PgWireFrontendMessage, End> {
        loop {
            if let Some(message) = self.buffered()? {
                return Ok(message);
            }
            self.read().await?;
        }
    }

    /// Length of the first message with its type byte, once its header is here.
    fn frame_length(&self) -> Result<Option<usize>, End> {
        let Some(header) = self.incoming.get(..5) else { return Ok(None) };
        let length = i32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        match usize::try_from(length) {
            Ok(length) if (4..=MESSAGE_MAX).contains(&length) => Ok(Some(length + 1)),
            _ => Err(violation(format!("invalid message length {length} for message type 0x{:02x}", header[0]))),
        }
    }

    fn buffered(&mut self) -> Result<Option<PgWireFrontendMessage>, End> {
        let Some(length) = self.frame_length()? else { return Ok(None) };
        if self.incoming.len() < length {
            self.incoming.reserve(length - self.incoming.len());
            return Ok(None);
        }
        let mut frame = self.incoming.split_to(length);
        let kind = frame[0];
        if !is_utf8(kind, &frame[5..]) {
            return Err(End::Fatal(SqlError::new(
                SqlState(*b"22021"),
                "invalid byte sequence for encoding \"UTF8\" in the query",
            )));
        }
        // The message's own fields may lie about their lengths; what pgwire then makes of it stays in here.
        let decoded = catch_unwind(AssertUnwindSafe(|| PgWireFrontendMessage::decode(&mut frame, &self.context)));
        match decoded {
            Ok(Ok(Some(message))) => Ok(Some(message)),
            _ => Err(violation(format!("malformed message of type 0x{kind:02x}"))),
        }
    }

    /// Waits for more bytes.
    async fn read(&mut self) -> Result<(), End> {
        match self.stream.read_buf(&mut self.incoming).await? {
            0 => Err(End::Closed),
            _ => Ok(()),
        }
    }

    /// Waits until this many bytes are here and shows them; for the start-up, whose packets have no type byte.
    pub async fn peek(&mut self, length: usize) -> Result<&[u8], End> {
        while self.incoming.len() < length {
            self.read().await?;
        }
        Ok(&self.incoming[..length])
    }

    /// Takes bytes that [`Connection::peek`] has shown.
    pub fn take(&mut self, length: usize) -> BytesMut {
        self.incoming.split_to(length)
    }

    pub fn skip(&mut self, length: usize) {
        self.incoming.advance(length);
    }

    /// Runs something while watching for the client's leaving. What the client sends meanwhile waits for its turn.
    pub async fn watch<T>(&mut self, work: impl Future<Output = T>) -> Result<T, End> {
        tokio::pin!(work);
        loop {
            let may_read = self.incoming.len() < READ_AHEAD;
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                read = self.stream.read_buf(&mut self.incoming), if may_read => {
                    if read? == 0 {
                        return Err(End::Closed);
                    }
                }
            }
        }
    }

    /// Appends a message to what will be sent.
    pub fn send(&mut self, message: &PgWireBackendMessage) -> Result<(), End> {
        self.scratch.clear();
        message.encode(&mut self.scratch).map_err(|error| {
            End::Fatal(SqlError::new(SqlState(*b"54000"), format!("the answer does not fit into a message: {error}")))
        })?;
        self.out.extend_from_slice(&self.scratch);
        Ok(())
    }

    pub fn send_error(&mut self, error: &SqlError, severity: Severity) -> Result<(), End> {
        self.send(&error_response(error, severity))
    }

    /// Sends if enough is waiting.
    pub async fn flush_if_full(&mut self) -> Result<(), End> {
        if self.out.len() < FLUSH_AT { Ok(()) } else { self.flush().await }
    }

    /// Sends everything that is waiting.
    pub async fn flush(&mut self) -> Result<(), End> {
        if !self.out.is_empty() {
            self.stream.write_all(&self.out).await?;
            self.out.clear();
            // One huge value must not hold its memory for the life of the connection.
            self.out.shrink_to(4 * FLUSH_AT);
        }
        Ok(self.stream.flush().await?)
    }

    /// Says why, as far as the client still listens, and hangs up.
    pub async fn close(mut self, why: Option<&SqlError>) {
        if let Some(error) = why {
            let told = self.send_error(error, Severity::Fatal);
            if told.is_ok() {
                let _ = self.flush().await;
            }
        }
        let _ = self.stream.shutdown().await;
    }
}

/// Whether the statement of a Query or Parse is UTF-8; pgwire would put other characters for what is not.
fn is_utf8(kind: u8, body: &[u8]) -> bool {
    let text = match kind {
        b'Q' => body,
        // A name and a statement, each with a zero byte behind it.
        b'P' => match memchr::memchr_iter(0, body).nth(1) {
            Some(end) => &body[..end],
            None => body,
        },
        _ => return true,
    };
    std::str::from_utf8(text).is_ok()
}

/// The client broke the protocol.
pub fn violation(message: impl Into<String>) -> End {
    End::Fatal(SqlError::new(SqlState::PROTOCOL_VIOLATION, message))
}
