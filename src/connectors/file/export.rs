//! Rows into one file: `COPY (SELECT …) TO '/path'`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::settings::FileSettings;
use crate::connectors::format::{BatchWriter, WriteStyle};
use crate::connectors::options::Side;
use crate::connectors::paths::AllowedPaths;
use crate::error::SqlResult;

/// What a file is written with. The options are those of file sinks: `encode`, `header`, `delimiter`, `null`, ….
#[derive(Debug, Clone)]
pub struct ExportSpec {
    pub path: PathBuf,
    pub schema: SchemaRef,
    pub options: BTreeMap<String, String>,
    pub allowed_paths: AllowedPaths,
}

/// A file being written. It appears under its name when [`Export::finish`] returns, whole; dropped before that it
/// leaves nothing behind.
pub struct Export(BatchWriter);

impl Export {
    pub fn create(spec: &ExportSpec) -> SqlResult<Export> {
        let mut options = spec.options.clone();
        options.insert("path".to_string(), spec.path.to_string_lossy().into_owned());
        let settings = FileSettings::read(Side::Sink, &options)?;
        let gzip = settings.is_gzip(&spec.path);
        let style = WriteStyle { encoding: settings.encoding, csv: settings.csv, gzip };
        BatchWriter::create(&spec.path, &spec.allowed_paths, &spec.schema, &style).map(Export)
    }

    pub fn write(&mut self, batch: &RecordBatch) -> SqlResult<()> {
        self.0.write(batch)
    }

    /// Completes the file and returns the number of rows in it.
    pub fn finish(self) -> SqlResult<u64> {
        self.0.finish_as(None)
    }
}
