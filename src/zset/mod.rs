//! What flows: Z-sets, their deltas and weights, steps, error rows, SQL types. Imports no room but `error`.

mod consolidate;
mod delta;
mod error_row;
mod hash;
mod pretty;
mod radix;
mod relation;
mod rows;
mod step;
mod types;
mod weight;

pub use consolidate::consolidate;
pub use delta::Delta;
pub use error_row::{DataError, ErrorRows};
pub use hash::{KEYLESS_HASH, canonical, canonical_columns, interval_length, row_hashes};
pub use pretty::{parse_rows, pretty_delta, pretty_rows};
pub use radix::{HashedRow, sort_by_hash};
pub use relation::RelationId;
pub use rows::Rows;
pub use step::{Moment, Step};
pub use types::{NUMERIC_SCALE, PgType, TYPE_METADATA_KEY};
pub use weight::{Weight, weights_add};
