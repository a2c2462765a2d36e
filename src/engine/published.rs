//! What readers see: all relations as of one step, immutable, shared without locks.

use std::collections::HashMap;
use std::sync::Arc;

use super::ingest::Positions;
use crate::catalog::{Catalog, Relation};
use crate::state::Snapshot;
use crate::zset::{ErrorRows, Moment, RelationId};

/// One published step: the catalog and every kept relation as of its end.
pub struct Published {
    pub moment: Moment,
    pub catalog: Arc<Catalog>,
    pub(super) relations: HashMap<RelationId, Arc<Contents>>,
    /// Where each source stood after the step.
    pub positions: Positions,
}

/// One kept relation, by worker.
#[derive(Clone, Default)]
pub(super) struct Contents {
    pub snapshots: Vec<Option<Snapshot>>,
    pub errors: Vec<ErrorRows>,
}

impl Contents {
    pub fn new(workers: usize) -> Self {
        Self { snapshots: vec![None; workers], errors: vec![ErrorRows::default(); workers] }
    }

    fn parts(&self) -> impl Iterator<Item = Snapshot> {
        self.snapshots.iter().flatten().cloned()
    }
}

impl Published {
    /// All rows of a kept relation; empty if no row was ever there. `None` if the relation is unknown or not kept.
    pub fn snapshot(&self, id: RelationId) -> Option<Snapshot> {
        let relation = self.catalog.get(id).filter(|relation| relation.kind.is_kept())?;
        // The first part gives the columns their names: runs have those of the plan, or from before a rename.
        let named = Snapshot::empty(relation.arrow_schema(), relation.arrangement_key());
        let parts = self.relations.get(&id).into_iter().flat_map(|contents| contents.parts());
        Some(Snapshot::merged(&std::iter::once(named).chain(parts).collect::<Vec<_>>()))
    }

    /// The same rows once more for each index of the relation, arranged by its columns.
    pub fn indexes(&self, id: RelationId) -> Vec<Snapshot> {
        let indexes = self.catalog.relations().filter(|index| index.indexes(id));
        indexes.filter_map(|index| self.index(index)).collect()
    }

    /// The rows of an index, arranged by its columns.
    pub fn index(&self, index: &Relation) -> Option<Snapshot> {
        let schema = self.catalog.get(*index.depends_on.first()?)?.arrow_schema();
        let parts = self.relations.get(&index.id)?.parts();
        let named = Snapshot::empty(schema, index.arrangement_key());
        Some(Snapshot::merged(&std::iter::once(named).chain(parts).collect::<Vec<_>>()))
    }

    /// The live error rows of a kept relation.
    pub fn errors(&self, id: RelationId) -> ErrorRows {
        let mut all = ErrorRows::default();
        if let Some(contents) = self.relations.get(&id) {
            contents.errors.iter().for_each(|errors| all.add_all(errors));
        }
        all
    }

    /// Rows and bytes that a kept relation holds; rows count what merging has not cancelled yet.
    pub fn held(&self, id: RelationId) -> (usize, usize) {
        let snapshots = self.relations.get(&id).into_iter().flat_map(|contents| contents.snapshots.iter().flatten());
        snapshots.fold((0, 0), |(rows, bytes), snapshot| (rows + snapshot.rows(), bytes + snapshot.bytes()))
    }
}
