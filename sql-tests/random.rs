//! Random tables, views and changes from a seed: after a step each view equals its query, and what PostgreSQL gives.
//!
//! PostgreSQL takes part in a third of the cases if it is installed; it must agree on every answer that SQL does not
//! leave open, and on every refusal. A debug build plans slowly, so a view that a step may have changed is compared in
//! one step of four, and in the last; `--thorough` compares it in every step. Every tenth case is played with one, two
//! and four workers, which must end with the same rows. What fails is played again in ever smaller pieces
//! (`shrink.rs`), and the smallest that fails is printed.

mod queries;
mod scalars;
mod shrink;
mod tables;

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::Verdict;
use crate::client::{Client, Outcome};
use crate::needs;
use crate::options::Options;
use crate::server::{Server, postgres_database};
use crate::views;
use queries::Query;
use tables::{Change, Relation};

/// Steps of one case.
const STEPS: usize = 20;
/// Views of one case.
const VIEWS: usize = 25;
/// Levels of queries in queries.
const DEPTH: u32 = 3;
/// So many rows are enough for a table.
const ROWS_MAX: u64 = 20;
/// A case that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(600);
/// Workers that must come to the same rows.
const WORKERS: [usize; 3] = [1, 2, 4];
/// How often a view is compared that is not compared always.
const SHARE: f64 = 0.25;

pub fn seeds(options: &Options) -> Vec<u64> {
    (options.seed..options.seed + options.seeds).collect()
}

pub fn run(seed: u64, workers: usize, thorough: bool) -> Verdict {
    let postgres = needs::missing(&["postgres".to_owned()]);
    if let Some(missing) = postgres.as_ref().filter(|_| needs::required()) {
        return Verdict::Failed(missing.clone());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("threads can be made");
    let with_postgres = postgres.is_none() && seed.is_multiple_of(3);
    let outcome = match seed % 10 {
        0 => runtime.block_on(all_alike(seed, thorough, with_postgres)),
        _ => runtime.block_on(play(seed, workers, thorough, with_postgres)).map(drop),
    };
    match outcome {
        Ok(()) => Verdict::Passed,
        Err(reason) => Verdict::Failed(reason),
    }
}

/// The same case with several numbers of workers, PostgreSQL looking on at the first.
async fn all_alike(seed: u64, thorough: bool, with_postgres: bool) -> Result<(), String> {
    let first = play(seed, WORKERS[0], thorough, with_postgres).await?;
    for workers in &WORKERS[1..] {
        let other = play(seed, *workers, thorough, false).await?;
        for ((name, one), (_, two)) in first.iter().zip(&other) {
            if one != two {
                let difference = views::difference(one, two);
                return Err(format!("{name} has other rows with {workers} workers (\"the query\")\n{difference}"));
            }
        }
    }
    Ok(())
}

/// Plays a case; the rows of each relation at its end.
async fn play(
    seed: u64,
    workers: usize,
    thorough: bool,
    with_postgres: bool,
) -> Result<Vec<(String, Vec<String>)>, String> {
    let mut case = Case::start(seed, workers, with_postgres).await?;
    case.thorough = thorough;
    let outcome = tokio::time::timeout(PATIENCE, case.play()).await.unwrap_or_else(|_| Err("the case hangs".into()));
    match outcome {
        Ok(()) => case.contents().await,
        Err(reason) => {
            let smaller = match case.suspect.take() {
                Some(suspect) => shrink::shrink(&case.story, &suspect, case.postgres.is_some(), workers).await,
                None => None,
            };
            let story = match smaller {
                Some(smaller) => format!("The smallest that fails:\n{smaller}"),
                None => case.story.iter().map(|event| format!("{};\n", event.sql())).collect(),
            };
            Err(format!("{reason}\n\n{story}\n{}", case.server.last_words()))
        }
    }
}

/// What happened in a case, in its order.
#[derive(Clone)]
enum Event {
    Table {
        sql: String,
    },
    View {
        name: String,
        sql: String,
        parts: Vec<String>,
    },
    Change(Change),
    /// Has no part in a smaller story: BEGIN and its like, kills, and statements that were refused or rolled back.
    Other(String),
}

impl Event {
    fn sql(&self) -> String {
        match self {
            Event::View { name, sql, .. } => format!("CREATE MATERIALIZED VIEW {name} AS {sql}"),
            Event::Change(change) => change.sql(),
            Event::Table { sql } | Event::Other(sql) => sql.clone(),
        }
    }
}

/// What is wrong with a view.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It is not its query.
    Law,
    /// PostgreSQL finds other rows.
    Postgres,
    /// It is refused, though there is nothing wrong with it.
    Refusal,
}

/// The view that was found wrong.
struct Suspect {
    name: String,
    fault: Fault,
}

