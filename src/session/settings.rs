//! The parameters of a session: SET, SHOW, RESET, with PostgreSQL's names, values and refusals.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use crate::catalog::nearest;
use crate::error::{SqlError, SqlResult, SqlState};

/// What `server_version` says; clients choose their catalog queries by it.
pub const SERVER_VERSION: &str = "15.0";
const SERVER_VERSION_NUM: &str = "150000";

/// What values a parameter takes.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Bool,
    /// Least and greatest value, and the unit that a bare number has.
    Int(i64, i64, Unit),
    Real,
    /// One of these words; empty means that other words are accepted too.
    Enum(&'static [&'static str]),
    Text,
    TimeZone,
    DateStyle,
    Encoding,
    SearchPath,
    /// Set by the server alone.
    Fixed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    None,
    Milliseconds,
    Kilobytes,
}

/// One known parameter.
#[derive(Debug)]
pub struct Parameter {
    /// As PostgreSQL writes it: `TimeZone`.
    pub name: &'static str,
    kind: Kind,
    default: &'static str,
    /// Whether clients are told of every change (ParameterStatus).
    pub reported: bool,
    pub description: &'static str,
}

const fn parameter(name: &'static str, kind: Kind, default: &'static str, description: &'static str) -> Parameter {
    Parameter { name, kind, default, reported: false, description }
}

const fn reported(name: &'static str, kind: Kind, default: &'static str, description: &'static str) -> Parameter {
    Parameter { name, kind, default, reported: true, description }
}

const ISOLATION: Kind = Kind::Enum(&["serializable", "repeatable read", "read committed", "read uncommitted"]);
const MILLISECONDS: Kind = Kind::Int(0, i32::MAX as i64, Unit::Milliseconds);
const LEVELS: Kind = Kind::Enum(&[
    "debug5", "debug4", "debug3", "debug2", "debug1", "debug", "log", "info", "notice", "warning", "error", "fatal",
    "panic",
]);

