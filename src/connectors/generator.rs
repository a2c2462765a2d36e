//! Made-up rows: `datagen`, which follows a rule for each column and repeats exactly for a seed, and the pace at which
//! generators release rows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{
    ArrayRef, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float32Array,
    Float64Array, Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray, RecordBatch, StringViewArray,
    Time64MicrosecondArray, TimestampMicrosecondArray, UInt32Array,
};
use arrow::datatypes::{DataType, IntervalMonthDayNano, SchemaRef};
use async_trait::async_trait;
use serde_json::json;

use super::options::{OptionDoc, Options, Side, nearest};
use super::registry::Connector;
use super::source::{Budget, ConnectorError, InferredColumn, Polled, Position, Source, SourceSpec};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions::text::{TextStyle, parse_interval, parse_timestamptz};
use crate::zset::PgType;

/// Releases numbered rows at a steady rate, counted from the moment it was made. The only clock of this room.
#[derive(Debug)]
pub struct Pace {
    /// Rows a second; `None`: as fast as they are asked for.
    rate: Option<f64>,
    started: Instant,
    first: u64,
}

impl Pace {
    /// Row `first` is due now. A rate of 0 means no limit.
    pub fn new(rate: f64, first: u64) -> Pace {
        Pace { rate: (rate > 0.0).then_some(rate), started: Instant::now(), first }
    }

    /// The number of the first row that is not due yet.
    pub fn due(&self) -> u64 {
        match self.rate {
            None => u64::MAX,
            Some(rate) => {
                let rows = (self.started.elapsed().as_secs_f64() * rate).floor() + 1.0;
                self.first.saturating_add(rows as u64)
            }
        }
    }

    /// How long until row `number` is due.
    pub fn until(&self, number: u64) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        let at = Duration::from_secs_f64((number.saturating_sub(self.first) as f64 / rate).min(1e9));
        at.saturating_sub(self.started.elapsed())
    }
}

/// Reads a position of the form `{"<name>": number}`.
pub fn counted(position: Option<&Position>, name: &str) -> SqlResult<Option<u64>> {
    let Some(position) = position else { return Ok(None) };
    match position.get(name).and_then(Position::as_u64) {
        Some(number) => Ok(Some(number)),
        None => Err(SqlError::internal(format!("{position} is no position of this source"))),
    }
}

/// The connector `datagen`.
pub struct Datagen;

const KIND: &str = "fields.<column>.kind";
const START: &str = "fields.<column>.start";
const END: &str = "fields.<column>.end";
const MIN: &str = "fields.<column>.min";
const MAX: &str = "fields.<column>.max";
const LENGTH: &str = "fields.<column>.length";
const SEED: &str = "fields.<column>.seed";
const NULLS: &str = "fields.<column>.null_ratio";
const PAST: &str = "fields.<column>.max_past";
const BASE: &str = "fields.<column>.basetime";
const RATE: &str = "datagen.rows.per.second";
const ROWS: &str = "datagen.rows";
const ALL_SEEDS: &str = "datagen.seed";
const SPLITS: &str = "datagen.split.num";

static OPTIONS: &[OptionDoc] = &[
    OptionDoc::new(RATE, "10", "rows released a second; 0 is as fast as the engine takes them")
        .alias(&["rows-per-second"])
        .source(),
    OptionDoc::new(ROWS, "", "the source ends after so many rows").alias(&["number-of-rows"]).source(),
    OptionDoc::new(ALL_SEEDS, "0", "added to the seed of every column").source(),
    OptionDoc::new(SPLITS, "1", "accepted and without effect: rows and their order never depend on it").source(),
    OptionDoc::new(KIND, "random", "`sequence` counts up; `random` draws values").source(),
    OptionDoc::new(START, "0", "first value of a sequence").source(),
    OptionDoc::new(END, "", "last value of a sequence; the source ends with it").source(),
    OptionDoc::new(MIN, "0", "least random value: a number, or a timestamp, date or time").source(),
    OptionDoc::new(MAX, "1000", "greatest random value").source(),
    OptionDoc::new(LENGTH, "10", "characters of a random text, bytes of a random bytea, items of an array").source(),
    OptionDoc::new(SEED, "0", "other seeds give other random values").source(),
    OptionDoc::new(NULLS, "0", "share of NULLs, from 0 to 1").alias(&["fields.<column>.null-rate"]).source(),
    OptionDoc::new(PAST, "1 day", "random timestamps lie at most so long before `basetime`")
        .alias(&["fields.<column>.max-past"])
        .source(),
    OptionDoc::new(BASE, "2024-01-01 00:00:00", "end of the range of random timestamps").source(),
];

