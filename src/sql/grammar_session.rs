//! COPY, cursors, prepared statements, transactions, settings and SHOW.

use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::ast::*;
use super::grammar::{
    self, Result, expect_word, name, option_value, options, peek_word, refuse, relation_kind, subscribe, word, words,
};
use super::statement::{Begin, CopyFormat, CopyHeader, Discard, Fetch, FetchCount, Set};
use crate::error::SqlState;

/// The statements that begin with this word, or `None` if sqlparser knows them better.
pub(super) fn statement(parser: &mut Parser<'_>, verb: &str) -> Result<Option<Ast>> {
    let handler: fn(&mut Parser<'_>) -> Result<Ast> = match verb {
        "DECLARE" => declare,
        "FETCH" | "MOVE" => fetch,
        "CLOSE" => |parser| Ok(Ast::Close(name_or(parser, "ALL")?)),
        "PREPARE" => prepare,
        "EXECUTE" => execute,
        "DEALLOCATE" => |parser| {
            word(parser, "PREPARE");
            Ok(Ast::Deallocate(name_or(parser, "ALL")?))
        },
        "BEGIN" | "START" => begin,
        "COMMIT" | "END" => |parser| Ok(Ast::Commit { chain: transaction_end(parser)? }),
        "ROLLBACK" | "ABORT" => rollback,
        "SAVEPOINT" => |parser| Ok(Ast::Savepoint(name(parser)?)),
        "RELEASE" => |parser| {
            word(parser, "SAVEPOINT");
            Ok(Ast::Release(name(parser)?))
        },
        "SET" => set,
        "RESET" => reset,
        "SHOW" => |parser| Ok(Ast::Show(Box::new(show(parser)?))),
        "DISCARD" => discard,
        "LISTEN" => |parser| Ok(Ast::Listen(name(parser)?)),
        "UNLISTEN" => |parser| match parser.consume_token(&Token::Mul) {
            true => Ok(Ast::Unlisten(None)),
            false => Ok(Ast::Unlisten(Some(name(parser)?))),
        },
        "NOTIFY" => |parser| {
            let channel = name(parser)?;
            let payload = match parser.consume_token(&Token::Comma) {
                true => parser.parse_literal_string()?,
                false => String::new(),
            };
            Ok(Ast::Notify(channel, payload))
        },
        _ => return Ok(None),
    };
    parser.next_token();
    handler(parser).map(Some)
}

/// A name, or `None` for the word that means all.
fn name_or(parser: &mut Parser<'_>, all: &str) -> Result<Option<String>> {
    match word(parser, all) {
        true => Ok(None),
        false => name(parser).map(Some),
    }
}

fn declare(parser: &mut Parser<'_>) -> Result<Ast> {
    let cursor = name(parser)?;
    let mut binary = false;
    loop {
        if word(parser, "BINARY") {
            binary = true;
        } else if !(word(parser, "INSENSITIVE")
            || word(parser, "ASENSITIVE")
            || word(parser, "NO")
            || word(parser, "SCROLL"))
        {
            break;
        }
    }
    expect_word(parser, "CURSOR")?;
    let hold = words(parser, &["WITH", "HOLD"]);
    words(parser, &["WITHOUT", "HOLD"]);
    expect_word(parser, "FOR")?;
    let what = match peek_word(parser, 0, "SUBSCRIBE") {
        true => DeclareWhat::Subscribe(Box::new(subscribe(parser)?)),
        false => DeclareWhat::Query(parser.parse_query()?),
    };
    Ok(Ast::Declare(Box::new(Declare { name: cursor, binary, hold, what })))
}

