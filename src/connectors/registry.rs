//! The list of connectors: one line each.

use std::collections::BTreeMap;

use super::file::FileConnector;
use super::generator::Datagen;
use super::kafka::Kafka;
use super::nexmark::Nexmark;
use super::options::{OptionDoc, nearest};
use super::sink::{Sink, SinkSpec};
use super::source::{InferredColumn, Source, SourceSpec};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::zset::PgType;

/// A kind of outside system.
pub trait Connector: Send + Sync {
    /// What `connector = '…'` calls it.
    fn name(&self) -> &'static str;
    /// Other names for it.
    fn aliases(&self) -> &'static [&'static str] {
        &[]
    }
    /// Every option that it knows.
    fn options(&self) -> &'static [OptionDoc];
    /// The parts of a message beside its value that INCLUDE can take into columns.
    fn metadata(&self) -> &'static [(&'static str, PgType)] {
        &[]
    }
    /// Adds the options of a sink that are decided once, when it is created.
    fn settle_sink(&self, options: &mut BTreeMap<String, String>) {
        let _ = options;
    }
    /// True if reading again between two positions gives the same rows, so that only positions need to be logged.
    fn replayable(&self) -> bool;
    /// The columns of a source declared with `(*)` or without columns. `spec.schema` is ignored.
    fn infer(&self, spec: &SourceSpec) -> SqlResult<Vec<InferredColumn>>;
    /// Checks all options and opens the source. Called at CREATE too, so that a mistake is an error there.
    fn open_source(&self, spec: &SourceSpec) -> SqlResult<Box<dyn Source>>;
    /// Checks all options and opens the sink.
    fn open_sink(&self, spec: &SinkSpec) -> SqlResult<Box<dyn Sink>> {
        let _ = spec;
        let hint = format!("sinks can be written with: {}", names(|connector| connector.has_sink()));
        Err(SqlError::unsupported(format!("connector \"{}\" is for sources only", self.name()), hint))
    }
    fn has_sink(&self) -> bool {
        false
    }
}

static ALL: &[&dyn Connector] = &[&FileConnector, &Datagen, &Nexmark, &Kafka];

/// All connectors.
pub fn all() -> &'static [&'static dyn Connector] {
    ALL
}

fn names(filter: impl Fn(&dyn Connector) -> bool) -> String {
    let names: Vec<&str> = ALL.iter().filter(|connector| filter(**connector)).map(|one| one.name()).collect();
    names.join(", ")
}

fn spellings(connector: &dyn Connector) -> impl Iterator<Item = &'static str> {
    std::iter::once(connector.name()).chain(connector.aliases().iter().copied())
}

/// The connector of this name, or 22023 with the most similar name.
pub fn find(name: &str) -> SqlResult<&'static dyn Connector> {
    let is_named = |connector: &&&dyn Connector| spellings(**connector).any(|own| own.eq_ignore_ascii_case(name));
    if let Some(found) = ALL.iter().find(is_named) {
        return Ok(*found);
    }
    let error = SqlError::new(SqlState::INVALID_PARAMETER_VALUE, format!("connector \"{name}\" does not exist"));
    let hint = match nearest(name, ALL.iter().flat_map(|connector| spellings(*connector))) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("the connectors are: {}", names(|_| true)),
    };
    Err(error.hint(hint))
}

#[cfg(test)]
mod tests {
    use super::super::options::Side;
    use super::*;

    const DOCS: &str = include_str!("../../docs/connectors.md");

    #[test]
    fn connectors_are_found_by_name_alias_and_likeness() {
        for name in ["file", "FS", "posix_fs", "filesystem", "datagen", "nexmark", "Kafka"] {
            assert!(find(name).is_ok(), "{name}");
        }
        let hint = |name| find(name).err().and_then(|error| error.hint).expect("a hint");
        assert_eq!(hint("datagn"), "did you mean 'datagen'?");
        assert_eq!(hint("oracle"), "the connectors are: file, datagen, nexmark, kafka");
    }

    /// The docs list exactly the options of the tables; the expected lines are printed when they do not.
    #[test]
    fn the_docs_list_every_option_and_no_other() {
        for connector in all() {
            let heading = format!("## `{}`", connector.name());
            let section = DOCS.split("\n## ").map(|part| format!("## {part}"));
            let section = section.into_iter().find(|part| part.starts_with(&heading));
            let section = section.unwrap_or_else(|| panic!("docs/connectors.md has no heading {heading}"));
            let table = section.lines().skip_while(|line| !line.starts_with("| option |")).skip(2);
            let in_docs: Vec<&str> = table.take_while(|line| line.starts_with('|')).collect();
            let expected: Vec<String> = connector.options().iter().map(doc_line).collect();
            assert_eq!(in_docs, expected, "{heading} should list:\n{}", expected.join("\n"));
        }
    }

    fn doc_line(option: &OptionDoc) -> String {
        let aliases: Vec<String> = option.aliases.iter().map(|alias| format!("`{alias}`")).collect();
        let default = if option.default.is_empty() { String::new() } else { format!("`{}`", option.default) };
        let side = match option.side {
            Side::Source => "source",
            Side::Sink => "sink",
            Side::Both => "both",
        };
        format!("| `{}` | {side} | {default} | {} | {} |", option.name, option.meaning, aliases.join(", "))
    }
}
