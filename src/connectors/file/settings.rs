//! The options of the connector `file`, read and checked.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::connectors::format::{CsvStyle, Encoding, OnError};
use crate::connectors::keyed_changes::SinkType;
use crate::connectors::options::{OptionDoc, Options, Side};
use crate::error::{SqlError, SqlResult, SqlState};

const PATH: &str = "path";
const ROOT: &str = "posix_fs.root";
const PATTERN: &str = "match_pattern";
const MODE: &str = "mode";
const FORMAT: &str = "format";
const ENCODE: &str = "encode";
const HEADER: &str = "header";
const NO_HEADER: &str = "without_header";
const DELIMITER: &str = "delimiter";
const NULL: &str = "null";
const QUOTE: &str = "quote";
const ESCAPE: &str = "escape";
const COMPRESSION: &str = "compression";
const ON_ERROR: &str = "on_error";
const INFER: &str = "infer";
const TYPE: &str = "type";
const KEY: &str = "primary_key";
const FORCE: &str = "force_append_only";
const ROLLOVER: &str = "rollover";

pub static OPTIONS: &[OptionDoc] = &[
    OptionDoc::new(PATH, "", "source: a file, a directory, or a pattern with `*`, `?`, `[…]`, `**`; sink: a directory")
        .alias(&["fs.path", "posix_fs.path"]),
    OptionDoc::new(ROOT, "", "the directory below which `match_pattern` is looked for, instead of `path`").source(),
    OptionDoc::new(PATTERN, "*", "the pattern of files below `posix_fs.root`").source(),
    OptionDoc::new(MODE, "once", "`once` reads the files that are there and ends; `tail` goes on with new files and appended lines")
        .source(),
    OptionDoc::new(FORMAT, "plain", "`plain`, or as in Flink the same as `encode`"),
    OptionDoc::new(ENCODE, "", "`csv`, `json` (one object a line) or `parquet`; found from the file's suffix if not given"),
    OptionDoc::new(HEADER, "true", "CSV: the first line names the columns").alias(&["csv.header"]),
    OptionDoc::new(NO_HEADER, "false", "CSV: the opposite of `header`"),
    OptionDoc::new(DELIMITER, ",", "CSV: the character between fields; a tab for `.tsv`").alias(&["csv.field-delimiter", "csv.delimiter"]),
    OptionDoc::new(NULL, "", "CSV: unquoted texts that mean NULL, separated by commas; an empty field is NULL in any case unless its column is text")
        .alias(&["null_string", "csv.null-literal"]),
    OptionDoc::new(QUOTE, "\"", "CSV: the character around fields that hold others").alias(&["csv.quote-character"]),
    OptionDoc::new(ESCAPE, "\"", "CSV: the character before a quote inside quotes").alias(&["csv.escape-character"]),
    OptionDoc::new(COMPRESSION, "auto", "`gzip`, `none`, or `auto`: by the suffix `.gz`").alias(&["compression_format"]),
    OptionDoc::new(ON_ERROR, "dead_letter", "what a malformed line does: `dead_letter` keeps it, `skip` drops it, `null` puts NULL where a value is malformed, `stop` stops the source")
        .source(),
    OptionDoc::new(INFER, "100000", "rows looked at to find the columns of `(*)`").source(),
    OptionDoc::new(TYPE, "changelog", "`changelog` writes every change with `hw_step` and `hw_weight`; `append-only` plain rows; `upsert` the newest row of each key and its deletion")
        .sink(),
    OptionDoc::new(KEY, "", "the key columns of `upsert`, separated by commas").sink(),
    OptionDoc::new(FORCE, "false", "`append-only` leaves deletions out instead of refusing input that has them").sink(),
    OptionDoc::new(ROLLOVER, "10 seconds", "a file is completed at least so often").alias(&["sink.rolling-policy.rollover-interval"]).sink(),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Once,
    Tail,
}

