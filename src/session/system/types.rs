//! The rows of `pg_type`: PostgreSQL's types as far as Headwater or its clients name them.

use std::sync::LazyLock;

use super::objects::{OWNER_OID, PG_CATALOG_OID};
use super::rows::Table;
use crate::zset::PgType;

/// One type. `types.txt` has one a line, its columns in the order of these fields, `-` for none.
#[derive(Debug)]
pub struct TypeInfo {
    pub oid: u32,
    pub name: &'static str,
    pub len: i64,
    pub by_value: bool,
    /// `typtype`, `typcategory`, `typispreferred`, `typdelim` as texts.
    kind: [&'static str; 4],
    /// The element's type of an array type, else 0.
    pub element: u32,
    /// The type of arrays of this type, or 0.
    pub array: u32,
    /// `typinput, typoutput, typreceive, typsend, typmodin, typmodout`.
    functions: [&'static str; 6],
    pub align: &'static str,
    pub storage: &'static str,
    pub collation: u32,
    subscript: &'static str,
}

static TYPES: LazyLock<Vec<TypeInfo>> = LazyLock::new(|| include_str!("types.txt").lines().map(parse).collect());

fn parse(line: &'static str) -> TypeInfo {
    let cells: Vec<&'static str> = line.split('|').collect();
    let number = |index: usize| cells[index].parse::<i64>().expect("the list has numbers there");
    TypeInfo {
        oid: number(0) as u32,
        name: cells[1],
        len: number(2),
        by_value: cells[3] == "t",
        kind: [cells[4], cells[5], cells[6], cells[7]],
        element: number(8) as u32,
        array: number(9) as u32,
        functions: [cells[10], cells[11], cells[12], cells[13], cells[14], cells[15]],
        align: cells[16],
        storage: cells[17],
        collation: number(18) as u32,
        subscript: cells[19],
    }
}

pub fn all() -> &'static [TypeInfo] {
    &TYPES
}

pub fn by_oid(oid: u32) -> Option<&'static TypeInfo> {
    TYPES.iter().find(|info| info.oid == oid)
}

pub fn of(kind: &PgType) -> Option<&'static TypeInfo> {
    by_oid(kind.oid())
}

/// The type of parameters that a client declares by an OID; `None` leaves it to be inferred.
pub fn type_of_oid(oid: u32) -> Option<PgType> {
    let info = by_oid(oid)?;
    match info.name {
        "unknown" => None,
        "regclass" | "regtype" | "regnamespace" | "regproc" | "regrole" => Some(PgType::Oid),
        _ if info.element != 0 && info.name.starts_with('_') => {
            Some(PgType::Array(Box::new(type_of_oid(info.element)?)))
        }
        // Whatever has no type of its own here travels as text.
        name => Some(PgType::parse(name).unwrap_or(PgType::Text)),
    }
}

/// The type that a name means, in PostgreSQL's own or SQL's spelling.
pub fn by_name(name: &str) -> Option<&'static TypeInfo> {
    let name = name.trim();
    let bare = name.strip_prefix("pg_catalog.").unwrap_or(name);
    let plain = bare.trim_matches('"');
    let spelt = TYPES.iter().find(|info| info.name == plain);
    // `char` is a name of bpchar unless it is quoted.
    let spelt = spelt.filter(|_| plain != "char" || bare.starts_with('"'));
    spelt.or_else(|| of(&PgType::parse(bare)?))
}

/// As `format_type` writes it.
pub fn format(oid: u32, modifier: i64) -> String {
    let Some(info) = by_oid(oid) else {
        return if oid == 0 { "-".to_string() } else { "???".to_string() };
    };
    if info.element != 0 && info.name.starts_with('_') {
        return format!("{}[]", format(info.element, modifier));
    }
    let length = modifier - 4;
    match info.name {
        "varchar" if modifier >= 4 => return format!("character varying({length})"),
        "bpchar" if modifier >= 4 => return format!("character({length})"),
        "numeric" if modifier >= 4 => return format!("numeric({},{})", (length >> 16) & 0xffff, length & 0x7ff),
        "bpchar" if modifier == -1 || modifier == 0 => return "character".to_string(),
        "char" => return "\"char\"".to_string(),
        _ => {}
    }
    PgType::parse(info.name).map_or_else(|| info.name.to_string(), |kind| kind.to_string())
}

pub fn pg_type(table: &mut Table) {
    for info in all() {
        let [kind, category, preferred, delimiter] = info.kind;
        let [input, output, receive, send, modifier_in, modifier_out] = info.functions;
        table.row([
            ("oid", info.oid.into()),
            ("tableoid", 1247_u32.into()),
            ("typname", info.name.into()),
            ("typnamespace", PG_CATALOG_OID.into()),
            ("typowner", OWNER_OID.into()),
            ("typlen", info.len.into()),
            ("typbyval", info.by_value.into()),
            ("typtype", kind.into()),
            ("typcategory", category.into()),
            ("typispreferred", (preferred == "t").into()),
            ("typisdefined", true.into()),
            ("typdelim", delimiter.into()),
            ("typsubscript", info.subscript.into()),
            ("typelem", info.element.into()),
            ("typarray", info.array.into()),
            ("typinput", input.into()),
            ("typoutput", output.into()),
            ("typreceive", receive.into()),
            ("typsend", send.into()),
            ("typmodin", modifier_in.into()),
            ("typmodout", modifier_out.into()),
            ("typanalyze", "-".into()),
            ("typalign", info.align.into()),
            ("typstorage", info.storage.into()),
            ("typtypmod", (-1).into()),
            ("typcollation", info.collation.into()),
        ]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_written_as_postgresql_writes_them() {
        for (oid, modifier, text) in [
            (23, -1, "integer"),
            (1043, 14, "character varying(10)"),
            (1700, ((12 << 16) | 2) + 4, "numeric(12,2)"),
            (1009, -1, "text[]"),
            (18, -1, "\"char\""),
            (1184, -1, "timestamp with time zone"),
            (2205, -1, "regclass"),
            (0, -1, "-"),
            (99, -1, "???"),
        ] {
            assert_eq!(format(oid, modifier), text);
        }
    }

    #[test]
    fn types_are_found_by_all_their_names() {
        for (name, oid) in
            [("int4", 23), ("integer", 23), ("text[]", 1009), ("_text", 1009), ("char", 1042), ("\"char\"", 18)]
        {
            assert_eq!(by_name(name).map(|info| info.oid), Some(oid), "{name}");
        }
    }

    #[test]
    fn every_type_that_a_column_can_have_is_listed() {
        for name in "bool int2 int4 int8 float4 float8 numeric text varchar bpchar name bytea date time timestamp \
                     timestamptz interval uuid json jsonb oid"
            .split_whitespace()
        {
            let kind = PgType::parse(name).expect(name);
            assert!(of(&kind).is_some() && of(&PgType::Array(Box::new(kind))).is_some(), "{name}");
        }
    }
}
