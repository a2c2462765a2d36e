//! The auction events of the Nexmark benchmark, by the generator that RisingWave and Arroyo use too.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Builder, RecordBatch, StringViewBuilder, TimestampMicrosecondBuilder};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;
use nexmark::event::{Auction, Bid, Event, EventType, Person};
use serde_json::json;

use super::generator::{Pace, counted};
use super::options::{OptionDoc, Options, Side, nearest};
use super::registry::Connector;
use super::source::{Budget, ConnectorError, InferredColumn, Polled, Source, SourceSpec};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::zset::PgType;

/// The three kinds of events, in every 50 of which there are 1, 3 and 46.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NexmarkKind {
    Person,
    Auction,
    Bid,
}

impl NexmarkKind {
    fn event_type(self) -> EventType {
        match self {
            NexmarkKind::Person => EventType::Person,
            NexmarkKind::Auction => EventType::Auction,
            NexmarkKind::Bid => EventType::Bid,
        }
    }

    /// How many of the first `events` events are of this kind.
    fn among(self, events: u64) -> u64 {
        let (rounds, rest) = (events / 50, events % 50);
        match self {
            NexmarkKind::Person => rounds + rest.min(1),
            NexmarkKind::Auction => rounds * 3 + rest.saturating_sub(1).min(3),
            NexmarkKind::Bid => rounds * 46 + rest.saturating_sub(4),
        }
    }

    /// The number, among all events, of this kind's event `index`.
    fn number(self, index: u64) -> u64 {
        match self {
            NexmarkKind::Person => index * 50,
            NexmarkKind::Auction => index / 3 * 50 + 1 + index % 3,
            NexmarkKind::Bid => index / 46 * 50 + 4 + index % 46,
        }
    }
}

/// 2015-07-15 00:00:00 UTC, where the original benchmark begins. Fixed, so that events repeat.
const BASE_TIME_MS: u64 = 1_436_918_400_000;
const GAP_NS: u64 = 100_000;

/// Where the events of one kind come from.
#[derive(Clone)]
struct Events {
    kind: NexmarkKind,
    generator: EventGenerator,
    base_ms: u64,
    gap_ns: u64,
}

impl Events {
    fn new(kind: NexmarkKind, from: u64, base_ms: u64, gap_ns: u64) -> Events {
        let rate = usize::try_from(1_000_000_000 / gap_ns.max(1)).unwrap_or(usize::MAX).max(1);
        let config =
            NexmarkConfig { base_time: base_ms, first_rate: rate, next_rate: rate, ..NexmarkConfig::default() };
        let generator = EventGenerator::new(config).with_type_filter(kind.event_type()).with_offset(from);
        Events { kind, generator, base_ms, gap_ns }
    }

    /// The next event and its time in microseconds, exact where the generator's own is rounded to 24 bits.
    fn next(&mut self) -> (Event, i64) {
        let number = self.kind.number(self.generator.offset());
        let event = self.generator.next().expect("the generator never ends");
        let micros = self.base_ms as i128 * 1_000 + i128::from(number) * i128::from(self.gap_ns) / 1_000;
        (event, i64::try_from(micros).unwrap_or(i64::MAX))
    }

    fn batch(&mut self, count: usize) -> RecordBatch {
        let columns = match self.kind {
            NexmarkKind::Person => self.persons(count),
            NexmarkKind::Auction => self.auctions(count),
            NexmarkKind::Bid => self.bids(count),
        };
        RecordBatch::try_new(schema(self.kind), columns).expect("the generator's own columns")
    }

