//! Which function of a name a call means, by the types of its arguments, as PostgreSQL decides it.

use super::{Entry, entries};
use crate::zset::PgType;

/// A call that is decided.
pub struct Resolved {
    pub entry: &'static Entry,
    /// To which type each argument is to be cast; `None` to leave it as it is.
    pub arguments: Vec<Option<PgType>>,
    pub result: PgType,
}

#[derive(Clone, PartialEq)]
pub(super) enum Parameter {
    Any,
    AnyElement,
    AnyArray,
    Of(PgType),
}

/// The parameters of an entry, whether the last repeats, and its result. `None` if a type in them is not one.
pub(super) fn shape(entry: &Entry) -> Option<(Vec<Parameter>, bool, Parameter)> {
    let list = entry.arguments.trim();
    let variadic = list.ends_with("...");
    let parameters = list.trim_end_matches("...").split(',').filter(|word| !word.trim().is_empty()).map(parameter);
    Some((parameters.collect::<Option<Vec<_>>>()?, variadic, parameter(entry.result)?))
}

fn parameter(word: &str) -> Option<Parameter> {
    Some(match word.trim() {
        "any" => Parameter::Any,
        "anyelement" => Parameter::AnyElement,
        "anyarray" => Parameter::AnyArray,
        word => Parameter::Of(PgType::parse(word)?),
    })
}

/// Names that DataFusion has for other types: what no entry fits is left to it.
pub const SHARED: [&str; 8] =
    ["bit_length", "btrim", "length", "octet_length", "position", "reverse", "substr", "substring"];

/// Whether a constant without type would be read as bytea where text is meant.
fn reads_constant_as_bytes(entry: &Entry, kinds: &[Option<PgType>]) -> bool {
    let first =
        shape(entry).is_some_and(|(parameters, _, _)| parameters.first() == Some(&Parameter::Of(PgType::Bytea)));
    first && kinds.iter().all(|kind| *kind != Some(PgType::Bytea))
}

/// The function of the name that fits best; `None` if none does.
pub fn resolve(name: &str, kinds: &[Option<PgType>]) -> Option<Resolved> {
    let by_type = SHARED.contains(&name);
    let fits = |entry: &&&'static Entry| !by_type || !reads_constant_as_bytes(entry, kinds);
    let candidates = entries().get(name)?.iter().filter(fits).filter_map(|entry| fit(entry, kinds));
    candidates.min_by_key(|(cost, _)| *cost).map(|(_, resolved)| resolved)
}

/// What an entry makes of the arguments, and how far they are from what it declares.
fn fit(entry: &'static Entry, kinds: &[Option<PgType>]) -> Option<(u32, Resolved)> {
    let (parameters, variadic, result) = shape(entry)?;
    let fixed = parameters.len() - usize::from(variadic);
    if kinds.len() < fixed || (!variadic && kinds.len() > fixed) {
        return None;
    }
    let at = |index: usize| parameters.get(index).or(parameters.last());
    let element = element_type(kinds, &parameters)?;
    let mut cost = u32::from(variadic);
    let mut arguments = Vec::with_capacity(kinds.len());
    for (index, kind) in kinds.iter().enumerate() {
        let wanted = match at(index)? {
            Parameter::Any => None,
            Parameter::AnyElement => Some(element.clone()?),
            Parameter::AnyArray => Some(PgType::Array(Box::new(element.clone()?))),
            Parameter::Of(kind) => Some(kind.clone()),
        };
        cost += match (&wanted, kind) {
            (Some(wanted), kind) => distance(kind.as_ref(), wanted)?,
            (None, _) => 3,
        };
        arguments.push(wanted.or_else(|| kind.is_none().then_some(PgType::Text)));
    }
    let result = match result {
        Parameter::Of(kind) => kind,
        Parameter::AnyArray => PgType::Array(Box::new(element?)),
        Parameter::AnyElement | Parameter::Any => element?,
    };
    Some((cost, Resolved { entry, arguments, result }))
}

/// The type that `anyelement` and `anyarray` stand for; the outer `None` if the arguments do not agree.
#[allow(clippy::option_option)]
fn element_type(kinds: &[Option<PgType>], parameters: &[Parameter]) -> Option<Option<PgType>> {
    let mut element: Option<PgType> = None;
    let mut generic = false;
    for (kind, parameter) in kinds.iter().zip(parameters) {
        let found = match (parameter, kind) {
            (Parameter::AnyArray, Some(PgType::Array(item))) => Some(item.as_ref().clone()),
            (Parameter::AnyArray, Some(_)) => return None,
            (Parameter::AnyElement, Some(kind)) => Some(kind.clone()),
            (Parameter::AnyArray | Parameter::AnyElement, None) => None,
            _ => continue,
        };
        generic = true;
        element = match (element, found) {
            (Some(a), Some(b)) => Some(crate::functions::typing::wider_of(&a, &b)?),
            (a, b) => a.or(b),
        };
    }
    match generic {
        true => Some(Some(element.unwrap_or(PgType::Text))),
        false => Some(None),
    }
}

/// Whether a value of a type becomes one of another by itself.
pub fn becomes(kind: &PgType, wanted: &PgType) -> bool {
    distance(Some(kind), &super::super::typing::without_length(wanted)).is_some()
}

/// How far a type is from a declared one along PostgreSQL's implicit casts; `None` if they do not lead there.
fn distance(kind: Option<&PgType>, wanted: &PgType) -> Option<u32> {
    let Some(kind) = kind else {
        // A constant without type is read as text where that is possible.
        return Some(u32::from(*wanted != PgType::Text));
    };
    let plain = super::super::typing::without_length(kind);
    if plain == *wanted {
        return Some(0);
    }
    let number = |kind: &PgType| match kind {
        PgType::Int2 => Some(1_u32),
        PgType::Int4 => Some(2),
        PgType::Int8 => Some(3),
        PgType::Numeric(_) => Some(4),
        PgType::Float4 => Some(5),
        PgType::Float8 => Some(6),
        _ => None,
    };
    if let (Some(from), Some(to)) = (number(&plain), number(wanted)) {
        return (from < to).then(|| to - from + 1);
    }
    match (&plain, wanted) {
        (PgType::Varchar(_) | PgType::Bpchar(_) | PgType::Name, PgType::Text) => Some(1),
        (PgType::Date, PgType::Timestamp) => Some(3),
        (PgType::Date, PgType::Timestamptz) | (PgType::Timestamp, PgType::Timestamptz) => Some(2),
        (PgType::Array(from), PgType::Array(to)) => distance(Some(from), to),
        _ => None,
    }
}
