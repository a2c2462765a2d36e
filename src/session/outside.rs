//! What binding and queries need of the world: connectors' columns, and files in FROM.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::catalog::{Column, RelationKind};
use crate::connectors::{self, AllowedPaths, Budget, SinkSpec, SourceSpec};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::sql::Outside;
use crate::zset::PgType;

/// Rows and bytes of a file that are read at once.
const PIECE: Budget = Budget { rows: 65_536, bytes: 16 << 20 };

/// The connectors and files that SQL may touch.
pub struct World {
    pub allowed_paths: AllowedPaths,
}

impl World {
    fn source(&self, name: &str, schema: SchemaRef, options: BTreeMap<String, String>) -> SourceSpec {
        let allowed_paths = self.allowed_paths.clone();
        SourceSpec { name: name.to_string(), schema, key: None, options, allowed_paths, from: None, until: None }
    }

    /// All rows of `SELECT * FROM '/path'`.
    pub async fn read_file(&self, path: &str) -> SqlResult<(SchemaRef, Vec<RecordBatch>)> {
        let schema = schema_of(&self.file_columns(path)?);
        let spec = self.source(path, schema.clone(), file_options(path));
        let mut source = connectors::find("file")?.open_source(&spec)?;
        let mut batches = Vec::new();
        loop {
            let polled = source.poll(PIECE).await.map_err(|failed| failed.error)?;
            batches.push(polled.rows);
            if polled.finished {
                return Ok((schema, batches));
            }
        }
    }
}

fn file_options(path: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("connector".to_string(), "file".to_string()), ("path".to_string(), path.to_string())])
}

fn schema_of(columns: &[Column]) -> SchemaRef {
    let fields = columns.iter().map(|column| column.pg_type.field(&column.name, column.nullable));
    Arc::new(Schema::new(fields.collect::<Vec<Field>>()))
}

fn column(found: connectors::InferredColumn) -> Column {
    Column { nullable: found.nullable, ..Column::new(found.name, found.pg_type) }
}

impl Outside for World {
    fn found(&self, options: &BTreeMap<String, String>) -> SqlResult<Vec<Column>> {
        let connector = connectors::find(options.get("connector").map_or("", String::as_str))?;
        let spec = self.source("source", Arc::new(Schema::empty()), options.clone());
        Ok(connector.infer(&spec)?.into_iter().map(column).collect())
    }

    fn connect(&self, kind: RelationKind, options: &BTreeMap<String, String>, columns: &[Column]) -> SqlResult<()> {
        let connector = connectors::find(options.get("connector").map_or("", String::as_str))?;
        if kind != RelationKind::Sink {
            return connector.open_source(&self.source("source", schema_of(columns), options.clone())).map(drop);
        }
        let spec = SinkSpec {
            name: "sink".to_string(),
            schema: schema_of(columns),
            options: options.clone(),
            allowed_paths: self.allowed_paths.clone(),
            append_only: true,
            key: Vec::new(),
            is_new: true,
        };
        connector.open_sink(&spec).map(drop)
    }

    fn included(&self, options: &BTreeMap<String, String>, part: &str) -> SqlResult<PgType> {
        let connector = connectors::find(options.get("connector").map_or("", String::as_str))?;
        let known = connector.metadata();
        // One header or several: both are said.
        let part = if part == "header" { "headers" } else { part };
        if let Some((_, pg_type)) = known.iter().find(|(name, _)| *name == part) {
            return Ok(pg_type.clone());
        }
        let message = format!("connector \"{}\" has no part \"{part}\" to include", connector.name());
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let hint = match names.is_empty() {
            true => "leave INCLUDE out".to_string(),
            false => format!("it has {}", names.join(", ")),
        };
        Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message).hint(hint))
    }

    fn settle_sink(&self, options: &mut BTreeMap<String, String>) {
        // What is wrong with the connector's name is told when it is connected to.
        if let Ok(connector) = connectors::find(options.get("connector").map_or("", String::as_str)) {
            connector.settle_sink(options);
        }
    }

    fn file_columns(&self, path: &str) -> SqlResult<Vec<Column>> {
        let spec = self.source(path, Arc::new(Schema::empty()), file_options(path));
        Ok(connectors::find("file")?.infer(&spec)?.into_iter().map(column).collect())
    }
}
