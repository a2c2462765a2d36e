//! Files as a sink: part files named by the last step in them, so that a step given again is known.
//!
//! A part holds all changes of the steps behind the part before it, up to the step in its name. It is written under
//! another name, synced and renamed: after a crash a step is in the directory wholly or not at all.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;

use super::settings::FileSettings;
use crate::connectors::format::{BatchWriter, Encoding, WriteStyle};
use crate::connectors::keyed_changes::{SinkType, deleted_and_added, key_columns, repeated, without_successor};
use crate::connectors::options::Side;
use crate::connectors::paths::{AllowedPaths, io_error};
use crate::connectors::sink::{Sink, SinkSpec};
use crate::connectors::source::ConnectorError;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::zset::{PgType, Rows, Step};

/// The sink.
pub struct FileSink {
    dir: PathBuf,
    name: String,
    settings: FileSettings,
    sink_type: SinkType,
    key: Vec<usize>,
    allowed: AllowedPaths,
    /// The schema of the files.
    schema: SchemaRef,
    part: Option<(BatchWriter, Step)>,
    committed: Option<Step>,
}

impl FileSink {
    pub fn open(spec: &SinkSpec) -> SqlResult<FileSink> {
        let mut settings = FileSettings::read(Side::Sink, &with_default_encoding(spec))?;
        settings.gzip = Some(settings.gzip == Some(true) && settings.encoding != Encoding::Parquet);
        let sink_type = SinkType::of(settings.sink_type, settings.force_append_only, spec)?;
        let key = key_columns(&settings.key, spec, sink_type)?;
        let dir = make_dir(Path::new(&settings.pattern), &spec.allowed_paths)?;
        let name = file_name(&spec.name);
        let committed = last_part(&dir, &name, settings.suffix())?;
        if spec.is_new && committed.is_some() {
            let message = format!("directory \"{}\" already has files of a sink \"{}\"", dir.display(), spec.name);
            return Err(SqlError::new(SqlState::OBJECT_NOT_IN_STATE, message)
                .hint("remove them, or choose another path or another name for the sink"));
        }
        let schema = if sink_type == SinkType::AppendOnly { spec.schema.clone() } else { changelog(&spec.schema) };
        let allowed = spec.allowed_paths.clone();
        Ok(FileSink { dir, name, settings, sink_type, key, allowed, schema, part: None, committed })
    }

    fn path_of(&self, step: Step) -> PathBuf {
        self.dir.join(format!("{}-{:020}.{}", self.name, step.0, self.settings.suffix()))
    }

    fn put(&mut self, step: Step, rows: &Rows) -> SqlResult<()> {
        let last = self.part.as_ref().map(|(_, last)| *last).or(self.committed);
        if last.is_some_and(|last| step <= last) {
            return Ok(());
        }
        let batches = self.form(step, rows)?;
        if batches.is_empty() {
            return Ok(());
        }
        if self.part.is_none() {
            let style = WriteStyle {
                encoding: self.settings.encoding,
                csv: self.settings.csv.clone(),
                gzip: self.settings.gzip == Some(true),
            };
            let path = self.dir.join(format!("{}-part", self.name));
            self.part = Some((BatchWriter::create(&path, &self.allowed, &self.schema, &style)?, step));
        }
        let (writer, last) = self.part.as_mut().expect("a part was begun");
        *last = step;
        batches.iter().try_for_each(|batch| writer.write(batch))
    }

    /// The rows as they stand in the file, deletions first.
    fn form(&self, step: Step, rows: &Rows) -> SqlResult<Vec<RecordBatch>> {
        let (deleted, added) = deleted_and_added(rows);
        let batches = match self.sink_type {
            SinkType::AppendOnly => vec![repeated(&added)],
            SinkType::Changelog => {
                vec![self.marked(step, &deleted, None)?, self.marked(step, &added, None)?]
            }
            SinkType::Upsert => {
                let gone = without_successor(&self.key, &deleted, &added)?;
                vec![self.marked(step, &gone, Some(-1))?, self.marked(step, &added, Some(1))?]
            }
        };
        Ok(batches.into_iter().filter(|batch| batch.num_rows() > 0).collect())
    }

    /// Puts `hw_step` and `hw_weight` before the rows.
    fn marked(&self, step: Step, rows: &Rows, weight: Option<i64>) -> SqlResult<RecordBatch> {
        let step = i64::try_from(step.0).unwrap_or(i64::MAX);
        let weights = weight.map_or_else(|| rows.weights_array(), |weight| Int64Array::from_value(weight, rows.len()));
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_value(step, rows.len())), Arc::new(weights)];
        columns.extend(rows.batch().columns().iter().cloned());
        RecordBatch::try_new(self.schema.clone(), columns)
            .map_err(|error| SqlError::internal(format!("rows do not fit their sink: {error}")))
    }

    fn finish_part(&mut self) -> SqlResult<()> {
        if let Some((writer, last)) = self.part.take() {
            writer.finish_as(Some(&self.path_of(last)))?;
            self.committed = Some(last);
        }
        Ok(())
    }
}

