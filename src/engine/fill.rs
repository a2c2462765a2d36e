//! Filling what is new beside the running engine: from one step in slices, then with the steps since, until it can be
//! switched in at one step.
//!
//! A new view (or index) over many rows is built in a dataflow of its own, by workers of its own, while other writers
//! go on. When it has caught up, its state is handed over as if it came from a checkpoint. Nothing of it is logged
//! before that step: after a kill in between there is no such view.

use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::define::feed_graph;
use super::event::{Definition, Event, Events, WriteError};
use super::handle::EngineConfig;
use super::ingest::Reread;
use super::record::Position;
use super::run::{Core, WriteReply};
use super::step::collect_step;
use crate::catalog::{Catalog, CatalogEdit, OID_BASE, Relation, RelationKind, WATERMARKS};
use crate::dataflow::{Class, Command, Graph, Install, NodeKind, Report, SavedPart, Start, Workers};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::state::Snapshot;
use crate::zset::{Delta, ErrorRows, Moment, RelationId, Rows, Step};

/// Steps that may be left to the engine's own thread when it switches to what was filled.
const BEHIND_MAX: usize = 4;
/// How often a fill catches up before it is switched in however far it is behind: who writes faster than the view can
/// be kept up to date has to wait for it then, as always.
const ROUNDS_MAX: usize = 100;

/// A job that runs beside the engine, as `SHOW JOBS` tells of it.
#[derive(Debug, Clone)]
pub struct Job {
    pub id: u64,
    /// `CREATE MATERIALIZED VIEW public.v`
    pub what: String,
    pub state: &'static str,
    /// Rows of what is read that are in already, and those that were there when it began.
    pub rows: (u64, u64),
    /// Microseconds since 1970.
    pub started_at: i64,
}

/// The jobs that run now. Clones are the same list.
#[derive(Clone, Default)]
pub(super) struct Jobs(Arc<Mutex<BTreeMap<u64, Job>>>);

impl Jobs {
    pub fn list(&self) -> Vec<Job> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<u64, Job>)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn update(&self, id: u64, change: impl FnOnce(&mut Job)) {
        self.change(|jobs| {
            if let Some(job) = jobs.get_mut(&id) {
                change(job);
            }
        });
    }
}

/// The changes of one step in the relations that a fill reads.
type StepChanges = (Moment, Vec<(RelationId, Delta)>);

/// What the loop keeps of a fill.
pub(super) struct Fill {
    reads: Vec<RelationId>,
    steps: Sender<StepChanges>,
}

/// A fill that has ended, by being ready or by an error.
pub(super) struct Filled {
    id: u64,
    definition: Definition,
    reply: WriteReply,
    result: SqlResult<Filler>,
}

/// A relation that a fill reads, as of the step at which it began.
struct Input {
    id: RelationId,
    contents: Contents,
    errors: ErrorRows,
}

enum Contents {
    Kept(Snapshot),
    /// A source, to be read again up to where it stood.
    Again(Arc<Relation>, Position),
}

impl Input {
    fn rows(&self) -> u64 {
        match &self.contents {
            Contents::Kept(snapshot) => snapshot.rows() as u64,
            Contents::Again(..) => 0,
        }
    }
}

/// A dataflow outside of the engine's own, with all that it reads.
pub(super) struct Filler {
    view: RelationId,
    fingerprint: u64,
    workers: Workers,
    reports: Receiver<Report>,
    count: usize,
    at: Step,
    steps: Receiver<StepChanges>,
}

impl Core {
    /// Takes a definition: at once, or, if it creates something that is filled from many rows, beside the engine.
    pub(super) fn define_or_fill(&mut self, definition: Definition, reply: WriteReply) {
        match self.worth_filling(&definition) {
            Some((relation, after)) => {
                if let Err((reply, error)) = self.begin_fill(definition, &relation, &after, reply) {
                    let _ = reply.send(Err(error.into()));
                }
            }
            None => {
                let result = self.define(definition, None);
                self.answer_when_closed(reply, result);
            }
        }
    }

