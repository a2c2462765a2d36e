//! Random tables, views and changes from a seed: after every step each view equals its query, and what PostgreSQL gives.
//!
//! PostgreSQL takes part if it is installed; it must agree on every answer and on every refusal.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::Verdict;
use crate::client::{Client, Outcome};
use crate::needs;
use crate::options::Options;
use crate::server::{Server, postgres_database};
use crate::views;

/// Steps of one case.
const STEPS: usize = 20;
/// Views of one case.
const VIEWS: usize = 10;
/// A case that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(600);

pub fn seeds(options: &Options) -> Vec<u64> {
    (options.seed..options.seed + options.seeds).collect()
}

pub fn run(seed: u64, workers: usize) -> Verdict {
    let postgres = needs::missing(&["postgres".to_owned()]);
    if let Some(missing) = postgres.as_ref().filter(|_| needs::required()) {
        return Verdict::Failed(missing.clone());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("threads can be made");
    let case = async {
        let mut case = Case::start(seed, workers, postgres.is_none()).await?;
        let outcome =
            tokio::time::timeout(PATIENCE, case.play()).await.unwrap_or_else(|_| Err("the case hangs".into()));
        outcome.map_err(|reason| format!("{reason}\n\n{}\n{}", case.story.join(";\n"), case.server.last_words()))
    };
    match runtime.block_on(case) {
        Ok(()) => Verdict::Passed,
        Err(reason) => Verdict::Failed(reason),
    }
}

struct Case {
    random: SmallRng,
    server: Server,
    client: Client,
    postgres: Option<Client>,
    tables: Vec<Relation>,
    views: Vec<Relation>,
    /// All statements so far, to be replayed by hand.
    story: Vec<String>,
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
        Ok(Self { random, server, client, postgres, tables: vec![], views: vec![], story: vec![] })
    }

    async fn play(&mut self) -> Result<(), String> {
        for index in 0..self.random.random_range(2..=4) {
            let table = Relation::random_table(&mut self.random, index);
            self.must(&table.create()).await?;
            self.tables.push(table);
        }
        for step in 0..STEPS {
            // Half of the views are there before the data, the others find some.
            let due = if step == 0 { VIEWS / 2 } else { usize::from(step % 4 == 0) };
            for _ in 0..due.min(VIEWS - self.views.len()) {
                self.create_view().await?;
            }
            self.change().await?;
            if self.random.random_bool(0.05) {
                self.crash().await?;
            }
            self.check().await.map_err(|reason| format!("after step {step}: {reason}"))?;
        }
        if self.server.has_panicked() {
            return Err("something in the server panicked".to_owned());
        }
        Ok(())
    }

    async fn create_view(&mut self) -> Result<(), String> {
        let relations: Vec<Relation> = self.tables.iter().chain(&self.views).cloned().collect();
        let (sql, columns) = Query { random: &mut self.random, relations: &relations }.select();
        let name = format!("v{}", self.views.len());
        self.must(&format!("CREATE MATERIALIZED VIEW {name} AS {sql}")).await?;
        self.views.push(Relation { name, columns, keyed: false });
        Ok(())
    }

    async fn change(&mut self) -> Result<(), String> {
        let in_transaction = self.random.random_bool(0.25);
        if in_transaction {
            self.must("BEGIN").await?;
        }
        for _ in 0..self.random.random_range(1..=3) {
            let table = self.tables.choose(&mut self.random).expect("there are tables").clone();
            let sql = table.random_change(&mut self.random);
            if !self.run(&sql).await? && in_transaction {
                return self.must("ROLLBACK").await;
            }
        }
        if in_transaction {
            let end = if self.random.random_bool(0.8) { "COMMIT" } else { "ROLLBACK" };
            self.must(end).await?;
        }
        Ok(())
    }

    async fn crash(&mut self) -> Result<(), String> {
        self.story.push("-- kill -9, and start again".to_owned());
        self.server.kill();
        self.server.restart().await?;
        self.client = Client::connect(&self.server.address()).await?;
        Ok(())
    }

    async fn must(&mut self, sql: &str) -> Result<(), String> {
        match self.run(sql).await? {
            true => Ok(()),
            false => Err(format!("refused: {sql}")),
        }
    }

    /// Runs a statement here and on PostgreSQL, which must agree. False if it is refused for the data's sake.
    async fn run(&mut self, sql: &str) -> Result<bool, String> {
        self.story.push(sql.to_owned());
        let here = summary(self.client.run(sql).await)?;
        if let Some(postgres) = &self.postgres {
            let there = summary(postgres.run(&sql.replace("MATERIALIZED VIEW", "VIEW")).await)?;
            if here != there {
                return Err(format!("{sql}\nhere {here:?}, on PostgreSQL {there:?}"));
            }
        }
        match here {
            Summary::Done(_) => Ok(true),
            Summary::Refused(code) if code.starts_with('2') => Ok(false),
            Summary::Refused(code) => Err(format!("{sql}\nrefused with {code}")),
        }
    }

    async fn check(&self) -> Result<(), String> {
        views::check_all(&self.client).await?;
        let Some(postgres) = &self.postgres else { return Ok(()) };
        for relation in self.tables.iter().chain(&self.views) {
            let sql = format!("SELECT * FROM {}", relation.name);
            let (here, there) = (views::read(&self.client, &sql).await?, views::read(postgres, &sql).await?);
            // A materialized view is in error as long as a row of it is; PostgreSQL's views look only at what is asked for.
            if here != there && !views::is_data_error(&here) {
                let difference = views::difference(&here, &there);
                return Err(format!("{} is not what PostgreSQL (\"the query\") gives\n{difference}", relation.name));
            }
        }
        Ok(())
    }
}

