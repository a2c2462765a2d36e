//! Computes one row for each group of rows with equal keys, and forgets groups whose window is closed.
//!
//! **Serves** GROUP BY over windows of rows that a watermark follows, with and without EMIT ON WINDOW CLOSE.
//! **Class** keyed.
//! **Rule** that of the aggregate; or, if groups are given when they close, each group's result once, in the step in
//! which the watermark reaches its end. **Keeps** the groups that are not closed, and which close when.
//! **Cost** that of the aggregate, and the groups that close.
//! **Corners** the first input only grows, and has no rows for groups that are closed: late rows went before. Of the
//! watermark only what comes counts, and it may come several times; it is not kept, because nothing that closed before
//! can come again. A group without a time never closes.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};

use super::{Aggregate, AggregateCall, Touched};
use crate::dataflow::operator::{Held, Operator, StatePart};
use crate::dataflow::operators::two;
use crate::state::Run;
use crate::zset::{Delta, ErrorRows, Moment, Rows, canonical};

/// When the groups of an aggregate are final.
#[derive(Debug, Clone, Copy)]
pub struct Close {
    /// Which of the key's columns, a timestamp, tells it.
    pub key: usize,
    /// A group is final when the watermark has reached its key and so many microseconds more.
    pub after: i64,
    /// Whether a group is given only then.
    pub emits: bool,
}

pub struct ClosingAggregate {
    inner: Aggregate,
    close: Close,
    /// The groups that are not closed, by the time of their key.
    open: BTreeMap<i64, Vec<u32>>,
}

impl ClosingAggregate {
    /// The second input has the watermark, a timestamp, as its first column.
    pub fn new(key: Vec<usize>, calls: Vec<AggregateCall>, input: &SchemaRef, schema: SchemaRef, close: Close) -> Self {
        assert!(!key.is_empty(), "a window is among the keys");
        Self { inner: Aggregate::new(key, calls, input, schema), close, open: BTreeMap::new() }
    }

    fn add(&mut self, rows: &Rows) -> Delta {
        let (mut delta, touched) = self.inner.changed(rows);
        self.note(rows, &touched);
        if self.close.emits {
            delta.oks = Rows::empty(self.inner.schema.clone());
        }
        delta
    }

    /// Remembers when new groups close.
    fn note(&mut self, rows: &Rows, touched: &Touched) {
        let column = canonical(rows.column(self.inner.key[self.close.key]));
        let times = column.as_primitive::<TimestampMicrosecondType>();
        for (place, group) in touched.groups.iter().enumerate().filter(|(place, _)| !touched.existed[*place]) {
            let row = touched.row[place] as usize;
            if times.is_valid(row) {
                self.open.entry(times.value(row)).or_default().push(*group);
            }
        }
    }

    /// Forgets the groups that the watermark closes, and gives their rows if they are given now.
    fn pass(&mut self, watermark: i64) -> Rows {
        let Some(last) = watermark.checked_sub(self.close.after) else { return Rows::empty(self.inner.schema.clone()) };
        let later = self.open.split_off(&last.saturating_add(1));
        let closed: Vec<u32> = std::mem::replace(&mut self.open, later).into_values().flatten().collect();
        let given = match self.close.emits {
            true => self.results(&closed),
            false => Rows::empty(self.inner.schema.clone()),
        };
        if !closed.is_empty() {
            closed.iter().for_each(|group| self.inner.sizes[*group as usize].rows = 0);
            self.inner.calls.iter_mut().for_each(|call| call.forget(&closed));
            self.inner.groups.release(&closed);
        }
        given
    }

    /// The rows of groups, but for those that fail: their errors are there since they did.
    fn results(&self, groups: &[u32]) -> Rows {
        let failed = self.inner.standing(groups).failed;
        let sound = |place: &usize| failed.iter().all(|(failed, _)| failed != place);
        let sound: Vec<u32> = (0..groups.len()).filter(sound).map(|place| groups[place]).collect();
        let mut columns = self.inner.groups.columns(&sound, &self.inner.key_types);
        columns.extend(self.inner.standing(&sound).columns);
        let batch = RecordBatch::try_new(self.inner.schema.clone(), columns).expect("the key and the results");
        Rows::inserts(batch).assume_consolidated()
    }
}

/// The newest watermark that came.
fn newest(rows: &Rows) -> Option<i64> {
    let times = rows.column(0).as_primitive::<TimestampMicrosecondType>();
    times.iter().enumerate().filter(|(row, _)| rows.weight(*row) > 0).filter_map(|(_, time)| time).max()
}

impl Operator for ClosingAggregate {
    fn eval(&mut self, _at: Moment, inputs: &[Delta]) -> Delta {
        let (input, marks) = two("aggregate of windows", inputs);
        let mut delta = match input.oks.is_empty() {
            true => Delta::new(Rows::empty(self.inner.schema.clone()), ErrorRows::default()),
            false => self.add(&input.oks),
        };
        delta.errs.add_all(&input.errs);
        if let Some(watermark) = newest(&marks.oks) {
            let given = self.pass(watermark);
            if self.close.emits {
                delta.oks = given;
            }
        }
        delta
    }

