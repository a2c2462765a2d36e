//! The options of the connector `kafka`, read and checked.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::connectors::format::{CsvStyle, OnError};
use crate::connectors::keyed_changes::SinkType;
use crate::connectors::options::{OptionDoc, Options, Side};
use crate::error::{SqlError, SqlResult, SqlState};

const TOPIC: &str = "topic";
const SERVERS: &str = "properties.bootstrap.server";
const PROPERTY: &str = "properties.<property>";
const STARTUP: &str = "scan.startup.mode";
const STARTUP_MILLIS: &str = "scan.startup.timestamp.millis";
const STARTUP_OFFSETS: &str = "scan.startup.offsets";
const DISCOVERY: &str = "partition.discovery.interval";
const FORMAT: &str = "format";
const ENCODE: &str = "encode";
const DELIMITER: &str = "delimiter";
const NULL: &str = "null";
const ON_ERROR: &str = "on_error";
const INCLUDE: &str = "include.<part>";
const INFER: &str = "infer";
const TYPE: &str = "type";
const KEY: &str = "primary_key";
const FORCE: &str = "force_append_only";
const DELIVERY: &str = "delivery";
const COMMIT: &str = "commit.interval";
pub const TRANSACTIONAL_ID: &str = "transactional.id";
const PROGRESS: &str = "progress.topic";

pub static OPTIONS: &[OptionDoc] = &[
    OptionDoc::new(TOPIC, "", "the topic"),
    OptionDoc::new(SERVERS, "", "brokers to begin with, `host:port`, separated by commas")
        .alias(&["properties.bootstrap.servers", "bootstrap.servers"]),
    OptionDoc::new(PROPERTY, "", "any setting of librdkafka, such as `properties.sasl.username`"),
    OptionDoc::new(FORMAT, "plain", "source: `plain`, `upsert` or `debezium`; sink: `plain` or `upsert`"),
    OptionDoc::new(ENCODE, "json", "source: `json`, `csv`, `text` or `bytes`; sink: `json`"),
    OptionDoc::new(STARTUP, "earliest", "where a new source begins: `earliest`, `latest`, `timestamp` or `offsets`").source(),
    OptionDoc::new(STARTUP_MILLIS, "", "for `timestamp`: milliseconds since 1970").alias(&["scan.startup.timestamp-millis"]).source(),
    OptionDoc::new(STARTUP_OFFSETS, "", "for `offsets`: `partition:offset` pairs separated by commas; other partitions begin at the earliest")
        .alias(&["scan.startup.specific-offsets"])
        .source(),
    OptionDoc::new(DISCOVERY, "5 seconds", "how often new partitions are looked for").source(),
    OptionDoc::new(DELIMITER, ",", "CSV: the character between fields").source(),
    OptionDoc::new(NULL, "", "CSV: unquoted texts that mean NULL, separated by commas").source(),
    OptionDoc::new(ON_ERROR, "dead_letter", "what a malformed message does: `dead_letter` keeps it, `skip` drops it, `null` puts NULL where a value is malformed, `stop` stops the source")
        .source(),
    OptionDoc::new(INCLUDE, "", "the column that takes the message's `key`, `partition`, `offset`, `timestamp` or `headers`; INCLUDE writes it")
        .source(),
    OptionDoc::new(INFER, "100", "messages looked at to find the columns of `(*)`").source(),
    OptionDoc::new(TYPE, "", "`append-only` sends rows; `upsert` the newest row of each key, and a message without value for its deletion")
        .sink(),
    OptionDoc::new(KEY, "", "the columns of the messages' keys, separated by commas").sink(),
    OptionDoc::new(FORCE, "false", "`append-only` leaves deletions out instead of refusing input that has them").sink(),
    OptionDoc::new(DELIVERY, "exactly_once", "`exactly_once` by transactions, for consumers that read committed messages only; `at_least_once`")
        .alias(&["sink.delivery-guarantee"])
        .sink(),
    OptionDoc::new(COMMIT, "200 milliseconds", "how long messages wait at most for those after them").sink(),
    OptionDoc::new(TRANSACTIONAL_ID, "", "the name of the sink's transactions; made up when the sink is created").sink(),
    OptionDoc::new(PROGRESS, "headwater_progress", "the topic that tells how far each sink has come; made when missing").sink(),
];

