//! The data of COPY: text, csv and binary, out of record batches and into them.
//!
//! [`CopyWriter`] prints batches; [`CopyReader`] takes bytes as they come and gives batches. Whole columns are read at a
//! time: one pass over the bytes finds the fields, then each column's builder takes its own.

mod binary;
mod csv;
mod form;
mod reader;
mod scan;
mod text;
mod writer;

pub use form::{CopyColumn, CopyForm, CopyFormat, Header};
pub use reader::CopyReader;
pub use writer::{CopyRows, CopyWriter};

#[cfg(test)]
mod tests;
