//! The functions of `pg_catalog` that answer from the catalog or the session: their names and types.
//!
//! A plan is bound with placeholders. Whoever runs it puts in the surroundings with [`fix_system`]; they enter by the
//! trait [`SystemFunctions`], since this room knows neither catalogs nor sessions.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::scalar::ScalarValue;

use crate::error::SqlResult;
use crate::zset::PgType;

/// What the functions ask.
pub trait SystemFunctions: Send + Sync {
    /// The value of one call. The arguments have the types that the list below gives, or are NULL.
    fn call(&self, name: &str, arguments: &[ScalarValue]) -> SqlResult<ScalarValue>;
}

/// Name, arguments (those after `|` may be left out; `*` as the last takes any number), result.
///
/// Names that begin with `hw_` stand for casts; see `sql::pg_catalog`.
#[rustfmt::skip]
const FUNCTIONS: &[(&str, &str, &str)] = &[
    ("array_lower", "any, int", "int"),
    ("array_upper", "any, int", "int"),
    ("col_description", "oid, int", "text"),
    ("current_catalog", "", "name"),
    ("current_database", "", "name"),
    ("current_role", "", "name"),
    ("current_schema", "", "name"),
    ("current_schemas", "boolean", "name[]"),
    ("current_setting", "text | boolean", "text"),
    ("current_user", "", "name"),
    ("format_type", "oid, int", "text"),
    ("getdatabaseencoding", "", "name"),
    ("has_any_column_privilege", "any, any | any", "boolean"),
    ("has_column_privilege", "any, any, any | any", "boolean"),
    ("has_database_privilege", "any, any | any", "boolean"),
    ("has_foreign_data_wrapper_privilege", "any, any | any", "boolean"),
    ("has_function_privilege", "any, any | any", "boolean"),
    ("has_language_privilege", "any, any | any", "boolean"),
    ("has_schema_privilege", "any, any | any", "boolean"),
    ("has_sequence_privilege", "any, any | any", "boolean"),
    ("has_server_privilege", "any, any | any", "boolean"),
    ("has_table_privilege", "any, any | any", "boolean"),
    ("has_tablespace_privilege", "any, any | any", "boolean"),
    ("has_type_privilege", "any, any | any", "boolean"),
    ("hw_empty_array", "", "text[]"),
    ("hw_regclass", "any", "oid"),
    ("hw_regclass_name", "any", "text"),
    ("hw_regnamespace", "any", "oid"),
    ("hw_regnamespace_name", "any", "text"),
    ("hw_regproc", "any", "oid"),
    ("hw_regproc_name", "any", "text"),
    ("hw_regrole", "any", "oid"),
    ("hw_regrole_name", "any", "text"),
    ("hw_regtype", "any", "oid"),
    ("hw_regtype_name", "any", "text"),
    ("inet_client_addr", "", "text"),
    ("inet_client_port", "", "int"),
    ("inet_server_addr", "", "text"),
    ("inet_server_port", "", "int"),
    ("obj_description", "oid | text", "text"),
    ("pg_advisory_lock", "bigint | bigint", "text"),
    ("pg_advisory_unlock", "bigint | bigint", "boolean"),
    ("pg_advisory_unlock_all", "", "text"),
    ("pg_backend_pid", "", "int"),
    ("pg_cancel_backend", "int", "boolean"),
    ("pg_char_to_encoding", "text", "int"),
    ("pg_collation_is_visible", "oid", "boolean"),
    ("pg_conf_load_time", "", "timestamptz"),
    ("pg_conversion_is_visible", "oid", "boolean"),
    ("pg_database_size", "any", "bigint"),
    ("pg_encoding_to_char", "int", "name"),
    ("pg_function_is_visible", "oid", "boolean"),
    ("pg_get_constraintdef", "oid | boolean", "text"),
    ("pg_get_expr", "text, oid | boolean", "text"),
    ("pg_get_function_arguments", "oid", "text"),
    ("pg_get_function_identity_arguments", "oid", "text"),
    ("pg_get_function_result", "oid", "text"),
    ("pg_get_function_sqlbody", "oid", "text"),
    ("pg_get_functiondef", "oid", "text"),
    ("pg_get_indexdef", "oid | int, boolean", "text"),
    ("pg_get_partition_constraintdef", "oid", "text"),
    ("pg_get_partkeydef", "oid", "text"),
    ("pg_get_ruledef", "oid | boolean", "text"),
    ("pg_get_serial_sequence", "text, text", "text"),
    ("pg_get_statisticsobjdef_columns", "oid", "text"),
    ("pg_get_triggerdef", "oid | boolean", "text"),
    ("pg_get_userbyid", "oid", "name"),
    ("pg_get_viewdef", "any | any", "text"),
    ("pg_has_role", "any, any | any", "boolean"),
    ("pg_indexes_size", "oid", "bigint"),
    ("pg_is_in_recovery", "", "boolean"),
    ("pg_is_other_temp_schema", "oid", "boolean"),
    ("pg_my_temp_schema", "", "oid"),
    ("pg_opclass_is_visible", "oid", "boolean"),
    ("pg_operator_is_visible", "oid", "boolean"),
    ("pg_opfamily_is_visible", "oid", "boolean"),
    ("pg_partition_ancestors", "oid", "oid"),
    ("pg_postmaster_start_time", "", "timestamptz"),
    ("pg_relation_is_publishable", "oid", "boolean"),
    ("pg_relation_is_updatable", "oid, boolean", "int"),
    ("pg_relation_size", "oid | text", "bigint"),
    ("pg_size_pretty", "any", "text"),
    ("pg_statistics_obj_is_visible", "oid", "boolean"),
    ("pg_table_is_visible", "oid", "boolean"),
    ("pg_table_size", "oid", "bigint"),
    ("pg_tablespace_location", "oid", "text"),
    ("pg_terminate_backend", "int", "boolean"),
    ("pg_total_relation_size", "oid", "bigint"),
    ("pg_try_advisory_lock", "bigint | bigint", "boolean"),
    ("pg_type_is_visible", "oid", "boolean"),
    ("row_security_active", "any", "boolean"),
    ("session_user", "", "name"),
    ("set_config", "text, text, boolean", "text"),
    ("shobj_description", "oid, text", "text"),
    ("to_regclass", "any", "oid"),
    ("to_regnamespace", "any", "oid"),
    ("to_regproc", "any", "oid"),
    ("to_regrole", "any", "oid"),
    ("to_regtype", "any", "oid"),
    ("txid_current", "", "bigint"),
    ("user", "", "name"),
    ("version", "", "text"),
];