/// All options of a source or sink of files.
#[derive(Debug, Clone)]
pub struct FileSettings {
    /// What the user wrote as path, or root and pattern in one.
    pub pattern: String,
    pub mode: Mode,
    pub encoding: Encoding,
    pub csv: CsvStyle,
    /// `None`: by the file's suffix.
    pub gzip: Option<bool>,
    pub on_error: OnError,
    pub infer_rows: usize,
    pub sink_type: Option<SinkType>,
    pub key: Vec<String>,
    pub force_append_only: bool,
    pub rollover: Duration,
}

const ENCODINGS: &[(&str, Encoding)] = &[
    ("csv", Encoding::Csv),
    ("tsv", Encoding::Csv),
    ("json", Encoding::Json),
    ("jsonl", Encoding::Json),
    ("ndjson", Encoding::Json),
    ("parquet", Encoding::Parquet),
];

impl FileSettings {
    pub fn read(side: Side, given: &BTreeMap<String, String>) -> SqlResult<FileSettings> {
        let options = Options::read("file", OPTIONS, side, given)?;
        let pattern = pattern(&options)?;
        let encoding = encoding(&options, &pattern)?;
        let modes = [("once", Mode::Once), ("tail", Mode::Tail)];
        let compressions = [("gzip", Some(true)), ("gz", Some(true)), ("none", Some(false)), ("auto", None)];
        Ok(FileSettings {
            mode: options.choice(MODE, &modes)?.unwrap_or(Mode::Once),
            csv: csv_style(&options, &pattern)?,
            gzip: options.choice(COMPRESSION, &compressions)?.flatten(),
            on_error: options.choice(ON_ERROR, OnError::CHOICES)?.unwrap_or(OnError::DeadLetter),
            infer_rows: options.rows(INFER)?.unwrap_or(100_000),
            sink_type: options.choice(TYPE, SinkType::CHOICES)?,
            key: options.names(KEY),
            force_append_only: options.flag(FORCE)?.unwrap_or(false),
            rollover: options.duration(ROLLOVER)?.unwrap_or(Duration::from_secs(10)),
            pattern,
            encoding,
        })
    }

    pub fn is_gzip(&self, path: &Path) -> bool {
        self.gzip.unwrap_or_else(|| path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("gz")))
    }

    /// The suffix of a file that is written.
    pub fn suffix(&self) -> &'static str {
        match (self.encoding, self.gzip == Some(true)) {
            (Encoding::Csv, false) => "csv",
            (Encoding::Csv, true) => "csv.gz",
            (Encoding::Json, false) => "jsonl",
            (Encoding::Json, true) => "jsonl.gz",
            (Encoding::Parquet, _) => "parquet",
        }
    }
}

fn pattern(options: &Options) -> SqlResult<String> {
    match (options.text(PATH), options.text(ROOT)) {
        (Some(path), None) => Ok(path.to_string()),
        (None, Some(root)) => {
            let pattern = options.text(PATTERN).unwrap_or("*");
            Ok(format!("{}/{pattern}", root.trim_end_matches('/')))
        }
        (Some(_), Some(_)) => Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "options \"path\" and \"posix_fs.root\" cannot be given together",
        )),
        (None, None) => options.required(PATH).map(String::from),
    }
}

/// The suffix that tells the encoding: that before `.gz`.
fn suffix(pattern: &str) -> String {
    let name = pattern.rsplit('/').next().unwrap_or(pattern).to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    name.rsplit_once('.').map(|(_, suffix)| suffix.to_string()).unwrap_or_default()
}

fn encoding(options: &Options, pattern: &str) -> SqlResult<Encoding> {
    let formats: Vec<(&str, Option<Encoding>)> = std::iter::once(("plain", None))
        .chain(ENCODINGS.iter().map(|(name, encoding)| (*name, Some(*encoding))))
        .collect();
    let from_format = options.choice(FORMAT, &formats)?.flatten();
    if let Some(encoding) = options.choice(ENCODE, ENCODINGS)?.or(from_format) {
        return Ok(encoding);
    }
    let suffix = suffix(pattern);
    let found = ENCODINGS.iter().find(|(name, _)| *name == suffix).map(|(_, encoding)| *encoding);
    found.ok_or_else(|| {
        let message = format!("the path \"{pattern}\" does not tell how its files are encoded");
        SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
            .hint("add FORMAT PLAIN ENCODE CSV, JSON or PARQUET, or the option encode")
    })
}

