//! The runs of an arrangement and when they are merged: few of them, and never much work at once.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::merge::Merge;
use super::run::Run;

/// Runs of a size class that make a merge: rows are then merged once for each factor of four that the whole grows.
const FAN_IN: usize = 4;
/// Merges of up to this many rows are done at once, in well under a millisecond.
const AT_ONCE_MAX: usize = 4096;
/// Rows merged in every running merge for each row absorbed: a merge ends before the next of its size is due.
const WORK_PER_ROW: usize = 4;
/// Work is put off until it is worth the fixed cost of taking it up.
const WORK_MIN: usize = 1024;
/// Looking for so many keys in one run costs as much as merging one row.
const PROBES_PER_ROW: u64 = 4;

/// Immutable runs whose sum is the Z-set, and the merges under way. Runs being merged count until the merge is done.
pub(super) struct Spine {
    schema: SchemaRef,
    key: Arc<[usize]>,
    runs: Vec<Arc<Run>>,
    /// For each run, how many keys had been looked for when it came.
    since: Vec<u64>,
    merges: Vec<Running>,
    /// How many keys had been looked for at the last piece of work.
    worked: u64,
}

struct Running {
    merge: Merge,
    /// Rows of work that are due.
    due: usize,
}

impl Spine {
    pub fn new(schema: SchemaRef, key: Arc<[usize]>, runs: Vec<Arc<Run>>) -> Self {
        let runs: Vec<Arc<Run>> = runs.into_iter().filter(|run| !run.is_empty()).collect();
        Self { schema, key, since: vec![0; runs.len()], runs, merges: Vec::new(), worked: 0 }
    }

    pub fn runs(&self) -> &[Arc<Run>] {
        &self.runs
    }

    /// Adds a run and does a share of the merging. `probed` is the number of keys looked for so far.
    pub fn push(&mut self, run: Run, probed: u64) {
        let rows = run.len();
        if rows > 0 {
            self.runs.push(Arc::new(run));
            self.since.push(probed);
        }
        let probes = usize::try_from((probed - self.worked) / PROBES_PER_ROW).unwrap_or(usize::MAX);
        self.worked = probed;
        self.work(rows.saturating_mul(WORK_PER_ROW).saturating_add(probes), probed);
    }

    /// Merges up to about so many rows of each merge under way. True if there is more to merge.
    pub fn work(&mut self, rows: usize, probed: u64) -> bool {
        self.start_merges(probed);
        self.merges.iter_mut().for_each(|running| running.due = running.due.saturating_add(rows));
        let mut index = 0;
        while index < self.merges.len() {
            let running = &mut self.merges[index];
            if running.due >= WORK_MIN && !running.merge.work(std::mem::take(&mut running.due)) {
                let done = self.merges.swap_remove(index);
                self.finish(done.merge, probed);
                self.start_merges(probed);
            } else {
                index += 1;
            }
        }
        !self.merges.is_empty()
    }

    /// Puts another form of the same rows in the place of a run. False if the run is gone or being merged.
    pub fn replace(&mut self, id: u64, run: Arc<Run>) -> bool {
        let Some(place) = self.idle().find(|place| self.runs[*place].id() == id) else { return false };
        assert_eq!(self.runs[place].len(), run.len(), "a run is replaced by the same rows");
        self.runs[place] = run;
        true
    }

    /// The places of the runs that no merge has taken.
    fn idle(&self) -> impl Iterator<Item = usize> + '_ {
        let taken = |run: &Arc<Run>| {
            self.merges.iter().any(|running| running.merge.inputs().iter().any(|input| input.id() == run.id()))
        };
        (0..self.runs.len()).filter(move |place| !taken(&self.runs[*place]))
    }

    fn start_merges(&mut self, probed: u64) {
        while let Some(places) = self.due(probed) {
            let inputs: Vec<Arc<Run>> = places.iter().map(|place| self.runs[*place].clone()).collect();
            let rows: usize = inputs.iter().map(|run| run.len()).sum();
            let mut merge = Merge::new(self.schema.clone(), self.key.clone(), inputs);
            if rows <= AT_ONCE_MAX {
                while merge.work(AT_ONCE_MAX) {}
                self.finish(merge, probed);
            } else {
                self.merges.push(Running { merge, due: 0 });
            }
        }
    }

    /// Runs that ought to become one: many of a size, or some whose number costs readers more than a merge would.
    fn due(&self, probed: u64) -> Option<Vec<usize>> {
        let mut places: Vec<usize> = self.idle().collect();
        if places.len() < 2 {
            return None;
        }
        places.sort_by_key(|place| self.runs[*place].len());
        let class = |place: &usize| self.runs[*place].len().ilog2() / 2;
        let many = places.chunk_by(|a, b| class(a) == class(b)).find(|same| same.len() >= FAN_IN);
        many.map(<[usize]>::to_vec).or_else(|| self.dear(places, probed))
    }

    /// The most of the smallest runs that readers have paid for: each probe of a run is a part of what merging it costs.
    fn dear(&self, mut places: Vec<usize>, probed: u64) -> Option<Vec<usize>> {
        let (mut paid, mut rows, mut best) = (0, 0, 0);
        for (index, place) in places.iter().enumerate() {
            paid += probed - self.since[*place];
            rows += self.runs[*place].len() as u64;
            if index > 0 && paid >= rows.saturating_mul(PROBES_PER_ROW) {
                best = index + 1;
            }
        }
        places.truncate(best);
        (best > 0).then_some(places)
    }

    /// Puts the result of a merge in the place of its inputs.
    fn finish(&mut self, merge: Merge, probed: u64) {
        let inputs: Vec<u64> = merge.inputs().iter().map(|run| run.id()).collect();
        let kept: Vec<usize> = (0..self.runs.len()).filter(|place| !inputs.contains(&self.runs[*place].id())).collect();
        self.since = kept.iter().map(|place| self.since[*place]).collect();
        self.runs = kept.iter().map(|place| self.runs[*place].clone()).collect();
        if let Some(run) = merge.finish() {
            self.runs.push(Arc::new(run));
            self.since.push(probed);
        }
    }
}
