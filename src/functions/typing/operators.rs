//! Operators: which types meet, what they become, and which of them PostgreSQL does not know.

use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use sqlparser::ast::BinaryOperator;

use super::casts::cast_to;
use super::literals::{Operand, digits, settle, wider};
use super::pending::{Pending, What};
use crate::error::{SqlError, SqlState};
use crate::functions::scalar::{
    Arithmetic, JsonCall, JsonOperator, Number, Operation, PgCast, TimeOperation, TimeShape, carry, interval_order,
};
use crate::zset::{NUMERIC_SCALE, PgType};

/// Types operators while they are planned.
#[derive(Debug)]
pub struct Operators;

impl ExprPlanner for Operators {
    fn plan_binary_op(&self, raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let Some(operator) = known(&raw.op) else { return Ok(PlannerResult::Original(raw)) };
        // A column that does not exist is reported by the planner itself, with its place.
        let kinds = [&raw.left, &raw.right].map(|side| Operand::new(side.clone(), schema).map(|operand| operand.kind));
        let [Ok(left), Ok(right)] = kinds else { return Ok(PlannerResult::Original(raw)) };
        let is_json = |kind: &Option<PgType>| matches!(kind, Some(PgType::Json | PgType::Jsonb));
        let library = |name| {
            let call = Pending::new(What::Library(name)).call(vec![raw.left.clone(), raw.right.clone()]);
            Ok(PlannerResult::Planned(call))
        };
        let is_bytea = |kind: &Option<PgType>| *kind == Some(PgType::Bytea);
        if operator == Known::Concatenation && (is_bytea(&left) || is_bytea(&right)) {
            return library("hw_concat");
        }
        if operator == Known::Arithmetic(Operation::Subtract)
            && is_json(&left)
            && matches!(right, Some(PgType::Array(_)))
        {
            return library("hw_jsonb_remove_keys");
        }
        let foreign = |kind: &Option<PgType>| matches!(kind, Some(PgType::Array(_) | PgType::Bytea));
        if !is_json(&left) && (foreign(&left) || foreign(&right)) {
            return Ok(PlannerResult::Original(raw));
        }
        Ok(PlannerResult::Planned(Pending::new(What::Operator(operator)).call(vec![raw.left, raw.right])))
    }
}

/// The operators that mean something else, or mean more, than in DataFusion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Known {
    Arithmetic(Operation),
    Comparison(Operator),
    Concatenation,
    Json(JsonOperator),
    /// `<@`: the other way round.
    ContainedIn,
}

impl Known {
    pub fn symbol(self) -> &'static str {
        match self {
            Known::Arithmetic(operation) => operation.symbol(),
            Known::Comparison(Operator::Eq) => "=",
            Known::Comparison(Operator::NotEq) => "<>",
            Known::Comparison(Operator::Lt) => "<",
            Known::Comparison(Operator::LtEq) => "<=",
            Known::Comparison(Operator::Gt) => ">",
            Known::Comparison(Operator::GtEq) => ">=",
            Known::Comparison(_) => "IS DISTINCT FROM",
            Known::Concatenation => "||",
            Known::Json(operator) => operator.symbol(),
            Known::ContainedIn => "<@",
        }
    }

    /// What it probably gives, as far as the types of its sides are known.
    pub fn result(self, left: Option<&PgType>, right: Option<&PgType>) -> Option<PgType> {
        match self {
            Known::Comparison(_) | Known::ContainedIn => Some(PgType::Bool),
            Known::Json(operator) => operator.result(left),
            Known::Concatenation => Some(if left == Some(&PgType::Jsonb) { PgType::Jsonb } else { PgType::Text }),
            Known::Arithmetic(operation) => {
                let (left, right) = (left.or(right)?, right.or(left)?);
                match common_number(operation, left, right) {
                    Some(number) => Some(PgType::of_arrow(&number.arrow())),
                    None => match time_shape(operation, left, right) {
                        Some((shape, _)) => Some(shape.result()),
                        None => Some(left.clone()),
                    },
                }
            }
        }
    }

    /// DataFusion's operator for what is left to it.
    fn plain(self) -> Option<Operator> {
        Some(match self {
            Known::Arithmetic(Operation::Add) => Operator::Plus,
            Known::Arithmetic(Operation::Subtract) => Operator::Minus,
            Known::Arithmetic(Operation::Multiply) => Operator::Multiply,
            Known::Arithmetic(Operation::Divide) => Operator::Divide,
            Known::Arithmetic(Operation::Remainder) => Operator::Modulo,
            Known::Comparison(operator) => operator,
            Known::Concatenation => Operator::StringConcat,
            Known::Json(_) | Known::ContainedIn => return None,
        })
    }
}