/// `FETCH` or `MOVE`, whose word was taken.
fn fetch(parser: &mut Parser<'_>) -> Result<Ast> {
    let discard =
        matches!(&parser.get_current_token().token, Token::Word(word) if word.value.eq_ignore_ascii_case("move"));
    let count = fetch_count(parser)?;
    let _ = word(parser, "FROM") || word(parser, "IN");
    let cursor = name(parser)?;
    let mut timeout = None;
    if parser.parse_keyword(Keyword::WITH) {
        for (key, value) in options(parser)? {
            match (key.as_str(), parse_duration(&value)) {
                ("timeout", Some(duration)) => timeout = Some(duration),
                ("timeout", None) => {
                    let message = format!("invalid value for option \"timeout\": \"{value}\"");
                    return refuse(
                        SqlState::INVALID_PARAMETER_VALUE,
                        message,
                        "Write a number with a unit: timeout = '1s'.",
                    );
                }
                _ => {
                    let message = format!("unrecognized FETCH option \"{key}\"");
                    return refuse(SqlState::INVALID_PARAMETER_VALUE, message, "The only option is timeout.");
                }
            }
        }
    }
    Ok(Ast::Fetch(Fetch { cursor, count, timeout, discard }))
}

fn fetch_count(parser: &mut Parser<'_>) -> Result<FetchCount> {
    if let Token::Number(..) = parser.peek_token().token {
        return parser.parse_literal_uint().map(FetchCount::Rows);
    }
    // A direction is only one if something follows: a cursor may be named `next`.
    let last = matches!(parser.peek_nth_token(1).token, Token::EOF);
    if last {
        return Ok(FetchCount::Rows(1));
    }
    if word(parser, "ALL") {
        return Ok(FetchCount::All);
    }
    if word(parser, "NEXT") {
        return Ok(FetchCount::Rows(1));
    }
    if word(parser, "FORWARD") || word(parser, "RELATIVE") {
        if word(parser, "ALL") {
            return Ok(FetchCount::All);
        }
        return match parser.peek_token().token {
            Token::Number(..) => parser.parse_literal_uint().map(FetchCount::Rows),
            _ => Ok(FetchCount::Rows(1)),
        };
    }
    for direction in ["PRIOR", "FIRST", "LAST", "ABSOLUTE", "BACKWARD"] {
        if word(parser, direction) {
            return refuse(
                SqlState::OBJECT_NOT_IN_STATE,
                "cursor can only scan forward",
                "Use FETCH NEXT, FETCH n or FETCH ALL, and declare the cursor anew to begin again.",
            );
        }
    }
    Ok(FetchCount::Rows(1))
}

fn prepare(parser: &mut Parser<'_>) -> Result<Ast> {
    let statement_name = name(parser)?;
    let types = match parser.consume_token(&Token::LParen) {
        true => {
            let types = parser.parse_comma_separated(Parser::parse_data_type)?;
            parser.expect_token(&Token::RParen)?;
            types
        }
        false => Vec::new(),
    };
    parser.expect_keyword(Keyword::AS)?;
    Ok(Ast::Prepare { name: statement_name, types, body: Box::new(grammar::statement(parser)?) })
}

fn execute(parser: &mut Parser<'_>) -> Result<Ast> {
    let statement_name = name(parser)?;
    let arguments = match parser.consume_token(&Token::LParen) {
        true => {
            let arguments = parser.parse_comma_separated(Parser::parse_expr)?;
            parser.expect_token(&Token::RParen)?;
            arguments
        }
        false => Vec::new(),
    };
    Ok(Ast::Execute { name: statement_name, arguments })
}

fn begin(parser: &mut Parser<'_>) -> Result<Ast> {
    let _ = word(parser, "TRANSACTION") || word(parser, "WORK");
    transaction_modes(parser).map(Ast::Begin)
}