/// Sinks write a directory, which has no suffix: CSV if nothing else is said.
fn with_default_encoding(spec: &SinkSpec) -> std::collections::BTreeMap<String, String> {
    let mut options = spec.options.clone();
    let is_plain = options.get("format").is_none_or(|format| format.eq_ignore_ascii_case("plain"));
    if is_plain {
        options.entry("encode".to_string()).or_insert_with(|| "csv".to_string());
    }
    options
}

fn changelog(schema: &SchemaRef) -> SchemaRef {
    let marks = ["hw_step", "hw_weight"].map(|name| Arc::new(PgType::Int8.field(name, false)));
    let fields: Vec<Arc<Field>> = marks.into_iter().chain(schema.fields().iter().cloned()).collect();
    Arc::new(Schema::new(fields))
}

/// A sink's name as part of a file's name.
fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '_' }).collect()
}

/// The directory of the parts, made if only its last component is missing.
fn make_dir(path: &Path, allowed: &AllowedPaths) -> SqlResult<PathBuf> {
    match allowed.existing(path) {
        Err(error) if error.code == SqlState::UNDEFINED_FILE => {
            let dir = allowed.writable(path)?;
            fs::create_dir(&dir).map_err(|error| io_error(&error, "make the directory", &dir))?;
            Ok(dir)
        }
        Err(error) => Err(error),
        Ok(dir) if dir.is_dir() => Ok(dir),
        Ok(file) => {
            let message = format!("\"{}\" is a file, and a sink needs a directory", file.display());
            Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message))
        }
    }
}

/// The step in the name of the newest part. Parts that a crash left unfinished are removed.
fn last_part(dir: &Path, name: &str, suffix: &str) -> SqlResult<Option<Step>> {
    let entries = fs::read_dir(dir).map_err(|error| io_error(&error, "list", dir))?;
    let mut last = None;
    for entry in entries {
        let entry = entry.map_err(|error| io_error(&error, "list", dir))?.file_name();
        let entry = entry.to_string_lossy();
        if entry.starts_with(&format!(".{name}-part.")) && entry.ends_with(".unfinished") {
            let path = dir.join(&*entry);
            fs::remove_file(&path).map_err(|error| io_error(&error, "remove", &path))?;
        }
        let step = entry.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
        let step = step.and_then(|rest| rest.strip_suffix(suffix)).and_then(|rest| rest.strip_suffix('.'));
        last = last.max(step.and_then(|step| step.parse().ok()).map(Step));
    }
    Ok(last)
}

