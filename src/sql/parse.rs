//! Text → syntax trees: sqlparser's PostgreSQL dialect, with Headwater's own statements around it.

/// One statement of a text.
#[derive(Debug, Clone)]
pub struct Parsed {
    pub ast: sqlparser::ast::Statement,
    /// The text of this statement alone.
    pub text: String,
    /// Where the statement begins in the whole text, in characters.
    pub offset: usize,
}
