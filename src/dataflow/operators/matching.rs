//! What all joins share: rows with their keys at hand, the state of one side, and finding partners.

use std::borrow::Cow;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute;
use arrow::datatypes::{Field, Schema, SchemaRef};
use hashbrown::HashTable;
use std::sync::Arc;

use crate::dataflow::expr::Predicate;
use crate::dataflow::operator::{Held, Mapped, StatePart};
use crate::state::{Arrangement, KeyMatcher, Matches, Run, Snapshot};
use crate::zset::{DataError, ErrorRows, Rows, Weight, row_hashes, weights_add};

/// On what two rows meet.
#[derive(Debug, Clone)]
pub struct JoinOn {
    /// Columns of the left input; in turn equal to those of the right. None: every row meets every row.
    pub left: Vec<usize>,
    /// Columns of the right input, of the same types.
    pub right: Vec<usize>,
    /// Whether NULL meets NULL, as in INTERSECT and `IS NOT DISTINCT FROM`.
    pub null_equals_null: bool,
    /// What else must be true, over the columns of the left input and then those of the right.
    pub residual: Option<Predicate>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SideName {
    Left,
    Right,
}

/// Rows with their key columns and the hashes of these.
#[derive(Clone)]
pub(super) struct Keyed {
    pub rows: Rows,
    pub key: Vec<ArrayRef>,
    pub hashes: Vec<u64>,
}

impl Keyed {
    pub(super) fn new(rows: Rows, columns: &[usize]) -> Self {
        let key: Vec<ArrayRef> = columns.iter().map(|column| rows.column(*column).clone()).collect();
        let hashes = row_hashes(&key, rows.len());
        Self { rows, key, hashes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn take(&self, rows: &[u32]) -> Self {
        let indices = UInt32Array::from(rows.to_vec());
        let take = |column: &ArrayRef| compute::take(column, &indices, None).expect("indices are within the batch");
        Self {
            rows: self.rows.take(&indices),
            key: self.key.iter().map(take).collect(),
            hashes: rows.iter().map(|row| self.hashes[*row as usize]).collect(),
        }
    }

    /// One row for each key.
    pub(super) fn distinct_keys(&self) -> Cow<'_, Keyed> {
        if self.rows.len() < 2 {
            return Cow::Borrowed(self);
        }
        let same = KeyMatcher::new(&self.key, &self.key);
        let mut seen: HashTable<u32> = HashTable::with_capacity(self.rows.len());
        let mut firsts: Vec<u32> = Vec::new();
        for (row, hash) in self.hashes.iter().enumerate() {
            if seen.find(*hash, |other| same.equal(*other as usize, row)).is_none() {
                seen.insert_unique(*hash, row as u32, |other| self.hashes[*other as usize]);
                firsts.push(row as u32);
            }
        }
        if firsts.len() == self.rows.len() { Cow::Borrowed(self) } else { Cow::Owned(self.take(&firsts)) }
    }
}

/// Rows that can have partners, and those that cannot for a NULL in their key.
pub(super) fn split_null_keys(rows: &Rows, key: &[usize], null_equals_null: bool) -> (Keyed, Rows) {
    let nulls = match null_equals_null {
        true => None,
        false => key.iter().fold(None, |nulls: Option<NullBuffer>, column| {
            NullBuffer::union(nulls.as_ref(), rows.column(*column).logical_nulls().as_ref())
        }),
    };
    match nulls.filter(|nulls| nulls.null_count() > 0) {
        None => (Keyed::new(rows.clone(), key), Rows::empty(rows.schema())),
        Some(nulls) => {
            let whole = BooleanArray::new(nulls.inner().clone(), None);
            let broken = compute::not(&whole).expect("a verdict can be turned");
            (Keyed::new(rows.filter(&whole), key), rows.filter(&broken))
        }
    }
}

/// What a join keeps of one input.
pub(super) struct Side {
    key: Vec<usize>,
    rows: Option<Arrangement>,
    /// The key columns alone, each with the number of rows that have it as weight.
    counts: Option<Arrangement>,
}

/// What a side held at one moment.
pub(super) struct SideSnapshot {
    rows: Option<Snapshot>,
    counts: Option<Snapshot>,
}

impl Side {
    pub(super) fn new(schema: &SchemaRef, key: &[usize], keeps_rows: bool, keeps_counts: bool) -> Self {
        let counted = || {
            let fields: Vec<_> = key.iter().map(|column| schema.fields()[*column].clone()).collect();
            Arrangement::new(Arc::new(Schema::new(fields)), (0..key.len()).collect())
        };
        Self {
            key: key.to_vec(),
            rows: keeps_rows.then(|| Arrangement::new(schema.clone(), key.to_vec())),
            counts: keeps_counts.then(counted),
        }
    }

    pub(super) fn snapshot(&self) -> SideSnapshot {
        SideSnapshot {
            rows: self.rows.as_ref().map(Arrangement::snapshot),
            counts: self.counts.as_ref().map(Arrangement::snapshot),
        }
    }

