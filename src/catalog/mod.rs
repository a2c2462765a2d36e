//! Names ↔ ids: which schemas and relations exist, what they depend on, and how edits change that.
//!
//! A [`Catalog`] is an immutable snapshot. A change is a [`CatalogEdit`], which goes into the log as JSON; applying
//! it is total, because everything that can be refused was refused by [`Catalog::check`] before.

mod check;
mod edit;
mod lookup;
mod relation;
mod snapshot;

pub use edit::CatalogEdit;
pub use lookup::{nearest, quote_name};
pub use relation::{Column, Relation, RelationKind, Watermark};
pub use snapshot::{
    CATALOG_SCHEMA, Catalog, DATABASE, DEAD_LETTERS, FIRST_USER_ID, LATE_ROWS, OID_BASE, PUBLIC_SCHEMA, SYSTEM_SCHEMAS,
    Schema, WATERMARKS, is_system_schema,
};
