//! The law on real workers: hosted on one worker and on three, and restarted midway, an operator answers as in a loop.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::law::{Input, Table, moment, random_steps, schema};
use super::operators::{Aggregate, AggregateCall, Distinct, Join, JoinOn, OuterJoin, OuterKind, SemiJoin, SemiKind};
use super::tests::{Engine, VIEW, edge, install_with, node_of, operator};
use super::{Graph, Node, NodeKind, Operator, Route, Start};
use crate::functions::aggregate::find;
use crate::zset::{Delta, RelationId};

/// Random cases for each operator and number of workers.
const CASES: u64 = 30;

/// An operator as a graph would hold it.
struct Hosted {
    make: Arc<dyn Fn() -> Box<dyn Operator> + Send + Sync>,
    inputs: Vec<(Input, Route)>,
    schema: SchemaRef,
}

fn input_id(index: usize) -> RelationId {
    RelationId(100 + index as u64)
}

impl Hosted {
    fn view(&self) -> Graph {
        let source = |(index, (input, _)): (usize, &(Input, Route))| {
            node_of(NodeKind::Relation(input_id(index)), vec![], input.schema.clone())
        };
        let mut nodes: Vec<Node> = self.inputs.iter().enumerate().map(source).collect();
        let edges = self.inputs.iter().enumerate().map(|(index, (_, route))| edge(index, route.clone())).collect();
        let make = self.make.clone();
        nodes.push(node_of(operator(move || make()), edges, self.schema.clone()));
        Graph { nodes }
    }

    /// Installs everything in a new engine, as `start` says for each relation.
    fn install(&self, engine: &Engine, start: impl Fn() -> Start) {
        for (index, (input, _)) in self.inputs.iter().enumerate() {
            let feed = Graph { nodes: vec![node_of(NodeKind::Feed, vec![], input.schema.clone())] };
            engine.send(install_with(input_id(index), feed, false, start()));
        }
        engine.send(install_with(VIEW, self.view(), true, start()));
    }
}

fn check(hosted: &Hosted) {
    let replayed = std::env::var("HEADWATER_SEED").ok().map(|seed| seed.parse::<u64>().expect("a seed is a number"));
    let first = replayed.unwrap_or_else(|| rand::random::<u64>() >> 16);
    for seed in first..first + replayed.map_or(CASES, |_| 1) {
        for workers in [1, 3] {
            eprintln!("HEADWATER_SEED={seed}, {workers} workers");
            check_case(hosted, seed, workers);
        }
    }
}

fn check_case(hosted: &Hosted, seed: u64, workers: usize) {
    let mut random = SmallRng::seed_from_u64(seed);
    let inputs: Vec<Input> = hosted.inputs.iter().map(|(input, _)| input.clone()).collect();
    let steps = random_steps(&mut random, &inputs);
    let restart_before = random.random_range(1..=steps.len() * 2);
    let mut alone = (hosted.make)();
    let mut expected = Table::default();
    let mut engine = Engine::start(workers);
    hosted.install(&engine, || Start::Hydrate(HashMap::new()));
    for (index, deltas) in steps.iter().enumerate() {
        if index == restart_before {
            engine = restarted(hosted, engine, random.random_range(1..=4));
        }
        if index == 0 || deltas.iter().any(|delta| !delta.is_empty()) {
            expected.add_delta(&alone.eval(moment(index), deltas));
        }
        let fed = deltas.iter().enumerate().map(|(index, delta)| (input_id(index), delta.clone())).collect();
        engine.feed(fed);
        let mut found = Table::default();
        engine.sums.get(&VIEW).into_iter().for_each(|delta: &Delta| found.add_delta(delta));
        assert_eq!(found, expected, "after step {} of case {seed} on {workers} workers", index + 1);
    }
}

/// A new engine with the state of the old one and another number of workers.
fn restarted(hosted: &Hosted, old: Engine, workers: usize) -> Engine {
    let saved = old.save();
    let mut new = Engine::start(workers);
    hosted.install(&new, || Start::Restore(saved.clone()));
    new.step = old.step;
    new.sums = old.sums;
    new
}

