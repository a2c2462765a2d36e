//! The worker threads: each obeys the same commands in the same order and reports what its share became.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::thread::Thread;
use std::time::{Duration, Instant};

use timely::communication::{Allocator, WorkerGuards, initialize_from};
use timely::worker::Worker;
use timely::{CommunicationConfig, WorkerConfig};

use super::command::{Command, Install, Report};
use super::exchange::share;
use super::host::host_dataflow;
use super::install::{Dataflow, Site};
use super::operator::Held;
use super::output::Changes;
use super::tap::Tap;
use crate::zset::{Delta, Moment, RelationId};

/// How long a worker that waits for others looks out for them before it sleeps.
const LOOKOUT: Duration = Duration::from_micros(20);
/// How often a worker that ends looks whether another one has died meanwhile.
const PATIENCE: Duration = Duration::from_millis(50);

/// The handle on this process's worker threads. Dropping it stops them.
pub struct Workers {
    threads: Vec<(Sender<Command>, Thread)>,
    guards: Option<WorkerGuards<()>>,
}

impl Workers {
    /// Starts worker threads in one process, and gives the channel on which they all report.
    pub fn start(workers: usize) -> (Self, Receiver<Report>) {
        let config = if workers == 1 { CommunicationConfig::Thread } else { CommunicationConfig::Process(workers) };
        Self::launch(config, workers, 0).expect("threads of one process need nothing from outside")
    }

    /// Starts this process's threads of a cluster in which every process has `threads` of them. All processes must
    /// get the same commands in the same order. Returns once all processes are connected.
    pub fn start_in_cluster(
        threads: usize,
        process: usize,
        addresses: Vec<String>,
    ) -> Result<(Self, Receiver<Report>), String> {
        let config = CommunicationConfig::Cluster { threads, process, addresses, report: false, zerocopy: false };
        Self::launch(config, threads, process * threads)
    }

    fn launch(config: CommunicationConfig, threads: usize, first: usize) -> Result<(Self, Receiver<Report>), String> {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..threads).map(|_| channel()).unzip();
        let (reports, from_workers) = channel();
        let entry = Entry {
            receivers: Mutex::new(receivers.into_iter().map(Some).collect()),
            reports: Mutex::new(reports),
            first,
            died: Arc::default(),
        };
        let (allocators, others) = config.try_build()?;
        let guards = initialize_from(allocators, others, move |allocator| entry.enter(allocator))?;
        let unparkers = guards.guards().iter().map(|guard| guard.thread().clone());
        let threads = senders.into_iter().zip(unparkers).collect();
        Ok((Self { threads, guards: Some(guards) }, from_workers))
    }

    /// Gives a command to all workers. Reports come from each of them, except for [`Command::Stop`].
    pub fn send(&self, command: &Command) {
        for (sender, thread) in &self.threads {
            // A worker that is gone has reported why.
            let _ = sender.send(command.clone());
            thread.unpark();
        }
    }

    /// Waits until all commands are obeyed and all threads have ended.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.send(&Command::Stop);
        if let Some(guards) = self.guards.take() {
            guards.join();
        }
    }
}

/// What the threads need to begin.
struct Entry {
    receivers: Mutex<Vec<Option<Receiver<Command>>>>,
    reports: Mutex<Sender<Report>>,
    /// The index of this process's first worker.
    first: usize,
    died: Arc<AtomicBool>,
}

impl Entry {
    fn enter(&self, allocator: Allocator) {
        // With one worker nothing comes from others, so there is nothing to look out for.
        let lookout = if matches!(allocator, Allocator::Thread(_)) { Duration::ZERO } else { LOOKOUT };
        let worker = Worker::new(WorkerConfig::default().idle_spin(lookout), allocator, Some(Instant::now()));
        let index = worker.index();
        let mut receivers = self.receivers.lock().expect("no thread fails while it enters");
        let commands = receivers[index - self.first].take().expect("a thread enters once");
        drop(receivers);
        let reports = self.reports.lock().expect("no thread fails while it enters").clone();
        let site = Site { worker: index, workers: worker.peers() };
        let mut seat = Seat {
            worker,
            site,
            commands,
            reports: reports.clone(),
            queue: VecDeque::new(),
            dataflows: Vec::new(),
            in_flight: VecDeque::new(),
            changes: Rc::new(RefCell::new(BTreeMap::new())),
            died: self.died.clone(),
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| seat.run())) {
            self.died.store(true, Ordering::Release);
            // What the panic left half done must not be touched again, not even to be dropped.
            std::mem::forget(seat);
            let _ = reports.send(Report::Died { worker: index, reason: reason_of(panic.as_ref()) });
        }
    }
}

fn reason_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}