    fn persons(&mut self, count: usize) -> Vec<ArrayRef> {
        let [mut id] = ints(count);
        let [mut name, mut email, mut card, mut city, mut state, mut extra] = texts(count);
        let mut time = TimestampMicrosecondBuilder::with_capacity(count);
        for _ in 0..count {
            let (
                Event::Person(Person {
                    id: i, name: n, email_address, credit_card, city: c, state: s, extra: x, ..
                }),
                at,
            ) = self.next()
            else {
                unreachable!("the generator is filtered to persons");
            };
            id.append_value(i as i64);
            name.append_value(n);
            email.append_value(email_address);
            card.append_value(credit_card);
            city.append_value(c);
            state.append_value(s);
            time.append_value(at);
            extra.append_value(x);
        }
        vec![
            Arc::new(id.finish()),
            Arc::new(name.finish()),
            Arc::new(email.finish()),
            Arc::new(card.finish()),
            Arc::new(city.finish()),
            Arc::new(state.finish()),
            Arc::new(time.finish()),
            Arc::new(extra.finish()),
        ]
    }

    fn auctions(&mut self, count: usize) -> Vec<ArrayRef> {
        let [mut id, mut initial, mut reserve, mut seller, mut category] = ints(count);
        let [mut item, mut description, mut extra] = texts(count);
        let mut time = TimestampMicrosecondBuilder::with_capacity(count);
        let mut expires = TimestampMicrosecondBuilder::with_capacity(count);
        for _ in 0..count {
            let (Event::Auction(auction), at) = self.next() else {
                unreachable!("the generator is filtered to auctions");
            };
            let Auction { item_name, description: text, extra: more, .. } = auction;
            id.append_value(auction.id as i64);
            item.append_value(item_name);
            description.append_value(text);
            initial.append_value(auction.initial_bid as i64);
            reserve.append_value(auction.reserve as i64);
            time.append_value(at);
            let open_for_ms = auction.expires.saturating_sub(auction.date_time);
            expires.append_value(at.saturating_add(i64::try_from(open_for_ms * 1_000).unwrap_or(i64::MAX)));
            seller.append_value(auction.seller as i64);
            category.append_value(auction.category as i64);
            extra.append_value(more);
        }
        vec![
            Arc::new(id.finish()),
            Arc::new(item.finish()),
            Arc::new(description.finish()),
            Arc::new(initial.finish()),
            Arc::new(reserve.finish()),
            Arc::new(time.finish()),
            Arc::new(expires.finish()),
            Arc::new(seller.finish()),
            Arc::new(category.finish()),
            Arc::new(extra.finish()),
        ]
    }

    fn bids(&mut self, count: usize) -> Vec<ArrayRef> {
        let [mut auction, mut bidder, mut price] = ints(count);
        let [mut channel, mut url, mut extra] = texts(count);
        let mut time = TimestampMicrosecondBuilder::with_capacity(count);
        for _ in 0..count {
            let (Event::Bid(bid), at) = self.next() else { unreachable!("the generator is filtered to bids") };
            let Bid { auction: lot, bidder: who, price: sum, channel: by, url: link, extra: more, .. } = bid;
            auction.append_value(lot as i64);
            bidder.append_value(who as i64);
            price.append_value(sum as i64);
            channel.append_value(by);
            url.append_value(link);
            time.append_value(at);
            extra.append_value(more);
        }
        vec![
            Arc::new(auction.finish()),
            Arc::new(bidder.finish()),
            Arc::new(price.finish()),
            Arc::new(channel.finish()),
            Arc::new(url.finish()),
            Arc::new(time.finish()),
            Arc::new(extra.finish()),
        ]
    }
}

fn ints<const N: usize>(count: usize) -> [Int64Builder; N] {
    std::array::from_fn(|_| Int64Builder::with_capacity(count))
}

fn texts<const N: usize>(count: usize) -> [StringViewBuilder; N] {
    std::array::from_fn(|_| StringViewBuilder::with_capacity(count))
}

/// `count` events of one kind from the `from`-th on, with all columns. For benches and demos.
pub fn nexmark_batch(kind: NexmarkKind, from: u64, count: usize) -> RecordBatch {
    Events::new(kind, from, BASE_TIME_MS, GAP_NS).batch(count)
}

