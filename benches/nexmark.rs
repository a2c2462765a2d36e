//! The queries of Nexmark as SQL through the planner and the workers, on events made before the clock starts.
//!
//! `cargo bench --bench nexmark -- --events 2000000 --batch 40000 --workers 1 --query q4,q9 --json FILE`
//! prints a table and writes a JSON list with one object for each query. Every query runs in a process of its own, so
//! that its peak memory (the input's included) is its own. What comes out is counted and dropped, as by a sink;
//! `--keep` keeps it as a materialized view does. Then a second pass compares the result with DataFusion's, computed
//! once over the same events (`--check no` leaves that out).
//! The queries are the files of `sql-tests/nexmark`; `--query` is all of them unless given. `--export DIR` only writes
//! the events as Parquet files, for other systems.

mod common;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringViewArray};
use common::flow::Flow;
use common::{list, option, status_bytes, timed};
use headwater::connectors::{NexmarkKind, nexmark_batch, nexmark_columns};
use headwater::zset::{Delta, RelationId, Rows, consolidate};
use serde_json::{Value, json};

/// The kinds of events, each with its table and how many of 50 events are of it.
const KINDS: [(NexmarkKind, &str, usize); 3] =
    [(NexmarkKind::Person, "person", 1), (NexmarkKind::Auction, "auction", 3), (NexmarkKind::Bid, "bid", 46)];
const ROUND: usize = 50;

struct Settings {
    events: usize,
    batch: usize,
    workers: usize,
    keep: bool,
    check: bool,
}

fn main() {
    let settings = Settings {
        events: option("--events").unwrap_or(2_000_000),
        batch: option("--batch").unwrap_or(40_000),
        workers: option("--workers").unwrap_or(1),
        keep: std::env::args().any(|argument| argument == "--keep"),
        check: option::<String>("--check").is_none_or(|check| check != "no"),
    };
    assert!(settings.batch.is_multiple_of(ROUND), "a batch holds whole rounds of {ROUND} events");
    match (option::<String>("--one"), option::<PathBuf>("--export")) {
        (Some(query), _) => println!("{}", one(&query, &settings)),
        (None, Some(folder)) => export(&folder, &settings),
        (None, None) => all(&settings),
    }
}

fn export(folder: &Path, settings: &Settings) {
    let input = Input::new(settings);
    for (index, (_, table, _)) in KINDS.iter().enumerate() {
        let file = std::fs::File::create(folder.join(format!("{table}.parquet"))).expect("a file");
        let schema = input.0[0][index].schema();
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, schema, None).expect("a writer");
        input.0.iter().for_each(|step| writer.write(&step[index]).expect("the batch is written"));
        writer.close().expect("the file is written");
    }
}

/// Every query in a process of its own.
fn all(settings: &Settings) {
    let queries: Vec<String> = list("--query").unwrap_or_else(known);
    println!("{} events in batches of {}, {} worker(s)\n", settings.events, settings.batch, settings.workers);
    println!(
        "{:6} {:>8} {:>8} {:>15} {:>9} {:>9} {:>10} {:16} correct",
        "query", "CPU s", "wall s", "M events/CPU-s", "peak MB", "state MB", "rows out", "class"
    );
    let results: Vec<Value> = queries.iter().map(|query| child(query, settings)).collect();
    if let Some(path) = option::<PathBuf>("--json") {
        let text = serde_json::to_string_pretty(&results).expect("results are JSON");
        std::fs::write(path, text).expect("the results are written");
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sql-tests/nexmark")
}

/// The names of all queries, q2 before q10.
fn known() -> Vec<String> {
    let files = std::fs::read_dir(folder()).expect("the folder of the queries");
    let paths = files.filter_map(Result::ok).map(|file| file.path());
    let stems = paths.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
    // What has more to its name is another spelling of the same query.
    let mut names: Vec<String> = stems.filter(|name| name[1..].parse::<usize>().is_ok()).collect();
    names.sort_by_key(|name| name[1..].parse::<usize>().ok());
    names
}

fn child(query: &str, settings: &Settings) -> Value {
    let program = std::env::current_exe().expect("this program has a path");
    let output =
        Command::new(program).args(std::env::args().skip(1)).args(["--one", query]).stderr(Stdio::piped()).output();
    let output = output.expect("this program can be started again");
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(result) = text.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok()) else {
        let reason = String::from_utf8_lossy(&output.stderr);
        let reason = reason.lines().find(|line| !line.is_empty() && !line.contains("panicked")).unwrap_or_default();
        println!("{query:6} failed: {}", &reason[..reason.len().min(110)]);
        return json!({ "query": query, "events": settings.events, "correct": false });
    };
    let number = |name: &str| result[name].as_f64().unwrap_or(0.0);
    println!(
        "{query:6} {:8.2} {:8.2} {:15.2} {:9.0} {:9.1} {:10} {:16} {}",
        number("cpu_s"),
        number("wall_s"),
        settings.events as f64 / 1e6 / number("cpu_s"),
        number("peak_rss_bytes") / 1e6,
        number("state_bytes") / 1e6,
        result["rows_out"],
        result["class"].as_str().unwrap_or_default(),
        result["correct"],
    );
    result
}