const LEFT: &str = "k INT, x BIGINT";
const RIGHT: &str = "k INT, y TEXT";

fn joined(columns: &str, make: impl Fn(JoinOn) -> Box<dyn Operator> + Send + Sync + 'static, keyed: bool) -> Hosted {
    let on = || JoinOn { left: vec![0], right: vec![0], null_equals_null: false, residual: None };
    let route = Route::ByKey(if keyed { vec![0] } else { vec![] });
    Hosted {
        make: Arc::new(move || make(on())),
        inputs: vec![(Input::new(LEFT), route.clone()), (Input::new(RIGHT), route)],
        schema: schema(columns),
    }
}

#[test]
fn an_inner_join_obeys_the_law_on_workers() {
    const BOTH: &str = "k INT, x BIGINT, k2 INT, y TEXT";
    let make = |on| Box::new(Join::new(on, &schema(LEFT), &schema(RIGHT), schema(BOTH))) as Box<dyn Operator>;
    check(&joined(BOTH, make, true));
}

#[test]
fn outer_joins_obey_the_law_on_workers() {
    const BOTH: &str = "k INT, x BIGINT, k2 INT, y TEXT";
    for kind in [OuterKind::Left, OuterKind::Full] {
        let make = move |on| {
            let join = OuterJoin::new(kind, on, &schema(LEFT), &schema(RIGHT), schema(BOTH));
            Box::new(join) as Box<dyn Operator>
        };
        check(&joined(BOTH, make, true));
    }
}

#[test]
fn semi_joins_obey_the_law_on_workers() {
    for (kind, keyed) in [(SemiKind::Anti, true), (SemiKind::NullAwareAnti, false)] {
        let make = move |on| {
            let join = SemiJoin::new(kind, on, &schema(LEFT), &schema(RIGHT), schema(LEFT));
            Box::new(join) as Box<dyn Operator>
        };
        check(&joined(LEFT, make, keyed));
    }
}

#[test]
fn distinct_obeys_the_law_on_workers() {
    check(&Hosted {
        make: Arc::new(|| Box::new(Distinct::new(schema(LEFT)))),
        inputs: vec![(Input::new(LEFT), Route::ByKey(vec![0, 1]))],
        schema: schema(LEFT),
    });
}

#[test]
fn aggregates_obey_the_law_on_workers() {
    for key in [vec![0], vec![]] {
        let aggregate = counted(&key);
        let schema_of = counted_schema(&key);
        check(&Hosted {
            make: Arc::new(move || aggregate()),
            inputs: vec![(Input::new(LEFT), Route::ByKey(key))],
            schema: schema_of,
        });
    }
}

fn calls() -> (Vec<AggregateCall>, Vec<DataType>) {
    let call = |name: &str, arguments: Vec<usize>, distinct: bool| {
        let types: Vec<DataType> = arguments.iter().map(|_| DataType::Int64).collect();
        let found = find(name, &types, false).expect("the aggregate has a rule");
        (AggregateCall { function: found.make, arguments, filter: None, distinct }, found.result)
    };
    [call("count", vec![], false), call("count", vec![1], true), call("min", vec![1], false)].into_iter().unzip()
}

/// `SELECT key, count(*), count(DISTINCT x), min(x)` over the left columns.
fn counted(key: &[usize]) -> impl Fn() -> Box<dyn Operator> + Send + Sync + 'static {
    let key = key.to_vec();
    move || Box::new(Aggregate::new(key.clone(), calls().0, &schema(LEFT), counted_schema(&key)))
}

fn counted_schema(key: &[usize]) -> SchemaRef {
    let keys = key.iter().map(|_| DataType::Int32);
    let field = |(index, kind)| Field::new(format!("c{index}"), kind, true);
    Arc::new(Schema::new(keys.chain(calls().1).enumerate().map(field).collect::<Vec<_>>()))
}
