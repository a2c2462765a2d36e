//! What the functions of `pg_catalog` answer.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListBuilder, StringViewBuilder};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;

use super::System;
use super::names::Named;
use super::types;
use crate::catalog::Relation;
use crate::error::SqlResult;
use crate::functions::SystemFunctions;
use crate::session::settings::SERVER_VERSION;
use crate::zset::PgType;

fn text(value: impl Into<String>) -> ScalarValue {
    ScalarValue::Utf8View(Some(value.into()))
}

fn maybe_text(value: Option<String>) -> ScalarValue {
    ScalarValue::Utf8View(value)
}

fn truth(value: Option<bool>) -> ScalarValue {
    ScalarValue::Boolean(value)
}

const NO_TEXT: ScalarValue = ScalarValue::Utf8View(None);

/// The arguments of one call.
struct Arguments<'a>(&'a [ScalarValue]);

impl Arguments<'_> {
    fn int(&self, index: usize) -> Option<i64> {
        let value = self.0.get(index)?.cast_to(&DataType::Int64).ok()?;
        match value {
            ScalarValue::Int64(value) => value,
            _ => None,
        }
    }

    fn oid(&self, index: usize) -> Option<u32> {
        self.int(index).and_then(|value| u32::try_from(value).ok())
    }

    fn text(&self, index: usize) -> Option<String> {
        self.0.get(index).filter(|value| !value.is_null())?;
        self.0.get(index)?.try_as_str().flatten().map(str::to_string)
    }

    fn bool(&self, index: usize) -> Option<bool> {
        match self.0.get(index)? {
            ScalarValue::Boolean(value) => *value,
            _ => None,
        }
    }

    fn is_null(&self, index: usize) -> bool {
        self.0.get(index).is_none_or(ScalarValue::is_null)
    }
}

impl SystemFunctions for System {
    fn call(&self, name: &str, arguments: &[ScalarValue]) -> SqlResult<ScalarValue> {
        let given = Arguments(arguments);
        if name.starts_with("has_") || name == "pg_has_role" {
            return Ok(truth((!given.is_null(0)).then_some(true)));
        }
        if let Some(rest) = name.strip_prefix("hw_reg").or_else(|| name.strip_prefix("to_reg")) {
            return self.reg(rest, name.starts_with("to_"), &given);
        }
        if let Some(value) = self.setting(name, &given)? {
            return Ok(value);
        }
        if let Some(value) = self.definition(name, &given) {
            return Ok(value);
        }
        Ok(self.fact(name, &given))
    }
}

/// The parameters of a function: `x integer, y text`.
fn parameters(function: &Relation) -> String {
    let written =
        function.columns.iter().map(|column| format!("{} {}", column.name, column.pg_type).trim().to_string());
    written.collect::<Vec<_>>().join(", ")
}

impl System {
    /// The user's function of an OID.
    fn function(&self, oid: u32) -> Option<&Relation> {
        self.catalog.functions().find(|function| function.oid == oid).map(AsRef::as_ref)
    }

    /// Casts to and from `regclass` and its like: `hw_regclass(x)`, `hw_regclass_name(x)`, `to_regclass(x)`.
    fn reg(&self, rest: &str, or_null: bool, given: &Arguments<'_>) -> SqlResult<ScalarValue> {
        let (kind, as_name) = rest.strip_suffix("_name").map_or((rest, false), |kind| (kind, true));
        let what = match kind {
            "class" => Named::Class,
            "type" => Named::Type,
            "namespace" => Named::Namespace,
            "proc" => Named::Procedure,
            _ => Named::Role,
        };
        let oid = match (given.oid(0), given.text(0)) {
            _ if given.is_null(0) => None,
            (_, Some(text)) if or_null => self.oid_of(what, &text),
            // A function's name in a column that PostgreSQL types regproc: it prints as it is.
            (_, Some(text)) if what == Named::Procedure && as_name => return Ok(maybe_text(Some(text))),
            (_, Some(text)) => Some(self.oid_or_err(what, &text)?),
            (oid, None) => oid,
        };
        Ok(match as_name {
            true => maybe_text(oid.map(|oid| self.name_of(what, oid))),
            false => ScalarValue::UInt32(oid),
        })
    }