fn known(operator: &BinaryOperator) -> Option<Known> {
    Some(match operator {
        BinaryOperator::Plus => Known::Arithmetic(Operation::Add),
        BinaryOperator::Minus => Known::Arithmetic(Operation::Subtract),
        BinaryOperator::Multiply => Known::Arithmetic(Operation::Multiply),
        BinaryOperator::Divide => Known::Arithmetic(Operation::Divide),
        BinaryOperator::Modulo => Known::Arithmetic(Operation::Remainder),
        BinaryOperator::Eq => Known::Comparison(Operator::Eq),
        BinaryOperator::NotEq => Known::Comparison(Operator::NotEq),
        BinaryOperator::Lt => Known::Comparison(Operator::Lt),
        BinaryOperator::LtEq => Known::Comparison(Operator::LtEq),
        BinaryOperator::Gt => Known::Comparison(Operator::Gt),
        BinaryOperator::GtEq => Known::Comparison(Operator::GtEq),
        BinaryOperator::StringConcat => Known::Concatenation,
        BinaryOperator::Arrow => Known::Json(JsonOperator::Get),
        BinaryOperator::LongArrow => Known::Json(JsonOperator::GetText),
        BinaryOperator::HashArrow => Known::Json(JsonOperator::Path),
        BinaryOperator::HashLongArrow => Known::Json(JsonOperator::PathText),
        BinaryOperator::AtArrow => Known::Json(JsonOperator::Contains),
        BinaryOperator::ArrowAt => Known::ContainedIn,
        BinaryOperator::Question => Known::Json(JsonOperator::HasKey),
        BinaryOperator::QuestionPipe => Known::Json(JsonOperator::HasAnyKey),
        BinaryOperator::QuestionAnd => Known::Json(JsonOperator::HasAllKeys),
        _ => return None,
    })
}

fn known_of(operator: Operator) -> Option<Known> {
    Some(match operator {
        Operator::Plus => Known::Arithmetic(Operation::Add),
        Operator::Minus => Known::Arithmetic(Operation::Subtract),
        Operator::Multiply => Known::Arithmetic(Operation::Multiply),
        Operator::Divide => Known::Arithmetic(Operation::Divide),
        Operator::Modulo => Known::Arithmetic(Operation::Remainder),
        Operator::Eq
        | Operator::NotEq
        | Operator::Lt
        | Operator::LtEq
        | Operator::Gt
        | Operator::GtEq
        | Operator::IsDistinctFrom
        | Operator::IsNotDistinctFrom => Known::Comparison(operator),
        Operator::StringConcat => Known::Concatenation,
        _ => return None,
    })
}

/// A binary expression that DataFusion's planner made itself.
pub(super) fn binary_expr(binary: BinaryExpr, schema: &DFSchema) -> Result<Expr> {
    match known_of(binary.op) {
        Some(operator) => operator_expr(operator, *binary.left, *binary.right, schema),
        None => Ok(Expr::BinaryExpr(binary)),
    }
}

/// An operator whose sides are typed.
pub(super) fn operator_expr(operator: Known, left: Expr, right: Expr, schema: &DFSchema) -> Result<Expr> {
    let (left, right) = (Operand::new(left, schema)?, Operand::new(right, schema)?);
    if let Some(planned) = operator_call(operator, left.clone(), right.clone())? {
        return Ok(planned);
    }
    match operator.plain() {
        Some(plain) => Ok(compare(plain, settle(left.expr), settle(right.expr))),
        None => Err(undefined(operator.symbol(), left.kind.as_ref(), right.kind.as_ref())),
    }
}

