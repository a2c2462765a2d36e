//! The options of connectors: one table for each, from which unknown options, aliases and the docs are checked.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions::text::parse_interval;

/// Where an option has a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Source,
    Sink,
    Both,
}

/// One option, as `docs/connectors.md` lists it.
#[derive(Debug, Clone, Copy)]
pub struct OptionDoc {
    /// A part in angle brackets stands for any name: `fields.<column>.kind`.
    pub name: &'static str,
    /// Other systems' spellings of it.
    pub aliases: &'static [&'static str],
    /// Empty if there is none.
    pub default: &'static str,
    pub meaning: &'static str,
    pub side: Side,
}

impl OptionDoc {
    pub const fn new(name: &'static str, default: &'static str, meaning: &'static str) -> Self {
        OptionDoc { name, aliases: &[], default, meaning, side: Side::Both }
    }
    pub const fn alias(self, aliases: &'static [&'static str]) -> Self {
        OptionDoc { aliases, ..self }
    }
    pub const fn source(self) -> Self {
        OptionDoc { side: Side::Source, ..self }
    }
    pub const fn sink(self) -> Self {
        OptionDoc { side: Side::Sink, ..self }
    }
    fn spellings(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }
    fn serves(&self, side: Side) -> bool {
        self.side == Side::Both || side == Side::Both || self.side == side
    }
}

/// What `given` has in the place of the part in angle brackets if it is spelled like `pattern`; an empty text if
/// `pattern` has no such part.
fn matches<'a>(pattern: &str, given: &'a str) -> Option<&'a str> {
    let open = pattern.split_once('<').and_then(|(before, rest)| Some((before, rest.split_once('>')?.1)));
    match open {
        None => given.eq_ignore_ascii_case(pattern).then_some(""),
        Some((before, after)) => {
            let column = given.strip_prefix(before)?.strip_suffix(after)?;
            (!column.is_empty()).then_some(column)
        }
    }
}

/// Options as a user gave them, known to exist, by their own names.
#[derive(Debug)]
pub struct Options {
    connector: &'static str,
    /// (name, column or empty) → (value, as the user spelled the option)
    given: BTreeMap<(&'static str, String), (String, String)>,
}

impl Options {
    /// Takes the options that `docs` lists for `side`; an unknown one is refused with the most similar name.
    pub fn read(
        connector: &'static str,
        docs: &'static [OptionDoc],
        side: Side,
        given: &BTreeMap<String, String>,
    ) -> SqlResult<Options> {
        let mut options = Options { connector, given: BTreeMap::new() };
        for (spelling, value) in given {
            if spelling.eq_ignore_ascii_case("connector") {
                continue;
            }
            let found = docs.iter().find_map(|doc| {
                let column = doc.spellings().find_map(|pattern| matches(pattern, spelling))?;
                Some((doc, column))
            });
            let Some((doc, column)) = found else { return Err(unknown(connector, docs, side, spelling)) };
            if !doc.serves(side) {
                let other = if side == Side::Source { "sinks" } else { "sources" };
                return Err(bad(format!("option \"{spelling}\" of connector \"{connector}\" is for {other} only")));
            }
            let entry = (value.clone(), spelling.clone());
            if let Some((_, first)) = options.given.insert((doc.name, column.to_string()), entry) {
                return Err(bad(format!("options \"{first}\" and \"{spelling}\" mean the same, give only one")));
            }
        }
        Ok(options)
    }

    pub fn text(&self, name: &'static str) -> Option<&str> {
        self.column_text(name, "")
    }

    pub fn required(&self, name: &'static str) -> SqlResult<&str> {
        self.text(name).ok_or_else(|| bad(format!("connector \"{}\" needs the option \"{name}\"", self.connector)))
    }

    /// The value of an option with `<column>` in its name.
    pub fn column_text(&self, name: &'static str, column: &str) -> Option<&str> {
        self.given.get(&(name, column.to_string())).map(|(value, _)| value.as_str())
    }

    /// The columns that options with `<column>` in their name speak of, with the spelling of one such option.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &str)> {
        let of_columns = self.given.iter().filter(|((_, column), _)| !column.is_empty());
        of_columns.map(|((_, column), (_, spelling))| (column.as_str(), spelling.as_str()))
    }

