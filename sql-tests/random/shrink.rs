//! Makes a story with a wrong view shorter as long as the view stays wrong: fewer statements, fewer rows, a smaller query.

use std::time::{Duration, Instant};

use super::{Event, Fault, Suspect, check_by_postgres, check_view, mentions};
use crate::client::{Client, Outcome};
use crate::server::{Server, postgres_database};

/// After this time the smallest story found so far will do.
const PATIENCE: Duration = Duration::from_secs(60);
/// A story with fewer events is small enough.
const SMALL: usize = 3;

/// The statements of the smallest story found in which the view is wrong; `None` if it is not wrong in a replay without
/// kills and transactions.
pub async fn shrink(story: &[Event], suspect: &Suspect, with_postgres: bool, workers: usize) -> Option<String> {
    let mut stage = Stage::start(suspect, with_postgres, workers).await.ok()?;
    let needed = needed(story, &suspect.name);
    let mut story: Vec<Event> = story
        .iter()
        .filter(|event| match event {
            Event::View { name, .. } => needed.contains(name),
            Event::Other(_) => false,
            _ => true,
        })
        .cloned()
        .collect();
    let mut wrong = stage.wrong(&story).await?;
    loop {
        let before = story.len() + text(&story).len();
        for smaller in with_smaller_queries(&story, &suspect.name) {
            if let Some(reason) = stage.wrong(&smaller).await {
                (story, wrong) = (smaller, reason);
                break;
            }
        }
        story = fewer(&mut stage, story, &mut wrong).await;
        let split: Vec<Event> = story.iter().flat_map(split).collect();
        if split.len() > story.len()
            && let Some(reason) = stage.wrong(&split).await
        {
            wrong = reason;
            story = fewer(&mut stage, split, &mut wrong).await;
        }
        if story.len() + text(&story).len() >= before || stage.is_out_of_time() {
            break;
        }
    }
    Some(format!("{}{wrong}", text(&story)))
}

fn text(story: &[Event]) -> String {
    story.iter().map(|event| format!("{};\n", event.sql())).collect()
}

/// The view and those that it reads.
fn needed(story: &[Event], name: &str) -> Vec<String> {
    let mut needed = vec![name.to_owned()];
    for event in story.iter().rev() {
        if let Event::View { name, sql, .. } = event
            && needed.contains(name)
        {
            let reads = |event: &Event| match event {
                Event::View { name, .. } if mentions(sql, name) => Some(name.clone()),
                _ => None,
            };
            needed.extend(story.iter().filter_map(reads));
        }
    }
    needed
}

fn split(event: &Event) -> Vec<Event> {
    match event {
        Event::Change(change) => change.split().into_iter().map(Event::Change).collect(),
        other => vec![other.clone()],
    }
}

/// Stories in which the wrong view is one of the queries inside of it, the smallest first.
fn with_smaller_queries(story: &[Event], suspect: &str) -> Vec<Vec<Event>> {
    let mut stories = Vec::new();
    for (place, event) in story.iter().enumerate() {
        let Event::View { name, parts, sql } = event else { continue };
        if name != suspect {
            continue;
        }
        let mut parts: Vec<&String> = parts.iter().filter(|part| *part != sql).collect();
        parts.sort_by_key(|part| part.len());
        for part in &parts {
            let inside = parts.iter().filter(|other| other.len() < part.len() && part.contains(other.as_str()));
            let parts = inside.map(|part| (*part).clone()).collect();
            let mut story = story.to_vec();
            story[place] = Event::View { name: name.clone(), sql: (*part).clone(), parts };
            stories.push(story);
        }
    }
    stories
}

/// The story without all events that it does not need.
async fn fewer(stage: &mut Stage<'_>, mut story: Vec<Event>, wrong: &mut String) -> Vec<Event> {
    let mut piece = story.len() / 2;
    while piece > 0 && story.len() > SMALL {
        let mut start = 0;
        while start < story.len() && !stage.is_out_of_time() {
            let end = (start + piece).min(story.len());
            let smaller: Vec<Event> = story[..start].iter().chain(&story[end..]).cloned().collect();
            match stage.wrong(&smaller).await {
                Some(reason) => (story, *wrong) = (smaller, reason),
                None => start = end,
            }
        }
        piece /= 2;
    }
    story
}

/// Servers on which stories are played, each in a schema of its own.
struct Stage<'a> {
    suspect: &'a Suspect,
    _server: Server,
    client: Client,
    postgres: Option<Client>,
    played: u32,
    begun: Instant,
}

impl<'a> Stage<'a> {
    async fn start(suspect: &'a Suspect, with_postgres: bool, workers: usize) -> Result<Self, String> {
        let server = Server::start(workers).await?;
        let client = Client::connect(&server.address()).await?;
        let postgres = match with_postgres && suspect.fault != Fault::Law {
            true => Some(Client::connect(&postgres_database().await?).await?),
            false => None,
        };
        Ok(Self { suspect, _server: server, client, postgres, played: 0, begun: Instant::now() })
    }

    fn is_out_of_time(&self) -> bool {
        self.begun.elapsed() > PATIENCE
    }

    /// Plays a story; what is wrong with the view in the end, or at a step before.
    async fn wrong(&mut self, story: &[Event]) -> Option<String> {
        self.played += 1;
        let schema = format!("s{}", self.played);
        self.both(&format!("CREATE SCHEMA {schema}")).await;
        self.both(&format!("SET search_path TO {schema}")).await;
        let mut query = None;
        let mut found = None;
        for event in story {
            let refusal = self.both(&event.sql()).await;
            if let Event::View { name, sql, .. } = event
                && *name == self.suspect.name
            {
                query = Some(sql);
                if self.suspect.fault == Fault::Refusal {
                    found = refusal;
                    break;
                }
            }
            if let Some(sql) = query {
                found = self.is_wrong(sql).await;
            }
            if found.is_some() {
                break;
            }
        }
        self.both(&format!("DROP SCHEMA {schema} CASCADE")).await;
        found
    }

    async fn is_wrong(&self, sql: &str) -> Option<String> {
        let name = &self.suspect.name;
        let checked = match &self.postgres {
            Some(postgres) => check_by_postgres(&self.client, postgres, name).await,
            None => check_view(&self.client, name, sql).await,
        };
        // A view that is not there is not what is looked for.
        checked.err().filter(|reason| !reason.contains("refused with 42"))
    }

    /// Runs a statement on both sides. What is refused in a smaller story has no effect there; the words of a refusal
    /// that PostgreSQL does not share.
    async fn both(&self, sql: &str) -> Option<String> {
        let here = self.client.run(sql).await;
        let mut allowed = true;
        if let Some(postgres) = &self.postgres {
            let there = postgres.run(&sql.replace("MATERIALIZED VIEW", "VIEW")).await;
            allowed = matches!(there, Outcome::Rows { .. });
        }
        match here {
            Outcome::Refused(refusal) if allowed => Some(refusal.text),
            Outcome::Lost(reason) => Some(reason),
            _ => None,
        }
    }
}
