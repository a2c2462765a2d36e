//! Builds one relation's dataflow on a worker, hydrates or restores it, and saves its state again.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::check::guarded;
use super::command::{Install, Place, SavedPart, Start};
use super::exchange::{error_owner, share};
use super::graph::{Graph, NodeKind, Route};
use super::host::Hosted;
use super::operator::{Held, Mapped};
use super::output::{Changes, Output};
use super::stage::{Body, Clock, Layout, Stage, edges_with_output};
use super::tap::{Inbox, Tap};
use crate::state::{Arrangement, Run, range_of, worker_of};
use crate::zset::{Delta, ErrorRows, KEYLESS_HASH, Moment, RelationId, Step};

/// The worker on which clocks tick.
const CLOCK_WORKER: usize = 0;

/// Which worker this is, of how many.
#[derive(Clone, Copy)]
pub struct Site {
    pub worker: usize,
    pub workers: usize,
}

/// The dataflow of one relation on one worker.
pub struct Dataflow {
    pub relation: RelationId,
    /// The relations that it reads.
    upstream: Vec<RelationId>,
    uses_clock: bool,
    /// True until its first step: a new dataflow takes part in the next step, whatever that feeds, to be filled or to
    /// report what was restored.
    fresh: bool,
    keep: bool,
    tap: Rc<Tap>,
    feeds: Vec<Rc<Inbox>>,
    stages: Vec<Hosted>,
}

impl Dataflow {
    /// Builds a dataflow; `others` hold the relations that it reads, `host` puts the stages to where they run.
    pub fn install(
        install: &Install,
        site: Site,
        others: &[Dataflow],
        changes: &Changes,
        host: impl FnOnce(&Layout, Vec<Stage>) -> Vec<Hosted>,
    ) -> Self {
        let graph = &install.graph;
        let tap = Rc::new(Tap::default());
        let sources = sources(install, site, others);
        let route = if install.keep { Route::ByKey(install.key.clone()) } else { Route::Local };
        let edges = edges_with_output(graph, route);
        let layout = Layout::new(&edges, site.workers);
        let schemas = schemas(graph);
        let body = |node: usize| match graph.nodes.get(node).map(|node| &node.kind) {
            Some(NodeKind::Feed | NodeKind::Relation(_)) => Body::Source(sources[&node].clone()),
            Some(NodeKind::Clock) => Body::Clock(Clock::new(site.worker == CLOCK_WORKER)),
            Some(NodeKind::Operator(recipe)) => Body::Operator {
                operator: guarded((recipe.make)(), recipe.name, schemas[node].clone(), graph.nodes[node].append_only),
                begins: sole_owner(graph, node, site.workers) == Some(site.worker),
            },
            None => Body::Output(output(install, &tap, changes)),
        };
        let mut stages: Vec<Stage> =
            layout.stages.iter().map(|stage| Stage::new(stage, &edges, &schemas, body)).collect();
        if let Start::Restore(parts) = &install.start {
            restore(&mut stages, install, parts, site);
        }
        let stages = host(&layout, stages);
        sources.values().for_each(|inbox| inbox.wake_by(stages[0].waker()));
        let is_feed = |node: usize| matches!(graph.nodes[node].kind, NodeKind::Feed);
        Self {
            relation: install.relation,
            upstream: graph.relations(),
            uses_clock: graph.uses_clock(),
            fresh: true,
            keep: install.keep,
            tap,
            feeds: sources.into_iter().filter(|(node, _)| is_feed(*node)).map(|(_, inbox)| inbox).collect(),
            stages,
        }
    }

    /// Rows for the next step; only for relations whose graph has a node to be fed.
    pub fn feed(&self, step: Step, rows: &Delta) {
        assert!(!self.feeds.is_empty(), "{} takes no rows from outside", self.relation);
        self.feeds.iter().for_each(|inbox| inbox.put(step, rows.clone()));
    }

    /// True if the dataflow has to take part in the next step, given which relations do.
    pub fn takes_part(&self, in_step: impl Fn(RelationId) -> bool) -> bool {
        self.fresh || self.uses_clock || self.upstream.iter().any(|relation| in_step(*relation))
    }

    /// Begins a step, to be finished once the tap has finished it. Relations that are read have begun it before.
    pub fn begin(&mut self, at: Moment) -> Rc<Tap> {
        self.fresh = false;
        self.tap.begin(at.step);
        self.stages.iter().for_each(|stage| stage.begin(at));
        self.stages[0].activate();
        self.tap.clone()
    }

    /// All state, as of the last step, which must be finished.
    pub fn save(&self) -> Vec<SavedPart> {
        let mut parts = Vec::new();
        for stage in &self.stages {
            let mut stage = stage.stage.borrow_mut();
            for (node, saved) in stage.save() {
                parts.extend(saved.into_iter().enumerate().map(|(part, saved)| SavedPart {
                    relation: self.relation,
                    place: Place::Operator { node, part },
                    runs: saved.runs,
                    errors: ErrorRows::default(),
                }));
            }
            parts.extend(stage.output().map(|output| output.save()));
        }
        parts
    }

