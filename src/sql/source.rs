//! The catalog as DataFusion's planner sees it: tables by name, views inlined, functions, parameter types.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Constraint, Constraints, TableReference};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion::logical_expr::{
    AggregateUDF, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, TableType, WindowUDF,
};

use super::bind::BindContext;
use super::errors::carry;
use super::query::view_plan;
use super::resolve::FILES_SCHEMA;
use super::system::system_relation;
use super::types::Types;
use crate::catalog::{Relation, RelationKind};
use crate::functions::{self, session_state};

/// A relation that is read where it lies.
#[derive(Debug)]
pub(super) struct Stored {
    schema: SchemaRef,
    constraints: Option<Constraints>,
}

impl Stored {
    pub fn new(schema: SchemaRef) -> Self {
        Self { schema, constraints: None }
    }

    fn relation(relation: &Relation) -> Self {
        let key = Constraint::PrimaryKey(relation.primary_key.clone());
        let keyed = relation.kind == RelationKind::Table && !relation.primary_key.is_empty();
        let constraints = keyed.then(|| Constraints::new_unverified(vec![key]));
        Self { schema: relation.arrow_schema(), constraints }
    }
}

impl TableSource for Stored {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn constraints(&self) -> Option<&Constraints> {
        self.constraints.as_ref()
    }
}

/// A plain view: its query in place of a scan.
struct Inlined {
    schema: SchemaRef,
    plan: LogicalPlan,
}

impl TableSource for Inlined {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.plan))
    }
}

pub(super) struct Provider<'a> {
    context: &'a BindContext<'a>,
}

/// The functions and options of all statements.
fn state() -> &'static SessionState {
    static STATE: LazyLock<SessionState> = LazyLock::new(session_state);
    &STATE
}

impl<'a> Provider<'a> {
    pub fn new(context: &'a BindContext<'a>) -> Self {
        Self { context }
    }

    fn source(&self, schema: &str, name: &str) -> Result<Arc<dyn TableSource>> {
        if schema == FILES_SCHEMA {
            let columns = self.context.outside.file_columns(name).map_err(carry)?;
            let fields = columns.iter().map(|column| column.pg_type.field(&column.name, true));
            return Ok(Arc::new(Stored::new(Arc::new(Schema::new(fields.collect::<Vec<_>>())))));
        }
        if let Some(relation) = self.context.catalog.named(schema, name) {
            return match relation.kind {
                RelationKind::View => Ok(Arc::new(Inlined {
                    schema: relation.arrow_schema(),
                    plan: view_plan(relation, self.context).map_err(carry)?,
                })),
                _ => Ok(Arc::new(Stored::relation(relation))),
            };
        }
        match system_relation(schema, name) {
            Some(relation) => Ok(Arc::new(Stored::new(relation.arrow.clone()))),
            None => Err(carry(self.context.catalog.relation_not_found(Some(schema), name, &[]))),
        }
    }
}

impl ContextProvider for Provider<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        match &name {
            TableReference::Full { schema, table, .. } => self.source(schema, table),
            // Everything but the names of WITH queries was given its full name before.
            _ => Err(DataFusionError::Plan(format!("relation \"{name}\" does not exist"))),
        }
    }

    fn create_cte_work_table(&self, _name: &str, schema: SchemaRef) -> Result<Arc<dyn TableSource>> {
        let table = datafusion::datasource::cte_worktable::CteWorkTable::new(_name, schema);
        Ok(datafusion::datasource::provider_as_source(Arc::new(table)))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        state().expr_planners()
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        static TYPES: LazyLock<Arc<dyn TypePlanner>> = LazyLock::new(|| Arc::new(Types));
        Some(TYPES.clone())
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        state().scalar_functions().get(name).cloned().or_else(|| functions::registered_function(name))
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        state().higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        state().aggregate_functions().get(name).cloned().or_else(|| functions::registered_aggregate(name))
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        state().window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        state().config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        state().scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        state().higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        state().aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        state().window_functions().keys().cloned().collect()
    }
}
