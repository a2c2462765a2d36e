//! The connector `file`: CSV, JSON lines and Parquet files as sources and sinks.

mod export;
mod lines;
mod settings;
mod sink;
mod source;

use std::io::Read;

pub use export::{Export, ExportSpec};

use super::format::{Encoding, infer_csv, infer_json, infer_parquet};
use super::options::{OptionDoc, Side};
use super::registry::Connector;
use super::sink::{Sink, SinkSpec};
use super::source::{InferredColumn, Source, SourceSpec};
use crate::error::SqlResult;
use lines::Input;
use settings::{FileSettings, OPTIONS};
use sink::FileSink;
use source::FileSource;

/// The connector `file`.
pub struct FileConnector;

/// So much of a file is looked at to find its columns.
const SAMPLE_BYTES: u64 = 16 << 20;

impl Connector for FileConnector {
    fn name(&self) -> &'static str {
        "file"
    }
    fn aliases(&self) -> &'static [&'static str] {
        &["fs", "posix_fs", "filesystem", "local_file"]
    }
    fn options(&self) -> &'static [OptionDoc] {
        OPTIONS
    }
    /// Files can change or vanish.
    fn replayable(&self) -> bool {
        false
    }
    fn infer(&self, spec: &SourceSpec) -> SqlResult<Vec<InferredColumn>> {
        let settings = FileSettings::read(Side::Source, &spec.options)?;
        let path = source::first_file(&settings, &spec.allowed_paths)?;
        let file = spec.allowed_paths.open(&path)?;
        let place = path.display().to_string();
        if settings.encoding == Encoding::Parquet {
            return infer_parquet(file, &place);
        }
        let mut sample = Vec::new();
        let read = Input::new(file, settings.is_gzip(&path)).take(SAMPLE_BYTES).read_to_end(&mut sample);
        read.map_err(|error| lines::unreadable(&path, &error))?;
        let is_end = (sample.len() as u64) < SAMPLE_BYTES;
        let sample = sample.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&sample);
        // What is not UTF-8 will be dead letters; the rest tells enough.
        let text = String::from_utf8_lossy(sample);
        match settings.encoding {
            Encoding::Csv => infer_csv(&text, is_end, &settings.csv, settings.infer_rows),
            Encoding::Json | Encoding::Parquet => infer_json(&text, is_end, settings.infer_rows),
        }
    }
    fn open_source(&self, spec: &SourceSpec) -> SqlResult<Box<dyn Source>> {
        Ok(Box::new(FileSource::open(spec)?))
    }
    fn open_sink(&self, spec: &SinkSpec) -> SqlResult<Box<dyn Sink>> {
        Ok(Box::new(FileSink::open(spec)?))
    }
    fn has_sink(&self) -> bool {
        true
    }
}