/// The placeholders, to be registered with all other functions.
pub fn system_functions() -> Vec<Arc<ScalarUDF>> {
    static ALL: LazyLock<Vec<Arc<ScalarUDF>>> = LazyLock::new(|| {
        let placeholder = |shape| Arc::new(ScalarUDF::from(SystemFunction { shape: Arc::new(shape), calls: None }));
        FUNCTIONS.iter().map(Shape::parse).map(placeholder).collect()
    });
    ALL.clone()
}

/// Puts the surroundings into every system function of a plan. Do it before constants are folded.
pub fn fix_system(plan: LogicalPlan, calls: &Arc<dyn SystemFunctions>) -> Result<LogicalPlan> {
    let fixed = plan.transform_down_with_subqueries(|plan| {
        plan.map_expressions(|expression| expression.transform_up(|expression| Ok(fix(expression, calls))))
    })?;
    Ok(fixed.data)
}

fn fix(expression: Expr, calls: &Arc<dyn SystemFunctions>) -> Transformed<Expr> {
    let Expr::ScalarFunction(call) = &expression else { return Transformed::no(expression) };
    let Some(function) = call.func.inner().as_ref().downcast_ref::<SystemFunction>() else {
        return Transformed::no(expression);
    };
    let function = SystemFunction { shape: function.shape.clone(), calls: Some(calls.clone()) };
    let func = Arc::new(ScalarUDF::from(function));
    Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args: call.args.clone() }))
}

/// A type that an argument may be declared with.
#[derive(Debug, Clone, PartialEq)]
enum Argument {
    Any,
    Of(PgType),
}

#[derive(Debug)]
struct Shape {
    name: &'static str,
    arguments: Vec<Argument>,
    /// How many arguments must be there.
    required: usize,
    result: PgType,
    signature: Signature,
}

