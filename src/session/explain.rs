//! EXPLAIN: how a query is kept up to date.

use arrow::array::RecordBatch;

use super::cancel::Guard;
use super::describe::text_column;
use super::response::Response;
use super::session::Session;
use super::show::text_rows;
use crate::catalog::RelationKind;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::sql::{self, Explain, ExplainFormat, ExplainTarget, InsertRows, Query, Statement};
use crate::zset::RelationId;

impl Session {
    pub(super) async fn explain(&mut self, explain: &Explain, guard: &Guard) -> SqlResult<Response> {
        let mut lines = match &explain.what {
            ExplainTarget::Query(query) | ExplainTarget::Dataflow(query) => self.engine.explain(&query.plan)?,
            ExplainTarget::Relation(id) => {
                let query = self.definition(*id)?;
                self.engine.explain(&query.plan)?
            }
            ExplainTarget::Change(statement) => self.explain_change(statement)?,
        };
        if explain.analyze
            && let ExplainTarget::Query(query) = &explain.what
        {
            lines.extend(self.analyze(query, guard).await?);
        }
        let lines = match explain.format {
            ExplainFormat::Text => lines,
            ExplainFormat::Json => vec![serde_json::json!([{ "Plan": lines }]).to_string()],
            ExplainFormat::Dot => vec![dot(&lines)],
        };
        Ok(Response::Rows(text_rows(vec![text_column("QUERY PLAN")], vec![lines], "EXPLAIN")))
    }

    fn explain_change(&self, statement: &Statement) -> SqlResult<Vec<String>> {
        let (title, plan) = match statement {
            Statement::Insert(insert) => match &insert.rows {
                InsertRows::Batch(batch) => {
                    return Ok(vec![format!("insert into {}: {} rows", insert.table.name, batch.num_rows())]);
                }
                InsertRows::Plan(plan) => (format!("insert into {}", insert.table.name), plan),
            },
            Statement::Update(update) => (format!("update {}", update.table.name), &update.plan),
            Statement::Delete(delete) => (format!("delete from {}", delete.table.name), &delete.plan),
            _ => return Err(SqlError::internal("only INSERT, UPDATE and DELETE are explained as changes")),
        };
        let lines = self.engine.explain(plan)?;
        Ok(std::iter::once(title).chain(lines.into_iter().map(|line| format!("  {line}"))).collect())
    }

    /// Runs the query and tells how long it took.
    async fn analyze(&mut self, query: &Query, guard: &Guard) -> SqlResult<Vec<String>> {
        let began = std::time::Instant::now();
        let batches = self.reader(guard).collect(&query.plan, Vec::new()).await?;
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        Ok(vec![format!("rows: {rows}"), format!("execution time: {:.3} ms", began.elapsed().as_secs_f64() * 1e3)])
    }

    /// The bound query of a view.
    pub(super) fn definition(&mut self, id: RelationId) -> SqlResult<Query> {
        let view = self.view();
        let relation = view.catalog.get(id);
        let relation = relation.ok_or_else(|| SqlError::new(SqlState::UNDEFINED_TABLE, "the relation is gone"))?;
        match relation.kind {
            RelationKind::View | RelationKind::MaterializedView => sql::bind_definition(relation, &view.catalog),
            _ => {
                let message = format!("\"{}\" is not a view", relation.name);
                Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message))
            }
        }
    }
}

/// The plan's lines as a graph: indentation is what hangs below what.
fn dot(lines: &[String]) -> String {
    let mut text = String::from("digraph plan {\n");
    let mut above: Vec<(usize, usize)> = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        above.retain(|(other, _)| *other < indent);
        text.push_str(&format!("  n{index} [label=\"{}\"];\n", line.trim().replace('"', "\\\"")));
        if let Some((_, parent)) = above.last() {
            text.push_str(&format!("  n{index} -> n{parent};\n"));
        }
        above.push((indent, index));
    }
    text.push('}');
    text
}
