//! Arrow columns with a weight for every row: the good part of a delta, or a whole Z-set.

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute;
use arrow::datatypes::SchemaRef;

use super::weight::Weight;

/// Rows of one relation, each with a weight.
///
/// `weights: None` means that every weight is +1. `consolidated` promises that no row occurs twice and no weight
/// is 0; rows that are all distinct inserts may carry it too.
#[derive(Debug, Clone)]
pub struct Rows {
    batch: RecordBatch,
    weights: Option<Int64Array>,
    consolidated: bool,
}

impl Rows {
    /// Rows with the given weights: as many weights as rows, none of them NULL.
    pub fn new(batch: RecordBatch, weights: Option<Int64Array>) -> Self {
        if let Some(weights) = &weights {
            assert_eq!(weights.len(), batch.num_rows(), "every row has one weight");
            assert_eq!(weights.null_count(), 0, "no weight is NULL");
        }
        Self { batch, weights, consolidated: false }
    }
    /// Every row with weight +1.
    pub fn inserts(batch: RecordBatch) -> Self {
        Self::new(batch, None)
    }
    /// Every row with the same weight.
    pub fn uniform(batch: RecordBatch, weight: Weight) -> Self {
        let weights = (weight != 1).then(|| Int64Array::from_value(weight, batch.num_rows()));
        Self::new(batch, weights)
    }
    pub fn empty(schema: SchemaRef) -> Self {
        Self { batch: RecordBatch::new_empty(schema), weights: None, consolidated: true }
    }
    /// Sets the flag; the caller promises what it means.
    #[must_use]
    pub fn assume_consolidated(mut self) -> Self {
        self.consolidated = true;
        self
    }
    pub fn is_consolidated(&self) -> bool {
        self.consolidated
    }
    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }
    pub fn into_parts(self) -> (RecordBatch, Option<Int64Array>) {
        (self.batch, self.weights)
    }
    pub fn schema(&self) -> SchemaRef {
        self.batch.schema()
    }
    pub fn column(&self, index: usize) -> &ArrayRef {
        self.batch.column(index)
    }
    pub fn len(&self) -> usize {
        self.batch.num_rows()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// `None` when every weight is +1.
    pub fn weights(&self) -> Option<&Int64Array> {
        self.weights.as_ref()
    }
    pub fn weight(&self, row: usize) -> Weight {
        self.weights.as_ref().map_or(1, |weights| weights.value(row))
    }
    /// The weights as an array, made if there was none.
    pub fn weights_array(&self) -> Int64Array {
        self.weights.clone().unwrap_or_else(|| Int64Array::from_value(1, self.len()))
    }
    /// True if no row is retracted.
    pub fn is_insert_only(&self) -> bool {
        self.weights.as_ref().is_none_or(|weights| weights.values().iter().all(|weight| *weight > 0))
    }
    /// The rows at `indices`, in that order, with their weights.
    #[must_use]
    pub fn take(&self, indices: &UInt32Array) -> Self {
        let columns = self.batch.columns().iter();
        let columns = columns.map(|column| compute::take(column, indices, None).expect("indices are within the batch"));
        // Rows may have no columns: then only their number is left of them.
        let options = RecordBatchOptions::new().with_row_count(Some(indices.len()));
        let batch = RecordBatch::try_new_with_options(self.schema(), columns.collect(), &options)
            .expect("taking rows keeps the types");
        let weights = self.weights.as_ref().map(|weights| {
            let taken = compute::take(weights, indices, None).expect("indices are within the batch");
            Int64Array::from(taken.to_data())
        });
        Self { batch, weights, consolidated: false }
    }
    /// The rows where `keep` is true (NULL is not true). Consolidated rows stay so.
    #[must_use]
    pub fn filter(&self, keep: &BooleanArray) -> Self {
        let batch = compute::filter_record_batch(&self.batch, keep).expect("one verdict for every row");
        let weights = self.weights.as_ref().map(|weights| {
            let kept = compute::filter(weights, keep).expect("one verdict for every row");
            Int64Array::from(kept.to_data())
        });
        Self { batch, weights, consolidated: self.consolidated }
    }
    #[must_use]
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        let weights = self.weights.as_ref().map(|weights| weights.slice(offset, length));
        Self { batch: self.batch.slice(offset, length), weights, consolidated: self.consolidated }
    }
    /// The same rows with every weight's sign turned.
    #[must_use]
    pub fn negate(&self) -> Self {
        let weights = match &self.weights {
            None => Int64Array::from_value(-1, self.len()),
            Some(weights) => weights.unary(|weight: i64| -weight),
        };
        Self { batch: self.batch.clone(), weights: Some(weights), consolidated: self.consolidated }
    }
    /// Some columns of the same rows; the weights stay, the flag does not.
    #[must_use]
    pub fn project(&self, columns: &[usize]) -> Self {
        self.with_batch(self.batch.project(columns).expect("the columns are there"))
    }
    /// Other columns for the same rows; the weights stay, the flag does not.
    #[must_use]
    pub fn with_batch(&self, batch: RecordBatch) -> Self {
        Self::new(batch, self.weights.clone())
    }
    /// All rows one after another. `parts` have equal column types.
    pub fn concat(schema: &SchemaRef, parts: &[Rows]) -> Self {
        let parts: Vec<&Rows> = parts.iter().filter(|part| !part.is_empty()).collect();
        match parts.as_slice() {
            [] => Self::empty(schema.clone()),
            [one] => (*one).clone(),
            several => {
                let batch = compute::concat_batches(schema, several.iter().map(|part| &part.batch))
                    .expect("parts of one relation have one schema");
                let weights = several
                    .iter()
                    .any(|part| part.weights.is_some())
                    .then(|| several.iter().flat_map(|part| (0..part.len()).map(|row| part.weight(row))).collect());
                Self::new(batch, weights)
            }
        }
    }
    /// Bytes of memory that the columns and weights hold.
    pub fn bytes(&self) -> usize {
        self.batch.get_array_memory_size() + self.weights.as_ref().map_or(0, |weights| weights.get_array_memory_size())
    }
}
