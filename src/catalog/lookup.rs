//! Names that were not found: the error, and what the user probably meant.

use std::sync::Arc;

use super::relation::Relation;
use super::snapshot::{Catalog, PUBLIC_SCHEMA};
use crate::error::{SqlError, SqlResult, SqlState};

/// The candidate that is most like the name, if any is alike enough to be meant.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let limit = (name.chars().count() / 3).clamp(1, 3);
    let scored = candidates.into_iter().map(|candidate| {
        let folded = candidate.to_lowercase();
        (strsim::osa_distance(&name, &folded), candidate)
    });
    let best = scored.min_by_key(|(distance, candidate)| (*distance, *candidate))?;
    (best.0 <= limit).then_some(best.1)
}

/// A name as it must be written in SQL: quoted if it would otherwise be folded or not be one word.
pub fn quote_name(name: &str) -> String {
    let mut chars = name.chars();
    let starts = chars.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_');
    match starts && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '$') {
        true => name.to_string(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

impl Catalog {
    /// The relation that a name means, or 42P01 with the nearest name.
    pub fn find_or_err(&self, schema: Option<&str>, name: &str, path: &[String]) -> SqlResult<&Arc<Relation>> {
        self.find(schema, name, path).ok_or_else(|| self.relation_not_found(schema, name, path))
    }

    /// 42P01, with a hint if a relation has a name like it.
    pub fn relation_not_found(&self, schema: Option<&str>, name: &str, path: &[String]) -> SqlError {
        let shown = schema.map_or(name.to_string(), |schema| format!("{schema}.{name}"));
        let error = SqlError::new(SqlState::UNDEFINED_TABLE, format!("relation \"{shown}\" does not exist"));
        if let Some(elsewhere) = self.relations().find(|relation| relation.name == name) {
            let (schema, name) = (quote_name(&elsewhere.schema), quote_name(name));
            return error.hint(format!("There is a {} {schema}.{name}.", elsewhere.kind));
        }
        let visible = |relation: &Relation| match schema {
            Some(schema) => relation.schema == schema,
            None => path.contains(&relation.schema),
        };
        let candidates = self.relations().filter(|relation| visible(relation)).map(|relation| relation.name.as_str());
        match nearest(name, candidates) {
            Some(nearest) => error.hint(format!("Did you mean \"{nearest}\"?")),
            None => error,
        }
    }

    /// 3F000, with a hint if a schema has a name like it.
    pub fn schema_not_found(&self, name: &str) -> SqlError {
        let error = SqlError::new(SqlState::INVALID_SCHEMA, format!("schema \"{name}\" does not exist"));
        match nearest(name, self.schemas().map(|schema| schema.name.as_str())) {
            Some(nearest) => error.hint(format!("Did you mean \"{nearest}\"?")),
            None => error,
        }
    }

    /// 42703 for a column that a relation lacks, naming those that it has.
    pub fn column_not_found(relation: &Relation, name: &str) -> SqlError {
        let message = format!("column \"{name}\" of relation \"{}\" does not exist", relation.name);
        let names: Vec<&str> = relation.columns.iter().map(|column| column.name.as_str()).collect();
        let has = format!("{} has columns: {}.", relation.name, names.join(", "));
        let hint = match nearest(name, names) {
            Some(nearest) => format!("Did you mean \"{nearest}\"?  {has}"),
            None => has,
        };
        SqlError::new(SqlState::UNDEFINED_COLUMN, message).hint(hint)
    }

    /// The schema in which an unqualified CREATE puts its relation: the first of the path that exists.
    pub fn creation_schema(&self, path: &[String]) -> SqlResult<String> {
        let found = path.iter().find(|name| self.schema(name).is_some() && !super::is_system_schema(name));
        found.cloned().ok_or_else(|| {
            SqlError::new(SqlState::INVALID_SCHEMA, "no schema has been selected to create in")
                .hint(format!("SET search_path = {PUBLIC_SCHEMA};"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::tests::table;
    use super::super::{CatalogEdit, quote_name};
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_the_name_and_a_stranger_does_not() {
        assert_eq!(nearest("auctoin", ["auction", "bidder"]), Some("auction"));
        assert_eq!(nearest("Price", ["price"]), Some("price"));
        assert_eq!(nearest("zebra", ["auction", "bidder"]), None);
        assert_eq!(nearest("x", ["abc"]), None);
    }

    #[test]
    fn an_unknown_relation_gets_a_hint() {
        let catalog = Catalog::bootstrap();
        let catalog = catalog.apply(&CatalogEdit::Create(table(&catalog, "flights", &[])));
        let path = ["public".to_string()];
        let error = catalog.find_or_err(None, "flihgts", &path).expect_err("misspelt");
        assert_eq!((error.code, error.hint.as_deref()), (SqlState::UNDEFINED_TABLE, Some("Did you mean \"flights\"?")));
        let error = catalog.find_or_err(None, "hw_dead_letters", &path).expect_err("in another schema");
        assert_eq!(error.hint.as_deref(), Some("There is a table hw_catalog.hw_dead_letters."));
    }

    #[test]
    fn names_are_quoted_only_where_needed() {
        assert_eq!(quote_name("a_1"), "a_1");
        assert_eq!(quote_name("A"), "\"A\"");
        assert_eq!(quote_name("a\"b"), "\"a\"\"b\"");
    }
}
