//! One connection, by the simple query protocol: every value as PostgreSQL's text.

use std::time::Duration;

use tokio_postgres::{NoTls, SimpleQueryMessage};

/// No statement of a test takes this long.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where a server listens.
#[derive(Clone, Debug)]
pub struct Address {
    pub port: u16,
    pub user: String,
    pub database: String,
}

pub struct Client {
    client: tokio_postgres::Client,
}

/// What a statement gave.
#[derive(Debug)]
pub enum Outcome {
    Rows {
        rows: Vec<Vec<String>>,
        /// The number in the command tag of the last statement.
        count: u64,
    },
    Refused(Refusal),
    /// The connection broke, or nothing came within the time.
    Lost(String),
}

/// What the server says when it cannot do something.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub code: String,
    /// Code and message, then detail, hint and position if there are any, in lines.
    pub text: String,
}

impl Client {
    pub async fn connect(address: &Address) -> Result<Self, String> {
        let config = format!(
            "host=127.0.0.1 port={} user={} dbname={} connect_timeout=10",
            address.port, address.user, address.database
        );
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.map_err(|error| chain(&error))?;
        tokio::spawn(async move {
            // A broken connection shows in the statement that waits for it.
            let _ = connection.await;
        });
        Ok(Self { client })
    }

    pub async fn run(&self, sql: &str) -> Outcome {
        match tokio::time::timeout(PATIENCE, self.client.simple_query(sql)).await {
            Err(_) => Outcome::Lost(format!("no answer within {} s", PATIENCE.as_secs())),
            Ok(Err(error)) => match error.as_db_error() {
                Some(refusal) => Outcome::Refused(refused(refusal)),
                None => Outcome::Lost(chain(&error)),
            },
            Ok(Ok(messages)) => answered(&messages),
        }
    }

    /// The rows of a query that must not fail.
    pub async fn rows(&self, sql: &str) -> Result<Vec<Vec<String>>, String> {
        match self.run(sql).await {
            Outcome::Rows { rows, .. } => Ok(rows),
            Outcome::Refused(refusal) => Err(format!("{sql}\n{}", refusal.text)),
            Outcome::Lost(reason) => Err(format!("{sql}\n{reason}")),
        }
    }
}

fn answered(messages: &[SimpleQueryMessage]) -> Outcome {
    let (mut rows, mut count) = (Vec::new(), 0);
    for message in messages {
        match message {
            SimpleQueryMessage::Row(row) => {
                let cell = |index| row.get(index).map_or_else(|| "NULL".to_owned(), shown);
                rows.push((0..row.len()).map(cell).collect());
            }
            SimpleQueryMessage::CommandComplete(number) => count = *number,
            _ => {}
        }
    }
    Outcome::Rows { rows, count }
}

/// A value in a line of an expected answer.
fn shown(text: &str) -> String {
    if text.is_empty() { "(empty)".to_owned() } else { text.to_owned() }
}

fn refused(error: &tokio_postgres::error::DbError) -> Refusal {
    let mut text = format!("{}: {}", error.code().code(), error.message());
    let position = match error.position() {
        Some(tokio_postgres::error::ErrorPosition::Original(position)) => Some(position.to_string()),
        _ => None,
    };
    let more = [("DETAIL", error.detail()), ("HINT", error.hint()), ("POSITION", position.as_deref())];
    for (name, value) in more.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        text.push_str(&format!("\n{name}: {value}"));
    }
    Refusal { code: error.code().code().to_owned(), text }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