/// A view with its query.
struct View {
    relation: Relation,
    sql: String,
}

struct Case {
    random: SmallRng,
    server: Server,
    client: Client,
    postgres: Option<Client>,
    tables: Vec<Relation>,
    /// About how many rows each table has.
    rows: Vec<u64>,
    views: Vec<View>,
    /// All statements so far, to be replayed.
    story: Vec<Event>,
    suspect: Option<Suspect>,
    /// Whether every view is compared in every step.
    thorough: bool,
}

impl Case {
    async fn start(seed: u64, workers: usize, with_postgres: bool) -> Result<Self, String> {
        let server = Server::start(workers).await?;
        let client = Client::connect(&server.address()).await?;
        let postgres = match with_postgres {
            true => Some(Client::connect(&postgres_database().await?).await?),
            false => None,
        };
        let random = SmallRng::seed_from_u64(seed);
        let (tables, rows, views, story) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Ok(Self { random, server, client, postgres, tables, rows, views, story, suspect: None, thorough: false })
    }

    async fn play(&mut self) -> Result<(), String> {
        for index in 0..self.random.random_range(2..=4) {
            let table = Relation::random_table(&mut self.random, index);
            self.must(Event::Table { sql: table.create() }).await?;
            self.tables.push(table);
            self.rows.push(0);
        }
        for step in 0..STEPS {
            // Half of the views are there before the data, the others find some.
            let due = if step == 0 { VIEWS / 2 } else { 1 };
            for _ in 0..due.min(VIEWS - self.views.len()) {
                self.create_view().await?;
            }
            let changed = self.change().await?;
            if self.random.random_bool(0.05) {
                self.crash().await?;
            }
            let is_last = step + 1 == STEPS;
            let changed = if is_last { self.names_of_tables() } else { changed };
            self.check(changed, self.thorough || is_last, step as u64)
                .await
                .map_err(|reason| format!("after step {step}: {reason}"))?;
        }
        if self.server.has_panicked() {
            return Err("something in the server panicked".to_owned());
        }
        Ok(())
    }

    fn names_of_tables(&self) -> Vec<String> {
        self.tables.iter().map(|table| table.name.clone()).collect()
    }

    async fn create_view(&mut self) -> Result<(), String> {
        let views = self.views.iter().map(|view| &view.relation).filter(|relation| relation.size < 3);
        let relations: Vec<Relation> = self.tables.iter().chain(&self.tables).chain(views).cloned().collect();
        let select = Query::over(&mut self.random, relations).write(DEPTH);
        let (name, sql) = (format!("v{}", self.views.len()), select.sql);
        self.suspect = Some(Suspect { name: name.clone(), fault: Fault::Refusal });
        self.must(Event::View { name: name.clone(), sql: sql.clone(), parts: select.parts }).await?;
        self.suspect = None;
        let relation = Relation { name, columns: select.columns, keyed: false, size: select.size, open: select.open };
        self.views.push(View { relation, sql });
        Ok(())
    }

    /// Changes some tables; gives their names.
    async fn change(&mut self) -> Result<Vec<String>, String> {
        let in_transaction = self.random.random_bool(0.25);
        if in_transaction {
            self.must(Event::Other("BEGIN".to_owned())).await?;
        }
        let (mut changed, begun) = (Vec::new(), self.story.len());
        for _ in 0..self.random.random_range(1..=3) {
            let place = self.random.random_range(0..self.tables.len());
            let table = self.tables[place].clone();
            let change = table.random_change(&mut self.random, self.rows[place] > ROWS_MAX);
            let sql = change.sql();
            match self.run(Event::Change(change)).await? {
                Some(count) if sql.starts_with("INSERT") => self.rows[place] += count,
                Some(count) if sql.starts_with("DELETE") => {
                    self.rows[place] = self.rows[place].saturating_sub(count);
                }
                Some(_) => {}
                None if in_transaction => {
                    self.forget(begun);
                    self.must(Event::Other("ROLLBACK".to_owned())).await?;
                    return Ok(Vec::new());
                }
                None => {}
            }
            changed.push(table.name);
        }
        if in_transaction {
            let end = if self.random.random_bool(0.8) { "COMMIT" } else { "ROLLBACK" };
            if end == "ROLLBACK" {
                self.forget(begun);
            }
            self.must(Event::Other(end.to_owned())).await?;
        }
        Ok(changed)
    }

    /// Changes since then were taken back.
    fn forget(&mut self, begun: usize) {
        self.story[begun..].iter_mut().for_each(|event| *event = Event::Other(event.sql()));
    }

    async fn crash(&mut self) -> Result<(), String> {
        self.story.push(Event::Other("-- kill -9, and start again".to_owned()));
        self.server.kill();
        self.server.restart().await?;
        self.client = Client::connect(&self.server.address()).await?;
        Ok(())
    }

