//! Copies chosen rows of several batches into new columns.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, BooleanBufferBuilder, FixedSizeBinaryArray,
    GenericByteViewBuilder, Int64Array, NullBufferBuilder, PrimitiveArray, RecordBatch, RecordBatchOptions,
    new_empty_array,
};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::compute::{concat, interleave};
use arrow::datatypes::{
    BinaryViewType, ByteViewType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, IntervalMonthDayNanoType, IntervalUnit, SchemaRef, StringViewType, Time64MicrosecondType,
    TimeUnit, TimestampMicrosecondType, TimestampNanosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

use crate::zset::{Rows, Weight};

/// Consecutive rows of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub source: u32,
    pub start: u32,
    pub len: u32,
}

/// Rows chosen from several sources, in order, with their weights.
#[derive(Debug, Default)]
pub(super) struct Picks {
    pub spans: Vec<Span>,
    pub rows: usize,
    pub weights: Weights,
    /// True if some weight is not the one that the source has.
    pub reweighted: bool,
}

impl Picks {
    /// Chooses rows with the weights they have.
    #[inline]
    pub fn push(&mut self, sources: &[&Rows], span: Span) {
        let range = span.start as usize..(span.start + span.len) as usize;
        match sources[span.source as usize].weights() {
            None => self.weights.extend_ones(span.len as usize),
            Some(weights) => self.weights.extend(&weights.values()[range]),
        }
        self.push_span(span);
    }

    /// The same for rows that likely do not follow those chosen last: not worth a branch that cannot be predicted.
    #[inline]
    pub fn push_apart(&mut self, sources: &[&Rows], span: Span) {
        match sources[span.source as usize].weights() {
            None => self.weights.extend_ones(span.len as usize),
            Some(weights) => {
                self.weights.extend(&weights.values()[span.start as usize..(span.start + span.len) as usize]);
            }
        }
        self.rows += span.len as usize;
        self.spans.push(span);
    }

    /// Chooses one row with another weight.
    pub fn push_weighted(&mut self, source: u32, row: u32, weight: Weight) {
        self.weights.extend(&[weight]);
        self.reweighted = true;
        self.push_span(Span { source, start: row, len: 1 });
    }

    #[inline]
    fn push_span(&mut self, span: Span) {
        self.rows += span.len as usize;
        match self.spans.last_mut() {
            Some(last) if last.source == span.source && last.start + last.len == span.start => last.len += span.len,
            _ => self.spans.push(span),
        }
    }

    pub fn clear(&mut self) {
        self.spans.clear();
        self.weights.clear();
        (self.rows, self.reweighted) = (0, false);
    }

    /// Copies the chosen rows.
    pub fn gather(&mut self, schema: &SchemaRef, sources: &[&Rows]) -> Rows {
        if self.rows == 0 {
            return Rows::empty(schema.clone());
        }
        let columns = (0..schema.fields().len()).map(|index| {
            let arrays: Vec<&dyn Array> = sources.iter().map(|source| source.column(index).as_ref()).collect();
            let mut sink = sink(schema.field(index).data_type(), self.rows);
            sink.extend(&arrays, &self.spans);
            sink.finish()
        });
        Rows::new(batch_of(schema, columns.collect(), self.rows), self.weights.finish())
    }
}

