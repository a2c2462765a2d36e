//! Catalogs whose rows hardly depend on what users define: databases, roles, settings, access methods, functions.

use super::System;
use super::objects::{OWNER_OID, PG_CATALOG_OID};
use super::rows::{Cell, Table};
use crate::catalog::{DATABASE, Relation};
use crate::functions;
use crate::zset::PgType;

const UTF8: i32 = 6;
/// The encoding that means "any".
const ANY_ENCODING: i32 = -1;
pub const DATABASE_OID: u32 = 5;

pub fn fill(system: &System, name: &str, table: &mut Table) {
    match name {
        "pg_database" => pg_database(system, table),
        "pg_roles" | "pg_authid" => pg_roles(system, table),
        "pg_user" | "pg_shadow" => pg_user(system, table),
        "pg_settings" => pg_settings(system, table),
        "pg_am" => pg_am(table),
        "pg_tablespace" => pg_tablespace(table),
        "pg_collation" => pg_collation(table),
        "pg_language" => pg_language(table),
        "pg_proc" => pg_proc(system, table),
        "pg_opclass" => pg_opclass(table),
        "pg_opfamily" => pg_opfamily(table),
        "pg_operator" => pg_operator(table),
        "pg_cast" => pg_cast(table),
        "pg_timezone_names" => pg_timezone_names(table),
        _ => {}
    }
}

fn pg_database(system: &System, table: &mut Table) {
    // Every name that a client connects with is the one database there is.
    let mut names = vec![DATABASE.to_string()];
    if system.database != DATABASE {
        names.push(system.database.clone());
    }
    for (index, name) in names.into_iter().enumerate() {
        table.row([
            ("oid", (DATABASE_OID + index as u32).into()),
            ("datname", name.into()),
            ("datdba", OWNER_OID.into()),
            ("encoding", UTF8.into()),
            ("datlocprovider", "c".into()),
            ("datallowconn", true.into()),
            ("datconnlimit", (-1).into()),
            ("dattablespace", 1663_u32.into()),
            ("datcollate", "C".into()),
            ("datctype", "C".into()),
        ]);
    }
}

/// Users with their OIDs: everyone who connects on loopback may do everything.
pub fn users(system: &System) -> Vec<(u32, String)> {
    let mut users = vec![(OWNER_OID, "headwater".to_string())];
    if system.user != "headwater" {
        users.push((16_383, system.user.clone()));
    }
    users
}

fn pg_roles(system: &System, table: &mut Table) {
    for (oid, name) in users(system) {
        table.row([
            ("oid", oid.into()),
            ("rolname", name.into()),
            ("rolsuper", true.into()),
            ("rolinherit", true.into()),
            ("rolcreaterole", true.into()),
            ("rolcreatedb", true.into()),
            ("rolcanlogin", true.into()),
            ("rolconnlimit", (-1).into()),
        ]);
    }
}

fn pg_user(system: &System, table: &mut Table) {
    for (oid, name) in users(system) {
        table.row([
            ("usename", name.into()),
            ("usesysid", oid.into()),
            ("usecreatedb", true.into()),
            ("usesuper", true.into()),
        ]);
    }
}

fn pg_settings(system: &System, table: &mut Table) {
    let settings = system.settings.lock().expect("no holder of the settings panics");
    for shown in settings.all() {
        table.row([
            ("name", shown.name.into()),
            ("source", (if shown.value == shown.default { "default" } else { "session" }).into()),
            ("setting", shown.value.clone().into()),
            ("category", "Headwater".into()),
            ("short_desc", shown.description.into()),
            ("context", "user".into()),
            ("vartype", shown.kind.into()),
            ("boot_val", shown.default.clone().into()),
            ("reset_val", shown.default.into()),
        ]);
    }
}

fn pg_am(table: &mut Table) {
    for (oid, name, handler, kind) in [(2_u32, "heap", "heap_tableam_handler", "t"), (403, "btree", "bthandler", "i")] {
        table.row([
            ("oid", oid.into()),
            ("amname", name.into()),
            ("amhandler", handler.into()),
            ("amtype", kind.into()),
        ]);
    }
}

fn pg_tablespace(table: &mut Table) {
    for (oid, name) in [(1663_u32, "pg_default"), (1664, "pg_global")] {
        table.row([("oid", oid.into()), ("spcname", name.into()), ("spcowner", OWNER_OID.into())]);
    }
}

fn pg_collation(table: &mut Table) {
    for (oid, name, provider) in [(100_u32, "default", "d"), (950, "C", "c"), (951, "POSIX", "c")] {
        let locale = (provider == "c").then_some(name);
        table.row([
            ("oid", oid.into()),
            ("collname", name.into()),
            ("collnamespace", PG_CATALOG_OID.into()),
            ("collowner", OWNER_OID.into()),
            ("collprovider", provider.into()),
            ("collisdeterministic", true.into()),
            ("collencoding", ANY_ENCODING.into()),
            ("collcollate", locale.into()),
            ("collctype", locale.into()),
        ]);
    }
}

fn pg_language(table: &mut Table) {
    for (oid, name, trusted) in [(12_u32, "internal", false), (14, "sql", true)] {
        table.row([
            ("oid", oid.into()),
            ("tableoid", 2612_u32.into()),
            ("lanname", name.into()),
            ("lanowner", OWNER_OID.into()),
            ("lanpltrusted", trusted.into()),
        ]);
    }
}

