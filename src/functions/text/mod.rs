//! Values of every SQL type as PostgreSQL prints and reads them: text, binary, and the three formats of COPY.
//!
//! All of it works on whole columns: [`TextColumn`] and [`BinaryColumn`] print the values of an Arrow array into a byte
//! buffer, [`ColumnBuilder`] makes an array from texts or binary values, [`copy`] prints and reads
//! COPY's data.

mod array;
mod binary_in;
mod binary_out;
mod bytes;
mod calendar;
pub mod copy;
mod datetime_in;
mod datetime_out;
mod input;
mod interval;
mod json;
mod number_in;
mod number_out;
mod output;
mod zone;

pub use array::{split_array, write_item};
pub use binary_in::utf8;
pub use binary_out::BinaryColumn;
pub use bytes::{parse_bytea, parse_uuid, write_bytea, write_uuid};
pub use calendar::{
    DATE_INFINITY, DATE_MINUS_INFINITY, Day, MICROS_PER_DAY, MICROS_PER_SECOND, TIMESTAMP_INFINITY,
    TIMESTAMP_MINUS_INFINITY, civil_from_days, date_in_range, days_from_civil, days_in_month, timestamp_in_range,
};
pub use datetime_in::{parse_date, parse_time, parse_timestamp, parse_timestamptz};
pub use datetime_out::{write_date, write_interval, write_offset, write_time, write_timestamp, write_timestamptz};
pub use input::{ColumnBuilder, RowError, parse_bool, parse_texts};
pub use interval::parse_interval;
pub use json::{canonical_jsonb, check_json, json_members};
pub use number_in::{
    NumericForm, numeric_overflow, parse_decimal128, parse_decimal256, parse_float4, parse_float8, parse_int,
};
pub use number_out::{write_decimal128, write_decimal256, write_float4, write_float8, write_int};
pub use output::{TextColumn, array_text, texts};
pub use zone::Zone;

/// The settings of a session on which text depends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TextStyle {
    /// The setting `TimeZone`.
    pub zone: Zone,
    /// What `now` and `today` in a literal mean: microseconds since 1970.
    pub now: i64,
}

impl Default for TextStyle {
    fn default() -> Self {
        TextStyle { zone: Zone::UTC, now: 0 }
    }
}