/// A topic and how to reach it.
#[derive(Debug, Clone)]
pub struct Link {
    pub topic: String,
    pub servers: String,
    pub properties: Vec<(String, String)>,
}

impl Link {
    fn read(options: &Options) -> SqlResult<Link> {
        let properties = options.open(PROPERTY).map(|(name, value)| (name.to_string(), value.to_string()));
        Ok(Link {
            topic: options.required(TOPIC)?.to_string(),
            servers: options.required(SERVERS)?.to_string(),
            properties: properties.collect(),
        })
    }
}

/// What the messages of a topic mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Plain,
    Upsert,
    Debezium,
}

/// How the bytes of a message are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encode {
    Json,
    Csv,
    Text,
    Bytes,
}

/// Where a new source begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Startup {
    Earliest,
    Latest,
    Millis(i64),
    Offsets(BTreeMap<i32, i64>),
}

#[derive(Debug, Clone)]
pub struct SourceSettings {
    pub link: Link,
    pub format: Format,
    pub encode: Encode,
    pub csv: CsvStyle,
    pub startup: Startup,
    pub discovery: Duration,
    pub on_error: OnError,
    /// Parts of the message and the columns that take them.
    pub include: Vec<(String, String)>,
    pub infer: usize,
}

impl SourceSettings {
    pub fn read(given: &BTreeMap<String, String>) -> SqlResult<SourceSettings> {
        let options = Options::read("kafka", OPTIONS, Side::Source, given)?;
        let formats = [("plain", Format::Plain), ("upsert", Format::Upsert), ("debezium", Format::Debezium)];
        let encodes = [("json", Encode::Json), ("csv", Encode::Csv), ("text", Encode::Text), ("bytes", Encode::Bytes)];
        let mut csv = CsvStyle { header: false, ..CsvStyle::default() };
        csv.delimiter = options.character(DELIMITER)?.unwrap_or(csv.delimiter);
        if let Some(nulls) = options.text(NULL) {
            csv.nulls = nulls.split(',').map(|null| null.trim().to_string()).collect();
        }
        let settings = SourceSettings {
            link: Link::read(&options)?,
            format: options.choice(FORMAT, &formats)?.unwrap_or(Format::Plain),
            encode: options.choice(ENCODE, &encodes)?.unwrap_or(Encode::Json),
            csv,
            startup: startup(&options)?,
            discovery: options.duration(DISCOVERY)?.unwrap_or(Duration::from_secs(5)),
            on_error: options.choice(ON_ERROR, OnError::CHOICES)?.unwrap_or(OnError::DeadLetter),
            include: options.open(INCLUDE).map(|(part, column)| (part.to_string(), column.to_string())).collect(),
            infer: options.rows(INFER)?.unwrap_or(100),
        };
        if settings.format == Format::Debezium && settings.encode != Encode::Json {
            let message = "change events in the format debezium are read as JSON only";
            return Err(SqlError::unsupported(message, "write FORMAT DEBEZIUM ENCODE JSON"));
        }
        Ok(settings)
    }
}

fn startup(options: &Options) -> SqlResult<Startup> {
    let modes = [
        ("earliest", 'e'),
        ("latest", 'l'),
        ("timestamp", 't'),
        ("offsets", 'o'),
        ("earliest-offset", 'e'),
        ("latest-offset", 'l'),
        ("specific-offsets", 'o'),
    ];
    match options.choice(STARTUP, &modes)? {
        Some('l') => Ok(Startup::Latest),
        Some('t') => {
            let millis = options.required(STARTUP_MILLIS)?.trim().parse();
            millis.map(Startup::Millis).map_err(|_| options.bad_value(STARTUP_MILLIS, "", "milliseconds since 1970"))
        }
        Some('o') => {
            let offsets = offsets(options.required(STARTUP_OFFSETS)?);
            let expected = "pairs of a partition and an offset, such as 0:42,1:300";
            offsets.map(Startup::Offsets).ok_or_else(|| options.bad_value(STARTUP_OFFSETS, "", expected))
        }
        _ => Ok(Startup::Earliest),
    }
}