/// All parameters, in alphabetical order without regard to case. Those that Headwater has no use for are kept and
/// shown, because clients set them and ask for them.
static PARAMETERS: &[Parameter] = &[
    reported("application_name", Kind::Text, "", "Sets the application name to be reported in statistics and logs."),
    parameter("array_nulls", Kind::Bool, "on", "Enable input of NULL elements in arrays."),
    parameter("backslash_quote", Kind::Enum(&["safe_encoding", "on", "off"]), "safe_encoding", "Accepted."),
    parameter("block_size", Kind::Fixed, "8192", "Shows the size of a disk block."),
    parameter("bytea_output", Kind::Enum(&["hex", "escape"]), "hex", "Sets the output format for bytea."),
    parameter("check_function_bodies", Kind::Bool, "on", "Accepted."),
    reported("client_encoding", Kind::Encoding, "UTF8", "Sets the client's character set encoding."),
    parameter("client_min_messages", LEVELS, "notice", "Sets the message levels that are sent to the client."),
    parameter("cursor_tuple_fraction", Kind::Real, "0.1", "Accepted."),
    reported("DateStyle", Kind::DateStyle, "ISO, MDY", "Sets the display format for date and time values."),
    parameter("default_statistics_target", Kind::Int(1, 10_000, Unit::None), "100", "Accepted."),
    parameter("default_table_access_method", Kind::Text, "heap", "Accepted."),
    parameter("default_tablespace", Kind::Text, "", "Accepted."),
    parameter("default_text_search_config", Kind::Text, "pg_catalog.simple", "Accepted."),
    parameter("default_toast_compression", Kind::Text, "pglz", "Accepted."),
    parameter("default_transaction_deferrable", Kind::Bool, "off", "Accepted."),
    parameter("default_transaction_isolation", ISOLATION, "repeatable read", "Accepted; reads are of one snapshot."),
    reported("default_transaction_read_only", Kind::Bool, "off", "Sets whether new transactions are read-only."),
    parameter("effective_cache_size", Kind::Int(1, i32::MAX as i64, Unit::Kilobytes), "4GB", "Accepted."),
    parameter("enable_bitmapscan", Kind::Bool, "on", "Accepted."),
    parameter("enable_hashagg", Kind::Bool, "on", "Accepted."),
    parameter("enable_hashjoin", Kind::Bool, "on", "Accepted."),
    parameter("enable_indexonlyscan", Kind::Bool, "on", "Accepted."),
    parameter("enable_indexscan", Kind::Bool, "on", "Accepted."),
    parameter("enable_material", Kind::Bool, "on", "Accepted."),
    parameter("enable_mergejoin", Kind::Bool, "on", "Accepted."),
    parameter("enable_nestloop", Kind::Bool, "on", "Accepted."),
    parameter("enable_parallel_append", Kind::Bool, "on", "Accepted."),
    parameter("enable_seqscan", Kind::Bool, "on", "Accepted."),
    parameter("enable_sort", Kind::Bool, "on", "Accepted."),
    parameter("enable_tidscan", Kind::Bool, "on", "Accepted."),
    parameter("escape_string_warning", Kind::Bool, "on", "Accepted."),
    parameter("event_source", Kind::Fixed, "Headwater", "Accepted."),
    parameter("extra_float_digits", Kind::Int(-15, 3, Unit::None), "1", "Sets the number of digits of floats."),
    parameter("force_parallel_mode", Kind::Enum(&["off", "on", "regress"]), "off", "Accepted."),
    parameter("from_collapse_limit", Kind::Int(1, i32::MAX as i64, Unit::None), "8", "Accepted."),
    parameter("geqo", Kind::Bool, "on", "Accepted."),
    parameter("idle_in_transaction_session_timeout", MILLISECONDS, "0", "Accepted."),
    parameter("idle_session_timeout", MILLISECONDS, "0", "Accepted."),
    reported("in_hot_standby", Kind::Fixed, "off", "Shows whether hot standby is active."),
    reported("integer_datetimes", Kind::Fixed, "on", "Shows whether datetimes are integers."),
    reported("IntervalStyle", Kind::Enum(&["postgres"]), "postgres", "Sets the display format for interval values."),
    reported("is_superuser", Kind::Fixed, "on", "Shows whether the current user is a superuser."),
    parameter("jit", Kind::Bool, "off", "Accepted."),
    parameter("join_collapse_limit", Kind::Int(1, i32::MAX as i64, Unit::None), "8", "Accepted."),
    parameter("lc_collate", Kind::Fixed, "C", "Shows the collation order."),
    parameter("lc_ctype", Kind::Fixed, "C", "Shows the character classification."),
    parameter("lc_messages", Kind::Text, "C", "Accepted."),
    parameter("lc_monetary", Kind::Text, "C", "Accepted."),
    parameter("lc_numeric", Kind::Text, "C", "Accepted."),
    parameter("lc_time", Kind::Text, "C", "Accepted."),
    parameter("lock_timeout", MILLISECONDS, "0", "Accepted."),
    parameter("log_min_messages", LEVELS, "warning", "Accepted."),
    parameter("log_statement", Kind::Enum(&["none", "ddl", "mod", "all"]), "none", "Accepted."),
    parameter("maintenance_work_mem", Kind::Int(1, i32::MAX as i64, Unit::Kilobytes), "64MB", "Accepted."),
    parameter("max_connections", Kind::Fixed, "1000", "Sets the maximum number of connections."),
    parameter("max_identifier_length", Kind::Fixed, "63", "Shows the maximum identifier length."),
    parameter("max_index_keys", Kind::Fixed, "32", "Shows the maximum number of index keys."),
    parameter("max_parallel_workers_per_gather", Kind::Int(0, 1024, Unit::None), "2", "Accepted."),
    parameter("password_encryption", Kind::Enum(&["scram-sha-256", "md5"]), "scram-sha-256", "Accepted."),
    parameter("plan_cache_mode", Kind::Enum(&["auto", "force_generic_plan", "force_custom_plan"]), "auto", "Accepted."),
    parameter("quote_all_identifiers", Kind::Bool, "off", "Accepted."),
    parameter("random_page_cost", Kind::Real, "4", "Accepted."),
    parameter("role", Kind::Text, "none", "Accepted."),
    parameter("row_security", Kind::Bool, "on", "Accepted."),
    parameter("search_path", Kind::SearchPath, "\"$user\", public", "Sets the schemas in which names are looked up."),
    parameter("seq_page_cost", Kind::Real, "1", "Accepted."),
    reported("server_encoding", Kind::Fixed, "UTF8", "Shows the server's character set encoding."),
    reported("server_version", Kind::Fixed, SERVER_VERSION, "Shows the server version."),
    parameter("server_version_num", Kind::Fixed, SERVER_VERSION_NUM, "Shows the server version as an integer."),
    reported("session_authorization", Kind::Text, "headwater", "Sets the session user name."),
    parameter("session_replication_role", Kind::Enum(&["origin", "replica", "local"]), "origin", "Accepted."),
    reported("standard_conforming_strings", Kind::Bool, "on", "Causes '...' strings to treat backslashes literally."),
    parameter("statement_timeout", MILLISECONDS, "0", "Sets the maximum duration of a statement."),
    parameter("synchronize_seqscans", Kind::Bool, "on", "Accepted."),
    parameter(
        "synchronous_commit",
        Kind::Enum(&["on", "off", "local", "remote_write", "remote_apply"]),
        "on",
        "Sets whether a write is acknowledged only when it is on disk.",
    ),
    parameter("temp_buffers", Kind::Int(1, i32::MAX as i64, Unit::Kilobytes), "8MB", "Accepted."),
    reported("TimeZone", Kind::TimeZone, "UTC", "Sets the time zone for displaying and interpreting time stamps."),
    parameter("transaction_deferrable", Kind::Bool, "off", "Accepted."),
    parameter("transaction_isolation", ISOLATION, "repeatable read", "Shows the transaction's isolation level."),
    parameter("transaction_read_only", Kind::Bool, "off", "Sets whether the transaction is read-only."),
    parameter("transform_null_equals", Kind::Bool, "off", "Accepted."),
    parameter("vacuum_cost_delay", Kind::Real, "0", "Accepted."),
    parameter("work_mem", Kind::Int(64, i32::MAX as i64, Unit::Kilobytes), "4MB", "Accepted."),
    parameter("xmlbinary", Kind::Enum(&["base64", "hex"]), "base64", "Accepted."),
    parameter("xmloption", Kind::Enum(&["content", "document"]), "content", "Accepted."),
];

