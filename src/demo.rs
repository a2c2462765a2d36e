//! `headwater demo`: live views over the Nexmark auction stream, drawn in the terminal while psql can read them.

use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::engine::Engine;
use crate::error::SqlResult;
use crate::script::output_failed;
use crate::serve::{Server, psql_command};
use crate::session::{Session, SessionInfo};
use crate::table::Table;

/// How the demo runs.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// Auction events generated a second.
    pub rate: u64,
    /// Ends by itself after so long.
    pub seconds: Option<u64>,
    /// Pages drawn over each other, or plain lines.
    pub is_terminal: bool,
}

/// Where the demo is drawn.
pub type Output<'a> = &'a mut (dyn Write + Send);

/// Time between two drawings on a terminal, and between two lines elsewhere.
const REDRAW: Duration = Duration::from_millis(500);
const LINES: Duration = Duration::from_secs(1);

/// A live view: its name, its query, and what of it is drawn.
struct View {
    name: &'static str,
    query: &'static str,
    shown: &'static str,
}

const VIEWS: [View; 5] = [
    View {
        name: "channels",
        query: "SELECT channel, count(*) AS bids, sum(price * 2) AS doubled FROM bid GROUP BY channel",
        shown: "SELECT * FROM channels ORDER BY bids DESC, channel LIMIT 4",
    },
    View {
        name: "totals",
        query: "SELECT count(*) AS bids, min(price) AS lowest, max(price) AS highest, avg(price) AS average FROM bid",
        shown: "SELECT bids, lowest, highest, round(average, 2) AS average FROM totals",
    },
    View {
        name: "hot_auctions",
        query: "SELECT auction, count(*) AS bids, max(price) AS highest FROM bid GROUP BY auction",
        shown: "SELECT * FROM hot_auctions ORDER BY bids DESC, auction LIMIT 4",
    },
    View {
        name: "categories",
        query: "SELECT a.category, count(*) AS bids, sum(b.price) AS turnover \
                FROM auction a JOIN bid b ON a.id = b.auction GROUP BY a.category",
        shown: "SELECT * FROM categories ORDER BY category LIMIT 5",
    },
    View {
        name: "states",
        query: "SELECT p.state, count(*) AS auctions, count(DISTINCT p.id) AS sellers \
                FROM person p JOIN auction a ON p.id = a.seller GROUP BY p.state",
        shown: "SELECT * FROM states ORDER BY auctions DESC, state LIMIT 4",
    },
];

/// Defines what is not there yet; a given data directory may have it all.
async fn define(session: &mut Session, rate: u64) -> SqlResult<()> {
    for (name, kind) in [("person", "Person"), ("auction", "Auction"), ("bid", "Bid")] {
        let source = format!(
            "CREATE SOURCE IF NOT EXISTS {name} \
             WITH (connector = 'nexmark', nexmark.table.type = '{kind}', nexmark.rate = '{rate}')"
        );
        session.execute(&source).await?;
    }
    for view in &VIEWS {
        let create = format!("CREATE MATERIALIZED VIEW IF NOT EXISTS {} AS {}", view.name, view.query);
        session.execute(&create).await?;
    }
    Ok(())
}

/// Runs until the time is over or `stop` is done.
///
/// # Errors
/// A statement fails, or the engine cannot go on.
pub async fn run(
    server: &Server,
    options: &DemoOptions,
    out: Output<'_>,
    stop: impl Future<Output = ()>,
) -> SqlResult<()> {
    let info = SessionInfo { user: "headwater".into(), database: "dev".into(), ..SessionInfo::default() };
    let mut session = Session::new(server.engine.clone(), info)?;
    define(&mut session, options.rate).await?;
    let mut screen = Screen::new(server, options.is_terminal);
    let end = options.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    tokio::pin!(stop);
    loop {
        screen.draw(&mut session, &server.engine, out).await?;
        if end.is_some_and(|end| Instant::now() >= end) {
            return Ok(());
        }
        tokio::select! {
            () = &mut stop => return Ok(()),
            error = server.engine.failure() => return Err(error),
            () = tokio::time::sleep(screen.pause()) => {}
        }
    }
}