#[derive(Debug, PartialEq)]
enum Summary {
    /// How many rows a change touched.
    Done(u64),
    Refused(String),
}

fn summary(outcome: Outcome) -> Result<Summary, String> {
    match outcome {
        Outcome::Rows { count, .. } => Ok(Summary::Done(count)),
        Outcome::Refused(refusal) if refusal.code.starts_with("XX") || refusal.code.starts_with('0') => {
            Err(refusal.text)
        }
        Outcome::Refused(refusal) => Ok(Summary::Refused(refusal.code)),
        Outcome::Lost(reason) => Err(reason),
    }
}

/// The types of random columns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Int,
    Big,
    Num,
    Text,
    Bool,
    Date,
    Float,
    Interval,
    /// A quotient: engines round it at different digits, so it is shown and not computed with.
    Approximate,
}

const KINDS: [Kind; 8] =
    [Kind::Int, Kind::Big, Kind::Num, Kind::Text, Kind::Bool, Kind::Date, Kind::Float, Kind::Interval];

/// With values that are equal in other bits.
const FLOATS: [&str; 6] = ["0", "-0", "NaN", "1.5", "-2.25", "4"];
const INTERVALS: [&str; 6] = ["1 month", "30 days", "29 days 24:00", "35 days", "1 month 1 day", "-00:30"];

impl Kind {
    fn sql(self) -> &'static str {
        match self {
            Kind::Int => "INT",
            Kind::Big => "BIGINT",
            Kind::Num | Kind::Approximate => "NUMERIC(12,2)",
            Kind::Text => "TEXT",
            Kind::Bool => "BOOLEAN",
            Kind::Date => "DATE",
            Kind::Float => "FLOAT8",
            Kind::Interval => "INTERVAL",
        }
    }

    /// From few values, so that groups and joins have something to meet.
    fn literal(self, random: &mut SmallRng) -> String {
        match self {
            Kind::Int => random.random_range(-3..12).to_string(),
            Kind::Big => format!("{}::bigint", random.random_range(0..12) * 1_000_000_007i64),
            Kind::Num | Kind::Approximate => {
                format!("{}.{:02}", random.random_range(0..20), random.random_range(0..4) * 25)
            }
            Kind::Text => format!(
                "'{}'",
                ["", "a", "b", "Ab", "äöü", "a longer text than twelve bytes"].choose(random).expect("some")
            ),
            Kind::Bool => random.random_bool(0.5).to_string(),
            Kind::Date => format!("DATE '2024-02-{:02}'", random.random_range(25..=29)),
            Kind::Float => format!("'{}'::float8", FLOATS.choose(random).expect("some")),
            Kind::Interval => format!("INTERVAL '{}'", INTERVALS.choose(random).expect("some")),
        }
    }

    fn value(self, random: &mut SmallRng) -> String {
        if random.random_bool(0.15) { "NULL".to_owned() } else { self.literal(random) }
    }
}

/// A value of which equal ones are shown alike, where an engine is free to choose which of them it shows.
fn shown(kind: Kind, value: String) -> (String, Kind) {
    match kind {
        Kind::Float => (format!("{value} + 0"), kind),
        Kind::Interval => (format!("extract(epoch FROM {value})"), Kind::Approximate),
        _ => (value, kind),
    }
}

#[derive(Clone)]
struct Column {
    name: String,
    kind: Kind,
}

