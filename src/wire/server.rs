//! Accepts connections, within limits, and serves each in a task of its own until it ends or the server stops.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pgwire::messages::PgWireFrontendMessage;
use pgwire::messages::startup::SecretKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, End, violation};
use super::extended::Extended;
use super::simple;
use super::startup::{self, Greeting, Request};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::session::{Canceller, Session, SessionInfo};

/// Opens a session for a client that has been let in.
pub type OpenSession = Arc<dyn Fn(SessionInfo) -> SqlResult<Session> + Send + Sync>;

/// Limits of the listener.
#[derive(Debug, Clone)]
pub struct WireOptions {
    /// Conversations at a time; the next client is refused with 53300.
    pub max_connections: usize,
    /// A client that has not said who it is by then is dropped.
    pub startup_timeout: Duration,
    /// How long running statements have to end when the server stops.
    pub stop_timeout: Duration,
}

impl Default for WireOptions {
    fn default() -> Self {
        let (startup_timeout, stop_timeout) = (Duration::from_secs(10), Duration::from_secs(5));
        WireOptions { max_connections: 1_000, startup_timeout, stop_timeout }
    }
}

/// Sockets beyond the limit of conversations: clients to be refused, and cancel requests.
const SPARE_SOCKETS: usize = 64;

/// What all connections share.
pub struct Wire {
    open: OpenSession,
    options: WireOptions,
    places: Semaphore,
    running: Mutex<HashMap<i32, (SecretKey, Canceller)>>,
    next_pid: AtomicI32,
    stop: CancellationToken,
    accepted: AtomicU64,
    refused: AtomicU64,
}

impl Wire {
    pub fn new(open: OpenSession, options: WireOptions, stop: CancellationToken) -> Arc<Wire> {
        Arc::new(Wire {
            open,
            places: Semaphore::new(options.max_connections),
            options,
            running: Mutex::default(),
            next_pid: AtomicI32::new(1),
            stop,
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Conversations at this moment.
    pub fn connections(&self) -> usize {
        self.running().len()
    }

    /// Clients let in and clients turned away since the start.
    pub fn counts(&self) -> (u64, u64) {
        (self.accepted.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }

    fn running(&self) -> MutexGuard<'_, HashMap<i32, (SecretKey, Canceller)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops what a session runs, if the key is right. Whether it was is nobody's business.
    fn cancel(&self, pid: i32, key: &SecretKey) {
        if let Some((expected, canceller)) = self.running().get(&pid)
            && expected.eq_value(key)
        {
            canceller.cancel();
        }
    }

    fn cancel_all(&self) {
        self.running().values().for_each(|(_, canceller)| canceller.cancel());
    }
}

/// Serves a listener until the token of its [`Wire`] is cancelled, then lets every conversation end.
pub async fn serve(listener: TcpListener, wire: Arc<Wire>) {
    let mut conversations = JoinSet::new();
    let sockets = Arc::new(Semaphore::new(wire.options.max_connections + SPARE_SOCKETS));
    loop {
        tokio::select! {
            () = wire.stop.cancelled() => break,
            Some(ended) = conversations.join_next() => report(ended),
            accepted = accept(&listener, &sockets) => if let Some((stream, peer, place)) = accepted {
                conversations.spawn(converse(wire.clone(), stream, peer, place));
            },
        }
    }
    drop(listener);
    wire.cancel_all();
    let all_ended = async {
        while let Some(ended) = conversations.join_next().await {
            report(ended);
        }
    };
    if tokio::time::timeout(wire.options.stop_timeout, all_ended).await.is_err() {
        tracing::warn!("connections did not end in time; they are cut off");
    }
}

/// A panic ends its own connection and no other.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task has panicked; the connection is closed");
    }
}

async fn accept(
    listener: &TcpListener,
    sockets: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = sockets.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, place)),
        Err(error) => {
            // Out of file handles, most likely; others are being closed meanwhile.
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

/// One conversation from the first byte to the last.
async fn converse(wire: Arc<Wire>, stream: TcpStream, peer: SocketAddr, _place: OwnedSemaphorePermit) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "TCP_NODELAY");
    }
    let mut connection = Connection::new(stream);
    let first = tokio::time::timeout(wire.options.startup_timeout, startup::receive(&mut connection)).await;
    let end = match first {
        Err(_) => End::Io(io::Error::new(io::ErrorKind::TimedOut, "no start-up message in time")),
        Ok(Err(end)) => end,
        Ok(Ok(Request::Cancel(pid, key))) => {
            wire.cancel(pid, &key);
            End::Closed
        }
        Ok(Ok(Request::Talk(greeting))) => match talk(&wire, &mut connection, peer, &greeting).await {
            Err(end) => end,
            Ok(()) => End::Closed,
        },
    };
    match end {
        End::Closed => connection.close(None).await,
        End::Io(error) => {
            tracing::debug!(%peer, %error, "connection lost");
            connection.close(None).await;
        }
        End::Fatal(error) => {
            tracing::debug!(%peer, %error, "connection closed");
            // A client that does not read its farewell must not hold the task.
            let _ = tokio::time::timeout(Duration::from_secs(1), connection.close(Some(&error))).await;
        }
    }
}

