//! Sources of files: everything is read once, in order, from any position; what is malformed stops nothing.

use std::io::Write;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use flate2::write::GzEncoder;

use super::*;
use crate::connectors::registry::find;
use crate::connectors::{Connector, Export, ExportSpec};
use crate::zset::{PgType, Rows, pretty_rows};

const ALL: Budget = Budget { rows: 1_000_000, bytes: 1 << 30 };

/// A directory, and the source that reads files in it.
struct Case {
    dir: tempfile::TempDir,
    spec: SourceSpec,
}

fn schema(columns: &str) -> SchemaRef {
    let field = |column: &str| {
        let (name, kind) = column.trim().split_once(' ').expect("name TYPE");
        let (kind, required) = kind.strip_suffix(" not null").map_or((kind, false), |kind| (kind, true));
        PgType::parse(kind).expect("known").field(name, !required)
    };
    Arc::new(Schema::new(columns.split(';').map(field).collect::<Vec<_>>()))
}

impl Case {
    fn new(columns: &str, pattern: &str, options: &[(&str, &str)]) -> Case {
        let dir = tempfile::tempdir().expect("a directory");
        let mut given: BTreeMap<String, String> =
            options.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        given.insert("path".to_string(), dir.path().join(pattern).to_string_lossy().into_owned());
        let spec = SourceSpec {
            name: "s".to_string(),
            key: None,
            schema: schema(columns),
            options: given,
            allowed_paths: AllowedPaths::new([dir.path().to_path_buf()]),
            from: None,
            until: None,
        };
        Case { dir, spec }
    }
    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.dir.path().join(name), bytes).expect("writes");
    }
    fn append(&self, name: &str, bytes: &str) {
        let mut file = fs::OpenOptions::new().append(true).open(self.dir.path().join(name)).expect("opens");
        file.write_all(bytes.as_bytes()).expect("appends");
    }
    fn open(&self) -> Box<dyn Source> {
        self.connector().open_source(&self.spec).expect("opens")
    }
    fn connector(&self) -> &'static dyn Connector {
        find("file").expect("there is one")
    }
    fn refused(&self) -> String {
        let error = self.connector().open_source(&self.spec).err().expect("refused");
        let text = format!("{:?} {error}; {}", error.code, error.hint.clone().unwrap_or_default());
        text.replace(&*self.dir.path().to_string_lossy(), "DIR")
    }
    /// What one poll finds: its rows as text, then its dead letters.
    async fn poll(&self, source: &mut Box<dyn Source>) -> String {
        self.show(&source.poll(ALL).await.expect("polls"))
    }
    fn show(&self, polled: &Polled) -> String {
        let mut lines = vec![pretty_rows(&Rows::inserts(polled.rows.clone()))];
        lines.extend(polled.dead_letters.iter().map(|letter| {
            let place = Path::new(&letter.place).file_name().expect("a name").to_string_lossy().into_owned();
            let reason = letter.reason.replace(&*self.dir.path().to_string_lossy(), "DIR");
            format!("{place}:{} {:?}: {reason}", letter.offset, String::from_utf8_lossy(&letter.bytes))
        }));
        lines.retain(|line| !line.is_empty());
        lines.join("\n")
    }
    async fn read_all(&self) -> String {
        let mut source = self.open();
        let polled = source.poll(ALL).await.expect("polls");
        assert!(polled.finished);
        self.show(&polled)
    }
}

