//! OIDs ↔ names: `regclass` and its like, and the definitions that `pg_get_…def` print.

use super::System;
use super::fixed::{procedures, users};
use super::objects::{self, Object, Origin, key_name, objects, schemas};
use super::types;
use crate::catalog::{Relation, RelationKind, quote_name};
use crate::error::{SqlError, SqlResult, SqlState};

/// What kind of object a `reg…` type names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    Class,
    Type,
    Namespace,
    Procedure,
    Role,
}

impl System {
    /// The OID that a text means as `regclass` and the like; `None` if nothing has that name.
    pub fn oid_of(&self, what: Named, text: &str) -> Option<u32> {
        let text = text.trim();
        if let Ok(oid) = text.parse::<u32>() {
            return Some(oid);
        }
        if text == "-" {
            return Some(0);
        }
        let parts = split_name(text);
        let (last, schema) = (parts.last()?, parts.len().checked_sub(2).map(|index| parts[index].as_str()));
        match what {
            Named::Class => self.find_object(schema, last).map(|object| object.oid),
            Named::Type => types::by_name(text).map(|info| info.oid),
            Named::Namespace => schemas(&self.catalog).into_iter().find(|(_, name)| name == last).map(|(oid, _)| oid),
            Named::Procedure => procedures().into_iter().find(|(_, name, _)| name == last).map(|(oid, ..)| oid),
            Named::Role => users(self).into_iter().find(|(_, name)| name == last).map(|(oid, _)| oid),
        }
    }

