//! COPY's three formats, both ways, cut into pieces at random places.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::super::{TextStyle, texts};
use super::*;
use crate::error::SqlResult;
use crate::zset::PgType;

fn columns(names: &str) -> Vec<CopyColumn> {
    let column = |pair: &str| {
        let (name, pg_type) = pair.split_once(' ').expect("name and type");
        CopyColumn::new(name, PgType::parse(pg_type).expect("known type"))
    };
    names.split(", ").map(column).collect()
}

type Table = Vec<Vec<Option<String>>>;

/// Reads data in pieces of random length; the rows as texts.
fn read(form: &CopyForm, columns: &[CopyColumn], data: &[u8], seed: u64) -> SqlResult<Table> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut reader = CopyReader::new(form, "t", columns.to_vec(), TextStyle::default())?;
    let (mut batches, mut rest) = (Vec::new(), data);
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at(random.random_range(1..=rest.len()));
        batches.extend(reader.push(piece)?);
        // Reading early must change nothing.
        if random.random_bool(0.5) {
            batches.extend(reader.read_what_came()?);
        }
        rest = tail;
    }
    batches.extend(reader.finish()?);
    let mut table = Table::new();
    for batch in batches {
        let printed: Vec<_> = (batch.columns().iter().zip(columns))
            .map(|(array, column)| texts(array, &column.pg_type, &TextStyle::default()))
            .collect::<SqlResult<_>>()?;
        table.extend((0..batch.num_rows()).map(|row| printed.iter().map(|column| column[row].clone()).collect()));
    }
    Ok(table)
}

fn table(text: &str) -> Table {
    let value = |value: &str| (value != "∅").then(|| value.replace("\\n", "\n").replace("\\t", "\t"));
    text.lines().map(|line| line.trim().split('|').map(value).collect()).collect()
}

fn read_text(names: &str, data: &str) -> Table {
    read(&CopyForm::new(CopyFormat::Text), &columns(names), data.as_bytes(), 1).expect(data)
}

fn read_csv(names: &str, data: &str) -> Table {
    read(&CopyForm::new(CopyFormat::Csv), &columns(names), data.as_bytes(), 1).expect(data)
}

fn refusal(form: &CopyForm, names: &str, data: &str) -> String {
    let error = read(form, &columns(names), data.as_bytes(), 1).expect_err(data);
    format!("{:?} {}; {}", error.code, error.message, error.detail.unwrap_or_default())
}

#[test]
fn text_rows_are_lines_with_escapes() {
    assert_eq!(read_text("a integer, b text", "1\tx\n2\t\\N\n"), table("1|x\n2|∅"));
    assert_eq!(read_text("a integer, b text", "1\ta\\tb\\\\\\n\\x41\\101\\q\n"), table("1|a\\tb\\\\nAAq"));
    assert_eq!(read_text("a text", "a\\\nb\n"), table("a\\nb"));
    assert_eq!(read_text("a text", "\\.\nignored\n"), Table::new());
    assert_eq!(read_text("a text", "x\r\ny\r\n\\.\r\n"), table("x\ny"));
    assert_eq!(read_text("a text", "no newline"), table("no newline"));
    assert_eq!(read_text("a text, b text", "\t\n"), table("|"));
}

#[test]
fn csv_fields_may_have_quotes_delimiters_and_newlines() {
    assert_eq!(read_csv("a integer, b text", "1,x\n2,\n3,\"\"\n"), table("1|x\n2|∅\n3|"));
    assert_eq!(
        read_csv("a text", "\"a,b\"\n\"say \"\"hi\"\"\"\n\"two\nlines\"\n"),
        table("a,b\nsay \"hi\"\ntwo\\nlines")
    );
    assert_eq!(read_csv("a text", "x\"y,z\"w\n"), table("xy,zw"));
    assert_eq!(read_csv("a text, b text", "1,2\r\n\"3\",4\r\n"), table("1|2\n3|4"));
    assert_eq!(read_csv("a text", "x\n\\.\ny\n"), table("x"));
    let form =
        CopyForm { delimiter: b'|', quote: b'\'', escape: b'\\', null: "NA".into(), ..CopyForm::new(CopyFormat::Csv) };
    let rows = read(&form, &columns("a text, b text"), b"'it\\'s'|NA\n'NA'|x\n", 1).expect("rows");
    assert_eq!(rows, table("it's|∅\nNA|x"));
}