/// `None` for what is left to DataFusion.
fn operator_call(operator: Known, left: Operand, right: Operand) -> Result<Option<Expr>> {
    match operator {
        Known::Arithmetic(operation) => arithmetic_call(operation, left, right),
        Known::Comparison(operator) => comparison(operator, left, right).map(Some),
        Known::Concatenation => concatenation(left, right),
        Known::Json(operator) => json(operator, left, right),
        Known::ContainedIn => json(JsonOperator::Contains, right, left),
    }
}

/// An operator on json; `None` if the left side is something else.
fn json(operator: JsonOperator, left: Operand, right: Operand) -> Result<Option<Expr>> {
    let Some(kind @ (PgType::Json | PgType::Jsonb)) = left.kind.clone() else { return Ok(None) };
    let by_index = matches!(right.kind, Some(PgType::Int2 | PgType::Int4 | PgType::Int8));
    let wanted = match operator {
        JsonOperator::Get | JsonOperator::GetText | JsonOperator::Remove if by_index => PgType::Int4,
        JsonOperator::Contains | JsonOperator::Concat => PgType::Jsonb,
        // Arrays of texts travel in their text form.
        _ => PgType::Text,
    };
    let right = match (&right.kind, &wanted) {
        (Some(PgType::Array(_)), PgType::Text) => {
            let array = Operand { expr: cast_to(right, &PgType::Array(Box::new(PgType::Text)))?, kind: None };
            PgCast::call(array.expr, &PgType::Array(Box::new(PgType::Text)), &PgType::Text, true)
        }
        _ => cast_to(right, &wanted)?,
    };
    Ok(Some(JsonCall::call(operator, left.expr, &kind, right, by_index)))
}

pub(super) fn undefined(operator: &str, left: Option<&PgType>, right: Option<&PgType>) -> DataFusionError {
    let name = |kind: Option<&PgType>| kind.map_or("unknown".to_string(), |kind| plain(kind).to_string());
    let message = format!("operator does not exist: {} {operator} {}", name(left), name(right));
    let hint = "No operator matches these types. Add an explicit cast, such as value::integer or value::text.";
    carry(SqlError::new(SqlState::UNDEFINED_FUNCTION, message).hint(hint))
}

/// The type without its declared length.
pub fn plain(kind: &PgType) -> PgType {
    match kind {
        PgType::Varchar(_) => PgType::Varchar(None),
        PgType::Numeric(_) => PgType::Numeric(None),
        PgType::Bpchar(_) => PgType::Bpchar(None),
        other => other.clone(),
    }
}

/// Arithmetic that is known to be defined.
pub(super) fn arithmetic(operation: Operation, left: Operand, right: Operand) -> Result<Expr> {
    let kinds = (left.kind.clone(), right.kind.clone());
    arithmetic_call(operation, left, right)?
        .ok_or_else(|| undefined(operation.symbol(), kinds.0.as_ref(), kinds.1.as_ref()))
}

fn arithmetic_call(operation: Operation, left: Operand, right: Operand) -> Result<Option<Expr>> {
    let (left, right) = with_types(operation, left, right)?;
    let (Some(left_kind), Some(right_kind)) = (left.kind.clone(), right.kind.clone()) else {
        return Ok(None);
    };
    if let Some(number) = common_number(operation, &left_kind, &right_kind) {
        return numbers(operation, number, left, right).map(Some);
    }
    if let Some((shape, swapped)) = time_shape(operation, &left_kind, &right_kind) {
        return times(operation, shape, swapped, left, right).map(Some);
    }
    if operation == Operation::Subtract && left_kind == PgType::Jsonb {
        return json(JsonOperator::Remove, left, right);
    }
    let foreign = |kind: &PgType| {
        matches!(kind, PgType::Json | PgType::Jsonb | PgType::Array(_))
            || matches!(kind, PgType::Numeric(Some((precision, _))) if *precision > 38)
    };
    if foreign(&left_kind) || foreign(&right_kind) {
        return Ok(None);
    }
    Err(undefined(operation.symbol(), Some(&left_kind), Some(&right_kind)))
}

