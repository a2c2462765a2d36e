//! Where in the text something stands: lines and columns of the parser → character positions of error messages.

use std::sync::Arc;

use sqlparser::tokenizer::{Location, Span};

/// The lines of a whole text. Cheap to clone; every statement of the text carries one.
#[derive(Debug, Clone)]
pub struct Places {
    /// For each line the number of characters before it.
    line_starts: Arc<[usize]>,
    characters: usize,
}

impl Places {
    pub fn new(text: &str) -> Self {
        let mut line_starts = vec![0];
        let mut characters = 0;
        for c in text.chars() {
            characters += 1;
            if c == '\n' {
                line_starts.push(characters);
            }
        }
        Self { line_starts: line_starts.into(), characters }
    }

    /// Characters before the location.
    pub fn offset(&self, at: Location) -> Option<usize> {
        let line = usize::try_from(at.line).ok()?.checked_sub(1)?;
        let column = usize::try_from(at.column).ok()?.checked_sub(1)?;
        Some((self.line_starts.get(line)? + column).min(self.characters))
    }

    /// The position of a message that points at the span, from 1; `None` for an empty span.
    pub fn position(&self, span: Span) -> Option<usize> {
        self.offset(span.start).map(|offset| offset + 1)
    }

    /// The position just after the last character.
    pub fn end(&self) -> usize {
        self.characters + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_become_positions() {
        let places = Places::new("ab\nçd\n");
        assert_eq!(places.offset(Location { line: 2, column: 2 }), Some(4));
        assert_eq!(places.offset(Location { line: 0, column: 0 }), None);
        assert_eq!(places.end(), 7);
    }
}