    /// Puts mapped runs in the place of those in memory. Readers are told with the next step.
    pub fn spill(&mut self, mapped: &Mapped) {
        for stage in &self.stages {
            self.fresh |= stage.stage.borrow_mut().spill(mapped);
        }
    }

    pub fn held(&self) -> Held {
        let held = self.stages.iter().map(|stage| stage.stage.borrow().held());
        held.fold(Held::default(), |a, b| Held { rows: a.rows + b.rows, bytes: a.bytes + b.bytes })
    }

    /// Ends the dataflow. Its memory is free once Timely has seen the end on all workers.
    pub fn close(&self) {
        self.stages.iter().for_each(Hosted::close);
    }

    /// What a new reader on this worker begins with.
    fn contents(&self, empty: &Delta) -> Delta {
        let last = self.stages.last().expect("a dataflow has at least one stage");
        let mut stage = last.stage.borrow_mut();
        stage.output().expect("the output is in the last stage").contents(empty)
    }
}

/// The schemas of all nodes, the output's last.
fn schemas(graph: &Graph) -> Vec<SchemaRef> {
    graph.nodes.iter().chain([graph.output()]).map(|node| node.schema.clone()).collect()
}

fn output(install: &Install, tap: &Rc<Tap>, changes: &Changes) -> Output {
    let graph = &install.graph;
    let arrangement = install.keep.then(|| Arrangement::new(graph.schema(), install.key.clone()));
    let is_table = matches!(graph.nodes.as_slice(), [node] if matches!(node.kind, NodeKind::Feed));
    Output::new(install.relation, arrangement, is_table, tap.clone(), changes.clone())
}

/// An inbox for each source node, already holding the rows with which a new dataflow begins.
fn sources(install: &Install, site: Site, others: &[Dataflow]) -> BTreeMap<usize, Rc<Inbox>> {
    let source = |(index, node): (usize, &super::graph::Node)| match node.kind {
        NodeKind::Feed => Some((index, Inbox::new(None))),
        NodeKind::Relation(id) => {
            let read = others.iter().find(|other| other.relation == id);
            let read = read.unwrap_or_else(|| panic!("{} reads {id}, which is not installed", install.relation));
            let inbox = Inbox::new(Some(read.tap.clone()));
            if let Start::Hydrate(given) = &install.start {
                let empty = Delta::empty(node.schema.clone());
                let rows = given.get(&id).filter(|_| !read.keep).map(|rows| share(rows, site.worker, site.workers));
                inbox.put(Step(0), rows.unwrap_or_else(|| read.contents(&empty)));
            }
            Some((index, inbox))
        }
        NodeKind::Clock | NodeKind::Operator(_) => None,
    };
    install.graph.nodes.iter().enumerate().filter_map(source).collect()
}

/// Gives every operator and the output their share of what was saved, maybe by another number of workers.
fn restore(stages: &mut [Stage], install: &Install, parts: &[SavedPart], site: Site) {
    let mut operators: BTreeMap<usize, Vec<Vec<Arc<Run>>>> = BTreeMap::new();
    let (mut output_runs, mut output_errors) = (Vec::new(), ErrorRows::default());
    for saved in parts.iter().filter(|saved| saved.relation == install.relation) {
        match saved.place {
            Place::Output => {
                output_runs.extend(own_runs(&saved.runs, site));
                let own = saved.errors.iter().filter(|(error, _)| error_owner(error, site.workers) == site.worker);
                own.for_each(|(error, weight)| output_errors.add(error.clone(), weight));
            }
            Place::Operator { node, part } => {
                let runs = match sole_owner(&install.graph, node, site.workers) {
                    None => own_runs(&saved.runs, site),
                    Some(owner) if owner == site.worker => saved.runs.clone(),
                    Some(_) => Vec::new(),
                };
                let parts = operators.entry(node).or_default();
                parts.resize_with(parts.len().max(part + 1), Vec::new);
                parts[part].extend(runs);
            }
        }
    }
    for stage in stages {
        stage.resume();
        operators.iter().for_each(|(node, parts)| stage.load(*node, parts.clone()));
        if let Some(output) = stage.output() {
            output.load(output_runs.clone(), output_errors.clone());
        }
    }
}

/// The worker that holds all state of a node whose state is not divided by hash.
fn sole_owner(graph: &Graph, node: usize, workers: usize) -> Option<usize> {
    match graph.nodes[node].kind {
        NodeKind::Clock => Some(CLOCK_WORKER),
        _ if graph.meets_on_one_worker(node) => Some(worker_of(KEYLESS_HASH, workers)),
        _ => None,
    }
}

/// The rows of runs whose hashes this worker owns. A run that is wholly its own stays the same run.
fn own_runs(runs: &[Arc<Run>], site: Site) -> Vec<Arc<Run>> {
    let (from, to) = range_of(site.worker, site.workers);
    let cut = |run: &Arc<Run>| match (run.hashes().first(), run.hashes().last()) {
        (Some(first), Some(last)) if from <= *first && *last <= to => Some(run.clone()),
        (Some(first), Some(last)) if *first <= to && from <= *last => Some(Arc::new(run.slice(from, to))),
        _ => None,
    };
    runs.iter().filter_map(cut).filter(|run| !run.is_empty()).collect()
}