#[tokio::test]
async fn files_are_read_in_order_and_from_any_position() {
    let mut case = Case::new("a int", "*.csv", &[]);
    case.write("1.csv", "a\r\n1\r\n2\r\n");
    case.write("2.csv", "\u{feff}b,a\nx,3\ny,4");
    case.write("3.csv", "");
    let whole = case.open().poll(ALL).await.expect("polls");
    assert_eq!(case.show(&whole), "+1 | 1\n+1 | 2\n+1 | 3\n+1 | 4");
    let mut source = case.open();
    let mut positions = Vec::new();
    loop {
        let polled = source.poll(Budget { rows: 1, bytes: 1 << 20 }).await.expect("polls");
        positions.push(polled.position.clone());
        if polled.finished {
            break;
        }
        assert_eq!(polled.rows.num_rows(), 1);
    }
    for (read, position) in positions.iter().enumerate().take(4) {
        case.spec.from = Some(position.clone());
        let rest = case.open().poll(ALL).await.expect("polls").rows;
        assert_eq!(rest, whole.rows.slice(read + 1, 3 - read), "after {position}");
        let until = SourceSpec { from: None, until: Some(position.clone()), ..case.spec.clone() };
        let begin = case.connector().open_source(&until).expect("opens").poll(ALL).await.expect("polls");
        assert_eq!((begin.rows, begin.finished), (whole.rows.slice(0, read + 1), true), "until {position}");
        assert_eq!(&begin.position, position, "reading again ends exactly where it should");
        case.spec.from = None;
    }
}

#[tokio::test]
async fn what_was_followed_is_read_again_up_to_a_position_whatever_came_since() {
    let mut case = Case::new("a int", "*.jsonl", &[("mode", "tail")]);
    let mut source = case.open();
    case.write("a.jsonl", "{\"a\":1}\n{\"a\":2}\n{\"a\":");
    case.write("b.jsonl", "no json\n{\"a\":3}\n");
    case.write("c.jsonl", "");
    let first = source.poll(ALL).await.expect("polls");
    case.append("a.jsonl", "4}\n");
    let second = source.poll(ALL).await.expect("polls");
    fs::rename(case.dir.path().join("b.jsonl"), case.dir.path().join("z.jsonl")).expect("renames");
    case.append("z.jsonl", "{\"a\":5}\n");
    case.write("d.jsonl", "{\"a\":6}\n");
    case.spec.until = Some(first.position.clone());
    let again = case.open().poll(ALL).await.expect("polls");
    assert_eq!(case.show(&again).lines().take(3).collect::<Vec<_>>(), ["+1 | 1", "+1 | 2", "+1 | 3"]);
    assert_eq!((again.finished, again.position, again.dead_letters.len()), (true, first.position.clone(), 1));
    case.spec.from = Some(first.position);
    case.spec.until = Some(second.position.clone());
    let again = case.open().poll(ALL).await.expect("polls");
    assert_eq!((case.show(&again), again.finished), ("+1 | 4".to_string(), true));
    assert_eq!(again.position, second.position);
    case.spec.from = None;
    case.write("a.jsonl", "");
    let lost = case.open().poll(ALL).await.expect("polls");
    assert!(lost.finished && lost.position != second.position, "a file that was cut cannot be read again");
}

#[tokio::test]
async fn malformed_lines_become_dead_letters_or_what_was_asked_for() {
    let mut case = Case::new("a int;b text not null", "f.csv", &[]);
    case.write("f.csv", b"a,b\n1,x\noops,y\n2\n3,\n4,caf\xe9\n5,\"z\n".as_slice());
    let expected = "+1 | 1 | x\n\
                    f.csv:3 \"oops,y\": column \"a\": invalid input syntax for type integer: \"oops\"\n\
                    f.csv:4 \"2\": 1 fields where 2 are expected\n\
                    f.csv:5 \"3,\": column \"b\" is NOT NULL, but there is no value\n\
                    f.csv:6 \"4,caf\u{fffd}\": the line is not valid UTF-8\n\
                    f.csv:7 \"5,\\\"z\": a quoted field is not closed";
    assert_eq!(case.read_all().await, expected);
    case.spec.options.insert("on_error".to_string(), "skip".to_string());
    assert_eq!(case.read_all().await, "+1 | 1 | x");
    case.spec.options.insert("on_error".to_string(), "null".to_string());
    assert!(case.read_all().await.starts_with("+1 | 1 | x\n+1 | NULL | y\nf.csv:4 "));
    case.spec.options.insert("on_error".to_string(), "stop".to_string());
    let error = case.open().poll(ALL).await.expect_err("stops").error.to_string();
    assert!(error.starts_with("line 3 of ") && error.contains("cannot be read: column \"a\": invalid"), "{error}");
}

