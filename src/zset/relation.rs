//! The identity of a relation: what deltas, dataflows and the catalog name without knowing each other.

use serde::{Deserialize, Serialize};

/// A table, source, view or sink. Never used again after its relation was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RelationId(pub u64);

impl std::fmt::Display for RelationId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "r{}", self.0)
    }
}
