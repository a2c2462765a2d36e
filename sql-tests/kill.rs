//! Random kills under a write load: what was acknowledged is there exactly once, and every view agrees.
//!
//! Each writer owns a range of keys and keeps a ledger of what the server acknowledged. After a kill its rows must be
//! those of the ledger, with or without the one statement that was under way.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::Verdict;
use crate::client::{Address, Client, Outcome};
use crate::server::Server;
use crate::views;

const WRITERS: u64 = 4;
const OWNERS: u64 = 7;
/// Keys of one writer.
const KEYS: u64 = 1_000_000;
/// How long the load lasts before a kill, at most.
const LOAD_MAX: Duration = Duration::from_millis(400);

const SCHEMA: [&str; 6] = [
    "CREATE TABLE owner (id BIGINT PRIMARY KEY, name TEXT NOT NULL)",
    "CREATE TABLE account (id BIGINT PRIMARY KEY, owner BIGINT NOT NULL, amount BIGINT NOT NULL)",
    "INSERT INTO owner VALUES (0, 'a'), (1, 'b'), (2, 'c'), (3, 'd'), (4, 'e'), (5, 'f'), (6, 'g')",
    "CREATE MATERIALIZED VIEW by_owner AS SELECT o.name, count(*) AS accounts, sum(a.amount) AS total, max(a.amount) AS most \
     FROM account a JOIN owner o ON o.id = a.owner GROUP BY o.name",
    "CREATE MATERIALIZED VIEW whole AS SELECT sum(accounts) AS accounts, sum(total) AS total FROM by_owner",
    "CREATE MATERIALIZED VIEW amounts AS SELECT DISTINCT amount FROM account",
];

pub fn run(seed: u64, kills: u32, workers: usize) -> Verdict {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("threads can be made");
    match runtime.block_on(play(seed, kills, workers)) {
        Ok(story) => {
            println!("        {story}");
            Verdict::Passed
        }
        Err(reason) => Verdict::Failed(reason),
    }
}

async fn play(seed: u64, kills: u32, workers: usize) -> Result<String, String> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut server = Server::start(workers).await?;
    let client = Client::connect(&server.address()).await?;
    for statement in SCHEMA {
        client.rows(statement).await?;
    }
    let mut ledgers: Vec<Ledger> = (0..WRITERS).map(Ledger::new).collect();
    let (mut acknowledged, mut unknown, mut reads) = (0, 0, 0);
    for kill in 0..kills {
        let load = LOAD_MAX.mul_f64(random.random_range(0.05..1.0));
        let seeds = random.random::<u64>();
        reads += load_until_killed(&mut server, &mut ledgers, seeds, load).await?;
        server.restart().await.map_err(|reason| format!("after kill {kill}: {reason}"))?;
        let client = Client::connect(&server.address()).await?;
        unknown += ledgers.iter().filter(|ledger| ledger.under_way.is_some()).count();
        check(&client, &mut ledgers).await.map_err(|reason| format!("after kill {kill}: {reason}"))?;
        acknowledged = ledgers.iter().map(|ledger| ledger.acknowledged).sum();
    }
    if server.has_panicked() {
        return Err(format!("something in the server panicked\n{}", server.last_words()));
    }
    Ok(format!("{kills} kills, {acknowledged} acknowledged statements, {unknown} of unknown outcome, {reads} reads"))
}

/// Writers and a reader work until the server is killed; returns how often the reader read.
async fn load_until_killed(
    server: &mut Server,
    ledgers: &mut Vec<Ledger>,
    seed: u64,
    load: Duration,
) -> Result<u64, String> {
    let address = server.address();
    let writers: Vec<_> =
        ledgers.drain(..).map(|ledger| tokio::spawn(ledger.write_until_lost(address.clone(), seed))).collect();
    let reader = tokio::spawn(read_until_lost(address));
    let begun = Instant::now();
    tokio::time::sleep(load.saturating_sub(begun.elapsed())).await;
    server.kill();
    for writer in writers {
        ledgers.push(writer.await.map_err(|error| error.to_string())??);
    }
    reader.await.map_err(|error| error.to_string())?
}

/// One statement sees all views at one step.
async fn read_until_lost(address: Address) -> Result<u64, String> {
    let client = Client::connect(&address).await?;
    let sql = "SELECT (SELECT coalesce(sum(amount), 0) FROM account), (SELECT coalesce(sum(total), 0) FROM by_owner), \
               (SELECT coalesce(sum(total), 0) FROM whole)";
    for reads in 0.. {
        match client.run(sql).await {
            Outcome::Rows { rows, .. } => {
                if rows.len() != 1 || rows[0].iter().any(|sum| *sum != rows[0][0]) {
                    return Err(format!("one statement saw several steps: {rows:?}"));
                }
            }
            Outcome::Refused(refusal) if !is_farewell(&refusal.code) => return Err(refusal.text),
            Outcome::Refused(_) | Outcome::Lost(_) => return Ok(reads),
        }
    }
    Ok(0)
}

/// Refusals of a server that is about to go.
fn is_farewell(code: &str) -> bool {
    code.starts_with("57P")
}

