//! Changes of the catalog, and the dataflows that come and go with them.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::TableReference;
use datafusion::logical_expr::LogicalPlan;
use xxhash_rust::xxh3::xxh3_64;

use super::constraints::{Pending, admit, check_new_index};
use super::event::{Definition, Write, WriteError};
use super::ingest::check_source;
use super::outlets::{Subscribe, Subscription};
use super::published::Published;
use super::run::{Core, Flow};
use super::step::Inputs;
use super::watermark::{self, Lateness};
use crate::catalog::{Catalog, CatalogEdit, Relation, RelationKind};
use crate::dataflow::{Command, Graph, Install, Node, NodeKind, SavedPart, Start};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::plan::{self, InputRelation};
use crate::sql;
use crate::zset::{Delta, ErrorRows, Moment, RelationId, Step};

/// Whether the tables of new unique indexes hold no key twice.
fn check_new_indexes(edits: &[CatalogEdit], after: &Catalog, published: &Published) -> SqlResult<()> {
    for edit in edits {
        if let CatalogEdit::Create(index) = edit
            && index.unique
            && let Some(table) = index.depends_on.first().and_then(|id| after.get(*id))
        {
            check_new_index(table, index, published)?;
        }
    }
    Ok(())
}

/// Ids from here on are dataflows of subscribed queries, which no catalog knows.
const FIRST_TEMPORARY_ID: u64 = 1 << 62;

/// The catalog's relations as inputs of a plan.
pub(super) struct CatalogInputs<'a> {
    pub catalog: &'a Catalog,
    pub flows: &'a HashMap<RelationId, Flow>,
}

impl plan::Inputs for CatalogInputs<'_> {
    fn find(&self, table: &TableReference) -> Option<InputRelation> {
        let relation = self.catalog.named(table.schema()?, table.table())?;
        let flow = self.flows.get(&relation.id);
        Some(InputRelation {
            id: relation.id,
            schema: relation.arrow_schema(),
            append_only: flow.map_or(relation.append_only, |flow| flow.append_only),
            key: relation.primary_key.clone(),
            watermark: relation.watermark.map(|watermark| watermark.column),
        })
    }
}

impl Core {
    /// Applies edits made for the catalog of version `base`, and the changes of tables that come with them, in one
    /// step; new views are full when it returns.
    /// `filled` is the state of the one relation among the new ones that was filled before.
    pub(super) fn define(
        &mut self,
        definition: Definition,
        filled: Option<Vec<SavedPart>>,
    ) -> Result<Step, WriteError> {
        let Definition { base, edits, changes } = definition;
        if base != self.catalog.version() {
            return Err(WriteError::Conflict);
        }
        if edits.is_empty() && changes.is_empty() {
            return Ok(self.at.step);
        }
        let after = self.catalog.check_all(&edits)?;
        let published = self.published.borrow().clone();
        check_new_indexes(&edits, &after, &published)?;
        let mut lateness = Lateness::default();
        let (write, judged) = lateness.judge(Write { changes, sync: true }, &after, &published);
        let rows = admit(write, &after, &published, &mut Pending::default())?;
        self.count_late(lateness.accept(judged));
        let before = (self.catalog.clone(), self.flows.clone());
        let mut inputs = Inputs { edits, ..Inputs::default() };
        rows.into_iter().for_each(|(table, rows)| inputs.add(table, rows));
        lateness.finish(&mut inputs, &after, &published, self.at.step.next());
        watermark::forget(&mut inputs, &self.catalog, &after, &published);
        let taken = self.create(after, &inputs.edits, true, filled);
        let taken = taken.and_then(|commands| Ok((self.log_step(inputs)?, commands)));
        let (record, mut commands) = match taken {
            Ok(taken) => taken,
            Err(error) => {
                let created = self.flows.keys().filter(|id| !before.1.contains_key(id));
                created.for_each(|id| drop(self.outlets.drop_relation(*id)));
                (self.catalog, self.flows) = before;
                return Err(error.into());
            }
        };
        commands.splice(0..0, self.forget(&before.0));
        let step = self.finish_step(record, commands, true)?;
        self.deliver()?;
        self.start_readers();
        self.checkpoint_if_due();
        Ok(step)
    }

