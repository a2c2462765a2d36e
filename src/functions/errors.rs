//! What DataFusion and Arrow say when something fails, in PostgreSQL's words and with its SQLSTATE.

use std::sync::LazyLock;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use regex::Regex;

use crate::error::{SqlError, SqlState};

/// The error of PostgreSQL that stands for an error of DataFusion.
///
/// Functions of our own pass their error through unharmed as `DataFusionError::External(Box::new(SqlError))`.
pub fn sql_error(error: &DataFusionError) -> SqlError {
    match error {
        DataFusionError::ArrowError(error, _) => arrow_sql_error(error),
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => sql_error(inner),
        DataFusionError::Shared(inner) => sql_error(inner),
        DataFusionError::Collection(errors) if !errors.is_empty() => sql_error(&errors[0]),
        DataFusionError::External(inner) => external(inner.as_ref()),
        DataFusionError::ParquetError(inner) => SqlError::new(SqlState::DATA_CORRUPTED, tidy(&inner.to_string())),
        DataFusionError::IoError(inner) => SqlError::new(SqlState::IO_ERROR, tidy(&inner.to_string())),
        DataFusionError::SQL(inner, _) => SqlError::new(SqlState::SYNTAX_ERROR, tidy(&inner.to_string())),
        DataFusionError::NotImplemented(message) => SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, tidy(message)),
        DataFusionError::ResourcesExhausted(_) => out_of_memory(),
        DataFusionError::Execution(message) => of_text(message),
        DataFusionError::Plan(message) => match recognise(message) {
            Some(known) => known,
            None => SqlError::new(SqlState::SYNTAX_ERROR, tidy(message)),
        },
        DataFusionError::SchemaError(inner, _) => SqlError::new(SqlState::UNDEFINED_COLUMN, tidy(&inner.to_string())),
        other => match recognise(&other.strip_backtrace()) {
            Some(known) => known,
            None => SqlError::internal(tidy(&other.strip_backtrace())),
        },
    }
}

/// The error of PostgreSQL that stands for an error of Arrow.
pub fn arrow_sql_error(error: &ArrowError) -> SqlError {
    match error {
        ArrowError::DivideByZero => division_by_zero(),
        ArrowError::ArithmeticOverflow(message) => overflow(message),
        ArrowError::ExternalError(inner) => external(inner.as_ref()),
        ArrowError::NotYetImplemented(message) => SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, tidy(message)),
        ArrowError::MemoryError(_) => out_of_memory(),
        ArrowError::CastError(message)
        | ArrowError::ParseError(message)
        | ArrowError::ComputeError(message)
        | ArrowError::InvalidArgumentError(message) => of_text(message),
        other => SqlError::internal(tidy(&other.to_string())),
    }
}

fn external(inner: &(dyn std::error::Error + Send + Sync + 'static)) -> SqlError {
    if let Some(error) = inner.downcast_ref::<SqlError>() {
        error.clone()
    } else if let Some(error) = inner.downcast_ref::<DataFusionError>() {
        sql_error(error)
    } else if let Some(error) = inner.downcast_ref::<ArrowError>() {
        arrow_sql_error(error)
    } else {
        of_text(&inner.to_string())
    }
}

fn out_of_memory() -> SqlError {
    SqlError::new(SqlState::OUT_OF_MEMORY, "out of memory")
        .hint("The statement needs more than is left of memory_limit: read fewer rows at a time, or set a larger one.")
}

fn division_by_zero() -> SqlError {
    SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero")
}

fn out_of_range(kind: &str) -> SqlError {
    SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, format!("{kind} out of range"))
}

fn bad_syntax(code: SqlState, kind: &str, text: &str) -> SqlError {
    SqlError::new(code, format!("invalid input syntax for type {kind}: \"{text}\""))
}

/// A run-time error that is only known by its text.
fn of_text(message: &str) -> SqlError {
    recognise(message).unwrap_or_else(|| SqlError::new(SqlState::INVALID_PARAMETER_VALUE, tidy(message)))
}

