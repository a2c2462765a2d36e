//! Operators of the aggregate, tested as text deltas and by the law.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};

use super::*;
use crate::dataflow::law::{CASES, Input, Table, check_law, check_law_in, check_steps, schema, watched};
use crate::functions::aggregate::find;

/// One call in words: `"sum 1"`, `"count"`, `"count distinct 2"`, `"max 1 where 3"`.
fn call(words: &str, input: &SchemaRef, append_only: bool) -> (AggregateCall, DataType) {
    let words: Vec<&str> = words.split_whitespace().collect();
    let filter = words.iter().position(|word| *word == "where").map(|at| words[at + 1].parse().expect("a column"));
    let before_filter = words.iter().take_while(|word| **word != "where");
    let arguments: Vec<usize> = before_filter.filter_map(|word| word.parse().ok()).collect();
    let types: Vec<DataType> = arguments.iter().map(|column| input.field(*column).data_type().clone()).collect();
    let found = find(words[0], &types, append_only).expect("the aggregate has a rule");
    let distinct = words.contains(&"distinct");
    (AggregateCall { function: found.make, arguments, filter, distinct }, found.result)
}

fn aggregate(columns: &str, key: &[usize], calls: &[&str], append_only: bool) -> Box<dyn Operator> {
    let input = schema(columns);
    let (calls, results): (Vec<AggregateCall>, Vec<DataType>) =
        calls.iter().map(|words| call(words, &input, append_only)).unzip();
    let keys = key.iter().map(|column| input.field(*column).data_type().clone());
    let field = |(index, data_type)| arrow::datatypes::Field::new(format!("c{index}"), data_type, true);
    let fields: Vec<_> = keys.chain(results).enumerate().map(field).collect();
    let output = Arc::new(arrow::datatypes::Schema::new(fields));
    watched(Aggregate::new(key.to_vec(), calls, &input, output.clone()), &output)
}

fn check(columns: &str, key: &[usize], calls: &[&str], steps: &[&str], expected: Expect) {
    let steps: Vec<Vec<&str>> = steps.iter().map(|step| vec![*step]).collect();
    let steps: Vec<&[&str]> = steps.iter().map(Vec::as_slice).collect();
    check_steps(&|| aggregate(columns, key, calls, false), &[columns], &steps, expected);
}

