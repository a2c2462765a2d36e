//! How a running statement ends early: the client asks for it, its time is over, or its session is gone.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::{SqlError, SqlResult, SqlState};

/// Ends the statement that a session runs. Clones are for the same session; without a running statement nothing
/// happens.
#[derive(Clone, Default)]
pub struct Canceller(Arc<Mutex<CancellationToken>>);

impl Canceller {
    pub fn cancel(&self) {
        self.0.lock().expect("no holder of the token panics").cancel();
    }

    /// A guard for the next statement; a cancellation that came before does not concern it.
    pub(super) fn guard(&self, timeout: Option<Duration>) -> Guard {
        let token = CancellationToken::new();
        *self.0.lock().expect("no holder of the token panics") = token.clone();
        Guard { token, deadline: timeout.map(|timeout| Instant::now() + timeout) }
    }
}

impl Guard {
    /// Watches over nothing: for rows that later statements read under their own guards.
    pub fn none() -> Self {
        Guard { token: CancellationToken::new(), deadline: None }
    }
}

/// Watches over one statement.
#[derive(Clone)]
pub(super) struct Guard {
    token: CancellationToken,
    deadline: Option<Instant>,
}

impl Guard {
    /// Returns why the statement must end, when it must.
    pub async fn interrupted(&self) -> SqlError {
        let deadline = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.token.cancelled() => canceled("user request"),
            () = deadline => canceled("statement timeout"),
        }
    }

    /// Fails at once if the statement has been interrupted.
    pub fn check(&self) -> SqlResult<()> {
        match self.token.is_cancelled() {
            true => Err(canceled("user request")),
            false if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) => {
                Err(canceled("statement timeout"))
            }
            false => Ok(()),
        }
    }

    /// Runs something that may be dropped at any time.
    pub async fn run<T>(&self, work: impl Future<Output = SqlResult<T>>) -> SqlResult<T> {
        tokio::select! {
            biased;
            error = self.interrupted() => Err(error),
            result = work => result,
        }
    }

    /// The stream until the statement is interrupted; then one error and the end.
    pub fn stream<T: Send + 'static>(
        self,
        items: BoxStream<'static, SqlResult<T>>,
    ) -> BoxStream<'static, SqlResult<T>> {
        let guarded = stream::unfold(Some((items, self)), |state| async {
            let (mut items, guard) = state?;
            let next = tokio::select! {
                biased;
                error = guard.interrupted() => return Some((Err(error), None)),
                next = items.next() => next?,
            };
            let rest = next.is_ok().then_some((items, guard));
            Some((next, rest))
        });
        guarded.boxed()
    }
}

fn canceled(why: &str) -> SqlError {
    SqlError::new(SqlState::QUERY_CANCELED, format!("canceling statement due to {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cancellation_ends_the_running_statement_and_not_the_next() {
        let canceller = Canceller::default();
        let guard = canceller.guard(None);
        canceller.cancel();
        let error = guard.run(std::future::pending::<SqlResult<()>>()).await.expect_err("cancelled");
        assert_eq!(error.code, SqlState::QUERY_CANCELED);
        assert_eq!(canceller.guard(None).run(async { Ok(1) }).await, Ok(1));
    }

    #[tokio::test]
    async fn a_stream_ends_with_one_error_when_the_time_is_over() {
        let guard = Canceller::default().guard(Some(Duration::ZERO));
        let mut stream = guard.stream(stream::pending::<SqlResult<()>>().boxed());
        let error = stream.next().await.expect("an item").expect_err("timeout");
        assert_eq!(error.message, "canceling statement due to statement timeout");
        assert!(stream.next().await.is_none());
    }
}