/// The columns of one kind, by RisingWave's names.
pub fn nexmark_columns(kind: NexmarkKind) -> Vec<InferredColumn> {
    let columns = match kind {
        NexmarkKind::Person => {
            "id bigint;name varchar;email_address varchar;credit_card varchar;city varchar;state varchar;\
             date_time timestamp;extra varchar"
        }
        NexmarkKind::Auction => {
            "id bigint;item_name varchar;description varchar;initial_bid bigint;reserve bigint;date_time timestamp;\
             expires timestamp;seller bigint;category bigint;extra varchar"
        }
        NexmarkKind::Bid => {
            "auction bigint;bidder bigint;price bigint;channel varchar;url varchar;date_time timestamp;extra varchar"
        }
    };
    let column = |text: &str| {
        let (name, kind) = text.split_once(' ').expect("name and type");
        let pg_type = PgType::parse(kind).expect("a known type");
        InferredColumn { name: name.to_string(), pg_type, nullable: true }
    };
    columns.split(';').map(column).collect()
}

fn schema(kind: NexmarkKind) -> SchemaRef {
    let columns = nexmark_columns(kind);
    let fields = columns.iter().map(|column| column.pg_type.field(&column.name, column.nullable));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The connector `nexmark`.
pub struct Nexmark;

const TABLE: &str = "nexmark.table.type";
const EVENTS: &str = "nexmark.event.num";
const GAP: &str = "nexmark.min.event.gap.in.ns";
const RATE: &str = "nexmark.rate";
const BASE: &str = "nexmark.base.time.ms";
const SPLITS: &str = "nexmark.split.num";

static OPTIONS: &[OptionDoc] = &[
    OptionDoc::new(TABLE, "", "`Person`, `Auction` or `Bid`: which events are the rows").source(),
    OptionDoc::new(EVENTS, "", "the source ends after so many events, those of the other kinds counted; -1 is no end")
        .source(),
    OptionDoc::new(
        GAP,
        "100000",
        "nanoseconds between two events in `date_time`, and on the clock unless `nexmark.rate` is given",
    )
    .source(),
    OptionDoc::new(RATE, "", "events of all kinds released a second; 0 is as fast as the engine takes them").source(),
    OptionDoc::new(BASE, "1436918400000", "`date_time` of the first event, in milliseconds since 1970").source(),
    OptionDoc::new(SPLITS, "1", "accepted and without effect: rows and their order never depend on it").source(),
];

/// The options, read.
struct Settings {
    kind: NexmarkKind,
    events: u64,
    gap_ns: u64,
    rate: f64,
    base_ms: u64,
}

impl Settings {
    fn read(spec: &SourceSpec) -> SqlResult<Settings> {
        let options = Options::read("nexmark", OPTIONS, Side::Source, &spec.options)?;
        options.required(TABLE)?;
        let kinds = [("Person", NexmarkKind::Person), ("Auction", NexmarkKind::Auction), ("Bid", NexmarkKind::Bid)];
        let kind = options.choice(TABLE, &kinds)?.expect("the option is there");
        let gap_ns = options.number::<u64>(GAP, "a whole number of nanoseconds")?.unwrap_or(GAP_NS);
        let clock_rate = if gap_ns == 0 { 0.0 } else { 1e9 / gap_ns as f64 };
        let events = options.number::<i64>(EVENTS, "a whole number")?.unwrap_or(-1);
        Ok(Settings {
            kind,
            events: u64::try_from(events).unwrap_or(u64::MAX),
            gap_ns,
            rate: options.number(RATE, "a number of events")?.unwrap_or(clock_rate),
            base_ms: options.number(BASE, "a whole number of milliseconds")?.unwrap_or(BASE_TIME_MS),
        })
    }
}

impl Connector for Nexmark {
    fn name(&self) -> &'static str {
        "nexmark"
    }
    fn options(&self) -> &'static [OptionDoc] {
        OPTIONS
    }
    fn replayable(&self) -> bool {
        true
    }
    fn infer(&self, spec: &SourceSpec) -> SqlResult<Vec<InferredColumn>> {
        Ok(nexmark_columns(Settings::read(spec)?.kind))
    }
    fn open_source(&self, spec: &SourceSpec) -> SqlResult<Box<dyn Source>> {
        Ok(Box::new(NexmarkSource::open(spec)?))
    }
}