    /// The one relation that a definition creates, if filling it at once would hold up others for long.
    fn worth_filling(&self, definition: &Definition) -> Option<(Relation, Catalog)> {
        let mut created = definition.edits.iter().filter_map(|edit| match edit {
            CatalogEdit::Create(relation) => Some(relation),
            _ => None,
        });
        let relation = created.next().filter(|_| created.next().is_none() && definition.changes.is_empty())?;
        let is_filled = matches!(relation.kind, RelationKind::MaterializedView | RelationKind::Index);
        if !is_filled || definition.base != self.catalog.version() {
            return None;
        }
        let after = self.catalog.check_all(&definition.edits).ok()?;
        let published = self.published.borrow().clone();
        let mut below: Vec<RelationId> = relation.depends_on.clone();
        let mut rows = 0;
        while let Some(id) = below.pop() {
            let Some(read) = self.catalog.get(id) else { continue };
            match read.kind {
                RelationKind::View => below.extend(&read.depends_on),
                // How many rows a source has given, its position does not tell.
                RelationKind::Source if self.positions.contains_key(&id) => rows += self.config.fill_rows,
                _ => rows += published.held(id).0,
            }
        }
        (rows >= self.config.fill_rows).then(|| (relation.clone(), after))
    }

    fn begin_fill(
        &mut self,
        definition: Definition,
        relation: &Relation,
        after: &Catalog,
        reply: WriteReply,
    ) -> Result<(), (WriteReply, SqlError)> {
        let graph = match self.graph_of_relation(relation, after) {
            Ok(Some(graph)) => graph,
            Ok(None) => return Err((reply, SqlError::internal("nothing is to be filled"))),
            Err(error) => return Err((reply, error)),
        };
        self.jobs_begun += 1;
        let id = self.jobs_begun;
        let mut inputs: Vec<Input> = graph.relations().into_iter().filter_map(|id| self.input(id)).collect();
        // The small ones first: what joins find already there, they need not correct.
        // Watermarks last: they say of what is there already that it is all.
        let is_read_again = |input: &Input| matches!(input.contents, Contents::Again(..));
        inputs.sort_by_key(|input| (input.id == WATERMARKS, is_read_again(input), input.rows()));
        let (steps, received) = channel();
        self.fills.insert(id, Fill { reads: graph.relations(), steps });
        let job = Job {
            id,
            what: format!("CREATE {} {}.{}", relation.kind.keyword(), relation.schema, relation.name),
            state: "filling",
            rows: (0, inputs.iter().map(Input::rows).sum()),
            started_at: super::step::clock(),
        };
        self.jobs.change(|jobs| drop(jobs.insert(id, job)));
        let task = Task {
            id,
            definition,
            reply,
            now: self.at.now,
            inputs,
            feeds: self.feeds_of(&graph, after),
            view: Install {
                relation: relation.id,
                key: relation.arrangement_key(),
                keep: true,
                graph,
                start: Start::Hydrate(HashMap::new()),
            },
            steps: received,
            jobs: self.jobs.clone(),
            config: self.config.clone(),
            runtime: self.runtime.handle().clone(),
            events: self.events.clone(),
        };
        thread::Builder::new().name("fill".to_string()).spawn(|| task.run()).expect("the system can start a thread");
        Ok(())
    }

    /// What a relation holds now.
    fn input(&self, id: RelationId) -> Option<Input> {
        let published = self.published.borrow().clone();
        let relation = self.catalog.get(id)?;
        let contents = match relation.kind {
            RelationKind::Source => Contents::Again(relation.clone(), self.positions.get(&id)?.clone()),
            _ => Contents::Kept(published.snapshot(id)?),
        };
        Some(Input { id, contents, errors: published.errors(id) })
    }

    /// In place of the dataflows that fill the relations read: feeds that pass on what they are given.
    fn feeds_of(&self, graph: &Graph, catalog: &Catalog) -> Vec<Install> {
        let relations = graph.relations().into_iter().filter_map(|id| catalog.get(id));
        let install = |relation: &Arc<Relation>| Install {
            relation: relation.id,
            graph: feed_graph(relation, self.flows.get(&relation.id).is_some_and(|flow| flow.append_only)),
            keep: false,
            key: relation.arrangement_key(),
            start: Start::Hydrate(HashMap::new()),
        };
        relations.map(install).collect()
    }

    /// Lets fills know what a step has changed.
    pub(super) fn tell_fills(&self, deltas: &BTreeMap<RelationId, Vec<Delta>>) {
        for fill in self.fills.values() {
            let read = deltas.iter().filter(|(id, _)| fill.reads.contains(id));
            let changes: Vec<(RelationId, Delta)> =
                read.map(|(id, parts)| (*id, Delta::concat(&parts[0].schema(), parts.clone()))).collect();
            if !changes.is_empty() {
                // A fill that has ended tells so by itself.
                let _ = fill.steps.send((self.at, changes));
            }
        }
    }