fn transaction_modes(parser: &mut Parser<'_>) -> Result<Begin> {
    let mut modes = Begin::default();
    loop {
        if words(parser, &["ISOLATION", "LEVEL"]) {
            let levels = [
                (["READ", "UNCOMMITTED"], "read uncommitted"),
                (["READ", "COMMITTED"], "read committed"),
                (["REPEATABLE", "READ"], "repeatable read"),
            ];
            let found = levels.iter().find(|(level, _)| words(parser, level)).map(|(_, level)| *level);
            modes.isolation = match found {
                Some(level) => Some(level),
                None => {
                    expect_word(parser, "SERIALIZABLE")?;
                    Some("serializable")
                }
            };
        } else if words(parser, &["READ", "ONLY"]) {
            modes.read_only = Some(true);
        } else if words(parser, &["READ", "WRITE"]) {
            modes.read_only = Some(false);
        } else if !(words(parser, &["NOT", "DEFERRABLE"])
            || word(parser, "DEFERRABLE")
            || parser.consume_token(&Token::Comma))
        {
            return Ok(modes);
        }
    }
}

/// The rest of COMMIT, END, ROLLBACK: whether it chains.
fn transaction_end(parser: &mut Parser<'_>) -> Result<bool> {
    let _ = word(parser, "TRANSACTION") || word(parser, "WORK");
    let no_chain = words(parser, &["AND", "NO", "CHAIN"]);
    Ok(!no_chain && words(parser, &["AND", "CHAIN"]))
}

fn rollback(parser: &mut Parser<'_>) -> Result<Ast> {
    let chain = transaction_end(parser)?;
    if word(parser, "TO") {
        word(parser, "SAVEPOINT");
        return name(parser).map(Ast::RollbackTo);
    }
    Ok(Ast::Rollback { chain })
}

fn set(parser: &mut Parser<'_>) -> Result<Ast> {
    if word(parser, "TRANSACTION") || words(parser, &["SESSION", "CHARACTERISTICS", "AS", "TRANSACTION"]) {
        return transaction_modes(parser).map(Ast::SetTransaction);
    }
    let local = word(parser, "LOCAL");
    // `SET SESSION AUTHORIZATION x` names a setting, `SET SESSION x = y` a scope.
    if !local && !peek_word(parser, 1, "AUTHORIZATION") {
        word(parser, "SESSION");
    }
    let (setting, needs_sign) = match setting_name(parser)? {
        SettingName::Plain(setting) => (setting, true),
        SettingName::Special(setting) => (setting, false),
    };
    if needs_sign && !parser.consume_token(&Token::Eq) {
        expect_word(parser, "TO")?;
    }
    let value = match word(parser, "DEFAULT") || (setting == "timezone" && word(parser, "LOCAL")) {
        true => None,
        false => Some(parser.parse_comma_separated(option_value)?),
    };
    Ok(Ast::Set(Set { name: setting, value, local }))
}

enum SettingName {
    /// `SET x = y` or `SET x TO y`.
    Plain(String),
    /// `SET TIME ZONE y` and the like, without a sign.
    Special(String),
}

fn setting_name(parser: &mut Parser<'_>) -> Result<SettingName> {
    let special: [(&[&str], &str); 5] = [
        (&["TIME", "ZONE"], "timezone"),
        (&["NAMES"], "client_encoding"),
        (&["SCHEMA"], "search_path"),
        (&["ROLE"], "role"),
        (&["SESSION", "AUTHORIZATION"], "session_authorization"),
    ];
    for (spelled, setting) in special {
        if words(parser, spelled) {
            return Ok(SettingName::Special(setting.to_string()));
        }
    }
    dotted(parser).map(SettingName::Plain)
}

fn dotted(parser: &mut Parser<'_>) -> Result<String> {
    let mut setting = parser.parse_identifier()?.value.to_lowercase();
    while parser.consume_token(&Token::Period) {
        setting.push('.');
        setting.push_str(&parser.parse_identifier()?.value.to_lowercase());
    }
    Ok(setting)
}

fn reset(parser: &mut Parser<'_>) -> Result<Ast> {
    if word(parser, "ALL") {
        return Ok(Ast::Reset(None));
    }
    match setting_name(parser)? {
        SettingName::Plain(setting) | SettingName::Special(setting) => Ok(Ast::Reset(Some(setting))),
    }
}