    pub fn flag(&self, name: &'static str) -> SqlResult<Option<bool>> {
        let Some(value) = self.text(name) else { return Ok(None) };
        match value.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "on" | "1" => Ok(Some(true)),
            "false" | "f" | "no" | "off" | "0" => Ok(Some(false)),
            _ => Err(self.bad_value(name, "", "true or false")),
        }
    }

    pub fn number<N: std::str::FromStr>(&self, name: &'static str, expected: &str) -> SqlResult<Option<N>> {
        self.column_number(name, "", expected)
    }

    pub fn column_number<N: std::str::FromStr>(
        &self,
        name: &'static str,
        column: &str,
        expected: &str,
    ) -> SqlResult<Option<N>> {
        let Some(value) = self.column_text(name, column) else { return Ok(None) };
        value.trim().parse().map(Some).map_err(|_| self.bad_value(name, column, expected))
    }

    /// The choice of a closed list, compared without regard to case.
    pub fn choice<C: Copy>(&self, name: &'static str, choices: &[(&str, C)]) -> SqlResult<Option<C>> {
        self.column_choice(name, "", choices)
    }

    pub fn column_choice<C: Copy>(
        &self,
        name: &'static str,
        column: &str,
        choices: &[(&str, C)],
    ) -> SqlResult<Option<C>> {
        let Some(value) = self.column_text(name, column) else { return Ok(None) };
        let found = choices.iter().find(|(choice, _)| choice.eq_ignore_ascii_case(value.trim()));
        let names: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
        found.map(|(_, choice)| Some(*choice)).ok_or_else(|| {
            let hint = nearest(value, names.iter().copied()).map(|near| format!("did you mean '{near}'?"));
            let error = self.bad_value(name, column, &format!("one of {}", names.join(", ")));
            hint.into_iter().fold(error, SqlError::hint)
        })
    }

    /// A span of time, such as `1 min`.
    pub fn duration(&self, name: &'static str) -> SqlResult<Option<Duration>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let bad = || self.bad_value(name, "", "an interval such as 1 min");
        let span = parse_interval(text).map_err(|_| bad())?;
        let nanos = i128::from(span.months * 30 + span.days) * 86_400_000_000_000 + i128::from(span.nanoseconds);
        u64::try_from(nanos).map(|nanos| Some(Duration::from_nanos(nanos))).map_err(|_| bad())
    }

    /// A number of rows, such as `100 rows`.
    pub fn rows(&self, name: &'static str) -> SqlResult<Option<usize>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = text.trim().trim_end_matches("rows").trim().parse::<usize>().ok();
        number.filter(|rows| *rows > 0).map(Some).ok_or_else(|| self.bad_value(name, "", "a number of rows"))
    }

    /// One character of ASCII; tabs may be spelled.
    pub fn character(&self, name: &'static str) -> SqlResult<Option<u8>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let text = match text {
            "\\t" | "tab" => "\t",
            other => other,
        };
        match text.as_bytes() {
            [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r' | 0) => Ok(Some(*byte)),
            _ => Err(self.bad_value(name, "", "one character of ASCII other than a line feed")),
        }
    }

    /// Names separated by commas.
    pub fn names(&self, name: &'static str) -> Vec<String> {
        let names = self.text(name).unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(String::from).collect()
    }

    /// The names that stand in the place of the part in angle brackets of `name`, each with its value.
    pub fn open(&self, name: &'static str) -> impl Iterator<Item = (&str, &str)> {
        let same = self.given.iter().filter(move |((given, _), _)| *given == name);
        same.map(|((_, part), (value, _))| (part.as_str(), value.as_str()))
    }

    /// The refusal of a value: says what was given and what is wanted.
    pub fn bad_value(&self, name: &'static str, column: &str, expected: &str) -> SqlError {
        let entry = self.given.get(&(name, column.to_string()));
        let (value, spelling) = entry.map_or(("", name), |(value, spelling)| (value.as_str(), spelling.as_str()));
        bad(format!("option \"{spelling}\" is '{value}', but must be {expected}"))
    }
}

fn bad(message: String) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

fn unknown(connector: &str, docs: &[OptionDoc], side: Side, spelling: &str) -> SqlError {
    let error = bad(format!("connector \"{connector}\" has no option \"{spelling}\""));
    let known: Vec<&str> = docs.iter().filter(|doc| doc.serves(side)).map(|doc| doc.name).collect();
    let all_spellings = docs.iter().filter(|doc| doc.serves(side)).flat_map(OptionDoc::spellings);
    match nearest(spelling, all_spellings) {
        Some(near) => error.hint(format!("did you mean \"{near}\"?")),
        None => error.hint(format!("its options are: {}", known.join(", "))),
    }
}

/// The candidate that is most like the name, if any is alike enough to be meant.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let limit = (name.chars().count() / 3).clamp(1, 4);
    let scored = candidates.map(|candidate| (strsim::osa_distance(&name, &candidate.to_lowercase()), candidate));
    scored.min_by_key(|(distance, _)| *distance).filter(|(distance, _)| *distance <= limit).map(|(_, near)| near)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCS: &[OptionDoc] = &[
        OptionDoc::new("path", "", "where").alias(&["fs.path"]),
        OptionDoc::new("mode", "once", "how").source(),
        OptionDoc::new("fields.<column>.kind", "random", "what"),
    ];

    fn read(given: &[(&str, &str)]) -> SqlResult<Options> {
        let given = given.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Options::read("test", DOCS, Side::Source, &given)
    }

    fn refused(given: &[(&str, &str)]) -> String {
        let error = read(given).expect_err("refused");
        format!("{error}; {}", error.hint.clone().unwrap_or_default())
    }

    #[test]
    fn options_are_found_by_name_alias_and_column() {
        let options = read(&[("connector", "test"), ("FS.path", "/a"), ("fields.a.b.kind", "x")]).expect("known");
        assert_eq!(options.text("path"), Some("/a"));
        assert_eq!(options.column_text("fields.<column>.kind", "a.b"), Some("x"));
        assert_eq!(options.columns().collect::<Vec<_>>(), [("a.b", "fields.a.b.kind")]);
    }

    #[test]
    fn unknown_and_doubled_options_are_refused_with_a_hint() {
        assert_eq!(refused(&[("pth", "/a")]), "connector \"test\" has no option \"pth\"; did you mean \"path\"?");
        assert_eq!(
            refused(&[("something.else", "/a")]),
            "connector \"test\" has no option \"something.else\"; its options are: path, mode, fields.<column>.kind"
        );
        assert_eq!(
            refused(&[("path", "/a"), ("fs.path", "/b")]),
            "options \"fs.path\" and \"path\" mean the same, give only one; "
        );
    }

    #[test]
    fn values_are_refused_with_what_is_wanted() {
        let options = read(&[("mode", "tali")]).expect("known");
        let error = options.choice("mode", &[("once", 1), ("tail", 2)]).expect_err("refused");
        assert_eq!(error.to_string(), "option \"mode\" is 'tali', but must be one of once, tail");
        assert_eq!(error.hint.as_deref(), Some("did you mean 'tail'?"));
        assert_eq!(
            options.flag("mode").expect_err("refused").to_string(),
            "option \"mode\" is 'tali', but must be true or false"
        );
    }
}
