//! The house rules that rot silently: who may import whom, doors instead of inner files, and links in the docs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// For each room the rooms that it may import, from the ground up. A new edge is a change of this table.
const FLOORS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("zset", &["error"]),
    ("storage", &["error"]),
    ("state", &["error", "zset", "storage"]),
    ("functions", &["error", "zset"]),
    ("dataflow", &["error", "zset", "state", "functions"]),
    ("catalog", &["error", "zset"]),
    ("connectors", &["error", "zset", "functions"]),
    ("sql", &["error", "zset", "functions", "catalog", "connectors"]),
    ("plan", &["error", "zset", "state", "functions", "dataflow"]),
    ("engine", &["error", "zset", "storage", "state", "functions", "dataflow", "catalog", "connectors", "sql", "plan"]),
    ("session", &["error", "zset", "state", "functions", "catalog", "connectors", "sql", "engine"]),
    ("wire", &["error", "zset", "functions", "session"]),
    ("console", &["error", "zset", "session"]),
];

/// Crates that only the files named may import.
const GUARDED: &[(&str, &[&str])] = &[
    ("timely", &["dataflow/host", "dataflow/worker", "dataflow/exchange", "dataflow/tap", "dataflow/cluster"]),
    ("pgwire", &["wire/"]),
    ("axum", &["console/"]),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("the folder can be read") {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Every `crate::a::b…` of a file outside comments, as lists of path segments; braces are followed.
fn imports(text: &str) -> Vec<Vec<String>> {
    let code: String = text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == '$') {
            continue;
        }
        expand(&code[at + "crate::".len()..], &[], &mut found);
    }
    found
}

fn expand(rest: &str, prefix: &[String], found: &mut Vec<Vec<String>>) {
    if let Some(group) = rest.strip_prefix('{') {
        let (mut depth, mut start) = (0, 0);
        for (index, sign) in group.char_indices() {
            match sign {
                '{' => depth += 1,
                '}' if depth == 0 => return expand(group[start..index].trim(), prefix, found),
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    expand(group[start..index].trim(), prefix, found);
                    start = index + 1;
                }
                _ => {}
            }
        }
        return;
    }
    let name: String = rest.chars().take_while(|sign| sign.is_alphanumeric() || *sign == '_').collect();
    if name.is_empty() {
        return found.push(prefix.to_vec());
    }
    let path = [prefix, std::slice::from_ref(&name)].concat();
    match rest[name.len()..].strip_prefix("::") {
        Some(rest) => expand(rest, &path, found),
        None => found.push(path),
    }
}

/// The room of a file, and its path below `src`.
fn place(file: &Path) -> (String, String) {
    let inside = file.strip_prefix(root().join("src")).expect("the file is below src");
    let text = inside.to_string_lossy().replace('\\', "/");
    let room = text.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_string();
    (room, text)
}

#[test]
fn rooms_import_only_what_the_table_names() {
    let mut wrong = BTreeSet::new();
    for file in files(&root().join("src"), ".rs") {
        let (room, path) = place(&file);
        let Some((_, allowed)) = FLOORS.iter().find(|(name, _)| *name == room) else { continue };
        for import in imports(&fs::read_to_string(&file).expect("the file can be read")) {
            let Some(target) = import.first() else { continue };
            let known = FLOORS.iter().any(|(name, _)| name == target);
            if known && *target != room && !allowed.contains(&target.as_str()) {
                wrong.insert(format!("{path} imports {}", import.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "imports against the floors:\n{}", wrong.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn rooms_are_entered_by_their_doors() {
    let mut wrong = BTreeSet::new();
    for file in files(&root().join("src"), ".rs") {
        let (room, path) = place(&file);
        for import in imports(&fs::read_to_string(&file).expect("the file can be read")) {
            let [target, inner, _, ..] = import.as_slice() else { continue };
            let is_room = FLOORS.iter().any(|(name, _)| name == target) && *target != room;
            let is_module = inner.starts_with(|first: char| first.is_lowercase());
            // Operators and aggregates are catalogues of siblings; texts, formats and errors are doors of their own.
            let open = ["operators", "text", "format", "aggregate", "errors"].contains(&inner.as_str());
            if is_room && is_module && !open {
                let module = root().join("src").join(target).join(format!("{inner}.rs"));
                if module.exists() || module.with_extension("").is_dir() {
                    wrong.insert(format!("{path} enters by {}", import.join("::")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "not through the door:\n{}", wrong.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn guarded_crates_stay_in_their_files() {
    let mut wrong = BTreeSet::new();
    for file in files(&root().join("src"), ".rs") {
        let (_, path) = place(&file);
        let text = fs::read_to_string(&file).expect("the file can be read");
        for (name, places) in GUARDED {
            let used = text.lines().any(|line| {
                let line = line.split("//").next().unwrap_or("");
                line.contains(&format!("{name}::")) && !line.contains(&format!("::{name}::"))
            });
            if used && !places.iter().any(|place| path.starts_with(place)) {
                wrong.insert(format!("{path} uses {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "crates outside their files:\n{}", wrong.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn every_source_file_says_what_it_is_for() {
    let silent: Vec<String> = files(&root().join("src"), ".rs")
        .iter()
        .filter(|file| !fs::read_to_string(file).expect("the file can be read").starts_with("//! "))
        .map(|file| place(file).1)
        .collect();
    assert!(silent.is_empty(), "files without an opening sentence: {silent:?}");
}

#[test]
fn links_in_the_docs_lead_somewhere() {
    let mut docs = files(&root().join("docs"), ".md");
    docs.extend(["README.md", "CHANGELOG.md"].map(|name| root().join(name)));
    let mut dead = Vec::new();
    for file in docs {
        let text = fs::read_to_string(&file).expect("the file can be read");
        for (at, _) in text.match_indices("](") {
            let target: String = text[at + 2..].chars().take_while(|sign| *sign != ')').collect();
            let path = target.split('#').next().unwrap_or("");
            let outside = target.contains("://") || target.starts_with('#') || path.is_empty();
            if !outside && !file.parent().expect("a file has a folder").join(path).exists() {
                dead.push(format!("{}: {target}", file.display()));
            }
        }
    }
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}