/// The functions that SQL can call, each once, whatever arguments it takes. Their OIDs are made up.
pub fn procedures() -> Vec<(u32, String, &'static str)> {
    let state = functions::session_state();
    let scalar = state.scalar_functions().keys().map(|name| (name.clone(), "f"));
    let aggregate = state.aggregate_functions().keys().map(|name| (name.clone(), "a"));
    let window = state.window_functions().keys().map(|name| (name.clone(), "w"));
    let mut all: Vec<(String, &'static str)> = scalar.chain(aggregate).chain(window).collect();
    all.retain(|(name, _)| !name.starts_with("hw_"));
    all.sort();
    all.dedup_by(|a, b| a.0 == b.0);
    all.into_iter().enumerate().map(|(index, (name, kind))| (8000 + index as u32, name, kind)).collect()
}

fn pg_proc(system: &System, table: &mut Table) {
    for function in system.catalog.functions() {
        own_function(system, function, table);
    }
    for (oid, name, kind) in procedures() {
        table.row([
            ("oid", oid.into()),
            ("tableoid", 1255_u32.into()),
            ("prosrc", name.clone().into()),
            ("proname", name.into()),
            ("pronamespace", PG_CATALOG_OID.into()),
            ("proowner", OWNER_OID.into()),
            ("prolang", 12_u32.into()),
            ("procost", 1.into()),
            ("prokind", kind.into()),
            ("proisstrict", true.into()),
            ("provolatile", "i".into()),
            ("proparallel", "s".into()),
            // The type of what it gives depends on the arguments: anyelement.
            ("prorettype", 2283_u32.into()),
            ("proargtypes", Cell::list(Vec::<u32>::new())),
        ]);
    }
}

/// A function that a user has made.
fn own_function(system: &System, function: &Relation, table: &mut Table) {
    let schema = system.catalog.schema(&function.schema).map_or(PG_CATALOG_OID, |schema| schema.oid);
    let option = |name: &str| function.options.get(name).cloned().unwrap_or_default();
    let result = PgType::parse(&option("returns")).map_or(0, |kind| kind.oid());
    table.row([
        ("oid", function.oid.into()),
        ("tableoid", 1255_u32.into()),
        ("prosrc", function.definition.clone().into()),
        ("proname", option("name").into()),
        ("pronamespace", schema.into()),
        ("proowner", OWNER_OID.into()),
        // SQL.
        ("prolang", 14_u32.into()),
        ("procost", 1.into()),
        ("prokind", "f".into()),
        ("proisstrict", function.options.contains_key("strict").into()),
        ("provolatile", option("volatility").into()),
        ("proparallel", "u".into()),
        ("prorettype", result.into()),
        ("proargtypes", Cell::list(function.columns.iter().map(|column| column.pg_type.oid()).collect::<Vec<_>>())),
    ]);
}

fn pg_opclass(table: &mut Table) {
    for (oid, name, kind) in
        [(1978_u32, "int4_ops", 23_u32), (3124, "int8_ops", 20), (3126, "text_ops", 25), (3125, "numeric_ops", 1700)]
    {
        table.row([
            ("oid", oid.into()),
            ("opcmethod", 403_u32.into()),
            ("opcname", name.into()),
            ("opcnamespace", PG_CATALOG_OID.into()),
            ("opcowner", OWNER_OID.into()),
            ("opcintype", kind.into()),
            ("opcdefault", true.into()),
        ]);
    }
}

fn pg_opfamily(table: &mut Table) {
    for (oid, name) in [(1976_u32, "integer_ops"), (1994, "text_ops"), (1988, "numeric_ops")] {
        table.row([
            ("oid", oid.into()),
            ("opfmethod", 403_u32.into()),
            ("opfname", name.into()),
            ("opfnamespace", PG_CATALOG_OID.into()),
            ("opfowner", OWNER_OID.into()),
        ]);
    }
}

fn pg_operator(table: &mut Table) {
    const BOOL: u32 = 16;
    let kinds =
        [(23_u32, "int4"), (20, "int8"), (25, "text"), (1700, "numeric"), (701, "float8"), (1184, "timestamptz")];
    let names = ["=", "<>", "<", "<=", ">", ">="];
    let pairs = kinds.iter().flat_map(|kind| names.iter().map(move |name| (kind, name)));
    for (index, ((kind, _), name)) in pairs.enumerate() {
        table.row([
            ("oid", (7000 + index as u32).into()),
            ("oprname", (*name).into()),
            ("oprnamespace", PG_CATALOG_OID.into()),
            ("oprowner", OWNER_OID.into()),
            ("oprkind", "b".into()),
            ("oprleft", (*kind).into()),
            ("oprright", (*kind).into()),
            ("oprresult", BOOL.into()),
        ]);
    }
}

fn pg_cast(table: &mut Table) {
    // From, to, and whether it happens by itself (i), in an assignment (a), or only when asked for (e).
    let casts: [(u32, u32, &str); 9] = [
        (21, 23, "i"),
        (23, 20, "i"),
        (20, 1700, "i"),
        (23, 701, "i"),
        (1700, 701, "i"),
        (20, 23, "a"),
        (1043, 25, "i"),
        (1114, 1184, "i"),
        (114, 3802, "a"),
    ];
    for (index, (from, to, context)) in casts.into_iter().enumerate() {
        table.row([
            ("oid", (6000 + index as u32).into()),
            ("castsource", from.into()),
            ("casttarget", to.into()),
            ("castcontext", context.into()),
            ("castmethod", "i".into()),
        ]);
    }
}

fn pg_timezone_names(table: &mut Table) {
    for zone in chrono_tz::TZ_VARIANTS {
        table.row([("name", zone.name().into()), ("abbrev", zone.name().into())]);
    }
}
