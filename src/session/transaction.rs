//! A transaction: the snapshot that it reads, the rows and catalog edits that it keeps back until COMMIT.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::ArrayRef;

use crate::catalog::{Catalog, CatalogEdit, Relation, RelationKind};
use crate::engine::{Engine, Published, TableChange};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::state::{Arrangement, Snapshot};
use crate::zset::{RelationId, Rows, row_hashes};

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Idle,
    /// Between the statements of one simple-query text, or the messages before a Sync.
    Implicit,
    /// After BEGIN.
    Open,
    /// A statement failed; only ROLLBACK is left.
    Failed,
}

/// Uncommitted changes of one table.
#[derive(Clone)]
pub struct Pending {
    /// Whether the rows of the snapshot are gone.
    pub truncated: bool,
    pub rows: Snapshot,
}

/// What a statement reads: one published step and what its own transaction has changed since.
#[derive(Clone)]
pub struct View {
    pub published: Arc<Published>,
    pub catalog: Arc<Catalog>,
    pub changes: Arc<BTreeMap<RelationId, Pending>>,
}

impl View {
    pub fn newest(engine: &Engine) -> Self {
        let published = engine.published();
        Self { catalog: published.catalog.clone(), published, changes: Arc::default() }
    }

    /// The rows with these keys, all with weight 1 or more; `probe` says to which key each belongs.
    pub fn lookup(&self, table: &Relation, keys: &[ArrayRef]) -> (Vec<u32>, Rows) {
        let rows = keys.first().map_or(0, |column| column.len());
        let hashes = row_hashes(keys, rows);
        let pending = self.changes.get(&table.id);
        let below = match pending {
            Some(pending) if pending.truncated => None,
            _ => self.published.snapshot(table.id),
        };
        let parts: Vec<Snapshot> = below.into_iter().chain(pending.map(|pending| pending.rows.clone())).collect();
        match parts.is_empty() {
            true => (Vec::new(), Rows::empty(table.arrow_schema())),
            false => {
                let found = Snapshot::merged(&parts).lookup(keys, &hashes);
                (found.probe, found.rows)
            }
        }
    }

    /// Rows to lay over the snapshots, for those tables whose snapshot still counts.
    pub fn overlay(&self) -> HashMap<RelationId, Rows> {
        let laid_over = self.changes.iter().filter(|(id, pending)| !self.is_own(**id, pending));
        laid_over.map(|(id, pending)| (*id, pending.rows.collect())).collect()
    }

    /// Rows of a table that has only what the transaction put there: it was truncated or created by it.
    pub fn own_rows(&self, id: RelationId) -> Option<Rows> {
        if let Some(pending) = self.changes.get(&id) {
            return self.is_own(id, pending).then(|| pending.rows.collect());
        }
        let created = self.published.catalog.get(id).is_none();
        let relation = self.catalog.get(id).filter(|_| created)?;
        Some(Rows::empty(relation.arrow_schema()))
    }

    /// The materialized views whose kept rows are not those of their query within this transaction: it created them,
    /// or has changed a table below them.
    pub fn stale(&self) -> Vec<RelationId> {
        let created = self.catalog.relations().map(|relation| relation.id);
        let created = created.filter(|id| self.published.catalog.get(*id).is_none());
        let changed: Vec<RelationId> = self.changes.keys().copied().chain(created).collect();
        let mut stale = self.catalog.with_dependents(&changed);
        let is_view = |relation: &Arc<Relation>| relation.kind == RelationKind::MaterializedView;
        stale.retain(|id| self.catalog.get(*id).is_some_and(is_view));
        stale
    }

    /// The same with these relations as plain views, which a query can read.
    pub fn with_plain_views(&self, stale: &[RelationId]) -> Self {
        let edits = stale
            .iter()
            .filter_map(|id| self.catalog.get(*id))
            .map(|relation| CatalogEdit::Replace(Relation { kind: RelationKind::View, ..Relation::clone(relation) }));
        let catalog = edits.fold((*self.catalog).clone(), |catalog, edit| catalog.apply(&edit));
        Self { catalog: Arc::new(catalog), ..self.clone() }
    }

    fn is_own(&self, id: RelationId, pending: &Pending) -> bool {
        pending.truncated || self.published.catalog.get(id).is_none()
    }
}

/// What ROLLBACK TO brings back.
struct Savepoint {
    name: String,
    changes: Arc<BTreeMap<RelationId, Pending>>,
    edits: Vec<CatalogEdit>,
    catalog: Option<Arc<Catalog>>,
    settings: BTreeMap<String, String>,
}

/// The transaction of a session; outside of one it is empty.
pub struct Transaction {
    pub status: Status,
    pub read_only: bool,
    /// Microseconds since 1970: `now()` of all its statements.
    pub started_at: i64,
    published: Option<Arc<Published>>,
    /// The catalog with the transaction's edits.
    catalog: Option<Arc<Catalog>>,
    edits: Vec<CatalogEdit>,
    changes: Arc<BTreeMap<RelationId, Pending>>,
    savepoints: Vec<Savepoint>,
}

