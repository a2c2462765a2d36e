//! The connector `kafka`: topics as sources, read by offsets of our own, and as sinks, written in transactions.

mod client;
mod decode;
mod settings;
mod sink;
mod source;

use std::collections::BTreeMap;

use super::format::infer_json;
use super::options::OptionDoc;
use super::registry::Connector;
use super::sink::{Sink, SinkSpec};
use super::source::{InferredColumn, Source, SourceSpec};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::zset::PgType;
use settings::{Encode, OPTIONS, SinkSettings, SourceSettings, TRANSACTIONAL_ID};
use sink::KafkaSink;
use source::KafkaSource;

/// The connector `kafka`.
pub struct Kafka;

impl Connector for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }
    fn aliases(&self) -> &'static [&'static str] {
        &["upsert-kafka"]
    }
    fn options(&self) -> &'static [OptionDoc] {
        OPTIONS
    }
    /// Topics are compacted, cut and deleted: what was read must not depend on what is left of it.
    fn replayable(&self) -> bool {
        false
    }
    fn metadata(&self) -> &'static [(&'static str, PgType)] {
        &[
            ("key", PgType::Bytea),
            ("partition", PgType::Int4),
            ("offset", PgType::Int8),
            ("timestamp", PgType::Timestamptz),
            ("headers", PgType::Jsonb),
        ]
    }
    fn infer(&self, spec: &SourceSpec) -> SqlResult<Vec<InferredColumn>> {
        let settings = SourceSettings::read(&spec.options)?;
        match settings.encode {
            Encode::Json => infer_json(&source::sample(&settings)?, true, settings.infer),
            Encode::Text => Ok(vec![value_column(PgType::Text)]),
            Encode::Bytes => Ok(vec![value_column(PgType::Bytea)]),
            Encode::Csv => {
                let message = format!("the fields of the messages of topic \"{}\" have no names", settings.link.topic);
                Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message)
                    .hint("write the columns out, for example (id BIGINT, name TEXT)"))
            }
        }
    }
    fn open_source(&self, spec: &SourceSpec) -> SqlResult<Box<dyn Source>> {
        Ok(Box::new(KafkaSource::open(spec)?))
    }
    fn open_sink(&self, spec: &SinkSpec) -> SqlResult<Box<dyn Sink>> {
        Ok(Box::new(KafkaSink::open(spec)?))
    }
    fn has_sink(&self) -> bool {
        true
    }
    /// A name under which the sink, and nobody else, writes its transactions for as long as it lives.
    fn settle_sink(&self, options: &mut BTreeMap<String, String>) {
        let is_set = options.keys().any(|name| name.eq_ignore_ascii_case(TRANSACTIONAL_ID));
        if !is_set && SinkSettings::read(options).is_ok_and(|settings| settings.transaction.is_some()) {
            options.insert(TRANSACTIONAL_ID.to_string(), format!("headwater-{}", uuid::Uuid::new_v4()));
        }
    }
}

fn value_column(pg_type: PgType) -> InferredColumn {
    InferredColumn { name: "data".to_string(), pg_type, nullable: true }
}
