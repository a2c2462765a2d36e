//! Messages → rows: a message is a row, the newest row of its key, or a change of a row.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use rdkafka::message::{BorrowedMessage, Headers, Message as _};

use super::settings::{Encode, Format, SourceSettings};
use crate::connectors::format::{BadLine, Cells, CsvLines, JsonLines, JsonMember, OnError, Target, json_members};
use crate::connectors::source::{ConnectorError, DeadLetter, Deletions, SourceSpec};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions::text::{Zone, write_bytea, write_timestamptz};

/// A longer message is kept in part as a dead letter.
const DEAD_LETTER_BYTES_MAX: usize = 1 << 16;

/// A place in a batch's text.
type Part = Range<usize>;

/// Messages that were read and not decoded yet.
#[derive(Default)]
pub struct Batch {
    /// Everything of the messages that is needed, one after another.
    text: String,
    messages: Vec<Message>,
    dead_letters: Vec<DeadLetter>,
    bytes: usize,
}

impl Batch {
    pub fn len(&self) -> usize {
        self.messages.len() + self.dead_letters.len()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn put(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Part {
        let mut bytes = Vec::new();
        write(&mut bytes);
        self.put_text(std::str::from_utf8(&bytes).expect("what is shown is ASCII"))
    }

    fn put_text(&mut self, text: &str) -> Part {
        let start = self.text.len();
        self.text.push_str(text);
        start..self.text.len()
    }
}

struct Message {
    partition: i32,
    offset: i64,
    value: Option<Part>,
    /// The key as text, where keys are read.
    key: Option<Part>,
    /// The parts that columns take, in their order.
    included: Vec<Option<Part>>,
}

/// What a batch held.
pub struct Decoded {
    pub rows: RecordBatch,
    pub deletions: Option<Deletions>,
    pub dead_letters: Vec<DeadLetter>,
}

/// Part of a message that a column takes.
#[derive(Clone, Copy, PartialEq)]
enum Included {
    Key,
    Partition,
    Offset,
    Timestamp,
    Headers,
}

const INCLUDED: &[(&str, Included)] = &[
    ("key", Included::Key),
    ("partition", Included::Partition),
    ("offset", Included::Offset),
    ("timestamp", Included::Timestamp),
    ("header", Included::Headers),
    ("headers", Included::Headers),
];

/// Reads messages as the options say.
pub struct Decoder {
    format: Format,
    encode: Encode,
    included: Vec<Included>,
    rows: Reader,
    /// For the keys of rows that go.
    keys: Option<Reader>,
}

/// Fills the columns of a schema.
struct Reader {
    target: Target,
    json: JsonLines,
    csv: CsvLines,
    /// The columns of the parts that are included.
    places: Vec<Option<usize>>,
    /// The columns of the value, in order.
    value: Vec<usize>,
}

impl Reader {
    fn new(settings: &SourceSettings, schema: Arc<Schema>, is_key: bool) -> Reader {
        let column = |name: &String| schema.index_of(name).ok();
        let places: Vec<Option<usize>> = settings.include.iter().map(|(_, name)| column(name)).collect();
        let value: Vec<usize> = (0..schema.fields().len()).filter(|column| !places.contains(&Some(*column))).collect();
        // A value that is malformed in a key cannot become NULL.
        let on_error = if is_key { OnError::DeadLetter } else { settings.on_error };
        let target = Target::new(schema, on_error);
        let csv = CsvLines::of_columns(settings.csv.clone(), &target, &value);
        Reader { json: JsonLines::new(&target), csv, target, places, value }
    }

    fn cells<'a>(&self, text: &'a str) -> Cells<'a> {
        Cells::new(text, self.target.width(), 0)
    }
}