    /// Replay's way: the edits were checked when they were logged.
    pub(super) fn apply_edits(&mut self, edits: &[CatalogEdit]) -> SqlResult<Vec<Command>> {
        if edits.is_empty() {
            return Ok(Vec::new());
        }
        let before = self.catalog.clone();
        let after = edits.iter().fold((*before).clone(), |catalog, edit| catalog.apply(edit));
        let mut commands = self.create(after, edits, false, None)?;
        commands.splice(0..0, self.forget(&before));
        Ok(commands)
    }

    /// Makes `after` the catalog, and gives what the workers have to do for what is new in it. In a replay `is_new` is
    /// false: what lies outside was looked at when the edits were logged, and has moved on since.
    fn create(
        &mut self,
        after: Catalog,
        edits: &[CatalogEdit],
        is_new: bool,
        mut filled: Option<Vec<SavedPart>>,
    ) -> SqlResult<Vec<Command>> {
        let before = std::mem::replace(&mut self.catalog, Arc::new(after));
        let after = self.catalog.clone();
        if edits.iter().any(|edit| matches!(edit, CatalogEdit::Drop(_))) {
            self.counters.keep(|id| after.get(id).is_some());
        }
        let mut commands = Vec::new();
        let created = edits.iter().filter_map(|edit| match edit {
            CatalogEdit::Create(relation) => after.get(relation.id).filter(|_| before.get(relation.id).is_none()),
            _ => None,
        });
        for relation in created {
            if is_new && relation.connector().is_some() && relation.kind != RelationKind::Sink {
                check_source(relation, &self.config)?;
            }
            let is_filled = matches!(relation.kind, RelationKind::MaterializedView | RelationKind::Index);
            if let Some(install) = self.install_of(relation, &after, |_| filled.take_if(|_| is_filled))? {
                commands.push(Command::Install(Arc::new(install)));
            }
            if relation.kind == RelationKind::Sink && is_new {
                self.open_new_sink(relation)?;
            } else if relation.kind == RelationKind::Sink {
                self.reopen_sink(relation);
            }
        }
        Ok(commands)
    }

    /// Ends everything that belongs to relations that are gone since `before`, and the subscribed queries that read them.
    fn forget(&mut self, before: &Catalog) -> Option<Command> {
        let ids = before.relations().map(|relation| relation.id);
        let dropped: Vec<RelationId> = ids.filter(|id| self.catalog.get(*id).is_none()).collect();
        let gone: HashSet<RelationId> = dropped.iter().copied().collect();
        let reads_gone =
            |id: &&RelationId| self.flows.get(id).is_some_and(|flow| flow.reads.iter().any(|read| gone.contains(read)));
        let orphans: Vec<RelationId> = self.temporary.iter().filter(reads_gone).copied().collect();
        self.temporary.retain(|id| !orphans.contains(id));
        let mut installed = Vec::new();
        for id in orphans.iter().chain(&dropped) {
            self.closing.extend(self.outlets.drop_relation(*id));
            self.readers.stop(*id);
            self.contents.remove(id);
            self.positions.remove(id);
            if self.flows.remove(id).is_some() {
                installed.push(*id);
            }
        }
        (!installed.is_empty()).then_some(Command::Drop(installed))
    }

