//! GROUPING SETS, ROLLUP and CUBE as a union of aggregates, one for each set.

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{
    Aggregate, Cast, Expr, GroupingSet, LogicalPlan, LogicalPlanBuilder, Projection, Union, lit,
};
use datafusion::scalar::ScalarValue;

/// The union; `None` if the aggregate has no sets, or more columns than 63.
pub(super) fn as_union(aggregate: &Aggregate) -> Result<Option<LogicalPlan>> {
    let [Expr::GroupingSet(sets)] = aggregate.group_expr.as_slice() else { return Ok(None) };
    let all: Vec<Expr> = grouping_set_to_exprlist(&aggregate.group_expr)?.into_iter().cloned().collect();
    if all.len() > 63 {
        return Ok(None);
    }
    let mut seen: Vec<Vec<Expr>> = Vec::new();
    let mut inputs = Vec::new();
    for set in sets_of(sets) {
        let copies = seen.iter().filter(|known| **known == set).count();
        inputs.push(Arc::new(one_set(aggregate, &all, &set, copies)?));
        seen.push(set);
    }
    Ok(Some(match inputs.len() {
        1 => inputs.remove(0).as_ref().clone(),
        _ => LogicalPlan::Union(Union { inputs, schema: aggregate.schema.clone() }),
    }))
}

fn sets_of(sets: &GroupingSet) -> Vec<Vec<Expr>> {
    match sets {
        GroupingSet::GroupingSets(sets) => sets.clone(),
        GroupingSet::Rollup(keys) => (0..=keys.len()).rev().map(|length| keys[..length].to_vec()).collect(),
        GroupingSet::Cube(keys) => {
            let chosen = |bits: usize| {
                let kept = keys.iter().enumerate().filter(move |(at, _)| bits & (1 << at) != 0);
                kept.map(|(_, key)| key.clone()).collect()
            };
            (0..1 << keys.len()).map(chosen).collect()
        }
    }
}

/// One set's groups, with NULL for the other keys and the number that says which these are: a bit for each key, the
/// first key's the highest, and above them how often the set came before.
fn one_set(aggregate: &Aggregate, all: &[Expr], set: &[Expr], copies: usize) -> Result<LogicalPlan> {
    let mut keys: Vec<Expr> = Vec::new();
    set.iter().filter(|key| all.contains(key)).for_each(|key| {
        if !keys.contains(key) {
            keys.push(key.clone());
        }
    });
    let grouped = match keys.is_empty() && aggregate.aggr_expr.is_empty() {
        true => LogicalPlanBuilder::empty(true).build()?,
        false => LogicalPlan::Aggregate(Aggregate::try_new(
            aggregate.input.clone(),
            keys.clone(),
            aggregate.aggr_expr.clone(),
        )?),
    };
    let (columns, names) = (grouped.schema().columns(), aggregate.schema.columns());
    let fields = aggregate.schema.fields();
    let mut shown = Vec::with_capacity(names.len());
    let mut number = (copies as u64) << all.len();
    for (at, key) in all.iter().enumerate() {
        shown.push(match keys.iter().position(|known| known == key) {
            Some(place) => Expr::Column(columns[place].clone()),
            None => {
                number |= 1 << (all.len() - 1 - at);
                lit(ScalarValue::try_from(fields[at].data_type())?)
            }
        });
    }
    shown.push(Expr::Cast(Cast::new(Box::new(lit(number)), fields[all.len()].data_type().clone())));
    shown.extend(columns[keys.len()..].iter().cloned().map(Expr::Column));
    let named = shown.into_iter().zip(names).map(|(column, name)| column.alias_qualified(name.relation, name.name));
    Ok(LogicalPlan::Projection(Projection::try_new(named.collect(), Arc::new(grouped))?))
}