#[tokio::test]
async fn a_tail_follows_appended_lines_new_and_rotated_files() {
    let case = Case::new("a int", "*.jsonl", &[("mode", "tail")]);
    let mut source = case.open();
    assert_eq!(case.poll(&mut source).await, "", "no file yet");
    case.write("a.jsonl", "{\"a\":1}\n{\"a\":");
    assert_eq!(case.poll(&mut source).await, "+1 | 1", "only complete lines");
    assert_eq!(case.poll(&mut source).await, "");
    case.append("a.jsonl", "2}\n");
    case.write("b.jsonl", "{\"a\":3}\n");
    assert_eq!(case.poll(&mut source).await, "+1 | 2\n+1 | 3");
    fs::rename(case.dir.path().join("a.jsonl"), case.dir.path().join("a.1.jsonl")).expect("renames");
    case.append("a.1.jsonl", "{\"a\":4}\n");
    case.write("a.jsonl", "{\"a\":5}\n");
    assert_eq!(case.poll(&mut source).await, "+1 | 4\n+1 | 5", "a rotated file is gone on with, not read again");
    fs::rename(case.dir.path().join("a.jsonl"), case.dir.path().join("a.2.jsonl")).expect("renames");
    fs::rename(case.dir.path().join("a.1.jsonl"), case.dir.path().join("a.jsonl")).expect("renames");
    fs::rename(case.dir.path().join("a.2.jsonl"), case.dir.path().join("a.3.jsonl")).expect("renames");
    assert_eq!(case.poll(&mut source).await, "", "names that are passed on bring nothing new");
    fs::rename(case.dir.path().join("a.jsonl"), case.dir.path().join("c.jsonl")).expect("renames");
    case.write("a.jsonl", "{\"a\":8}\n");
    assert_eq!(case.poll(&mut source).await, "+1 | 8", "also when the old name is looked at first");
    case.write("b.jsonl", "{}\n");
    assert_eq!(case.poll(&mut source).await, "+1 | NULL", "a file that was cut begins anew");
    case.write("b.jsonl", "{\"a\":6}\n{\"a\":7}\n");
    assert_eq!(case.poll(&mut source).await, "+1 | 6\n+1 | 7", "so does one that was written anew and is longer");
    let polled = source.poll(ALL).await.expect("polls");
    assert!(polled.is_empty() && !polled.finished);
}

#[tokio::test]
async fn a_tail_waits_for_a_whole_header() {
    let case = Case::new("a int", "*.csv", &[("mode", "tail")]);
    case.write("a.csv", "b,");
    let mut source = case.open();
    assert_eq!(case.poll(&mut source).await, "");
    case.append("a.csv", "a\n1,2\n3,");
    assert_eq!(case.poll(&mut source).await, "+1 | 2");
    case.append("a.csv", "4\n");
    assert_eq!(case.poll(&mut source).await, "+1 | 4");
}

fn packed(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).expect("packs");
    encoder.finish().expect("packs")
}

#[tokio::test]
async fn packed_files_read_like_plain_ones() {
    let mut case = Case::new("a int;b text", "*.gz", &[("encode", "csv")]);
    let text: String = std::iter::once("a,b\n".to_string())
        .chain((0..40_000).map(|n| format!("{n},{}\n", "x".repeat(n % 50))))
        .collect();
    case.write("a.gz", packed(&text));
    let whole = case.open().poll(ALL).await.expect("polls");
    assert_eq!((whole.rows.num_rows(), whole.finished), (40_000, true));
    let first = case.open().poll(Budget { rows: 12_345, bytes: 1 << 30 }).await.expect("polls");
    case.spec.from = Some(first.position);
    let rest = case.open().poll(ALL).await.expect("polls");
    assert_eq!(rest.rows, whole.rows.slice(12_345, 40_000 - 12_345));
    case.spec.from = None;
    let cut = packed(&text);
    case.write("a.gz", &cut[..cut.len() / 2]);
    let broken = case.open().poll(ALL).await.expect("polls");
    assert!(broken.rows.num_rows() > 10_000 && broken.finished, "what could be unpacked is there");
    assert_eq!(broken.rows, whole.rows.slice(0, broken.rows.num_rows()));
    assert!(broken.dead_letters[0].reason.contains("cannot read"), "{:?}", broken.dead_letters);
}