struct NexmarkSource {
    events: Events,
    schema: SchemaRef,
    /// For each column of the relation the generator's column.
    taken: Vec<usize>,
    position: u64,
    end: u64,
    pace: Pace,
}

impl NexmarkSource {
    fn open(spec: &SourceSpec) -> SqlResult<NexmarkSource> {
        let settings = Settings::read(spec)?;
        let kind = settings.kind;
        let taken = taken_columns(kind, &spec.schema)?;
        let position = counted(spec.from.as_ref(), "event")?.unwrap_or(0);
        let until = counted(spec.until.as_ref(), "event")?;
        let end = kind.among(settings.events).min(until.unwrap_or(u64::MAX));
        let rate = if until.is_some() { 0.0 } else { settings.rate };
        Ok(NexmarkSource {
            events: Events::new(kind, position, settings.base_ms, settings.gap_ns),
            schema: spec.schema.clone(),
            taken,
            position,
            end,
            pace: Pace::new(rate, kind.number(position)),
        })
    }
}

/// Finds each declared column among the generator's.
fn taken_columns(kind: NexmarkKind, declared: &SchemaRef) -> SqlResult<Vec<usize>> {
    let known = schema(kind);
    let names = || known.fields().iter().map(|field| field.name().as_str());
    let find = |name: &str| {
        known.index_of(name).map_err(|_| {
            let message = format!("nexmark has no column \"{name}\" in its table {kind:?}");
            let hint = match nearest(name, names()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("its columns are: {}", names().collect::<Vec<_>>().join(", ")),
            };
            SqlError::new(SqlState::UNDEFINED_COLUMN, message).hint(hint)
        })
    };
    let mut taken = Vec::new();
    for field in declared.fields() {
        let index = find(field.name())?;
        if !arrow::compute::can_cast_types(known.field(index).data_type(), field.data_type()) {
            let (has, wants) = (PgType::of(known.field(index)), PgType::of(field));
            let message = format!("column \"{}\" of nexmark is {has} and cannot become {wants}", field.name());
            return Err(SqlError::new(SqlState::DATATYPE_MISMATCH, message));
        }
        taken.push(index);
    }
    Ok(taken)
}