#[derive(Clone)]
struct Relation {
    name: String,
    columns: Vec<Column>,
    /// Whether the first column is a primary key.
    keyed: bool,
}

impl Relation {
    fn random_table(random: &mut SmallRng, index: usize) -> Self {
        let keyed = random.random_bool(0.5);
        let mut columns: Vec<Column> = (0..random.random_range(2..=5))
            .map(|column| Column { name: format!("x{column}"), kind: *KINDS.choose(random).expect("there are kinds") })
            .collect();
        if keyed {
            columns.insert(0, Column { name: "id".to_owned(), kind: Kind::Int });
        }
        Self { name: format!("t{index}"), columns, keyed }
    }

    fn create(&self) -> String {
        let column = |(index, column): (usize, &Column)| {
            let key = if self.keyed && index == 0 { " PRIMARY KEY" } else { "" };
            format!("{} {}{key}", column.name, column.kind.sql())
        };
        let columns: Vec<String> = self.columns.iter().enumerate().map(column).collect();
        format!("CREATE TABLE {} ({})", self.name, columns.join(", "))
    }

    fn random_change(&self, random: &mut SmallRng) -> String {
        match random.random_range(0..10) {
            0..5 => self.random_insert(random),
            5..8 => self.random_update(random),
            _ => {
                let scope = self.scope("");
                format!("DELETE FROM {} WHERE {}", self.name, predicate(random, &scope, 2))
            }
        }
    }

    fn random_insert(&self, random: &mut SmallRng) -> String {
        let first = random.random_range(0..40);
        let row = |random: &mut SmallRng, index: usize| {
            let cell = |(place, column): (usize, &Column)| match self.keyed && place == 0 {
                true => (first + index).to_string(),
                false => column.kind.value(random),
            };
            let cells: Vec<String> = self.columns.iter().enumerate().map(cell).collect();
            format!("({})", cells.join(", "))
        };
        let rows: Vec<String> = (0..random.random_range(1..=6)).map(|index| row(random, index)).collect();
        let conflict = match (self.keyed, random.random_range(0..3)) {
            (true, 0) => " ON CONFLICT (id) DO NOTHING".to_owned(),
            (true, 1) => {
                let name = &self.columns[1].name;
                format!(" ON CONFLICT (id) DO UPDATE SET {name} = excluded.{name}")
            }
            _ => String::new(),
        };
        format!("INSERT INTO {} VALUES {}{conflict}", self.name, rows.join(", "))
    }

    fn random_update(&self, random: &mut SmallRng) -> String {
        let scope = self.scope("");
        let column = self.columns[usize::from(self.keyed)..].choose(random).expect("more columns than the key");
        let value = scalar(random, &scope, column.kind, 1);
        format!("UPDATE {} SET {} = {value} WHERE {}", self.name, column.name, predicate(random, &scope, 2))
    }

    /// The columns as expressions may name them.
    fn scope(&self, alias: &str) -> Vec<Column> {
        let prefix = if alias.is_empty() { String::new() } else { format!("{alias}.") };
        let column = |column: &Column| Column { name: format!("{prefix}{}", column.name), kind: column.kind };
        self.columns.iter().map(column).collect()
    }
}

fn columns_of(scope: &[Column], kind: Kind) -> Vec<&Column> {
    scope.iter().filter(|column| column.kind == kind).collect()
}

/// An expression of a kind.
fn scalar(random: &mut SmallRng, scope: &[Column], kind: Kind, depth: u32) -> String {
    let columns = columns_of(scope, kind);
    let Some(column) = columns.choose(random).map(|column| column.name.clone()) else { return kind.literal(random) };
    if depth == 0 || random.random_bool(0.5) {
        return column;
    }
    let mut inner = |kind| scalar(random, scope, kind, depth - 1);
    let one = inner(kind);
    let other = inner(kind);
    let choice = random.random_range(0..5);
    match (kind, choice) {
        (Kind::Approximate, _) => column,
        (_, 0) => format!("coalesce({one}, {})", kind.literal(random)),
        (_, 1) => format!("CASE WHEN {} THEN {one} ELSE {other} END", predicate(random, scope, depth - 1)),
        (Kind::Int | Kind::Big | Kind::Num | Kind::Float | Kind::Interval, 2) => format!("({one} + {other})"),
        (Kind::Float | Kind::Interval, _) => format!("(- {one})"),
        (Kind::Int | Kind::Num, 3) => format!("({one} * 2)"),
        (Kind::Int | Kind::Big | Kind::Num, _) => format!("({one} - {})", kind.literal(random)),
        (Kind::Text, 2) => format!("upper({one})"),
        (Kind::Text, 3) => format!("({one} || {})", kind.literal(random)),
        (Kind::Text, _) => format!("nullif({one}, {})", kind.literal(random)),
        (Kind::Bool, _) => format!("({})", predicate(random, scope, depth - 1)),
        (Kind::Date, _) => format!("({one} + 1)"),
    }
}