    /// Functions on the session's settings.
    fn setting(&self, name: &str, given: &Arguments<'_>) -> SqlResult<Option<ScalarValue>> {
        let mut settings = self.settings.lock().expect("no holder of the settings panics");
        Ok(Some(match (name, given.text(0)) {
            ("current_setting" | "set_config", None) => NO_TEXT,
            ("current_setting", Some(name)) => match settings.get(&name) {
                Ok(value) => text(value),
                Err(_) if given.bool(1) == Some(true) => NO_TEXT,
                Err(error) => return Err(error),
            },
            ("set_config", Some(name)) => {
                let value = given.text(1).unwrap_or_default();
                settings.set_text(&name, &value, given.bool(2).unwrap_or(false))?;
                text(settings.get(&name)?)
            }
            _ => return Ok(None),
        }))
    }

    /// Functions that print a definition, a comment or a name.
    fn definition(&self, name: &str, given: &Arguments<'_>) -> Option<ScalarValue> {
        let oid = given.oid(0);
        Some(match name {
            "format_type" => maybe_text(oid.map(|oid| types::format(oid, given.int(1).unwrap_or(-1)))),
            "pg_get_expr" => maybe_text(given.text(0)),
            "pg_get_userbyid" => maybe_text(oid.map(|oid| match self.name_of(Named::Role, oid) {
                name if name == oid.to_string() => format!("unknown (OID={oid})"),
                name => name,
            })),
            "pg_get_viewdef" => {
                let oid = given.text(0).map_or(oid, |name| self.oid_of(Named::Class, &name));
                maybe_text(oid.and_then(|oid| self.view_definition(oid)))
            }
            "pg_get_indexdef" => {
                let column = given.int(1).and_then(|column| usize::try_from(column).ok()).unwrap_or(0);
                maybe_text(oid.and_then(|oid| self.index_definition(oid, column)))
            }
            "pg_get_constraintdef" => maybe_text(oid.and_then(|oid| self.constraint_definition(oid))),
            "pg_get_function_arguments" | "pg_get_function_identity_arguments" => {
                maybe_text(oid.map(|oid| self.function(oid).map_or(String::new(), parameters)))
            }
            "pg_get_function_result" => maybe_text(oid.map(|oid| {
                let result = self.function(oid).and_then(|function| function.options.get("returns").cloned());
                result.unwrap_or_else(|| "anyelement".to_string())
            })),
            // Nothing that these describe exists, and there are no comments.
            "pg_get_function_sqlbody"
            | "pg_get_functiondef"
            | "pg_get_partition_constraintdef"
            | "pg_get_partkeydef"
            | "pg_get_ruledef"
            | "pg_get_serial_sequence"
            | "pg_get_statisticsobjdef_columns"
            | "pg_get_triggerdef"
            | "obj_description"
            | "col_description"
            | "shobj_description" => NO_TEXT,
            "pg_encoding_to_char" => {
                maybe_text(given.int(0).map(|code| (if code == 6 { "UTF8" } else { "" }).to_string()))
            }
            "pg_char_to_encoding" => {
                ScalarValue::Int32(given.text(0).map(|name| match name.to_ascii_lowercase().as_str() {
                    "utf8" | "unicode" | "utf-8" => 6,
                    _ => -1,
                }))
            }
            "pg_tablespace_location" => maybe_text(oid.map(|_| String::new())),
            "pg_size_pretty" => maybe_text(given.int(0).map(size_pretty)),
            "getdatabaseencoding" => text("UTF8"),
            _ => return None,
        })
    }

