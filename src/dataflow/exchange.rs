//! How a delta travels between stages of a dataflow: split by key hash over the workers, as bytes between processes.

use std::cell::OnceCell;
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, StringViewArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use timely::Accountable;
use timely::bytes::arc::Bytes;
use timely::communication::{Pull, Push};
use timely::dataflow::channels::pact::{DistributorPact, ParallelizationContract, Pipeline};
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::dataflow::channels::{ContainerBytes, Message, Stamp};
use timely::logging::TimelyLogger;
use timely::worker::Worker;

use super::graph::Route;
use crate::state::worker_of;
use crate::zset::{DataError, Delta, ErrorRows, KEYLESS_HASH, Rows, Weight, row_hashes};

/// A delta on its way between two stages, with the worker that sent it. Never sent when empty.
#[derive(Clone, Default)]
pub struct Parcel {
    from: u64,
    delta: Option<Delta>,
    /// The bytes between processes: their length is asked for before they are.
    encoded: OnceCell<Vec<u8>>,
}

impl Parcel {
    pub fn new(from: usize, delta: Delta) -> Self {
        Self { from: from as u64, delta: Some(delta), encoded: OnceCell::new() }
    }
}

/// The sum of what came from several workers. In the order of the workers, so that arrival order never shows.
pub fn merge(empty: &Delta, mut parcels: Vec<Parcel>) -> Delta {
    parcels.sort_by_key(|parcel| parcel.from);
    sum(empty, parcels.into_iter().filter_map(|parcel| parcel.delta).collect())
}

/// The sum of deltas in the order given; `empty` if there are none.
pub fn sum(empty: &Delta, mut deltas: Vec<Delta>) -> Delta {
    match deltas.len() {
        0 => empty.clone(),
        1 => deltas.remove(0),
        _ => Delta::concat(&empty.schema(), deltas),
    }
}

// Invariant: Timely counts records to know its progress, so the parts of a parcel count as many as the whole.
impl Accountable for Parcel {
    fn record_count(&self) -> i64 {
        let count = self.delta.as_ref().map_or(0, |delta| delta.oks.len() + delta.errs.len());
        i64::try_from(count).expect("a delta has fewer than 2^63 rows")
    }
}

/// The worker's contiguous share of rows that are the same on all workers; error rows go to the first worker.
pub fn share(delta: &Delta, worker: usize, workers: usize) -> Delta {
    if workers == 1 {
        return delta.clone();
    }
    let bound = |worker: usize| (delta.oks.len() as u128 * worker as u128 / workers as u128) as usize;
    let oks = delta.oks.slice(bound(worker), bound(worker + 1) - bound(worker));
    let errs = if worker == 0 { delta.errs.clone() } else { ErrorRows::default() };
    Delta::new(oks, errs)
}

/// One delta for each worker: rows by the hash of the key columns, error rows by their own hash. Without key columns
/// all of them go to one worker, since nothing may happen on the others.
pub fn split(delta: &Delta, key: &[usize], workers: usize) -> Vec<Delta> {
    if key.is_empty() {
        let mut parts = vec![Delta::empty(delta.schema()); workers];
        parts[worker_of(KEYLESS_HASH, workers)] = delta.clone();
        return parts;
    }
    let mut errs = vec![ErrorRows::default(); workers];
    for (error, weight) in delta.errs.iter() {
        errs[error_owner(error, workers)].add(error.clone(), weight);
    }
    split_rows(&delta.oks, key, workers).into_iter().zip(errs).map(|(oks, errs)| Delta::new(oks, errs)).collect()
}

fn split_rows(rows: &Rows, key: &[usize], workers: usize) -> Vec<Rows> {
    let columns: Vec<ArrayRef> = key.iter().map(|column| rows.column(*column).clone()).collect();
    let hashes = row_hashes(&columns, rows.len());
    let mut owned: Vec<Vec<u32>> = vec![Vec::with_capacity(rows.len() / workers + 1); workers];
    for (row, hash) in (0u32..).zip(&hashes) {
        owned[worker_of(*hash, workers)].push(row);
    }
    let part = |owned: Vec<u32>| match owned.len() {
        0 => Rows::empty(rows.schema()),
        all if all == rows.len() => rows.clone(),
        _ if rows.is_consolidated() => rows.take(&UInt32Array::from(owned)).assume_consolidated(),
        _ => rows.take(&UInt32Array::from(owned)),
    };
    owned.into_iter().map(part).collect()
}