#[test]
fn forced_nulls_and_not_nulls_are_heeded() {
    let mut columns = columns("a text, b text, c text");
    columns[0].force_not_null = true;
    columns[1].force_null = true;
    let rows = read(&CopyForm::new(CopyFormat::Csv), &columns, b",\"\",\"\"\n", 1).expect("rows");
    assert_eq!(rows, table("|∅|"));
}

#[test]
fn headers_are_skipped_or_matched() {
    let form = |header| CopyForm { header, ..CopyForm::new(CopyFormat::Csv) };
    let names = "a integer, b text";
    assert_eq!(read(&form(Header::Yes), &columns(names), b"x,y,z\n1,q\n", 1).expect("rows"), table("1|q"));
    assert_eq!(read(&form(Header::Match), &columns(names), b"a,b\n1,q\n", 1).expect("rows"), table("1|q"));
    assert_eq!(
        refusal(&form(Header::Match), names, "a,c\n1,q\n"),
        "22P04 column name mismatch in header line field 2: got \"c\", expected \"b\"; COPY t, line 1: \"a,c\""
    );
    assert_eq!(
        refusal(&form(Header::Match), names, "a\n1,q\n"),
        "22P04 wrong number of fields in header line: got 1, expected 2; COPY t, line 1: \"a\""
    );
}

#[test]
fn errors_name_line_column_and_value() {
    let (csv, text) = (CopyForm::new(CopyFormat::Csv), CopyForm::new(CopyFormat::Text));
    let names = "a integer, b text";
    assert_eq!(
        refusal(&csv, names, "1,x\n2,y\nabc,z\n"),
        "22P02 invalid input syntax for type integer: \"abc\"; COPY t, line 3, column a: \"abc\""
    );
    assert_eq!(
        refusal(&csv, names, "1,\"x\n\ny\"\nabc,z\n"),
        "22P02 invalid input syntax for type integer: \"abc\"; COPY t, line 4, column a: \"abc\""
    );
    assert_eq!(refusal(&text, names, "1\tx\n2\n"), "22P04 missing data for column \"b\"; COPY t, line 2: \"2\"");
    assert_eq!(
        refusal(&csv, names, "1,x,y\n"),
        "22P04 extra data after last expected column; COPY t, line 1: \"1,x,y\""
    );
    assert_eq!(refusal(&csv, names, "1,\"x\n"), "22P04 unterminated CSV quoted field; COPY t, line 1: \"1,\"x\"");
    assert_eq!(
        refusal(&text, "a text", "x\ry\n"),
        "22P04 literal carriage return found in data; COPY t, line 1: \"x\ry\""
    );
    let error = read(&text, &columns("a text"), b"ok\nb\xffd\n", 1).expect_err("not UTF-8");
    assert_eq!(error.message, "invalid byte sequence for encoding \"UTF8\": 0xff");
    assert!(error.detail.expect("context").starts_with("COPY t, line 2"));
}

#[test]
fn forms_that_cannot_be_told_apart_are_refused() {
    let check = |form: CopyForm| form.check().expect_err("refused").message;
    let csv = || CopyForm::new(CopyFormat::Csv);
    assert_eq!(check(CopyForm { quote: b',', ..csv() }), "COPY delimiter and quote must be different");
    assert_eq!(
        check(CopyForm { null: "a,b".into(), ..csv() }),
        "COPY delimiter must not appear in the NULL specification"
    );
    assert_eq!(
        check(CopyForm { delimiter: b'x', ..CopyForm::new(CopyFormat::Text) }),
        "COPY delimiter cannot be \"x\""
    );
}