/// The events of each step, by table.
struct Input(Vec<Vec<RecordBatch>>);

impl Input {
    fn new(settings: &Settings) -> Self {
        let step = |number: usize| {
            let (first, last) = (number * settings.batch, settings.events.min((number + 1) * settings.batch));
            let batch = |(kind, _, of_round): (NexmarkKind, &str, usize)| {
                let (from, to) = (first / ROUND * of_round, last / ROUND * of_round);
                nexmark_batch(kind, from as u64, to - from)
            };
            KINDS.map(batch).to_vec()
        };
        Self((0..settings.events.div_ceil(settings.batch)).map(step).collect())
    }

    /// All batches of each table.
    fn tables(&self, flow: &Flow) -> HashMap<RelationId, Vec<RecordBatch>> {
        let tables = KINDS.iter().enumerate();
        let batches = |index: usize| self.0.iter().map(|step| step[index].clone()).collect();
        let events = tables.map(|(index, (_, table, _))| (flow.table(table), batches(index)));
        events.chain([(flow.table("side_input"), vec![side_input()])]).collect()
    }
}

/// The table that q13 reads beside the events.
const SIDE_INPUT: &str = "key bigint, value text";

fn side_input() -> RecordBatch {
    let values = StringViewArray::from_iter_values((0..10_000).map(|key| format!("value {key}")));
    Flow::batch(SIDE_INPUT, vec![Arc::new(Int64Array::from_iter_values(0..10_000)), Arc::new(values)])
}

fn tables() -> String {
    let columns = |kind| {
        let columns = nexmark_columns(kind).into_iter();
        columns.map(|column| format!("{} {}", column.name, column.pg_type)).collect::<Vec<_>>().join(", ")
    };
    let events = KINDS.map(|(kind, name, _)| format!("CREATE TABLE {name} ({});", columns(kind))).concat();
    format!("{events} CREATE TABLE side_input ({SIDE_INPUT});")
}

/// The query's dataflow, before the first event.
fn start(text: &str, settings: &Settings, keep: bool) -> (Flow, RelationId, &'static str) {
    let mut flow = Flow::start(&tables(), settings.workers);
    let (view, class) = flow.view("v", text, keep);
    let side = flow.table("side_input");
    flow.feed(vec![(side, Delta::inserts(side_input()))]);
    (flow, view, class)
}

fn one(query: &str, settings: &Settings) -> Value {
    let text = std::fs::read_to_string(folder().join(format!("{query}.sql"))).expect("the query has a file");
    let input = Input::new(settings);
    let (mut flow, _, class) = start(&text, settings, settings.keep);
    let mut rows_out = 0;
    let ((), wall, cpu) = timed(|| feed(&mut flow, &input, |rows| rows_out += rows.len()));
    let peak = status_bytes("self", "VmHWM");
    let state = flow.state_bytes();
    drop(flow);
    let correct = if settings.check { json!(check(&text, &input, settings)) } else { Value::Null };
    json!({
        "query": query, "events": settings.events, "batch": settings.batch, "workers": settings.workers,
        "cpu_s": cpu, "wall_s": wall, "peak_rss_bytes": peak, "state_bytes": state, "rows_out": rows_out,
        "class": class, "correct": correct,
    })
}

/// Feeds all events, step by step.
fn feed(flow: &mut Flow, input: &Input, mut take: impl FnMut(Rows)) {
    let tables = KINDS.map(|(_, name, _)| flow.table(name));
    for step in &input.0 {
        let deltas = tables.iter().zip(step).map(|(table, batch)| (*table, Delta::inserts(batch.clone())));
        for change in flow.feed(deltas.collect()) {
            assert!(change.delta.errs.is_empty(), "the query fails on a row");
            take(change.delta.oks);
        }
    }
}

/// Whether the sum of all changes is what DataFusion computes.
fn check(text: &str, input: &Input, settings: &Settings) -> bool {
    let (mut flow, view, _) = start(text, settings, false);
    let mut parts: Vec<Rows> = Vec::new();
    feed(&mut flow, input, |rows| {
        parts.push(rows);
        // Rows that cancel each other do not stay.
        if parts.len() == 64 {
            let all = Rows::concat(&parts[0].schema(), &parts);
            parts = vec![consolidate(&all)];
        }
    });
    flow.differences(view, &parts, &input.tables(&flow)) == 0
}
