//! Keeps, for each key, the rows that come first in an order, with their numbers.
//!
//! **Serves** `row_number() … <= k`, `rank`, `dense_rank`, `DISTINCT ON`, `ORDER BY … LIMIT`, `WITH TIES`. **Class** keyed.
//! **Rule** `d top(A) = top(A + dA) - top(A)`, for the touched keys. **Keeps** all rows by key, and for a key of many
//! rows its first ones once more; of an input that only grows, the first rows alone.
//! **Cost** the first rows of the touched keys, some more than can be given; all rows of a key only when more of its
//! first ones went than were kept, of which it then keeps about as many as the root of its rows.
//! **Corners** the order goes on over all columns, so that ties are settled and equal rows are interchangeable. A row of
//! weight n has n numbers. NULL is a key like any other.

mod ranking;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, UInt32Array};
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::{OwnedRow, Row, RowConverter, SortField};

pub use ranking::{Numbering, Ranking};

use self::ranking::{Entry, Given};
use super::groups::Groups;
use super::matching::{Keyed, batch};
use super::one;
use crate::dataflow::operator::{Held, Operator, StatePart};
use crate::state::{Arrangement, Run};
use crate::zset::{Delta, Moment, Rows, canonical};

/// Rows that are kept beyond those that can be given, at least; few in tests, so that they run out.
const SPARE_MIN: usize = if cfg!(test) { 1 } else { 64 };
const SPARE_MAX: usize = 4_096;

/// The first rows of each key.
pub struct TopK {
    ranking: Ranking,
    /// The input never retracts a row: then what is not among the first never will be.
    append_only: bool,
    all: Arrangement,
    /// By the bytes of the key. A key without a head has few rows, or was not touched since the start.
    heads: HashMap<Box<[u8]>, Head>,
    order: Order,
    schema: SchemaRef,
}

/// The first rows of a key that has many: all of them up to `last`.
struct Head {
    rows: Rows,
    last: OwnedPlace,
}

/// The order of the rows of a key.
struct Order {
    columns: Vec<usize>,
    by_columns: RowConverter,
    /// All other columns.
    rest: Vec<usize>,
    by_rest: RowConverter,
}

/// Rows in a form in which they compare.
struct Places {
    columns: Option<arrow::row::Rows>,
    rest: Option<arrow::row::Rows>,
}

type Place<'a> = (Option<Row<'a>>, Option<Row<'a>>);
type OwnedPlace = (Option<OwnedRow>, Option<OwnedRow>);

/// Rows of the touched keys: how often each was there, and is there now.
#[derive(Default)]
struct Candidates {
    parts: Vec<Rows>,
    key: Vec<u32>,
    was: Vec<i64>,
    is: Vec<i64>,
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    /// There before, and there now unless another candidate says otherwise.
    Held,
    /// A change, or what is there now.
    Now,
    /// Only there before.
    Before,
}

/// The keys that a step touches, each once.
struct Touched {
    keys: Keyed,
    /// Made when a head is looked for.
    names: Vec<Box<[u8]>>,
}

/// What is given and what is kept, as places of candidates.
#[derive(Default)]
struct Output {
    rows: Vec<u32>,
    weights: Vec<i64>,
    numbers: Vec<Vec<i64>>,
    /// Of an input that only grows: the change of the rows that are kept.
    kept: Vec<(u32, i64)>,
}

impl TopK {
    /// The rows of `input` by the columns `partition`, in the order of the columns `order`. `schema` has the input's
    /// columns, then one for each number that the ranking gives.
    pub fn new(
        partition: Vec<usize>,
        order: Vec<(usize, SortOptions)>,
        ranking: Ranking,
        append_only: bool,
        input: &SchemaRef,
        schema: SchemaRef,
    ) -> Self {
        let all = Arrangement::new(input.clone(), partition);
        Self { ranking, append_only, all, heads: HashMap::new(), order: Order::new(order, input), schema }
    }

    fn touched(&self, delta: &Keyed) -> (Touched, Vec<u32>) {
        let columns: Vec<ArrayRef> = delta.key.iter().map(canonical).collect();
        let types: Vec<DataType> = columns.iter().map(|column| column.data_type().clone()).collect();
        let groups = Groups::new(&types).assign(&columns, delta.rows.len());
        let mut firsts: Vec<u32> = Vec::new();
        for (row, group) in groups.iter().enumerate() {
            if *group as usize == firsts.len() {
                firsts.push(row as u32);
            }
        }
        let keys = if firsts.len() == delta.rows.len() { delta.clone() } else { delta.take(&firsts) };
        let mut touched = Touched { keys, names: Vec::new() };
        if !self.heads.is_empty() {
            touched.name_keys();
        }
        (touched, groups)
    }

