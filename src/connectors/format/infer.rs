//! Columns found by looking at data: the narrowest type that fits every value of a sample.

use std::fs::File;

use super::csv::{CsvStyle, header_names};
use super::json_scan::{Kind, Scanner, unescape};
use super::{Cells, CsvLines, OnError, Target};
use crate::connectors::source::InferredColumn;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions::text::{TextStyle, parse_date, parse_int, parse_timestamp};
use crate::zset::PgType;
use arrow::array::AsArray;
use arrow::datatypes::{DataType, Schema};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::sync::Arc;

/// What the values of a column have been so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guess {
    Nothing,
    Bool,
    Int,
    Float,
    Date,
    Timestamp,
    Timestamptz,
    Json,
    Text,
}

impl Guess {
    fn of_text(text: &str) -> Guess {
        let style = TextStyle::default();
        if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") {
            Guess::Bool
        } else if looks_like_number(text) {
            // Codes such as 00420 are no numbers: their zeros mean something.
            let digits = text.trim_start_matches('-');
            let is_code = digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
            match parse_int(text, "bigint", i64::MIN, i64::MAX) {
                _ if is_code => Guess::Text,
                Ok(_) => Guess::Int,
                Err(_) => text.parse::<f64>().map_or(Guess::Text, |_| Guess::Float),
            }
        } else if !looks_like_date(text) {
            Guess::Text
        } else if text.len() == 10 && parse_date(text, &style).is_ok() {
            Guess::Date
        } else if parse_timestamp(text, &style).is_ok() {
            let clock = &text[10..];
            if clock.ends_with(['Z', 'z']) || clock.contains(['+', '-']) {
                Guess::Timestamptz
            } else {
                Guess::Timestamp
            }
        } else {
            Guess::Text
        }
    }

    /// The type that holds what both hold.
    fn and(self, other: Guess) -> Guess {
        match (self, other) {
            (Guess::Nothing, one) | (one, Guess::Nothing) => one,
            (one, two) if one == two => one,
            (Guess::Int, Guess::Float) | (Guess::Float, Guess::Int) => Guess::Float,
            (Guess::Date, Guess::Timestamp) | (Guess::Timestamp, Guess::Date) => Guess::Timestamp,
            (Guess::Timestamp | Guess::Date, Guess::Timestamptz) => Guess::Timestamptz,
            (Guess::Timestamptz, Guess::Timestamp | Guess::Date) => Guess::Timestamptz,
            (Guess::Json, _) | (_, Guess::Json) => Guess::Json,
            _ => Guess::Text,
        }
    }

    fn pg_type(self) -> PgType {
        match self {
            Guess::Nothing | Guess::Text => PgType::Text,
            Guess::Bool => PgType::Bool,
            Guess::Int => PgType::Int8,
            Guess::Float => PgType::Float8,
            Guess::Date => PgType::Date,
            Guess::Timestamp => PgType::Timestamp,
            Guess::Timestamptz => PgType::Timestamptz,
            Guess::Json => PgType::Jsonb,
        }
    }
}

fn looks_like_number(text: &str) -> bool {
    let first = text.bytes().find(|byte| !matches!(byte, b'-' | b'+' | b'.'));
    first.is_some_and(|byte| byte.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E'))
        && text.parse::<f64>().is_ok()
}

/// `2024-01-31…`: other forms of dates are ambiguous.
fn looks_like_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| bytes[range].iter().all(u8::is_ascii_digit);
    bytes.len() >= 10
        && digits(0..4)
        && bytes[4] == b'-'
        && digits(5..7)
        && bytes[7] == b'-'
        && digits(8..10)
        && (bytes.len() == 10 || matches!(bytes[10], b'T' | b't' | b' '))
}

fn found(names: Vec<String>, guesses: &[Guess]) -> Vec<InferredColumn> {
    let column = |(name, guess): (String, &Guess)| InferredColumn { name, pg_type: guess.pg_type(), nullable: true };
    names.into_iter().zip(guesses).map(column).collect()
}

/// Columns of CSV from the beginning of a file. Without a header they are named `column1`, `column2`, ….
pub fn infer_csv(data: &str, is_end: bool, style: &CsvStyle, rows_max: usize) -> SqlResult<Vec<InferredColumn>> {
    let header = header_names(style, data, is_end)?;
    let Some((first, end)) = header.filter(|(names, _)| names.iter().any(|name| !name.is_empty())) else {
        return Err(nothing_to_infer());
    };
    let width = first.len();
    let names = if style.header { unique_names(first)? } else { (1..=width).map(|n| format!("column{n}")).collect() };
    // Every column is read as bytes, so that an empty field is told from a missing value only by the null texts.
    let fields: Vec<_> = names.iter().map(|name| PgType::Text.field(name, true)).collect();
    let target = Target::new(Arc::new(Schema::new(fields)), OnError::Skip);
    let body = &data[if style.header { end } else { 0 }..];
    let mut cells = Cells::new(body, width, 1);
    CsvLines::new(style.clone(), &target).split(&mut cells, is_end, rows_max);
    let (rows, _) = cells.into_rows(&target)?;
    let guess = |column: &arrow::array::ArrayRef| {
        let values = column.as_string_view().iter().flatten().filter(|value| !value.is_empty());
        values.fold(Guess::Nothing, |guess, value| guess.and(Guess::of_text(value)))
    };
    let guesses: Vec<Guess> = rows.columns().iter().map(guess).collect();
    Ok(found(names, &guesses))
}

