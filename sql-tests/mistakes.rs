//! The golden file of common mistakes: `errors/mistakes.txt`, each statement with the full error that it gives.
//!
//! A block is a statement and, behind `! `, the lines of its error; a block without them must succeed. With
//! `--complete` the errors are written down. Most of them must have a position and a hint, and none a word that only
//! the engine knows. In mode `postgres` PostgreSQL must give the same SQLSTATEs, but for blocks under
//! `# headwater only`.

use std::path::Path;

use crate::Verdict;
use crate::client::{Client, Outcome};
use crate::options::Mode;
use crate::server::{Server, postgres_database};

/// Where the mistakes are, from the folder of the repository.
pub const FILE: &str = "sql-tests/errors/mistakes.txt";
const MISTAKES_MIN: usize = 200;
/// Per hundred mistakes.
const POSITIONS_MIN: usize = 95;
const HINTS_MIN: usize = 85;
/// Words that only the engine knows.
const INTERNAL: &[&str] = &[
    "DataFusion",
    "datafusion",
    "Arrow",
    "arrow",
    "Utf8",
    "Int16",
    "Int32",
    "Int64",
    "Float64",
    "Decimal128",
    "Timestamp(",
    "List(",
    "Struct",
    "Field {",
    "Expr",
    "hw_",
    "FieldMetadata",
    "LogicalPlan",
    "physical plan",
    "headwater.",
    "__",
    "make_array",
    "pending",
    "XX000",
];

/// One statement and what is said of it.
struct Block<'a> {
    heading: Vec<&'a str>,
    statement: String,
    expected: Vec<&'a str>,
}

impl<'a> Block<'a> {
    fn read(text: &'a str) -> Self {
        let heading = text.lines().filter(|line| line.starts_with('#')).collect();
        let statement: Vec<&str> = text.lines().filter(|line| !line.starts_with(['!', '#'])).collect();
        let expected = text.lines().filter_map(|line| line.strip_prefix("! ")).collect();
        Self { heading, statement: statement.join("\n"), expected }
    }

    fn written(&self, given: &str) -> String {
        let heading: String = self.heading.iter().map(|line| format!("{line}\n")).collect();
        let lines: String = given.lines().map(|line| format!("\n! {line}")).collect();
        format!("{heading}{}{lines}", self.statement)
    }

    /// Whether PostgreSQL would say something else for a reason.
    fn is_own(&self) -> bool {
        self.heading.iter().any(|line| line.starts_with("# headwater only"))
    }
}

/// Plays the file against Headwater, or the statements against PostgreSQL.
pub fn run(mode: Mode, complete: bool) -> Verdict {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("threads can be made");
    let checked = match std::fs::read_to_string(&path) {
        Err(error) => Err(format!("{FILE}: {error}")),
        Ok(text) if mode == Mode::Postgres => runtime.block_on(compare_codes(&text)),
        Ok(text) => runtime.block_on(compare(&path, &text, complete)),
    };
    match checked {
        Ok(()) => Verdict::Passed,
        Err(reason) => Verdict::Failed(reason),
    }
}

fn blocks(text: &str) -> impl Iterator<Item = Block<'_>> {
    text.split("\n\n").map(str::trim).filter(|block| !block.is_empty()).map(Block::read)
}

/// The error of a statement in lines; empty if there is none.
async fn error_of(client: &Client, statement: &str) -> Result<String, String> {
    match client.run(statement).await {
        Outcome::Refused(refusal) => Ok(refusal.text),
        Outcome::Rows { .. } => Ok(String::new()),
        Outcome::Lost(reason) => Err(format!("{statement}\n{reason}")),
    }
}

async fn compare(path: &Path, text: &str, complete: bool) -> Result<(), String> {
    let server = Server::start(1).await?;
    let client = Client::connect(&server.address()).await?;
    let (mut written, mut wrong, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for block in blocks(text) {
        let given = error_of(&client, &block.statement).await?;
        written.push(block.written(&given));
        if given.lines().ne(block.expected.iter().copied()) {
            wrong.push(format!("{}\n{given}", block.statement));
        }
        errors.extend((!given.is_empty()).then_some(given));
    }
    if complete {
        std::fs::write(path, written.join("\n\n") + "\n").map_err(|error| error.to_string())?;
        wrong.clear();
    }
    match wrong.is_empty() {
        true => quality(&errors),
        false => Err(format!("other errors than written:\n{}", wrong.join("\n\n"))),
    }
}

async fn compare_codes(text: &str) -> Result<(), String> {
    let client = Client::connect(&postgres_database().await?).await?;
    let mut wrong = Vec::new();
    for block in blocks(text).filter(|block| !block.is_own()) {
        let given = error_of(&client, &block.statement).await?;
        let code = |line: &str| line.get(..5).unwrap_or_default().to_owned();
        let (given, expected) = (code(&given), block.expected.first().map_or(String::new(), |line| code(line)));
        if given != expected {
            wrong.push(format!("{}: {expected}, PostgreSQL's is {given}", block.statement));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

fn quality(errors: &[String]) -> Result<(), String> {
    let share = |start: &str| {
        let having = errors.iter().filter(|error| error.lines().any(|line| line.starts_with(start))).count();
        having * 100 / errors.len().max(1)
    };
    let (positions, hints) = (share("POSITION: "), share("HINT: "));
    let strange = |error: &&String| INTERNAL.iter().any(|word| error.contains(word));
    let strange: Vec<&String> = errors.iter().filter(strange).collect();
    println!("        {} mistakes, {positions} % with a position, {hints} % with a hint", errors.len());
    match errors.len() >= MISTAKES_MIN && positions >= POSITIONS_MIN && hints >= HINTS_MIN && strange.is_empty() {
        true => Ok(()),
        false => Err(format!("too few mistakes, positions or hints, or words of the engine's own: {strange:?}")),
    }
}