    async fn must(&mut self, event: Event) -> Result<(), String> {
        let sql = event.sql();
        match self.run(event).await? {
            Some(_) => Ok(()),
            None => Err(format!("refused: {sql}")),
        }
    }

    /// Runs a statement here and on PostgreSQL, which must agree. `None` if it is refused for the data's sake, else how
    /// many rows it touched.
    async fn run(&mut self, event: Event) -> Result<Option<u64>, String> {
        let sql = event.sql();
        self.story.push(event);
        let here = summary(self.client.run(&sql).await)?;
        if let Some(postgres) = &self.postgres {
            let there = summary(postgres.run(&sql.replace("MATERIALIZED VIEW", "VIEW")).await)?;
            if here != there {
                return Err(format!("{sql}\nhere {here:?}, on PostgreSQL {there:?}"));
            }
        }
        match here {
            Summary::Done(count) => Ok(Some(count)),
            Summary::Refused(code, _) if code.starts_with('2') => {
                self.forget(self.story.len() - 1);
                Ok(None)
            }
            Summary::Refused(_, text) => Err(format!("{sql}\nrefused with {text}")),
        }
    }

    /// Compares what changed tables may have changed.
    async fn check(&mut self, mut changed: Vec<String>, all: bool, step: u64) -> Result<(), String> {
        // The choice must not depend on who else takes part.
        let mut choice = SmallRng::seed_from_u64(step);
        for table in self.tables.iter().filter(|table| changed.contains(&table.name)) {
            self.check_by_postgres(&table.name).await?;
        }
        for view in &self.views {
            if !changed.iter().any(|name| mentions(&view.sql, name)) {
                continue;
            }
            let name = view.relation.name.clone();
            changed.push(name.clone());
            if !all && !choice.random_bool(SHARE) {
                continue;
            }
            if let Err(reason) = check_view(&self.client, &name, &view.sql).await {
                self.suspect = Some(Suspect { name, fault: Fault::Law });
                return Err(reason);
            }
            if !view.relation.open
                && let Err(reason) = self.check_by_postgres(&name).await
            {
                self.suspect = Some(Suspect { name, fault: Fault::Postgres });
                return Err(format!("{reason}\n{}", view.sql));
            }
        }
        Ok(())
    }

    async fn check_by_postgres(&self, name: &str) -> Result<(), String> {
        match &self.postgres {
            Some(postgres) => check_by_postgres(&self.client, postgres, name).await,
            None => Ok(()),
        }
    }

    async fn contents(&self) -> Result<Vec<(String, Vec<String>)>, String> {
        let mut found = Vec::new();
        for relation in self.tables.iter().chain(self.views.iter().map(|view| &view.relation)) {
            let rows = views::read(&self.client, &format!("SELECT * FROM {}", relation.name)).await?;
            found.push((relation.name.clone(), rows));
        }
        Ok(found)
    }
}

/// Whether a text has a name as a word.
fn mentions(sql: &str, name: &str) -> bool {
    sql.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|word| word == name)
}

async fn check_view(client: &Client, name: &str, sql: &str) -> Result<(), String> {
    let view = views::read(client, &format!("SELECT * FROM {name}")).await?;
    let query = views::read(client, sql).await?;
    if view == query {
        return Ok(());
    }
    Err(format!("the view {name} is not its query\n{sql}\n{}", views::difference(&view, &query)))
}

async fn check_by_postgres(client: &Client, postgres: &Client, name: &str) -> Result<(), String> {
    let sql = format!("SELECT * FROM {name}");
    let (here, there) = (views::read(client, &sql).await?, views::read(postgres, &sql).await?);
    // A materialized view is in error as long as a row of it is; PostgreSQL's views look only at what is asked for.
    if here == there || views::is_data_error(&here) {
        return Ok(());
    }
    Err(format!("{name} is not what PostgreSQL (\"the query\") gives\n{}", views::difference(&here, &there)))
}

#[derive(Debug, PartialEq)]
enum Summary {
    /// How many rows a change touched.
    Done(u64),
    Refused(String, Said),
}

/// The text of a refusal, which systems need not have in common.
struct Said(String);

impl PartialEq for Said {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl std::fmt::Debug for Said {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn summary(outcome: Outcome) -> Result<Summary, String> {
    match outcome {
        Outcome::Rows { count, .. } => Ok(Summary::Done(count)),
        Outcome::Refused(refusal) if refusal.code.starts_with("XX") || refusal.code.starts_with('0') => {
            Err(refusal.text)
        }
        Outcome::Refused(refusal) => Ok(Summary::Refused(refusal.code, Said(refusal.text))),
        Outcome::Lost(reason) => Err(reason),
    }
}
