//! Equality: of keys as SQL's grouping has it, and of whole rows by identity.

use arrow::array::{
    Array, ArrayRef, AsArray, IntervalMonthDayNanoArray, RecordBatch, StringViewArray, make_comparator,
};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::compute::SortOptions;
use arrow::datatypes::{
    ArrowNativeType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, IntervalUnit, TimeUnit, TimestampMicrosecondType, UInt32Type, UInt64Type,
};

use crate::zset::{canonical, interval_length};

/// Whether a value of the left column equals one of the right column.
trait Compare: Send + Sync {
    fn equal(&self, left: usize, right: usize) -> bool;
    /// Makes the verdicts of unequal pairs false.
    fn check(&self, pairs: &[(u32, u32)], verdicts: &mut [bool]);
}

impl<F: Fn(usize, usize) -> bool + Send + Sync> Compare for F {
    fn equal(&self, left: usize, right: usize) -> bool {
        self(left, right)
    }
    fn check(&self, pairs: &[(u32, u32)], verdicts: &mut [bool]) {
        for ((left, right), verdict) in pairs.iter().zip(verdicts) {
            *verdict = *verdict && self(*left as usize, *right as usize);
        }
    }
}

type Equal = Box<dyn Compare>;

/// Compares keys of two lists of columns: NULL = NULL, -0.0 = 0.0, NaN = NaN, `1 month` = `30 days`.
pub struct KeyMatcher(Vec<Equal>);

impl KeyMatcher {
    /// Both sides have the same number of columns, of the same types in turn.
    pub fn new(left: &[ArrayRef], right: &[ArrayRef]) -> Self {
        assert_eq!(left.len(), right.len(), "keys have the same columns");
        Self(left.iter().zip(right).map(|(left, right)| grouping(left, right)).collect())
    }

    /// Whether key `left` of the left side equals key `right` of the right side.
    #[inline]
    pub fn equal(&self, left: usize, right: usize) -> bool {
        self.0.iter().all(|column| column.equal(left, right))
    }

    /// Makes the verdict of every pair false whose keys differ.
    pub(super) fn check(&self, pairs: &[(u32, u32)], verdicts: &mut [bool]) {
        self.0.iter().for_each(|column| column.check(pairs, verdicts));
    }
}

/// Compares whole rows: equal if all columns are identical (NULL with NULL, floats by their bits).
pub(super) struct RowMatcher(Vec<Equal>);

impl RowMatcher {
    /// `key` are columns that are likely equal, so they are compared last.
    pub(super) fn new(left: &RecordBatch, right: &RecordBatch, key: &[usize]) -> Self {
        let (last, first): (Vec<usize>, Vec<usize>) = (0..left.num_columns()).partition(|column| key.contains(column));
        let columns = first.into_iter().chain(last);
        Self(columns.map(|column| identity(left.column(column), right.column(column))).collect())
    }

    #[inline]
    pub(super) fn equal(&self, left: usize, right: usize) -> bool {
        self.0.iter().all(|column| column.equal(left, right))
    }
}

fn grouping(left: &ArrayRef, right: &ArrayRef) -> Equal {
    match left.data_type() {
        DataType::Float32 => {
            let (a, b) = (left.as_primitive::<Float32Type>(), right.as_primitive::<Float32Type>());
            values(a.values(), a.nulls(), b.values(), b.nulls(), |a, b| a == b || (a.is_nan() && b.is_nan()))
        }
        DataType::Float64 => {
            let (a, b) = (left.as_primitive::<Float64Type>(), right.as_primitive::<Float64Type>());
            values(a.values(), a.nulls(), b.values(), b.nulls(), |a, b| a == b || (a.is_nan() && b.is_nan()))
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let a = left.as_primitive::<IntervalMonthDayNanoType>();
            let b: &IntervalMonthDayNanoArray = right.as_primitive();
            values(a.values(), a.nulls(), b.values(), b.nulls(), |a, b| interval_length(a) == interval_length(b))
        }
        kind if kind.is_nested() => identity(&canonical(left), &canonical(right)),
        _ => identity(left, right),
    }
}

fn identity(left: &ArrayRef, right: &ArrayRef) -> Equal {
    macro_rules! plain {
        ($type:ty) => {{
            let (a, b) = (left.as_primitive::<$type>(), right.as_primitive::<$type>());
            values(a.values(), a.nulls(), b.values(), b.nulls(), |a, b| a == b)
        }};
    }
    if left.data_type() == right.data_type() {
        match left.data_type() {
            DataType::Int16 => return plain!(Int16Type),
            DataType::Int32 => return plain!(Int32Type),
            DataType::Int64 => return plain!(Int64Type),
            DataType::UInt32 => return plain!(UInt32Type),
            DataType::UInt64 => return plain!(UInt64Type),
            DataType::Date32 => return plain!(Date32Type),
            DataType::Decimal128(_, _) => return plain!(Decimal128Type),
            DataType::Timestamp(TimeUnit::Microsecond, _) => return plain!(TimestampMicrosecondType),
            DataType::Utf8View => return texts(left.as_string_view(), right.as_string_view()),
            _ => {}
        }
    }
    let compare = make_comparator(left, right, SortOptions::default())
        .unwrap_or_else(|error| panic!("{} and {} compare: {error}", left.data_type(), right.data_type()));
    Box::new(move |a, b| compare(a, b).is_eq())
}

/// Compares values of a fixed width; a NULL equals only a NULL.
fn values<T: ArrowNativeType>(
    a: &ScalarBuffer<T>,
    a_nulls: Option<&NullBuffer>,
    b: &ScalarBuffer<T>,
    b_nulls: Option<&NullBuffer>,
    equal: impl Fn(T, T) -> bool + Send + Sync + 'static,
) -> Equal {
    let (a, b) = (a.clone(), b.clone());
    with_nulls(a_nulls, b_nulls, move |i, j| equal(a[i], b[j]))
}

fn texts(a: &StringViewArray, b: &StringViewArray) -> Equal {
    let (x, y) = (a.clone(), b.clone());
    with_nulls(a.nulls(), b.nulls(), move |i, j| {
        // The low 64 bits of a view hold the length and the first four bytes.
        let (left, right) = (x.views()[i], y.views()[j]);
        left as u64 == right as u64 && (left as u32 <= 12 && left == right || x.value(i) == y.value(j))
    })
}

fn with_nulls(
    a: Option<&NullBuffer>,
    b: Option<&NullBuffer>,
    equal: impl Fn(usize, usize) -> bool + Send + Sync + 'static,
) -> Equal {
    let (a, b) = (a.filter(|nulls| nulls.null_count() > 0).cloned(), b.filter(|nulls| nulls.null_count() > 0).cloned());
    if a.is_none() && b.is_none() {
        return Box::new(equal);
    }
    let is_null = |nulls: &Option<NullBuffer>, row: usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
    Box::new(move |i, j| match (is_null(&a, i), is_null(&b, j)) {
        (true, true) => true,
        (false, false) => equal(i, j),
        _ => false,
    })
}
