//! Where a relation's deltas leave its dataflow on a worker, and how the dataflows that read it take them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use super::exchange::sum;
use crate::zset::{Delta, Step};

/// The end of one relation's dataflow on one worker: who reads it there, and which steps are still under way.
#[derive(Default)]
pub struct Tap {
    readers: RefCell<Vec<Weak<Inbox>>>,
    /// Steps begun and not finished, rising. A step that does not touch the relation is not in it.
    under_way: RefCell<VecDeque<Step>>,
}

impl Tap {
    pub fn subscribe(&self, inbox: &Rc<Inbox>) {
        let mut readers = self.readers.borrow_mut();
        readers.retain(|reader| reader.strong_count() > 0);
        readers.push(Rc::downgrade(inbox));
    }

    pub fn begin(&self, step: Step) {
        self.under_way.borrow_mut().push_back(step);
    }

    /// Hands the change of a step to all readers; at most once a step, before [`Tap::finish`].
    pub fn publish(&self, step: Step, delta: &Delta) {
        for reader in self.readers.borrow().iter().filter_map(Weak::upgrade) {
            reader.put(step, delta.clone());
        }
    }

    /// Nothing more comes in this step: readers that wait for it may go on.
    pub fn finish(&self, step: Step) {
        let finished = self.under_way.borrow_mut().pop_front();
        assert_eq!(finished, Some(step), "steps are finished in the order in which they were begun");
        self.readers.borrow().iter().filter_map(Weak::upgrade).for_each(|reader| reader.wake());
    }

    /// True once all changes up to this step, and including it, have been published.
    pub fn has_finished(&self, step: Step) -> bool {
        self.under_way.borrow().front().is_none_or(|unfinished| *unfinished > step)
    }
}

/// Deltas that wait for the source node of a dataflow, and the tap that they come from.
pub struct Inbox {
    waiting: RefCell<VecDeque<(Step, Delta)>>,
    /// `None` for rows that the engine feeds.
    upstream: Option<Rc<Tap>>,
    waker: RefCell<Option<Box<dyn Fn()>>>,
    /// Whether the reader looked here in vain and wants to be woken.
    asked: Cell<bool>,
}

impl Inbox {
    pub fn new(upstream: Option<Rc<Tap>>) -> Rc<Self> {
        let inbox =
            Rc::new(Self { waiting: RefCell::default(), upstream, waker: RefCell::default(), asked: Cell::new(false) });
        if let Some(upstream) = &inbox.upstream {
            upstream.subscribe(&inbox);
        }
        inbox
    }

    /// What to call when a step of the upstream relation has finished for which the reader waits.
    pub fn wake_by(&self, waker: Box<dyn Fn()>) {
        *self.waker.borrow_mut() = Some(waker);
    }

    fn wake(&self) {
        if self.asked.take()
            && let Some(waker) = self.waker.borrow().as_ref()
        {
            waker();
        }
    }

    /// Steps come in rising order.
    pub fn put(&self, step: Step, delta: Delta) {
        if !delta.is_empty() {
            self.waiting.borrow_mut().push_back((step, delta));
        }
    }

    /// True if nothing more can come up to this step and including it. Rows that are fed come before their step begins.
    pub fn is_complete(&self, step: Step) -> bool {
        let complete = self.upstream.as_ref().is_none_or(|upstream| upstream.has_finished(step));
        self.asked.set(!complete);
        complete
    }

    /// Takes all that came up to this step and including it.
    pub fn take(&self, step: Step, empty: &Delta) -> Delta {
        let mut waiting = self.waiting.borrow_mut();
        let mut parts = Vec::new();
        while waiting.front().is_some_and(|(at, _)| *at <= step) {
            parts.extend(waiting.pop_front().map(|(_, delta)| delta));
        }
        sum(empty, parts)
    }
}