/// `0:42,1:300`, or `partition:0,offset:42;partition:1,offset:300` as Flink writes it.
fn offsets(text: &str) -> Option<BTreeMap<i32, i64>> {
    let flink = text.contains("partition:");
    let text =
        if flink { text.replace("partition:", "").replace(",offset:", ":").replace(';', ",") } else { text.into() };
    let pair = |pair: &str| {
        let (partition, offset) = pair.split_once(':')?;
        Some((partition.trim().parse().ok()?, offset.trim().parse::<i64>().ok().filter(|offset| *offset >= 0)?))
    };
    text.split(',').map(str::trim).filter(|text| !text.is_empty()).map(pair).collect()
}

#[derive(Debug, Clone)]
pub struct SinkSettings {
    pub link: Link,
    pub sink_type: Option<SinkType>,
    pub key: Vec<String>,
    pub force_append_only: bool,
    pub commit: Duration,
    /// Where messages are sent exactly once.
    pub transaction: Option<Transaction>,
}

#[derive(Debug, Clone)]
pub struct Transaction {
    /// Empty before the sink is made.
    pub id: String,
    pub progress: String,
}

impl SinkSettings {
    pub fn read(given: &BTreeMap<String, String>) -> SqlResult<SinkSettings> {
        let options = Options::read("kafka", OPTIONS, Side::Sink, given)?;
        let formats = [("plain", None), ("upsert", Some(SinkType::Upsert))];
        let types = [("append-only", SinkType::AppendOnly), ("upsert", SinkType::Upsert)];
        let deliveries =
            [("exactly_once", true), ("at_least_once", false), ("exactly-once", true), ("at-least-once", false)];
        options.choice(ENCODE, &[("json", ())])?;
        let by_format = options.choice(FORMAT, &formats)?.flatten();
        let by_type = options.choice(TYPE, &types)?;
        if by_format == Some(SinkType::Upsert) && by_type == Some(SinkType::AppendOnly) {
            let message = "a sink cannot be of the format upsert and of the type append-only";
            return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message).hint("write FORMAT PLAIN"));
        }
        let exactly_once = options.choice(DELIVERY, &deliveries)?.unwrap_or(true);
        Ok(SinkSettings {
            link: Link::read(&options)?,
            sink_type: by_type.or(by_format),
            key: options.names(KEY),
            force_append_only: options.flag(FORCE)?.unwrap_or(false),
            commit: options.duration(COMMIT)?.unwrap_or(Duration::from_millis(200)),
            transaction: exactly_once.then(|| Transaction {
                id: options.text(TRANSACTIONAL_ID).unwrap_or_default().to_string(),
                progress: options.text(PROGRESS).unwrap_or("headwater_progress").to_string(),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(options: &[(&str, &str)]) -> BTreeMap<String, String> {
        let always = [("topic", "t"), ("properties.bootstrap.servers", "h:1")];
        always.iter().chain(options).map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn offsets_are_read_in_both_spellings() {
        let expected = BTreeMap::from([(0, 42), (1, 300)]);
        assert_eq!(offsets("0:42, 1:300"), Some(expected.clone()));
        assert_eq!(offsets("partition:0,offset:42;partition:1,offset:300"), Some(expected));
        assert_eq!(offsets("0:-1"), None);
        assert_eq!(offsets("0"), None);
    }

    #[test]
    fn properties_go_through_and_the_rest_is_known() {
        let settings = SourceSettings::read(&given(&[("properties.sasl.username", "u")])).expect("reads");
        assert_eq!(settings.link.servers, "h:1");
        assert_eq!(settings.link.properties, [("sasl.username".to_string(), "u".to_string())]);
        let error = SourceSettings::read(&given(&[("scan.startup.mod", "latest")])).expect_err("refused");
        assert_eq!(error.hint.as_deref(), Some("did you mean \"scan.startup.mode\"?"));
        let error = SourceSettings::read(&given(&[("scan.startup.mode", "offsets")])).expect_err("refused");
        assert_eq!(error.to_string(), "connector \"kafka\" needs the option \"scan.startup.offsets\"");
    }
}
