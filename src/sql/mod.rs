//! Text and a catalog snapshot → [`Statement`]: pure, without clock and files.

mod parse;
mod statement;

pub use parse::Parsed;
pub use statement::*;