/// A batch whose columns are known to fit the schema; there may be none.
pub(super) fn batch_of(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> RecordBatch {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
        .unwrap_or_else(|error| panic!("the columns fit the relation's schema: {error}"))
}

/// Weights that arrive in order; held only once one of them is not 1.
#[derive(Debug, Default)]
pub(super) struct Weights {
    ones: usize,
    values: Option<Vec<Weight>>,
}

impl Weights {
    #[inline]
    pub fn extend_ones(&mut self, count: usize) {
        match &mut self.values {
            None => self.ones += count,
            Some(values) => values.resize(values.len() + count, 1),
        }
    }

    pub fn extend(&mut self, weights: &[Weight]) {
        if self.values.is_none() && weights.iter().all(|weight| *weight == 1) {
            self.ones += weights.len();
            return;
        }
        self.values.get_or_insert_with(|| vec![1; self.ones]).extend_from_slice(weights);
    }

    /// Appends all of another list.
    pub fn append(&mut self, other: &Weights) {
        match &other.values {
            None => self.extend_ones(other.ones),
            Some(values) => self.extend(values),
        }
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    pub fn finish(&mut self) -> Option<Int64Array> {
        std::mem::take(self).values.map(Int64Array::from)
    }
}

/// A column that grows by rows of other columns.
pub(super) trait Sink: Send + Sync {
    fn extend(&mut self, sources: &[&dyn Array], spans: &[Span]);
    /// The column. Only nested types are copied here; for all others this is cheap however long the column is.
    fn finish(&mut self) -> ArrayRef;
}

/// An empty column with room for some rows.
pub(super) fn sink(data_type: &DataType, capacity: usize) -> Box<dyn Sink> {
    macro_rules! primitive {
        ($type:ty) => {
            Box::new(PrimitiveSink::<$type>::new(data_type, capacity))
        };
    }
    match data_type {
        DataType::Boolean => Box::new(BooleanSink::new(capacity)),
        DataType::Int8 => primitive!(Int8Type),
        DataType::Int16 => primitive!(Int16Type),
        DataType::Int32 => primitive!(Int32Type),
        DataType::Int64 => primitive!(Int64Type),
        DataType::UInt8 => primitive!(UInt8Type),
        DataType::UInt16 => primitive!(UInt16Type),
        DataType::UInt32 => primitive!(UInt32Type),
        DataType::UInt64 => primitive!(UInt64Type),
        DataType::Float32 => primitive!(Float32Type),
        DataType::Float64 => primitive!(Float64Type),
        DataType::Decimal128(_, _) => primitive!(Decimal128Type),
        DataType::Date32 => primitive!(Date32Type),
        DataType::Time64(TimeUnit::Microsecond) => primitive!(Time64MicrosecondType),
        DataType::Timestamp(TimeUnit::Microsecond, _) => primitive!(TimestampMicrosecondType),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => primitive!(TimestampNanosecondType),
        DataType::Interval(IntervalUnit::MonthDayNano) => primitive!(IntervalMonthDayNanoType),
        DataType::FixedSizeBinary(width) => Box::new(FixedBytesSink::new(*width, capacity)),
        DataType::Utf8View => Box::new(ViewSink::<StringViewType>::new(capacity)),
        DataType::BinaryView => Box::new(ViewSink::<BinaryViewType>::new(capacity)),
        _ => Box::new(AnySink { data_type: data_type.clone(), parts: Vec::new() }),
    }
}

fn extend_nulls(nulls: &mut NullBufferBuilder, sources: &[Option<&NullBuffer>], spans: &[Span]) {
    if sources.iter().all(Option::is_none) {
        return nulls.append_n_non_nulls(spans.iter().map(|span| span.len as usize).sum());
    }
    for span in spans {
        match sources[span.source as usize] {
            None => nulls.append_n_non_nulls(span.len as usize),
            Some(source) if span.len == 1 => nulls.append(source.is_valid(span.start as usize)),
            Some(source) => nulls.append_buffer(&source.slice(span.start as usize, span.len as usize)),
        }
    }
}

struct PrimitiveSink<T: ArrowPrimitiveType> {
    data_type: DataType,
    values: Vec<T::Native>,
    nulls: NullBufferBuilder,
}

impl<T: ArrowPrimitiveType> PrimitiveSink<T> {
    fn new(data_type: &DataType, capacity: usize) -> Self {
        let (values, nulls) = (Vec::with_capacity(capacity), NullBufferBuilder::new(capacity));
        Self { data_type: data_type.clone(), values, nulls }
    }
}

impl<T: ArrowPrimitiveType> Sink for PrimitiveSink<T> {
    fn extend(&mut self, sources: &[&dyn Array], spans: &[Span]) {
        let arrays: Vec<&PrimitiveArray<T>> = sources.iter().map(|source| source.as_primitive::<T>()).collect();
        for span in spans {
            let (values, start) = (arrays[span.source as usize].values(), span.start as usize);
            match span.len {
                1 => self.values.push(values[start]),
                len => self.values.extend_from_slice(&values[start..start + len as usize]),
            }
        }
        extend_nulls(&mut self.nulls, &arrays.iter().map(|array| array.nulls()).collect::<Vec<_>>(), spans);
    }
    fn finish(&mut self) -> ArrayRef {
        let values = std::mem::take(&mut self.values);
        let array = PrimitiveArray::<T>::new(values.into(), self.nulls.finish());
        Arc::new(array.with_data_type(self.data_type.clone()))
    }
}

struct BooleanSink {
    values: BooleanBufferBuilder,
    nulls: NullBufferBuilder,
}

impl BooleanSink {
    fn new(capacity: usize) -> Self {
        Self { values: BooleanBufferBuilder::new(capacity), nulls: NullBufferBuilder::new(capacity) }
    }
}

impl Sink for BooleanSink {
    fn extend(&mut self, sources: &[&dyn Array], spans: &[Span]) {
        let arrays: Vec<&BooleanArray> = sources.iter().map(|source| source.as_boolean()).collect();
        for span in spans {
            let (values, start) = (arrays[span.source as usize].values(), span.start as usize);
            match span.len {
                1 => self.values.append(values.value(start)),
                len => self.values.append_buffer(&values.slice(start, len as usize)),
            }
        }
        extend_nulls(&mut self.nulls, &arrays.iter().map(|array| array.nulls()).collect::<Vec<_>>(), spans);
    }
    fn finish(&mut self) -> ArrayRef {
        Arc::new(BooleanArray::new(self.values.finish(), self.nulls.finish()))
    }
}

struct FixedBytesSink {
    width: i32,
    values: Vec<u8>,
    rows: usize,
    nulls: NullBufferBuilder,
}

impl FixedBytesSink {
    fn new(width: i32, capacity: usize) -> Self {
        let values = Vec::with_capacity(capacity * width as usize);
        Self { width, values, rows: 0, nulls: NullBufferBuilder::new(capacity) }
    }
}

impl Sink for FixedBytesSink {
    fn extend(&mut self, sources: &[&dyn Array], spans: &[Span]) {
        let arrays: Vec<&FixedSizeBinaryArray> = sources.iter().map(|source| source.as_fixed_size_binary()).collect();
        let width = self.width as usize;
        for span in spans {
            let values = arrays[span.source as usize].value_data();
            let (start, len) = (span.start as usize * width, span.len as usize * width);
            self.values.extend_from_slice(&values[start..start + len]);
            self.rows += span.len as usize;
        }
        extend_nulls(&mut self.nulls, &arrays.iter().map(|array| array.nulls()).collect::<Vec<_>>(), spans);
    }
    fn finish(&mut self) -> ArrayRef {
        let (values, rows) = (Buffer::from_vec(std::mem::take(&mut self.values)), std::mem::take(&mut self.rows));
        let array = FixedSizeBinaryArray::try_new_with_len(self.width, values, self.nulls.finish(), rows);
        Arc::new(array.expect("as many bytes as rows need"))
    }
}

/// Strings are copied, so that a few rows never hold the buffers of the many that they come from.
struct ViewSink<T: ByteViewType>(GenericByteViewBuilder<T>);

impl<T: ByteViewType> ViewSink<T> {
    fn new(capacity: usize) -> Self {
        Self(GenericByteViewBuilder::with_capacity(capacity))
    }
}

impl<T: ByteViewType> Sink for ViewSink<T>
where
    T::Native: AsRef<T::Native>,
{
    fn extend(&mut self, sources: &[&dyn Array], spans: &[Span]) {
        let arrays: Vec<_> = sources.iter().map(|source| source.as_byte_view::<T>()).collect();
        for span in spans {
            let array = arrays[span.source as usize];
            let rows = span.start as usize..(span.start + span.len) as usize;
            match array.nulls() {
                None => rows.for_each(|row| self.0.append_value(array.value(row))),
                Some(nulls) => rows.for_each(|row| match nulls.is_valid(row) {
                    true => self.0.append_value(array.value(row)),
                    false => self.0.append_null(),
                }),
            }
        }
    }
    fn finish(&mut self) -> ArrayRef {
        Arc::new(self.0.finish())
    }
}

/// Any other type, by Arrow's own copying, in parts that are put together at the end.
struct AnySink {
    data_type: DataType,
    parts: Vec<ArrayRef>,
}

impl Sink for AnySink {
    fn extend(&mut self, sources: &[&dyn Array], spans: &[Span]) {
        let places = spans.iter().flat_map(|span| {
            let rows = span.start as usize..(span.start + span.len) as usize;
            rows.map(|row| (span.source as usize, row))
        });
        let part = interleave(sources, &places.collect::<Vec<_>>());
        self.parts.push(part.expect("sources of one relation have one type"));
    }
    fn finish(&mut self) -> ArrayRef {
        let parts = std::mem::take(&mut self.parts);
        match parts.as_slice() {
            [] => new_empty_array(&self.data_type),
            [one] => one.clone(),
            several => {
                let several: Vec<&dyn Array> = several.iter().map(|part| part.as_ref()).collect();
                concat(&several).expect("parts have one type")
            }
        }
    }
}