    pub(super) fn absorb(&mut self, delta: &Keyed) {
        if delta.is_empty() {
            return;
        }
        if let Some(rows) = &mut self.rows {
            rows.absorb_hashed(&delta.rows, &delta.hashes);
        }
        if let Some(counts) = &mut self.counts {
            let batch = batch(counts.schema(), delta.key.clone(), delta.rows.len());
            counts.absorb_hashed(&delta.rows.with_batch(batch), &delta.hashes);
        }
    }

    fn arrangements(&mut self) -> impl Iterator<Item = &mut Arrangement> {
        self.rows.iter_mut().chain(self.counts.iter_mut())
    }

    pub(super) fn key(&self) -> &[usize] {
        &self.key
    }

    pub(super) fn save(&mut self) -> Vec<StatePart> {
        self.arrangements().map(|arrangement| StatePart { runs: arrangement.runs().to_vec() }).collect()
    }

    /// Takes its parts from the front of all.
    pub(super) fn load(&mut self, parts: &mut impl Iterator<Item = Vec<Arc<Run>>>) {
        for arrangement in self.arrangements() {
            let runs = parts.next().expect("a join saves one part for each arrangement");
            *arrangement = Arrangement::restore(arrangement.schema().clone(), arrangement.key().to_vec(), runs);
        }
    }

    pub(super) fn spill(&mut self, mapped: &Mapped) {
        for arrangement in self.arrangements() {
            arrangement.spill(mapped);
        }
    }

    pub(super) fn held(&self) -> Held {
        let all = self.rows.iter().chain(self.counts.iter());
        all.fold(Held::default(), |sum, kept| Held { rows: sum.rows + kept.rows(), bytes: sum.bytes + kept.bytes() })
    }
}

impl SideSnapshot {
    pub(super) fn rows(&self) -> &Snapshot {
        self.rows.as_ref().expect("the join keeps the rows of this side")
    }

    pub(super) fn counts(&self) -> &Snapshot {
        self.counts.as_ref().expect("the join counts the keys of this side")
    }

    /// The rows that have one of the given keys, with the keys.
    pub(super) fn rows_of(&self, keys: &Keyed, side_key: &[usize]) -> Keyed {
        let Matches { probe, rows } = self.rows().lookup(&keys.key, &keys.hashes);
        let hashes = probe.iter().map(|index| keys.hashes[*index as usize]).collect();
        let key = side_key.iter().map(|column| rows.column(*column).clone()).collect();
        Keyed { rows, key, hashes }
    }
}

/// Finds pairs of rows that meet.
pub(super) struct Matching {
    pub residual: Option<Predicate>,
    /// The columns of the left input, then those of the right.
    pub schema: SchemaRef,
}

/// Which rows have a partner, and the pairs on which the residual failed: row, error, weight of the partner.
pub(super) struct Found {
    pub matched: Vec<bool>,
    pub failed: Vec<(u32, DataError, Weight)>,
}

impl Found {
    fn none(rows: usize) -> Self {
        Self { matched: vec![false; rows], failed: Vec::new() }
    }

    /// The failed pairs as error rows, given the rows that looked for partners.
    pub(super) fn errors(&self, rows: &Rows) -> ErrorRows {
        let mut errs = ErrorRows::default();
        for (row, error, weight) in &self.failed {
            errs.add(error.clone(), product(rows.weight(*row as usize), *weight));
        }
        errs
    }
}

impl Matching {
    pub(super) fn new(residual: Option<Predicate>, left: &SchemaRef, right: &SchemaRef) -> Self {
        // Beside a row without a partner every column of the other side is NULL.
        let nullable = |field: &Arc<Field>| field.as_ref().clone().with_nullable(true);
        let fields: Vec<Field> = left.fields().iter().chain(right.fields()).map(nullable).collect();
        Self { residual, schema: Arc::new(Schema::new(fields)) }
    }

    /// All pairs of rows of a delta on one side with those held on the other, before the residual.
    fn pairs(&self, delta: &Keyed, side: SideName, others: &SideSnapshot) -> (Vec<u32>, RecordBatch, Rows) {
        let Matches { probe, rows } = others.rows().lookup(&delta.key, &delta.hashes);
        let indices = UInt32Array::from(probe.clone());
        let take = |column: &ArrayRef| compute::take(column, &indices, None).expect("probes are rows of the delta");
        let own = delta.rows.batch().columns().iter().map(take);
        let others = rows.batch().columns().iter().cloned();
        let columns: Vec<ArrayRef> = match side {
            SideName::Left => own.chain(others).collect(),
            SideName::Right => others.chain(own).collect(),
        };
        (probe, batch(&self.schema, columns, rows.len()), rows)
    }

