//! Errors that data makes inside a view: values with a weight that flow beside the good rows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::weight::{Weight, weights_add};
use crate::error::{SqlError, SqlState};

/// Why an expression had no value for a row: `1/0`, an overflow, a bad cast.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DataError {
    pub code: [u8; 5],
    pub message: String,
}

impl DataError {
    pub fn new(code: SqlState, message: impl Into<String>) -> Self {
        Self { code: code.0, message: message.into() }
    }
}

impl From<SqlError> for DataError {
    fn from(error: SqlError) -> Self {
        DataError::new(error.code, error.message)
    }
}

impl From<DataError> for SqlError {
    fn from(error: DataError) -> Self {
        SqlError::new(SqlState(error.code), error.message)
    }
}

/// A Z-set of errors, always consolidated: no entry has weight 0. Small, since errors are rare.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Vec<(DataError, Weight)>", into = "Vec<(DataError, Weight)>")]
pub struct ErrorRows(BTreeMap<DataError, Weight>);

impl From<Vec<(DataError, Weight)>> for ErrorRows {
    fn from(entries: Vec<(DataError, Weight)>) -> Self {
        let mut rows = Self::default();
        entries.into_iter().for_each(|(error, weight)| rows.add(error, weight));
        rows
    }
}

impl From<ErrorRows> for Vec<(DataError, Weight)> {
    fn from(rows: ErrorRows) -> Self {
        rows.0.into_iter().collect()
    }
}

impl ErrorRows {
    pub fn one(error: DataError, weight: Weight) -> Self {
        let mut rows = Self::default();
        rows.add(error, weight);
        rows
    }
    pub fn add(&mut self, error: DataError, weight: Weight) {
        let sum = weights_add(self.0.get(&error).copied().unwrap_or(0), weight);
        if sum == 0 {
            self.0.remove(&error);
        } else {
            self.0.insert(error, sum);
        }
    }
    pub fn add_all(&mut self, other: &ErrorRows) {
        for (error, weight) in &other.0 {
            self.add(error.clone(), *weight);
        }
    }
    #[must_use]
    pub fn negate(&self) -> Self {
        Self(self.0.iter().map(|(error, weight)| (error.clone(), -weight)).collect())
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub fn len(&self) -> usize {
        self.0.len()
    }
    pub fn iter(&self) -> impl Iterator<Item = (&DataError, Weight)> {
        self.0.iter().map(|(error, weight)| (error, *weight))
    }
    /// The error that reading the relation raises: the first one that is really there (weight above 0).
    pub fn first(&self) -> Option<&DataError> {
        self.0.iter().find(|(_, weight)| **weight > 0).map(|(error, _)| error)
    }
}