fn find(name: &str) -> Option<&'static Parameter> {
    fn lower(name: &str) -> impl Iterator<Item = u8> {
        name.bytes().map(|byte| byte.to_ascii_lowercase())
    }
    let found = PARAMETERS.binary_search_by(|parameter| lower(parameter.name).cmp(lower(name)));
    found.ok().map(|index| &PARAMETERS[index])
}

/// A parameter with the value that it has now.
#[derive(Debug, Clone)]
pub struct Shown {
    pub name: String,
    pub value: String,
    pub default: String,
    pub description: &'static str,
    pub kind: &'static str,
}

/// The values of one session.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// What RESET goes back to where it is not the built-in default: what the client asked for at its start.
    start: BTreeMap<String, String>,
    /// Values that differ from the start's, by lower-case name.
    values: BTreeMap<String, String>,
    /// Values before SET LOCAL; `None` where there was none.
    local: BTreeMap<String, Option<String>>,
    /// Values before the transaction.
    saved: Option<BTreeMap<String, String>>,
    /// Reported parameters that changed since they were last taken.
    changed: Vec<String>,
}

impl Settings {
    /// Settings as the client asked for them in its start-up message. What is unknown or wrong is refused.
    pub fn start<'a>(options: impl IntoIterator<Item = (&'a str, &'a str)>) -> SqlResult<Settings> {
        let mut settings = Settings::default();
        for (name, value) in options {
            let name = name.to_ascii_lowercase();
            let value = match find(&name).map(|parameter| parameter.kind) {
                // The server's own choice: drivers repeat what they were told.
                Some(Kind::Fixed) => continue,
                _ => canonical(&name, &[value.to_string()])?,
            };
            settings.start.insert(name, value);
        }
        Ok(settings)
    }

    /// Fixes what the server knows and the client cannot choose: the user's name.
    pub fn set_start(&mut self, name: &str, value: &str) {
        self.start.insert(name.to_ascii_lowercase(), value.to_string());
    }

    /// The value of a parameter, `None` if there is none of that name.
    pub fn find(&self, name: &str) -> Option<String> {
        let key = name.to_ascii_lowercase();
        let given = self.values.get(&key).or_else(|| self.start.get(&key));
        given.cloned().or_else(|| find(&key).map(|parameter| parameter.default.to_string()))
    }

    /// The value of a parameter, or 42704.
    pub fn get(&self, name: &str) -> SqlResult<String> {
        self.find(name).ok_or_else(|| unrecognized(name))
    }

    /// `SET name = values`, or to its default with `None`. LOCAL holds until the transaction ends.
    pub fn set(&mut self, name: &str, values: Option<&[String]>, local: bool) -> SqlResult<()> {
        let key = name.to_ascii_lowercase();
        let value = match values {
            Some(values) => Some(canonical(&key, values)?),
            None if find(&key).is_none() && !key.contains('.') => return Err(unrecognized(name)),
            None => None,
        };
        let before = self.values.get(&key).cloned();
        if local {
            self.local.entry(key.clone()).or_insert(before);
        } else {
            self.local.remove(&key);
        }
        self.put(key, value);
        Ok(())
    }

    /// The same with one text as SHOW prints it: `set_config`.
    pub fn set_text(&mut self, name: &str, value: &str, local: bool) -> SqlResult<()> {
        let values = match name.eq_ignore_ascii_case("search_path") {
            true => split_names(value),
            false => vec![value.to_string()],
        };
        self.set(name, Some(&values), local)
    }

    fn put(&mut self, key: String, value: Option<String>) {
        match value {
            Some(value) => self.values.insert(key.clone(), value),
            None => self.values.remove(&key),
        };
        if find(&key).is_some_and(|parameter| parameter.reported) && !self.changed.contains(&key) {
            self.changed.push(key);
        }
    }

    pub fn reset_all(&mut self) {
        let keys: Vec<String> = self.values.keys().cloned().collect();
        // These two are not touched by RESET ALL, as in PostgreSQL.
        let kept = ["transaction_isolation", "transaction_read_only"];
        for key in keys.into_iter().filter(|key| !kept.contains(&key.as_str())) {
            self.put(key, None);
        }
    }

    /// Remembers all values, so that ROLLBACK can bring them back.
    pub fn begin(&mut self) {
        self.saved.get_or_insert_with(|| self.values.clone());
    }

    /// Ends the transaction: SET LOCAL is undone; without commit SET is undone too.
    pub fn end(&mut self, commit: bool) {
        let local = std::mem::take(&mut self.local);
        let saved = self.saved.take();
        match saved.filter(|_| !commit) {
            Some(saved) => self.go_back(saved),
            None => local.into_iter().for_each(|(key, value)| self.put(key, value)),
        }
    }

    /// The values, for a savepoint.
    pub fn values(&self) -> BTreeMap<String, String> {
        self.values.clone()
    }

    /// Back to the values of a savepoint or of the transaction's begin.
    pub fn go_back(&mut self, values: BTreeMap<String, String>) {
        let keys: Vec<String> = self.values.keys().chain(values.keys()).cloned().collect();
        for key in keys {
            let value = values.get(&key).cloned();
            if self.values.get(&key) != value.as_ref() {
                self.put(key, value);
            }
        }
    }

    /// Reported parameters that changed since the last call, with their values.
    pub fn take_changes(&mut self) -> Vec<(String, String)> {
        let changed = std::mem::take(&mut self.changed);
        let known = changed.iter().filter_map(|key| find(key));
        known.map(|parameter| (parameter.name.to_string(), self.find(parameter.name).unwrap_or_default())).collect()
    }

    /// What clients are told when they connect.
    pub fn reported(&self) -> Vec<(String, String)> {
        let reported = PARAMETERS.iter().filter(|parameter| parameter.reported);
        reported.map(|parameter| (parameter.name.to_string(), self.find(parameter.name).unwrap_or_default())).collect()
    }

    /// All parameters, for SHOW ALL and `pg_settings`.
    pub fn all(&self) -> Vec<Shown> {
        let known = PARAMETERS.iter().map(|parameter| Shown {
            name: parameter.name.to_string(),
            value: self.find(parameter.name).unwrap_or_default(),
            default: parameter.default.to_string(),
            description: parameter.description,
            kind: match parameter.kind {
                Kind::Bool => "bool",
                Kind::Int(..) => "integer",
                Kind::Real => "real",
                Kind::Enum(_) => "enum",
                _ => "string",
            },
        });
        known.collect()
    }

    pub fn bool(&self, name: &str) -> bool {
        self.find(name).is_some_and(|value| value == "on")
    }

    pub fn statement_timeout(&self) -> Option<Duration> {
        let value = self.find("statement_timeout")?;
        let milliseconds = number(&value, Unit::Milliseconds)? as u64;
        (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
    }

    pub fn time_zone(&self) -> String {
        self.find("TimeZone").unwrap_or_else(|| "UTC".to_string())
    }

    /// The schemas of the search path, `$user` put in.
    pub fn search_path(&self, user: &str) -> Vec<String> {
        let path = self.find("search_path").unwrap_or_default();
        let names = split_names(&path).into_iter();
        names.map(|name| if name == "$user" { user.to_string() } else { name }).collect()
    }
}

