//! COPY: rows from the client or a file into a table, and rows of a query to the client or a file.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute;
use arrow::datatypes::Schema;
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use super::cancel::Guard;
use super::change;
use super::execute::Stop;
use super::read::Reader;
use super::response::{CopyOut, Response};
use super::session::Session;
use super::subscribe::{self, Feed};
use crate::catalog::Relation;
use crate::connectors::{AllowedPaths, Export, ExportSpec, OutputFile};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions::text::copy::{
    CopyColumn, CopyForm, CopyFormat as Form, CopyReader, CopyRows, CopyWriter, Header,
};
use crate::functions::text::{TextStyle, Zone};
use crate::sql::{CopyFormat, CopyFrom, CopyHeader, CopyOptions, CopyPlace, CopySource, CopyTo, OutputColumn};

/// Bytes of a file that are read at once.
const FILE_PIECE: usize = 1 << 20;

/// A COPY FROM STDIN that waits for its data.
pub struct CopyIn {
    pub columns: Vec<OutputColumn>,
    pub binary: bool,
    copy: CopyFrom,
    reader: CopyReader,
    batches: Vec<RecordBatch>,
    guard: Guard,
}

impl CopyIn {
    /// Returns when the COPY must end although its data has not: it was cancelled, or its time is over.
    pub async fn interrupted(&self) -> SqlError {
        self.guard.interrupted().await
    }

    /// Takes the next bytes of the data.
    ///
    /// # Errors
    /// The data is malformed; the COPY is over then, and nothing of it is written.
    pub fn push(&mut self, bytes: &[u8]) -> SqlResult<()> {
        self.guard.check()?;
        self.batches.extend(self.reader.push(bytes)?);
        Ok(())
    }
}

impl Session {
    pub(super) async fn copy_from(&mut self, copy: CopyFrom, guard: &Guard) -> Result<Response, Stop> {
        let columns: Vec<OutputColumn> = (copy.columns.iter())
            .map(|index| &copy.table.columns[*index])
            .map(|column| OutputColumn { name: column.name.clone(), pg_type: column.pg_type.clone() })
            .collect();
        let form = form(&copy.options)?;
        let reader =
            CopyReader::new(&form, &copy.table.name, copy_columns(&columns, &copy.options), self.text_style())?;
        let path = match &copy.from {
            CopyPlace::Client => None,
            CopyPlace::File(path) => Some(path.clone()),
        };
        let binary = copy.options.format == CopyFormat::Binary;
        let mut incoming = CopyIn { columns, binary, copy, reader, batches: Vec::new(), guard: guard.clone() };
        let Some(path) = path else { return Ok(Response::CopyIn(incoming)) };
        let mut file = self.allowed_paths().open(Path::new(&path))?;
        let mut piece = vec![0; FILE_PIECE];
        loop {
            let read = file.read(&mut piece).map_err(|error| {
                SqlError::new(SqlState::IO_ERROR, format!("could not read file \"{path}\": {error}"))
            })?;
            if read == 0 {
                break;
            }
            incoming.push(&piece[..read])?;
        }
        let tag = self.write_copy(incoming).await?;
        Ok(Response::Command { tag })
    }

    /// The client has sent all data of a COPY FROM STDIN: writes it, and gives the command tag.
    ///
    /// # Errors
    /// The data is malformed, or the rows are refused; nothing of it is written then.
    pub async fn finish_copy(&mut self, incoming: CopyIn) -> SqlResult<String> {
        let tag = self.write_copy(incoming).await;
        tag.map_err(|error| self.fail(error))
    }

    /// The client has given up a COPY FROM STDIN (CopyFail), or its data was refused.
    pub fn abort_copy(&mut self, incoming: CopyIn, reason: SqlError) -> SqlError {
        drop(incoming);
        self.fail(reason)
    }

    async fn write_copy(&mut self, mut incoming: CopyIn) -> SqlResult<String> {
        incoming.batches.extend(incoming.reader.finish()?);
        let rows: usize = incoming.batches.iter().map(RecordBatch::num_rows).sum();
        let guard = incoming.guard.clone();
        loop {
            let reader = self.reader(&guard);
            let columns = Self::table_columns(&incoming, rows, &reader).await?;
            let outcome = change::insert_columns(&reader, &incoming.copy.table, columns, None, None).await?;
            match self.apply(&reader, outcome).await {
                Ok(_) => return Ok(format!("COPY {rows}")),
                Err(Stop::Error(error)) => return Err(error),
                // The catalog has changed; what is inserted has not.
                Err(Stop::Again) => guard.check()?,
            }
        }
    }

