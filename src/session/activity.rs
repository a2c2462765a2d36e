//! The sessions of this process: what `pg_stat_activity` shows and `pg_cancel_backend` reaches.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::cancel::Canceller;

/// One session as others see it.
#[derive(Debug, Clone, Default)]
pub struct Activity {
    pub pid: i32,
    pub user: String,
    pub database: String,
    pub application_name: String,
    pub client: String,
    /// Microseconds since 1970.
    pub connected_at: i64,
    /// `active`, `idle`, `idle in transaction` and the like.
    pub state: &'static str,
    pub query: String,
    /// Microseconds since 1970; 0 before the first statement.
    pub query_at: i64,
}

struct Entry {
    activity: Arc<Mutex<Activity>>,
    canceller: Canceller,
}

static SESSIONS: Mutex<BTreeMap<u64, Entry>> = Mutex::new(BTreeMap::new());

/// A session's place in the list; it leaves the list when this is dropped.
pub struct Registered {
    id: u64,
    activity: Arc<Mutex<Activity>>,
}

pub fn register(activity: Activity, canceller: Canceller) -> Registered {
    let activity = Arc::new(Mutex::new(activity));
    let mut sessions = SESSIONS.lock().unwrap_or_else(PoisonError::into_inner);
    let id = sessions.last_key_value().map_or(0, |(id, _)| id + 1);
    sessions.insert(id, Entry { activity: activity.clone(), canceller });
    Registered { id, activity }
}

impl Registered {
    pub fn update(&self, change: impl FnOnce(&mut Activity)) {
        change(&mut self.activity.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        SESSIONS.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// All sessions, the oldest first.
pub fn list() -> Vec<Activity> {
    let sessions = SESSIONS.lock().unwrap_or_else(PoisonError::into_inner);
    let copy = |entry: &Entry| entry.activity.lock().unwrap_or_else(PoisonError::into_inner).clone();
    sessions.values().map(copy).collect()
}

/// Cancels what the session with this process id runs; false if there is none.
pub fn cancel(pid: i32) -> bool {
    let sessions = SESSIONS.lock().unwrap_or_else(PoisonError::into_inner);
    let is_asked = |entry: &&Entry| entry.activity.lock().unwrap_or_else(PoisonError::into_inner).pid == pid;
    let found = sessions.values().find(is_asked);
    found.inspect(|entry| entry.canceller.cancel()).is_some()
}