fn unrecognized(name: &str) -> SqlError {
    let error = SqlError::new(
        SqlState::UNDEFINED_OBJECT,
        format!("unrecognized configuration parameter \"{}\"", name.to_ascii_lowercase()),
    );
    match nearest(name, PARAMETERS.iter().map(|parameter| parameter.name)) {
        Some(nearest) => error.hint(format!("Did you mean \"{nearest}\"?")),
        None => error,
    }
}

/// The value as SHOW gives it, or why it is refused.
fn canonical(name: &str, values: &[String]) -> SqlResult<String> {
    let Some(parameter) = find(name) else {
        // Names with a point are free for extensions and applications.
        return if name.contains('.') { Ok(values.join(", ")) } else { Err(unrecognized(name)) };
    };
    let name = parameter.name;
    let one = || match values {
        [value] => Ok(value.as_str()),
        _ => Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, format!("SET {name} takes only one argument"))),
    };
    let invalid = |value: &str| {
        let message = format!("invalid value for parameter \"{name}\": \"{value}\"");
        SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
    };
    match parameter.kind {
        Kind::Fixed => {
            Err(SqlError::new(SqlState::OBJECT_NOT_IN_STATE, format!("parameter \"{name}\" cannot be changed")))
        }
        Kind::Text => Ok(values.join(", ")),
        Kind::SearchPath => Ok(values.iter().map(|schema| quote_path(schema)).collect::<Vec<_>>().join(", ")),
        Kind::Bool => match truth(one()?) {
            Some(true) => Ok("on".to_string()),
            Some(false) => Ok("off".to_string()),
            None => Err(SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("parameter \"{name}\" requires a Boolean value"),
            )),
        },
        Kind::Real => {
            let value = one()?;
            value.parse::<f64>().map(|number| number.to_string()).map_err(|_| invalid(value))
        }
        Kind::Int(least, greatest, unit) => {
            let value = one()?;
            let parsed = number(value, unit).ok_or_else(|| invalid(value))?;
            if !(least..=greatest).contains(&parsed) {
                let message =
                    format!("{parsed} is outside the valid range for parameter \"{name}\" ({least} .. {greatest})");
                return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
            }
            Ok(with_unit(parsed, unit))
        }
        Kind::Enum(words) => {
            let value = one()?;
            enumerated(value, words)
                .ok_or_else(|| invalid(value).hint(format!("Available values: {}.", words.join(", "))))
        }
        Kind::Encoding => {
            let value = one()?;
            let folded: String = value.chars().filter(char::is_ascii_alphanumeric).collect();
            match folded.to_ascii_lowercase().as_str() {
                "utf8" | "unicode" => Ok("UTF8".to_string()),
                "sqlascii" => Ok("SQL_ASCII".to_string()),
                _ => Err(invalid(value).hint("Headwater speaks UTF8.")),
            }
        }
        Kind::DateStyle => date_style(values).ok_or_else(|| {
            invalid(&values.join(", ")).hint("Headwater prints dates in ISO style; the order can be MDY, DMY or YMD.")
        }),
        Kind::TimeZone => {
            let value = one()?;
            time_zone(value).ok_or_else(|| invalid(value).hint("Write a name like 'Europe/Berlin', or 'UTC'."))
        }
    }
}

