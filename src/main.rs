//! Arguments → settings → serve, demo or sql.

use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use headwater::config::{Config, Options, unknown_variables};
use headwater::demo::{self, DemoOptions};
use headwater::script;
use headwater::serve::{Server, psql_command, start_engine};
use headwater::table::Print;
use headwater::{SqlError, SqlState};

/// Steps and statements allocate much that is small: measured beside glibc's allocator, an INSERT is answered in three
/// quarters of the time, and the seed query at 1,000 groups costs a fifth less.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A streaming SQL engine: Postgres clients define views, and read them exact while input arrives.
///
/// Without a command it serves until SIGTERM or SIGINT.
#[derive(Parser)]
#[command(name = "headwater", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum Command {
    /// Shows five live views over a generated auction stream; psql can read them meanwhile
    Demo {
        /// Events generated a second
        #[arg(long, default_value_t = 20_000)]
        rate: u64,
        /// Ends after so many seconds [default: at Ctrl-C]
        #[arg(long)]
        seconds: Option<u64>,
    },
    /// Runs SQL without a server, to the end of its finite sources; in a temporary directory unless --data-dir is given
    Sql {
        /// File with statements; - is standard input
        #[arg(short, long, value_name = "FILE")]
        file: Vec<PathBuf>,
        /// Statements
        #[arg(short, long, value_name = "TEXT")]
        command: Vec<String>,
        /// Prints results as csv with a header
        #[arg(long)]
        csv: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("headwater-client").build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(run(arguments)),
        Err(error) => Err(format!("cannot start threads: {error}")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            let _ = writeln!(io::stderr(), "{sentence}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), String> {
    let print_config = arguments.options.print_config;
    let has_data_dir = arguments.options.data_dir.is_some();
    // A script runs with the caller's own rights.
    let config = match arguments.command {
        Some(Command::Sql { .. }) => Config::with_paths(arguments.options, vec![PathBuf::from("/")]),
        _ => Config::new(arguments.options),
    };
    let mut config = config.map_err(sentence)?;
    if print_config {
        let _ = io::stdout().write_all(config.print().as_bytes());
        return Ok(());
    }
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log)
        .map_err(|error| format!("headwater: --log {} is not understood: {error}", config.log))?;
    let colours = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(io::stderr).init();
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for warning in unknown_variables(names, &Arguments::command()) {
        let _ = writeln!(io::stderr(), "headwater: {warning}");
    }
    let Some(command) = arguments.command else { return serve(&config).await };
    let temporary = Temporary::new(has_data_dir).map_err(sentence)?;
    if let Some(directory) = &temporary.0 {
        config.data_dir.clone_from(directory);
    }
    match command {
        Command::Demo { rate, seconds } => {
            let is_terminal = io::stdout().is_terminal();
            show(&config, &DemoOptions { rate, seconds, is_terminal }).await
        }
        Command::Sql { file, command, csv } => {
            // What is gone with the process need not survive the loss of power.
            config.sync &= has_data_dir;
            let print = if csv { Print::Csv } else { Print::Aligned };
            execute(&config, &file, &command, print).await
        }
    }
}

fn sentence(error: SqlError) -> String {
    let more = [&error.detail, &error.hint].into_iter().flatten().map(|more| format!("\n{more}"));
    format!("headwater: {}{}", error.message, more.collect::<String>())
}

async fn serve(config: &Config) -> Result<(), String> {
    let server = start(config).await?;
    let data_dir = config.data_dir.canonicalize().unwrap_or_else(|_| config.data_dir.clone());
    let _ = writeln!(
        io::stdout(),
        "data in {}\n{}\nhttp://{}\ntry: headwater demo",
        data_dir.display(),
        psql_command(server.wire_address),
        server.http_address
    );
    let failure = tokio::select! {
        () = signalled() => None,
        error = server.engine.failure() => Some(error),
    };
    match failure {
        None => server.stop().await.map_err(sentence),
        Some(error) => Err(sentence(error)),
    }
}

async fn start(config: &Config) -> Result<Server, String> {
    let engine = start_engine(config).await.map_err(sentence)?;
    match Server::start(config, engine.clone()).await {
        Ok(server) => Ok(server),
        Err(error) => {
            let _ = engine.stop().await;
            Err(sentence(error))
        }
    }
}

async fn show(config: &Config, options: &DemoOptions) -> Result<(), String> {
    let server = start(config).await?;
    let _ = writeln!(io::stdout(), "{}\nhttp://{}", psql_command(server.wire_address), server.http_address);
    let shown = demo::run(&server, options, &mut io::stdout(), signalled()).await;
    let stopped = server.stop().await;
    shown.and(stopped).map_err(sentence)
}

async fn execute(config: &Config, files: &[PathBuf], commands: &[String], print: Print) -> Result<(), String> {
    let scripts = scripts(files, commands)?;
    let engine = start_engine(config).await.map_err(sentence)?;
    let mut failed = None;
    for (name, text) in &scripts {
        let mut out = io::stdout();
        let ended = tokio::select! {
            ended = script::run(&engine, text, print, &mut out) => ended.map_err(|failure| failure.print(name)),
            () = signalled() => Err("interrupted".to_string()),
        };
        if let Err(message) = ended {
            failed = Some(message);
            break;
        }
    }
    // Sinks are complete when the engine has stopped.
    let stopped = engine.stop().await.map_err(sentence);
    failed.map_or(stopped, Err)
}

/// Names and texts in the order: files, then commands, else standard input.
fn scripts(files: &[PathBuf], commands: &[String]) -> Result<Vec<(String, String)>, String> {
    let standard_input = || {
        let mut text = String::new();
        let read = io::stdin().read_to_string(&mut text);
        read.map(|_| ("stdin".to_string(), text)).map_err(|error| format!("headwater: cannot read stdin: {error}"))
    };
    let mut scripts = Vec::new();
    for file in files {
        scripts.push(match file.as_os_str() == "-" {
            true => standard_input()?,
            false => {
                let text = std::fs::read_to_string(file)
                    .map_err(|error| format!("headwater: cannot read {}: {error}", file.display()))?;
                (file.display().to_string(), text)
            }
        });
    }
    scripts.extend(commands.iter().map(|command| ("command".to_string(), command.clone())));
    if scripts.is_empty() && io::stdin().is_terminal() {
        return Err("headwater: give a script: -f FILE, -c TEXT, or statements on standard input".to_string());
    }
    if scripts.is_empty() {
        scripts.push(standard_input()?);
    }
    Ok(scripts)
}

/// Waits for SIGINT or SIGTERM.
async fn signalled() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            },
            Err(_) => drop(interrupt.await),
        }
    }
    #[cfg(not(unix))]
    drop(interrupt.await);
}

/// A data directory that is gone when the program ends; none if one was given.
struct Temporary(Option<PathBuf>);

impl Temporary {
    fn new(has_data_dir: bool) -> Result<Temporary, SqlError> {
        if has_data_dir {
            return Ok(Temporary(None));
        }
        let directory = std::env::temp_dir().join(format!("headwater-{}", std::process::id()));
        std::fs::create_dir_all(&directory).map_err(|error| {
            SqlError::new(SqlState::IO_ERROR, format!("cannot make {}: {error}", directory.display()))
        })?;
        Ok(Temporary(Some(directory)))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(directory) = &self.0 {
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}
