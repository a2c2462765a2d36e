//! Whole dataflows on real workers: one worker or several must tell the same story.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};

use super::operators::{Join, JoinOn};
use super::*;
use crate::error::SqlState;
use crate::state::{Arrangement, Run};
use crate::zset::{
    DataError, Delta, ErrorRows, Moment, RelationId, Rows, Step, consolidate, parse_rows, pretty_delta, row_hashes,
};

pub(super) const TABLE: RelationId = RelationId(1);
pub(super) const VIEW: RelationId = RelationId(2);
pub(super) const UPPER: RelationId = RelationId(3);
pub(super) const PAIRS: RelationId = RelationId(4);

/// `SELECT k, count(*) GROUP BY k`, or `SELECT count(*)` without a key: small enough to trust by reading.
struct Count {
    input: Arrangement,
    schema: SchemaRef,
    started: bool,
}

impl Count {
    fn new(input: SchemaRef, key: Vec<usize>, output: SchemaRef) -> Self {
        Self { input: Arrangement::new(input, key), schema: output, started: false }
    }

    fn counts(&self, keys: &[ArrayRef], hashes: &[u64]) -> Vec<i64> {
        let found = self.input.lookup(keys, hashes);
        let mut counts = vec![0; hashes.len()];
        for (row, probe) in found.probe.iter().enumerate() {
            counts[*probe as usize] += found.rows.weight(row);
        }
        counts
    }
}

impl Operator for Count {
    fn eval(&mut self, _at: Moment, inputs: &[Delta]) -> Delta {
        let [input] = inputs else { panic!("one input") };
        let keyless = self.input.key().is_empty();
        let first = !std::mem::replace(&mut self.started, true);
        let mut distinct: BTreeMap<u64, u32> = BTreeMap::new();
        let columns: Vec<ArrayRef> = self.input.key().iter().map(|key| input.oks.column(*key).clone()).collect();
        let hashes = row_hashes(&columns, input.oks.len());
        for (row, hash) in (0u32..).zip(&hashes) {
            distinct.entry(*hash).or_insert(row);
        }
        if keyless {
            distinct.insert(crate::zset::KEYLESS_HASH, 0);
        }
        let take = arrow::array::UInt32Array::from_iter_values(distinct.values().copied());
        let keys: Vec<ArrayRef> =
            columns.iter().map(|key| arrow::compute::take(key, &take, None).expect("rows of the delta")).collect();
        let hashes: Vec<u64> = distinct.into_keys().collect();
        let old = self.counts(&keys, &hashes);
        self.input.absorb(&input.oks);
        let new = self.counts(&keys, &hashes);
        let part = |counts: Vec<i64>, weight: i64, all: bool| {
            let here: Vec<bool> = counts.iter().map(|count| all || *count != 0).collect();
            let mut columns = keys.clone();
            columns.push(Arc::new(Int64Array::from(counts)));
            let rows = Rows::uniform(RecordBatch::try_new(self.schema.clone(), columns).expect("a count"), weight);
            rows.filter(&arrow::array::BooleanArray::from(here))
        };
        let old = if first && keyless { Rows::empty(self.schema.clone()) } else { part(old, -1, keyless) };
        let rows = Rows::concat(&self.schema, &[old, part(new, 1, keyless)]);
        Delta::new(consolidate(&rows), input.errs.clone())
    }

    fn save(&mut self) -> Vec<StatePart> {
        vec![StatePart { runs: self.input.runs().to_vec() }]
    }

    fn load(&mut self, mut parts: Vec<Vec<Arc<Run>>>) {
        self.started = true;
        self.input = Arrangement::restore(self.input.schema().clone(), self.input.key().to_vec(), parts.remove(0));
    }
}

/// Passes all columns on; makes an error row of every row whose first column is 13.
struct Superstition;

impl Operator for Superstition {
    fn eval(&mut self, _at: Moment, inputs: &[Delta]) -> Delta {
        let column = inputs[0].oks.column(0).as_primitive::<Int64Type>().clone();
        let good = arrow::array::BooleanArray::from_iter(column.iter().map(|value| Some(value != Some(13))));
        let mut errs = inputs[0].errs.clone();
        for row in (0..column.len()).filter(|row| !good.value(*row)) {
            errs.add(DataError::new(SqlState::DIVISION_BY_ZERO, "bad luck"), inputs[0].oks.weight(row));
        }
        Delta::new(inputs[0].oks.filter(&good), errs)
    }
}