    /// The table's columns: those of the data, the others with their defaults.
    async fn table_columns(incoming: &CopyIn, rows: usize, reader: &Reader) -> SqlResult<Vec<ArrayRef>> {
        let table: &Relation = &incoming.copy.table;
        let defaults = match &incoming.copy.defaults {
            None => None,
            Some(plan) => reader.collect(plan, Vec::new()).await?.into_iter().find(|batch| batch.num_rows() > 0),
        };
        let column = |(index, field): (usize, &Arc<arrow::datatypes::Field>)| {
            if let Some(place) = incoming.copy.columns.iter().position(|column| *column == index) {
                let parts: Vec<&dyn Array> =
                    incoming.batches.iter().map(|batch| batch.column(place).as_ref()).collect();
                return match parts.is_empty() {
                    true => Ok(arrow::array::new_empty_array(field.data_type())),
                    false => compute::concat(&parts).map_err(|error| too_much(&error)),
                };
            }
            let default = defaults.as_ref().and_then(|row| row.column_by_name(&table.columns[index].name));
            match default {
                None => Ok(arrow::array::new_null_array(field.data_type(), rows)),
                Some(value) => {
                    let indices = arrow::array::UInt32Array::from_value(0, rows);
                    compute::take(value, &indices, None).map_err(|error| too_much(&error))
                }
            }
        };
        table.arrow_schema().fields().iter().enumerate().map(column).collect()
    }

    pub(super) async fn copy_to(&mut self, copy: CopyTo, guard: &Guard) -> SqlResult<Response> {
        let (columns, batches, live) = match copy.what {
            CopySource::Query(query) => {
                let columns = query.columns.clone();
                (columns, self.query(&query, guard).await?.boxed(), false)
            }
            CopySource::Subscribe(subscribe) => {
                let columns = subscribe::columns(&subscribe);
                let zone = self.settings().time_zone();
                let feed = guard.run(Feed::open(&self.engine, *subscribe, zone)).await?;
                (columns, feed.into_stream(guard), true)
            }
        };
        match copy.to {
            CopyPlace::Client => self.copy_to_client(&columns, batches, &copy.options, live),
            CopyPlace::File(path) => {
                let rows = self.copy_to_file(&path, &columns, batches, &copy.options).await?;
                Ok(Response::Command { tag: format!("COPY {rows}") })
            }
        }
    }

    fn copy_to_client(
        &mut self,
        columns: &[OutputColumn],
        batches: BoxStream<'static, SqlResult<RecordBatch>>,
        options: &CopyOptions,
        live: bool,
    ) -> SqlResult<Response> {
        let form = form(options)?;
        let writer = CopyWriter::new(&form, copy_columns(columns, options), self.text_style())?;
        let rows = Arc::new(AtomicU64::new(0));
        let counted = rows.clone();
        let chunks = stream::unfold(Some((batches, writer)), move |state| {
            let counted = counted.clone();
            async move {
                let (mut batches, mut writer) = state?;
                let mut out = CopyRows::default();
                match batches.next().await {
                    None => {
                        writer.finish(&mut out);
                        Some((Ok(out), None))
                    }
                    Some(Err(error)) => Some((Err(error), None)),
                    Some(Ok(batch)) => {
                        counted.fetch_add(batch.num_rows() as u64, Ordering::AcqRel);
                        match writer.write(&batch, &mut out) {
                            Ok(()) => Some((Ok(out), Some((batches, writer)))),
                            Err(error) => Some((Err(error), None)),
                        }
                    }
                }
            }
        });
        let chunks = chunks.boxed();
        Ok(Response::CopyOut(CopyOut {
            columns: columns.len(),
            binary: options.format == CopyFormat::Binary,
            live,
            chunks,
            rows,
        }))
    }