    /// The dataflow of a relation, with the state that `saved` has for its fingerprint, else to be filled from what it
    /// reads. `None` for relations without one.
    pub(super) fn install_of(
        &mut self,
        relation: &Relation,
        catalog: &Catalog,
        saved: impl FnOnce(u64) -> Option<Vec<SavedPart>>,
    ) -> SqlResult<Option<Install>> {
        let Some(graph) = self.graph_of_relation(relation, catalog)? else { return Ok(None) };
        let flow = flow_of(&graph);
        let start = match saved(flow.fingerprint) {
            Some(parts) => Start::Restore(parts),
            None => self.hydration(&graph)?,
        };
        self.flows.insert(relation.id, flow);
        Ok(Some(Install {
            relation: relation.id,
            graph,
            keep: relation.kind.is_kept() || relation.kind == RelationKind::Index,
            key: relation.arrangement_key(),
            start,
        }))
    }

    /// What keeps a relation up to date; `None` if nothing has to.
    pub(super) fn graph_of_relation(&self, relation: &Relation, catalog: &Catalog) -> SqlResult<Option<Graph>> {
        let graph = match relation.kind {
            RelationKind::View | RelationKind::Function => return Ok(None),
            RelationKind::Index => return Ok(self.graph_of_index(relation, catalog)),
            RelationKind::Table => feed_graph(relation, relation.append_only),
            RelationKind::Source => feed_graph(relation, relation.primary_key.is_empty()),
            RelationKind::MaterializedView | RelationKind::Sink => {
                let query = sql::bind_definition(relation, catalog)?;
                self.graph_of(&query.plan, catalog)?
            }
        };
        Ok(Some(graph))
    }

    /// An index is another arrangement of the same rows.
    fn graph_of_index(&self, index: &Relation, catalog: &Catalog) -> Option<Graph> {
        let indexed = index.depends_on.first().and_then(|id| catalog.get(*id));
        let indexed = indexed.filter(|_| !index.index_key.is_empty())?;
        let node = Node {
            kind: NodeKind::Relation(indexed.id),
            inputs: Vec::new(),
            schema: indexed.arrow_schema(),
            append_only: self.flows.get(&indexed.id).is_some_and(|flow| flow.append_only),
        };
        Some(Graph { nodes: vec![node] })
    }

    fn graph_of(&self, query: &LogicalPlan, catalog: &Catalog) -> SqlResult<Graph> {
        let inputs = CatalogInputs { catalog, flows: &self.flows };
        // A query over which the planner breaks is refused; it must not take the engine with it.
        let planned = catch_unwind(AssertUnwindSafe(|| plan::lower(&plan::normalize(query.clone())?, &inputs)));
        planned.unwrap_or_else(|_| Err(SqlError::internal("the query could not be planned")))
    }

    /// What a new dataflow is filled with: kept relations by the workers themselves, sources by reading them again.
    fn hydration(&self, graph: &Graph) -> SqlResult<Start> {
        let mut rows = HashMap::new();
        for id in graph.relations() {
            let is_source = self.catalog.get(id).is_some_and(|relation| relation.kind == RelationKind::Source);
            if let Some(position) = self.positions.get(&id).filter(|_| is_source) {
                let again = self.reread(id, None, Some(position.clone()))?;
                rows.insert(id, Delta::new(again, ErrorRows::default()));
            }
        }
        Ok(Start::Hydrate(rows))
    }

    pub(super) fn subscribe(&mut self, what: Subscribe) -> SqlResult<Subscription> {
        let subscription = match what {
            Subscribe::Relation(id) => self.subscribe_relation(id)?,
            Subscribe::Plan(query) => self.subscribe_query(&query)?,
        };
        self.count_subscribers();
        Ok(subscription)
    }

    fn subscribe_relation(&mut self, id: RelationId) -> SqlResult<Subscription> {
        let relation = self.catalog.get(id).filter(|_| self.flows.contains_key(&id)).cloned();
        let gone = || SqlError::new(SqlState::UNDEFINED_TABLE, "the relation to subscribe to does not exist any more");
        let relation = relation.ok_or_else(gone)?;
        let start = self.published.borrow().clone();
        let schema = relation.arrow_schema();
        let snapshot = match start.snapshot(id) {
            Some(snapshot) => Delta::new(snapshot.collect(), start.errors(id)),
            None => Delta::empty(schema.clone()),
        };
        Ok(self.outlets.subscribe(id, schema, start, snapshot, self.events.clone()))
    }