impl Shape {
    fn parse((name, arguments, result): &(&'static str, &'static str, &'static str)) -> Shape {
        let (required, optional) = arguments.split_once('|').unwrap_or((arguments, ""));
        let parse = |list: &str| -> Vec<Argument> {
            let words = list.split(',').map(str::trim).filter(|word| !word.is_empty());
            words.map(|word| PgType::parse(word).map_or(Argument::Any, Argument::Of)).collect()
        };
        let (mut arguments, optional) = (parse(required), parse(optional));
        let required = arguments.len();
        arguments.extend(optional);
        // These act; the others answer alike within a statement.
        let acts = ["set_config", "pg_cancel_backend", "pg_terminate_backend"].contains(name);
        let volatility = if acts { Volatility::Volatile } else { Volatility::Stable };
        let result = PgType::parse(result).expect("results have known types");
        Shape { name, arguments, required, result, signature: Signature::user_defined(volatility) }
    }
}

struct SystemFunction {
    shape: Arc<Shape>,
    calls: Option<Arc<dyn SystemFunctions>>,
}

impl SystemFunction {
    fn identity(&self) -> (&'static str, Option<*const ()>) {
        (self.shape.name, self.calls.as_ref().map(|calls| Arc::as_ptr(calls).cast()))
    }

    fn call(&self, arguments: &[ScalarValue]) -> Result<ScalarValue> {
        let Some(calls) = &self.calls else {
            return Err(DataFusionError::Execution(format!("{} cannot be used here", self.shape.name)));
        };
        let value =
            calls.call(self.shape.name, arguments).map_err(|error| DataFusionError::External(Box::new(error)))?;
        match value.is_null() {
            true => ScalarValue::try_new_null(&self.shape.result.arrow()),
            false => Ok(value),
        }
    }
}

impl fmt::Debug for SystemFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shape.name)
    }
}

impl PartialEq for SystemFunction {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for SystemFunction {}

impl Hash for SystemFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl ScalarUDFImpl for SystemFunction {
    fn name(&self) -> &str {
        self.shape.name
    }

    fn signature(&self) -> &Signature {
        &self.shape.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.shape.result.arrow())
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(self.shape.result.field(self.shape.name, true)))
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let shape = &self.shape;
        if given.len() < shape.required || given.len() > shape.arguments.len() {
            return Err(DataFusionError::Plan(format!("function {} has other arguments", shape.name)));
        }
        let pairs = given.iter().zip(&shape.arguments);
        Ok(pairs
            .map(|(given, declared)| match declared {
                Argument::Any => given.clone(),
                Argument::Of(kind) => kind.arrow(),
            })
            .collect())
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if call.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_))) {
            let arguments: Vec<ScalarValue> = (call.args.into_iter())
                .filter_map(|argument| match argument {
                    ColumnarValue::Scalar(value) => Some(value),
                    ColumnarValue::Array(_) => None,
                })
                .collect();
            return self.call(&arguments).map(ColumnarValue::Scalar);
        }
        let columns = ColumnarValue::values_to_arrays(&call.args)?;
        let rows = (0..call.number_rows).map(|row| {
            let arguments: Result<Vec<ScalarValue>> =
                columns.iter().map(|column| ScalarValue::try_from_array(column, row)).collect();
            self.call(&arguments?)
        });
        let values = rows.collect::<Result<Vec<ScalarValue>>>()?;
        Ok(ColumnarValue::Array(self.column(values)?))
    }
}

impl SystemFunction {
    fn column(&self, values: Vec<ScalarValue>) -> Result<ArrayRef> {
        let kind = self.shape.result.arrow();
        if values.is_empty() {
            return Ok(new_null_array(&kind, 0));
        }
        let array = ScalarValue::iter_to_array(values)?;
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        Ok(cast_with_options(&array, &kind, &strict)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_every_name_occurs_once() {
        assert!(FUNCTIONS.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn arguments_are_coerced_to_what_is_declared() {
        let all = system_functions();
        let format_type = all.iter().find(|function| function.name() == "format_type").expect("it is listed");
        let given = [DataType::Utf8, DataType::Null];
        assert_eq!(format_type.coerce_types(&given).expect("two"), [DataType::UInt32, DataType::Int32]);
        assert!(format_type.coerce_types(&given[..1]).is_err());
    }
}