fn recognise(message: &str) -> Option<SqlError> {
    let lower = message.to_ascii_lowercase();
    if lower.contains("divide by zero") || lower.contains("division by zero") {
        return Some(division_by_zero());
    }
    if lower.contains("regex parse error") || lower.contains("regular expression did not compile") {
        return Some(bad_pattern(message));
    }
    if let Some(limit) = ["LIMIT", "OFFSET"].into_iter().find(|word| message.contains(&format!("{word} must be >="))) {
        let code = if limit == "LIMIT" { *b"2201W" } else { *b"2201X" };
        return Some(
            SqlError::new(SqlState(code), format!("{limit} must not be negative")).hint("Leave it out for all rows."),
        );
    }
    if lower.contains("percentile value must be between") {
        let value = lower.split("inclusive, ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or("?");
        let message = format!("percentile value {value} is not between 0 and 1");
        return Some(SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, message).hint("The median is 0.5."));
    }
    if lower.contains("was not provided a value for execution") {
        let name = message.split('\'').nth(1).unwrap_or("$1");
        return Some(
            SqlError::new(SqlState::UNDEFINED_PARAMETER, format!("there is no parameter {name}"))
                .hint("Write the value itself; parameters belong to prepared statements."),
        );
    }
    if lower.contains("negative count not allowed") {
        return Some(SqlError::new(SqlState(*b"22011"), "negative substring length not allowed"));
    }
    bad_text(message).or_else(|| bad_number(message, &lower)).or_else(|| bad_time(message, &lower)).or_else(|| {
        let code = match lower.as_str() {
            text if text.contains("square root of a negative") => SqlState::INVALID_ARGUMENT_FOR_POWER,
            text if text.contains("logarithm") => SqlState::INVALID_ARGUMENT_FOR_LOG,
            text if text.contains("more than one row") || text.contains("returned more than") => {
                return Some(SqlError::new(
                    SqlState::CARDINALITY_VIOLATION,
                    "more than one row returned by a subquery used as an expression",
                ));
            }
            _ => return None,
        };
        Some(SqlError::new(code, tidy(message)))
    })
}

/// A pattern that is no regular expression, by what the machine says of it.
pub fn bad_pattern(message: &str) -> SqlError {
    let reason = match message.rsplit("error: ").next().unwrap_or_default().lines().next().unwrap_or_default().trim() {
        text if text.contains("group") => "parentheses () not balanced",
        text if text.contains("unclosed character class") => "brackets [] not balanced",
        text if text.contains("repetition operator missing") => "quantifier operand invalid",
        text if text.contains("look-around") => "lookaround is not supported",
        text if text.contains("backreference") => "back references are not supported",
        text => text,
    };
    SqlError::new(SqlState(*b"2201B"), format!("invalid regular expression: {reason}"))
        .hint("A backslash before ( ) [ ] * + ? . makes them plain characters.")
}

/// Text that is not a value of the type it was cast to.
fn bad_text(message: &str) -> Option<SqlError> {
    let string_cast = between(message, "Cannot cast string '", "' to value of ", " type");
    if let Some((text, kind)) =
        string_cast.or_else(|| between(message, "Cannot cast value '", "' to value of ", " type"))
    {
        return Some(failed_cast(text, kind));
    }
    if let Some((text, context)) = between(message, "Error parsing timestamp from '", "': ", "") {
        return Some(bad_datetime("timestamp", text, context));
    }
    if let Some((text, _)) = between(message, "Failed to parse '", "' as ", "") {
        return Some(bad_datetime("time", text, message));
    }
    if let Some(rest) = after(message, "Invalid input syntax for type interval: \"") {
        return Some(bad_syntax(SqlState::INVALID_DATETIME_FORMAT, "interval", rest.split('"').next().unwrap_or(rest)));
    }
    if let Some(rest) = after(message, "Failed to parse ") {
        let text = rest.split(" as interval").next().unwrap_or(rest);
        return Some(bad_syntax(SqlState::INVALID_DATETIME_FORMAT, "interval", text));
    }
    for start in ["Invalid decimal format: ", "Cannot parse decimal format: "] {
        if let Some(text) = after(message, start) {
            return Some(bad_syntax(SqlState::INVALID_TEXT, "numeric", text.trim_matches('"')));
        }
    }
    if let Some((text, _)) = between(message, "can't parse the string value ", " to decimal", "") {
        return Some(bad_syntax(SqlState::INVALID_TEXT, "numeric", text));
    }
    if let Some((text, _)) = between(message, "Cannot convert ", " to ", "").filter(|_| message.contains("Decimal")) {
        return Some(match message.contains("Overflow") {
            true => numeric_overflow(),
            false => bad_syntax(SqlState::INVALID_TEXT, "numeric", text),
        });
    }
    None
}

