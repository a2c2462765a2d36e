//! Every knob: its name, unit, default and limit. Flags win over the environment, that over the file, that over defaults.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::catalog::nearest;
use crate::error::{SqlError, SqlResult, SqlState};

/// The port of the Postgres protocol and that of HTTP.
pub const WIRE_PORT: u16 = 4566;
pub const HTTP_PORT: u16 = 5691;

/// What can be set on the command line and by `HEADWATER_*` variables; what is not set is `None`.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {
    /// Folder of the data; made when missing [default: ./headwater-data]
    #[arg(long, global = true, env = "HEADWATER_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address of the Postgres protocol [default: 127.0.0.1:4566]
    #[arg(long, global = true, env = "HEADWATER_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Port of the Postgres protocol, in place of that in --listen; 0 picks a free one
    #[arg(long, short, global = true, env = "HEADWATER_PORT", value_name = "PORT")]
    pub port: Option<u16>,
    /// Address of HTTP: console, /metrics, /healthz, /ready [default: 127.0.0.1:5691]
    #[arg(long, global = true, env = "HEADWATER_HTTP_LISTEN", value_name = "HOST:PORT")]
    pub http_listen: Option<String>,
    /// Worker threads of the dataflows [default: one a core]
    #[arg(long, global = true, env = "HEADWATER_WORKERS", value_name = "N")]
    pub workers: Option<usize>,
    /// Memory for state and queries, such as 512MB or 2GiB [default: 60 % of the cgroup or machine]
    #[arg(long, global = true, env = "HEADWATER_MEMORY_LIMIT", value_name = "SIZE")]
    pub memory_limit: Option<String>,
    /// Folders in which SQL may read and write files, separated by commas [default: the current folder; for `sql` all]
    #[arg(long, global = true, env = "HEADWATER_ALLOWED_PATHS", value_name = "DIRS", value_delimiter = ',')]
    pub allowed_paths: Option<Vec<PathBuf>>,
    /// Client connections at a time [default: 1000]
    #[arg(long, global = true, env = "HEADWATER_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<usize>,
    /// Whether a write is on disk before it is acknowledged [default: true]
    #[arg(long, global = true, env = "HEADWATER_SYNC", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub sync: Option<bool>,
    /// Bytes of log after which a checkpoint is written, such as 64MiB [default: 64MiB]
    #[arg(long, global = true, env = "HEADWATER_CHECKPOINT_SIZE", value_name = "SIZE")]
    pub checkpoint_size: Option<String>,
    /// What is logged to stderr: error, warn, info, debug, or per room as headwater::engine=debug [default: warn]
    #[arg(long, global = true, env = "HEADWATER_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// TOML file with any of these settings, named as the flags with underscores
    #[arg(long, global = true, env = "HEADWATER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Prints the settings in effect as TOML, and ends
    #[arg(long, global = true)]
    pub print_config: bool,
}

/// The file has the same settings, with sizes as text or plain numbers.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    data_dir: Option<PathBuf>,
    listen: Option<String>,
    port: Option<u16>,
    http_listen: Option<String>,
    workers: Option<usize>,
    memory_limit: Option<Size>,
    allowed_paths: Option<Vec<PathBuf>>,
    max_connections: Option<usize>,
    sync: Option<bool>,
    checkpoint_size: Option<Size>,
    log: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Size {
    Bytes(u64),
    Text(String),
}

impl Size {
    fn text(self) -> String {
        match self {
            Size::Bytes(bytes) => bytes.to_string(),
            Size::Text(text) => text,
        }
    }
}

/// The settings in effect.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    pub http_listen: SocketAddr,
    pub workers: usize,
    /// Bytes.
    pub memory_limit: u64,
    pub allowed_paths: Vec<PathBuf>,
    pub max_connections: usize,
    pub sync: bool,
    /// Bytes.
    pub checkpoint_size: u64,
    pub log: String,
}