    fn save(&mut self) -> Vec<StatePart> {
        self.inner.save()
    }

    fn load(&mut self, parts: Vec<Vec<Arc<Run>>>) {
        self.inner.load(parts);
        let sizes = self.inner.sizes.iter().enumerate();
        let groups: Vec<u32> = sizes.filter(|(_, size)| size.rows > 0).map(|(group, _)| group as u32).collect();
        let keys: Vec<ArrayRef> = self.inner.groups.columns(&groups, &self.inner.key_types);
        let times = keys[self.close.key].as_primitive::<TimestampMicrosecondType>();
        for (group, time) in groups.into_iter().zip(times) {
            if let Some(time) = time {
                self.open.entry(time).or_default().push(group);
            }
        }
    }

    fn held(&self) -> Held {
        self.inner.held()
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::dataflow::law::{CASES, Table, moment, reload, schema, watched};
    use crate::functions::aggregate::find;
    use crate::zset::parse_rows;

    const COLUMNS: &str = "start TIMESTAMP, x INT";
    const MARKS: &str = "watermark TIMESTAMP, target BIGINT";
    const SIZE: i64 = 10;

    fn operator(emits: bool) -> Box<dyn Operator> {
        let (input, output) = (schema(COLUMNS), schema("start TIMESTAMP, n BIGINT, s BIGINT, m INT"));
        let call = |name: &str, arguments: Vec<usize>, distinct| {
            let types: Vec<DataType> =
                arguments.iter().map(|column| input.field(*column).data_type().clone()).collect();
            let function = find(name, &types, true).expect("the aggregate has a rule").make;
            AggregateCall { function, arguments, filter: None, distinct }
        };
        let calls = vec![call("count", vec![], false), call("sum", vec![1], true), call("max", vec![1], false)];
        let close = Close { key: 0, after: SIZE, emits };
        watched(ClosingAggregate::new(vec![0], calls, &input, output.clone(), close), &output)
    }

    fn time(second: i64) -> String {
        format!("1970-01-01T00:00:00.{second:06}")
    }

    /// A random history: rows that are never late, and a watermark that rises. The state is bounded by what is open.
    fn check_case(seed: u64, emits: bool) {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut real = operator(emits);
        let make = || operator(emits);
        let (mut watermark, mut rows, mut answer) = (0_i64, Vec::<(i64, i64)>::new(), Table::default());
        for index in 0..random.random_range(2..12) {
            let mut lines = Vec::new();
            for _ in 0..random.random_range(0..6) {
                let time = random.random_range(watermark..watermark + 40);
                let (start, x) = (time - time % SIZE, random.random_range(0..4));
                rows.push((start, x));
                lines.push(format!("+1 | {} | {x}", self::time(start)));
            }
            let mut marks = String::new();
            if random.random_bool(0.6) {
                watermark += random.random_range(0..30);
                marks = format!("+1 | {} | 1\n+1 | {} | 2", self::time(watermark), self::time(watermark));
            }
            if random.random_bool(0.2) {
                real = reload(&mut *real, &make, &mut random);
            }
            let delta = |columns, text: &str| Delta::new(parse_rows(columns, text), ErrorRows::default());
            let output = real.eval(moment(index), &[delta(COLUMNS, &lines.join("\n")), delta(MARKS, &marks)]);
            assert!(!emits || output.oks.is_insert_only(), "what was given is never taken back");
            answer.add_delta(&output);
            assert_eq!(answer, naive(&rows, emits.then_some(watermark)), "after step {index} of case {seed}");
            let open = rows.iter().filter(|(start, _)| start + SIZE > watermark).count();
            assert!(real.held().rows <= 3 * open, "closed windows are forgotten: {:?}, {open} rows", real.held());
        }
    }

    fn naive(rows: &[(i64, i64)], watermark: Option<i64>) -> Table {
        let mut groups: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        rows.iter().for_each(|(start, x)| groups.entry(*start).or_default().push(*x));
        let mut table = Table::default();
        for (start, xs) in groups.into_iter().filter(|(start, _)| watermark.is_none_or(|mark| start + SIZE <= mark)) {
            let distinct: std::collections::BTreeSet<i64> = xs.iter().copied().collect();
            let start = if start == 0 { "1970-01-01T00:00:00".to_string() } else { time(start) };
            let cells = [start, xs.len().to_string(), distinct.iter().sum::<i64>().to_string()];
            let max = distinct.last().expect("a group has a row").to_string();
            table.add_row(cells.into_iter().chain([max]).collect(), 1);
        }
        table
    }

    #[test]
    fn obeys_the_law_and_forgets_closed_windows() {
        for emits in [true, false] {
            let first = rand::random::<u64>() >> 16;
            (first..first + CASES).for_each(|seed| check_case(seed, emits));
        }
    }
}
