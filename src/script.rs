//! `headwater sql`: a script on an engine without a server, run to the end of its finite sources.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::Duration;

use crate::catalog::{Catalog, Relation, RelationKind};
use crate::engine::Engine;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::session::{Response, Session, SessionInfo, Severity};
use crate::sql;
use crate::table::{Print, print_rows};
use crate::zset::RelationId;

/// How long between two looks at sources that are not finished.
const LOOK: Duration = Duration::from_millis(2);

/// A statement that failed, and where in the script.
#[derive(Debug)]
pub struct Failure {
    pub error: SqlError,
    /// Line of the script, from 1, its text, and the column in it, from 1.
    pub place: Option<(usize, String, usize)>,
}

/// Runs the statements of a script in order and prints what they answer.
///
/// # Errors
/// The first statement that fails ends the script.
pub async fn run(engine: &Engine, text: &str, print: Print, out: &mut (dyn Write + Send)) -> Result<(), Failure> {
    let at_start = |error: SqlError| Failure { place: place(text, error.position), error };
    let info = SessionInfo { user: "headwater".into(), database: "dev".into(), ..SessionInfo::default() };
    let mut session = Session::new(engine.clone(), info).map_err(at_start)?;
    let (statements, mut data) = without_data(text);
    for parsed in sql::parse(&statements).map_err(at_start)? {
        // A statement without a position of its own is shown by its beginning.
        let failed =
            |error: SqlError| Failure { place: place(text, Some(parsed.offset + error.position.unwrap_or(1))), error };
        if reads(&parsed.text) {
            wait_for_sources(engine).await.map_err(failed)?;
        }
        statement(&mut session, &parsed.text, &mut data, print, out).await.map_err(failed)?;
    }
    // Sinks, too, get all that finite sources have.
    wait_for_sources(engine).await.map_err(at_start)
}

/// Takes the data of `COPY … FROM STDIN;` out of a script: the lines behind the statement's own up to `\\.`. In the
/// text blanks take its place, so that everything else stays where it is.
fn without_data(text: &str) -> (String, VecDeque<String>) {
    let (mut statements, mut all) = (String::with_capacity(text.len()), VecDeque::new());
    let mut begun = String::new();
    let mut data: Option<String> = None;
    for line in text.split_inclusive('\n') {
        if let Some(lines) = &mut data {
            let is_end = line.trim_end() == "\\.";
            if is_end {
                all.extend(data.take());
            } else {
                lines.push_str(line);
            }
            statements.extend(line.chars().map(|c| if c == '\n' { c } else { ' ' }));
            continue;
        }
        statements.push_str(line);
        begun.push_str(line);
        if line.trim_end().ends_with(';') {
            data = takes_data(&begun).then(String::new);
            begun.clear();
        }
    }
    all.extend(data);
    (statements, all)
}

/// Whether the text ends with a COPY that reads what follows.
fn takes_data(text: &str) -> bool {
    let last = text.trim().trim_end_matches(';').rsplit(';').next().unwrap_or_default().to_ascii_uppercase();
    let words: Vec<&str> =
        last.lines().filter(|line| !line.trim_start().starts_with("--")).flat_map(str::split_whitespace).collect();
    words.first() == Some(&"COPY") && words.windows(2).any(|pair| pair == ["FROM", "STDIN"])
}

async fn statement(
    session: &mut Session,
    text: &str,
    data: &mut VecDeque<String>,
    print: Print,
    out: &mut (dyn Write + Send),
) -> SqlResult<()> {
    let mut script = session.script(text)?;
    while let Some(response) = session.next(&mut script).await {
        tell_notices(session);
        match response? {
            Response::Rows(rows) => print_rows(rows, &session.text_style(), print, out).await?,
            Response::Command { tag } if print == Print::Aligned => writeln!(out, "{tag}").map_err(output_failed)?,
            Response::Command { .. } | Response::Empty => {}
            Response::CopyIn(mut copy) if !data.is_empty() => {
                let lines = data.pop_front().unwrap_or_default();
                if let Err(error) = copy.push(lines.as_bytes()) {
                    return Err(session.abort_copy(copy, error));
                }
                let tag = session.finish_copy(copy).await?;
                if print == Print::Aligned {
                    writeln!(out, "{tag}").map_err(output_failed)?;
                }
            }
            Response::CopyIn(copy) => {
                let error = SqlError::unsupported(
                    "COPY FROM STDIN has no data in the script",
                    "Write the rows behind it, and \\. in a line of its own after them; or read a file: COPY … FROM '/path', or CREATE TABLE … WITH (connector = 'file', path = '…').",
                );
                return Err(session.abort_copy(copy, error));
            }
            Response::CopyOut(mut copy) => {
                while let Some(rows) = copy.next().await {
                    out.write_all(&rows?.bytes).map_err(output_failed)?;
                }
            }
        }
    }
    tell_notices(session);
    out.flush().map_err(output_failed)
}

/// Notices go to stderr, so that the output holds results alone.
fn tell_notices(session: &mut Session) {
    for notice in session.notices() {
        let severity = match notice.severity {
            Severity::Notice => "NOTICE",
            Severity::Warning => "WARNING",
        };
        let _ = writeln!(io::stderr(), "{severity}:  {}", notice.message);
    }
}

pub(crate) fn output_failed(error: io::Error) -> SqlError {
    SqlError::new(SqlState::IO_ERROR, format!("cannot write the output: {error}"))
}

/// Whether a statement looks at rows. Definitions need not wait, so that sources are read side by side.
fn reads(text: &str) -> bool {
    let upper = text.to_ascii_uppercase();
    let mut words = upper.split_whitespace().filter(|word| !matches!(*word, "OR" | "REPLACE"));
    match (words.next().unwrap_or(""), words.next().unwrap_or("")) {
        ("CREATE", "TABLE") => !upper.contains("CONNECTOR"),
        ("CREATE" | "SET" | "RESET" | "BEGIN" | "START", _) => false,
        _ => true,
    }
}