impl Connector for Datagen {
    fn name(&self) -> &'static str {
        "datagen"
    }
    fn options(&self) -> &'static [OptionDoc] {
        OPTIONS
    }
    fn replayable(&self) -> bool {
        true
    }
    fn infer(&self, spec: &SourceSpec) -> SqlResult<Vec<InferredColumn>> {
        let message = format!("datagen cannot know the columns of \"{}\"", spec.name);
        Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message)
            .hint("write them out, for example (id BIGINT, name TEXT)"))
    }
    fn open_source(&self, spec: &SourceSpec) -> SqlResult<Box<dyn Source>> {
        Ok(Box::new(DatagenSource::open(spec)?))
    }
}

struct DatagenSource {
    schema: SchemaRef,
    columns: Vec<Column>,
    position: u64,
    end: u64,
    pace: Pace,
}

/// How one column is made.
#[derive(Debug, Clone)]
struct Column {
    data_type: DataType,
    rule: Rule,
    seed: u64,
    null_ratio: f64,
}

#[derive(Debug, Clone)]
enum Rule {
    Sequence {
        start: i64,
    },
    Bool,
    Int {
        min: i64,
        max: i64,
    },
    Float {
        min: f64,
        max: f64,
    },
    Decimal {
        min: i128,
        max: i128,
    },
    Text {
        length: usize,
    },
    Bytes {
        length: usize,
    },
    /// Microseconds, also of intervals; days for dates are made from them.
    Micros {
        min: i64,
        max: i64,
    },
    Uuid,
    Json,
    Array {
        item: Box<Column>,
        length: usize,
    },
}

impl DatagenSource {
    fn open(spec: &SourceSpec) -> SqlResult<DatagenSource> {
        let options = Options::read("datagen", OPTIONS, Side::Source, &spec.options)?;
        let names = || spec.schema.fields().iter().map(|field| field.name().as_str());
        for (column, spelling) in options.columns() {
            if !names().any(|name| name == column) {
                let message = format!("option \"{spelling}\" is for column \"{column}\", which does not exist");
                let error = SqlError::new(SqlState::UNDEFINED_COLUMN, message);
                let near = nearest(column, names()).map(|near| format!("did you mean column \"{near}\"?"));
                return Err(near.into_iter().fold(error, SqlError::hint));
            }
        }
        let all_seeds: u64 = options.number(ALL_SEEDS, "a whole number")?.unwrap_or(0);
        let rate = options.number::<f64>(RATE, "a number of rows")?.unwrap_or(10.0);
        let mut end = options.number::<u64>(ROWS, "a whole number")?.unwrap_or(u64::MAX);
        let mut columns = Vec::new();
        for (index, field) in spec.schema.fields().iter().enumerate() {
            let (rule, rows) = Rule::read(&options, field.name(), &PgType::of(field))?;
            end = end.min(rows);
            let seed: u64 = options.column_number(SEED, field.name(), "a whole number")?.unwrap_or(0);
            let null_ratio: f64 = options.column_number(NULLS, field.name(), "a number from 0 to 1")?.unwrap_or(0.0);
            if !(0.0..=1.0).contains(&null_ratio) || (null_ratio > 0.0 && !field.is_nullable()) {
                return Err(options.bad_value(NULLS, field.name(), "from 0 to 1, and 0 for a column that is NOT NULL"));
            }
            let seed = mix(mix(seed.wrapping_add(all_seeds)) ^ index as u64);
            columns.push(Column { data_type: field.data_type().clone(), rule, seed, null_ratio });
        }
        let position = counted(spec.from.as_ref(), "row")?.unwrap_or(0);
        let end = counted(spec.until.as_ref(), "row")?.map_or(end, |until| end.min(until));
        // What is replayed was released before and need not wait again.
        let rate = if spec.until.is_some() { 0.0 } else { rate };
        Ok(DatagenSource { schema: spec.schema.clone(), columns, position, end, pace: Pace::new(rate, position) })
    }
}