#[tokio::test]
async fn an_endless_line_is_given_up() {
    let case = Case::new("a int", "f.jsonl", &[]);
    case.write("f.jsonl", format!("{{\"a\":1}}\n{}\n{{\"a\":2}}\n", "x".repeat(20 << 20)));
    let polled = case.open().poll(ALL).await.expect("polls");
    assert_eq!(polled.rows.num_rows(), 2);
    assert_eq!(polled.dead_letters[0].offset, 2);
    assert_eq!(polled.dead_letters[0].bytes.len(), 1 << 16);
    assert_eq!(polled.dead_letters[0].reason, "the line is longer than 16 MiB");
}

#[tokio::test]
async fn what_cannot_work_is_refused_when_the_source_is_made() {
    let case = Case::new("a int", "none.csv", &[]);
    assert_eq!(case.refused(), "58P01 file \"DIR/none.csv\" does not exist; ");
    let case = Case::new("a int", "*.csv", &[]);
    assert_eq!(case.refused(), "58P01 no file matches \"DIR/*.csv\"; ");
    case.write("f.csv", "b,c\n1,2\n");
    assert!(
        case.refused().starts_with("42703 column \"a\" is not in the header of the CSV file; "),
        "{}",
        case.refused()
    );
    let mut case = Case::new("a int", "../x.csv", &[]);
    assert!(case.refused().starts_with("42501 access to \"DIR/../x.csv\" is not allowed; "), "{}", case.refused());
    case.spec.options.insert("moed".to_string(), "tail".to_string());
    assert_eq!(case.refused(), "22023 connector \"file\" has no option \"moed\"; did you mean \"mode\"?");
    let case = Case::new("a int", "f.parquet", &[]);
    case.write("f.parquet", "no parquet");
    assert!(
        case.refused().starts_with("XX001 file \"DIR/f.parquet\" is no sound parquet file: "),
        "{}",
        case.refused()
    );
}

#[tokio::test]
async fn a_later_file_with_another_header_is_one_dead_letter() {
    let case = Case::new("a int", "*.csv", &[]);
    case.write("1.csv", "a\n1\n");
    case.write("2.csv", "b\n2\n");
    case.write("3.csv", "a\n3\n");
    let read = case.read_all().await;
    assert!(read.starts_with("+1 | 1\n+1 | 3\n2.csv:1 \"\": column \"a\" is not in the header"), "{read}");
}

#[tokio::test]
async fn rows_come_back_from_every_format_as_they_were_written() {
    let columns = "a int;b text;c double precision;d boolean;e timestamptz;f date;g uuid;h numeric(10,2);i interval;\
                   j jsonb;k bytea;l int[];m time;n real;o smallint;p varchar(3);q timestamp;r bigint;s numeric;t text[]";
    let options = [("datagen.rows", "500"), ("datagen.rows.per.second", "0"), ("fields.b.length", "20")];
    let mut options: BTreeMap<String, String> =
        options.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    for column in "abcdefghijklmnopqrst".chars() {
        options.insert(format!("fields.{column}.null_ratio"), "0.1".to_string());
    }
    let schema = schema(columns);
    let allowed_paths = AllowedPaths::default();
    let made = SourceSpec {
        name: "g".into(),
        schema: schema.clone(),
        key: None,
        options,
        allowed_paths,
        from: None,
        until: None,
    };
    let rows = find("datagen").expect("known").open_source(&made).expect("opens").poll(ALL).await.expect("makes").rows;
    for name in ["f.csv", "f.tsv", "f.csv.gz", "f.jsonl", "f.json.gz", "f.parquet"] {
        let case = Case::new(columns, name, &[]);
        let spec = ExportSpec {
            path: case.dir.path().join(name),
            schema: schema.clone(),
            options: BTreeMap::new(),
            allowed_paths: case.spec.allowed_paths.clone(),
        };
        let mut export = Export::create(&spec).expect("creates");
        export.write(&rows.slice(0, 200)).expect("writes");
        export.write(&rows.slice(200, 300)).expect("writes");
        assert_eq!(export.finish().expect("finishes"), 500);
        let mut source = case.open();
        let read = source.poll(ALL).await.expect("polls");
        assert_eq!(read.dead_letters, [], "{name}");
        assert!(read.finished);
        for (index, field) in schema.fields().iter().enumerate() {
            assert_eq!(read.rows.column(index), rows.column(index), "{name}, column {}", field.name());
        }
    }
}

