//! One change of the catalog as a value, so that it can be logged and replayed.

use serde::{Deserialize, Serialize};

use super::relation::Relation;
use crate::zset::RelationId;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CatalogEdit {
    CreateSchema {
        name: String,
        oid: u32,
    },
    /// The schema is empty: what it held was dropped by edits before.
    DropSchema {
        name: String,
    },
    RenameSchema {
        name: String,
        new_name: String,
    },
    Create(Relation),
    /// Nothing depends on it: dependents were dropped by edits before.
    Drop(RelationId),
    /// A plain view gets another query under the same id.
    Replace(Relation),
    Rename {
        id: RelationId,
        new_name: String,
    },
    RenameColumn {
        id: RelationId,
        column: usize,
        new_name: String,
    },
    Move {
        id: RelationId,
        new_schema: String,
    },
    /// The same query, written with names that are valid after a rename.
    Redefine {
        id: RelationId,
        definition: String,
    },
}