#[async_trait]
impl Source for DatagenSource {
    async fn poll(&mut self, budget: Budget) -> Result<Polled, ConnectorError> {
        let due = self.pace.due().min(self.end).saturating_sub(self.position);
        let count = usize::try_from(due).unwrap_or(usize::MAX).min(budget.rows);
        let arrays = self.columns.iter().map(|column| column.values(self.position, count)).collect();
        let rows = RecordBatch::try_new(self.schema.clone(), arrays)
            .map_err(|error| SqlError::internal(format!("datagen made a wrong column: {error}")))?;
        self.position += count as u64;
        let finished = self.position >= self.end;
        Ok(Polled {
            bytes: rows.get_array_memory_size() as u64,
            wait: (count == 0 && !finished).then(|| self.pace.until(self.position)),
            finished,
            rows,
            deletions: None,
            dead_letters: Vec::new(),
            position: json!({ "row": self.position }),
        })
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Sequence,
    Random,
}

impl Rule {
    /// The rule of a column, and how many rows it can make.
    fn read(options: &Options, column: &str, pg_type: &PgType) -> SqlResult<(Rule, u64)> {
        let kinds = [("sequence", Kind::Sequence), ("random", Kind::Random)];
        match options.column_choice(KIND, column, &kinds)?.unwrap_or(Kind::Random) {
            Kind::Sequence => Rule::sequence(options, column, pg_type),
            Kind::Random => Ok((Rule::random(options, column, pg_type)?, u64::MAX)),
        }
    }

    fn sequence(options: &Options, column: &str, pg_type: &PgType) -> SqlResult<(Rule, u64)> {
        let largest = match pg_type {
            PgType::Int2 => i64::from(i16::MAX),
            PgType::Int4 => i64::from(i32::MAX),
            PgType::Oid => i64::from(u32::MAX),
            PgType::Int8 | PgType::Float4 | PgType::Float8 | PgType::Text | PgType::Varchar(None) => i64::MAX,
            PgType::Numeric(declared) => {
                let (precision, scale) = declared.unwrap_or((38, crate::zset::NUMERIC_SCALE));
                let digits = (i32::from(precision) - i32::from(scale)).clamp(0, 18);
                10_i64.pow(digits.unsigned_abs()) - 1
            }
            _ => return Err(options.bad_value(KIND, column, "random, since its column does not hold whole numbers")),
        };
        let start = options.column_number(START, column, "a whole number")?.unwrap_or(0_i64);
        let end = options.column_number(END, column, "a whole number")?.unwrap_or(largest);
        if end < start || end > largest || start < -largest {
            let name = if options.column_text(END, column).is_some() { END } else { START };
            return Err(options.bad_value(name, column, &format!("within {start} and what a {pg_type} holds")));
        }
        Ok((Rule::Sequence { start }, (i128::from(end) - i128::from(start) + 1) as u64))
    }