/// Where the demo is shown.
struct Screen {
    is_terminal: bool,
    psql: String,
    http: String,
    drawn_at: Instant,
    rows_in: u64,
    rows_out: u64,
    steps: u64,
}

impl Screen {
    fn new(server: &Server, is_terminal: bool) -> Screen {
        Screen {
            is_terminal,
            psql: psql_command(server.wire_address),
            http: format!("http://{}", server.http_address),
            drawn_at: Instant::now(),
            rows_in: 0,
            rows_out: 0,
            steps: 0,
        }
    }

    fn pause(&self) -> Duration {
        if self.is_terminal { REDRAW } else { LINES }
    }

    async fn draw(&mut self, session: &mut Session, engine: &Engine, out: Output<'_>) -> SqlResult<()> {
        let figures = self.figures(engine);
        let text = match self.is_terminal {
            true => self.page(session, &figures).await?,
            false => line(session, &figures).await?,
        };
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        written.map_err(output_failed)
    }

    /// Rates since the last drawing, and how old the newest step is.
    fn figures(&mut self, engine: &Engine) -> String {
        let counters = engine.counters();
        let now = (
            counters.rows_in.load(Ordering::Relaxed),
            counters.rows_out.load(Ordering::Relaxed),
            counters.steps.load(Ordering::Relaxed),
        );
        let seconds = self.drawn_at.elapsed().as_secs_f64().max(0.001);
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let moment = engine.published().moment;
        let age = (clock as i64).saturating_sub(moment.now).max(0) as f64 / 1000.0;
        if seconds < 0.2 {
            return "starting".to_string();
        }
        let text = format!(
            "{:.0} rows/s in, {:.0} changes/s out, {:.0} steps/s; step {} is {age:.1} ms old",
            rate(now.0, self.rows_in),
            rate(now.1, self.rows_out),
            rate(now.2, self.steps),
            moment.step,
        );
        self.drawn_at = Instant::now();
        (self.rows_in, self.rows_out, self.steps) = now;
        text
    }

    async fn page(&self, session: &mut Session, figures: &str) -> SqlResult<String> {
        // Clears the terminal and begins at its top left corner.
        let mut page =
            format!("\x1b[2J\x1b[H\x1b[1mHeadwater\x1b[0m  {figures}\n{}   {}   Ctrl-C ends\n", self.psql, self.http);
        for view in &VIEWS {
            page.push_str(&format!("\n\x1b[1m{}\x1b[0m: {}\n{}", view.name, view.query, read(session, view).await?));
        }
        // Draws over the last page from the top left corner, so that nothing flickers.
        Ok(format!("\x1b[H{}\x1b[J", page.replace('\n', "\x1b[K\n")))
    }
}

async fn read(session: &mut Session, view: &View) -> SqlResult<String> {
    let style = session.text_style();
    let mut text = String::new();
    for result in session.execute(view.shown).await? {
        let mut table = Table::new(&result.columns);
        for batch in &result.batches {
            table.add(batch, &style)?;
        }
        text.push_str(&table.print_body());
    }
    Ok(text)
}

/// One line for where there is no terminal: rows of each view, and the figures.
async fn line(session: &mut Session, figures: &str) -> SqlResult<String> {
    let style = session.text_style();
    let mut counts = Vec::new();
    for view in &VIEWS {
        for result in session.execute(&format!("SELECT count(*) FROM {}", view.name)).await? {
            for batch in &result.batches {
                let texts = crate::functions::text::texts(batch.column(0), &result.columns[0].pg_type, &style)?;
                counts.push(format!("{} {}", view.name, texts.into_iter().flatten().collect::<String>()));
            }
        }
    }
    Ok(format!("{}; {figures}\n", counts.join(", ")))
}