/// Panics on sight of a row.
struct Bug;

impl Operator for Bug {
    fn eval(&mut self, _at: Moment, inputs: &[Delta]) -> Delta {
        assert!(inputs[0].is_empty(), "a bug on purpose");
        inputs[0].clone()
    }
}

fn schema(columns: &str) -> SchemaRef {
    parse_rows(columns, "").schema()
}

fn node(kind: NodeKind, inputs: Vec<Edge>, columns: &str) -> Node {
    node_of(kind, inputs, schema(columns))
}

pub(super) fn node_of(kind: NodeKind, inputs: Vec<Edge>, schema: SchemaRef) -> Node {
    Node { kind, inputs, schema, append_only: false }
}

pub(super) fn operator(make: impl Fn() -> Box<dyn Operator> + Send + Sync + 'static) -> NodeKind {
    let recipe = OperatorRecipe {
        name: "test",
        class: Class::Keyed,
        detail: String::new(),
        keeps: String::new(),
        make: Arc::new(make),
    };
    NodeKind::Operator(recipe)
}

pub(super) fn edge(from: usize, route: Route) -> Edge {
    Edge { from, route }
}

fn count_by(key: Vec<usize>, input: &'static str, output: &'static str) -> NodeKind {
    operator(move || Box::new(Count::new(schema(input), key.clone(), schema(output))))
}

fn table() -> Graph {
    Graph { nodes: vec![node(NodeKind::Feed, vec![], "k BIGINT, x BIGINT")] }
}

/// `SELECT k, count(*) FROM t GROUP BY k`.
fn counts() -> Graph {
    Graph {
        nodes: vec![
            node(NodeKind::Relation(TABLE), vec![], "k BIGINT, x BIGINT"),
            node(operator(|| Box::new(Superstition)), vec![edge(0, Route::Local)], "k BIGINT, x BIGINT"),
            node(
                count_by(vec![0], "k BIGINT, x BIGINT", "k BIGINT, n BIGINT"),
                vec![edge(1, Route::ByKey(vec![0]))],
                "k BIGINT, n BIGINT",
            ),
        ],
    }
}

/// `SELECT a.k, count(*) FROM v AS a JOIN v AS b ON a.n = b.n GROUP BY a.k`, by the engine's own join.
fn pairs() -> Graph {
    let (one, both) = ("k BIGINT, n BIGINT", "k BIGINT, n BIGINT, k2 BIGINT, n2 BIGINT");
    let join = move || -> Box<dyn Operator> {
        let on = JoinOn { left: vec![1], right: vec![1], null_equals_null: false, residual: None };
        Box::new(Join::new(on, &schema(one), &schema(one), schema(both)))
    };
    let by_n = || edge(0, Route::ByKey(vec![1]));
    Graph {
        nodes: vec![
            node(NodeKind::Relation(VIEW), vec![], one),
            node(operator(join), vec![by_n(), by_n()], both),
            node(count_by(vec![0], both, one), vec![edge(1, Route::ByKey(vec![0]))], one),
        ],
    }
}

/// `SELECT count(*) FROM v`.
fn total() -> Graph {
    Graph {
        nodes: vec![
            node(NodeKind::Relation(VIEW), vec![], "k BIGINT, n BIGINT"),
            node(count_by(vec![], "k BIGINT, n BIGINT", "n BIGINT"), vec![edge(0, Route::ByKey(vec![]))], "n BIGINT"),
        ],
    }
}

fn install(relation: RelationId, graph: Graph) -> Command {
    install_with(relation, graph, true, Start::Hydrate(HashMap::new()))
}

pub(super) fn install_with(relation: RelationId, graph: Graph, keep: bool, start: Start) -> Command {
    let key = (0..graph.schema().fields().len()).collect();
    Command::Install(Arc::new(Install { relation, graph, keep, key, start }))
}