    /// Everything else: what is visible, how big it is, who is connected.
    fn fact(&self, name: &str, given: &Arguments<'_>) -> ScalarValue {
        let oid = given.oid(0);
        let bytes = || ScalarValue::Int64(oid.and_then(|oid| self.bytes_of(oid)));
        match name {
            "pg_table_is_visible" => truth(oid.and_then(|oid| self.is_table_visible(oid))),
            _ if name.ends_with("_is_visible") => truth(oid.map(|_| true)),
            "current_schemas" => self.current_schemas(given.bool(0).unwrap_or(false)),
            "current_database" | "current_catalog" => name_value(Some(self.database.clone())),
            "current_user" | "session_user" | "user" | "current_role" => name_value(Some(self.user.clone())),
            "current_schema" => name_value(self.creation_schema()),
            "version" => text(version()),
            "pg_backend_pid" => ScalarValue::Int32(Some(self.pid)),
            "pg_my_temp_schema" => ScalarValue::UInt32(Some(0)),
            "pg_is_other_temp_schema" | "pg_is_in_recovery" | "row_security_active" => truth(Some(false)),
            "pg_relation_is_publishable" => truth(oid.map(|_| false)),
            "pg_relation_is_updatable" => ScalarValue::Int32(oid.map(|_| 28)),
            "pg_table_size" | "pg_total_relation_size" | "pg_relation_size" => bytes(),
            "pg_indexes_size" => ScalarValue::Int64(oid.map(|_| 0)),
            "pg_database_size" => ScalarValue::Int64(Some(self.all_bytes())),
            "pg_cancel_backend" | "pg_terminate_backend" => {
                let pid = given.int(0).and_then(|pid| i32::try_from(pid).ok());
                truth(pid.map(crate::session::cancel_backend))
            }
            "pg_partition_ancestors" => ScalarValue::UInt32(None),
            "pg_advisory_unlock" | "pg_try_advisory_lock" => truth(Some(true)),
            // PostgreSQL's type void prints as nothing.
            "pg_advisory_lock" | "pg_advisory_unlock_all" => text(""),
            "pg_postmaster_start_time" | "pg_conf_load_time" => {
                ScalarValue::TimestampMicrosecond(Some(self.published.moment.now), Some("+00:00".into()))
            }
            "inet_client_port" | "inet_server_port" => ScalarValue::Int32(None),
            "txid_current" => ScalarValue::Int64(i64::try_from(self.published.moment.step.0).ok()),
            "hw_empty_array" => name_list(&[], &PgType::Text),
            "array_lower" | "array_upper" => bound(given, name == "array_upper"),
            _ => NO_TEXT,
        }
    }

    fn current_schemas(&self, with_implicit: bool) -> ScalarValue {
        let path = self.effective_path().into_iter();
        let implicit = |name: &&str| *name != "pg_catalog" || self.search_path.iter().any(|named| named == name);
        let path: Vec<&str> = path.filter(|name| with_implicit || implicit(name)).collect();
        name_list(&path, &PgType::Name)
    }

    /// The schema in which CREATE puts what has no schema in its name.
    fn creation_schema(&self) -> Option<String> {
        self.catalog.creation_schema(&self.search_path).ok()
    }

    fn all_bytes(&self) -> i64 {
        let kept = self.catalog.relations().map(|relation| self.held(relation.id).1);
        kept.sum::<usize>() as i64
    }
}

fn name_value(name: Option<String>) -> ScalarValue {
    ScalarValue::Utf8View(name)
}

/// Clients look for the number after the first word.
fn version() -> String {
    format!("PostgreSQL {SERVER_VERSION} (Headwater {})", env!("CARGO_PKG_VERSION"))
}

/// An array of texts of one type or another.
fn name_list(names: &[&str], item: &PgType) -> ScalarValue {
    let mut builder = ListBuilder::new(StringViewBuilder::new());
    names.iter().for_each(|name| builder.values().append_value(name));
    builder.append(true);
    let list: ArrayRef = Arc::new(builder.finish());
    let list = cast(&list, &PgType::Array(Box::new(item.clone())).arrow()).expect("all of them are texts in Arrow");
    ScalarValue::List(Arc::new(list.as_list().clone()))
}

/// The greatest or least index of an array's only dimension.
fn bound(given: &Arguments<'_>, upper: bool) -> ScalarValue {
    let length = match given.0.first() {
        Some(ScalarValue::List(list)) if !list.is_null(0) => list.value(0).len(),
        _ => 0,
    };
    let in_range = length > 0 && given.int(1) == Some(1);
    ScalarValue::Int32(in_range.then_some(if upper { length as i32 } else { 1 }))
}

/// As PostgreSQL's `pg_size_pretty`: the unit changes above ten thousand of it.
fn size_pretty(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["bytes", "kB", "MB", "GB", "TB", "PB"];
    let (mut value, mut unit) = (bytes, 0);
    while value.abs() >= 10 * 1024 && unit + 1 < UNITS.len() {
        value = (value + value.signum() * 512) / 1024;
        unit += 1;
    }
    format!("{value} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_pretty() {
        for (bytes, shown) in [(0, "0 bytes"), (8192, "8192 bytes"), (10 * 1024, "10 kB"), (24 << 20, "24 MB")] {
            assert_eq!(size_pretty(bytes), shown);
        }
    }
}
