//! Parameters: the types that are inferred for `$1`, `$2`, …, and the values put in their places.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{ParamValues, metadata::ScalarAndMetadata};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::scalar::ScalarValue;

use super::errors::planning_error;
use super::statement::{Conflict, CopySource, CursorSource, ExplainTarget, InsertRows, Statement, SubscribeTarget};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions::wider_of;
use crate::zset::PgType;

/// The types of all parameters, by number; `None` for numbers that are not used.
pub fn parameter_types(statement: &Statement) -> Vec<Option<PgType>> {
    let mut types: Vec<Option<PgType>> = Vec::new();
    // Only looks; the statement is cloned so that one walk serves both purposes.
    let walked = map_plans(statement.clone(), &mut |plan| {
        let visited = plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expression| {
                expression.apply(|expression| {
                    if let Expr::Placeholder(placeholder) = expression
                        && let Some(number) = number(&placeholder.id)
                    {
                        types.resize(types.len().max(number), None);
                        let known = placeholder.field.as_ref().map(|field| PgType::of(field));
                        let slot = &mut types[number - 1];
                        *slot = either(slot.take(), known);
                    }
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        });
        visited.expect("visiting a plan does not fail");
        Ok(plan)
    });
    walked.expect("looking at plans does not fail");
    types
}

/// The type of a parameter that stands in several places: the first, but of numerics the one with most digits.
fn either(first: Option<PgType>, second: Option<PgType>) -> Option<PgType> {
    match (first, second) {
        (Some(a @ PgType::Numeric(_)), Some(b @ PgType::Numeric(_))) => Some(wider_of(&a, &b).unwrap_or(a)),
        (first, second) => first.or(second),
    }
}

/// Parameters beyond this are a slip, not a wish for an enormous list.
const PARAMETERS_MAX: usize = 65_535;

fn number(id: &str) -> Option<usize> {
    id.strip_prefix('$')?.parse().ok().filter(|number| (1..=PARAMETERS_MAX).contains(number))
}

/// Puts values in the places of `$1`, `$2`, ….
pub fn substitute(statement: Statement, parameters: &[ScalarValue]) -> SqlResult<Statement> {
    let needed = parameter_types(&statement).len();
    if needed > parameters.len() {
        let message = format!("there is no parameter ${}", parameters.len() + 1);
        return Err(SqlError::new(SqlState::UNDEFINED_PARAMETER, message));
    }
    let values = parameters.iter().map(|value| ScalarAndMetadata::new(value.clone(), None)).collect();
    let values = ParamValues::List(values);
    map_plans(statement, &mut |plan| {
        let plan = with_casts(plan, parameters);
        let replaced =
            plan.and_then(|plan| plan.replace_params_with_values(&values)).and_then(LogicalPlan::recompute_schema);
        replaced.map_err(|error| planning_error(&error, None))
    })
}

/// A parameter whose value has another type than its place is cast there: it stands in several places.
fn with_casts(plan: LogicalPlan, parameters: &[ScalarValue]) -> datafusion::error::Result<LogicalPlan> {
    let cast = |expression: Expr| match expression {
        Expr::Placeholder(mut placeholder) => {
            let value = number(&placeholder.id).and_then(|number| parameters.get(number - 1));
            let wanted = placeholder.field.clone();
            Ok(match (value.map(ScalarValue::data_type), wanted) {
                (Some(given), Some(wanted)) if is_decimal(&given) && is_decimal(wanted.data_type()) => {
                    if given == *wanted.data_type() {
                        return Ok(Transformed::no(Expr::Placeholder(placeholder)));
                    }
                    placeholder.field = Some(PgType::of_arrow(&given).field("", true).into());
                    Transformed::yes(Expr::Cast(Cast::new_from_field(Box::new(Expr::Placeholder(placeholder)), wanted)))
                }
                _ => Transformed::no(Expr::Placeholder(placeholder)),
            })
        }
        other => Ok(Transformed::no(other)),
    };
    let changed =
        plan.transform_up_with_subqueries(|node| node.map_expressions(|expression| expression.transform_up(cast)));
    Ok(changed?.data)
}

fn is_decimal(kind: &DataType) -> bool {
    matches!(kind, DataType::Decimal128(..) | DataType::Decimal256(..))
}

/// The statement with every plan in it changed.
fn map_plans(
    mut statement: Statement,
    change: &mut dyn FnMut(LogicalPlan) -> SqlResult<LogicalPlan>,
) -> SqlResult<Statement> {
    for plan in plans(&mut statement) {
        let empty = LogicalPlan::EmptyRelation(datafusion::logical_expr::EmptyRelation {
            produce_one_row: false,
            schema: datafusion::common::DFSchema::empty().into(),
        });
        *plan = change(std::mem::replace(plan, empty))?;
    }
    Ok(statement)
}

fn plans(statement: &mut Statement) -> Vec<&mut LogicalPlan> {
    match statement {
        Statement::Query(query) => vec![&mut query.plan],
        Statement::Insert(insert) => {
            let rows = match &mut insert.rows {
                InsertRows::Plan(plan) => Some(plan),
                InsertRows::Batch(_) => None,
            };
            let conflict = match &mut insert.conflict {
                Some(Conflict::Update(plan)) => Some(plan),
                Some(Conflict::Nothing) | None => None,
            };
            let returning = insert.returning.as_mut().map(|returning| &mut returning.plan);
            rows.into_iter().chain(conflict).chain(returning).collect()
        }
        Statement::Update(update) => vec![&mut update.plan],
        Statement::Delete(delete) => vec![&mut delete.plan],
        Statement::CopyFrom(copy) => copy.defaults.as_mut().into_iter().collect(),
        Statement::CopyTo(copy) => match &mut copy.what {
            CopySource::Query(query) => vec![&mut query.plan],
            CopySource::Subscribe(subscribe) => target_plans(&mut subscribe.target),
        },
        Statement::CreateTableAs(create) => create.rows.as_mut().map(|query| &mut query.plan).into_iter().collect(),
        Statement::Subscribe(subscribe) => target_plans(&mut subscribe.target),
        Statement::Explain(explain) => match &mut explain.what {
            ExplainTarget::Query(query) | ExplainTarget::Dataflow(query) => vec![&mut query.plan],
            ExplainTarget::Change(change) => plans(change),
            ExplainTarget::Relation(_) => Vec::new(),
        },
        Statement::DeclareCursor(declare) => match &mut declare.what {
            CursorSource::Query(query) => vec![&mut query.plan],
            CursorSource::Subscribe(subscribe) => target_plans(&mut subscribe.target),
        },
        Statement::Execute(execute) => execute.arguments.as_mut().map(|query| &mut query.plan).into_iter().collect(),
        Statement::Truncate(_)
        | Statement::Define(_)
        | Statement::Fetch(_)
        | Statement::CloseCursor(_)
        | Statement::Prepare(_)
        | Statement::Deallocate(_)
        | Statement::Begin(_)
        | Statement::Commit(_)
        | Statement::Rollback(_)
        | Statement::Savepoint(_)
        | Statement::ReleaseSavepoint(_)
        | Statement::RollbackToSavepoint(_)
        | Statement::SetTransaction(_)
        | Statement::Set(_)
        | Statement::Show(_)
        | Statement::ShowAll
        | Statement::Reset(_)
        | Statement::Discard(_)
        | Statement::Listen(_)
        | Statement::Unlisten(_)
        | Statement::Notify(..)
        | Statement::Flush
        | Statement::Checkpoint
        | Statement::Verify(_)
        | Statement::Accepted(_) => Vec::new(),
    }
}

fn target_plans(target: &mut SubscribeTarget) -> Vec<&mut LogicalPlan> {
    match target {
        SubscribeTarget::Query(query) => vec![&mut query.plan],
        SubscribeTarget::Relation(_) => Vec::new(),
    }
}