#[test]
fn retraction_of_last_row_removes_group() {
    check(
        "k TEXT, x BIGINT",
        &[0],
        &["count", "sum 1"],
        &["+1 | a | 1\n+1 | b | 2\n+1 | a | 3", "-1 | a | 1\n-1 | b | 2", "-1 | a | 3\n+1 | b | 5"],
        expect![[r#"
            +1 | a | 2 | 4
            +1 | b | 1 | 2
            --
            +1 | a | 1 | 3
            -1 | a | 2 | 4
            -1 | b | 1 | 2
            --
            -1 | a | 1 | 3
            +1 | b | 1 | 5"#]],
    );
}

#[test]
fn without_a_key_there_is_always_one_row() {
    check(
        "x INT",
        &[],
        &["count", "sum 0", "min 0"],
        &["", "+1 | 1\n+2 | NULL", "", "-1 | 1\n-2 | NULL"],
        expect![[r#"
            +1 | 0 | NULL | NULL
            --
            -1 | 0 | NULL | NULL
            +1 | 3 | 1 | 1
            --

            --
            +1 | 0 | NULL | NULL
            -1 | 3 | 1 | 1"#]],
    );
}

#[test]
fn null_is_a_key_and_no_value() {
    check(
        "k INT, x BIGINT",
        &[0],
        &["count 1", "sum 1", "avg 1", "max 1"],
        &["+1 | NULL | NULL\n+1 | NULL | NULL\n+1 | 1 | NULL", "+1 | NULL | 5\n+1 | NULL | 6"],
        expect![[r#"
            +1 | 1 | 0 | NULL | NULL | NULL
            +1 | NULL | 0 | NULL | NULL | NULL
            --
            -1 | NULL | 0 | NULL | NULL | NULL
            +1 | NULL | 2 | 11 | 5.5000000000000000 | 6"#]],
    );
}

#[test]
fn least_and_greatest_follow_retraction() {
    check(
        "k INT, x TEXT",
        &[0],
        &["min 1", "max 1"],
        &["+1 | 1 | b\n+2 | 1 | a\n+1 | 1 | c", "-1 | 1 | a\n-1 | 1 | c", "-1 | 1 | a"],
        expect![[r#"
            +1 | 1 | a | c
            --
            +1 | 1 | a | b
            -1 | 1 | a | c
            --
            -1 | 1 | a | b
            +1 | 1 | b | b"#]],
    );
}

#[test]
fn distinct_counts_a_value_once() {
    check(
        "k INT, x TEXT",
        &[0],
        &["count distinct 1", "count 1"],
        &["+1 | 1 | a\n+1 | 1 | a\n+1 | 1 | b\n+1 | 2 | a", "-1 | 1 | a", "-1 | 1 | a\n-1 | 2 | a"],
        expect![[r#"
            +1 | 1 | 2 | 3
            +1 | 2 | 1 | 1
            --
            +1 | 1 | 2 | 2
            -1 | 1 | 2 | 3
            --
            +1 | 1 | 1 | 1
            -1 | 1 | 2 | 2
            -1 | 2 | 1 | 1"#]],
    );
}

#[test]
fn filter_chooses_rows_but_not_groups() {
    check(
        "k INT, x BIGINT, f BOOL",
        &[0],
        &["sum 1 where 2", "count where 2"],
        &["+1 | 1 | 5 | false\n+1 | 1 | 7 | NULL\n+1 | 2 | 3 | true"],
        expect![[r#"
            +1 | 1 | NULL | 0
            +1 | 2 | 3 | 1"#]],
    );
}

#[test]
fn a_group_whose_sum_is_out_of_range_is_an_error_until_it_heals() {
    check(
        "k INT, x NUMERIC(38)",
        &[0],
        &["sum 1"],
        &["+1 | 1 | 99999999999999999999999999999999999999\n+1 | 2 | 1", "+1 | 1 | 1", "+1 | 1 | 1", "-2 | 1 | 1"],
        expect![[r#"
            +1 | 1 | 99999999999999999999999999999999999999
            +1 | 2 | 1
            --
            -1 | 1 | 99999999999999999999999999999999999999
            +1 ! 22003 numeric field overflow
            --

            --
            +1 | 1 | 99999999999999999999999999999999999999
            -1 ! 22003 numeric field overflow"#]],
    );
}

#[test]
fn results_have_the_types_of_postgres() {
    let result = |name: &str, argument: DataType| find(name, &[argument], false).expect("a rule").result;
    assert_eq!(result("sum", DataType::Int16), DataType::Int64);
    assert_eq!(result("sum", DataType::Int32), DataType::Int64);
    assert_eq!(result("sum", DataType::Int64), DataType::Decimal128(38, 0));
    assert_eq!(result("sum", DataType::Decimal128(10, 2)), DataType::Decimal128(38, 2));
    assert_eq!(result("sum", DataType::Float32), DataType::Float32);
    assert_eq!(result("avg", DataType::Int32), DataType::Decimal128(38, 16));
    assert_eq!(result("avg", DataType::Float32), DataType::Float64);
    assert_eq!(result("count", DataType::Utf8View), DataType::Int64);
    assert!(find("array_agg", &[DataType::Int32], false).is_none());
}

/// The values of one group, each with its weight, from one input column.
type Values<'a> = Vec<(&'a str, i64)>;

fn naive(inputs: &[Table], key: &[usize], result: impl Fn(&[(&Vec<String>, i64)]) -> Vec<String>) -> Table {
    let mut groups: BTreeMap<Vec<String>, Vec<(&Vec<String>, i64)>> = BTreeMap::new();
    for (row, weight) in inputs[0].rows() {
        let key = key.iter().map(|column| if row[*column] == "-0.0" { "0.0".into() } else { row[*column].clone() });
        groups.entry(key.collect()).or_default().push((row, weight));
    }
    if key.is_empty() {
        groups.entry(Vec::new()).or_default();
    }
    let mut output = Table::default();
    for (key, rows) in groups {
        output.add_row(key.into_iter().chain(result(&rows)).collect(), 1);
    }
    output
}

fn values<'a>(rows: &[(&'a Vec<String>, i64)], column: usize) -> Values<'a> {
    let values = rows.iter().map(|(row, weight)| (row[column].as_str(), *weight));
    values.filter(|(value, _)| *value != "NULL").collect()
}

fn sum_of(values: &Values) -> String {
    let sum = values.iter().map(|(value, weight)| value.parse::<i128>().expect("a number") * i128::from(*weight));
    if values.is_empty() { "NULL".into() } else { sum.sum::<i128>().to_string() }
}

fn avg_of(values: &Values) -> String {
    if values.is_empty() {
        return "NULL".into();
    }
    let sum: i128 =
        values.iter().map(|(value, weight)| value.parse::<i128>().expect("a number") * i128::from(*weight)).sum();
    let count: i128 = values.iter().map(|(_, weight)| i128::from(*weight)).sum();
    let scaled = sum * 10_i128.pow(16);
    let rounded = (scaled.abs() * 2 + count) / (count * 2);
    let sign = if sum < 0 { "-" } else { "" };
    format!("{sign}{}.{:0>16}", rounded / 10_i128.pow(16), rounded % 10_i128.pow(16))
}

fn distinct_of<'a>(values: &Values<'a>) -> Values<'a> {
    let mut once: Vec<&str> = values.iter().map(|(value, _)| *value).collect();
    once.sort_unstable();
    once.dedup();
    once.into_iter().map(|value| (value, 1)).collect()
}

fn count_of(values: &Values) -> String {
    values.iter().map(|(_, weight)| weight).sum::<i64>().to_string()
}

fn extreme(values: &Values, greatest: bool) -> String {
    let numbers = values.iter().map(|(value, _)| value.parse::<i64>().expect("a number"));
    let best = if greatest { numbers.max() } else { numbers.min() };
    best.map_or("NULL".into(), |best| best.to_string())
}

#[test]
fn sums_and_counts_obey_the_law() {
    let columns = "k INT, x BIGINT, f BOOL, s TEXT";
    let calls = ["count", "count 1", "sum 1", "avg 1", "sum 1 where 2", "count distinct 3", "sum distinct 1 where 2"];
    for key in [&[0][..], &[3], &[3, 0], &[]] {
        let twin = |inputs: &[Table]| {
            naive(inputs, key, |rows| {
                let chosen: Vec<_> = rows.iter().copied().filter(|(row, _)| row[2] == "true").collect();
                vec![
                    rows.iter().map(|(_, weight)| weight).sum::<i64>().to_string(),
                    count_of(&values(rows, 1)),
                    sum_of(&values(rows, 1)),
                    avg_of(&values(rows, 1)),
                    sum_of(&values(&chosen, 1)),
                    count_of(&distinct_of(&values(rows, 3))),
                    sum_of(&distinct_of(&values(&chosen, 1))),
                ]
            })
        };
        check_law_in(CASES / 2, &|| aggregate(columns, key, &calls, false), &[Input::new(columns)], &twin);
    }
}

#[test]
fn least_greatest_and_booleans_obey_the_law() {
    let columns = "k TEXT, x BIGINT, f BOOL, s TEXT";
    let calls = ["min 1", "max 1", "min 3", "max 3 where 2", "bool_and 2", "bool_or 2"];
    let twin = |inputs: &[Table]| {
        naive(inputs, &[0], |rows| {
            let chosen: Vec<_> = rows.iter().copied().filter(|(row, _)| row[2] == "true").collect();
            let text = |best: Option<&str>| best.unwrap_or("NULL").to_string();
            let truths: Vec<&str> = values(rows, 2).into_iter().map(|(value, _)| value).collect();
            let truth = |verdict: bool| if truths.is_empty() { "NULL".into() } else { verdict.to_string() };
            vec![
                extreme(&values(rows, 1), false),
                extreme(&values(rows, 1), true),
                text(values(rows, 3).iter().map(|(value, _)| *value).min()),
                text(values(&chosen, 3).iter().map(|(value, _)| *value).max()),
                truth(truths.iter().all(|value| *value == "true")),
                truth(truths.contains(&"true")),
            ]
        })
    };
    check_law(&|| aggregate(columns, &[0], &calls, false), &[Input::new(columns)], &twin);
    check_law(&|| aggregate(columns, &[0], &calls, true), &[Input::append_only(columns)], &twin);
}

/// The answer of a new operator to the whole input at once.
fn afresh(make: &dyn Fn() -> Box<dyn Operator>, columns: &str, inputs: &[Table]) -> Table {
    let lines: Vec<String> =
        inputs[0].rows().map(|(row, weight)| format!("{weight:+} | {}", row.join(" | "))).collect();
    let rows = crate::zset::parse_rows(columns, &lines.join("\n"));
    let at = crate::dataflow::law::moment(0);
    let mut output = Table::default();
    output.add_delta(&make().eval(at, &[Delta::new(rows, ErrorRows::default())]));
    output
}

#[test]
fn floats_and_decimals_do_not_drift() {
    let columns = "k DOUBLE PRECISION, x DOUBLE PRECISION, y REAL, z NUMERIC, d DATE";
    let calls =
        ["sum 1", "avg 1", "min 1", "max 1", "sum 2", "avg 2", "sum 3", "avg 3", "max 3", "max 4", "sum distinct 1"];
    let make = || aggregate(columns, &[0], &calls, false);
    check_law(&make, &[Input::new(columns)], &|inputs| afresh(&make, columns, inputs));
}