#[test]
fn whatever_is_written_is_read_again() {
    let seed = std::env::var("HEADWATER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    println!("HEADWATER_SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let columns = columns("a integer, b text, c numeric(10,2), d timestamptz, e text[], f bytea, g text");
    let alphabet = ["a", "é", "\\", "\"", "'", ",", "\t", "\n", "\r", "N", ".", "{", " ", "", "\\N", "\\."];
    for case in 0..200 {
        let rows: Table = (0..random.random_range(0..20)).map(|_| random_row(&mut random, &alphabet)).collect();
        for format in [CopyFormat::Text, CopyFormat::Csv, CopyFormat::Binary] {
            let form = CopyForm::new(format);
            let data = write(&form, &columns, &rows);
            assert_eq!(read(&form, &columns, &data, seed + case).expect("readable"), rows, "{format:?}");
        }
    }
}

fn random_row(random: &mut SmallRng, alphabet: &[&str]) -> Vec<Option<String>> {
    let text = |random: &mut SmallRng| {
        (0..random.random_range(0..6)).map(|_| alphabet[random.random_range(0..alphabet.len())]).collect::<String>()
    };
    let array = |random: &mut SmallRng| {
        let items: Vec<_> = (0..random.random_range(0..3)).map(|_| Some(text(random))).collect();
        let array = arrow::array::StringArray::from(items);
        let mut lists = arrow::array::ListBuilder::new(arrow::array::StringBuilder::new());
        lists.append_value(array.iter());
        let array: arrow::array::ArrayRef = std::sync::Arc::new(lists.finish());
        let kind = PgType::Array(Box::new(PgType::Text));
        texts(&array, &kind, &TextStyle::default()).expect("printable").remove(0).expect("not NULL")
    };
    let mut row = vec![
        Some(random.random::<i32>().to_string()),
        Some(text(random)),
        Some(format!("{}.{:02}", random.random_range(-999..999), random.random_range(0..100)))
            .filter(|text| !text.starts_with("-0")),
        Some(format!("2024-01-{:02} 10:00:00.5+00", random.random_range(1..31))),
        Some(array(random)),
        Some(format!("\\x{:04x}", random.random::<u16>())),
        Some(text(random)),
    ];
    let hole = random.random_range(0..row.len() * 2);
    if let Some(value) = row.get_mut(hole) {
        *value = None;
    }
    row
}

fn write(form: &CopyForm, columns: &[CopyColumn], rows: &Table) -> Vec<u8> {
    let arrays = columns.iter().enumerate().map(|(index, column)| {
        let texts = rows.iter().map(|row| row[index].as_deref());
        super::super::parse_texts(texts, &column.pg_type, TextStyle::default()).expect("valid values")
    });
    let fields: Vec<_> = columns.iter().map(|column| column.pg_type.field(&column.name, true)).collect();
    let schema = std::sync::Arc::new(arrow::datatypes::Schema::new(fields));
    let batch = arrow::array::RecordBatch::try_new(schema, arrays.collect()).expect("columns fit");
    let mut writer = CopyWriter::new(form, columns.to_vec(), TextStyle::default()).expect("valid form");
    let mut out = CopyRows::default();
    writer.write(&batch, &mut out).expect("writable");
    writer.finish(&mut out);
    assert_eq!(out.rows().map(<[u8]>::len).sum::<usize>(), out.bytes.len());
    out.bytes
}

#[test]
fn malformed_binary_data_is_refused() {
    let form = CopyForm::new(CopyFormat::Binary);
    let columns = columns("a integer");
    let good = write(&form, &columns, &table("1\n2"));
    assert_eq!(read(&form, &columns, &good, 3).expect("rows"), table("1\n2"));
    let refused = |data: &[u8]| read(&form, &columns, data, 3).expect_err("malformed").message;
    assert_eq!(refused(b"hello"), "COPY file signature not recognized");
    assert_eq!(refused(&good[..good.len() - 4]), "unexpected EOF in COPY data");
    assert_eq!(refused(&[&good[..19], &[0, 2]].concat()), "row field count is 2, expected 1");
    assert_eq!(
        refused(&[&good[..19], &[0, 1, 0, 0, 0, 1, 7]].concat()),
        "incorrect binary data format for type integer"
    );
}