/// The worker on which the weights of one error meet.
pub fn error_owner(error: &DataError, workers: usize) -> usize {
    let text = format!("{}{}", String::from_utf8_lossy(&error.code), error.message);
    let column: ArrayRef = Arc::new(StringViewArray::from(vec![text]));
    worker_of(row_hashes(&[column], 1)[0], workers)
}

/// The contract of one edge between stages.
pub struct EdgePact {
    route: Route,
}

impl EdgePact {
    pub fn new(route: Route) -> Self {
        Self { route }
    }
}

/// A parcel as it lies in a channel.
pub type ParcelMessage = Message<u64, Parcel>;

impl ParallelizationContract<u64, Parcel> for EdgePact {
    type Pusher = Box<dyn Push<ParcelMessage>>;
    type Puller = Box<dyn Pull<ParcelMessage>>;

    fn connect(
        self,
        worker: &Worker,
        identifier: usize,
        address: Rc<[usize]>,
        logging: Option<TimelyLogger>,
    ) -> (Self::Pusher, Self::Puller) {
        match self.route {
            Route::Local => {
                let (push, pull) = Pipeline.connect(worker, identifier, address, logging);
                (Box::new(push), Box::new(pull))
            }
            Route::ByKey(key) => {
                let pact = DistributorPact(move |_workers| ByKey { key });
                let (push, pull) = pact.connect(worker, identifier, address, logging);
                (Box::new(push), Box::new(pull))
            }
        }
    }
}

/// Splits parcels by key hash. It never consolidates, and keeps nothing back.
struct ByKey {
    key: Vec<usize>,
}

impl Distributor<Parcel> for ByKey {
    fn partition<T: Clone, P: Push<Message<T, Parcel>>>(
        &mut self,
        container: &mut Parcel,
        stamp: &Stamp<T>,
        pushers: &mut [P],
    ) {
        let whole = std::mem::take(container);
        let Some(delta) = &whole.delta else { return };
        let parts = split(delta, &self.key, pushers.len());
        let mut count = 0;
        for (part, pusher) in parts.into_iter().zip(pushers) {
            if part.is_empty() {
                continue;
            }
            let mut parcel = Parcel { from: whole.from, delta: Some(part), encoded: OnceCell::new() };
            count += parcel.record_count();
            Message::push_at(&mut parcel, stamp.clone(), pusher);
        }
        assert_eq!(count, whole.record_count(), "the parts of a parcel count as many records as the whole");
    }

    fn flush<T: Clone, P: Push<Message<T, Parcel>>>(&mut self, _stamp: &Stamp<T>, _pushers: &mut [P]) {}
}

// A parcel as bytes, all integers little-endian u64, padded to a multiple of eight:
//   sender | flags (1: consolidated, 2: weights) | length of errors | errors as JSON | length of rows | Arrow IPC stream
// The weights are the last column of the stream. Only processes of one version talk to each other, so it has none.
const CONSOLIDATED: u64 = 1;
const WEIGHTS: u64 = 2;

impl ContainerBytes for Parcel {
    fn from_bytes(bytes: Bytes) -> Self {
        decode(&bytes)
    }

    fn length_in_bytes(&self) -> usize {
        self.encoded.get_or_init(|| encode(self)).len()
    }

    fn into_bytes<W: Write>(&self, writer: &mut W) {
        let encoded = self.encoded.get_or_init(|| encode(self));
        writer.write_all(encoded).expect("Timely gives as much room as it was told");
    }
}

fn encode(parcel: &Parcel) -> Vec<u8> {
    let delta = parcel.delta.as_ref().expect("an empty parcel is never sent");
    let weights = delta.oks.weights().is_some() || delta.oks.batch().num_columns() == 0;
    let flags = if delta.oks.is_consolidated() { CONSOLIDATED } else { 0 } | if weights { WEIGHTS } else { 0 };
    let errors: Vec<(&DataError, Weight)> = delta.errs.iter().collect();
    let errors = serde_json::to_vec(&errors).expect("errors are text and numbers");
    let rows = encode_rows(&delta.oks, weights);
    let mut bytes = Vec::with_capacity(40 + errors.len() + rows.len());
    bytes.extend_from_slice(&parcel.from.to_le_bytes());
    bytes.extend_from_slice(&flags.to_le_bytes());
    for part in [errors, rows] {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&part);
    }
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

fn encode_rows(rows: &Rows, weights: bool) -> Vec<u8> {
    let mut batch = rows.batch().clone();
    if weights {
        let mut fields: Vec<Field> = batch.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
        fields.push(Field::new("weight", DataType::Int64, false));
        let mut columns = batch.columns().to_vec();
        columns.push(Arc::new(rows.weights_array()));
        batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("a weight for every row");
    }
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).expect("every SQL type travels as Arrow IPC");
    writer.write(&batch).and_then(|()| writer.finish()).expect("memory takes all bytes");
    drop(writer);
    bytes
}

