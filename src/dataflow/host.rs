//! A stage inside a Timely operator: waits until every input has passed a step, then evaluates it once.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;

use timely::container::NoopBuilder;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::{InputHandleCore, OutputBuilder};
use timely::dataflow::{Scope, Stream};
use timely::progress::frontier::MutableAntichain;
use timely::scheduling::Activator;
use timely::worker::Worker;

use super::exchange::{EdgePact, Parcel, merge};
use super::graph::Route;
use super::stage::{Layout, Stage};
use crate::zset::{Delta, Moment, Step};

/// A stream between stages.
type ParcelStream<'scope> = Stream<'scope, u64, Parcel>;

/// What the worker holds of a hosted stage: its state, and the means to drive it.
pub struct Hosted {
    pub stage: Rc<RefCell<Stage>>,
    control: Rc<Control>,
}

#[derive(Default)]
struct Control {
    /// Steps that the worker has begun, and this stage has not evaluated.
    begun: RefCell<VecDeque<Moment>>,
    closed: Cell<bool>,
    activator: RefCell<Option<Activator>>,
}

impl Control {
    fn activate(&self) {
        if let Some(activator) = &*self.activator.borrow() {
            activator.activate();
        }
    }
}

impl Hosted {
    /// Lets the stage take part in a step. Rows that are fed have been put into their inboxes before.
    pub fn begin(&self, at: Moment) {
        self.control.begun.borrow_mut().push_back(at);
    }

    pub fn activate(&self) {
        self.control.activate();
    }

    /// A function that wakes the stage, for the inboxes of its sources.
    pub fn waker(&self) -> Box<dyn Fn()> {
        let control = self.control.clone();
        Box::new(move || control.activate())
    }

    /// Ends the stage; Timely removes the dataflow once all its stages have ended on all workers.
    pub fn close(&self) {
        self.control.closed.set(true);
        self.control.activate();
    }
}

/// Builds a Timely dataflow out of stages. All workers must build the same dataflows in the same order.
pub fn host_dataflow(worker: &mut Worker, name: &str, layout: &Layout, stages: Vec<Stage>) -> Vec<Hosted> {
    worker.dataflow_named::<u64, _, _>(name, |scope| {
        let mut streams: HashMap<usize, ParcelStream> = HashMap::new();
        let mut hosted = Vec::with_capacity(stages.len());
        for (layout, stage) in layout.stages.iter().zip(stages) {
            let ports = layout.ports.iter().map(|(node, route)| (streams[node].clone(), route.clone())).collect();
            let (here, exports) = host(scope, name, stage, ports, layout.exports.len());
            streams.extend(layout.exports.iter().copied().zip(exports));
            hosted.push(here);
        }
        hosted
    })
}

/// Puts a stage into a Timely dataflow. `ports` are the streams that it reads; returns a stream for each export.
fn host<'scope>(
    scope: Scope<'scope, u64>,
    name: &str,
    stage: Stage,
    ports: Vec<(ParcelStream<'scope>, Route)>,
    exports: usize,
) -> (Hosted, Vec<ParcelStream<'scope>>) {
    let mut builder = OperatorBuilder::new(name.to_owned(), scope);
    let inputs: Vec<InputHandle> =
        ports.into_iter().map(|(stream, route)| builder.new_input(stream, EdgePact::new(route))).collect();
    // A stage that nothing reads has an output all the same: the capability for it keeps the operator alive.
    let (outputs, mut streams): (Vec<_>, Vec<_>) = (0..exports.max(1)).map(|_| builder.new_output::<Parcel>()).unzip();
    streams.truncate(exports);
    let control = Rc::new(Control::default());
    *control.activator.borrow_mut() = Some(scope.activator_for(builder.operator_info().address));
    let stage = Rc::new(RefCell::new(stage));
    let (worker, hosted) = (scope.index(), Hosted { stage: stage.clone(), control: control.clone() });
    builder.build(move |capabilities| {
        let outputs = outputs.into_iter().map(OutputBuilder::from).collect();
        let held = Some(capabilities);
        let mut host = Host { worker, stage, control, inputs, outputs, held, waiting: BTreeMap::new(), exports };
        move |frontiers| host.run(frontiers)
    });
    (hosted, streams)
}

