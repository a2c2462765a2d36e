//! The operators, one file each. A new one: its file, a line here, an arm of `plan/lower.rs`, an slt file.
//!
//! All are made by `new` with plain values, so that `plan` can call them in `MakeOperator`. Keys, arguments and filters
//! are column indices of the input: `plan` computes expressions with a [`FilterProject`] first. `schema` is always that
//! of the output, whose types must be those that the operator makes; the names are free.
//!
//! | operator | made by | route of its inputs |
//! |---|---|---|
//! | [`FilterProject`] | `new(Option<Predicate>, Option<Scalars>)`, `filter(..)`, `project(..)` | local |
//! | [`Union`] | `new(schema)`; any number of inputs | local |
//! | [`Unnest`] | `new(Vec<(input column, is it a list)>, schema)` | local |
//! | [`Aggregate`] | `new(key, Vec<AggregateCall>, &input schema, schema)`; calls from `functions::aggregate::find` | `ByKey(key)` |
//! | [`ClosingAggregate`] | the same and `Close`; rows and the watermark | `ByKey(key)`, `ByKey` of the target |
//! | [`ToAll`] | `new(&input schema)` | local |
//! | [`Distinct`] | `new(schema)` | `ByKey` of all columns |
//! | [`TopK`] | `new(partition, order, Ranking, append_only, &input schema, schema)` | `ByKey(partition)` |
//! | [`Temporal`] | `new(Turn, time column, after, schema, clock schema)`; rows and the clock | `ByKey` of no columns |
//! | [`Join`] | `new(JoinOn, &left schema, &right schema, schema)` | `ByKey(on.left)`, `ByKey(on.right)` |
//! | [`OuterJoin`] | `new(OuterKind, JoinOn, &left schema, &right schema, schema)` | the same |
//! | [`SemiJoin`] | `new(SemiKind, JoinOn, &left schema, &right schema, schema)` | the same; null-aware: `ByKey` of no columns |
//! | [`KeyedRecompute`] | `new(Arc<dyn Compute>, Vec<(input schema, its key)>, schema, output_key)` | `ByKey` of each input's key |
//! | [`Recompute`] | `new(Arc<dyn Compute>, input schemas, schema)` | `ByKey` of no columns |

mod aggregate;
mod counted;
mod distinct;
mod filter_project;
mod groups;
mod join;
mod keyed_recompute;
mod matching;
mod outer_join;
mod recompute;
mod semi_join;
mod temporal;
mod to_all;
mod top_k;
mod union;
mod unnest;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

pub use aggregate::{Aggregate, AggregateCall, Close, ClosingAggregate};
pub use distinct::Distinct;
pub use filter_project::FilterProject;
pub use join::Join;
pub use keyed_recompute::KeyedRecompute;
pub use matching::JoinOn;
pub use outer_join::{OuterJoin, OuterKind};
pub use recompute::{Compute, Recompute};
pub use semi_join::{SemiJoin, SemiKind};
pub use temporal::{Temporal, Turn};
pub use to_all::ToAll;
pub use top_k::{Numbering, Ranking, TopK};
pub use union::Union;
pub use unnest::Unnest;

use super::operator::StatePart;
use crate::state::{Arrangement, Run};
use crate::zset::{Delta, ErrorRows, Rows};

/// The only input of an operator that has one.
fn one<'a>(name: &str, inputs: &'a [Delta]) -> &'a Delta {
    let [input] = inputs else { panic!("{name} has one input, not {}", inputs.len()) };
    input
}

/// The two inputs of an operator that has two.
fn two<'a>(name: &str, inputs: &'a [Delta]) -> (&'a Delta, &'a Delta) {
    let [left, right] = inputs else { panic!("{name} has two inputs, not {}", inputs.len()) };
    (left, right)
}

/// Error rows pass every operator unchanged.
fn all_errors(inputs: &[Delta]) -> ErrorRows {
    let mut errs = ErrorRows::default();
    inputs.iter().for_each(|input| errs.add_all(&input.errs));
    errs
}

/// Rows as one part of saved state, in the order of their key's hash.
fn one_run(rows: &Rows, key: &[usize]) -> StatePart {
    let runs = match rows.is_empty() {
        true => Vec::new(),
        false => vec![Arc::new(Run::build(rows, key))],
    };
    StatePart { runs }
}

/// The rows of a part of saved state.
fn collect_runs(schema: &SchemaRef, runs: Vec<Arc<Run>>) -> Rows {
    match runs.first() {
        None => Rows::empty(schema.clone()),
        Some(first) => {
            let key = first.key().to_vec();
            Arrangement::restore(schema.clone(), key, runs).snapshot().collect()
        }
    }
}