impl Decoder {
    pub fn new(settings: &SourceSettings, spec: &SourceSpec) -> SqlResult<Decoder> {
        let mut included = Vec::new();
        for (part, column) in &settings.include {
            let known = INCLUDED.iter().find(|(name, _)| name.eq_ignore_ascii_case(part));
            let (_, found) = known.ok_or_else(|| unknown_part(part))?;
            included.push(*found);
            if spec.schema.index_of(column).is_err() {
                let message = format!("column \"{column}\" of INCLUDE {part} does not exist");
                return Err(SqlError::new(SqlState::UNDEFINED_COLUMN, message));
            }
        }
        let has_key = spec.key.as_ref().is_some_and(|key| !key.is_empty());
        if settings.format != Format::Plain && spec.key.is_some() && !has_key {
            let name = if settings.format == Format::Upsert { "UPSERT" } else { "DEBEZIUM" };
            let message = format!("FORMAT {name} needs a table with a primary key");
            return Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message)
                .hint("write CREATE TABLE with a PRIMARY KEY that the messages' keys have"));
        }
        let rows = Reader::new(settings, spec.schema.clone(), false);
        if matches!(settings.encode, Encode::Text | Encode::Bytes) && rows.value.len() != 1 {
            let message = "messages of the encoding text or bytes are read into exactly one column";
            return Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message));
        }
        let keys = spec.key.as_ref().filter(|key| settings.format != Format::Plain && !key.is_empty()).map(|key| {
            let fields: Vec<_> =
                key.iter().map(|column| spec.schema.field(*column).clone().with_nullable(false)).collect();
            Reader::new(settings, Arc::new(Schema::new(fields)), true)
        });
        Ok(Decoder { format: settings.format, encode: settings.encode, included, rows, keys })
    }

    /// Keeps what is needed of a message.
    pub fn take(&self, message: &BorrowedMessage<'_>, batch: &mut Batch) {
        batch.bytes += message.payload_len() + message.key_len();
        let value = match (message.payload(), self.encode) {
            (None, _) => None,
            (Some(bytes), Encode::Bytes) => Some(batch.put(|out| write_bytea(bytes, out))),
            (Some(bytes), _) => match std::str::from_utf8(bytes) {
                Ok(text) => Some(batch.put_text(text)),
                Err(_) => return batch.dead_letters.push(letter_of(message, bytes, "it is not UTF-8")),
            },
        };
        let key = match message.key().filter(|_| self.format == Format::Upsert) {
            None => None,
            Some(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Some(batch.put_text(text)),
                Err(_) => return batch.dead_letters.push(letter_of(message, bytes, "its key is not UTF-8")),
            },
        };
        let included = self.included.iter().map(|part| include(*part, message, batch)).collect();
        let (partition, offset) = (message.partition(), message.offset());
        batch.messages.push(Message { partition, offset, value, key, included });
    }

    pub fn decode(&mut self, batch: Batch, topic: &str) -> Result<Decoded, ConnectorError> {
        let mut rows = self.rows.cells(&batch.text);
        let mut keys = self.keys.as_ref().map(|keys| keys.cells(&batch.text));
        // The messages of the lines of both.
        let (mut row_of, mut key_of) = (Vec::new(), Vec::new());
        for (index, message) in batch.messages.iter().enumerate() {
            let change = match change(self.format, message, &batch.text) {
                Ok(change) => change,
                Err(reason) => Change::Bad(reason),
            };
            match (change, &mut keys, &mut self.keys) {
                (Change::Delete(key), Some(cells), Some(reader)) => {
                    key_of.push(index);
                    let whole = key.clone().or(message.value.clone()).unwrap_or(0..0);
                    cells.next_number = index as u64;
                    cells.line(whole.start, whole.end, 0);
                    if let Err(reason) = read_key(reader, cells, key, message) {
                        cells.fail(reason);
                    }
                }
                (change, _, _) => {
                    row_of.push(index);
                    let whole = message.value.clone().unwrap_or(0..0);
                    rows.next_number = index as u64;
                    rows.line(whole.start, whole.end, 0);
                    let read = match change {
                        Change::Row(part) => read_row(self.encode, &mut self.rows, &mut rows, part, message),
                        Change::Bad(reason) => Err(reason),
                        Change::Delete(_) => Err("it deletes a row, and its table has no primary key".to_string()),
                    };
                    if let Err(reason) = read {
                        rows.fail(reason);
                    }
                }
            }
        }
        let (rows, mut bad) = rows.into_rows(&self.rows.target)?;
        let kept_rows = without(row_of, &bad);
        let mut deletions = None;
        if let (Some(cells), Some(reader)) = (keys.filter(|_| !key_of.is_empty()), &self.keys) {
            let (keys, bad_keys) = cells.into_rows(&reader.target)?;
            let kept = without(key_of, &bad_keys);
            let rows_before = |key: &usize| kept_rows.partition_point(|row| row < key);
            let after_rows: Vec<usize> = kept.iter().map(rows_before).collect();
            deletions = (!after_rows.is_empty()).then_some(Deletions { keys, after_rows });
            bad.extend(bad_keys);
        }
        let dead_letters = self.dead_letters(bad, batch, topic)?;
        Ok(Decoded { rows, deletions, dead_letters })
    }

    fn dead_letters(&self, bad: Vec<BadLine>, batch: Batch, topic: &str) -> Result<Vec<DeadLetter>, ConnectorError> {
        let letter = |bad: BadLine| {
            let message = &batch.messages[bad.number as usize];
            let mut bytes = bad.bytes;
            bytes.truncate(DEAD_LETTER_BYTES_MAX);
            DeadLetter { place: place(topic, message.partition), offset: message.offset, bytes, reason: bad.reason }
        };
        let mut letters = batch.dead_letters;
        letters.extend(bad.into_iter().map(letter));
        match (self.rows.target.on_error, letters.first()) {
            (OnError::Skip, _) => Ok(Vec::new()),
            (OnError::Stop, Some(first)) => {
                let message =
                    format!("offset {} of \"{}\" cannot be read: {}", first.offset, first.place, first.reason);
                let error = SqlError::new(SqlState::BAD_COPY_FORMAT, message);
                Err(error.hint("set on_error = 'dead_letter' to go on without such messages").into())
            }
            _ => Ok(letters),
        }
    }
}

