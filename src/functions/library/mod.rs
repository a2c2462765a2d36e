//! The library: functions written over one row at a time, with PostgreSQL's overloads.
//!
//! An [`Entry`] says what a function takes, what it gives, and how one row is computed. Which entry a call means is
//! decided by [`resolve`] when the call is typed.

mod array;
mod bytes;
mod call;
mod datetime;
mod json_build;
mod json_edit;
mod json_path;
mod json_path_parse;
mod number;
mod regexp;
mod resolve;
mod row;
mod text;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::error::SqlResult;

pub use call::LibraryCall;
pub use json_edit::{follow, shown};
pub use resolve::{SHARED, becomes, resolve};
pub use row::{Row, Value};

/// How a row is computed.
#[derive(Clone, Copy)]
pub enum Run {
    /// NULL if any argument is NULL.
    Strict(fn(&Row<'_>) -> SqlResult<Value>),
    /// NULLs are arguments like others.
    Lenient(fn(&Row<'_>) -> SqlResult<Value>),
}

/// One function for one list of arguments.
pub struct Entry {
    pub name: &'static str,
    /// Types, separated by commas: PostgreSQL's names, `any`, `anyelement`, `anyarray`. The last may end in `...`.
    pub arguments: &'static str,
    /// A type, or that of an argument: `anyelement`, `anyarray`.
    pub result: &'static str,
    pub run: Run,
}

const fn strict(
    name: &'static str,
    arguments: &'static str,
    result: &'static str,
    run: fn(&Row<'_>) -> SqlResult<Value>,
) -> Entry {
    Entry { name, arguments, result, run: Run::Strict(run) }
}

const fn lenient(
    name: &'static str,
    arguments: &'static str,
    result: &'static str,
    run: fn(&Row<'_>) -> SqlResult<Value>,
) -> Entry {
    Entry { name, arguments, result, run: Run::Lenient(run) }
}

/// All functions by name.
fn entries() -> &'static BTreeMap<&'static str, Vec<&'static Entry>> {
    static ENTRIES: LazyLock<BTreeMap<&'static str, Vec<&'static Entry>>> = LazyLock::new(|| {
        let families: [&'static [Entry]; 9] = [
            array::ENTRIES,
            bytes::ENTRIES,
            datetime::ENTRIES,
            json_build::ENTRIES,
            json_edit::ENTRIES,
            json_path::ENTRIES,
            number::ENTRIES,
            regexp::ENTRIES,
            text::ENTRIES,
        ];
        let mut all: BTreeMap<&'static str, Vec<&'static Entry>> = BTreeMap::new();
        families.into_iter().flatten().for_each(|entry| all.entry(entry.name).or_default().push(entry));
        all
    });
    &ENTRIES
}

/// The names of all functions of the library.
pub fn names() -> impl Iterator<Item = &'static str> {
    entries().keys().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_can_be_resolved() {
        for entry in entries().values().flatten() {
            assert!(resolve::shape(entry).is_some(), "{} ({}) -> {}", entry.name, entry.arguments, entry.result);
        }
    }
}