type InputHandle = InputHandleCore<u64, Parcel, Box<dyn timely::communication::Pull<super::exchange::ParcelMessage>>>;

struct Host {
    worker: usize,
    stage: Rc<RefCell<Stage>>,
    control: Rc<Control>,
    inputs: Vec<InputHandle>,
    outputs: Vec<OutputBuilder<u64, NoopBuilder<Parcel>>>,
    exports: usize,
    /// A stage without inputs holds the right to send at its next step until it is closed; the others hold it until
    /// their first step, in which they may have rows to send although none came.
    held: Option<Vec<Capability<u64>>>,
    waiting: BTreeMap<u64, Waiting>,
}

/// What came for a step that is not yet complete.
struct Waiting {
    capabilities: Vec<Capability<u64>>,
    /// By port.
    parcels: Vec<Vec<Parcel>>,
}

impl Host {
    fn run(&mut self, frontiers: &[MutableAntichain<u64>]) {
        if self.control.closed.get() {
            return self.end();
        }
        self.receive();
        while let Some(at) = self.next_complete(frontiers) {
            self.control.begun.borrow_mut().pop_front();
            self.evaluate(at);
        }
    }

    fn receive(&mut self) {
        let (ports, outputs) = (self.inputs.len(), self.outputs.len());
        for (port, input) in self.inputs.iter_mut().enumerate() {
            input.for_each(|held, parcel| {
                let step = *held.least().expect("a parcel travels under a step");
                let waiting = self.waiting.entry(step).or_insert_with(|| Waiting {
                    capabilities: (0..outputs).map(|output| held.delayed(&step, output)).collect(),
                    parcels: vec![Vec::new(); ports],
                });
                waiting.parcels[port].push(std::mem::take(parcel));
            });
        }
    }

    /// The next step that was begun, if nothing more can come for it.
    fn next_complete(&self, frontiers: &[MutableAntichain<u64>]) -> Option<Moment> {
        let at = *self.control.begun.borrow().front()?;
        let passed = frontiers.iter().all(|frontier| !frontier.less_equal(&at.step.0));
        (passed && self.stage.borrow().is_ready(at)).then_some(at)
    }

    // Invariant: a step is evaluated once, when no port can receive more of it.
    fn evaluate(&mut self, at: Moment) {
        let Step(step) = at.step;
        let mut waiting = self.waiting.remove(&step);
        let mut stage = self.stage.borrow_mut();
        let ports: Vec<Delta> = (0..self.inputs.len())
            .map(|port| {
                let parcels =
                    waiting.as_mut().map_or_else(Vec::new, |waiting| std::mem::take(&mut waiting.parcels[port]));
                merge(stage.empty_port(port), parcels)
            })
            .collect();
        let exports = stage.eval(at, &ports);
        drop(stage);
        let capabilities = waiting.map(|waiting| waiting.capabilities);
        for (output, delta) in exports.into_iter().enumerate().filter(|(_, delta)| !delta.is_empty()) {
            let capability = match (&capabilities, &self.held) {
                (Some(received), _) => received[output].clone(),
                (None, Some(held)) => held[output].delayed(&step),
                (None, None) => unreachable!("rows come from rows, but for a dataflow's first step"),
            };
            let mut parcel = Parcel::new(self.worker, delta);
            let mut handle = self.outputs[output].activate();
            handle.session_with_builder(&capability).give_container(&mut parcel);
        }
        self.advance(step);
    }

    /// Gives up the right to send anything more in a step.
    fn advance(&mut self, step: u64) {
        if !self.inputs.is_empty() {
            self.held = None;
        } else if self.exports > 0 {
            let held = self.held.iter_mut().flatten();
            held.for_each(|capability| capability.downgrade(&(step + 1)));
        }
    }

    fn end(&mut self) {
        self.held = None;
        self.waiting.clear();
        self.inputs.iter_mut().for_each(|input| input.for_each(|_, parcel| drop(std::mem::take(parcel))));
    }
}