    fn head(&self, touched: &Touched, key: u32) -> Option<&Head> {
        touched.names.get(key as usize).and_then(|name| self.heads.get(name))
    }

    /// What the change can bear on: all rows of keys without a head, else the head; and the change as far as it reaches.
    fn candidates(&self, delta: &Keyed, groups: &[u32], touched: &Touched) -> Candidates {
        let mut candidates = Candidates::default();
        let few: Vec<u32> =
            (0..touched.keys.rows.len() as u32).filter(|key| self.head(touched, *key).is_none()).collect();
        let some = touched.keys.take(&few);
        let held = self.all.lookup(&some.key, &some.hashes);
        candidates.add(held.rows, held.probe.iter().map(|probe| few[*probe as usize]), Role::Held);
        if few.len() == touched.keys.rows.len() {
            candidates.add(delta.rows.clone(), groups.iter().copied(), Role::Now);
            return candidates;
        }
        let places = self.order.places(&delta.rows);
        let near = |row: &u32| match self.head(touched, groups[*row as usize]) {
            None => true,
            Some(head) => places.at(*row) <= borrowed(&head.last),
        };
        let near: Vec<u32> = (0..delta.rows.len() as u32).filter(near).collect();
        let mut reached: Vec<u32> = near.iter().map(|row| groups[*row as usize]).collect();
        candidates.add(delta.rows.take(&near.into()), reached.clone().into_iter(), Role::Now);
        reached.sort_unstable();
        reached.dedup();
        for key in reached {
            if let Some(head) = self.head(touched, key) {
                candidates.add(head.rows.clone(), std::iter::repeat_n(key, head.rows.len()), Role::Held);
            }
        }
        candidates
    }

    /// Settles every key whose candidates tell enough; the others are looked up as a whole and settled then.
    fn settle(&mut self, candidates: Candidates, touched: &mut Touched) -> Rows {
        let (first, unsettled) = self.settle_known(candidates, touched, false);
        if unsettled.is_empty() {
            return first;
        }
        let mut again = Candidates::default();
        for key in &unsettled {
            let head = self.head(touched, *key).expect("only a key with a head can know too little");
            again.add(head.rows.clone(), std::iter::repeat_n(*key, head.rows.len()), Role::Before);
        }
        let some = touched.keys.take(&unsettled);
        let whole = self.all.lookup(&some.key, &some.hashes);
        again.add(whole.rows, whole.probe.iter().map(|probe| unsettled[*probe as usize]), Role::Now);
        let (second, _) = self.settle_known(again, touched, true);
        Rows::concat(&self.schema, &[first, second])
    }

    /// The change of the output; with the keys that know too little.
    fn settle_known(&mut self, candidates: Candidates, touched: &mut Touched, whole: bool) -> (Rows, Vec<u32>) {
        let rows = Rows::concat(self.all.schema(), &candidates.parts);
        let places = self.order.places(&rows);
        let (entries, keys) = self.order.entries(&candidates, &places);
        let mut output = Output { numbers: vec![Vec::new(); self.ranking.numbers.len()], ..Output::default() };
        let mut unsettled = Vec::new();
        for (key, range) in keys {
            let entries = &entries[range];
            let has_head = !whole && self.head(touched, key).is_some();
            if has_head && !self.ranking.knows_enough(entries) {
                unsettled.push(key);
                continue;
            }
            self.ranking.each_change(entries, |row, given, sign| output.give(&self.ranking, row, given, sign));
            match self.append_only {
                true => output.kept.extend(self.ranking.kept_changes(entries)),
                false => self.keep_head(key, touched, entries, &rows, &places, !has_head),
            }
        }
        if !output.kept.is_empty() {
            let (places, weights): (Vec<u32>, Vec<i64>) = output.kept.iter().copied().unzip();
            let kept = Rows::new(rows.take(&places.into()).into_parts().0, Some(Int64Array::from(weights)));
            self.all.absorb(&kept);
        }
        (output.into_rows(&rows, &self.schema), unsettled)
    }