/// What an engine would know: the rows of all relations, by adding up reports.
pub(super) struct Engine {
    workers: Workers,
    reports: Receiver<Report>,
    count: usize,
    pub(super) step: u64,
    /// All rows, by adding up deltas.
    pub(super) sums: BTreeMap<RelationId, Delta>,
    /// All rows, by the newest snapshots of each worker.
    newest: BTreeMap<(RelationId, usize), Delta>,
}

impl Engine {
    pub(super) fn start(count: usize) -> Self {
        Self::with(Workers::start(count), count)
    }

    /// With the workers of this process, of which there are `count`.
    pub(super) fn with((workers, reports): (Workers, Receiver<Report>), count: usize) -> Self {
        Self { workers, reports, count, step: 0, sums: BTreeMap::new(), newest: BTreeMap::new() }
    }

    pub(super) fn send(&self, command: Command) {
        self.workers.send(&command);
    }

    pub(super) fn feed(&mut self, deltas: Vec<(RelationId, Delta)>) {
        self.feed_only(deltas);
        self.await_step();
    }

    fn feed_only(&mut self, deltas: Vec<(RelationId, Delta)>) {
        self.step += 1;
        let at = Moment { step: Step(self.step), now: self.step as i64 * 1000 };
        self.send(Command::Feed { at, deltas: Arc::new(deltas) });
    }

    fn await_step(&mut self) {
        for _ in 0..self.count {
            match self.reports.recv().expect("workers report") {
                Report::Step { worker, changes, .. } => {
                    changes.into_iter().for_each(|change| self.learn(worker, change))
                }
                Report::Saved { .. } | Report::Weight { .. } => panic!("nobody asked for it"),
                Report::Died { reason, .. } => panic!("{reason}"),
            }
        }
    }

    fn learn(&mut self, worker: usize, change: RelationChange) {
        let relation = change.relation;
        let schema = change.delta.schema();
        if let Some(snapshot) = change.snapshot {
            self.newest.insert((relation, worker), Delta::new(snapshot.collect(), change.errors));
        }
        let sum = self.sums.remove(&relation).unwrap_or_else(|| Delta::empty(schema.clone()));
        self.sums.insert(relation, Delta::concat(&schema, vec![sum, change.delta]));
    }

    pub(super) fn table(&mut self, rows: &str) {
        self.feed(vec![(TABLE, Delta::new(parse_rows("k BIGINT, x BIGINT", rows), ErrorRows::default()))]);
    }

    /// The rows of a relation: deltas and snapshots must agree.
    pub(super) fn rows(&self, relation: RelationId) -> String {
        let Some(sum) = self.sums.get(&relation) else { return String::new() };
        let sum = pretty_delta(&Delta::new(consolidate(&sum.oks), sum.errs.clone()));
        let parts = self.newest.iter().filter(|((of, _), _)| *of == relation);
        let parts: Vec<Delta> = parts.map(|(_, delta)| delta.clone()).collect();
        if let Some(schema) = parts.first().map(Delta::schema) {
            let newest = Delta::concat(&schema, parts);
            assert_eq!(pretty_delta(&Delta::new(consolidate(&newest.oks), newest.errs.clone())), sum);
        }
        sum
    }

    pub(super) fn save(&self) -> Vec<SavedPart> {
        self.send(Command::Save);
        let mut all = Vec::new();
        for _ in 0..self.count {
            match self.reports.recv().expect("workers report") {
                Report::Saved { parts, .. } => all.extend(parts),
                Report::Step { .. } | Report::Weight { .. } => panic!("all steps were awaited"),
                Report::Died { reason, .. } => panic!("{reason}"),
            }
        }
        all
    }
}

pub(super) fn install_all(engine: &Engine) {
    [(TABLE, table()), (VIEW, counts()), (UPPER, total()), (PAIRS, pairs())]
        .into_iter()
        .for_each(|(id, graph)| engine.send(install(id, graph)));
}

fn on_any_number_of_workers(check: impl Fn(&mut Engine)) {
    for workers in [1, 2, 3, 4] {
        check(&mut Engine::start(workers));
    }
}