/// An operand without type takes the other's, or the one that makes sense beside it.
fn with_types(operation: Operation, mut left: Operand, mut right: Operand) -> Result<(Operand, Operand)> {
    let beside = |other: &PgType, on_the_right: bool| match (operation, other) {
        (Operation::Add, PgType::Date | PgType::Timestamp | PgType::Timestamptz | PgType::Time) => PgType::Interval,
        (Operation::Multiply | Operation::Divide, PgType::Interval) if on_the_right => PgType::Float8,
        (Operation::Subtract, PgType::Jsonb) => PgType::Text,
        _ => other.clone(),
    };
    let typed = |operand: Operand, kind: PgType| -> Result<Operand> {
        Ok(Operand { expr: cast_to(operand, &kind)?, kind: Some(kind) })
    };
    match (left.kind.clone(), right.kind.clone()) {
        (Some(kind), None) => right = typed(right, beside(&kind, true))?,
        (None, Some(kind)) => left = typed(left, beside(&kind, false))?,
        _ => {}
    }
    Ok((left, right))
}

/// The type in which two numbers meet; `None` if one is not a number.
fn common_number(operation: Operation, left: &PgType, right: &PgType) -> Option<Number> {
    use PgType::{Float4, Float8, Int2, Int4, Int8, Numeric};
    let is_number = |kind: &PgType| matches!(kind, Int2 | Int4 | Int8 | Float4 | Float8 | Numeric(_));
    if !is_number(left) || !is_number(right) {
        return None;
    }
    match (left, right) {
        (Float4, Float4) => Some(Number::Float4),
        (Float4 | Float8, _) | (_, Float4 | Float8) => Some(Number::Float8),
        (Numeric(_), _) | (_, Numeric(_)) => {
            let (left, right) = (digits(left)?, digits(right)?);
            (left.0 <= 38 && right.0 <= 38).then(|| Number::numeric(operation, left, right))
        }
        (Int8, _) | (_, Int8) => Some(Number::Int8),
        (Int4, _) | (_, Int4) => Some(Number::Int4),
        _ => Some(Number::Int2),
    }
}

fn numbers(operation: Operation, number: Number, left: Operand, right: Operand) -> Result<Expr> {
    let side = |operand: Operand| -> Result<Expr> {
        let kind = match number {
            Number::Int2 => PgType::Int2,
            Number::Int4 => PgType::Int4,
            Number::Int8 => PgType::Int8,
            Number::Float4 => PgType::Float4,
            Number::Float8 => PgType::Float8,
            // Each side of a numeric operation keeps its scale.
            Number::Numeric(..) => match &operand.kind {
                Some(kind @ (PgType::Int2 | PgType::Int4 | PgType::Int8)) => PgType::Numeric(digits(kind)),
                Some(PgType::Numeric(_)) | None => return Ok(operand.expr),
                Some(other) => other.clone(),
            },
        };
        cast_to(operand, &kind)
    };
    Ok(Arithmetic::call(operation, number, side(left)?, side(right)?))
}

