//! What a test needs from outside, and whether it is here.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The first lines of a file in which `# needs:` may stand.
const HEADER_LINES: usize = 10;

/// The words after `# needs:` in a file's first lines.
pub fn of(text: &str) -> Vec<String> {
    let lines = text.lines().take(HEADER_LINES).filter_map(|line| line.strip_prefix("# needs:"));
    lines.flat_map(|line| line.split(',')).map(|word| word.trim().to_owned()).collect()
}

/// The first of these needs that is not met, in words.
pub fn missing(needs: &[String]) -> Option<String> {
    needs.iter().find_map(|need| match need.as_str() {
        "psql" => (!runs("psql")).then(|| "psql is not installed".to_owned()),
        "postgres" => postgres_bin().is_none().then(|| "PostgreSQL is not installed".to_owned()),
        "nycflights13" => flights().is_none().then(|| {
            "the nycflights13 files are not here (HEADWATER_TEST_DATA names the folder that holds nycflights13/)"
                .to_owned()
        }),
        "python" => (!runs(&python())).then(|| "python3 is not installed".to_owned()),
        "pandas" => {
            (!imports("pandas")).then(|| "pandas is not installed (HEADWATER_PYTHON names a python)".to_owned())
        }
        other => Some(format!("the harness does not know how to find {other}")),
    })
}

/// True if a missing need is a failure and not a skip.
pub fn required() -> bool {
    std::env::var("HEADWATER_REQUIRE_SERVERS").is_ok_and(|value| value == "1")
}

pub fn python() -> String {
    std::env::var("HEADWATER_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

fn runs(program: &str) -> bool {
    let status = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn imports(module: &str) -> bool {
    let import = format!("import {module}");
    let status = Command::new(python()).args(["-c", &import]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// The folder of PostgreSQL's programs.
pub fn postgres_bin() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut folders: Vec<PathBuf> = versions.flatten().map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    folders.into_iter().rev().find(|folder| folder.join("initdb").exists())
}

/// The folder with the nycflights13 files.
pub fn flights() -> Option<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let given = std::env::var("HEADWATER_TEST_DATA").ok().map(PathBuf::from);
    let beside = repository.ancestors().skip(1).map(|folder| folder.join("shared/data"));
    let folders = given.into_iter().chain(beside).map(|folder| folder.join("nycflights13"));
    folders.into_iter().find(|folder| folder.join("flights.csv.gz").exists())
}
