//! Lowers joins of every kind.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{DFSchema, JoinType, NullEquality};
use datafusion::logical_expr::{Expr, Join, LogicalPlan};
use datafusion::physical_expr::expressions::Column;

use super::lower::{Lowering, Recipe};
use super::stream::{Scalar, Stream, own_columns, schema_of};
use super::words::Names;
use crate::dataflow::operators::{self, JoinOn, OuterKind, SemiKind};
use crate::dataflow::{Class, Edge, MakeOperator, Predicate, Route};
use crate::error::SqlResult;
use crate::functions::errors::sql_error;

/// One input of a join: its node, which has the key among its columns.
struct Side<'a> {
    node: usize,
    key: Vec<usize>,
    plan: &'a LogicalPlan,
}

/// What a kind of join becomes.
#[derive(Clone, Copy)]
enum Kind {
    Inner,
    Outer(OuterKind),
    Semi(SemiKind),
}

impl Lowering<'_> {
    pub fn join(&mut self, plan: &LogicalPlan, join: &Join) -> SqlResult<Stream> {
        if let Some(stream) = self.window_close(join)? {
            return Ok(stream);
        }
        let Some((kind, swapped)) = kind_of(join) else { return self.recompute(plan) };
        let (left_keys, right_keys): (Vec<Expr>, Vec<Expr>) = join.on.iter().cloned().unzip();
        let left = self.side(&join.left, &left_keys)?;
        let right = self.side(&join.right, &right_keys)?;
        match swapped {
            false => self.joined(join, kind, &left, &right),
            true => self.joined(join, kind, &right, &left),
        }
    }

    /// A node of a plan's rows with key expressions as columns, and which columns these are.
    pub fn keyed_node(&mut self, plan: &LogicalPlan, keys: &[Expr]) -> SqlResult<(usize, Vec<usize>)> {
        let stream = self.stream(plan)?;
        let schema = plan.schema();
        let keys: Vec<Scalar> = keys.iter().map(|key| self.scalar(key, schema)).collect::<SqlResult<_>>()?;
        let mut fields: Vec<Field> = stream.schema.fields().iter().map(|field| field.as_ref().clone()).collect();
        let mut columns: Vec<Scalar> = own_columns(&stream.schema);
        let mut places = Vec::with_capacity(keys.len());
        for key in &keys {
            match key.downcast_ref::<Column>() {
                Some(column) => places.push(column.index()),
                None => {
                    let kind = key.data_type(schema.as_arrow()).map_err(|error| sql_error(&error))?;
                    fields.push(Field::new(self.names.scalars(std::slice::from_ref(key)), kind, true));
                    columns.push(key.clone());
                    places.push(columns.len() - 1);
                }
            }
        }
        let stream = if stream.would_compute_twice(&columns) { self.settled(stream) } else { stream };
        let stream = stream.project(&columns, Arc::new(Schema::new(fields)));
        Ok((self.node(stream), places))
    }

    fn side<'p>(&mut self, plan: &'p LogicalPlan, keys: &[Expr]) -> SqlResult<Side<'p>> {
        let (node, key) = self.keyed_node(plan, keys)?;
        Ok(Side { node, key, plan })
    }

    fn joined(&mut self, join: &Join, kind: Kind, left: &Side, right: &Side) -> SqlResult<Stream> {
        let residual = self.residual(join, left, right)?;
        let detail = detail(join, residual.as_ref(), &self.names);
        let on = JoinOn {
            left: left.key.clone(),
            right: right.key.clone(),
            null_equals_null: join.null_equality == NullEquality::NullEqualsNull,
            residual: residual.map(Predicate::new),
        };
        let (left_held, right_held) = (self.nodes[left.node].schema.clone(), self.nodes[right.node].schema.clone());
        let held = held_columns(kind, &left_held, &right_held);
        let one_worker = matches!(kind, Kind::Semi(SemiKind::NullAwareAnti | SemiKind::NullAwareMark));
        let route = |key: &[usize]| Route::ByKey(if one_worker { Vec::new() } else { key.to_vec() });
        let edges = vec![
            Edge { from: left.node, route: route(&left.key) },
            Edge { from: right.node, route: route(&right.key) },
        ];
        let grows = matches!(kind, Kind::Inner | Kind::Semi(SemiKind::Semi));
        let append_only = grows && self.nodes[left.node].append_only && self.nodes[right.node].append_only;
        let (name, keeps) = words_of(kind);
        let recipe = Recipe { name, class: Class::Keyed, detail, keeps };
        let make = make(kind, on, left_held.clone(), right_held, held.clone());
        let node = self.operator(recipe, edges, held.clone(), append_only, make);
        let shown = shown_columns(join, kind, left, right, left_held.fields().len());
        let all = own_columns(&held);
        let columns: Vec<Scalar> = shown.into_iter().map(|place| all[place].clone()).collect();
        Ok(Stream::of(node, held).project(&columns, schema_of(&join.schema)))
    }

    /// The condition beside the keys, over the columns of the left node and then those of the right.
    fn residual(&mut self, join: &Join, left: &Side, right: &Side) -> SqlResult<Option<Scalar>> {
        let Some(filter) = &join.filter else { return Ok(None) };
        let schema: DFSchema = left.plan.schema().join(right.plan.schema()).map_err(|error| sql_error(&error))?;
        let filter = self.scalar(filter, &schema)?;
        let (left_held, right_held) = (&self.nodes[left.node].schema, &self.nodes[right.node].schema);
        let both = held_columns(Kind::Inner, left_held, right_held);
        let all = own_columns(&both);
        let (lefts, rights) = (left.plan.schema().fields().len(), right.plan.schema().fields().len());
        let first_right = left_held.fields().len();
        let columns = (0..lefts).chain(first_right..first_right + rights).map(|place| all[place].clone()).collect();
        Ok(Some(Stream { node: left.node, predicate: None, columns, schema: both }.through(&filter)))
    }
}

