//! Dataflows in process: relations defined by SQL, fed with batches, without session, log and engine.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema};
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::common::TableReference;
use futures::StreamExt;
use headwater::catalog::{Catalog, CatalogEdit, Relation, RelationKind};
use headwater::dataflow::{Class, Command, Graph, Install, Node, NodeKind, RelationChange, Report, Start, Workers};
use headwater::plan::{self, InputRelation, RunContext};
use headwater::sql::{self, BindContext, Nowhere, Statement};
use headwater::zset::{Delta, Moment, PgType, RelationId, Rows, Step, consolidate};

/// Workers with relations installed.
pub struct Flow {
    catalog: Catalog,
    workers: Workers,
    reports: Receiver<Report>,
    count: usize,
    step: u64,
}

/// The relations of a catalog as inputs of a plan: rows that are fed are never taken back.
struct Relations<'a>(&'a Catalog);

impl plan::Inputs for Relations<'_> {
    fn find(&self, table: &TableReference) -> Option<InputRelation> {
        let relation = self.0.named(table.schema()?, table.table())?;
        let key = relation.primary_key.clone();
        let watermark = relation.watermark.map(|watermark| watermark.column);
        let append_only = relation.append_only;
        Some(InputRelation { id: relation.id, schema: relation.arrow_schema(), append_only, key, watermark })
    }
}

impl Flow {
    /// Tables given as CREATE TABLE, which are passed on and not kept, as those of sources are.
    pub fn start(tables: &str, workers: usize) -> Self {
        let (handle, reports) = Workers::start(workers);
        let mut flow = Self { catalog: Catalog::bootstrap(), workers: handle, reports, count: workers, step: 0 };
        for mut relation in flow.bind(tables) {
            (relation.kind, relation.append_only) = (RelationKind::Source, true);
            let schema = relation.arrow_schema();
            let feed = Node { kind: NodeKind::Feed, inputs: Vec::new(), schema, append_only: true };
            flow.install(&relation, Graph { nodes: vec![feed] }, false);
            flow.catalog = flow.catalog.apply(&CatalogEdit::Create(relation));
        }
        flow
    }

    /// The relations that statements create.
    fn bind(&self, text: &str) -> Vec<Relation> {
        let search_path = ["public".to_string()];
        let mut catalog = self.catalog.clone();
        let mut relations = Vec::new();
        for parsed in sql::parse(text).expect("the text is SQL") {
            let context =
                BindContext { catalog: &catalog, search_path: &search_path, parameter_types: &[], outside: &Nowhere };
            let Statement::Define(define) = sql::bind(&parsed, &context).expect("the statement binds") else {
                panic!("not a definition: {}", parsed.text)
            };
            for edit in define.edits {
                catalog = catalog.apply(&edit);
                if let CatalogEdit::Create(relation) = edit {
                    relations.push(relation);
                }
            }
        }
        relations
    }

    fn install(&self, relation: &Relation, graph: Graph, keep: bool) {
        let (start, key) = (Start::Hydrate(HashMap::new()), relation.arrangement_key());
        let install = Install { relation: relation.id, graph, keep, key, start };
        self.workers.send(&Command::Install(Arc::new(install)));
    }

    /// Installs a query as a view, whose rows are kept or only come out as changes. Tells its class, that of its dearest
    /// operator.
    pub fn view(&mut self, name: &str, query: &str, keep: bool) -> (RelationId, &'static str) {
        let relations = self.bind(&format!("CREATE MATERIALIZED VIEW {name} AS {query}"));
        let relation = relations.into_iter().next().expect("the statement makes a view");
        let query = sql::bind_definition(&relation, &self.catalog).expect("the query binds");
        let plan = plan::normalize(query.plan).expect("the plan has a normal form");
        let graph = plan::lower(&plan, &Relations(&self.catalog)).expect("the plan has operators");
        let classes = graph.nodes.iter().filter_map(|node| match &node.kind {
            NodeKind::Operator(recipe) => Some(recipe.class),
            _ => None,
        });
        let class = classes.max().unwrap_or(Class::Linear).name();
        self.install(&relation, graph, keep);
        let id = relation.id;
        self.catalog = self.catalog.apply(&CatalogEdit::Create(relation));
        (id, class)
    }

    /// A batch of a table with these columns, such as `k bigint, v text`.
    pub fn batch(columns: &str, arrays: Vec<ArrayRef>) -> RecordBatch {
        let fields: Vec<Field> = (columns.split(", "))
            .map(|column| {
                let (name, kind) = column.split_once(' ').expect("a name and a type");
                PgType::parse(kind).expect("a type").field(name, true)
            })
            .collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("the arrays are of these types")
    }

    pub fn table(&self, name: &str) -> RelationId {
        self.catalog.named("public", name).expect("the relation is defined").id
    }

    /// One step, to its end on all workers: what it changed in views.
    pub fn feed(&mut self, deltas: Vec<(RelationId, Delta)>) -> Vec<RelationChange> {
        self.step += 1;
        let at = Moment { step: Step(self.step), now: 0 };
        self.workers.send(&Command::Feed { at, deltas: Arc::new(deltas) });
        let mut all = Vec::new();
        for _ in 0..self.count {
            match self.reports.recv() {
                Ok(Report::Step { changes, .. }) => all.extend(changes.into_iter().filter(|change| {
                    let relation = self.catalog.get(change.relation).expect("the relation is defined");
                    relation.kind == RelationKind::MaterializedView
                })),
                Ok(Report::Died { reason, .. }) => panic!("a worker died: {reason}"),
                _ => panic!("the workers finish the step"),
            }
        }
        all
    }

    /// Bytes that the dataflows of views hold, their own rows included.
    pub fn state_bytes(&self) -> usize {
        self.workers.send(&Command::Save);
        let mut bytes = 0;
        for _ in 0..self.count {
            let Ok(Report::Saved { held, .. }) = self.reports.recv() else { panic!("the workers save their state") };
            bytes += held.iter().map(|(_, held)| held.bytes).sum::<usize>();
        }
        bytes
    }

    /// The rows by which a view differs from its query, run once by DataFusion over all that was fed.
    pub fn differences(&self, view: RelationId, rows: &[Rows], fed: &HashMap<RelationId, Vec<RecordBatch>>) -> usize {
        let relation = self.catalog.get(view).expect("the view is defined");
        let schema = relation.arrow_schema();
        let query = sql::bind_definition(relation, &self.catalog).expect("the query binds");
        let data = Fed { catalog: &self.catalog, batches: fed };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let mut parts = rows.to_vec();
        runtime.block_on(async {
            let mut found = plan::run(&query.plan, &data, &RunContext::default()).expect("the query runs");
            while let Some(batch) = found.next().await {
                let columns = batch.expect("the query does not fail").columns().to_vec();
                let batch = RecordBatch::try_new(schema.clone(), columns).expect("the columns are the view's");
                parts.push(Rows::inserts(batch).negate());
            }
        });
        consolidate(&Rows::concat(&schema, &parts)).len()
    }
}

/// All batches that were fed, as tables.
struct Fed<'a> {
    catalog: &'a Catalog,
    batches: &'a HashMap<RelationId, Vec<RecordBatch>>,
}

impl plan::Data for Fed<'_> {
    fn table(&self, table: &TableReference) -> Option<Arc<dyn TableProvider>> {
        let relation = self.catalog.named(table.schema()?, table.table())?;
        let batches = self.batches.get(&relation.id)?.clone();
        let table = MemTable::try_new(relation.arrow_schema(), vec![batches]).expect("the batches are the table's");
        Some(Arc::new(table))
    }
}