    /// The same, with PostgreSQL's error for a name that nothing has.
    pub fn oid_or_err(&self, what: Named, text: &str) -> SqlResult<u32> {
        self.oid_of(what, text).ok_or_else(|| match what {
            Named::Class => SqlError::new(SqlState::UNDEFINED_TABLE, format!("relation \"{text}\" does not exist")),
            Named::Type => SqlError::new(SqlState::UNDEFINED_OBJECT, format!("type \"{text}\" does not exist")),
            Named::Namespace => SqlError::new(SqlState::INVALID_SCHEMA, format!("schema \"{text}\" does not exist")),
            Named::Procedure => {
                SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("function \"{text}\" does not exist"))
            }
            Named::Role => SqlError::new(SqlState::UNDEFINED_OBJECT, format!("role \"{text}\" does not exist")),
        })
    }

    /// How an OID prints as `regclass` and the like: by name, with its schema only where that is needed; the number
    /// itself if nothing has it.
    pub fn name_of(&self, what: Named, oid: u32) -> String {
        if oid == 0 {
            return "-".to_string();
        }
        let found = match what {
            Named::Class => objects(&self.catalog).into_iter().find(|object| object.oid == oid).map(|object| {
                let name = quote_name(&object.name);
                match self.is_visible(&object) {
                    true => name,
                    false => format!("{}.{name}", quote_name(object.schema)),
                }
            }),
            Named::Type => types::by_oid(oid).map(|_| types::format(oid, -1)),
            Named::Namespace => {
                schemas(&self.catalog).into_iter().find(|found| found.0 == oid).map(|found| quote_name(&found.1))
            }
            Named::Procedure => procedures().into_iter().find(|found| found.0 == oid).map(|found| found.1),
            Named::Role => users(self).into_iter().find(|found| found.0 == oid).map(|found| quote_name(&found.1)),
        };
        found.unwrap_or_else(|| oid.to_string())
    }

    /// The schemas in which bare names are looked up, the system's own first.
    pub fn effective_path(&self) -> Vec<&str> {
        let named = self.search_path.iter().map(String::as_str);
        let path: Vec<&str> = named.filter(|name| objects::schema_oid(&self.catalog, name) != 0).collect();
        match path.contains(&"pg_catalog") {
            true => path,
            false => std::iter::once("pg_catalog").chain(path).collect(),
        }
    }

    fn find_object(&self, schema: Option<&str>, name: &str) -> Option<Object<'_>> {
        let all: Vec<Object<'_>> = objects(&self.catalog).into_iter().filter(|object| object.name == name).collect();
        let path = match schema {
            Some(schema) => vec![schema],
            None => self.effective_path(),
        };
        let place = |object: &Object<'_>| path.iter().position(|schema| *schema == object.schema);
        all.into_iter()
            .filter_map(|object| Some((place(&object)?, object)))
            .min_by_key(|(place, _)| *place)
            .map(|found| found.1)
    }

    /// Whether a bare name finds the object.
    fn is_visible(&self, object: &Object<'_>) -> bool {
        self.find_object(None, &object.name).is_some_and(|found| found.oid == object.oid)
    }

    /// Whether a bare name finds the relation with this OID; `None` if there is none.
    pub fn is_table_visible(&self, oid: u32) -> Option<bool> {
        objects(&self.catalog).into_iter().find(|object| object.oid == oid).map(|object| self.is_visible(&object))
    }

    fn relation(&self, oid: u32) -> Option<&Relation> {
        self.catalog.relations().find(|relation| relation.oid == oid).map(AsRef::as_ref)
    }

    pub fn view_definition(&self, oid: u32) -> Option<String> {
        let views = [RelationKind::View, RelationKind::MaterializedView];
        let view = self.relation(oid).filter(|relation| views.contains(&relation.kind))?;
        Some(format!(" {};", view.definition.trim_end_matches(';')))
    }

    /// The index as CREATE INDEX would make it, or only the name of one of its columns (from 1).
    pub fn index_definition(&self, oid: u32, column: usize) -> Option<String> {
        let catalog = &self.catalog;
        let object = objects(catalog).into_iter().find(|object| object.oid == oid)?;
        let (definition, names) = match object.origin {
            Origin::KeyIndex(table) => (key_definition(table), column_names(table, &table.primary_key)),
            Origin::Relation(index) if index.kind == RelationKind::Index => {
                let (table, columns) = objects::indexed(catalog, index)?;
                (index_definition(index, table, &columns), column_names(table, &columns))
            }
            _ => return None,
        };
        match column {
            0 => Some(definition),
            column => names.get(column - 1).cloned(),
        }
    }

    pub fn constraint_definition(&self, oid: u32) -> Option<String> {
        let table = objects::key_owner(&self.catalog, oid)?;
        Some(format!("PRIMARY KEY ({})", column_names(table, &table.primary_key).join(", ")))
    }

    /// Bytes that a relation holds in memory.
    pub fn bytes_of(&self, oid: u32) -> Option<i64> {
        self.relation(oid).map(|relation| self.held(relation.id).1 as i64)
    }
}

fn column_names(table: &Relation, columns: &[usize]) -> Vec<String> {
    columns.iter().map(|index| quote_name(&table.columns[*index].name)).collect()
}

fn definition(unique: &str, name: &str, table: &Relation, columns: &[usize]) -> String {
    let columns = column_names(table, columns).join(", ");
    let (schema, table, name) = (quote_name(&table.schema), quote_name(&table.name), quote_name(name));
    format!("CREATE {unique}INDEX {name} ON {schema}.{table} USING btree ({columns})")
}

pub fn index_definition(index: &Relation, table: &Relation, columns: &[usize]) -> String {
    definition(if index.unique { "UNIQUE " } else { "" }, &index.name, table, columns)
}

pub fn key_definition(table: &Relation) -> String {
    definition("UNIQUE ", &key_name(table), table, &table.primary_key)
}

/// Splits a possibly quoted, possibly qualified name; what is not quoted is folded.
fn split_name(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let part = parts.last_mut().expect("there is always one part");
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                part.push('"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            // Arguments of a function's name: `lower(text)`.
            '(' if !quoted => break,
            c if quoted => part.push(c),
            c => part.extend(c.to_lowercase()),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_and_folded() {
        assert_eq!(split_name("Public.\"A.b\""), ["public", "A.b"]);
        assert_eq!(split_name("lower(text)"), ["lower"]);
    }
}