fn decode(bytes: &[u8]) -> Parcel {
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let part = |at: usize| {
        let length = usize::try_from(number(at)).expect("a part fits in memory");
        (&bytes[at + 8..at + 8 + length], at + 8 + length)
    };
    let (from, flags) = (number(0), number(8));
    let (errors, next) = part(16);
    let (rows, _) = part(next);
    let errors: Vec<(DataError, Weight)> = serde_json::from_slice(errors).expect("a peer sends what we send");
    let mut errs = ErrorRows::default();
    errors.into_iter().for_each(|(error, weight)| errs.add(error, weight));
    let rows = decode_rows(rows, flags & WEIGHTS != 0);
    let rows = if flags & CONSOLIDATED != 0 { rows.assume_consolidated() } else { rows };
    Parcel { from, delta: Some(Delta::new(rows, errs)), encoded: OnceCell::new() }
}

fn decode_rows(bytes: &[u8], weights: bool) -> Rows {
    let mut reader = StreamReader::try_new(bytes, None).expect("a peer sends what we send");
    let batch = reader.next().expect("a parcel holds one batch").expect("a peer sends what we send");
    if !weights {
        return Rows::inserts(batch);
    }
    let rows = batch.num_rows();
    let mut columns = batch.columns().to_vec();
    let weights = columns.pop().expect("the weights are the last column");
    let weights: Int64Array = weights.as_primitive::<Int64Type>().clone();
    let schema = Arc::new(Schema::new(batch.schema().fields()[..columns.len()].to_vec()));
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(schema, columns, &options).expect("the columns of a batch");
    Rows::new(batch, Some(weights))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::SqlState;
    use crate::zset::{parse_rows, pretty_delta};

    fn delta(rows: &str) -> Delta {
        let error = DataError::new(SqlState::DIVISION_BY_ZERO, "division by zero");
        Delta::new(parse_rows("x INT, s TEXT", rows), ErrorRows::one(error, 2))
    }

    #[test]
    fn parts_of_a_delta_count_as_many_records_as_the_whole() {
        let whole = delta("+1 | 1 | a\n-2 | 2 | b\n+1 | NULL | NULL\n+1 | 3 | c");
        for workers in [1, 2, 3, 7] {
            let parts = split(&whole, &[0], workers);
            assert_eq!(parts.len(), workers);
            assert_eq!(parts.iter().map(|part| part.oks.len()).sum::<usize>(), 4);
            assert_eq!(parts.iter().map(|part| part.errs.len()).sum::<usize>(), 1);
            let sum = Delta::concat(&whole.schema(), parts);
            assert_eq!(pretty_delta(&sum), pretty_delta(&whole));
        }
    }

    #[test]
    fn a_key_without_columns_brings_all_rows_to_one_worker() {
        let parts = split(&delta("+1 | 1 | a\n+1 | 2 | b"), &[], 4);
        assert_eq!(parts.iter().filter(|part| !part.oks.is_empty()).count(), 1);
    }

    #[test]
    fn shares_of_all_workers_are_the_whole() {
        let whole = delta("+1 | 1 | a\n+1 | 2 | b\n+1 | 3 | c\n+1 | 4 | d\n+1 | 5 | e");
        for workers in [1, 2, 3, 8] {
            let parts = (0..workers).map(|worker| share(&whole, worker, workers)).collect();
            assert_eq!(pretty_delta(&Delta::concat(&whole.schema(), parts)), pretty_delta(&whole));
        }
    }

    #[test]
    fn a_parcel_is_the_same_after_its_way_as_bytes() {
        let no_weights = Delta::new(Rows::inserts(delta("+1 | 1 | a").oks.batch().clone()), ErrorRows::default());
        for whole in [delta("+1 | 1 | a\n-2 | NULL | longer than twelve bytes"), delta(""), no_weights] {
            let parcel = Parcel::new(3, whole.clone());
            let mut bytes = Vec::new();
            parcel.into_bytes(&mut bytes);
            assert_eq!(parcel.length_in_bytes(), bytes.len());
            assert_eq!(bytes.len() % 8, 0);
            let back = decode(&bytes);
            assert_eq!(back.from, 3);
            let back = back.delta.expect("a delta");
            assert_eq!(pretty_delta(&back), pretty_delta(&whole));
            assert_eq!(back.oks.weights().is_some(), whole.oks.weights().is_some());
        }
    }
}