/// One worker thread.
struct Seat {
    worker: Worker,
    site: Site,
    commands: Receiver<Command>,
    reports: Sender<Report>,
    /// Commands received and not yet obeyed.
    queue: VecDeque<Command>,
    /// In the order of their installation, so that a dataflow stands after all that it reads.
    dataflows: Vec<Dataflow>,
    /// Steps begun and not reported, rising, with the taps that have to finish them.
    in_flight: VecDeque<(Moment, Vec<Rc<Tap>>)>,
    changes: Changes,
    died: Arc<AtomicBool>,
}

impl Seat {
    fn run(&mut self) {
        loop {
            self.receive();
            while let Some(command) = self.next_command() {
                match command {
                    Command::Install(install) => self.install(&install),
                    Command::Drop(relations) => self.drop_relations(&relations),
                    Command::Feed { at, deltas } => self.feed(at, &deltas),
                    Command::Save => self.save(),
                    Command::Weigh => self.weigh(),
                    Command::Spill(mapped) => self.dataflows.iter_mut().for_each(|dataflow| dataflow.spill(&mapped)),
                    Command::Stop => return self.end(),
                }
                self.report_steps();
            }
            if self.died.load(Ordering::Acquire) {
                return;
            }
            // Sleeps if nothing is to be done, until another worker sends something or `Workers::send` wakes it.
            self.worker.step_or_park(None);
            self.report_steps();
        }
    }

    fn receive(&mut self) {
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.queue.push_back(command),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.queue.push_back(Command::Stop);
                    break;
                }
            }
        }
    }

    /// Steps may overlap; all else waits until the steps before it are finished here.
    fn next_command(&mut self) -> Option<Command> {
        let is_step = matches!(self.queue.front()?, Command::Feed { .. });
        if is_step || self.in_flight.is_empty() { self.queue.pop_front() } else { None }
    }

    fn install(&mut self, install: &Install) {
        let name = install.relation.to_string();
        let worker = &mut self.worker;
        let dataflow = Dataflow::install(install, self.site, &self.dataflows, &self.changes, |layout, stages| {
            host_dataflow(worker, &name, layout, stages)
        });
        self.dataflows.push(dataflow);
    }

    fn drop_relations(&mut self, relations: &[RelationId]) {
        let (gone, stay) = std::mem::take(&mut self.dataflows)
            .into_iter()
            .partition::<Vec<Dataflow>, _>(|dataflow| relations.contains(&dataflow.relation));
        self.dataflows = stay;
        gone.iter().for_each(Dataflow::close);
    }

    /// Begins a step in all dataflows that it can change. The others stay where they are; they cost nothing.
    fn feed(&mut self, at: Moment, deltas: &[(RelationId, Delta)]) {
        let mut in_step: Vec<RelationId> = Vec::new();
        let mut taps = Vec::new();
        for dataflow in &mut self.dataflows {
            let fed = deltas.iter().filter(|(relation, delta)| *relation == dataflow.relation && !delta.is_empty());
            let mut is_fed = false;
            for (_, delta) in fed {
                dataflow.feed(at.step, &share(delta, self.site.worker, self.site.workers));
                is_fed = true;
            }
            if is_fed || dataflow.takes_part(|relation| in_step.contains(&relation)) {
                in_step.push(dataflow.relation);
                taps.push(dataflow.begin(at));
            }
        }
        self.in_flight.push_back((at, taps));
    }

    fn report_steps(&mut self) {
        while let Some((at, taps)) = self.in_flight.front() {
            if !taps.iter().all(|tap| tap.has_finished(at.step)) {
                break;
            }
            let step = at.step;
            self.in_flight.pop_front();
            let changes = self.changes.borrow_mut().remove(&step).unwrap_or_default();
            self.report(Report::Step { worker: self.site.worker, step, changes });
        }
    }

    fn save(&self) {
        let parts = self.dataflows.iter().flat_map(Dataflow::save).collect();
        let held: Vec<(RelationId, Held)> =
            self.dataflows.iter().map(|dataflow| (dataflow.relation, dataflow.held())).collect();
        self.report(Report::Saved { worker: self.site.worker, parts, held });
    }

    fn weigh(&self) {
        self.report(Report::Weight { bytes: self.dataflows.iter().map(|dataflow| dataflow.held().bytes).sum() });
    }

    fn report(&self, report: Report) {
        // Nobody may listen any more while everything stops.
        let _ = self.reports.send(report);
    }

    /// Closes all dataflows and waits until the other workers have done so too: they may still wait for our word.
    fn end(&mut self) {
        self.dataflows.drain(..).for_each(|dataflow| dataflow.close());
        while self.worker.has_dataflows() && !self.died.load(Ordering::Acquire) {
            self.worker.step_or_park(Some(PATIENCE));
        }
    }
}
