//! Law and corners of top-k.

use expect_test::expect;

use super::*;
use crate::dataflow::law::{CASES, Input, Table, check_law_in, check_steps, schema, watched};

const COLUMNS: &str = "k INT, x BIGINT, s TEXT";
const DESCENDING: SortOptions = SortOptions { descending: true, nulls_first: true };

fn ranking(numbers: &[Numbering], by: Numbering, skip: i64, up_to: i64) -> Ranking {
    Ranking { numbers: numbers.to_vec(), by, skip, up_to }
}

fn output(ranking: &Ranking) -> SchemaRef {
    let numbers = ranking.numbers.iter().enumerate().map(|(place, _)| format!(", n{place} BIGINT"));
    schema(&format!("{COLUMNS}{}", numbers.collect::<String>()))
}

fn operator(partition: &[usize], ranking: &Ranking, append_only: bool) -> Box<dyn Operator> {
    let (order, schema_) = (vec![(1, DESCENDING)], output(ranking));
    let made = TopK::new(partition.to_vec(), order, ranking.clone(), append_only, &schema(COLUMNS), schema_.clone());
    watched(made, &schema_)
}

#[test]
fn the_next_row_takes_the_place_of_the_one_that_goes() {
    let one = ranking(&[Numbering::RowNumber], Numbering::RowNumber, 0, 2);
    let steps: [&[&str]; 3] = [
        &["+1 | 1 | 5 | a\n+1 | 1 | 7 | b\n+1 | 1 | 3 | c\n+1 | NULL | 1 | d"],
        &["-1 | 1 | 7 | b"],
        &["+2 | 1 | 9 | e"],
    ];
    check_steps(
        &|| operator(&[0], &one, false),
        &[COLUMNS],
        &steps,
        expect![[r#"
            +1 | 1 | 5 | a | 2
            +1 | 1 | 7 | b | 1
            +1 | NULL | 1 | d | 1
            --
            +1 | 1 | 3 | c | 2
            +1 | 1 | 5 | a | 1
            -1 | 1 | 5 | a | 2
            -1 | 1 | 7 | b | 1
            --
            -1 | 1 | 3 | c | 2
            -1 | 1 | 5 | a | 1
            +1 | 1 | 9 | e | 1
            +1 | 1 | 9 | e | 2"#]],
    );
}

#[test]
fn a_limit_counts_copies_and_leaves_out_the_first() {
    let middle = ranking(&[], Numbering::RowNumber, 1, 3);
    check_steps(
        &|| operator(&[], &middle, false),
        &[COLUMNS],
        &[&["+2 | 1 | 5 | a\n+3 | 1 | 4 | b"], &["-1 | 1 | 5 | a"]],
        expect![[r#"
            +1 | 1 | 4 | b
            +1 | 1 | 5 | a
            --
            -1 | 1 | 4 | b
            -1 | 1 | 5 | a
            +2 | 1 | 4 | b"#]],
    );
}

#[test]
fn a_change_behind_the_first_rows_of_a_long_key_touches_nothing() {
    let mut top = TopK::new(
        vec![0],
        vec![(1, DESCENDING)],
        ranking(&[], Numbering::RowNumber, 0, 3),
        false,
        &schema(COLUMNS),
        schema(COLUMNS),
    );
    let at = |step| crate::dataflow::law::moment(step);
    let rows: String = (0..1_000).map(|x| format!("+1 | 1 | {x} | a\n")).collect();
    let delta = |text: &str| Delta::new(crate::zset::parse_rows(COLUMNS, text), Default::default());
    top.eval(at(0), &[delta(&rows)]);
    let kept = top.heads.values().map(|head| head.rows.len()).sum::<usize>();
    assert!((4..100).contains(&kept), "{kept} of 1,000 rows are kept at hand");
    let touched = |top: &TopK, text: &str| {
        let delta = Keyed::new(delta(text).oks, &[0]);
        let (touched, groups) = top.touched(&delta);
        top.candidates(&delta, &groups, &touched).key.len()
    };
    assert_eq!(touched(&top, "+1 | 1 | 5 | b"), 0);
    assert_eq!(touched(&top, "+1 | 1 | 999 | b"), kept + 1);
}

fn number(cell: &str) -> i64 {
    // Descending, NULL first.
    cell.parse::<i64>().map_or(i64::MIN, |x| if x == i64::MIN { i64::MAX } else { -x })
}

/// Rows in order, NULL of the rest first as the row format has it.
fn sorted(rows: &[(&Vec<String>, i64)]) -> Vec<(Vec<String>, i64)> {
    let mut rows: Vec<(Vec<String>, i64)> = rows.iter().map(|(row, weight)| ((*row).clone(), *weight)).collect();
    let text = |cell: &String| if cell == "NULL" { (0, String::new()) } else { (1, cell.clone()) };
    let key = |cell: &String| cell.parse::<i64>().map_or((0, 0), |k| (1, k));
    rows.sort_by_key(|(row, _)| (number(&row[1]), key(&row[0]), text(&row[2])));
    rows
}

fn naive(input: &Table, partition: bool, ranking: &Ranking) -> Table {
    let mut keys: std::collections::BTreeMap<String, Vec<(&Vec<String>, i64)>> = Default::default();
    for (row, weight) in input.rows() {
        keys.entry(if partition { row[0].clone() } else { String::new() }).or_default().push((row, weight));
    }
    let mut output = Table::default();
    for rows in keys.values() {
        let (mut count, mut rank, mut dense, mut last) = (0, 0, 0, None);
        for (row, weight) in sorted(rows) {
            for _ in 0..weight {
                count += 1;
                if last != Some(number(&row[1])) {
                    (rank, dense, last) = (count, dense + 1, Some(number(&row[1])));
                }
                let of = |numbering: &Numbering| match numbering {
                    Numbering::RowNumber => count,
                    Numbering::Rank => rank,
                    Numbering::DenseRank => dense,
                };
                if of(&ranking.by) <= ranking.up_to && count > ranking.skip {
                    let numbers = ranking.numbers.iter().map(|numbering| of(numbering).to_string());
                    output.add_row(row.iter().cloned().chain(numbers).collect(), 1);
                }
            }
        }
    }
    output
}

#[test]
fn obeys_the_law() {
    use Numbering::{DenseRank, Rank, RowNumber};
    let rankings = [
        ranking(&[RowNumber], RowNumber, 0, 2),
        ranking(&[], RowNumber, 1, 3),
        ranking(&[], RowNumber, 0, 1),
        ranking(&[Rank], Rank, 0, 2),
        ranking(&[DenseRank, Rank], DenseRank, 0, 2),
    ];
    for ranking in &rankings {
        for partition in [true, false] {
            for append_only in [true, false] {
                let columns: &[usize] = if partition { &[0] } else { &[] };
                let input = if append_only { Input::append_only(COLUMNS) } else { Input::new(COLUMNS) };
                let make = || operator(columns, ranking, append_only);
                check_law_in(CASES / 8, &make, &[input], &|inputs| naive(&inputs[0], partition, ranking));
            }
        }
    }
}