#[tokio::test]
async fn parquet_rows_that_do_not_fit_are_dead_letters_and_reading_goes_on_from_any_row() {
    let mut case = Case::new("A smallint;b int;missing text", "f.parquet", &[]);
    let wide = schema("a bigint;b text;c bigint");
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(arrow::array::Int64Array::from(vec![1, 70_000, 3, 4])),
        Arc::new(arrow::array::StringViewArray::from(vec![Some("10"), Some("20"), Some("x"), None])),
        Arc::new(arrow::array::Int64Array::from(vec![0; 4])),
    ];
    let rows = RecordBatch::try_new(wide.clone(), columns).expect("fits");
    let path = case.dir.path().join("f.parquet");
    let allowed_paths = case.spec.allowed_paths.clone();
    let mut export =
        Export::create(&ExportSpec { path, schema: wide, options: BTreeMap::new(), allowed_paths }).expect("creates");
    export.write(&rows).expect("writes");
    export.finish().expect("finishes");
    assert_eq!(
        case.read_all().await,
        "+1 | 1 | 10 | NULL\n+1 | 4 | NULL | NULL\n\
         f.parquet:2 \"{\\\"a\\\":70000,\\\"b\\\":\\\"20\\\"}\": column \"A\": the value does not fit smallint\n\
         f.parquet:3 \"{\\\"a\\\":3,\\\"b\\\":\\\"x\\\"}\": column \"b\": invalid input syntax for type integer: \"x\""
    );
    let first = case.open().poll(Budget { rows: 1, bytes: 1 << 20 }).await.expect("polls");
    case.spec.from = Some(first.position);
    let rest = case.open().poll(ALL).await.expect("polls");
    assert_eq!((rest.rows.num_rows(), rest.dead_letters.len()), (1, 2));
}

#[test]
fn columns_are_found_in_every_format() {
    let inferred = |case: &Case| {
        let columns = case.connector().infer(&case.spec).expect("finds columns");
        columns.iter().map(|column| format!("{} {}", column.name, column.pg_type)).collect::<Vec<_>>().join(", ")
    };
    let case = Case::new("a int", "f.csv.gz", &[("null", "NA")]);
    case.write("f.csv.gz", packed("a,b\n1,2013-01-01T10:00:00Z\nNA,NA\n"));
    assert_eq!(inferred(&case), "a bigint, b timestamp with time zone");
    let case = Case::new("a int", "*.json", &[]);
    case.write("0.json", "");
    case.write("1.json", "{\"x\":1.5,\"y\":[1]}\n");
    assert_eq!(inferred(&case), "x double precision, y jsonb");
    let case = Case::new("a int", "f.parquet", &[]);
    let schema = schema("a int;b numeric(5,2);c text[];d jsonb;e uuid");
    let path = case.dir.path().join("f.parquet");
    let allowed_paths = case.spec.allowed_paths.clone();
    let spec = ExportSpec { path, schema, options: BTreeMap::new(), allowed_paths };
    Export::create(&spec).expect("creates").finish().expect("finishes");
    assert_eq!(inferred(&case), "a integer, b numeric(5,2), c text[], d jsonb, e uuid");
}
