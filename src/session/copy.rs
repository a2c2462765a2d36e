//! COPY: rows from the client or a file into a table, and rows of a query to the client or a file.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use super::cancel::Guard;
use super::change;
use super::execute::Stop;
use super::response::{CopyOut, Response};
use super::session::Session;
use super::subscribe::{self, Feed};
use crate::catalog::Relation;
use crate::connectors::{AllowedPaths, Export, ExportSpec};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions::text::{
    CopyColumn, CopyForm, CopyFormat as Form, CopyReader, CopyRows, CopyWriter, Header, TextStyle, Zone,
};
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
        let reader = CopyReader::new(&form, &copy.table.name, copy_columns(&columns, &copy.options), self.text_style())?;
        let path = match &copy.from {
            CopyPlace::Client => None,
            CopyPlace::File(path) => Some(path.clone()),
        };
        let binary = copy.options.format == CopyFormat::Binary;
        let mut incoming =
            CopyIn { columns, binary, copy, reader, batches: Vec::new(), guard: guard.clone() };
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
            let columns = self.table_columns(&incoming, rows, &reader).await?;
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
    async fn table_columns(
        &self,
        incoming: &CopyIn,
        rows: usize,
        reader: &super::read::Reader,
    ) -> SqlResult<Vec<ArrayRef>> {
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
                let feed = guard.run(Feed::open(&self.engine, *subscribe)).await?;
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
                let (written, rest) = match batches.next().await {
                    None => {
                        writer.finish(&mut out);
                        (Ok(()), None)
                    }
                    Some(Err(error)) => (Err(error), None),
                    Some(Ok(batch)) => {
                        counted.fetch_add(batch.num_rows() as u64, Ordering::AcqRel);
                        (writer.write(&batch, &mut out), Some((batches, writer)))
                    }
                };
                let messages = match written {
                    Ok(()) => rows_of(out).into_iter().map(Ok).collect(),
                    Err(error) => vec![Err(error)],
                };
                Some((stream::iter(messages), rest))
            }
        });
        let chunks = chunks.flatten().boxed();
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
        let fields = columns.iter().map(|column| column.pg_type.field(&column.name, true)).collect::<Vec<_>>();
        let spec = ExportSpec {
            path: path.to_string(),
            schema: Arc::new(arrow::datatypes::Schema::new(fields)),
            options: options.clone(),
            style: self.text_style(),
            allowed_paths: self.allowed_paths(),
        };
        let mut export = Export::create(spec)?;
        let mut rows = 0;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            rows += batch.num_rows() as u64;
            export.write(&batch)?;
        }
        export.finish()?;
        Ok(rows)
    }

    pub(super) fn allowed_paths(&self) -> AllowedPaths {
        AllowedPaths::new(self.engine.config().allowed_paths.clone())
    }

    pub(super) fn text_style(&self) -> TextStyle {
        let zone = Zone::find(&self.settings().time_zone()).unwrap_or(Zone::UTC);
        TextStyle { zone, now: self.statement_time() }
    }
}

fn too_much(error: &arrow::error::ArrowError) -> SqlError {
    SqlError::new(SqlState::OUT_OF_MEMORY, format!("the data is too much for one COPY: {error}"))
}

/// One CopyData message for each row, as clients expect it.
fn rows_of(out: CopyRows) -> Vec<Bytes> {
    let (all, mut start) = (Bytes::from(out.bytes), 0);
    let pieces = out.ends.into_iter().map(|end| {
        let piece = all.slice(start..end);
        start = end;
        piece
    });
    pieces.collect()
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