fn unknown_part(part: &str) -> SqlError {
    let message = format!("INCLUDE {part} is not known");
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
        .hint("a message has key, partition, offset, timestamp and headers")
}

fn place(topic: &str, partition: i32) -> String {
    format!("{topic}[{partition}]")
}

fn letter_of(message: &BorrowedMessage<'_>, bytes: &[u8], reason: &str) -> DeadLetter {
    DeadLetter {
        place: place(message.topic(), message.partition()),
        offset: message.offset(),
        bytes: bytes[..bytes.len().min(DEAD_LETTER_BYTES_MAX)].to_vec(),
        reason: reason.to_string(),
    }
}

fn include(part: Included, message: &BorrowedMessage<'_>, batch: &mut Batch) -> Option<Part> {
    match part {
        Included::Key => message.key().map(|key| batch.put(|out| write_bytea(key, out))),
        Included::Partition => Some(batch.put_text(&message.partition().to_string())),
        Included::Offset => Some(batch.put_text(&message.offset().to_string())),
        Included::Timestamp => {
            let millis = message.timestamp().to_millis()?;
            Some(batch.put(|out| write_timestamptz(millis.saturating_mul(1000), &Zone::UTC, out)))
        }
        Included::Headers => {
            let headers = message.headers()?;
            let pair = |header: rdkafka::message::Header<'_, &[u8]>| {
                let value = header.value.map(|value| String::from_utf8_lossy(value).into_owned());
                serde_json::json!({ "key": header.key, "value": value })
            };
            let list: Vec<serde_json::Value> = headers.iter().map(pair).collect();
            Some(batch.put_text(&serde_json::Value::Array(list).to_string()))
        }
    }
}

/// What a message says.
enum Change {
    Row(Option<Part>),
    /// The row of this key goes; `None` if the message has no key.
    Delete(Option<Part>),
    Bad(String),
}

