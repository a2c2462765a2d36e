//! VERIFY: a materialized view beside its query, computed anew from the same step, while others go on.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::Schema;

use super::cancel::Guard;
use super::response::{Response, RowStream};
use super::session::Session;
use crate::catalog::Relation;
use crate::error::{SqlError, SqlResult};
use crate::sql::OutputColumn;
use crate::zset::{PgType, Rows, consolidate};

/// The column behind the view's own: how many copies the view has too many (+) or too few (-).
const WEIGHT: &str = "hw_weight";

impl Session {
    /// The rows by which a materialized view differs from its query. No row means that it is exact; it is also exact
    /// when both are in error.
    pub(super) async fn verify(&mut self, view: &Relation, guard: &Guard) -> SqlResult<Response> {
        let query = self.definition(view.id)?;
        let reader = self.reader(guard);
        let live = reader.view.published.errors(view.id).first().cloned().map(SqlError::from);
        let difference = match (reader.collect(&query.plan, Vec::new()).await, live) {
            (Ok(batches), None) => {
                let kept = reader.view.published.snapshot(view.id).map(|snapshot| snapshot.collect());
                difference(view, kept, &batches)?
            }
            (Err(error), Some(live)) if error.code == live.code => Rows::empty(view.arrow_schema()),
            (Err(error), _) => return Err(error),
            (Ok(_), Some(live)) => {
                return Err(live.detail(format!("Materialized view \"{}\" is in error, its query is not.", view.name)));
            }
        };
        if !difference.is_empty() {
            let message =
                format!("materialized view \"{}\" differs from its query in {} rows", view.name, difference.len());
            self.warn("01000", &message);
        }
        let batch = with_weights(view, &difference)?;
        Ok(Response::Rows(RowStream::of_batches(columns(view), vec![batch], "VERIFY")))
    }
}

/// What VERIFY gives: the view's columns and the weight.
pub fn columns(view: &Relation) -> Vec<OutputColumn> {
    let own = view.columns.iter().map(|column| (column.name.clone(), column.pg_type.clone()));
    let all = own.chain([(WEIGHT.to_string(), PgType::Int8)]);
    all.map(|(name, pg_type)| OutputColumn { name, pg_type }).collect()
}

/// What is kept, less what is computed.
fn difference(view: &Relation, kept: Option<Rows>, computed: &[RecordBatch]) -> SqlResult<Rows> {
    let schema = view.arrow_schema();
    let mut parts: Vec<Rows> = kept.into_iter().collect();
    for batch in computed {
        let batch = RecordBatch::try_new(schema.clone(), batch.columns().to_vec())
            .map_err(|error| SqlError::internal(format!("the query's columns are not the view's: {error}")))?;
        parts.push(Rows::inserts(batch).negate());
    }
    Ok(consolidate(&Rows::concat(&schema, &parts)))
}

fn with_weights(view: &Relation, rows: &Rows) -> SqlResult<RecordBatch> {
    let weights: ArrayRef = Arc::new(Int64Array::from(rows.weights_array()));
    let fields = columns(view).into_iter().map(|column| column.pg_type.field(&column.name, true));
    let arrays = rows.batch().columns().iter().cloned().chain([weights]).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), arrays);
    batch.map_err(|error| SqlError::internal(format!("a difference cannot be shown: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Column, RelationKind};
    use crate::zset::{RelationId, parse_rows};

    fn view() -> Relation {
        Relation {
            id: RelationId(1),
            oid: 1,
            schema: "public".to_string(),
            name: "v".to_string(),
            kind: RelationKind::MaterializedView,
            columns: vec![Column::new("a", PgType::Int4)],
            primary_key: Vec::new(),
            append_only: false,
            index_key: Vec::new(),
            unique: false,
            watermark: None,
            definition: String::new(),
            depends_on: Vec::new(),
            options: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn a_difference_has_the_rows_that_are_too_many_and_too_few() {
        let view = view();
        let kept = parse_rows("a INT", "+1 | 1\n+2 | 2");
        let computed = [parse_rows("a INT", "+1 | 2\n+1 | 3").batch().clone()];
        let found = difference(&view, Some(kept), &computed).expect("columns fit");
        let batch = with_weights(&view, &found).expect("columns fit");
        let shown = arrow::util::pretty::pretty_format_batches(&[batch]).expect("rows can be shown").to_string();
        assert!(shown.contains("| 1 | 1         |"), "{shown}");
        assert!(shown.contains("| 2 | 1         |"), "{shown}");
        assert!(shown.contains("| 3 | -1        |"), "{shown}");
    }
}