    async fn copy_to_file(
        &mut self,
        path: &str,
        columns: &[OutputColumn],
        mut batches: BoxStream<'static, SqlResult<RecordBatch>>,
        options: &CopyOptions,
    ) -> SqlResult<u64> {
        let mut target = self.target(path, columns, options)?;
        let mut rows = 0;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            rows += batch.num_rows() as u64;
            target.write(&batch)?;
        }
        target.finish()?;
        Ok(rows)
    }

    fn target(&self, path: &str, columns: &[OutputColumn], options: &CopyOptions) -> SqlResult<Target> {
        let encode = match options.format {
            CopyFormat::Json => "json",
            CopyFormat::Parquet => "parquet",
            CopyFormat::Text | CopyFormat::Csv | CopyFormat::Binary => {
                let writer = CopyWriter::new(&form(options)?, copy_columns(columns, options), self.text_style())?;
                let file = OutputFile::create(Path::new(path), &self.allowed_paths())?;
                return Ok(Target::Copy { writer, file, path: path.to_string() });
            }
        };
        let fields = columns.iter().map(|column| column.pg_type.field(&column.name, true)).collect::<Vec<_>>();
        let spec = ExportSpec {
            path: PathBuf::from(path),
            schema: Arc::new(Schema::new(fields)),
            options: BTreeMap::from([("encode".to_string(), encode.to_string())]),
            allowed_paths: self.allowed_paths(),
        };
        Ok(Target::Export(Export::create(&spec)?))
    }

    pub(super) fn allowed_paths(&self) -> AllowedPaths {
        AllowedPaths::new(self.engine.config().allowed_paths.clone())
    }

    /// How values print as text under the settings of the session.
    pub fn text_style(&self) -> TextStyle {
        let zone = Zone::find(&self.settings().time_zone()).unwrap_or(Zone::UTC);
        TextStyle { zone, now: self.statement_time() }
    }
}

/// A file of COPY … TO. It appears under its name when it is finished.
enum Target {
    /// In a format that COPY has with clients too.
    Copy { writer: CopyWriter, file: OutputFile, path: String },
    /// In a format that only files have.
    Export(Export),
}

impl Target {
    fn write(&mut self, batch: &RecordBatch) -> SqlResult<()> {
        match self {
            Target::Export(export) => export.write(batch),
            Target::Copy { writer, file, path } => {
                let mut out = CopyRows::default();
                writer.write(batch, &mut out)?;
                file.write_all(&out.bytes).map_err(|error| write_error(&error, path))
            }
        }
    }

    fn finish(self) -> SqlResult<()> {
        match self {
            Target::Export(export) => export.finish().map(|_| ()),
            Target::Copy { mut writer, mut file, path } => {
                let mut out = CopyRows::default();
                writer.finish(&mut out);
                file.write_all(&out.bytes).map_err(|error| write_error(&error, &path))?;
                file.finish()
            }
        }
    }
}

fn write_error(error: &io::Error, path: &str) -> SqlError {
    let code = match error.kind() {
        io::ErrorKind::StorageFull => SqlState::DISK_FULL,
        _ => SqlState::IO_ERROR,
    };
    SqlError::new(code, format!("could not write to file \"{path}\": {error}"))
}

fn too_much(error: &arrow::error::ArrowError) -> SqlError {
    SqlError::new(SqlState::OUT_OF_MEMORY, format!("the data is too much for one COPY: {error}"))
}

fn form(options: &CopyOptions) -> SqlResult<CopyForm> {
    let format = match options.format {
        CopyFormat::Text => Form::Text,
        CopyFormat::Csv => Form::Csv,
        CopyFormat::Binary => Form::Binary,
        CopyFormat::Json | CopyFormat::Parquet => {
            return Err(SqlError::unsupported(
                "this format is for files only",
                "Use FORMAT text, csv or binary with STDIN and STDOUT.",
            ));
        }
    };
    let byte = |what: &str, c: char| {
        u8::try_from(c).ok().filter(u8::is_ascii).ok_or_else(|| {
            let message = format!("COPY {what} must be a single one-byte character");
            SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message)
        })
    };
    Ok(CopyForm {
        format,
        delimiter: byte("delimiter", options.delimiter)?,
        null: options.null.clone(),
        header: match options.header {
            CopyHeader::No => Header::No,
            CopyHeader::Yes => Header::Yes,
            CopyHeader::Match => Header::Match,
        },
        quote: byte("quote", options.quote)?,
        escape: byte("escape", options.escape)?,
    })
}

fn copy_columns(columns: &[OutputColumn], options: &CopyOptions) -> Vec<CopyColumn> {
    let columns = columns.iter().enumerate().map(|(index, column)| CopyColumn {
        force_quote: options.force_quote.contains(&index),
        force_not_null: options.force_not_null.contains(&index),
        force_null: options.force_null.contains(&index),
        ..CopyColumn::new(&column.name, column.pg_type.clone())
    });
    columns.collect()
}
