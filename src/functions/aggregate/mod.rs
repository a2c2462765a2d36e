//! Aggregates that can take rows back: their running state for many groups at once, in columns.
//!
//! A new one implements [`Accumulate`] and gets a line in [`find`]; no operator needs to know of it.

mod boolean;
mod count;
mod exact_float;
mod float;
mod interval;
mod min_max;
mod moments;
mod udaf;
mod whole;

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use crate::zset::{DataError, Weight};

pub use udaf::{kept_aggregates, least_of};

/// The state of one aggregate for all groups of an operator. Groups are numbered; group g's state is in slot g.
///
/// Adding is linear: rows may come in any order and split into any calls, retractions before their rows too. The state
/// is a function of the sum alone, so that a row that came and went leaves no trace.
pub trait Accumulate: Send + Sync {
    /// Makes room for group numbers below `groups`. New groups are empty.
    fn grow(&mut self, groups: usize);

    /// Row i of the arguments counts `weights[i]` times, or once if there are no weights, for group `groups[i]`.
    fn add(&mut self, groups: &[u32], arguments: &[ArrayRef], weights: Option<&[Weight]>);

    /// The results of these groups, in their order. Not asked for while a group holds rows less than zero times.
    fn results(&self, groups: &[u32]) -> Results;

    /// Forgets a group which has lost all its rows: its number will be used again.
    fn reset(&mut self, group: u32);

    /// Whether a second equal value changes the result; if not, DISTINCT means nothing.
    fn minds_duplicates(&self) -> bool {
        true
    }

    /// The types of the columns that [`Accumulate::save`] gives. None if all state is in [`Accumulate::values`].
    fn state_types(&self) -> Vec<DataType>;

    /// The state of these groups, one row for each.
    fn save(&self, groups: &[u32]) -> Vec<ArrayRef>;

    /// Adds what `save` gave, of this state or of another.
    fn load(&mut self, groups: &[u32], state: &[ArrayRef]);

    /// For an aggregate that keeps its values: the type of its one argument.
    fn value_type(&self) -> Option<DataType> {
        None
    }

    /// All values kept: group, value, weight. They are taken back by `add`.
    fn values(&self) -> (Vec<u32>, ArrayRef, Vec<Weight>) {
        (Vec::new(), arrow::array::new_empty_array(&DataType::Null), Vec::new())
    }

    /// Bytes of memory held, roughly.
    fn bytes(&self) -> usize;
}

/// Results for a list of groups; where one failed, the column holds anything.
#[derive(Debug)]
pub struct Results {
    pub column: ArrayRef,
    /// By place in the list.
    pub failed: Vec<(usize, DataError)>,
}

impl Results {
    fn all(column: ArrayRef) -> Self {
        Self { column, failed: Vec::new() }
    }
}

/// Makes the state of an aggregate.
pub type MakeAccumulate = Arc<dyn Fn() -> Box<dyn Accumulate> + Send + Sync>;

/// An aggregate for given types of arguments.
#[derive(Clone)]
pub struct Aggregation {
    pub result: DataType,
    pub make: MakeAccumulate,
}

impl Aggregation {
    fn new<A: Accumulate + 'static>(result: DataType, make: impl Fn() -> A + Send + Sync + 'static) -> Self {
        Self { result, make: Arc::new(move || Box::new(make())) }
    }
}

/// The aggregate of a name for arguments of these types (none for `count(*)`), with PostgreSQL's type of result.
/// `None` if there is no rule for it here: then DataFusion computes the touched groups anew.
///
/// `append_only` promises that no row is ever taken back; some aggregates then keep less.
pub fn find(name: &str, arguments: &[DataType], append_only: bool) -> Option<Aggregation> {
    match (name, arguments) {
        ("count", _) => Some(Aggregation::new(DataType::Int64, count::Count::default)),
        ("sum", [argument]) => {
            whole::sum(argument).or_else(|| float::sum(argument)).or_else(|| interval::sum(argument))
        }
        ("avg" | "mean", [argument]) => {
            whole::avg(argument).or_else(|| float::avg(argument)).or_else(|| interval::avg(argument))
        }
        ("min", [argument]) => min_max::find(argument, min_max::Side::Least, append_only),
        ("max", [argument]) => min_max::find(argument, min_max::Side::Greatest, append_only),
        ("bool_and" | "every", [DataType::Boolean]) => {
            Some(Aggregation::new(DataType::Boolean, || boolean::Boolean::new(boolean::Rule::All)))
        }
        ("bool_or", [DataType::Boolean]) => {
            Some(Aggregation::new(DataType::Boolean, || boolean::Boolean::new(boolean::Rule::Any)))
        }
        _ => moments::find(name, arguments),
    }
}

/// Calls `add(row, weight)` for every row whose value is not NULL.
#[inline]
fn each_value(
    rows: usize,
    nulls: Option<&arrow::buffer::NullBuffer>,
    weights: Option<&[Weight]>,
    mut add: impl FnMut(usize, Weight),
) {
    let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
    match (nulls, weights) {
        (None, None) => (0..rows).for_each(|row| add(row, 1)),
        (None, Some(weights)) => weights.iter().enumerate().for_each(|(row, weight)| add(row, *weight)),
        (Some(nulls), None) => nulls.valid_indices().for_each(|row| add(row, 1)),
        (Some(nulls), Some(weights)) => nulls.valid_indices().for_each(|row| add(row, weights[row])),
    }
}