#[test]
fn a_row_walks_through_a_view_on_a_view() {
    on_any_number_of_workers(|engine| {
        install_all(engine);
        engine.feed(vec![]);
        assert_eq!(engine.rows(UPPER), "+1 | 0");
        engine.table("+1 | 1 | 10\n+1 | 1 | 11\n+1 | 2 | 20");
        assert_eq!(engine.rows(VIEW), "+1 | 1 | 2\n+1 | 2 | 1");
        assert_eq!(engine.rows(UPPER), "+1 | 2");
        engine.table("-1 | 2 | 20\n+1 | 3 | 30\n+1 | 4 | 40");
        assert_eq!(engine.rows(TABLE), "+1 | 1 | 10\n+1 | 1 | 11\n+1 | 3 | 30\n+1 | 4 | 40");
        assert_eq!(engine.rows(VIEW), "+1 | 1 | 2\n+1 | 3 | 1\n+1 | 4 | 1");
        assert_eq!(engine.rows(UPPER), "+1 | 3");
        assert_eq!(engine.rows(PAIRS), "+1 | 1 | 1\n+1 | 3 | 2\n+1 | 4 | 2");
    });
}

#[test]
fn error_rows_pass_and_heal() {
    on_any_number_of_workers(|engine| {
        install_all(engine);
        engine.table("+1 | 13 | 1\n+1 | 13 | 2\n+1 | 1 | 1");
        assert_eq!(engine.rows(VIEW), "+1 | 1 | 1\n+2 ! 22012 bad luck");
        assert_eq!(engine.rows(UPPER), "+1 | 1\n+2 ! 22012 bad luck");
        engine.table("+1 | 7 | 7\n-1 | 13 | 1\n-1 | 13 | 2");
        assert_eq!(engine.rows(VIEW), "+1 | 1 | 1\n+1 | 7 | 1");
        assert_eq!(engine.rows(UPPER), "+1 | 2");
    });
}

#[test]
fn a_new_view_begins_with_what_its_inputs_hold() {
    on_any_number_of_workers(|engine| {
        engine.send(install(TABLE, table()));
        engine.table("+1 | 13 | 1\n+1 | 1 | 1\n+1 | 2 | 2");
        engine.table("-1 | 2 | 2\n+1 | 3 | 3");
        engine.send(install(VIEW, counts()));
        engine.send(install(UPPER, total()));
        engine.table("+1 | 1 | 5\n-1 | 3 | 3");
        assert_eq!(engine.rows(VIEW), "+1 | 1 | 2\n+1 ! 22012 bad luck");
        engine.send(install(RelationId(9), total()));
        engine.feed(vec![]);
        assert_eq!(engine.rows(RelationId(9)), engine.rows(UPPER));
        assert_eq!(engine.rows(UPPER), "+1 | 1\n+1 ! 22012 bad luck");
    });
}

#[test]
fn a_view_on_a_relation_that_keeps_nothing_begins_with_the_rows_given() {
    on_any_number_of_workers(|engine| {
        engine.send(install_with(TABLE, table(), false, Start::Hydrate(HashMap::new())));
        engine.table("+1 | 1 | 1\n+1 | 2 | 2\n+1 | 1 | 3");
        let past = engine.sums[&TABLE].clone();
        engine.send(install_with(VIEW, counts(), true, Start::Hydrate(HashMap::from([(TABLE, past)]))));
        engine.table("+1 | 2 | 4\n+1 | 5 | 5");
        assert_eq!(engine.rows(VIEW), "+1 | 1 | 2\n+1 | 2 | 2\n+1 | 5 | 1");
    });
}

#[test]
fn a_dropped_view_is_gone_and_the_rest_goes_on() {
    on_any_number_of_workers(|engine| {
        install_all(engine);
        engine.table("+1 | 1 | 1");
        engine.send(Command::Drop(vec![UPPER, VIEW, PAIRS]));
        engine.table("+1 | 2 | 2");
        assert_eq!(engine.rows(VIEW), "+1 | 1 | 1", "what was last reported");
        engine.send(install(RelationId(7), counts()));
        engine.table("+1 | 2 | 3");
        assert_eq!(engine.rows(RelationId(7)), "+1 | 1 | 1\n+1 | 2 | 2");
        assert_eq!(engine.save().iter().filter(|part| part.relation == VIEW).count(), 0);
    });
}

