//! Functions that other databases have under names of their own, and what to write instead of them.

const INSTEAD: &[(&str, &str)] = &[
    ("add_months", "date + interval '1 month'"),
    ("charindex", "strpos(text, part)"),
    ("convert", "CAST(value AS type)"),
    ("curdate", "current_date"),
    ("dateadd", "time + interval '1 day'"),
    ("datediff", "later - earlier"),
    ("date_add", "time + interval '1 day'"),
    ("date_sub", "time - interval '1 day'"),
    ("getdate", "now()"),
    ("group_concat", "string_agg(text, ',')"),
    ("if", "CASE WHEN condition THEN value ELSE other END"),
    ("iif", "CASE WHEN condition THEN value ELSE other END"),
    ("isnull", "coalesce(value, other), or value IS NULL"),
    ("len", "length(text)"),
    ("listagg", "string_agg(text, ',')"),
    ("locate", "strpos(text, part)"),
    ("nextval", "a key of your own, or gen_random_uuid()"),
    ("rand", "random()"),
    ("str_to_date", "to_date(text, 'YYYY-MM-DD')"),
    ("sysdate", "now()"),
    ("to_varchar", "to_char(value, template), or value::text"),
    ("try_cast", "CAST(value AS type)"),
    ("ucase", "upper(text)"),
    ("lcase", "lower(text)"),
    ("unix_timestamp", "extract(epoch FROM time)"),
];

/// What stands for a function of another database.
pub(super) fn instead_of(name: &str) -> Option<&'static str> {
    INSTEAD.iter().find(|(foreign, _)| *foreign == name).map(|(_, instead)| *instead)
}