/// The operator for a join, and whether its sides change places; `None` if there is none.
fn kind_of(join: &Join) -> Option<(Kind, bool)> {
    let semi = |kind| Kind::Semi(kind);
    match join.join_type {
        JoinType::LeftAnti if join.null_aware => {
            (join.on.len() == 1 && join.filter.is_none()).then_some((semi(SemiKind::NullAwareAnti), false))
        }
        JoinType::LeftMark if join.null_aware => {
            (join.on.len() == 1 && join.filter.is_none()).then_some((semi(SemiKind::NullAwareMark), false))
        }
        _ if join.null_aware => None,
        JoinType::Inner => Some((Kind::Inner, false)),
        JoinType::Left => Some((Kind::Outer(OuterKind::Left), false)),
        JoinType::Right => Some((Kind::Outer(OuterKind::Right), false)),
        JoinType::Full => Some((Kind::Outer(OuterKind::Full), false)),
        JoinType::LeftSemi => Some((semi(SemiKind::Semi), false)),
        JoinType::RightSemi => Some((semi(SemiKind::Semi), true)),
        JoinType::LeftAnti => Some((semi(SemiKind::Anti), false)),
        JoinType::RightAnti => Some((semi(SemiKind::Anti), true)),
        JoinType::LeftMark => Some((semi(SemiKind::Mark), false)),
        JoinType::RightMark => Some((semi(SemiKind::Mark), true)),
    }
}

fn make(kind: Kind, on: JoinOn, left: SchemaRef, right: SchemaRef, schema: SchemaRef) -> MakeOperator {
    Arc::new(move || {
        let (on, schema) = (on.clone(), schema.clone());
        match kind {
            Kind::Inner => Box::new(operators::Join::new(on, &left, &right, schema)),
            Kind::Outer(kind) => Box::new(operators::OuterJoin::new(kind, on, &left, &right, schema)),
            Kind::Semi(kind) => Box::new(operators::SemiJoin::new(kind, on, &left, &right, schema)),
        }
    })
}

/// The columns that the operator gives.
fn held_columns(kind: Kind, left: &SchemaRef, right: &SchemaRef) -> SchemaRef {
    let mark = [Arc::new(Field::new("mark", DataType::Boolean, true))];
    let added: &[Arc<Field>] = match kind {
        Kind::Inner | Kind::Outer(_) => right.fields(),
        Kind::Semi(SemiKind::Mark | SemiKind::NullAwareMark) => &mark,
        Kind::Semi(_) => &[],
    };
    let fields = left.fields().iter().chain(added).map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Which of them the plan sees: not the keys that were added, nor fillers.
fn shown_columns(join: &Join, kind: Kind, left: &Side, right: &Side, first_right: usize) -> Vec<usize> {
    let (lefts, rights) = (left.plan.schema().fields().len(), right.plan.schema().fields().len());
    let added = match kind {
        Kind::Inner | Kind::Outer(_) => rights,
        Kind::Semi(SemiKind::Mark | SemiKind::NullAwareMark) => 1,
        Kind::Semi(_) => 0,
    };
    debug_assert_eq!(join.schema.fields().len(), lefts + added, "a join shows the columns of its sides");
    (0..lefts).chain(first_right..first_right + added).collect()
}

fn words_of(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Inner => ("join", "the rows of both inputs by key"),
        Kind::Outer(OuterKind::Left) => ("left join", "the rows of both inputs by key"),
        Kind::Outer(OuterKind::Right) => ("right join", "the rows of both inputs by key"),
        Kind::Outer(OuterKind::Full) => ("full join", "the rows of both inputs by key"),
        Kind::Semi(SemiKind::Semi) => ("semi join", "the rows of the first input by key, the keys of the second"),
        Kind::Semi(SemiKind::Anti) => ("anti join", "the rows of the first input by key, the keys of the second"),
        Kind::Semi(SemiKind::NullAwareAnti) => ("not in", "the rows of the first input by key, the keys of the second"),
        Kind::Semi(SemiKind::Mark | SemiKind::NullAwareMark) => {
            ("mark join", "the rows of the first input by key, the keys of the second")
        }
    }
}

fn detail(join: &Join, residual: Option<&Scalar>, names: &Names) -> String {
    let equal = join.on.iter().map(|(left, right)| format!("{} = {}", names.expression(left), names.expression(right)));
    let other = residual.map(|residual| names.scalars(std::slice::from_ref(residual)));
    let all: Vec<String> = equal.chain(other).collect();
    if all.is_empty() { "of all with all".to_string() } else { format!("on {}", all.join(" and ")) }
}
