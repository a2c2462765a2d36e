//! The engine's logical time: a numbered step, and the wall-clock reading that belongs to it.

use serde::{Deserialize, Serialize};

/// The engine's logical time. The inputs of a step apply all or not at all. Step 0 is "before any input".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Step(pub u64);

impl Step {
    #[must_use]
    pub fn next(self) -> Step {
        Step(self.0 + 1)
    }
}

/// A step with the clock reading that was logged with it; `now()` in a view is this reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    pub step: Step,
    /// Microseconds since 1970-01-01 00:00 UTC.
    pub now: i64,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