fn failed_cast(text: &str, kind: &str) -> SqlError {
    let kind = postgres_name(kind);
    match kind {
        "date" | "timestamp" | "time" => bad_datetime(kind, text, ""),
        "interval" => bad_syntax(SqlState::INVALID_DATETIME_FORMAT, kind, text),
        "smallint" | "integer" | "bigint" if is_whole_number(text) => SqlError::new(
            SqlState::NUMERIC_OUT_OF_RANGE,
            format!("value \"{}\" is out of range for type {kind}", text.trim()),
        ),
        _ => bad_syntax(SqlState::INVALID_TEXT, kind, text),
    }
}

/// Text of the right shape whose fields are impossible (`2024-13-45`) is another error than text of the wrong shape.
fn bad_datetime(kind: &str, text: &str, context: &str) -> SqlError {
    let mut parts = text.split(['-', ' ', 'T', '/']).take(3);
    let dated = kind != "time" && parts.clone().count() == 3 && parts.all(is_whole_number);
    if dated || context.contains("out of range") {
        SqlError::new(SqlState::DATETIME_OVERFLOW, format!("date/time field value out of range: \"{text}\""))
    } else {
        bad_syntax(SqlState::INVALID_DATETIME_FORMAT, kind, text)
    }
}

fn bad_number(message: &str, lower: &str) -> Option<SqlError> {
    if let Some((_, kind)) = between(message, "Can't cast value ", " to type ", "") {
        return Some(out_of_range(postgres_name(kind)));
    }
    let decimal = message.contains("Decimal") || lower.contains("decimal");
    let too_wide =
        ["Cannot cast to Decimal", "too large to store in", "too small to store in", "is out of range Decimal"];
    if too_wide.iter().any(|start| message.contains(start)) || (decimal && lower.contains("overflow")) {
        return Some(numeric_overflow());
    }
    if let Some((_, kind)) = between(message, "value of ", " is out of range ", "") {
        return Some(out_of_range(postgres_name(kind)));
    }
    (lower.contains("overflow happened on") || lower.contains("arithmetic overflow")).then(|| overflow(message))
}

fn bad_time(message: &str, lower: &str) -> Option<SqlError> {
    if lower.contains("timestamp out of range") || lower.contains("date arithmetic overflow") {
        return Some(SqlError::new(SqlState::DATETIME_OVERFLOW, "timestamp out of range"));
    }
    if lower.contains("overflow converting") || lower.contains("to datetime") {
        return Some(SqlError::new(SqlState::DATETIME_OVERFLOW, "timestamp out of range"));
    }
    if lower.contains("unable to represent") || lower.contains("exceeds the precision available for interval") {
        return Some(SqlError::new(SqlState::DATETIME_OVERFLOW, "interval out of range"));
    }
    let unparsable = lower.starts_with("unable to parse") || lower.starts_with("error parsing");
    let field = lower.contains("value '") && lower.contains("is out of range");
    if unparsable || field {
        return Some(SqlError::new(SqlState::DATETIME_OVERFLOW, tidy(message)));
    }
    None
}

fn numeric_overflow() -> SqlError {
    SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "numeric field overflow")
}

/// Arrow names the operands and not their type. The type follows: it is the widest that the result does not fit.
fn overflow(message: &str) -> SqlError {
    if message.contains("Decimal") || message.contains("decimal") {
        return numeric_overflow();
    }
    match overflowed_result(message) {
        Some(result) if i32::try_from(result).is_ok() => out_of_range("smallint"),
        Some(result) if i64::try_from(result).is_ok() => out_of_range("integer"),
        Some(_) => out_of_range("bigint"),
        None => numeric_overflow(),
    }
}