    fn random(options: &Options, column: &str, pg_type: &PgType) -> SqlResult<Rule> {
        let length = options.column_number(LENGTH, column, "a whole number")?.unwrap_or(10_usize);
        if length > 1 << 20 {
            return Err(options.bad_value(LENGTH, column, "at most 1048576"));
        }
        let ints = |least: i64, most: i64| Rule::ints(options, column, least, most);
        match pg_type {
            PgType::Bool => Ok(Rule::Bool),
            PgType::Int2 => ints(i64::from(i16::MIN), i64::from(i16::MAX)),
            PgType::Int4 => ints(i64::from(i32::MIN), i64::from(i32::MAX)),
            PgType::Int8 => ints(i64::MIN, i64::MAX),
            PgType::Oid => ints(0, i64::from(u32::MAX)),
            PgType::Float4 | PgType::Float8 => {
                let (min, max) = range(options, column, "a number", 0.0_f64, 1000.0)?;
                Ok(Rule::Float { min, max })
            }
            PgType::Numeric(declared) => Rule::decimal(options, column, *declared),
            PgType::Text | PgType::Name => Ok(Rule::Text { length }),
            PgType::Varchar(limit) | PgType::Bpchar(limit) => {
                Ok(Rule::Text { length: limit.map_or(length, |limit| length.min(limit as usize)) })
            }
            PgType::Bytea => Ok(Rule::Bytes { length }),
            PgType::Uuid => Ok(Rule::Uuid),
            PgType::Json | PgType::Jsonb => Ok(Rule::Json),
            PgType::Date | PgType::Timestamp | PgType::Timestamptz => Rule::timestamps(options, column),
            PgType::Time => Ok(Rule::Micros { min: 0, max: 86_400_000_000 - 1 }),
            PgType::Interval => Ok(Rule::Micros { min: 0, max: 30 * 86_400_000_000 }),
            PgType::Array(item) => {
                let rule = Rule::random(options, column, item)?;
                let item = Column { data_type: item.arrow(), rule, seed: 0, null_ratio: 0.0 };
                Ok(Rule::Array { item: Box::new(item), length })
            }
        }
    }

    fn ints(options: &Options, column: &str, least: i64, most: i64) -> SqlResult<Rule> {
        let (min, max) = range(options, column, "a whole number", 0_i64, 1000)?;
        match least <= min && max <= most {
            true => Ok(Rule::Int { min, max }),
            false => {
                let name = if min < least { MIN } else { MAX };
                Err(options.bad_value(name, column, "a number that fits the column's type"))
            }
        }
    }

    fn decimal(options: &Options, column: &str, declared: Option<(u8, i8)>) -> SqlResult<Rule> {
        let (precision, scale) = declared.unwrap_or((38, crate::zset::NUMERIC_SCALE));
        if precision > 38 {
            return Err(options.bad_value(KIND, column, "for a numeric of at most 38 digits"));
        }
        let (min, max) = range(options, column, "a number", 0.0_f64, 1000.0)?;
        let limit = 10_f64.powi(i32::from(precision));
        let scaled = |value: f64| (value * 10_f64.powi(i32::from(scale))).clamp(1.0 - limit, limit - 1.0) as i128;
        Ok(Rule::Decimal { min: scaled(min), max: scaled(max) })
    }

    fn timestamps(options: &Options, column: &str) -> SqlResult<Rule> {
        let micros = |name, default: i64| match options.column_text(name, column) {
            None => Ok(default),
            Some(text) => parse_timestamptz(text, &TextStyle::default())
                .map_err(|_| options.bad_value(name, column, "a timestamp such as 2024-01-01 12:00:00")),
        };
        let base = micros(BASE, 1_704_067_200_000_000)?;
        let past = match options.column_text(PAST, column) {
            None => 86_400_000_000,
            Some(text) => parse_interval(text)
                .map(|span| {
                    (i64::from(span.months) * 30 + i64::from(span.days)) * 86_400_000_000 + span.nanoseconds / 1_000
                })
                .map_err(|_| options.bad_value(PAST, column, "an interval such as 2h 30min"))?,
        };
        let (min, max) = (micros(MIN, base.saturating_sub(past))?, micros(MAX, base)?);
        if min > max {
            return Err(options.bad_value(MIN, column, "not after the greatest value"));
        }
        Ok(Rule::Micros { min, max })
    }
}

fn range<N: std::str::FromStr + PartialOrd + Copy>(
    options: &Options,
    column: &str,
    expected: &str,
    min: N,
    max: N,
) -> SqlResult<(N, N)> {
    let given_min = options.column_number(MIN, column, expected)?;
    let given_max = options.column_number(MAX, column, expected)?;
    // One bound alone may lie beyond the default of the other.
    let low = given_min.unwrap_or_else(|| given_max.filter(|max| *max < min).unwrap_or(min));
    let high = given_max.unwrap_or_else(|| given_min.filter(|min| *min > max).unwrap_or(max));
    if low <= high { Ok((low, high)) } else { Err(options.bad_value(MIN, column, "not above the greatest value")) }
}

/// The finalizer of splitmix64: one random number for each argument.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A number from 0 to `span` (inclusive).
fn below(random: u64, span: u128) -> u128 {
    let wide = (u128::from(random) << 64) | u128::from(mix(random));
    if span == u128::MAX { wide } else { wide % (span + 1) }
}

fn between(random: u64, min: i64, max: i64) -> i64 {
    (i128::from(min) + below(random, (i128::from(max) - i128::from(min)) as u128) as i128) as i64
}

fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

fn letters(random: u64, length: usize) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut text = String::with_capacity(length);
    let mut bits = 0;
    for index in 0..length {
        if index % 12 == 0 {
            bits = mix(random ^ (index as u64 + 1));
        }
        text.push(LETTERS[(bits & 31) as usize] as char);
        bits >>= 5;
    }
    text
}