fn refuse(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

/// Several folders in one value are separated as in PATH.
fn split(values: Vec<PathBuf>) -> Vec<PathBuf> {
    values.iter().flat_map(|value| std::env::split_paths(value).collect::<Vec<_>>()).collect()
}

impl Config {
    /// Puts flags, environment (clap has merged it into `options`), file and defaults together.
    ///
    /// # Errors
    /// The file cannot be read, has an unknown setting, or a value is out of its limits.
    pub fn new(options: Options) -> SqlResult<Config> {
        let here = std::env::current_dir().map_or_else(|_| Vec::new(), |dir| vec![dir]);
        Config::with_paths(options, here)
    }

    /// As [`Config::new`], with other paths allowed by default.
    ///
    /// # Errors
    /// As there.
    pub fn with_paths(options: Options, allowed_paths: Vec<PathBuf>) -> SqlResult<Config> {
        let file = options.config.as_deref().map_or(Ok(File::default()), read_file)?;
        let size = |flag: Option<String>, file: Option<Size>| {
            flag.or_else(|| file.map(Size::text)).as_deref().map(parse_size).transpose()
        };
        let mut listen = address("--listen", options.listen.or(file.listen), WIRE_PORT)?;
        if let Some(port) = options.port.or(file.port) {
            listen.set_port(port);
        }
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let config = Config {
            data_dir: options.data_dir.or(file.data_dir).unwrap_or_else(|| PathBuf::from("headwater-data")),
            listen,
            http_listen: address("--http-listen", options.http_listen.or(file.http_listen), HTTP_PORT)?,
            workers: options.workers.or(file.workers).unwrap_or(cores),
            memory_limit: size(options.memory_limit, file.memory_limit)?.unwrap_or_else(default_memory_limit),
            allowed_paths: options.allowed_paths.map(split).or(file.allowed_paths).unwrap_or(allowed_paths),
            max_connections: options.max_connections.or(file.max_connections).unwrap_or(1_000),
            sync: options.sync.or(file.sync).unwrap_or(true),
            checkpoint_size: size(options.checkpoint_size, file.checkpoint_size)?.unwrap_or(64 << 20),
            log: options.log.or(file.log).unwrap_or_else(|| "warn".to_string()),
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> SqlResult<()> {
        if !(1..=256).contains(&self.workers) {
            return Err(refuse(format!("workers is {}, and has to be from 1 to 256", self.workers)));
        }
        if self.memory_limit < 64 << 20 {
            return Err(refuse(format!("memory_limit is {} bytes, and has to be at least 64MiB", self.memory_limit)));
        }
        if !(1..=100_000).contains(&self.max_connections) {
            return Err(refuse(format!("max_connections is {}, and has to be from 1 to 100000", self.max_connections)));
        }
        if self.checkpoint_size < 1 << 20 {
            return Err(refuse(format!(
                "checkpoint_size is {} bytes, and has to be at least 1MiB",
                self.checkpoint_size
            )));
        }
        Ok(())
    }

    /// The settings as TOML, as `--config` reads them.
    pub fn print(&self) -> String {
        toml::to_string(self).unwrap_or_else(|error| format!("# {error}\n"))
    }
}

/// Variables of the tests, which a server that they start finds too.
const OF_TESTS: [&str; 6] = ["BIN", "CASES", "PYTHON", "REQUIRE_SERVERS", "SEED", "SQL_MODE"];

/// What to say of `HEADWATER_*` variables that no setting reads.
pub fn unknown_variables(names: impl Iterator<Item = String>, command: &clap::Command) -> Vec<String> {
    let known: Vec<&str> = command.get_arguments().filter_map(|argument| argument.get_env()?.to_str()).collect();
    let unknown = |name: &String| {
        let Some(own) = name.strip_prefix("HEADWATER_") else { return false };
        !known.contains(&name.as_str()) && !OF_TESTS.contains(&own) && !own.starts_with("TEST_")
    };
    let sentence = |name: String| match nearest(&name, known.iter().copied()) {
        Some(nearest) => format!("the variable {name} is no setting; did you mean {nearest}?"),
        None => format!("the variable {name} is no setting; see headwater --help"),
    };
    names.filter(unknown).map(sentence).collect()
}

fn read_file(path: &Path) -> SqlResult<File> {
    let text = fs::read_to_string(path)
        .map_err(|error| refuse(format!("cannot read the configuration {}: {error}", path.display())))?;
    toml::from_str(&text).map_err(|error| {
        refuse(format!("the configuration {} is not understood: {}", path.display(), error.to_string().trim_end()))
    })
}

/// `host:port`, `host` or `:port`.
fn address(flag: &str, text: Option<String>, port: u16) -> SqlResult<SocketAddr> {
    let Some(text) = text else { return Ok(SocketAddr::from(([127, 0, 0, 1], port))) };
    let named = match text.as_str() {
        "localhost" => "127.0.0.1".to_string(),
        other => match (other.strip_prefix("localhost:"), other.strip_prefix(':')) {
            (Some(port), _) | (None, Some(port)) => format!("127.0.0.1:{port}"),
            (None, None) => other.to_string(),
        },
    };
    if let Ok(address) = named.parse::<SocketAddr>() {
        return Ok(address);
    }
    let host = named.parse::<IpAddr>().map_err(|_| {
        refuse(format!("{flag} is \"{text}\", and has to be an IP address and a port, as 127.0.0.1:{port}"))
    })?;
    Ok(SocketAddr::new(host, port))
}

/// Reads `4096`, `512MB`, `2GiB`, `1.5g`; units count in powers of 1,024.
pub fn parse_size(text: &str) -> SqlResult<u64> {
    let wrong = || refuse(format!("\"{text}\" is no size; write it as 512MB or 2GiB"));
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    let bytes = number * (1u64 << shift) as f64;
    if bytes < 9e18 { Ok(bytes as u64) } else { Err(wrong()) }
}

/// 60 % of what the cgroup allows, or of what the machine has.
fn default_memory_limit() -> u64 {
    const FALLBACK: u64 = 2 << 30;
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_memory(&text));
    let limits = [number("/sys/fs/cgroup/memory.max"), number("/sys/fs/cgroup/memory/memory.limit_in_bytes"), machine];
    let least = limits.into_iter().flatten().min().unwrap_or(FALLBACK);
    (least / 10 * 6).max(64 << 20)
}

fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), "workers = 3\nport = 7000\nmemory_limit = \"1GiB\"\nsync = false\n").expect("written");
        let options = Options { workers: Some(2), config: Some(file.path().into()), ..Options::default() };
        let config = Config::new(options).expect("valid");
        assert_eq!((config.workers, config.listen.port(), config.memory_limit), (2, 7000, 1 << 30));
        assert!(!config.sync);
        assert_eq!(config.http_listen, SocketAddr::from(([127, 0, 0, 1], HTTP_PORT)));
    }

    #[test]
    fn what_is_printed_is_read_again() {
        let config = Config::new(Options { port: Some(1), ..Options::default() }).expect("valid");
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), config.print()).expect("written");
        let again = Config::new(Options { config: Some(file.path().into()), ..Options::default() });
        assert_eq!(again, Ok(config));
    }

    #[test]
    fn wrong_settings_are_refused_with_a_sentence() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), "wokers = 3\n").expect("written");
        let refused = |options: Options| Config::new(options).expect_err("refused").message;
        let unknown = refused(Options { config: Some(file.path().into()), ..Options::default() });
        assert!(unknown.contains("unknown field `wokers`"), "{unknown}");
        let wrong = refused(Options { workers: Some(0), ..Options::default() });
        assert_eq!(wrong, "workers is 0, and has to be from 1 to 256");
        assert!(refused(Options { listen: Some("nowhere".into()), ..Options::default() }).starts_with("--listen is"));
        assert!(refused(Options { memory_limit: Some("lots".into()), ..Options::default() }).contains("is no size"));
    }

    #[test]
    fn addresses_and_sizes_have_short_forms() {
        assert_eq!(address("", Some(":80".into()), 1), Ok(SocketAddr::from(([127, 0, 0, 1], 80))));
        assert_eq!(address("", Some("0.0.0.0".into()), 9), Ok(SocketAddr::from(([0, 0, 0, 0], 9))));
        assert_eq!(address("", Some("[::1]:5".into()), 9).map(|address| address.port()), Ok(5));
        assert_eq!(parse_size("1.5g"), Ok(3 << 29));
        assert_eq!(parse_size("64 MiB"), Ok(64 << 20));
        assert!(parse_size("").is_err() && parse_size("5x").is_err());
    }

    #[test]
    fn misspelt_variables_are_told() {
        #[derive(clap::Parser)]
        struct Arguments {
            #[command(flatten)]
            options: Options,
        }
        let command = <Arguments as clap::CommandFactory>::command();
        let names = ["HEADWATER_DATADIR", "HEADWATER_DATA_DIR", "HEADWATER_TEST_DATA", "HEADWATER_QUX", "HOME"];
        let told = unknown_variables(names.into_iter().map(str::to_string), &command);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].ends_with("HEADWATER_DATADIR is no setting; did you mean HEADWATER_DATA_DIR?"), "{told:?}");
        let _ = Arguments { options: Options::default() }.options;
    }
}