/// Waits until everything that finite sources have has become visible.
async fn wait_for_sources(engine: &Engine) -> SqlResult<()> {
    loop {
        let published = engine.published();
        let mut waiting = false;
        for relation in published.catalog.relations().filter(|one| is_finite(one) && is_read(&published.catalog, one)) {
            let counters = engine.counters().of_source(relation.id);
            if counters.finished {
                continue;
            }
            if let Some(error) = counters.last_error {
                let message = format!("source \"{}\" cannot be read: {error}", relation.name);
                return Err(SqlError::new(SqlState::IO_ERROR, message));
            }
            waiting = true;
        }
        if !waiting {
            return Ok(());
        }
        tokio::select! {
            error = engine.failure() => return Err(error),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Whether a source comes to an end by itself.
fn is_finite(relation: &Relation) -> bool {
    let option = |names: &[&str]| names.iter().find_map(|name| relation.options.get(*name)).map(String::as_str);
    match relation.connector() {
        None => false,
        Some("datagen") => {
            option(&["datagen.rows", "number-of-rows"]).is_some_and(|rows| !rows.is_empty())
                || relation.options.keys().any(|name| name.starts_with("fields.") && name.ends_with(".end"))
        }
        Some("nexmark") => option(&["nexmark.event.num"]).is_some_and(|events| !matches!(events, "" | "-1")),
        Some(_) => relation.kind != RelationKind::Sink && option(&["mode"]) != Some("tail"),
    }
}

/// Whether anything reads it: tables are read by themselves, sources when a view or sink needs them.
fn is_read(catalog: &Catalog, relation: &Relation) -> bool {
    let kept = |id: RelationId| {
        catalog.get(id).is_some_and(|one| matches!(one.kind, RelationKind::MaterializedView | RelationKind::Sink))
    };
    match relation.kind {
        RelationKind::Table => true,
        RelationKind::Source => {
            let mut seen = vec![relation.id];
            let mut index = 0;
            while let Some(id) = seen.get(index).copied() {
                index += 1;
                for dependent in catalog.dependents(id) {
                    if kept(dependent) {
                        return true;
                    }
                    if !seen.contains(&dependent) {
                        seen.push(dependent);
                    }
                }
            }
            false
        }
        _ => false,
    }
}

/// Line, its text and column of a position in characters from 1.
fn place(text: &str, position: Option<usize>) -> Option<(usize, String, usize)> {
    let position = position?.saturating_sub(1);
    let mut begin = 0;
    for (number, line) in text.split('\n').enumerate() {
        let length = line.chars().count() + 1;
        if position < begin + length {
            return Some((number + 1, line.trim_end().to_string(), position - begin + 1));
        }
        begin += length;
    }
    None
}

impl Failure {
    /// In psql's form: the error, the line with a caret, detail and hint.
    pub fn print(&self, script: &str) -> String {
        let error = &self.error;
        let mut text = String::new();
        match &self.place {
            None => text.push_str(&format!("{script}: ERROR:  {}: {}", error.code.as_str(), error.message)),
            Some((line, shown, column)) => {
                text.push_str(&format!("{script}:{line}: ERROR:  {}: {}\n", error.code.as_str(), error.message));
                let prefix = format!("LINE {line}: ");
                text.push_str(&format!("{prefix}{shown}"));
                if error.position.is_some() {
                    text.push_str(&format!("\n{}^", " ".repeat(prefix.len() + column - 1)));
                }
            }
        }
        for (name, more) in [("DETAIL", &error.detail), ("HINT", &error.hint)] {
            if let Some(more) = more {
                text.push_str(&format!("\n{name}:  {more}"));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_shown_at_its_line() {
        let text = "SELECT 1;\nSELECT x\n  FROM t;";
        let error = SqlError::new(SqlState::UNDEFINED_COLUMN, "column \"x\" does not exist").at(8).hint("Try y.");
        let failure = Failure { place: place(text, Some(10 + 8)), error };
        assert_eq!(
            failure.print("job.sql"),
            "job.sql:2: ERROR:  42703: column \"x\" does not exist\nLINE 2: SELECT x\n               ^\nHINT:  Try y."
        );
        assert_eq!(place(text, Some(100)), None);
    }

    #[test]
    fn the_data_of_a_copy_is_taken_out_and_everything_stays_in_its_place() {
        let text = "COPY t (a, b)\nFROM STDIN;\n1\tx;\n2\t\\N\n\\.\nSELECT 1;\n-- COPY t FROM STDIN\nSELECT 2;\n";
        let (statements, data) = without_data(text);
        assert_eq!(data, ["1\tx;\n2\t\\N\n"]);
        assert_eq!(statements.chars().count(), text.chars().count());
        assert_eq!(statements.find("SELECT 1"), text.find("SELECT 1"));
        assert_eq!(sql::parse(&statements).expect("only statements are left").len(), 3);
        assert!(without_data("COPY t TO STDOUT;\nSELECT 1;").1.is_empty());
    }

    #[test]
    fn only_definitions_do_not_wait() {
        for text in
            ["CREATE SOURCE s", "create or replace view v", "CREATE TABLE t WITH (connector='file')", "SET x = 1"]
        {
            assert!(!reads(text), "{text}");
        }
        for text in
            ["SELECT 1", "CREATE TABLE t AS SELECT 1", "COPY t TO '/x'", "-- comment\nSELECT 1", "INSERT INTO t"]
        {
            assert!(reads(text), "{text}");
        }
    }
}
