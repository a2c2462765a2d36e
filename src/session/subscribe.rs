//! SUBSCRIBE: the published changes of a relation or query as rows, first what is there, then one group a step.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, new_null_array};
use arrow::datatypes::{Schema, SchemaRef};
use futures::StreamExt;
use futures::stream;

use super::cancel::Guard;
use super::response::{Response, RowStream};
use super::session::Session;
use crate::engine::{Engine, Subscribe as Follow, Subscription};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions;
use crate::sql::{OutputColumn, Subscribe, SubscribeTarget};
use crate::zset::{Delta, ErrorRows, PgType, Step, consolidate};

/// The columns that SUBSCRIBE gives: step and weight, then those of the relation.
pub fn columns(subscribe: &Subscribe) -> Vec<OutputColumn> {
    let column = |name: &str, pg_type| OutputColumn { name: name.to_string(), pg_type };
    let mut columns = vec![column("hw_step", PgType::Int8)];
    if subscribe.progress {
        columns.push(column("hw_progressed", PgType::Bool));
    }
    columns.push(column("hw_weight", PgType::Int8));
    columns.extend(subscribe.columns.iter().cloned());
    columns
}

/// An open subscription.
pub struct Feed {
    subscription: Subscription,
    schema: SchemaRef,
    progress: bool,
    /// Steps up to this one were seen by the client before.
    after: Option<u64>,
    /// The first step that is not wanted any more.
    up_to: Option<u64>,
    /// Live error rows: while there is one, the relation has no answer.
    errors: ErrorRows,
    /// Rows that wait to be fetched.
    ready: VecDeque<RecordBatch>,
    ended: bool,
}

impl Feed {
    /// Begins to follow.
    ///
    /// # Errors
    /// The query cannot be kept up to date, or `AS OF` asks for a history that is not kept.
    pub async fn open(engine: &Engine, subscribe: Subscribe, zone: String) -> SqlResult<Feed> {
        let fields = columns(&subscribe).into_iter().map(|column| column.pg_type.field(&column.name, true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let follow = match subscribe.target {
            SubscribeTarget::Relation(id) => Follow::Relation(id),
            SubscribeTarget::Query(query) => {
                let plan = functions::in_zone(query.plan, &zone).map_err(|error| functions::sql_error(&error))?;
                Follow::Plan(Box::new(plan))
            }
        };
        let subscription = engine.subscribe(follow).await?;
        let start = subscription.start.moment.step;
        if let Some(as_of) = subscribe.as_of.filter(|as_of| *as_of < start.0) {
            let message = format!("the changes after step {as_of} are not kept any more");
            return Err(SqlError::new(SqlState::OBJECT_NOT_IN_STATE, message)
                .detail(format!("The newest step is {start}."))
                .hint("Subscribe without AS OF; the snapshot comes first then."));
        }
        let mut feed = Feed {
            subscription,
            schema,
            progress: subscribe.progress,
            after: subscribe.as_of,
            up_to: subscribe.up_to,
            errors: ErrorRows::default(),
            ready: VecDeque::new(),
            ended: subscribe.up_to.is_some_and(|up_to| up_to <= start.0),
        };
        let snapshot = std::mem::replace(&mut feed.subscription.snapshot, Delta::empty(Arc::new(Schema::empty())));
        match subscribe.snapshot && subscribe.as_of.is_none() && !feed.ended {
            true => feed.push(start, &snapshot)?,
            false => feed.errors.add_all(&snapshot.errs),
        }
        Ok(feed)
    }

    /// Takes the change of one step in.
    fn push(&mut self, step: Step, delta: &Delta) -> SqlResult<()> {
        if self.up_to.is_some_and(|up_to| step.0 >= up_to) {
            self.ended = true;
            return Ok(());
        }
        self.errors.add_all(&delta.errs);
        if let Some(error) = self.errors.first() {
            self.ended = true;
            return Err(error.clone().into());
        }
        if self.after.is_some_and(|after| step.0 <= after) {
            return Ok(());
        }
        let rows = consolidate(&delta.oks);
        if !rows.is_empty() {
            let (batch, weights) = (rows.batch(), rows.weights_array());
            let columns = self.with_own_columns(step, Arc::new(weights), batch.columns(), false);
            self.ready.push_back(columns);
        }
        if self.progress {
            let nulls: Vec<ArrayRef> =
                (self.schema.fields().iter().skip(3)).map(|field| new_null_array(field.data_type(), 1)).collect();
            let weight = new_null_array(&PgType::Int8.arrow(), 1);
            self.ready.push_back(self.with_own_columns(step, weight, &nulls, true));
        }
        Ok(())
    }

    fn with_own_columns(&self, step: Step, weights: ArrayRef, columns: &[ArrayRef], progressed: bool) -> RecordBatch {
        let rows = weights.len();
        let steps = Int64Array::from_value(i64::try_from(step.0).unwrap_or(i64::MAX), rows);
        let mut all: Vec<ArrayRef> = vec![Arc::new(steps)];
        if self.progress {
            all.push(Arc::new(BooleanArray::from(vec![progressed; rows])));
        }
        all.push(weights);
        all.extend_from_slice(columns);
        RecordBatch::try_new(self.schema.clone(), all).expect("a subscription gives the columns that were bound")
    }

    /// The next rows; waits for them. `None` when the subscription is over.
    async fn next(&mut self) -> SqlResult<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            if self.ended {
                return Ok(None);
            }
            match self.subscription.next().await? {
                Some((step, delta)) => self.push(step, &delta)?,
                None => self.ended = true,
            }
        }
    }

