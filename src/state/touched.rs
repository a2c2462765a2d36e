//! How many rows arrangements have touched on a thread: what a change costs, counted instead of timed.

use std::cell::Cell;

thread_local! {
    static TOUCHED: Cell<u64> = const { Cell::new(0) };
}

/// Rows that were found, walked over or absorbed on this thread since it began; merging is not counted.
pub fn touched() -> u64 {
    TOUCHED.get()
}

/// Counts rows that something touches; for operators that keep their state otherwise than in arrangements.
pub fn touch(rows: usize) {
    TOUCHED.set(TOUCHED.get() + rows as u64);
}