/// How dates, times and intervals meet, and whether the sides have to change places.
fn time_shape(operation: Operation, left: &PgType, right: &PgType) -> Option<(TimeShape, bool)> {
    use Operation::{Add, Divide, Multiply, Subtract};
    use PgType::{Date, Float4, Float8, Int2, Int4, Int8, Interval, Numeric, Time, Timestamp, Timestamptz};
    let straight = |shape| Some((shape, false));
    match (operation, left, right) {
        (Add | Subtract, Date, Int2 | Int4) => straight(TimeShape::DateDays),
        (Add, Int2 | Int4, Date) => Some((TimeShape::DateDays, true)),
        (Subtract, Date, Date) => straight(TimeShape::DateDate),
        (Subtract, Date | Timestamp | Timestamptz, Date | Timestamp | Timestamptz) => {
            straight(TimeShape::TimestampTimestamp)
        }
        (Add | Subtract, Date | Timestamp, Interval) => straight(TimeShape::TimestampInterval),
        (Add, Interval, Date | Timestamp) => Some((TimeShape::TimestampInterval, true)),
        (Add | Subtract, Timestamptz, Interval) => straight(TimeShape::TimestamptzInterval),
        (Add, Interval, Timestamptz) => Some((TimeShape::TimestamptzInterval, true)),
        (Add | Subtract, Time, Interval) => straight(TimeShape::TimeInterval),
        (Add, Interval, Time) => Some((TimeShape::TimeInterval, true)),
        (Subtract, Time, Time) => straight(TimeShape::TimeTime),
        (Add, Date, Time) => straight(TimeShape::TimestampTime),
        (Add, Time, Date) => Some((TimeShape::TimestampTime, true)),
        (Add | Subtract, Interval, Interval) => straight(TimeShape::IntervalInterval),
        (Multiply, Interval, Int2 | Int4 | Int8 | Float4 | Float8 | Numeric(_)) => straight(TimeShape::IntervalTimes),
        (Multiply, Int2 | Int4 | Int8 | Float4 | Float8 | Numeric(_), Interval) => {
            Some((TimeShape::IntervalTimes, true))
        }
        (Divide, Interval, Int2 | Int4 | Int8 | Float4 | Float8 | Numeric(_)) => straight(TimeShape::IntervalOver),
        _ => None,
    }
}

fn times(operation: Operation, shape: TimeShape, swapped: bool, left: Operand, right: Operand) -> Result<Expr> {
    let (first, second) = if swapped { (right, left) } else { (left, right) };
    let zoned = |operand: &Operand| operand.kind == Some(PgType::Timestamptz);
    let (first_kind, second_kind) = match shape {
        TimeShape::DateDays => (PgType::Date, PgType::Int4),
        TimeShape::DateDate => (PgType::Date, PgType::Date),
        TimeShape::TimestampTimestamp if zoned(&first) || zoned(&second) => (PgType::Timestamptz, PgType::Timestamptz),
        TimeShape::TimestampTimestamp => (PgType::Timestamp, PgType::Timestamp),
        TimeShape::TimestampInterval => (PgType::Timestamp, PgType::Interval),
        TimeShape::TimestamptzInterval => (PgType::Timestamptz, PgType::Interval),
        TimeShape::TimeInterval => (PgType::Time, PgType::Interval),
        TimeShape::TimeTime => (PgType::Time, PgType::Time),
        TimeShape::TimestampTime => (PgType::Timestamp, PgType::Time),
        TimeShape::IntervalInterval => (PgType::Interval, PgType::Interval),
        TimeShape::IntervalTimes | TimeShape::IntervalOver => (PgType::Interval, PgType::Float8),
    };
    let (first, second) = (cast_to(first, &first_kind)?, cast_to(second, &second_kind)?);
    Ok(TimeOperation::call(shape, operation == Operation::Subtract, first, second))
}

/// A comparison of two values, brought to one type.
pub(super) fn comparison(operator: Operator, left: Operand, right: Operand) -> Result<Expr> {
    if let (Some(PgType::Interval), Some(PgType::Interval) | None) | (None, Some(PgType::Interval)) =
        (&left.kind, &right.kind)
    {
        let side = |side: Operand| cast_to(side, &PgType::Interval).map(interval_order);
        return Ok(compare(operator, side(left)?, side(right)?));
    }
    let (left, right) = (by_its_place(left, &right.kind.clone()), right);
    let (left, right) = (left.clone(), by_its_place(right, &left.kind));
    let (left, right) = match (left.kind.clone(), right.kind.clone()) {
        (Some(kind), None) => (settle(left.expr), cast_to(right, &beside_comparison(&kind))?),
        (None, Some(kind)) => (cast_to(left, &beside_comparison(&kind))?, settle(right.expr)),
        (None, None) => (settle(left.expr), settle(right.expr)),
        (Some(a), Some(b)) => {
            if never_equal(&a, &b) {
                return Err(undefined(&operator.to_string(), Some(&a), Some(&b)));
            }
            match wider(&a, &b) {
                // Text of any declared length is compared as it is.
                Some(kind) if !is_text(&kind) && a != b => (cast_to(left, &kind)?, cast_to(right, &kind)?),
                _ => (text_side(left, &b)?, text_side(right, &a)?),
            }
        }
    };
    Ok(compare(operator, left, right))
}