    /// Builds a dataflow for the query; what it holds at first is the snapshot.
    fn subscribe_query(&mut self, query: &LogicalPlan) -> SqlResult<Subscription> {
        let catalog = self.catalog.clone();
        let graph = self.graph_of(query, &catalog)?;
        let schema = graph.schema();
        let id = self.temporary.last().map_or(RelationId(FIRST_TEMPORARY_ID), |last| RelationId(last.0 + 1));
        let start = self.hydration(&graph)?;
        self.flows.insert(id, flow_of(&graph));
        self.temporary.push(id);
        let key = (0..schema.fields().len()).collect();
        let install = Install { relation: id, graph, keep: false, key, start };
        let snapshot = self.hydrate_temporary(id, install, &schema)?;
        let start = self.published.borrow().clone();
        self.start_readers();
        Ok(self.outlets.subscribe(id, schema, start, snapshot, self.events.clone()))
    }

    /// A step that only fills one dataflow. It is not logged: after a restart its subscriber is gone.
    fn hydrate_temporary(&mut self, id: RelationId, install: Install, schema: &SchemaRef) -> SqlResult<Delta> {
        self.workers.send(&Command::Install(Arc::new(install)));
        let at = Moment { step: self.at.step.next(), now: self.at.now };
        self.feed(Inputs::default().into_record(at), Vec::new());
        let changes = self.collect(at.step)?;
        let own = changes.iter().filter(|(_, change)| change.relation == id).map(|(_, change)| change.delta.clone());
        let snapshot = Delta::concat(schema, own.collect());
        self.publish(changes);
        Ok(snapshot)
    }

    /// Drops the dataflows of queries whose last subscriber has gone.
    pub(super) fn drop_unfollowed(&mut self) {
        let (kept, dropped): (Vec<RelationId>, Vec<RelationId>) =
            self.temporary.iter().partition(|id| self.outlets.is_followed(**id));
        if dropped.is_empty() {
            return;
        }
        self.temporary = kept;
        for id in &dropped {
            self.flows.remove(id);
            drop(self.outlets.drop_relation(*id));
        }
        self.workers.send(&Command::Drop(dropped));
        self.count_subscribers();
    }
}

/// The dataflow of a relation whose rows are fed.
pub(super) fn feed_graph(relation: &Relation, append_only: bool) -> Graph {
    let node = Node { kind: NodeKind::Feed, inputs: Vec::new(), schema: relation.arrow_schema(), append_only };
    Graph { nodes: vec![node] }
}

fn flow_of(graph: &Graph) -> Flow {
    Flow {
        append_only: graph.output().append_only,
        uses_clock: graph.uses_clock(),
        reads: graph.relations(),
        fingerprint: fingerprint(graph),
    }
}

/// Changes whenever the state that a graph's operators keep may mean something else.
pub(super) fn fingerprint(graph: &Graph) -> u64 {
    let mut text = String::new();
    for node in &graph.nodes {
        let what = match &node.kind {
            NodeKind::Feed => "feed".to_string(),
            NodeKind::Relation(id) => format!("relation {id}"),
            NodeKind::Clock => "clock".to_string(),
            NodeKind::Operator(recipe) => format!("{} {} {}", recipe.name, recipe.detail, recipe.keeps),
        };
        let inputs: Vec<String> = node.inputs.iter().map(|edge| format!("{} {:?}", edge.from, edge.route)).collect();
        let columns: Vec<String> = node.schema.fields().iter().map(|field| field.data_type().to_string()).collect();
        text.push_str(&format!("{what} | {} | {} | {}\n", inputs.join(","), columns.join(","), node.append_only));
    }
    xxh3_64(text.as_bytes())
}