#[async_trait]
impl Source for NexmarkSource {
    async fn poll(&mut self, budget: Budget) -> Result<Polled, ConnectorError> {
        let due = self.events.kind.among(self.pace.due()).min(self.end).saturating_sub(self.position);
        let count = usize::try_from(due).unwrap_or(usize::MAX).min(budget.rows);
        let made = self.events.batch(count);
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let cast = |(index, field): (&usize, &Arc<arrow::datatypes::Field>)| {
            cast_with_options(made.column(*index), field.data_type(), &strict).map_err(|error| {
                let message = format!("column \"{}\" of nexmark does not fit its declared type: {error}", field.name());
                SqlError::new(SqlState::DATATYPE_MISMATCH, message)
            })
        };
        let columns = self.taken.iter().zip(self.schema.fields()).map(cast).collect::<SqlResult<Vec<ArrayRef>>>()?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(count));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|error| SqlError::internal(format!("nexmark made a wrong column: {error}")))?;
        self.position += count as u64;
        let finished = self.position >= self.end;
        let next = self.events.kind.number(self.position);
        Ok(Polled {
            bytes: rows.get_array_memory_size() as u64,
            wait: (count == 0 && !finished).then(|| self.pace.until(next)),
            finished,
            rows,
            deletions: None,
            dead_letters: Vec::new(),
            position: json!({ "event": self.position }),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use arrow::array::AsArray;
    use arrow::datatypes::{Int64Type, TimestampMicrosecondType};

    use super::super::paths::AllowedPaths;
    use super::*;

    const KINDS: [NexmarkKind; 3] = [NexmarkKind::Person, NexmarkKind::Auction, NexmarkKind::Bid];

    fn spec(kind: &str, options: &[(&str, &str)]) -> SourceSpec {
        let mut options: BTreeMap<String, String> =
            options.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        options.insert(TABLE.to_string(), kind.to_string());
        let mut spec = SourceSpec {
            name: "s".to_string(),
            key: None,
            schema: Arc::new(Schema::empty()),
            options,
            allowed_paths: AllowedPaths::default(),
            from: None,
            until: None,
        };
        let columns = Nexmark.infer(&spec).expect("known columns");
        spec.schema = Arc::new(Schema::new(
            columns.iter().map(|column| column.pg_type.field(&column.name, true)).collect::<Vec<_>>(),
        ));
        spec
    }

    #[test]
    fn kinds_are_counted_as_the_generator_counts() {
        for events in 0..160 {
            let total: u64 = KINDS.iter().map(|kind| kind.among(events)).sum();
            assert_eq!(total, events);
        }
        for kind in KINDS {
            for index in 0..200 {
                assert_eq!(kind.among(kind.number(index)), index);
                let generator = Events::new(kind, index, BASE_TIME_MS, GAP_NS).generator;
                assert_eq!(generator.global_offset(), kind.number(index));
            }
        }
    }

    #[test]
    fn events_repeat_from_any_position() {
        for kind in KINDS {
            let whole = nexmark_batch(kind, 0, 300);
            assert_eq!(nexmark_batch(kind, 120, 50), whole.slice(120, 50));
        }
        let bids = nexmark_batch(NexmarkKind::Bid, 0, 100);
        let times = bids.column(5).as_primitive::<TimestampMicrosecondType>();
        assert_eq!(times.value(0), 1_436_918_400_000_400, "the first bid is event 4");
        assert!(bids.column(0).as_primitive::<Int64Type>().values().iter().all(|auction| *auction >= 1000));
    }

    #[tokio::test]
    async fn a_source_ends_after_its_events_and_goes_on_from_a_position() {
        let spec = spec("bid", &[(EVENTS, "1000"), (RATE, "0")]);
        let mut source = Nexmark.open_source(&spec).expect("opens");
        let first = source.poll(Budget { rows: 600, bytes: 1 }).await.expect("polls");
        assert_eq!((first.rows.num_rows(), first.finished), (600, false));
        let again = SourceSpec { from: Some(first.position), ..spec };
        let mut source = Nexmark.open_source(&again).expect("opens");
        let second = source.poll(Budget { rows: 600, bytes: 1 }).await.expect("polls");
        assert_eq!((second.rows.num_rows(), second.finished), (320, true));
        assert_eq!(second.rows, nexmark_batch(NexmarkKind::Bid, 600, 320));
    }

    #[tokio::test]
    async fn declared_columns_are_found_by_name_and_cast() {
        let mut spec = spec("Auction", &[(EVENTS, "100"), (RATE, "0")]);
        let fields = [("category", "int"), ("date_time", "timestamptz"), ("reserve", "numeric(20,2)")];
        let field = |(name, kind): &(&str, &str)| PgType::parse(kind).expect("known").field(name, true);
        spec.schema = Arc::new(Schema::new(fields.iter().map(field).collect::<Vec<_>>()));
        let polled = Nexmark.open_source(&spec).expect("opens").poll(Budget { rows: 9, bytes: 1 }).await;
        let rows = polled.expect("polls").rows;
        assert_eq!((rows.num_rows(), rows.schema()), (6, spec.schema.clone()));
        spec.schema = Arc::new(Schema::new(vec![PgType::Int8.field("sellr", true)]));
        let error = Nexmark.open_source(&spec).err().expect("refused");
        assert_eq!(error.to_string(), "nexmark has no column \"sellr\" in its table Auction");
        assert_eq!(error.hint.as_deref(), Some("did you mean \"seller\"?"));
    }

    #[tokio::test]
    async fn events_are_released_at_their_rate() {
        let spec = spec("Person", &[(RATE, "1")]);
        let mut source = Nexmark.open_source(&spec).expect("opens");
        assert_eq!(source.poll(Budget { rows: 9, bytes: 1 }).await.expect("polls").rows.num_rows(), 1);
        let later = source.poll(Budget { rows: 9, bytes: 1 }).await.expect("polls");
        assert!(later.is_empty() && later.wait.expect("it knows when") > Duration::from_secs(20));
    }
}