fn discard(parser: &mut Parser<'_>) -> Result<Ast> {
    let kinds = [
        ("ALL", Discard::All),
        ("PLANS", Discard::Plans),
        ("SEQUENCES", Discard::Sequences),
        ("TEMP", Discard::Temporary),
        ("TEMPORARY", Discard::Temporary),
    ];
    match kinds.into_iter().find(|(kind, _)| word(parser, kind)) {
        Some((_, kind)) => Ok(Ast::Discard(kind)),
        None => parser.expected("ALL, PLANS, SEQUENCES or TEMP", parser.peek_token()),
    }
}

fn show(parser: &mut Parser<'_>) -> Result<ShowAst> {
    if word(parser, "CREATE") {
        let Some(kind) = relation_kind(parser) else {
            return parser.expected("TABLE, SOURCE, VIEW, MATERIALIZED VIEW, SINK or INDEX", parser.peek_token());
        };
        return Ok(ShowAst::Create(kind, parser.parse_object_name(false)?));
    }
    if word(parser, "COLUMNS") {
        let _ = word(parser, "FROM") || word(parser, "IN");
        return Ok(ShowAst::Columns(parser.parse_object_name(false)?));
    }
    if word(parser, "ALL") {
        return Ok(ShowAst::All);
    }
    if let Some(kind) = plural(parser) {
        return show_relations(parser, kind);
    }
    let lists: [(&str, ShowAst); 8] = [
        ("SCHEMAS", ShowAst::Schemas),
        ("DATABASES", ShowAst::Databases),
        ("JOBS", ShowAst::System("hw_jobs")),
        ("SUBSCRIPTIONS", ShowAst::System("hw_subscriptions")),
        ("CONNECTIONS", ShowAst::System("hw_connections")),
        ("SECRETS", ShowAst::System("hw_secrets")),
        ("CLUSTER", ShowAst::System("hw_workers")),
        ("PROCESSLIST", ShowAst::System("hw_sessions")),
    ];
    if let Some((_, show)) = lists.into_iter().find(|(list, _)| word(parser, list)) {
        return Ok(show);
    }
    if words(parser, &["TRANSACTION", "ISOLATION", "LEVEL"]) {
        return Ok(ShowAst::Setting("transaction_isolation".to_string()));
    }
    match setting_name(parser)? {
        SettingName::Plain(setting) | SettingName::Special(setting) => Ok(ShowAst::Setting(setting)),
    }
}

fn plural(parser: &mut Parser<'_>) -> Option<crate::catalog::RelationKind> {
    use crate::catalog::RelationKind;
    if words(parser, &["MATERIALIZED", "VIEWS"]) {
        return Some(RelationKind::MaterializedView);
    }
    let kinds = [
        ("TABLES", RelationKind::Table),
        ("SOURCES", RelationKind::Source),
        ("VIEWS", RelationKind::View),
        ("SINKS", RelationKind::Sink),
        ("INDEXES", RelationKind::Index),
    ];
    kinds.into_iter().find(|(kind, _)| word(parser, kind)).map(|(_, kind)| kind)
}

fn show_relations(parser: &mut Parser<'_>, kind: crate::catalog::RelationKind) -> Result<ShowAst> {
    let schema = match word(parser, "FROM") || word(parser, "IN") {
        true => Some(parser.parse_identifier()?),
        false => None,
    };
    let like = match word(parser, "LIKE") {
        true => Some(parser.parse_literal_string()?),
        false => None,
    };
    Ok(ShowAst::Relations { kind, schema, like })
}