/// PostgreSQL's readings of a boolean: any unambiguous beginning of the words counts.
fn truth(value: &str) -> Option<bool> {
    let value = value.trim().to_ascii_lowercase();
    let begins = |word: &str| !value.is_empty() && word.starts_with(&value);
    match value.as_str() {
        "on" | "1" => Some(true),
        "of" | "off" | "0" => Some(false),
        _ if begins("true") || begins("yes") => Some(true),
        _ if begins("false") || begins("no") => Some(false),
        _ => None,
    }
}

fn enumerated(value: &str, words: &[&str]) -> Option<String> {
    let folded = value.trim().to_ascii_lowercase();
    if words.contains(&folded.as_str()) {
        return Some(folded);
    }
    // Words that are also switches take every reading of a boolean.
    let word = if truth(value)? { "on" } else { "off" };
    words.contains(&word).then(|| word.to_string())
}

/// A number with an optional unit, in the parameter's own unit.
fn number(value: &str, unit: Unit) -> Option<i64> {
    let value = value.trim();
    let split = value.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(value.len());
    let (digits, suffix) = value.split_at(split);
    let amount: f64 = digits.trim().parse().ok()?;
    let factor = match (unit, suffix) {
        (_, "") => 1.0,
        (Unit::Milliseconds, "us") => 0.001,
        (Unit::Milliseconds, "ms") | (Unit::Kilobytes, "kB") => 1.0,
        (Unit::Milliseconds, "s") => 1e3,
        (Unit::Milliseconds, "min") => 6e4,
        (Unit::Milliseconds, "h") => 3.6e6,
        (Unit::Milliseconds, "d") => 8.64e7,
        (Unit::Kilobytes, "B") => 1.0 / 1024.0,
        (Unit::Kilobytes, "MB") => 1024.0,
        (Unit::Kilobytes, "GB") => 1024.0 * 1024.0,
        (Unit::Kilobytes, "TB") => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    let result = (amount * factor).round();
    (result.is_finite() && result.abs() < 9e18).then_some(result as i64)
}

/// As SHOW writes it: in the largest unit that loses nothing.
fn with_unit(value: i64, unit: Unit) -> String {
    let units: &[(i64, &str)] = match unit {
        Unit::None => &[],
        Unit::Milliseconds => &[(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"), (1, "ms")],
        Unit::Kilobytes => &[(1 << 30, "TB"), (1 << 20, "GB"), (1 << 10, "MB"), (1, "kB")],
    };
    let fits = units.iter().find(|(factor, _)| value != 0 && value % factor == 0);
    fits.map_or(value.to_string(), |(factor, name)| format!("{}{name}", value / factor))
}

fn date_style(values: &[String]) -> Option<String> {
    let mut order = "MDY";
    for word in values.iter().flat_map(|value| value.split([',', ' '])).filter(|word| !word.is_empty()) {
        match word.to_ascii_lowercase().as_str() {
            "iso" | "default" => {}
            "mdy" | "us" | "noneuropean" | "noneuro" => order = "MDY",
            "dmy" | "european" | "euro" => order = "DMY",
            "ymd" => order = "YMD",
            _ => return None,
        }
    }
    Some(format!("ISO, {order}"))
}

/// The zone's name as it is shown, if there is such a zone.
fn time_zone(value: &str) -> Option<String> {
    let value = value.trim();
    match value.to_ascii_lowercase().as_str() {
        "utc" | "z" | "zulu" | "default" | "local" => return Some("UTC".to_string()),
        "gmt" => return Some("GMT".to_string()),
        _ => {}
    }
    if let Some(zone) = chrono_tz::TZ_VARIANTS.iter().find(|zone| zone.name().eq_ignore_ascii_case(value)) {
        return Some(zone.name().to_string());
    }
    // An offset east of Greenwich: `+02`, `-05:30`, `2`.
    let (sign, digits) = match value.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', value.strip_prefix('+').unwrap_or(value)),
    };
    let (hours, minutes) = digits.split_once(':').unwrap_or((digits, "0"));
    let (hours, minutes) = (u32::from_str(hours).ok()?, u32::from_str(minutes).ok()?);
    (hours <= 15 && minutes < 60).then(|| format!("{sign}{hours:02}:{minutes:02}"))
}

/// A schema of the search path as SHOW writes it.
fn quote_path(name: &str) -> String {
    match name {
        "" => "\"\"".to_string(),
        name => crate::catalog::quote_name(name),
    }
}

/// Splits `a, "B c", $user` into names.
fn split_names(list: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut name, mut quoted, mut was_quoted) = (String::new(), false, false);
    let mut chars = list.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                name.push('"');
            }
            '"' => (quoted, was_quoted) = (!quoted, true),
            ',' if !quoted => {
                names.push(std::mem::take(&mut name));
                was_quoted = false;
            }
            c if c.is_whitespace() && !quoted => {}
            c if was_quoted && !quoted => name.push(c),
            c if quoted => name.push(c),
            c => name.extend(c.to_lowercase()),
        }
    }
    names.push(name);
    names.into_iter().filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(settings: &mut Settings, name: &str, value: &str) -> SqlResult<String> {
        settings.set(name, Some(&[value.to_string()]), false)?;
        settings.get(name)
    }

    #[test]
    fn values_are_shown_as_postgresql_shows_them() {
        let mut settings = Settings::default();
        for (name, given, shown) in [
            ("statement_timeout", "1500", "1500ms"),
            ("statement_timeout", "2s", "2s"),
            ("statement_timeout", "60000", "1min"),
            ("statement_timeout", "0", "0"),
            ("extra_float_digits", "3", "3"),
            ("jit", "true", "on"),
            ("synchronous_commit", "false", "off"),
            ("timezone", "europe/berlin", "Europe/Berlin"),
            ("timezone", "utc", "UTC"),
            ("datestyle", "ISO", "ISO, MDY"),
            ("client_encoding", "utf-8", "UTF8"),
            ("my.own", "x", "x"),
        ] {
            assert_eq!(set(&mut settings, name, given).expect(name), shown, "{name} = {given}");
        }
    }

    #[test]
    fn wrong_names_and_values_are_refused() {
        let mut settings = Settings::default();
        let error = set(&mut settings, "statment_timeout", "1").expect_err("misspelt");
        assert_eq!(error.code, SqlState::UNDEFINED_OBJECT);
        assert_eq!(error.hint.as_deref(), Some("Did you mean \"statement_timeout\"?"));
        let error = set(&mut settings, "extra_float_digits", "4").expect_err("out of range");
        assert_eq!(error.message, "4 is outside the valid range for parameter \"extra_float_digits\" (-15 .. 3)");
        assert_eq!(set(&mut settings, "server_version", "9").expect_err("fixed").code, SqlState::OBJECT_NOT_IN_STATE);
        for (name, value) in [("timezone", "Mars/Base"), ("datestyle", "German"), ("client_encoding", "LATIN1")] {
            assert_eq!(set(&mut settings, name, value).expect_err(value).code, SqlState::INVALID_PARAMETER_VALUE);
        }
    }

    #[test]
    fn a_local_value_ends_with_its_transaction_and_a_rollback_undoes_set() {
        let mut settings = Settings::default();
        settings.begin();
        settings.set("work_mem", Some(&["1MB".to_string()]), true).expect("valid");
        settings.set("jit", Some(&["on".to_string()]), false).expect("valid");
        assert_eq!(settings.find("work_mem").as_deref(), Some("1MB"));
        settings.end(true);
        assert_eq!(settings.find("work_mem").as_deref(), Some("4MB"));
        assert_eq!(settings.find("jit").as_deref(), Some("on"));
        settings.begin();
        settings.set("jit", Some(&["off".to_string()]), false).expect("valid");
        settings.end(false);
        assert_eq!(settings.find("jit").as_deref(), Some("on"));
    }

    #[test]
    fn changes_of_reported_parameters_are_told_once() {
        let mut settings = Settings::default();
        set(&mut settings, "timezone", "Asia/Tokyo").expect("valid");
        set(&mut settings, "jit", "on").expect("valid");
        assert_eq!(settings.take_changes(), [("TimeZone".to_string(), "Asia/Tokyo".to_string())]);
        assert!(settings.take_changes().is_empty());
    }

    #[test]
    fn the_search_path_knows_the_user() {
        let mut settings = Settings::default();
        assert_eq!(settings.search_path("ann"), ["ann", "public"]);
        settings.set("search_path", Some(&["A b".to_string(), "public".to_string()]), false).expect("valid");
        assert_eq!(settings.find("search_path").as_deref(), Some("\"A b\", public"));
        assert_eq!(settings.search_path("ann"), ["A b", "public"]);
    }

    #[test]
    fn parameters_are_in_order_and_their_defaults_are_valid() {
        let names: Vec<String> = PARAMETERS.iter().map(|parameter| parameter.name.to_ascii_lowercase()).collect();
        assert!(names.is_sorted(), "{names:?}");
        for parameter in PARAMETERS {
            if !matches!(parameter.kind, Kind::Fixed | Kind::SearchPath) {
                let shown = canonical(parameter.name, &[parameter.default.to_string()]);
                assert_eq!(shown.as_deref(), Ok(parameter.default), "{}", parameter.name);
            }
        }
    }
}