fn change(format: Format, message: &Message, text: &str) -> Result<Change, String> {
    match (format, &message.value) {
        (Format::Plain, value) => Ok(Change::Row(value.clone())),
        (Format::Upsert, Some(value)) => Ok(Change::Row(Some(value.clone()))),
        (Format::Upsert, None) => Ok(Change::Delete(message.key.clone())),
        // What follows a deletion for the topic's compaction says nothing new: the key is given as gone already.
        (Format::Debezium, None) => Err("it has no value; set tombstones.on.delete = false in Debezium".to_string()),
        (Format::Debezium, Some(value)) => debezium(text, value.clone()),
    }
}

/// The change that an envelope holds, with or without its schema around it.
fn debezium(text: &str, part: Part) -> Result<Change, String> {
    let members = |part: &Part| {
        let members = json_members(&text[part.clone()]).map_err(|reason| format!("it is no JSON object: {reason}"))?;
        let moved = |member: JsonMember| (member.name, part.start + member.value.start..part.start + member.value.end);
        Ok::<Vec<(String, Part)>, String>(members.into_iter().map(moved).collect())
    };
    let named = |members: &[(String, Part)], name: &str| {
        let found = members.iter().find(|(known, _)| known == name).map(|(_, part)| part.clone());
        found.filter(|part| &text[part.clone()] != "null")
    };
    let mut envelope = members(&part)?;
    if let Some(payload) = named(&envelope, "payload") {
        envelope = members(&payload)?;
    }
    match (named(&envelope, "before"), named(&envelope, "after")) {
        (_, Some(after)) => Ok(Change::Row(Some(after))),
        (Some(before), None) => Ok(Change::Delete(Some(before))),
        (None, None) => Err("it has neither \"before\" nor \"after\"".to_string()),
    }
}

fn read_row(
    encode: Encode,
    reader: &mut Reader,
    cells: &mut Cells<'_>,
    value: Option<Part>,
    message: &Message,
) -> Result<(), String> {
    match (value, encode) {
        (None, Encode::Text | Encode::Bytes) => {}
        (None, _) => return Err("it has no value".to_string()),
        (Some(part), Encode::Json) => reader.json.line(cells, part.start, part.end)?,
        (Some(part), Encode::Csv) => reader.csv.line(cells, part.start, part.end)?,
        (Some(part), Encode::Text | Encode::Bytes) => cells.set(reader.value[0], part.start, part.end),
    }
    put_included(reader, cells, message);
    Ok(())
}

fn put_included(reader: &Reader, cells: &mut Cells<'_>, message: &Message) {
    for (place, part) in reader.places.iter().zip(&message.included) {
        match (place, part) {
            (Some(column), Some(part)) => cells.set(*column, part.start, part.end),
            (Some(column), None) => cells.set_null(*column),
            (None, _) => {}
        }
    }
}

/// A key is a JSON object with the key's columns, or the value of the only one.
fn read_key(reader: &mut Reader, cells: &mut Cells<'_>, key: Option<Part>, message: &Message) -> Result<(), String> {
    put_included(reader, cells, message);
    let Some(part) = key else {
        return if reader.value.is_empty() { Ok(()) } else { Err("it has neither key nor value".to_string()) };
    };
    let text = &cells.data[part.clone()];
    match reader.value.as_slice() {
        [] => Ok(()),
        _ if text.trim_start().starts_with('{') => {
            let read = reader.json.line(cells, part.start, part.end);
            put_included(reader, cells, message);
            read
        }
        [column] => {
            match serde_json::from_str(text) {
                Ok(serde_json::Value::String(plain)) => cells.set_text(*column, &plain),
                _ => cells.set(*column, part.start, part.end),
            }
            Ok(())
        }
        several => Err(format!("its key is one value where {} are expected", several.len())),
    }
}

/// The messages of lines that are not bad.
fn without(of: Vec<usize>, bad: &[BadLine]) -> Vec<usize> {
    let mut bad = bad.iter().map(|bad| bad.number as usize).peekable();
    of.into_iter().filter(|index| bad.next_if_eq(index).is_none()).collect()
}