    /// A fill has ended: what it made becomes visible in one step.
    pub(super) fn filled(&mut self, filled: Filled) {
        let Filled { id, definition, reply, result } = filled;
        // With the sender gone the filler's queue has an end.
        self.fills.remove(&id);
        let result = match result {
            Err(error) => Err(WriteError::Refused(error)),
            Ok(_) if reply.is_closed() => Err(WriteError::Refused(cancelled())),
            Ok(filler) => self.switch_in(definition, filler),
        };
        self.jobs.change(|jobs| drop(jobs.remove(&id)));
        self.answer_when_closed(reply, result);
    }

    fn switch_in(&mut self, mut definition: Definition, mut filler: Filler) -> Result<Step, WriteError> {
        let rest: Vec<StepChanges> = filler.steps.try_iter().collect();
        filler.catch_up(rest)?;
        let mut parts = filler.save()?;
        if definition.base != self.catalog.version() {
            self.rebase(&mut definition, &filler, &mut parts)?;
        }
        // Its threads end while others go on.
        thread::spawn(move || drop(filler));
        self.define(definition, Some(parts))
    }

    /// The catalog has changed since the fill began. If what the view reads is still the same, it is taken over under
    /// an id that is free; else the statement has to be bound again.
    fn rebase(&self, definition: &mut Definition, filler: &Filler, parts: &mut [SavedPart]) -> Result<(), WriteError> {
        let id = self.catalog.next_id();
        for edit in &mut definition.edits {
            if let CatalogEdit::Create(relation) = edit
                && relation.id == filler.view
            {
                relation.id = id;
                relation.oid = OID_BASE + u32::try_from(id.0).map_err(|_| WriteError::Conflict)?;
            }
        }
        let after = self.catalog.check_all(&definition.edits).map_err(|_| WriteError::Conflict)?;
        let relation = after.get(id).ok_or(WriteError::Conflict)?;
        let graph = self.graph_of_relation(relation, &after).ok().flatten().ok_or(WriteError::Conflict)?;
        if super::define::fingerprint(&graph) != filler.fingerprint {
            return Err(WriteError::Conflict);
        }
        parts.iter_mut().for_each(|part| part.relation = id);
        definition.base = self.catalog.version();
        Ok(())
    }
}

fn cancelled() -> SqlError {
    SqlError::new(SqlState::QUERY_CANCELED, "canceling statement due to user request")
}

/// All that the thread of a fill needs.
struct Task {
    id: u64,
    definition: Definition,
    reply: oneshot::Sender<Result<Step, WriteError>>,
    now: i64,
    inputs: Vec<Input>,
    feeds: Vec<Install>,
    view: Install,
    steps: Receiver<StepChanges>,
    jobs: Jobs,
    config: EngineConfig,
    runtime: Handle,
    events: Events,
}

impl Task {
    fn run(self) {
        let events = self.events.clone();
        // The engine may have stopped meanwhile.
        let _ = events.blocking_send(Event::Filled(Box::new(self.fill())));
    }

    fn fill(mut self) -> Filled {
        let (workers, reports) = Workers::start(self.config.workers);
        let view = self.view.relation;
        let at_once = self.view.graph.nodes.iter().any(computes_anew);
        let fingerprint = super::define::fingerprint(&self.view.graph);
        self.feeds.drain(..).for_each(|feed| workers.send(&Command::Install(Arc::new(feed))));
        workers.send(&Command::Install(Arc::new(self.view)));
        let (_, ended) = channel();
        let steps = std::mem::replace(&mut self.steps, ended);
        let mut filler = Filler { view, fingerprint, workers, reports, count: self.config.workers, at: Step(0), steps };
        let progress = Progress { id: self.id, jobs: &self.jobs, reply: &self.reply, events: &self.events };
        let slice = if at_once { usize::MAX } else { self.config.fill_rows.max(1) };
        let filled = self.inputs.into_iter().try_for_each(|input| {
            let source = || (&self.config, &self.runtime);
            filler.read(input, slice, self.now, source, &progress)
        });
        // A view over nothing has its first step too.
        let result = filled.and_then(|()| filler.step(self.now, Vec::new()));
        let result = result.and_then(|()| filler.follow(&progress)).map(|()| filler);
        Filled { id: self.id, definition: self.definition, reply: self.reply, result }
    }
}