/// The value that `Overflow happened on: 2147483647 + 1` speaks of; `None` when it is too wide for an integer type.
fn overflowed_result(message: &str) -> Option<i128> {
    let expression = after(message, "Overflow happened on: ")?;
    let words: Vec<&str> = expression.split_whitespace().collect();
    let integer = |word: &str| word.parse::<i64>().ok().map(i128::from);
    match words.as_slice() {
        ["-", value] => Some(-integer(value)?),
        [left, operator, right] => {
            let (left, right) = (integer(left)?, integer(right)?);
            match *operator {
                "+" => Some(left + right),
                "-" => Some(left - right),
                "*" => Some(left * right),
                "/" => left.checked_div(right),
                "%" => Some(left),
                "^" => left.checked_pow(u32::try_from(right).ok()?),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The SQL name of an Arrow type as Arrow prints it.
fn postgres_name(arrow: &str) -> &'static str {
    match arrow.trim() {
        "Boolean" => "boolean",
        "Int8" | "Int16" | "UInt8" => "smallint",
        "Int32" | "UInt16" => "integer",
        "Int64" => "bigint",
        "UInt32" => "oid",
        "Float16" | "Float32" => "real",
        "Float64" => "double precision",
        "Date32" | "Date64" => "date",
        name if name.starts_with("Timestamp") => "timestamp",
        name if name.starts_with("Time") => "time",
        name if name.starts_with("Interval") => "interval",
        name if name.starts_with("Decimal") || name == "UInt64" => "numeric",
        _ => "text",
    }
}

fn is_whole_number(text: &str) -> bool {
    let text = text.trim();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn after<'a>(message: &'a str, start: &str) -> Option<&'a str> {
    message.find(start).map(|at| &message[at + start.len()..])
}

/// The two texts around `middle`; the second ends at `end` if there is one.
fn between<'a>(message: &'a str, start: &str, middle: &str, end: &str) -> Option<(&'a str, &'a str)> {
    let rest = after(message, start)?;
    let at = if end.is_empty() { rest.find(middle)? } else { rest.rfind(middle)? };
    let second = &rest[at + middle.len()..];
    let stop = if end.is_empty() { second.len() } else { second.find(end)? };
    Some((&rest[..at], &second[..stop]))
}

/// One sentence in PostgreSQL's style: first line, lower case start, no full stop.
/// Arrow's type names in a text, as PostgreSQL names the types.
pub fn friendly_types(text: &str) -> String {
    static PATTERN: LazyLock<Regex> = LazyLock::new(|| {
        let names = r"\b(?:Timestamp|Time64|Time32|Duration|Interval|Decimal32|Decimal64|Decimal128|Decimal256|FixedSizeBinary)\([^()]*(?:\([^()]*\))?[^()]*\)";
        let plain = r"\b(?:UInt8|UInt16|UInt32|UInt64|Int8|Int16|Int32|Int64|Float16|Float32|Float64|Utf8View|LargeUtf8|Utf8|Boolean|Date32|Date64|BinaryView|LargeBinary|Binary|Null)\b";
        Regex::new(&format!("{names}|{plain}")).expect("a fixed pattern")
    });
    static NESTED: LazyLock<[(Regex, &str); 2]> = LazyLock::new(|| {
        let list = r"\b(?:Large|FixedSize)?List\((?:non-null |nullable )?([a-z ]+)[^()]*\)";
        let record = r"\bStruct\([^()]*\)";
        [(list, "$1[]"), (record, "record")].map(|(text, by)| (Regex::new(text).expect("a fixed pattern"), by))
    });
    let plain = PATTERN.replace_all(text, |found: &regex::Captures<'_>| friendly_type(&found[0])).into_owned();
    NESTED.iter().fold(plain, |text, (pattern, by)| pattern.replace_all(&text, *by).into_owned())
}

fn friendly_type(name: &str) -> &'static str {
    let zoned = name.contains("Some(");
    match name.split('(').next().unwrap_or(name) {
        "Int8" | "UInt8" | "Int16" => "smallint",
        "UInt16" | "Int32" => "integer",
        "UInt32" => "oid",
        "Int64" => "bigint",
        "UInt64" | "Decimal32" | "Decimal64" | "Decimal128" | "Decimal256" => "numeric",
        "Float16" | "Float32" => "real",
        "Float64" => "double precision",
        "Boolean" => "boolean",
        "Date32" | "Date64" => "date",
        "Time32" | "Time64" => "time",
        "Timestamp" if zoned => "timestamp with time zone",
        "Timestamp" => "timestamp without time zone",
        "Interval" | "Duration" => "interval",
        "FixedSizeBinary" => "uuid",
        "Binary" | "LargeBinary" | "BinaryView" => "bytea",
        "Null" => "unknown",
        _ => "text",
    }
}

fn tidy(message: &str) -> String {
    let line = friendly_types(message.lines().next().unwrap_or_default().trim());
    let line = line.strip_prefix("Execution error: ").unwrap_or(&line);
    let line = line.split("This issue was likely caused by a bug in DataFusion").next().unwrap_or(line).trim();
    let line = line.trim_end_matches('.');
    let mut letters = line.chars();
    match (letters.next(), line.chars().nth(1)) {
        (Some(first), second) if first.is_uppercase() && second.is_none_or(|second| !second.is_uppercase()) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => line.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Decimal128Array, Int32Array, Int64Array, StringArray};
    use arrow::compute::kernels::numeric;
    use arrow::compute::{CastOptions, cast_with_options};
    use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};

    use super::*;

    fn check_cast(value: ArrayRef, to: &DataType, expected: &str) {
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let error = arrow_sql_error(&cast_with_options(&value, to, &strict).expect_err("the cast fails"));
        assert_eq!(format!("{} {}", error.code.as_str(), error.message), expected);
    }

    fn check_text(text: &str, to: &DataType, expected: &str) {
        check_cast(Arc::new(StringArray::from(vec![text])), to, expected);
    }

    fn check_overflow(error: Result<ArrayRef, ArrowError>, expected: &str) {
        let error = arrow_sql_error(&error.expect_err("the sum overflows"));
        assert_eq!(format!("{} {}", error.code.as_str(), error.message), expected);
    }

    #[test]
    fn casts_of_bad_text_speak_like_postgres() {
        check_text("x", &DataType::Int32, "22P02 invalid input syntax for type integer: \"x\"");
        check_text("1.5", &DataType::Int64, "22P02 invalid input syntax for type bigint: \"1.5\"");
        check_text("9999999999", &DataType::Int32, "22003 value \"9999999999\" is out of range for type integer");
        check_text("x", &DataType::Float64, "22P02 invalid input syntax for type double precision: \"x\"");
        check_text("maybe", &DataType::Boolean, "22P02 invalid input syntax for type boolean: \"maybe\"");
        check_text("1x", &DataType::Decimal128(10, 2), "22P02 invalid input syntax for type numeric: \"1x\"");
        check_text("then", &DataType::Date32, "22007 invalid input syntax for type date: \"then\"");
        let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
        check_text("then", &timestamp, "22007 invalid input syntax for type timestamp: \"then\"");
        check_text("2024-13-45", &timestamp, "22008 date/time field value out of range: \"2024-13-45\"");
        let interval = DataType::Interval(IntervalUnit::MonthDayNano);
        check_text("long", &interval, "22007 invalid input syntax for type interval: \"long\"");
    }

    #[test]
    fn casts_of_wide_numbers_name_the_narrow_type() {
        check_cast(Arc::new(Int64Array::from(vec![1 << 40])), &DataType::Int32, "22003 integer out of range");
        check_cast(Arc::new(Int32Array::from(vec![1 << 20])), &DataType::Int16, "22003 smallint out of range");
        let wide = Decimal128Array::from(vec![123_456]).with_precision_and_scale(38, 0).expect("a valid decimal");
        check_cast(Arc::new(wide), &DataType::Decimal128(4, 0), "22003 numeric field overflow");
    }

    #[test]
    fn overflow_names_the_type_of_the_operands() {
        let int = |value| Int32Array::from(vec![value]);
        let long = |value| Int64Array::from(vec![value]);
        check_overflow(numeric::add(&int(i32::MAX), &int(1)), "22003 integer out of range");
        check_overflow(numeric::mul(&int(i32::MAX), &int(i32::MAX)), "22003 integer out of range");
        check_overflow(numeric::neg(&int(i32::MIN)), "22003 integer out of range");
        check_overflow(numeric::sub(&long(i64::MIN), &long(1)), "22003 bigint out of range");
        check_overflow(numeric::div(&long(1), &long(0)), "22012 division by zero");
    }

    #[test]
    fn errors_of_own_functions_pass_through_unharmed() {
        let own = SqlError::new(SqlState::DISK_FULL, "full").hint("delete something");
        let wrapped = DataFusionError::External(Box::new(own.clone())).context("while reading");
        assert_eq!(sql_error(&wrapped), own);
    }

    #[test]
    fn unknown_errors_read_like_one_sentence() {
        let error = sql_error(&DataFusionError::Execution("Something odd.\nbacktrace".to_string()));
        assert_eq!(error.message, "something odd");
    }
}