#[async_trait]
impl Sink for FileSink {
    async fn write(&mut self, step: Step, rows: &Rows) -> Result<(), ConnectorError> {
        Ok(self.put(step, rows)?)
    }
    async fn flush(&mut self) -> Result<(), ConnectorError> {
        Ok(self.finish_part()?)
    }
    async fn close(&mut self) -> Result<(), ConnectorError> {
        Ok(self.finish_part()?)
    }
    fn committed(&self) -> Option<Step> {
        self.committed
    }
    fn pending_bytes(&self) -> u64 {
        self.part.as_ref().map_or(0, |(writer, _)| writer.bytes())
    }
    fn flush_after(&self) -> std::time::Duration {
        self.settings.rollover
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::zset::parse_rows;

    struct Case {
        dir: tempfile::TempDir,
        spec: SinkSpec,
    }

    impl Case {
        fn new(options: &[(&str, &str)]) -> Case {
            let dir = tempfile::tempdir().expect("a directory");
            let mut given: BTreeMap<String, String> =
                options.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            given.insert("path".to_string(), dir.path().join("out").to_string_lossy().into_owned());
            let spec = SinkSpec {
                name: "my sink".to_string(),
                schema: parse_rows("k INT, v TEXT", "").schema(),
                options: given,
                allowed_paths: AllowedPaths::new([dir.path().to_path_buf()]),
                append_only: false,
                key: Vec::new(),
                is_new: true,
            };
            Case { dir, spec }
        }
        fn open(&self) -> SqlResult<FileSink> {
            FileSink::open(&self.spec)
        }
        fn refused(&self) -> String {
            let error = self.open().err().expect("refused");
            error.to_string().replace(&*self.dir.path().to_string_lossy(), "DIR")
        }
        /// All files, one after another, each with its name.
        fn files(&self) -> String {
            let mut names: Vec<PathBuf> = fs::read_dir(self.dir.path().join("out"))
                .expect("lists")
                .map(|entry| entry.expect("lists").path())
                .collect();
            names.sort();
            let show = |path: &PathBuf| {
                let name = path.file_name().expect("a name").to_string_lossy().into_owned();
                format!("{name}\n{}", fs::read_to_string(path).expect("reads"))
            };
            names.iter().map(show).collect()
        }
    }

    fn rows(text: &str) -> Rows {
        parse_rows("k INT, v TEXT", text)
    }

    #[tokio::test]
    async fn a_changelog_has_every_change_with_its_step_deletions_first() {
        let case = Case::new(&[]);
        let mut sink = case.open().expect("opens");
        sink.write(Step(3), &rows("+1 | 1 | a\n+2 | 2 | b")).await.expect("writes");
        sink.write(Step(5), &rows("+1 | 1 | c\n-1 | 1 | a")).await.expect("writes");
        assert_eq!((case.files(), sink.committed()), (case.files(), None));
        assert!(sink.pending_bytes() > 0);
        sink.flush().await.expect("flushes");
        assert_eq!(sink.committed(), Some(Step(5)));
        assert_eq!(
            case.files(),
            "my_sink-00000000000000000005.csv\nhw_step,hw_weight,k,v\n3,1,1,a\n3,2,2,b\n5,-1,1,a\n5,1,1,c\n"
        );
    }

    #[tokio::test]
    async fn after_a_crash_every_step_is_there_once() {
        let mut case = Case::new(&[("type", "append-only"), ("force_append_only", "true"), ("encode", "json")]);
        let step = |number: u64| (Step(number), rows(&format!("+1 | {number} | x\n-1 | 0 | y")));
        let mut sink = case.open().expect("opens");
        for number in 1..=5 {
            let (step, rows) = step(number);
            sink.write(step, &rows).await.expect("writes");
            if number == 3 {
                sink.flush().await.expect("flushes");
            }
        }
        // A crash leaves the unfinished part where it is.
        fs::write(case.dir.path().join("out/.my_sink-part.1.unfinished"), "half").expect("writes");
        drop(sink);
        assert_eq!(case.refused(), "directory \"DIR/out\" already has files of a sink \"my sink\"");
        case.spec.is_new = false;
        let mut sink = case.open().expect("opens again");
        assert_eq!(sink.committed(), Some(Step(3)));
        for number in 2..=6 {
            let (step, rows) = step(number);
            sink.write(step, &rows).await.expect("writes");
        }
        sink.close().await.expect("closes");
        let line = |number: u64| format!("{{\"k\":{number},\"v\":\"x\"}}\n");
        let part =
            |last: u64, from: u64| format!("my_sink-{last:020}.jsonl\n{}", (from..=last).map(line).collect::<String>());
        assert_eq!(case.files(), part(3, 1) + &part(6, 4));
    }

    #[tokio::test]
    async fn an_upsert_has_the_newest_row_of_each_key_and_its_deletion() {
        let case = Case::new(&[("type", "upsert"), ("primary_key", "k"), ("header", "false"), ("compression", "none")]);
        let mut sink = case.open().expect("opens");
        sink.write(Step(1), &rows("+1 | 1 | a\n+1 | 2 | b")).await.expect("writes");
        sink.write(Step(2), &rows("-1 | 1 | a\n+1 | 1 | c\n-1 | 2 | b")).await.expect("writes");
        sink.close().await.expect("closes");
        assert_eq!(case.files(), "my_sink-00000000000000000002.csv\n1,1,1,a\n1,1,2,b\n2,-1,2,b\n2,1,1,c\n");
    }

    #[test]
    fn what_cannot_work_is_refused_when_the_sink_is_made() {
        let case = Case::new(&[("type", "append-only")]);
        assert_eq!(case.refused(), "sink \"my sink\" is append-only, but its rows can be deleted and changed");
        let case = Case::new(&[("type", "upsert")]);
        assert_eq!(case.refused(), "sink \"my sink\" has type upsert and needs the option \"primary_key\"");
        let case = Case::new(&[("type", "upsert"), ("primary_key", "kk")]);
        assert_eq!(case.refused(), "key column \"kk\" of sink \"my sink\" does not exist");
        let case = Case::new(&[("mode", "tail")]);
        assert_eq!(case.refused(), "option \"mode\" of connector \"file\" is for sources only");
        let mut case = Case::new(&[]);
        case.spec.options.insert("path".to_string(), "/etc/headwater".to_string());
        assert_eq!(case.refused(), "access to \"/etc/headwater\" is not allowed");
        let file = case.dir.path().join("out");
        fs::write(&file, "x").expect("writes");
        case.spec.options.insert("path".to_string(), file.to_string_lossy().into_owned());
        assert_eq!(case.refused(), "\"DIR/out\" is a file, and a sink needs a directory");
    }
}
