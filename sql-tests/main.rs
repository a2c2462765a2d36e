//! Promises to users, kept by the real binary over a real socket: runs every `.slt` file in one of several modes.
//!
//! `cargo test --test sql -- [MODE]... [--workers N] [--seed N] [--jobs N] [--complete] [--thorough] [NAME]...`
//!
//! * `plain`: every file as it is written (the default).
//! * `recheck`: after every statement each materialized view is compared with its query run at that moment.
//! * `crash`: after every statement the server is killed with SIGKILL and started again.
//! * `postgres`: the files run against PostgreSQL, with views in place of materialized views: the written answers are
//!   PostgreSQL's. With `--complete` they are taken from there. Records under `onlyif headwater` are left out.
//! * `random`: random tables, views and changes; after a step each view equals its query. A third of the cases is compared
//!   with PostgreSQL too. With `--thorough` every view is compared after every step instead of one in four.
//! * `kill`: random kills under a write load; a ledger on the client's side knows what was acknowledged.
//!
//! `HEADWATER_SQL_MODE` gives modes too, separated by commas. Files that need something from outside say so in their
//! first lines (`# needs: psql`); it is a skip where that is missing, and a failure if `HEADWATER_REQUIRE_SERVERS=1`.

mod client;
mod kill;
mod mistakes;
mod needs;
mod options;
mod random;
mod script;
mod server;
mod views;

use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use options::{Mode, Options};

/// What became of one case.
pub enum Verdict {
    Passed,
    Failed(String),
    Skipped(String),
}

/// Whether answers are being written down instead of compared.
static COMPLETING: AtomicBool = AtomicBool::new(false);

fn completing() -> bool {
    COMPLETING.load(Ordering::Relaxed)
}

/// One thing to run: a file in a mode, or a seed of a random mode.
struct Case {
    name: String,
    run: Box<dyn FnOnce() -> Verdict + Send>,
}

fn main() -> ExitCode {
    let options = match Options::read() {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::FAILURE;
        }
    };
    COMPLETING.store(options.complete, Ordering::Relaxed);
    let cases = options.modes.iter().flat_map(|mode| cases(*mode, &options)).collect();
    let [passed, failed, skipped] = run_all(cases, options.jobs);
    server::stop_postgres();
    let skipped_text = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
    println!("{passed} passed, {failed} failed{skipped_text}");
    if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn cases(mode: Mode, options: &Options) -> Vec<Case> {
    match mode {
        Mode::Plain | Mode::Recheck | Mode::Crash | Mode::Postgres => script_cases(mode, options),
        Mode::Random => random::seeds(options).into_iter().map(|seed| random_case(seed, options)).collect(),
        Mode::Kill => {
            let (workers, seed, kills) = (options.workers[0], options.seed, options.kills);
            vec![Case {
                name: format!("kill --seed {seed} --kills {kills} --workers {workers}"),
                run: Box::new(move || kill::run(seed, kills, workers)),
            }]
        }
    }
}

fn script_cases(mode: Mode, options: &Options) -> Vec<Case> {
    let workers = if mode == Mode::Postgres { &options.workers[..1] } else { &options.workers };
    let mut cases = Vec::new();
    for workers in workers {
        for path in script::files(&options.names).into_iter().filter(|path| !script::is_left_out(path, mode)) {
            let (workers, complete) = (*workers, options.complete);
            let name = match mode {
                Mode::Postgres => format!("postgres {}", path.display()),
                _ => format!("{} {} --workers {workers}", mode.name(), path.display()),
            };
            cases.push(Case { name, run: Box::new(move || script::run(&path, mode, workers, complete)) });
        }
    }
    let named = options.names.is_empty() || options.names.iter().any(|name| mistakes::FILE.contains(name));
    if named && matches!(mode, Mode::Plain | Mode::Postgres) {
        let complete = options.complete && mode == Mode::Plain;
        let name = format!("{} {}", mode.name(), mistakes::FILE);
        cases.push(Case { name, run: Box::new(move || mistakes::run(mode, complete)) });
    }
    cases
}

fn random_case(seed: u64, options: &Options) -> Case {
    let workers = options.workers[usize::try_from(seed % options.workers.len() as u64).expect("a small number")];
    let thorough = options.thorough;
    Case {
        name: format!("random --seed {seed} --workers {workers}"),
        run: Box::new(move || random::run(seed, workers, thorough)),
    }
}

/// Runs all cases on some threads; the longest-running kinds come in the order given.
fn run_all(cases: VecDeque<Case>, jobs: usize) -> [usize; 3] {
    let (queue, counts) = (Mutex::new(cases), Mutex::new([0; 3]));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(case) = { queue.lock().expect("no case panics with the lock").pop_front() } {
                    let begun = Instant::now();
                    let verdict = guarded(case.run);
                    let place = report(&case.name, &verdict, begun);
                    counts.lock().expect("no case panics with the lock")[place] += 1;
                }
            });
        }
    });
    counts.into_inner().expect("no case panics with the lock")
}

fn guarded(run: Box<dyn FnOnce() -> Verdict + Send>) -> Verdict {
    let panicked = |panic: Box<dyn std::any::Any + Send>| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Verdict::Failed(format!("the harness panicked: {}", text.unwrap_or_default()))
    };
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(panicked)
}

/// Prints one case; returns its place among passed, failed and skipped.
fn report(name: &str, verdict: &Verdict, begun: Instant) -> usize {
    let seconds = begun.elapsed().as_secs_f64();
    match verdict {
        Verdict::Passed => {
            println!("ok      {name} ({seconds:.1} s)");
            0
        }
        Verdict::Failed(reason) => {
            println!("FAILED  {name} ({seconds:.1} s)\n{}", indented(reason));
            1
        }
        Verdict::Skipped(reason) => {
            println!("SKIPPED {name}: {reason}");
            2
        }
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}