    /// Makes, shortens or drops the head of a key. `whole`: the entries are all rows of the key.
    fn keep_head(
        &mut self,
        key: u32,
        touched: &mut Touched,
        entries: &[Entry],
        rows: &Rows,
        places: &Places,
        whole: bool,
    ) {
        let there: Vec<&Entry> = entries.iter().filter(|entry| entry.is > 0).collect();
        let inside = self.ranking.rows_needed(entries);
        let root = (there.len() as f64).sqrt() as usize;
        let spare = root.clamp(SPARE_MIN, SPARE_MAX);
        if whole && there.len() <= inside + 4 * spare {
            if !touched.names.is_empty() {
                self.heads.remove(&touched.names[key as usize]);
            }
            return;
        }
        let kept = if there.len() > inside + 4 * spare { inside + 2 * spare } else { there.len() };
        let kept = &there[..kept];
        let last = match (kept.last(), kept.len() == there.len()) {
            // Nothing was cut off, so the head reaches as far as before.
            (_, true) => self.head(touched, key).map(|head| head.last.clone()),
            (Some(last), false) => Some(owned(places.at(last.row))),
            (None, false) => None,
        };
        let Some(last) = last else { return };
        let taken: UInt32Array = kept.iter().map(|entry| entry.row).collect::<Vec<u32>>().into();
        let weights: Int64Array = kept.iter().map(|entry| entry.is).collect();
        let rows = Rows::new(rows.take(&taken).into_parts().0, Some(weights));
        touched.name_keys();
        self.heads.insert(touched.names[key as usize].clone(), Head { rows, last });
    }
}

impl Touched {
    /// The bytes of each key.
    fn name_keys(&mut self) {
        let count = self.keys.rows.len();
        if self.names.len() == count {
            return;
        }
        self.names = match self.keys.key.is_empty() {
            true => vec![Box::default(); count],
            false => {
                let columns: Vec<ArrayRef> = self.keys.key.iter().map(canonical).collect();
                let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
                let converter = RowConverter::new(fields).expect("every SQL type has a row format");
                let rows = converter.convert_columns(&columns).expect("the columns have the types of the key");
                rows.iter().map(|row| row.as_ref().into()).collect()
            }
        };
    }
}

impl Candidates {
    fn add(&mut self, rows: Rows, keys: impl Iterator<Item = u32>, role: Role) {
        self.key.extend(keys);
        for row in 0..rows.len() {
            let weight = rows.weight(row);
            self.was.push(if role == Role::Now { 0 } else { weight });
            self.is.push(if role == Role::Before { 0 } else { weight });
        }
        self.parts.push(rows);
    }
}

impl Order {
    fn new(order: Vec<(usize, SortOptions)>, input: &SchemaRef) -> Self {
        let kind = |column: usize| input.field(column).data_type().clone();
        let columns: Vec<usize> = order.iter().map(|(column, _)| *column).collect();
        let fields = order.iter().map(|(column, options)| SortField::new_with_options(kind(*column), *options));
        let by_columns = RowConverter::new(fields.collect()).expect("every SQL type has a row format");
        let rest: Vec<usize> = (0..input.fields().len()).filter(|column| !columns.contains(column)).collect();
        let fields = rest.iter().map(|column| SortField::new(kind(*column)));
        let by_rest = RowConverter::new(fields.collect()).expect("every SQL type has a row format");
        Self { columns, by_columns, rest, by_rest }
    }

    fn places(&self, rows: &Rows) -> Places {
        let convert = |converter: &RowConverter, columns: &[usize]| {
            let columns: Vec<ArrayRef> = columns.iter().map(|column| rows.column(*column).clone()).collect();
            let convert = || converter.convert_columns(&columns).expect("the columns have the types of the input");
            (!columns.is_empty()).then(convert)
        };
        Places { columns: convert(&self.by_columns, &self.columns), rest: convert(&self.by_rest, &self.rest) }
    }