fn is_text(kind: &PgType) -> bool {
    matches!(kind, PgType::Text | PgType::Varchar(_) | PgType::Bpchar(_) | PgType::Name)
}

/// A parameter that was declared numeric has the digits of the numeric beside it.
fn by_its_place(operand: Operand, other: &Option<PgType>) -> Operand {
    match (&operand.expr, &operand.kind, other) {
        (Expr::Placeholder(_), Some(PgType::Numeric(None)), Some(PgType::Numeric(Some(_)))) => {
            Operand { kind: None, ..operand }
        }
        _ => operand,
    }
}

/// One side of a comparison: beside a char(n) the blanks at the end of a varchar do not count.
fn text_side(operand: Operand, other: &PgType) -> Result<Expr> {
    match (&operand.kind, other) {
        (Some(PgType::Varchar(_)), PgType::Bpchar(_)) => cast_to(operand, &PgType::Bpchar(None)),
        _ => Ok(settle(operand.expr)),
    }
}

/// What a text constant is read as beside a value: a declared length would cut it.
pub(super) fn beside_comparison(kind: &PgType) -> PgType {
    match kind {
        PgType::Varchar(_) | PgType::Name => PgType::Text,
        PgType::Bpchar(_) => PgType::Bpchar(None),
        PgType::Numeric(Some((_, scale))) if *scale > NUMERIC_SCALE => {
            PgType::Numeric(Some((76, *scale + NUMERIC_SCALE)))
        }
        // 1.25 is not equal to the numeric(3,1) to which it would be rounded.
        PgType::Numeric(_) => PgType::Numeric(None),
        other => other.clone(),
    }
}

fn compare(operator: Operator, left: Expr, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), operator, Box::new(right)))
}

/// Whether PostgreSQL has no `=` for the two types.
pub(super) fn never_equal(left: &PgType, right: &PgType) -> bool {
    /// Families whose members can be compared with each other and with nothing else.
    fn family(kind: &PgType) -> Option<u8> {
        Some(match kind {
            PgType::Bool => 1,
            PgType::Int2 | PgType::Int4 | PgType::Int8 | PgType::Float4 | PgType::Float8 | PgType::Numeric(_) => 2,
            PgType::Text | PgType::Varchar(_) => 3,
            PgType::Date | PgType::Timestamp | PgType::Timestamptz => 4,
            PgType::Time => 5,
            PgType::Interval => 6,
            PgType::Uuid => 7,
            PgType::Bytea => 8,
            // Columns of the system catalogs are of these, and clients compare them freely.
            _ => return None,
        })
    }
    matches!((family(left), family(right)), (Some(a), Some(b)) if a != b)
}

/// `||` of text with anything is text; arrays and jsonb are left to others.
fn concatenation(left: Operand, right: Operand) -> Result<Option<Expr>> {
    let is_text = |operand: &Operand| operand.kind.as_ref().is_none_or(is_text);
    let foreign = |operand: &Operand| {
        matches!(operand.kind, Some(PgType::Array(_) | PgType::Jsonb | PgType::Json | PgType::Bytea))
    };
    if left.kind == Some(PgType::Jsonb) {
        return json(JsonOperator::Concat, left, right);
    }
    if foreign(&left) || foreign(&right) {
        return Ok(None);
    }
    if !is_text(&left) && !is_text(&right) {
        return Err(undefined("||", left.kind.as_ref(), right.kind.as_ref()));
    }
    let (left, right) = (cast_to(left, &PgType::Text)?, cast_to(right, &PgType::Text)?);
    Ok(Some(compare(Operator::StringConcat, left, right)))
}
