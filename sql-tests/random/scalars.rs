//! Random expressions of a row, and aggregates.

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;

use super::tables::{Column, Kind, columns_of};

/// A value of which equal ones are shown alike, where an engine is free to choose which of them it shows.
pub fn shown(kind: Kind, value: String) -> (String, Kind) {
    match kind {
        Kind::Float => (format!("{value} + 0"), kind),
        Kind::Interval => (format!("extract(epoch FROM {value})"), Kind::Approximate),
        _ => (value, kind),
    }
}

/// An expression of a kind.
pub fn scalar(random: &mut SmallRng, scope: &[Column], kind: Kind, depth: u32) -> String {
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

pub fn predicate(random: &mut SmallRng, scope: &[Column], depth: u32) -> String {
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
        _ => format!("{name} {} {literal}", comparison(random)),
    }
}

pub fn comparison(random: &mut SmallRng) -> &'static str {
    ["=", "<>", "<", "<=", ">", ">="].choose(random).expect("some")
}

/// An aggregate over rows of the scope, and the kind of its result.
pub fn aggregate(random: &mut SmallRng, scope: &[Column]) -> (String, Kind) {
    let filter = match random.random_bool(0.25) {
        true => format!(" FILTER (WHERE {})", predicate(random, scope, 1)),
        false => String::new(),
    };
    let Some(column) = scope.choose(random) else { return (format!("count(*){filter}"), Kind::Big) };
    let argument = scalar(random, scope, column.kind, 1);
    let (call, kind) = match random.random_range(0..8) {
        0 => ("count(*)".to_owned(), Kind::Big),
        1 => (format!("count({}{argument})", distinct(random)), Kind::Big),
        2 | 3 => return of_order(random, column.kind, &argument, &filter),
        _ => of_kind(random, column.kind, &argument),
    };
    shown(kind, format!("{call}{filter}"))
}

fn distinct(random: &mut SmallRng) -> &'static str {
    if random.random_bool(0.25) { "DISTINCT " } else { "" }
}

/// Aggregates that depend on an order.
fn of_order(random: &mut SmallRng, kind: Kind, argument: &str, filter: &str) -> (String, Kind) {
    let direction = ["", " DESC", " NULLS FIRST", " DESC NULLS LAST"].choose(random).expect("some");
    let (call, kind) = match (kind, random.random_range(0..4)) {
        (Kind::Text, 0 | 1) => (format!("string_agg({argument}, '/' ORDER BY {argument}{direction})"), Kind::Text),
        (Kind::Int | Kind::Big | Kind::Text, 2) => {
            let list = format!("array_agg({}{argument} ORDER BY {argument}{direction}){filter}", distinct(random));
            return (format!("array_to_string({list}, ',', '-')"), Kind::Text);
        }
        (kind, 0) => (format!("percentile_disc(0.5) WITHIN GROUP (ORDER BY {argument})"), kind),
        (Kind::Int | Kind::Float, 1) => {
            (format!("percentile_cont(0.25) WITHIN GROUP (ORDER BY {argument})"), Kind::Approximate)
        }
        (kind, 3) if kind.is_plain() => (format!("mode() WITHIN GROUP (ORDER BY {argument})"), kind),
        (kind, _) => extreme(random, kind, argument),
    };
    shown(kind, format!("{call}{filter}"))
}

fn of_kind(random: &mut SmallRng, kind: Kind, argument: &str) -> (String, Kind) {
    let distinct = distinct(random);
    match (kind, random.random_range(0..4)) {
        (Kind::Int, 0) => (format!("sum({distinct}{argument})"), Kind::Big),
        (Kind::Big | Kind::Num, 0) => (format!("sum({distinct}{argument})"), Kind::Num),
        (Kind::Int | Kind::Big | Kind::Num, 1) => (format!("avg({distinct}{argument})"), Kind::Approximate),
        (Kind::Int | Kind::Num, 2) => {
            let function = ["stddev", "var_pop", "var_samp"].choose(random).expect("some");
            (format!("{function}({argument})"), Kind::Approximate)
        }
        (Kind::Bool, 0 | 1) => (format!("bool_and({argument})"), Kind::Bool),
        (Kind::Bool, _) => (format!("bool_or({argument})"), Kind::Bool),
        (Kind::Float, 0) => (format!("sum({distinct}{argument})"), Kind::Float),
        (kind, _) => extreme(random, kind, argument),
    }
}

fn extreme(random: &mut SmallRng, kind: Kind, argument: &str) -> (String, Kind) {
    match kind {
        Kind::Bool => (format!("bool_or({argument})"), kind),
        _ if random.random_bool(0.5) => (format!("min({argument})"), kind),
        _ => (format!("max({argument})"), kind),
    }
}