fn unique_names(names: Vec<String>) -> SqlResult<Vec<String>> {
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) {
            let message = format!("the header of the CSV file has two columns \"{name}\"");
            return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, message).hint("write the column list out"));
        }
    }
    let name = |(index, name): (usize, String)| if name.is_empty() { format!("column{}", index + 1) } else { name };
    Ok(names.into_iter().enumerate().map(name).collect())
}

fn nothing_to_infer() -> SqlError {
    SqlError::new(SqlState::INVALID_TABLE_DEFINITION, "the columns cannot be found, since there is no data yet")
        .hint("write the column list out")
}

/// Columns of JSON lines, in the order in which their names first occur.
pub fn infer_json(data: &str, is_end: bool, rows_max: usize) -> SqlResult<Vec<InferredColumn>> {
    let mut names: Vec<String> = Vec::new();
    let mut guesses: Vec<Guess> = Vec::new();
    let whole = if is_end { data } else { &data[..data.rfind('\n').map_or(0, |end| end + 1)] };
    for line in whole.lines().filter(|line| !line.trim().is_empty()).take(rows_max) {
        // A malformed line tells nothing; it will be a dead letter.
        let scanned = Scanner::new(line).object(|name, value| {
            let mut plain = String::new();
            if unescape(&line[name.start + 1..name.end - 1], &mut plain).is_err() {
                return;
            }
            let index = names.iter().position(|known| *known == plain).unwrap_or_else(|| {
                names.push(plain);
                guesses.push(Guess::Nothing);
                names.len() - 1
            });
            let text = &line[value.start..value.end];
            let guess = match value.kind {
                Kind::Null => Guess::Nothing,
                Kind::Bool => Guess::Bool,
                Kind::Number if text.parse::<i64>().is_ok() => Guess::Int,
                Kind::Number => Guess::Float,
                Kind::Array | Kind::Object => Guess::Json,
                // What is quoted is text, unless it is plainly a time.
                Kind::String { .. } => match Guess::of_text(&text[1..text.len() - 1]) {
                    time @ (Guess::Date | Guess::Timestamp | Guess::Timestamptz) => time,
                    _ => Guess::Text,
                },
            };
            guesses[index] = guesses[index].and(guess);
        });
        drop(scanned);
    }
    if names.is_empty() { Err(nothing_to_infer()) } else { Ok(found(names, &guesses)) }
}

/// Columns of a Parquet file: as its schema says. Structures become jsonb.
pub fn infer_parquet(file: File, place: &str) -> SqlResult<Vec<InferredColumn>> {
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| super::parquet::unreadable(place, &error))?;
    let column = |field: &Arc<arrow::datatypes::Field>| InferredColumn {
        name: field.name().clone(),
        pg_type: parquet_type(field),
        nullable: true,
    };
    Ok(reader.schema().fields().iter().map(column).collect())
}

fn parquet_type(field: &arrow::datatypes::Field) -> PgType {
    match field.data_type() {
        DataType::Struct(_) | DataType::Map(..) | DataType::Union(..) => PgType::Jsonb,
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            match parquet_type(item) {
                PgType::Jsonb | PgType::Array(_) => PgType::Jsonb,
                item => PgType::Array(Box::new(item)),
            }
        }
        DataType::Dictionary(_, values) => PgType::of_arrow(values),
        _ => PgType::of(field),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(columns: SqlResult<Vec<InferredColumn>>, expected: Expect) {
        let text = match columns {
            Ok(columns) => columns
                .iter()
                .map(|column| format!("{} {}", column.name, column.pg_type))
                .collect::<Vec<_>>()
                .join(", "),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn the_narrowest_type_that_fits_all_values_is_taken() {
        let data = "i,f,b,d,t,z,s,code,none,mixed\n\
                    1,1,true,2013-01-01,2013-01-01 10:00:00,2013-01-01T10:00:00Z,x,007,,1\n\
                    NA,2.5,FALSE,2013-01-02,2013-01-01,2013-01-01T10:00:00+02:00,1,008,,z\n";
        let style = CsvStyle { nulls: vec!["NA".to_string()], ..CsvStyle::default() };
        check(
            infer_csv(data, true, &style, 100),
            expect![
                "i bigint, f double precision, b boolean, d date, t timestamp without time zone, z timestamp with time zone, s text, code text, none text, mixed text"
            ],
        );
        let style = CsvStyle { header: false, ..CsvStyle::default() };
        check(infer_csv("1,a\n2,b\n", true, &style, 100), expect!["column1 bigint, column2 text"]);
        check(
            infer_csv("", true, &CsvStyle::default(), 100),
            expect!["the columns cannot be found, since there is no data yet"],
        );
        check(
            infer_csv("a,a\n", true, &CsvStyle::default(), 100),
            expect![[r#"the header of the CSV file has two columns "a""#]],
        );
    }

    #[test]
    fn json_columns_keep_the_order_of_their_first_occurrence() {
        let data = "{\"a\":1,\"b\":\"x\",\"c\":{\"d\":1}}\nnot json\n{\"e\":\"2013-01-01T10:00:00Z\",\"a\":1.5,\"f\":null,\"g\":\"5\"}\n";
        check(
            infer_json(data, true, 100),
            expect!["a double precision, b text, c jsonb, e timestamp with time zone, f text, g text"],
        );
        check(infer_json("\n", true, 100), expect!["the columns cannot be found, since there is no data yet"]);
    }
}