/// Whether an operator's work in each step follows all that it has: it is better given everything at once.
fn computes_anew(node: &crate::dataflow::Node) -> bool {
    matches!(&node.kind, NodeKind::Operator(recipe) if recipe.class == Class::Recompute)
}

/// Tells how far a fill is, and whether anybody waits for it.
struct Progress<'a> {
    id: u64,
    jobs: &'a Jobs,
    reply: &'a WriteReply,
    events: &'a Events,
}

impl Progress<'_> {
    fn check(&self) -> SqlResult<()> {
        match self.reply.is_closed() || self.events.is_closed() {
            true => Err(cancelled()),
            false => Ok(()),
        }
    }
}

impl Filler {
    /// Takes all that an input held at the beginning, slice by slice.
    fn read<'a>(
        &mut self,
        input: Input,
        slice: usize,
        now: i64,
        source: impl Fn() -> (&'a EngineConfig, &'a Handle),
        progress: &Progress<'_>,
    ) -> SqlResult<()> {
        let mut errors = input.errors;
        let mut take = |rows: Rows| {
            progress.check()?;
            let taken = rows.len() as u64;
            let delta = Delta::new(rows, std::mem::take(&mut errors));
            self.step(now, vec![(input.id, delta)])?;
            progress.jobs.update(progress.id, |job| job.rows.0 += taken);
            Ok(())
        };
        match input.contents {
            Contents::Kept(snapshot) => {
                snapshot.batches(slice).try_for_each(&mut take)?;
                take(Rows::empty(snapshot.schema().clone()))
            }
            Contents::Again(relation, position) => {
                let (config, runtime) = source();
                let mut again = Reread::open(&relation, config, (None, None), position)?;
                while let Some(rows) = runtime.block_on(again.next())? {
                    take(rows)?;
                }
                Ok(())
            }
        }
    }

    /// Takes the steps since, until few are left.
    fn follow(&mut self, progress: &Progress<'_>) -> SqlResult<()> {
        progress.jobs.update(progress.id, |job| job.state = "catching up");
        for _ in 0..ROUNDS_MAX {
            progress.check()?;
            let waiting: Vec<StepChanges> = self.steps.try_iter().collect();
            let behind = waiting.len();
            self.catch_up(waiting)?;
            if behind <= BEHIND_MAX {
                break;
            }
        }
        Ok(())
    }

    /// Takes several steps as one: into which steps changes are cut does not matter for where they lead.
    fn catch_up(&mut self, steps: Vec<StepChanges>) -> SqlResult<()> {
        let Some(now) = steps.last().map(|(moment, _)| moment.now) else { return Ok(()) };
        let mut sums: BTreeMap<RelationId, Vec<Delta>> = BTreeMap::new();
        for (id, delta) in steps.into_iter().flat_map(|(_, changes)| changes) {
            sums.entry(id).or_default().push(delta);
        }
        let sum = |(id, parts): (RelationId, Vec<Delta>)| (id, Delta::concat(&parts[0].schema(), parts));
        self.step(now, sums.into_iter().map(sum).collect())
    }

    fn step(&mut self, now: i64, deltas: Vec<(RelationId, Delta)>) -> SqlResult<()> {
        self.at = self.at.next();
        self.workers.send(&Command::Feed { at: Moment { step: self.at, now }, deltas: Arc::new(deltas) });
        collect_step(&self.reports, self.count, self.at).map(drop).map_err(|(_, reason)| broken(&reason))
    }

    fn save(&mut self) -> SqlResult<Vec<SavedPart>> {
        self.workers.send(&Command::Save);
        let mut parts = Vec::new();
        for _ in 0..self.count {
            match self.reports.recv() {
                Ok(Report::Saved { parts: own, .. }) => parts.extend(own),
                Ok(Report::Died { reason, .. }) => return Err(broken(&reason)),
                Ok(Report::Step { .. } | Report::Weight { .. }) => unreachable!("only what was asked for is reported"),
                Err(_) => return Err(broken("its channel is closed")),
            }
        }
        parts.retain(|part| part.relation == self.view);
        Ok(parts)
    }
}

fn broken(reason: &str) -> SqlError {
    SqlError::internal(format!("filling has stopped: {reason}"))
}