fn predicate(random: &mut SmallRng, scope: &[Column], depth: u32) -> String {
    if depth > 0 && random.random_bool(0.3) {
        let (one, other) = (predicate(random, scope, depth - 1), predicate(random, scope, depth - 1));
        return match random.random_range(0..3) {
            0 => format!("({one} AND {other})"),
            1 => format!("({one} OR {other})"),
            _ => format!("NOT ({one})"),
        };
    }
    let usable: Vec<&Column> = scope.iter().filter(|column| column.kind != Kind::Approximate).collect();
    let Some(column) = usable.choose(random) else { return "true".to_owned() };
    let (name, kind) = (&column.name, column.kind);
    let literal = kind.literal(random);
    match random.random_range(0..7) {
        0 if kind == Kind::Int => format!("({name} <> 0 AND 12 / {name} > 2)"),
        1 if kind == Kind::Int => format!("({name} = 0 OR 12 / {name} > 2)"),
        0 => format!("{name} IS NULL"),
        1 => format!("{name} IS NOT NULL"),
        2 => format!("{name} IN ({literal}, {})", kind.literal(random)),
        3 => format!("{name} IS DISTINCT FROM {literal}"),
        4 if kind == Kind::Text => format!("{name} LIKE 'a%'"),
        4 if kind == Kind::Bool => name.clone(),
        _ => {
            let operator = ["=", "<>", "<", "<=", ">", ">="].choose(random).expect("some");
            format!("{name} {operator} {literal}")
        }
    }
}

/// Writes random queries over some relations.
struct Query<'a> {
    random: &'a mut SmallRng,
    relations: &'a [Relation],
}