pub(super) fn copy(parser: &mut Parser<'_>) -> Result<Ast> {
    parser.next_token();
    let what = match parser.consume_token(&Token::LParen) {
        true => {
            let what = match peek_word(parser, 0, "SUBSCRIBE") {
                true => CopyWhat::Subscribe(Box::new(subscribe(parser)?)),
                false => CopyWhat::Query(parser.parse_query()?),
            };
            parser.expect_token(&Token::RParen)?;
            what
        }
        false => {
            let table = parser.parse_object_name(false)?;
            CopyWhat::Table(table, column_list(parser)?)
        }
    };
    let from = word(parser, "FROM");
    if from && !matches!(what, CopyWhat::Table(..)) {
        return refuse(
            SqlState::SYNTAX_ERROR,
            "COPY FROM needs a table",
            "COPY table FROM ..., or COPY (query) TO ....",
        );
    }
    if !from {
        expect_word(parser, "TO")?;
    }
    let path = match word(parser, if from { "STDIN" } else { "STDOUT" }) {
        true => None,
        false if word(parser, "PROGRAM") => {
            return refuse(
                SqlState::FEATURE_NOT_SUPPORTED,
                "COPY with PROGRAM is not supported",
                "Use psql's \\copy with a pipe.",
            );
        }
        false => Some(parser.parse_literal_string()?),
    };
    let options = copy_options(parser)?;
    if from && parser.parse_keyword(Keyword::WHERE) {
        return refuse(
            SqlState::FEATURE_NOT_SUPPORTED,
            "COPY FROM ... WHERE is not supported",
            "Copy into a table and filter in a view.",
        );
    }
    Ok(Ast::Copy(Box::new(Copy { what, from, path, options })))
}

fn column_list(parser: &mut Parser<'_>) -> Result<Vec<sqlparser::ast::Ident>> {
    match parser.consume_token(&Token::LParen) {
        true => {
            let columns = parser.parse_comma_separated(Parser::parse_identifier)?;
            parser.expect_token(&Token::RParen)?;
            Ok(columns)
        }
        false => Ok(Vec::new()),
    }
}

fn copy_options(parser: &mut Parser<'_>) -> Result<CopyOptionsAst> {
    let mut options = CopyOptionsAst::default();
    let _ = parser.parse_keyword(Keyword::WITH);
    match parser.consume_token(&Token::LParen) {
        true => loop {
            copy_option(parser, &mut options)?;
            if !parser.consume_token(&Token::Comma) {
                parser.expect_token(&Token::RParen)?;
                return Ok(options);
            }
        },
        false => {
            // The form of old: COPY t FROM STDIN CSV HEADER DELIMITER ','.
            while !matches!(parser.peek_token().token, Token::EOF) && !peek_word(parser, 0, "WHERE") {
                old_copy_option(parser, &mut options)?;
            }
            Ok(options)
        }
    }
}

fn copy_option(parser: &mut Parser<'_>, options: &mut CopyOptionsAst) -> Result<()> {
    let key = name(parser)?;
    match key.as_str() {
        "format" => options.format = Some(copy_format(&option_value(parser)?)?),
        "header" => options.header = Some(copy_header(parser)?),
        "force_quote" => options.force_quote = Some(names(parser)?),
        "force_not_null" => options.force_not_null = Some(names(parser)?),
        "force_null" => options.force_null = Some(names(parser)?),
        "delimiter" => options.delimiter = Some(one_character("delimiter", parser)?),
        "quote" => options.quote = Some(one_character("quote", parser)?),
        "escape" => options.escape = Some(one_character("escape", parser)?),
        "null" => options.null = Some(option_value(parser)?),
        "encoding" => encoding(parser)?,
        // FREEZE and the like change nothing that a client can see.
        "freeze" | "on_error" | "log_verbosity" => {
            if !matches!(parser.peek_token().token, Token::Comma | Token::RParen) {
                option_value(parser)?;
            }
        }
        _ => {
            const KEYS: [&str; 10] = [
                "format",
                "header",
                "delimiter",
                "null",
                "quote",
                "escape",
                "force_quote",
                "force_not_null",
                "force_null",
                "encoding",
            ];
            let hint = match crate::catalog::nearest(&key, KEYS) {
                Some(nearest) => format!("Did you mean \"{nearest}\"?"),
                None => format!("Options are {}.", KEYS.join(", ")),
            };
            return refuse(SqlState::SYNTAX_ERROR, format!("option \"{key}\" not recognized"), hint);
        }
    }
    Ok(())
}