/// What COMMIT has to do.
pub struct Work {
    /// Version of the catalog for which the edits were made.
    pub base: u64,
    pub edits: Vec<CatalogEdit>,
    pub changes: Vec<TableChange>,
}

impl Transaction {
    pub fn none() -> Self {
        Self {
            status: Status::Idle,
            read_only: false,
            started_at: 0,
            published: None,
            catalog: None,
            edits: Vec::new(),
            changes: Arc::default(),
            savepoints: Vec::new(),
        }
    }

    pub fn begin(status: Status, read_only: bool, now: i64) -> Self {
        Self { status, read_only, started_at: now, ..Self::none() }
    }

    pub fn is_active(&self) -> bool {
        self.status != Status::Idle
    }

    /// What the next statement reads. Inside a transaction the first call fixes the step for all that follow.
    pub fn view(&mut self, engine: &Engine) -> View {
        if !self.is_active() {
            return View::newest(engine);
        }
        let published = self.published.get_or_insert_with(|| engine.published()).clone();
        let catalog = self.catalog.clone().unwrap_or_else(|| published.catalog.clone());
        View { published, catalog, changes: self.changes.clone() }
    }

    /// Adds rows; later statements of the transaction see them.
    pub fn absorb(&mut self, table: &Relation, truncate: bool, rows: &Rows) {
        let changes = Arc::make_mut(&mut self.changes);
        let before = changes.get(&table.id).filter(|_| !truncate);
        let truncated = truncate || before.is_some_and(|pending| pending.truncated);
        let (schema, key) = (table.arrow_schema(), table.arrangement_key());
        let mut all = match before {
            Some(pending) => Arrangement::restore(schema, key, pending.rows.runs().to_vec()),
            None => Arrangement::new(schema, key),
        };
        all.absorb(rows);
        changes.insert(table.id, Pending { truncated, rows: all.snapshot() });
    }

    /// Adds catalog edits; later statements of the transaction see them.
    pub fn define(&mut self, view: &View, edits: &[CatalogEdit]) -> SqlResult<()> {
        let mut catalog = view.catalog.clone();
        for edit in edits {
            catalog.check(edit)?;
            catalog = Arc::new(catalog.apply(edit));
        }
        // Rows of a table that was dropped again have nowhere to go.
        Arc::make_mut(&mut self.changes).retain(|id, _| catalog.get(*id).is_some());
        self.catalog = Some(catalog);
        self.edits.extend_from_slice(edits);
        Ok(())
    }

    pub fn has_changes(&self) -> bool {
        !self.changes.is_empty() || !self.edits.is_empty()
    }

    pub fn has_edits(&self) -> bool {
        !self.edits.is_empty()
    }

    /// Whether what it has changed so far may change the meaning of a statement.
    pub fn touches(&self, reads_rows: bool) -> bool {
        self.has_edits() || reads_rows && self.has_changes()
    }

    /// What COMMIT has to do; the transaction is over.
    pub fn finish(&mut self) -> Work {
        let ended = std::mem::replace(self, Self::none());
        let base = ended.published.map_or(0, |published| published.catalog.version());
        let changes = ended.changes.iter().map(|(id, pending)| TableChange {
            table: *id,
            truncate: pending.truncated,
            rows: pending.rows.collect(),
        });
        let changes = changes.filter(|change| change.truncate || !change.rows.is_empty()).collect();
        Work { base, edits: ended.edits, changes }
    }

    pub fn savepoint(&mut self, name: &str, settings: BTreeMap<String, String>) {
        self.savepoints.push(Savepoint {
            name: name.to_string(),
            changes: self.changes.clone(),
            edits: self.edits.clone(),
            catalog: self.catalog.clone(),
            settings,
        });
    }

    fn position(&self, name: &str) -> SqlResult<usize> {
        let found = self.savepoints.iter().rposition(|savepoint| savepoint.name == name);
        found.ok_or_else(|| SqlError::new(SqlState(*b"3B001"), format!("savepoint \"{name}\" does not exist")))
    }

    pub fn release(&mut self, name: &str) -> SqlResult<()> {
        let position = self.position(name)?;
        self.savepoints.truncate(position);
        Ok(())
    }

    /// Back to a savepoint, which stays; gives the settings to go back to.
    pub fn rollback_to(&mut self, name: &str) -> SqlResult<BTreeMap<String, String>> {
        let position = self.position(name)?;
        self.savepoints.truncate(position + 1);
        let savepoint = &self.savepoints[position];
        self.changes = savepoint.changes.clone();
        self.edits = savepoint.edits.clone();
        self.catalog = savepoint.catalog.clone();
        self.status = Status::Open;
        Ok(savepoint.settings.clone())
    }
}
