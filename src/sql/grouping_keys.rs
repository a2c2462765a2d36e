//! GROUPING SETS, ROLLUP and CUBE as the planner understands them: keys written out, each once in a set.

use sqlparser::ast::{Expr, GroupByExpr, Select, SelectItem, Value};

/// Writes out places of the select list (`ROLLUP (1, 2)`), and keys that a set has twice (`CUBE (a, a)`).
pub(super) fn write_out(select: &mut Select) {
    let Select { group_by: GroupByExpr::Expressions(keys, _), projection, .. } = select else { return };
    for key in keys {
        let written = matches!(key, Expr::GroupingSets(_));
        let (Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets)) = &mut *key else { continue };
        for part in sets.iter_mut().flatten() {
            if let Some(meant) = at_place(part, projection) {
                *part = meant;
            }
        }
        if is_repeated(sets, written) {
            *key = Expr::GroupingSets(all_sets(key).into_iter().map(each_once).collect());
        }
    }
}

/// The expression of the select list that a number means.
fn at_place(key: &Expr, projection: &[SelectItem]) -> Option<Expr> {
    let Expr::Value(value) = key else { return None };
    let Value::Number(number, _) = &value.value else { return None };
    let place = number.parse::<usize>().ok()?.checked_sub(1)?;
    match projection.get(place)? {
        SelectItem::UnnamedExpr(expression) | SelectItem::ExprWithAlias { expr: expression, .. } => {
            Some(expression.clone())
        }
        _ => None,
    }
}

/// Whether some set would have a key twice.
fn is_repeated(parts: &[Vec<Expr>], apart: bool) -> bool {
    match apart {
        true => parts.iter().any(|set| each_once(set.clone()).len() < set.len()),
        false => {
            let all: Vec<Expr> = parts.concat();
            each_once(all.clone()).len() < all.len()
        }
    }
}

fn each_once(keys: Vec<Expr>) -> Vec<Expr> {
    let mut kept: Vec<Expr> = Vec::new();
    keys.into_iter().for_each(|key| {
        if !kept.contains(&key) {
            kept.push(key);
        }
    });
    kept
}

/// The sets that a ROLLUP or CUBE stands for.
fn all_sets(key: &Expr) -> Vec<Vec<Expr>> {
    match key {
        Expr::Rollup(parts) => (0..=parts.len()).rev().map(|length| parts[..length].concat()).collect(),
        Expr::Cube(parts) => parts.iter().rev().fold(vec![Vec::new()], |sets, part| {
            let with = sets.iter().map(|set| [part.clone(), set.clone()].concat());
            with.chain(sets.iter().cloned()).collect()
        }),
        Expr::GroupingSets(sets) => sets.clone(),
        _ => Vec::new(),
    }
}