/// What one writer knows of its rows: owner and amount by key.
struct Ledger {
    writer: u64,
    rows: BTreeMap<u64, (u64, i64)>,
    next_key: u64,
    under_way: Option<Change>,
    acknowledged: u64,
}

#[derive(Clone, Debug)]
enum Change {
    Insert(Vec<(u64, (u64, i64))>),
    Add { key: u64, amount: i64 },
    Delete { key: u64 },
}

impl Ledger {
    fn new(writer: u64) -> Self {
        Self { writer, rows: BTreeMap::new(), next_key: writer * KEYS, under_way: None, acknowledged: 0 }
    }

    async fn write_until_lost(mut self, address: Address, seed: u64) -> Result<Self, String> {
        let mut random = SmallRng::seed_from_u64(seed ^ self.writer);
        let Ok(client) = Client::connect(&address).await else { return Ok(self) };
        loop {
            let change = self.random_change(&mut random);
            self.under_way = Some(change.clone());
            match client.run(&change.sql()).await {
                Outcome::Rows { .. } => {
                    apply(&mut self.rows, &change);
                    self.under_way = None;
                    self.acknowledged += 1;
                }
                Outcome::Refused(refusal) if !is_farewell(&refusal.code) => {
                    return Err(format!("{}\n{}", change.sql(), refusal.text));
                }
                Outcome::Refused(_) | Outcome::Lost(_) => return Ok(self),
            }
        }
    }

    fn random_change(&mut self, random: &mut SmallRng) -> Change {
        let known: Vec<u64> = self.rows.keys().copied().collect();
        match random.random_range(0..10) {
            0..3 if !known.is_empty() => {
                Change::Add { key: known[random.random_range(0..known.len())], amount: random.random_range(-50..50) }
            }
            3 if !known.is_empty() => Change::Delete { key: known[random.random_range(0..known.len())] },
            _ => {
                let rows = (0..random.random_range(1..4)).map(|_| {
                    self.next_key += 1;
                    (self.next_key, (random.random_range(0..OWNERS), random.random_range(0..1000)))
                });
                Change::Insert(rows.collect())
            }
        }
    }

    /// Compares with what the table holds in this writer's range, and learns what became of the unknown statement.
    fn settle(&mut self, found: &BTreeMap<u64, (u64, i64)>) -> Result<(), String> {
        let own: BTreeMap<u64, (u64, i64)> =
            found.range(self.writer * KEYS..(self.writer + 1) * KEYS).map(|(key, row)| (*key, *row)).collect();
        let unknown = self.under_way.take();
        if own == self.rows {
            return Ok(());
        }
        if let Some(change) = &unknown {
            apply(&mut self.rows, change);
            if own == self.rows {
                return Ok(());
            }
        }
        let wrong: Vec<_> = own.iter().filter(|(key, row)| self.rows.get(key) != Some(row)).take(10).collect();
        let lost: Vec<_> = self.rows.iter().filter(|(key, row)| own.get(key) != Some(row)).take(10).collect();
        Err(format!("writer {}: the table has {wrong:?}, the ledger {lost:?}; unknown was {unknown:?}", self.writer))
    }
}

impl Change {
    fn sql(&self) -> String {
        match self {
            Change::Insert(rows) => {
                let row = |(key, (owner, amount)): &(u64, (u64, i64))| format!("({key}, {owner}, {amount})");
                format!("INSERT INTO account VALUES {}", rows.iter().map(row).collect::<Vec<_>>().join(", "))
            }
            Change::Add { key, amount } => format!("UPDATE account SET amount = amount + {amount} WHERE id = {key}"),
            Change::Delete { key } => format!("DELETE FROM account WHERE id = {key}"),
        }
    }
}

fn apply(rows: &mut BTreeMap<u64, (u64, i64)>, change: &Change) {
    match change {
        Change::Insert(new) => rows.extend(new.iter().copied()),
        Change::Add { key, amount } => {
            if let Some(row) = rows.get_mut(key) {
                row.1 += amount;
            }
        }
        Change::Delete { key } => drop(rows.remove(key)),
    }
}

async fn check(client: &Client, ledgers: &mut [Ledger]) -> Result<(), String> {
    let mut found = BTreeMap::new();
    for row in client.rows("SELECT id, owner, amount FROM account").await? {
        let number = |index: usize| row[index].parse::<i64>().map_err(|_| format!("{row:?} is not a row of numbers"));
        let (key, owner, amount) = (number(0)?.cast_unsigned(), number(1)?.cast_unsigned(), number(2)?);
        if found.insert(key, (owner, amount)).is_some() {
            return Err(format!("account {key} is there twice"));
        }
    }
    ledgers.iter_mut().try_for_each(|ledger| ledger.settle(&found))?;
    let total: i64 = found.values().map(|(_, amount)| amount).sum();
    let whole = client.rows("SELECT coalesce(sum(accounts), 0), coalesce(sum(total), 0) FROM whole").await?;
    if whole != [[found.len().to_string(), total.to_string()]] {
        return Err(format!("the views count {whole:?}, the table {} accounts and {total}", found.len()));
    }
    views::check_all(client).await
}