/// Takes a session out of the list when its conversation ends, however it ends.
struct Listed<'a>(&'a Wire, i32);

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        if let Some((_, canceller)) = self.0.running().remove(&self.1) {
            canceller.cancel();
        }
    }
}

async fn talk(
    wire: &Wire,
    connection: &mut Connection<TcpStream>,
    peer: SocketAddr,
    greeting: &Greeting,
) -> Result<(), End> {
    let refuse = |error| {
        wire.refused.fetch_add(1, Ordering::Relaxed);
        End::Fatal(error)
    };
    startup::admit(peer.ip(), greeting.user()).map_err(refuse)?;
    let Ok(_place) = wire.places.try_acquire() else {
        return Err(refuse(
            SqlError::new(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already")
                .hint("Raise --max-connections, or use a connection pool."),
        ));
    };
    greeting.negotiate(connection)?;
    let pid = wire.next_pid.fetch_add(1, Ordering::Relaxed);
    let info = greeting.session_info(pid, peer.ip()).map_err(refuse)?;
    let mut session = (wire.open)(info).map_err(refuse)?;
    let key = greeting.secret_key();
    wire.running().insert(pid, (key.clone(), session.canceller()));
    let _listed = Listed(wire, pid);
    wire.accepted.fetch_add(1, Ordering::Relaxed);
    startup::greet(connection, &mut session, pid, key)?;
    connection.started();
    simple::ready(connection, &mut session).await?;
    exchange(wire, connection, &mut session).await
}

/// Message after message until one side ends it.
async fn exchange(wire: &Wire, connection: &mut Connection<TcpStream>, session: &mut Session) -> Result<(), End> {
    let mut extended = Extended::default();
    loop {
        let message = tokio::select! {
            biased;
            message = connection.receive() => message?,
            () = wire.stop.cancelled() => return Err(End::Fatal(stopping())),
        };
        match message {
            PgWireFrontendMessage::Query(query) => simple::query(connection, session, &query.query).await?,
            PgWireFrontendMessage::Terminate(_) => return Ok(()),
            // What is left of a COPY that has failed.
            PgWireFrontendMessage::CopyData(_)
            | PgWireFrontendMessage::CopyDone(_)
            | PgWireFrontendMessage::CopyFail(_) => {}
            message if message.is_extended_query() => extended.serve(connection, session, message).await?,
            _ => return Err(violation("unexpected message")),
        }
        if wire.stop.is_cancelled() {
            return Err(End::Fatal(stopping()));
        }
    }
}

fn stopping() -> SqlError {
    SqlError::new(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command")
}