fn encoding(parser: &mut Parser<'_>) -> Result<()> {
    let encoding = option_value(parser)?;
    match encoding.to_lowercase().replace('-', "").as_str() {
        "utf8" => Ok(()),
        _ => refuse(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("encoding \"{encoding}\" is not supported"),
            "Convert the data to UTF8.",
        ),
    }
}

fn names(parser: &mut Parser<'_>) -> Result<Names> {
    match parser.consume_token(&Token::Mul) {
        true => Ok(Names::All),
        false => column_list(parser).map(Names::Some),
    }
}

fn copy_header(parser: &mut Parser<'_>) -> Result<CopyHeader> {
    if matches!(parser.peek_token().token, Token::Comma | Token::RParen) {
        return Ok(CopyHeader::Yes);
    }
    match option_value(parser)?.to_lowercase().as_str() {
        "true" | "on" | "1" => Ok(CopyHeader::Yes),
        "false" | "off" | "0" => Ok(CopyHeader::No),
        "match" => Ok(CopyHeader::Match),
        _ => refuse(SqlState::SYNTAX_ERROR, "header requires a Boolean value or \"match\"", ""),
    }
}

fn copy_format(text: &str) -> Result<CopyFormat> {
    match text.to_lowercase().as_str() {
        "text" => Ok(CopyFormat::Text),
        "csv" => Ok(CopyFormat::Csv),
        "binary" => Ok(CopyFormat::Binary),
        "json" | "jsonl" | "ndjson" => Ok(CopyFormat::Json),
        "parquet" => Ok(CopyFormat::Parquet),
        _ => refuse(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("COPY format \"{text}\" not recognized"),
            "Formats are text, csv and binary, and for files also json and parquet.",
        ),
    }
}

fn one_character(option: &str, parser: &mut Parser<'_>) -> Result<char> {
    let text = option_value(parser)?;
    let text = if text == "\\t" { "\t".to_string() } else { text };
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) if c.is_ascii() && c != '\n' && c != '\r' => Ok(c),
        _ => refuse(SqlState::FEATURE_NOT_SUPPORTED, format!("COPY {option} must be a single one-byte character"), ""),
    }
}

fn old_copy_option(parser: &mut Parser<'_>, options: &mut CopyOptionsAst) -> Result<()> {
    let token = parser.next_token();
    let Token::Word(key) = &token.token else { return parser.expected("an option of COPY", token) };
    word(parser, "AS");
    match key.value.to_lowercase().as_str() {
        "csv" => options.format = Some(CopyFormat::Csv),
        "binary" => options.format = Some(CopyFormat::Binary),
        "header" => options.header = Some(CopyHeader::Yes),
        "delimiter" | "delimiters" => {
            word(parser, "AS");
            options.delimiter = Some(one_character("delimiter", parser)?);
        }
        "null" => options.null = Some(option_value(parser)?),
        "quote" => options.quote = Some(one_character("quote", parser)?),
        "escape" => options.escape = Some(one_character("escape", parser)?),
        "encoding" => encoding(parser)?,
        "force" => {
            let not = words(parser, &["NOT", "NULL"]);
            let null = !not && word(parser, "NULL");
            if !not && !null {
                expect_word(parser, "QUOTE")?;
            }
            let list = match parser.consume_token(&Token::Mul) {
                true => Names::All,
                false => Names::Some(parser.parse_comma_separated(Parser::parse_identifier)?),
            };
            match (not, null) {
                (true, _) => options.force_not_null = Some(list),
                (_, true) => options.force_null = Some(list),
                _ => options.force_quote = Some(list),
            }
        }
        _ => return parser.expected("an option of COPY", token),
    }
    Ok(())
}