    /// `delta ⋈ others`, the residual's errors with it. Columns are those of the left input, then those of the right.
    pub(super) fn join(&self, delta: &Keyed, side: SideName, others: &SideSnapshot) -> (Rows, ErrorRows) {
        if delta.is_empty() {
            return (Rows::empty(self.schema.clone()), ErrorRows::default());
        }
        let (probe, batch, partners) = self.pairs(delta, side, others);
        let weights = match (delta.rows.weights(), partners.weights()) {
            (None, None) => None,
            _ => Some(Int64Array::from_iter_values(
                (probe.iter().enumerate())
                    .map(|(pair, row)| product(delta.rows.weight(*row as usize), partners.weight(pair))),
            )),
        };
        let pairs = Rows::new(batch, weights);
        match &self.residual {
            None => (pairs, ErrorRows::default()),
            Some(residual) => {
                let kept = residual.keep(&pairs);
                (kept.oks, kept.errs)
            }
        }
    }

    /// Which rows have at least one partner on the other side.
    pub(super) fn find(&self, rows: &Keyed, side: SideName, others: &SideSnapshot) -> Found {
        if rows.is_empty() {
            return Found::none(0);
        }
        match &self.residual {
            None => self.find_keys(rows, others),
            Some(residual) => self.find_pairs(rows, side, others, residual),
        }
    }

    fn find_keys(&self, rows: &Keyed, others: &SideSnapshot) -> Found {
        let Matches { probe, rows: counted } = others.counts().lookup(&rows.key, &rows.hashes);
        let partners = (0..probe.len()).map(|place| (probe[place], counted.weight(place)));
        Found { matched: positive(rows.rows.len(), partners), failed: Vec::new() }
    }

    fn find_pairs(&self, rows: &Keyed, side: SideName, others: &SideSnapshot, residual: &Predicate) -> Found {
        let (probe, batch, partners) = self.pairs(rows, side, others);
        let (verdict, failed) = residual.verdict(&batch);
        let met = (0..probe.len()).filter(|pair| verdict.value(*pair));
        let matched = positive(rows.rows.len(), met.map(|pair| (probe[pair], partners.weight(pair))));
        let failed = failed.into_iter().map(|(pair, error)| (probe[pair], error, partners.weight(pair)));
        Found { matched, failed: failed.collect() }
    }
}

/// The rows for which the weights given with them sum up to more than zero.
fn positive(rows: usize, partners: impl Iterator<Item = (u32, Weight)>) -> Vec<bool> {
    let mut sums = vec![0; rows];
    for (row, weight) in partners {
        let sum = &mut sums[row as usize];
        *sum = weights_add(*sum, weight);
    }
    sums.into_iter().map(|sum| sum > 0).collect()
}

/// Rows of one side whose having a partner may change because the other side did: before and after.
pub(super) struct Turned {
    pub rows: Rows,
    pub before: Found,
    pub after: Found,
}

/// Looks again for partners of the rows held on `side`, as of before the step, that have a key of `delta`, the other
/// side's change.
pub(super) fn turned(
    matching: &Matching,
    side: SideName,
    side_key: &[usize],
    held: &SideSnapshot,
    delta: &Keyed,
    (before, after): (&SideSnapshot, &SideSnapshot),
) -> Turned {
    let mut keys = delta.distinct_keys();
    if matching.residual.is_none() && !keys.is_empty() {
        // Whether a row has a partner depends on its key alone: only keys that turned matter.
        let (was, is) = (matching.find_keys(&keys, before).matched, matching.find_keys(&keys, after).matched);
        let turned: Vec<u32> = (0..was.len()).filter(|key| was[*key] != is[*key]).map(|key| key as u32).collect();
        keys = Cow::Owned(keys.take(&turned));
    }
    let rows = match keys.is_empty() {
        true => Keyed::new(Rows::empty(held.rows().schema().clone()), side_key),
        false => held.rows_of(&keys, side_key),
    };
    let (before, after) = (matching.find(&rows, side, before), matching.find(&rows, side, after));
    Turned { rows: rows.rows, before, after }
}

/// The rows whose verdict is true.
pub(super) fn keep(rows: &Rows, verdict: impl Iterator<Item = bool>) -> Rows {
    rows.filter(&BooleanArray::from_iter(verdict.map(Some)))
}

/// Columns of NULLs beside the rows of one side. Columns come in the order of `schema`: left, then right.
pub(super) fn pad(rows: &Rows, side: SideName, schema: &SchemaRef) -> Rows {
    let own = rows.batch().columns();
    let others = schema.fields().len() - own.len();
    let start = if side == SideName::Left { own.len() } else { 0 };
    let fields = &schema.fields()[start..start + others];
    let nulls = fields.iter().map(|field| new_null_array(field.data_type(), rows.len()));
    let columns: Vec<ArrayRef> = match side {
        SideName::Left => own.iter().cloned().chain(nulls).collect(),
        SideName::Right => nulls.chain(own.iter().cloned()).collect(),
    };
    rows.with_batch(batch(schema, columns, rows.len()))
}

pub(super) fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> RecordBatch {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).expect("the columns are those of the schema")
}

pub(super) fn product(a: Weight, b: Weight) -> Weight {
    a.checked_mul(b).expect("no pair of rows occurs more than 2^63 times")
}