#[test]
fn state_saved_by_some_workers_is_loaded_by_others() {
    for (before, after) in [(1, 1), (1, 3), (4, 1), (2, 4), (4, 3)] {
        let mut engine = Engine::start(before);
        let graphs = || [(TABLE, table()), (VIEW, counts()), (UPPER, total()), (PAIRS, pairs())];
        graphs().into_iter().for_each(|(id, graph)| engine.send(install(id, graph)));
        let rows: String = (0..50).map(|row| format!("+1 | {} | {row}\n", row % 20)).collect();
        engine.table(&rows);
        engine.table("-1 | 3 | 3\n-1 | 5 | 25\n-1 | 13 | 13");
        let saved = engine.save();
        let mut later = Engine::start(after);
        later.step = engine.step;
        for (id, graph) in graphs() {
            later.send(install_with(id, graph, true, Start::Restore(saved.clone())));
        }
        later.sums = engine.sums.clone();
        let change = "-1 | 1 | 1\n-1 | 1 | 21\n-1 | 1 | 41\n+1 | 99 | 99\n-1 | 13 | 33";
        engine.table(change);
        later.table(change);
        for relation in [TABLE, VIEW, UPPER, PAIRS] {
            let sum = &later.sums[&relation];
            let sum = pretty_delta(&Delta::new(consolidate(&sum.oks), sum.errs.clone()));
            assert_eq!(sum, engine.rows(relation), "{relation} from {before} to {after} workers");
        }
        assert_eq!(later.save().len() * before, saved.len() * after, "every worker saves all parts");
    }
}

#[test]
fn the_clock_ticks_in_every_step_and_survives_a_restart() {
    let clock = || Graph { nodes: vec![node(NodeKind::Clock, vec![], "now TIMESTAMPTZ")] };
    for (before, after) in [(1, 2), (3, 1)] {
        let mut engine = Engine::start(before);
        engine.send(install(VIEW, clock()));
        engine.feed(vec![]);
        engine.feed(vec![]);
        assert_eq!(engine.rows(VIEW), "+1 | 1970-01-01T00:00:00.002Z");
        let mut later = Engine::start(after);
        later.step = engine.step;
        later.send(install_with(VIEW, clock(), true, Start::Restore(engine.save())));
        later.sums = engine.sums.clone();
        later.feed(vec![]);
        assert_eq!(later.rows(VIEW), "+1 | 1970-01-01T00:00:00.003Z");
    }
}

#[test]
fn steps_may_overlap() {
    on_any_number_of_workers(|engine| {
        install_all(engine);
        for row in 0..100 {
            let rows = parse_rows("k BIGINT, x BIGINT", &format!("+1 | {} | {row}", row % 7));
            engine.feed_only(vec![(TABLE, Delta::new(rows, ErrorRows::default()))]);
        }
        engine.send(Command::Drop(vec![UPPER]));
        (0..100).for_each(|_| engine.await_step());
        assert_eq!(engine.rows(UPPER), "+1 | 7");
        assert_eq!(engine.rows(VIEW).lines().count(), 7);
    });
}

#[test]
fn a_panic_in_an_operator_is_reported_and_everything_can_stop() {
    for workers in [1, 3] {
        let mut engine = Engine::start(workers);
        engine.send(install(TABLE, table()));
        let bug = Graph {
            nodes: vec![
                node(NodeKind::Relation(TABLE), vec![], "k BIGINT, x BIGINT"),
                node(operator(|| Box::new(Bug)), vec![edge(0, Route::ByKey(vec![]))], "k BIGINT, x BIGINT"),
            ],
        };
        engine.send(install(VIEW, bug));
        engine.feed(vec![]);
        engine
            .feed_only(vec![(TABLE, Delta::new(parse_rows("k BIGINT, x BIGINT", "+1 | 1 | 1"), ErrorRows::default()))]);
        let died = engine.reports.iter().find_map(|report| match report {
            Report::Died { reason, .. } => Some(reason),
            Report::Step { .. } | Report::Saved { .. } | Report::Weight { .. } => None,
        });
        assert_eq!(died.as_deref(), Some("a bug on purpose"));
    }
}