impl Query<'_> {
    /// A query, and the columns of its answer, named c0, c1 and so on.
    fn select(&mut self) -> (String, Vec<Column>) {
        match self.random.random_range(0..10) {
            0..4 => self.projection(),
            4..8 => self.grouping(),
            8 => self.union(),
            _ => self.may_fail(),
        }
    }

    /// A FROM clause with what may follow it up to WHERE, and the columns in its scope.
    fn from(&mut self) -> (String, Vec<Column>) {
        let first = self.relations.choose(self.random).expect("there are relations");
        let (mut text, mut scope) = (format!("{} AS a", first.name), first.scope("a"));
        for alias in ["b", "c"] {
            if !self.random.random_bool(0.4) {
                break;
            }
            let other = self.relations.choose(self.random).expect("there are relations");
            let right = other.scope(alias);
            let pairs: Vec<(&Column, &Column)> = scope
                .iter()
                .flat_map(|left| right.iter().map(move |right| (left, right)))
                .filter(|(left, right)| left.kind == right.kind && left.kind != Kind::Approximate)
                .collect();
            let Some((left, on)) = pairs.choose(self.random) else { break };
            let join = if self.random.random_bool(0.6) { "JOIN" } else { "LEFT JOIN" };
            let mut condition = format!("{} = {}", left.name, on.name);
            let both: Vec<Column> = scope.iter().chain(&right).cloned().collect();
            if self.random.random_bool(0.3) {
                condition = format!("{condition} AND {}", predicate(self.random, &both, 1));
            }
            text = format!("{text} {join} {} AS {alias} ON {condition}", other.name);
            scope = both;
        }
        if self.random.random_bool(0.5) {
            text = format!("{text} WHERE {}", predicate(self.random, &scope, 2));
        }
        (text, scope)
    }

    fn projection(&mut self) -> (String, Vec<Column>) {
        let (from, scope) = self.from();
        let distinct = if self.random.random_bool(0.3) { "DISTINCT " } else { "" };
        let mut columns = Vec::new();
        let mut items = Vec::new();
        for index in 0..self.random.random_range(1..=4) {
            let kind = scope.choose(self.random).expect("a relation has columns").kind;
            let value = scalar(self.random, &scope, kind, 2);
            let (value, kind) = if distinct.is_empty() { (value, kind) } else { shown(kind, value) };
            items.push(format!("{value} AS c{index}"));
            columns.push(Column { name: format!("c{index}"), kind });
        }
        (format!("SELECT {distinct}{} FROM {from}", items.join(", ")), columns)
    }

    fn grouping(&mut self) -> (String, Vec<Column>) {
        let (from, scope) = self.from();
        let usable: Vec<Column> = scope.iter().filter(|column| column.kind != Kind::Approximate).cloned().collect();
        let keys = if usable.is_empty() { 0 } else { self.random.random_range(0..=2) };
        let (mut items, mut columns, mut group) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..keys {
            let kind = usable.choose(self.random).expect("not empty").kind;
            let depth = u32::from(self.random.random_bool(0.3));
            let key = scalar(self.random, &usable, kind, depth);
            let (value, shown_kind) = shown(kind, key.clone());
            items.push(format!("{value} AS c{index}"));
            // A constant is written by its place, or it would be one itself.
            group.push(if value == key { (index + 1).to_string() } else { key });
            let kind = shown_kind;
            columns.push(Column { name: format!("c{index}"), kind });
        }
        for index in keys..keys + self.random.random_range(1..=3) {
            let (aggregate, kind) = self.aggregate(&usable);
            items.push(format!("{aggregate} AS c{index}"));
            columns.push(Column { name: format!("c{index}"), kind });
        }
        let group = if keys == 0 { String::new() } else { format!(" GROUP BY {}", group.join(", ")) };
        let having = if self.random.random_bool(0.15) { " HAVING count(*) > 1" } else { "" };
        (format!("SELECT {} FROM {from}{group}{having}", items.join(", ")), columns)
    }

    fn aggregate(&mut self, scope: &[Column]) -> (String, Kind) {
        let filter = match self.random.random_bool(0.25) {
            true => format!(" FILTER (WHERE {})", predicate(self.random, scope, 1)),
            false => String::new(),
        };
        let distinct = if self.random.random_bool(0.25) { "DISTINCT " } else { "" };
        let Some(column) = scope.choose(self.random) else { return (format!("count(*){filter}"), Kind::Big) };
        let argument = scalar(self.random, scope, column.kind, 1);
        let choice = self.random.random_range(0..4);
        let (call, kind) = match (column.kind, choice) {
            (_, 0) => ("count(*)".to_owned(), Kind::Big),
            (_, 1) => (format!("count({distinct}{argument})"), Kind::Big),
            (Kind::Int, 2) => (format!("sum({distinct}{argument})"), Kind::Big),
            (Kind::Big | Kind::Num, 2) => (format!("sum({distinct}{argument})"), Kind::Num),
            (Kind::Int | Kind::Big | Kind::Num, 3) if self.random.random_bool(0.5) => {
                (format!("avg({distinct}{argument})"), Kind::Approximate)
            }
            (Kind::Bool, 2) => (format!("bool_and({argument})"), Kind::Bool),
            (Kind::Bool, _) => (format!("bool_or({argument})"), Kind::Bool),
            (Kind::Float, 2) => (format!("sum({distinct}{argument})"), Kind::Float),
            (kind, _) => {
                let function = if self.random.random_bool(0.5) { "min" } else { "max" };
                (format!("{function}({argument})"), kind)
            }
        };
        shown(kind, format!("{call}{filter}"))
    }

    fn union(&mut self) -> (String, Vec<Column>) {
        let (from, scope) = self.from();
        let (other_from, other_scope) = self.from();
        let (mut one, mut other, mut columns) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..self.random.random_range(1..=3) {
            let kinds: Vec<Kind> = KINDS.into_iter().filter(|kind| !columns_of(&scope, *kind).is_empty()).collect();
            let kind = kinds.choose(self.random).copied().unwrap_or(Kind::Int);
            one.push(format!("{} AS c{index}", scalar(self.random, &scope, kind, 1)));
            other.push(scalar(self.random, &other_scope, kind, 1));
            columns.push(Column { name: format!("c{index}"), kind });
        }
        let sql =
            format!("SELECT {} FROM {from} UNION ALL SELECT {} FROM {other_from}", one.join(", "), other.join(", "));
        (sql, columns)
    }

    /// A division that some rows do not survive: the view is in error as long as they are there.
    fn may_fail(&mut self) -> (String, Vec<Column>) {
        let table = self.relations.iter().find(|relation| !columns_of(&relation.columns, Kind::Int).is_empty());
        let Some(table) = table else { return self.projection() };
        let columns = columns_of(&table.columns, Kind::Int);
        let column = &columns.choose(self.random).expect("not empty").name;
        let sql = format!("SELECT {column} AS c0, 100 / {column} AS c1 FROM {}", table.name);
        let columns = ["c0", "c1"].map(|name| Column { name: name.to_owned(), kind: Kind::Int });
        (sql, columns.to_vec())
    }
}