impl Column {
    fn random(&self, row: u64) -> u64 {
        mix(self.seed ^ row.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn is_null(&self, row: u64) -> bool {
        self.null_ratio > 0.0 && unit(mix(self.random(row) ^ 0x6e75_6c6c)) < self.null_ratio
    }

    /// The values of rows `from..from + count`: the same whenever they are asked for.
    fn values(&self, from: u64, count: usize) -> ArrayRef {
        let rows = || (from..from + count as u64).map(|row| (row, !self.is_null(row)));
        macro_rules! each {
            ($array:ty, $value:expr) => {{
                let value = $value;
                Arc::new(rows().map(|(row, there)| there.then(|| value(row))).collect::<$array>())
            }};
        }
        let whole = |row: u64| match self.rule {
            Rule::Sequence { start } => start.wrapping_add(row as i64),
            Rule::Int { min, max } | Rule::Micros { min, max } => between(self.random(row), min, max),
            _ => 0,
        };
        let float = |row: u64| match self.rule {
            Rule::Float { min, max } => (min + unit(self.random(row)) * (max - min)).clamp(min, max),
            _ => whole(row) as f64,
        };
        match &self.data_type {
            DataType::Boolean => each!(BooleanArray, |row| self.random(row) & 1 == 1),
            DataType::Int16 => each!(Int16Array, |row| whole(row) as i16),
            DataType::Int32 => each!(Int32Array, |row| whole(row) as i32),
            DataType::Int64 => each!(Int64Array, whole),
            DataType::UInt32 => each!(UInt32Array, |row| whole(row) as u32),
            DataType::Float32 => each!(Float32Array, |row| float(row) as f32),
            DataType::Float64 => each!(Float64Array, float),
            DataType::Date32 => each!(Date32Array, |row| whole(row).div_euclid(86_400_000_000) as i32),
            DataType::Time64(_) => each!(Time64MicrosecondArray, whole),
            DataType::Timestamp(_, zone) => {
                let values: TimestampMicrosecondArray = rows().map(|(row, there)| there.then(|| whole(row))).collect();
                Arc::new(values.with_timezone_opt(zone.clone()))
            }
            DataType::Interval(_) => each!(IntervalMonthDayNanoArray, |row| {
                let micros = whole(row);
                let (days, rest) = (micros.div_euclid(86_400_000_000), micros.rem_euclid(86_400_000_000));
                IntervalMonthDayNano::new(0, days as i32, rest * 1_000)
            }),
            DataType::Decimal128(precision, scale) => {
                let values: Decimal128Array =
                    rows().map(|(row, there)| there.then(|| self.decimal(row, *scale))).collect();
                Arc::new(values.with_precision_and_scale(*precision, *scale).expect("the column's own type"))
            }
            DataType::Utf8View => each!(StringViewArray, |row| self.text(row)),
            DataType::BinaryView => each!(BinaryViewArray, |row| self.bytes(row)),
            DataType::FixedSizeBinary(_) => {
                let values = rows().map(|(row, there)| there.then(|| uuid(self.random(row))));
                let values = FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, 16);
                Arc::new(values.expect("every uuid has 16 bytes"))
            }
            other => self.nested(other, from, count),
        }
    }

    fn nested(&self, data_type: &DataType, from: u64, count: usize) -> ArrayRef {
        let (DataType::List(field), Rule::Array { item, length }) = (data_type, &self.rule) else {
            return arrow::array::new_null_array(data_type, count);
        };
        let item = Column { seed: self.seed, ..(**item).clone() };
        let values = item.values(from * *length as u64, count * length);
        let offsets = arrow::buffer::OffsetBuffer::from_lengths(std::iter::repeat_n(*length, count));
        let nulls = (from..from + count as u64).map(|row| !self.is_null(row)).collect();
        Arc::new(arrow::array::ListArray::new(field.clone(), offsets, values, Some(nulls)))
    }

    fn decimal(&self, row: u64, scale: i8) -> i128 {
        match self.rule {
            Rule::Decimal { min, max } => min + below(self.random(row), (max - min) as u128) as i128,
            Rule::Sequence { start } => {
                (i128::from(start) + i128::from(row)) * 10_i128.pow(u32::from(scale.max(0).unsigned_abs()))
            }
            _ => 0,
        }
    }

    fn text(&self, row: u64) -> String {
        match self.rule {
            Rule::Sequence { start } => start.wrapping_add(row as i64).to_string(),
            Rule::Text { length } => letters(self.random(row), length),
            _ => format!("{{\"n\": {}, \"s\": \"{}\"}}", self.random(row) % 1000, letters(self.random(row), 6)),
        }
    }

    fn bytes(&self, row: u64) -> Vec<u8> {
        let length = if let Rule::Bytes { length } = self.rule { length } else { 0 };
        (0..length).map(|index| mix(self.random(row) ^ (index as u64 + 1)) as u8).collect()
    }
}

/// A random uuid (version 4) of RFC 9562.
fn uuid(random: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&random.to_be_bytes());
    bytes[8..].copy_from_slice(&mix(random).to_be_bytes());
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::datatypes::Schema;
    use expect_test::{Expect, expect};