    /// Takes in every step that is there already, without waiting.
    fn take_waiting(&mut self) -> SqlResult<()> {
        while !self.ended
            && let Some((step, delta)) = self.subscription.try_next()
        {
            self.push(step, &delta)?;
        }
        Ok(())
    }

    /// What there is, up to so many rows. If there is nothing, waits for the next step that has rows; not longer than
    /// the timeout.
    pub async fn fetch(&mut self, rows_max: usize, timeout: Option<Duration>) -> SqlResult<Vec<RecordBatch>> {
        self.take_waiting()?;
        if self.ready.is_empty() {
            let next = async { self.next().await };
            let first = match timeout {
                None => next.await?,
                Some(timeout) => match tokio::time::timeout(timeout, next).await {
                    Ok(next) => next?,
                    Err(_) => None,
                },
            };
            self.ready.extend(first);
        }
        let (mut batches, mut left) = (Vec::new(), rows_max);
        while left > 0
            && let Some(batch) = self.ready.pop_front()
        {
            if batch.num_rows() > left {
                self.ready.push_front(batch.slice(left, batch.num_rows() - left));
            }
            let taken = batch.slice(0, batch.num_rows().min(left));
            left -= taken.num_rows();
            batches.push(taken);
        }
        Ok(batches)
    }

    /// All rows from here on, until the statement is interrupted.
    pub fn into_stream(self, guard: &Guard) -> stream::BoxStream<'static, SqlResult<RecordBatch>> {
        let batches = stream::unfold(Some(self), |feed| async {
            let mut feed = feed?;
            match feed.next().await {
                Ok(Some(batch)) => Some((Ok(batch), Some(feed))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        guard.clone().stream(batches.boxed())
    }
}

impl Session {
    pub(super) async fn subscribe(&mut self, subscribe: Subscribe, guard: &Guard) -> SqlResult<Response> {
        let columns = columns(&subscribe);
        let zone = self.settings().time_zone();
        let feed = guard.run(Feed::open(&self.engine, subscribe, zone)).await?;
        Ok(Response::Rows(RowStream::new(columns, feed.into_stream(guard), "SUBSCRIBE").with_live()))
    }
}
