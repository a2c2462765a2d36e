//! ALTER … RENAME and SET SCHEMA, with the definitions that name what is renamed.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Ident, ObjectName, ObjectNamePart, Spanned, TableFactor, VisitMut, VisitorMut};

use super::ast::Alteration;
use super::bind::BindContext;
use super::ddl::{at, find, wrong_kind};
use super::emit::Written;
use super::grammar::fold;
use super::parse::{Parsed, parse_query};
use super::statement::{Define, Notice};
use super::windows::windowed_table;
use crate::catalog::{Catalog, CatalogEdit, Relation, RelationKind};
use crate::error::{SqlError, SqlResult, SqlState};

pub(super) fn relation(
    kind: RelationKind,
    name: &ObjectName,
    if_exists: bool,
    change: &Alteration,
    parsed: &Parsed,
    context: &BindContext<'_>,
) -> SqlResult<Define> {
    let tag = alter_tag(kind);
    let found = match find(name, parsed, context) {
        Err(error) if if_exists && error.code == SqlState::UNDEFINED_TABLE => {
            let notice = Notice::notice(format!("relation \"{name}\" does not exist, skipping"));
            return Ok(Define { tag, edits: Vec::new(), notices: vec![notice] });
        }
        found => found?,
    };
    // PostgreSQL lets ALTER TABLE rename views and indexes too.
    if found.kind != kind && kind != RelationKind::Table {
        return Err(at(parsed, name.span(), wrong_kind(found, kind)));
    }
    let place = |error| at(parsed, name.span(), error);
    context.catalog.check_user_schema(&found.schema).map_err(place)?;
    let edits = match change {
        Alteration::Rename(new_name) => {
            let new_name = fold(new_name);
            let redefined = redefined(found, &found.schema, &new_name, context.catalog)?;
            let rename = CatalogEdit::Rename { id: found.id, new_name };
            std::iter::once(rename).chain(redefined).collect()
        }
        Alteration::SetSchema(schema) => {
            let new_schema = fold(schema);
            let redefined = redefined(found, &new_schema, &found.name, context.catalog)?;
            let change = CatalogEdit::Move { id: found.id, new_schema };
            std::iter::once(change).chain(redefined).collect()
        }
        Alteration::RenameColumn(old, new) => vec![rename_column(found, old, new, parsed, context)?],
    };
    context.catalog.check_all(&edits).map_err(place)?;
    Ok(Define { tag, edits, notices: Vec::new() })
}

fn alter_tag(kind: RelationKind) -> &'static str {
    match kind {
        RelationKind::Table => "ALTER TABLE",
        RelationKind::Source => "ALTER SOURCE",
        RelationKind::View => "ALTER VIEW",
        RelationKind::MaterializedView => "ALTER MATERIALIZED VIEW",
        RelationKind::Sink => "ALTER SINK",
        RelationKind::Index => "ALTER INDEX",
        RelationKind::Function => "ALTER FUNCTION",
    }
}

fn rename_column(
    found: &Relation,
    old: &Ident,
    new: &Ident,
    parsed: &Parsed,
    context: &BindContext<'_>,
) -> SqlResult<CatalogEdit> {
    let name = fold(old);
    let Some(column) = found.column(&name) else {
        return Err(at(parsed, old.span, Catalog::column_not_found(found, &name)));
    };
    // Indexes know columns by their places.
    let is_index =
        |id: &crate::zset::RelationId| context.catalog.get(*id).is_some_and(|other| other.kind == RelationKind::Index);
    let dependents = context.catalog.dependents(found.id);
    match dependents.iter().find(|id| !is_index(id)) {
        None => Ok(CatalogEdit::RenameColumn { id: found.id, column, new_name: fold(new) }),
        Some(dependent) => {
            let message = format!("cannot rename column \"{name}\" because other objects depend on it");
            let error = SqlError::new(SqlState::DEPENDENT_OBJECTS, message)
                .detail(format!(
                    "{} reads {}",
                    context.catalog.describe(*dependent),
                    context.catalog.describe(found.id)
                ))
                .hint("Drop and create the dependent objects, or rename the column in a view.");
            Err(at(parsed, old.span, error))
        }
    }
}

pub(super) fn schema(name: &Ident, new_name: &Ident, context: &BindContext<'_>) -> SqlResult<Define> {
    let (name, new_name) = (fold(name), fold(new_name));
    let rename = CatalogEdit::RenameSchema { name: name.clone(), new_name: new_name.clone() };
    let mut catalog = context.catalog.check_all(std::slice::from_ref(&rename))?;
    let mut edits = vec![rename];
    for relation in context.catalog.relations().filter(|relation| relation.schema == name) {
        // A definition may name several relations of the schema, so each pass reads what the last one wrote.
        for edit in redefined_in(relation, &new_name, &relation.name, context.catalog, &catalog)? {
            catalog = catalog.apply(&edit);
            edits.push(edit);
        }
    }
    Ok(Define { tag: "ALTER SCHEMA", edits, notices: Vec::new() })
}

/// The definitions that name the relation, with its new name in them.
fn redefined(found: &Relation, schema: &str, name: &str, catalog: &Catalog) -> SqlResult<Vec<CatalogEdit>> {
    redefined_in(found, schema, name, catalog, catalog)
}

fn redefined_in(
    found: &Relation,
    schema: &str,
    name: &str,
    before: &Catalog,
    texts: &Catalog,
) -> SqlResult<Vec<CatalogEdit>> {
    let mut edits = Vec::new();
    for id in before.dependents(found.id) {
        let Some(dependent) = texts.get(id).filter(|dependent| dependent.kind != RelationKind::Index) else { continue };
        let mut query = parse_query(&dependent.definition)?;
        let part = |text: &str| {
            let quoted = crate::catalog::quote_name(text) != text;
            ObjectNamePart::Identifier(if quoted { Ident::with_quote('"', text) } else { Ident::new(text) })
        };
        let mut renamer = Renamer {
            from: (found.schema.clone(), found.name.clone()),
            to: ObjectName(vec![part(schema), part(name)]),
        };
        let ControlFlow::Continue(()) = query.visit(&mut renamer);
        edits.push(CatalogEdit::Redefine { id, definition: Written(&query).to_string() });
    }
    Ok(edits)
}

/// Changes one relation's name; its alias, by which columns are qualified, stays.
struct Renamer {
    from: (String, String),
    to: ObjectName,
}

enum Never {}

impl VisitorMut for Renamer {
    type Break = Never;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Never> {
        if let TableFactor::Table { name, .. } = factor
            && let [ObjectNamePart::Identifier(schema), ObjectNamePart::Identifier(bare)] = name.0.as_slice()
            && (fold(schema), fold(bare)) == self.from
        {
            *name = self.to.clone();
        }
        if let Some(Expr::CompoundIdentifier(parts)) = windowed_table(factor)
            && let [schema, bare] = parts.as_slice()
            && (fold(schema), fold(bare)) == self.from
        {
            *parts = self.to.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
        }
        ControlFlow::Continue(())
    }
}