    use super::super::paths::AllowedPaths;
    use super::*;
    use crate::zset::{Rows, pretty_rows};

    const EVERYTHING: Budget = Budget { rows: 1_000_000, bytes: 1 << 30 };

    fn spec(columns: &str, options: &[(&str, &str)]) -> SourceSpec {
        let field = |column: &str| {
            let (name, kind) = column.trim().split_once(' ').expect("name TYPE");
            PgType::parse(kind).expect("known").field(name, true)
        };
        let fields: Vec<_> = columns.split(';').map(field).collect();
        let options: BTreeMap<String, String> =
            options.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        SourceSpec {
            name: "s".to_string(),
            key: None,
            schema: Arc::new(Schema::new(fields)),
            options,
            allowed_paths: AllowedPaths::default(),
            from: None,
            until: None,
        }
    }

    fn refused(columns: &str, options: &[(&str, &str)]) -> String {
        let error = Datagen.open_source(&spec(columns, options)).err().expect("refused");
        format!("{error}; {}", error.hint.clone().unwrap_or_default())
    }

    async fn check(columns: &str, options: &[(&str, &str)], expected: Expect) {
        let mut spec = spec(columns, options);
        spec.options.insert(RATE.to_string(), "0".to_string());
        let polled = Datagen.open_source(&spec).expect("opens").poll(EVERYTHING).await.expect("makes rows");
        assert!(polled.finished);
        expected.assert_eq(&pretty_rows(&Rows::inserts(polled.rows)));
    }

