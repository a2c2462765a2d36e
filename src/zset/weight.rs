//! The integer beside a row: +1 inserted, -1 deleted, any other once rows are consolidated.

/// How many times a row is there; negative retracts.
pub type Weight = i64;

/// Adds two weights. A sum past 64 bits would need 2^63 copies of one row: a bug, not an input.
pub fn weights_add(a: Weight, b: Weight) -> Weight {
    a.checked_add(b).expect("no row occurs more than 2^63 times")
}