    /// The distinct rows of each key in order, and where each key's begin and end.
    fn entries(&self, candidates: &Candidates, places: &Places) -> (Vec<Entry>, Vec<(u32, Range<usize>)>) {
        let mut order: Vec<u32> = (0..candidates.key.len() as u32).collect();
        let key = |row: u32| candidates.key[row as usize];
        order.sort_unstable_by(|a, b| (key(*a), places.at(*a)).cmp(&(key(*b), places.at(*b))));
        let (mut entries, mut keys) = (Vec::<Entry>::with_capacity(order.len()), Vec::new());
        for of_key in order.chunk_by(|a, b| key(*a) == key(*b)) {
            let start = entries.len();
            let mut peers = 0;
            for (place, row) in of_key.iter().enumerate() {
                let before = place.checked_sub(1).map(|before| of_key[before]);
                let (was, is) = (candidates.was[*row as usize], candidates.is[*row as usize]);
                match (entries.last_mut(), before) {
                    (Some(last), Some(before)) if places.at(before) == places.at(*row) => {
                        last.was += was;
                        last.is += is;
                    }
                    (_, before) => {
                        peers += u32::from(before.is_some_and(|before| places.at(before).0 != places.at(*row).0));
                        entries.push(Entry { row: *row, was, is, peers });
                    }
                }
            }
            keys.push((key(of_key[0]), start..entries.len()));
        }
        (entries, keys)
    }
}

impl Places {
    fn at(&self, row: u32) -> Place<'_> {
        let row = row as usize;
        (self.columns.as_ref().map(|rows| rows.row(row)), self.rest.as_ref().map(|rows| rows.row(row)))
    }
}

fn owned(place: Place<'_>) -> OwnedPlace {
    (place.0.map(|row| row.owned()), place.1.map(|row| row.owned()))
}

fn borrowed(place: &OwnedPlace) -> Place<'_> {
    (place.0.as_ref().map(OwnedRow::row), place.1.as_ref().map(OwnedRow::row))
}

impl Output {
    fn give(&mut self, ranking: &Ranking, row: u32, given: &Given, sign: i64) {
        let (copies, weight) = if ranking.counts_rows() { (given.copies, sign) } else { (1, sign * given.copies) };
        for copy in 0..copies {
            self.rows.push(row);
            self.weights.push(weight);
            for (numbers, numbering) in self.numbers.iter_mut().zip(&ranking.numbers) {
                numbers.push(match numbering {
                    Numbering::RowNumber => given.first + copy,
                    Numbering::Rank => given.rank,
                    Numbering::DenseRank => given.dense_rank,
                });
            }
        }
    }

    fn into_rows(self, candidates: &Rows, schema: &SchemaRef) -> Rows {
        let taken = candidates.take(&self.rows.into()).into_parts().0;
        let width = taken.num_columns();
        let numbers = self.numbers.into_iter().zip(&schema.fields()[width..]).map(|(numbers, field)| {
            let numbers: ArrayRef = Arc::new(Int64Array::from(numbers));
            cast(&numbers, field.data_type()).expect("a number of a row fits the type of the function")
        });
        let columns = taken.columns().iter().cloned().chain(numbers).collect();
        Rows::new(batch(schema, columns, taken.num_rows()), Some(Int64Array::from(self.weights)))
    }
}

impl Operator for TopK {
    fn eval(&mut self, _at: Moment, inputs: &[Delta]) -> Delta {
        let input = one("top_k", inputs);
        if input.oks.is_empty() {
            return Delta::new(Rows::empty(self.schema.clone()), input.errs.clone());
        }
        let delta = Keyed::new(input.oks.clone(), self.all.key());
        let (mut touched, groups) = self.touched(&delta);
        let candidates = self.candidates(&delta, &groups, &touched);
        if !self.append_only {
            self.all.absorb_hashed(&delta.rows, &delta.hashes);
        }
        Delta::new(self.settle(candidates, &mut touched), input.errs.clone())
    }

    fn save(&mut self) -> Vec<StatePart> {
        vec![StatePart { runs: self.all.runs().to_vec() }]
    }

    fn load(&mut self, parts: Vec<Vec<Arc<Run>>>) {
        let runs = parts.into_iter().next().expect("one part: the rows");
        self.all = Arrangement::restore(self.all.schema().clone(), self.all.key().to_vec(), runs);
    }

    fn held(&self) -> Held {
        let heads = self.heads.values().map(|head| Held { rows: head.rows.len(), bytes: head.rows.bytes() });
        let all = Held { rows: self.all.rows(), bytes: self.all.bytes() };
        heads.fold(all, |sum, head| Held { rows: sum.rows + head.rows, bytes: sum.bytes + head.bytes })
    }
}

#[cfg(test)]
mod tests;
