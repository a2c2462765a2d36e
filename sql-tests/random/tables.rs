//! Random tables, their values, and random changes of them.

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;

use super::scalars::{predicate, scalar};

/// The types of random columns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
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

pub const KINDS: [Kind; 8] =
    [Kind::Int, Kind::Big, Kind::Num, Kind::Text, Kind::Bool, Kind::Date, Kind::Float, Kind::Interval];

/// With values that are equal in other bits.
const FLOATS: [&str; 6] = ["0", "-0", "NaN", "1.5", "-2.25", "4"];
const INTERVALS: [&str; 6] = ["1 month", "30 days", "29 days 24:00", "35 days", "1 month 1 day", "-00:30"];
const TEXTS: [&str; 6] = ["", "a", "b", "Ab", "äöü", "a longer text than twelve bytes"];

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
    pub fn literal(self, random: &mut SmallRng) -> String {
        match self {
            Kind::Int => random.random_range(-3..12).to_string(),
            Kind::Big => format!("{}::bigint", random.random_range(0..12) * 1_000_000_007i64),
            Kind::Num | Kind::Approximate => {
                format!("{}.{:02}", random.random_range(0..20), random.random_range(0..4) * 25)
            }
            Kind::Text => format!("'{}'", TEXTS.choose(random).expect("some")),
            Kind::Bool => random.random_bool(0.5).to_string(),
            Kind::Date => format!("DATE '2024-02-{:02}'", random.random_range(25..=29)),
            Kind::Float => format!("'{}'::float8", FLOATS.choose(random).expect("some")),
            Kind::Interval => format!("INTERVAL '{}'", INTERVALS.choose(random).expect("some")),
        }
    }

    fn value(self, random: &mut SmallRng) -> String {
        if random.random_bool(0.15) { "NULL".to_owned() } else { self.literal(random) }
    }

    /// True if equal values are shown alike.
    pub fn is_plain(self) -> bool {
        !matches!(self, Kind::Float | Kind::Interval | Kind::Approximate)
    }
}

#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub kind: Kind,
}

/// A table, a view, or what a WITH names.
#[derive(Clone, Debug)]
pub struct Relation {
    pub name: String,
    pub columns: Vec<Column>,
    /// Whether the first column is a primary key.
    pub keyed: bool,
    /// How many tables it multiplies: a measure of how many rows it may have.
    pub size: u32,
    /// Whether SQL leaves open what it contains, so that other systems may find other rows.
    pub open: bool,
}

/// A statement that changes a table. `rows` are those of an INSERT.
#[derive(Clone, Debug)]
pub struct Change {
    pub head: String,
    pub rows: Vec<String>,
    pub tail: String,
}

impl Change {
    fn plain(sql: String) -> Self {
        Self { head: sql, rows: Vec::new(), tail: String::new() }
    }

    pub fn sql(&self) -> String {
        format!("{}{}{}", self.head, self.rows.join(", "), self.tail)
    }

    /// The same in statements of one row each.
    pub fn split(&self) -> Vec<Change> {
        if self.rows.is_empty() {
            return vec![self.clone()];
        }
        let one = |row: &String| Change { rows: vec![row.clone()], ..self.clone() };
        self.rows.iter().map(one).collect()
    }
}

impl Relation {
    pub fn random_table(random: &mut SmallRng, index: usize) -> Self {
        let keyed = random.random_bool(0.5);
        let mut columns: Vec<Column> = (0..random.random_range(2..=5))
            .map(|column| Column { name: format!("x{column}"), kind: *KINDS.choose(random).expect("there are kinds") })
            .collect();
        if keyed {
            columns.insert(0, Column { name: "id".to_owned(), kind: Kind::Int });
        }
        Self { name: format!("t{index}"), columns, keyed, size: 1, open: false }
    }

    pub fn create(&self) -> String {
        let column = |(index, column): (usize, &Column)| {
            let key = if self.keyed && index == 0 { " PRIMARY KEY" } else { "" };
            format!("{} {}{key}", column.name, column.kind.sql())
        };
        let columns: Vec<String> = self.columns.iter().enumerate().map(column).collect();
        format!("CREATE TABLE {} ({})", self.name, columns.join(", "))
    }

    /// A change of a table that is to have few rows: inserts while there are few, deletes once there are many.
    pub fn random_change(&self, random: &mut SmallRng, is_full: bool) -> Change {
        let delete = if is_full { 6 } else { 1 };
        match random.random_range(0..7 + delete) {
            0..4 => self.random_insert(random),
            4..7 => Change::plain(self.random_update(random)),
            _ if random.random_bool(0.15) => Change::plain(format!("DELETE FROM {}", self.name)),
            _ => {
                let scope = self.scope("");
                Change::plain(format!("DELETE FROM {} WHERE {}", self.name, predicate(random, &scope, 2)))
            }
        }
    }

    fn random_insert(&self, random: &mut SmallRng) -> Change {
        let first = random.random_range(0..40);
        let row = |random: &mut SmallRng, index: usize| {
            let cell = |(place, column): (usize, &Column)| match self.keyed && place == 0 {
                true => (first + index).to_string(),
                false => column.kind.value(random),
            };
            let cells: Vec<String> = self.columns.iter().enumerate().map(cell).collect();
            format!("({})", cells.join(", "))
        };
        let mut rows: Vec<String> = (0..random.random_range(1..=6)).map(|index| row(random, index)).collect();
        if !self.keyed && random.random_bool(0.2) {
            rows.push(rows[0].clone());
        }
        let tail = match (self.keyed, random.random_range(0..3)) {
            (true, 0) => " ON CONFLICT (id) DO NOTHING".to_owned(),
            (true, 1) => {
                let name = &self.columns[1].name;
                format!(" ON CONFLICT (id) DO UPDATE SET {name} = excluded.{name}")
            }
            _ => String::new(),
        };
        Change { head: format!("INSERT INTO {} VALUES ", self.name), rows, tail }
    }

    fn random_update(&self, random: &mut SmallRng) -> String {
        let scope = self.scope("");
        let column = self.columns[usize::from(self.keyed)..].choose(random).expect("more columns than the key");
        let value = scalar(random, &scope, column.kind, 1);
        format!("UPDATE {} SET {} = {value} WHERE {}", self.name, column.name, predicate(random, &scope, 2))
    }

    /// The columns as expressions may name them.
    pub fn scope(&self, alias: &str) -> Vec<Column> {
        scope_of(&self.columns, alias)
    }
}

/// Columns as expressions may name them behind an alias.
pub fn scope_of(columns: &[Column], alias: &str) -> Vec<Column> {
    let prefix = if alias.is_empty() { String::new() } else { format!("{alias}.") };
    columns.iter().map(|column| Column { name: format!("{prefix}{}", column.name), kind: column.kind }).collect()
}

pub fn columns_of(scope: &[Column], kind: Kind) -> Vec<&Column> {
    scope.iter().filter(|column| column.kind == kind).collect()
}
