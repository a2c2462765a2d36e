//! The command line of the harness.

/// A way to run the tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    Plain,
    Recheck,
    Crash,
    Postgres,
    Random,
    Kill,
}

const MODES: [Mode; 6] = [Mode::Plain, Mode::Recheck, Mode::Crash, Mode::Postgres, Mode::Random, Mode::Kill];

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::Plain => "plain",
            Mode::Recheck => "recheck",
            Mode::Crash => "crash",
            Mode::Postgres => "postgres",
            Mode::Random => "random",
            Mode::Kill => "kill",
        }
    }

    fn of(name: &str) -> Option<Mode> {
        MODES.into_iter().find(|mode| mode.name() == name)
    }
}

pub struct Options {
    pub modes: Vec<Mode>,
    /// Parts of file names; files with none of them are left out.
    pub names: Vec<String>,
    /// Numbers of workers; each file runs with each.
    pub workers: Vec<usize>,
    pub jobs: usize,
    /// Where random modes begin.
    pub seed: u64,
    /// How many seeds the random mode runs.
    pub seeds: u64,
    /// How many kills the kill mode does.
    pub kills: u32,
    pub complete: bool,
    /// Random mode: compares every view after every step, and every case with PostgreSQL.
    pub thorough: bool,
}

impl Options {
    pub fn read() -> Result<Self, String> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let mut options = Self {
            modes: Vec::new(),
            names: Vec::new(),
            workers: Vec::new(),
            jobs: cores,
            seed: rand::random::<u64>() >> 32,
            seeds: 8,
            kills: 10,
            complete: false,
            thorough: false,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut number = || {
                let text = words.next().ok_or_else(|| format!("{word} needs a number"))?;
                text.parse::<u64>().map_err(|_| format!("{word} needs a number, not {text}"))
            };
            match word.as_str() {
                "--workers" => options.workers.push(usize::try_from(number()?).map_err(|error| error.to_string())?),
                "--jobs" => options.jobs = usize::try_from(number()?).map_err(|error| error.to_string())?,
                "--seed" => options.seed = number()?,
                "--seeds" => options.seeds = number()?,
                "--kills" => options.kills = u32::try_from(number()?).map_err(|error| error.to_string())?,
                "--complete" => options.complete = true,
                "--thorough" => options.thorough = true,
                "--mode" => {}
                // What cargo's own harness would understand, as in `cargo test -- --nocapture`, is no concern of ours.
                other if other.starts_with('-') => {}
                other => match Mode::of(other) {
                    Some(mode) => options.modes.push(mode),
                    None => options.names.push(other.to_owned()),
                },
            }
        }
        options.add_environment()?;
        Ok(options)
    }

    fn add_environment(&mut self) -> Result<(), String> {
        if self.modes.is_empty() {
            let text = std::env::var("HEADWATER_SQL_MODE").unwrap_or_else(|_| Mode::Plain.name().to_owned());
            for word in text.split(',') {
                self.modes.push(Mode::of(word.trim()).ok_or_else(|| format!("there is no mode {word}"))?);
            }
        }
        if self.workers.is_empty() {
            self.workers.push(1);
        }
        if self.jobs == 0 || self.workers.contains(&0) {
            return Err("--jobs and --workers begin at 1".to_owned());
        }
        Ok(())
    }
}