    #[tokio::test]
    async fn a_sequence_ends_the_source() {
        check(
            "a int; b bigint; c text; d numeric(5,1)",
            &[
                ("fields.a.kind", "sequence"),
                ("fields.a.start", "3"),
                ("fields.a.end", "5"),
                ("fields.b.min", "10"),
                ("fields.b.max", "12"),
                ("fields.c.length", "4"),
                ("fields.d.kind", "sequence"),
                ("fields.d.end", "1000"),
            ],
            expect![[r#"
                +1 | 3 | 11 | dvhh | 0.0
                +1 | 4 | 12 | eyvv | 1.0
                +1 | 5 | 12 | shhu | 2.0"#]],
        )
        .await;
    }

    const WIDE: &str = "a int; b text; c double; d boolean; e timestamptz; f date; g uuid; h numeric(10,2); i interval; \
                        j jsonb; k bytea; l int[]; m time; n real; o smallint; p varchar(3); q timestamp";

    #[tokio::test]
    async fn rows_depend_on_seed_and_position_only() {
        let options = [(RATE, "0"), (ROWS, "1000"), ("fields.b.null_ratio", "0.3")];
        let spec = spec(WIDE, &options);
        let whole = Datagen.open_source(&spec).expect("opens").poll(EVERYTHING).await.expect("makes").rows;
        assert_eq!(whole.num_rows(), 1000);
        assert!((200..400).contains(&whole.column(1).null_count()), "{}", whole.column(1).null_count());
        let mut source = Datagen.open_source(&spec).expect("opens");
        let mut at = 0;
        for rows in [1, 7, 300] {
            let polled = source.poll(Budget { rows, bytes: 1 }).await.expect("makes");
            assert_eq!(polled.rows, whole.slice(at, rows));
            at += rows;
            let again = SourceSpec { from: Some(polled.position.clone()), ..spec.clone() };
            let next = Datagen.open_source(&again).expect("opens").poll(Budget { rows: 5, bytes: 1 }).await;
            assert_eq!(next.expect("makes").rows, whole.slice(at, 5));
        }
        let part = SourceSpec { from: Some(json!({"row": 10})), until: Some(json!({"row": 30})), ..spec.clone() };
        let part = Datagen.open_source(&part).expect("opens").poll(EVERYTHING).await.expect("makes");
        assert_eq!((part.rows, part.finished), (whole.slice(10, 20), true));
        let mut other = spec;
        other.options.insert(ALL_SEEDS.to_string(), "1".to_string());
        let other = Datagen.open_source(&other).expect("opens").poll(EVERYTHING).await.expect("makes").rows;
        assert_ne!(other.column(0), whole.column(0));
    }

    #[tokio::test]
    async fn the_pace_is_kept() {
        let spec = spec("a int", &[(RATE, "0.001")]);
        let mut source = Datagen.open_source(&spec).expect("opens");
        assert_eq!(source.poll(EVERYTHING).await.expect("polls").rows.num_rows(), 1, "the first row is due at once");
        let later = source.poll(EVERYTHING).await.expect("polls");
        assert!(later.is_empty() && !later.finished);
        assert!(later.wait.expect("it knows when") > Duration::from_secs(500));
    }

    #[test]
    fn mistakes_are_refused_with_what_is_wanted() {
        assert_eq!(
            refused("apple int", &[("fields.aple.kind", "random")]),
            "option \"fields.aple.kind\" is for column \"aple\", which does not exist; did you mean column \"apple\"?"
        );
        assert_eq!(
            refused("a int", &[("fields.a.kind", "squence")]),
            "option \"fields.a.kind\" is 'squence', but must be one of sequence, random; did you mean 'sequence'?"
        );
        assert_eq!(
            refused("a smallint", &[("fields.a.max", "40000")]),
            "option \"fields.a.max\" is '40000', but must be a number that fits the column's type; "
        );
        assert_eq!(
            refused("a int", &[("fields.a.min", "9"), ("fields.a.max", "1")]),
            "option \"fields.a.min\" is '9', but must be not above the greatest value; "
        );
        assert_eq!(
            refused("a int", &[("datagen.rows.per.secnd", "9")]),
            "connector \"datagen\" has no option \"datagen.rows.per.secnd\"; did you mean \"datagen.rows.per.second\"?"
        );
    }
}