fn csv_style(options: &Options, pattern: &str) -> SqlResult<CsvStyle> {
    let mut style = CsvStyle::default();
    let without = options.flag(NO_HEADER)?.map(|without| !without);
    style.header = match (options.flag(HEADER)?, without) {
        (Some(one), Some(other)) if one != other => {
            return Err(options.bad_value(NO_HEADER, "", "the opposite of the option \"header\""));
        }
        (one, other) => one.or(other).unwrap_or(true),
    };
    if suffix(pattern) == "tsv" || options.text(ENCODE).is_some_and(|encode| encode.eq_ignore_ascii_case("tsv")) {
        style.delimiter = b'\t';
    }
    style.delimiter = options.character(DELIMITER)?.unwrap_or(style.delimiter);
    style.quote = options.character(QUOTE)?.unwrap_or(style.quote);
    style.escape = options.character(ESCAPE)?.unwrap_or(style.quote);
    if style.delimiter == style.quote || style.delimiter == style.escape {
        return Err(options.bad_value(DELIMITER, "", "another character than the quote and the escape"));
    }
    if let Some(nulls) = options.text(NULL) {
        style.nulls = nulls.split(',').map(|null| null.trim().to_string()).collect();
    }
    Ok(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &[(&str, &str)]) -> SqlResult<FileSettings> {
        let given = given.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        FileSettings::read(Side::Source, &given)
    }

    fn refused(given: &[(&str, &str)]) -> String {
        read(given).expect_err("refused").to_string()
    }

    #[test]
    fn spellings_of_other_systems_are_understood() {
        let settings = read(&[
            ("connector", "posix_fs"),
            ("posix_fs.root", "/data/"),
            ("match_pattern", "*.csv"),
            ("format", "plain"),
            ("encode", "csv"),
            ("without_header", "true"),
            ("delimiter", ";"),
        ]);
        let settings = settings.expect("read");
        assert_eq!((settings.pattern.as_str(), settings.encoding), ("/data/*.csv", Encoding::Csv));
        assert_eq!((settings.csv.header, settings.csv.delimiter), (false, b';'));
        let flink =
            read(&[("path", "/data"), ("format", "csv"), ("csv.field-delimiter", "\\t"), ("csv.null-literal", "NA")]);
        let flink = flink.expect("read");
        assert_eq!((flink.csv.delimiter, flink.csv.nulls), (b'\t', vec!["NA".to_string()]));
    }

    #[test]
    fn the_suffix_tells_the_encoding() {
        let encoding = |path: &str| read(&[("path", path)]).map(|settings| settings.encoding);
        assert_eq!(encoding("/a/b.csv.gz"), Ok(Encoding::Csv));
        assert_eq!(encoding("/a/*.JSONL"), Ok(Encoding::Json));
        assert_eq!(encoding("/a/b.parquet"), Ok(Encoding::Parquet));
        assert_eq!(read(&[("path", "a.tsv")]).expect("read").csv.delimiter, b'\t');
        assert_eq!(refused(&[("path", "/a/b")]), "the path \"/a/b\" does not tell how its files are encoded");
    }

    #[test]
    fn contradictions_are_refused() {
        let path = ("path", "a.csv");
        assert_eq!(
            refused(&[path, ("header", "true"), ("without_header", "true")]),
            "option \"without_header\" is 'true', but must be the opposite of the option \"header\""
        );
        assert_eq!(
            refused(&[path, ("delimiter", ";;")]),
            "option \"delimiter\" is ';;', but must be one character of ASCII other than a line feed"
        );
        assert_eq!(
            refused(&[path, ("posix_fs.root", "/")]),
            "options \"path\" and \"posix_fs.root\" cannot be given together"
        );
        assert_eq!(refused(&[("mode", "once")]), "connector \"file\" needs the option \"path\"");
        assert_eq!(refused(&[path, ("type", "upsert")]), "option \"type\" of connector \"file\" is for sinks only");
    }
}
