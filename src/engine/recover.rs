//! Opening a data directory: newest manifest, its runs, then the log after it, step by step.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::watch;

use super::checkpoint::{Checkpoints, MANIFEST_FORMAT, Manifest, PartFiles};
use super::counters::Counters;
use super::event::Events;
use super::fill::Jobs;
use super::handle::EngineConfig;
use super::ingest::Readers;
use super::outlets::Outlets;
use super::published::Published;
use super::record::StepRecord;
use super::run::Core;
use super::step::Inputs;
use crate::catalog::{Catalog, CatalogEdit, RelationKind};
use crate::dataflow::{Command, Place, SavedPart, Workers};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::state::RunFiles;
use crate::storage::{Disk, Log, LogPosition, ManifestStore};
use crate::zset::{Moment, RelationId, Step};

/// Opens the data directory and brings everything to the last durable step.
pub(super) fn open(config: &EngineConfig, disk: Arc<dyn Disk>, events: Events) -> SqlResult<Core> {
    let manifests = Arc::new(ManifestStore::open(disk.clone(), "checkpoints")?);
    let files = Arc::new(RunFiles::new(disk.clone(), "runs")?);
    let newest = match manifests.newest()? {
        Some((number, body)) => Some((number, read_manifest(&body)?)),
        None => None,
    };
    let from = newest.as_ref().map_or(LogPosition::default(), |(_, manifest)| LogPosition(manifest.log));
    let (log, records) = Log::open(disk, "log", from)?;
    let number = newest.as_ref().map_or(0, |(number, _)| *number);
    let checkpoints = Checkpoints {
        manifests,
        files,
        number,
        log: [from, from],
        named: HashSet::new(),
        running: None,
        at: newest.as_ref().map_or(Step(0), |(_, manifest)| manifest.at.step),
        spilled_at: None,
        not_before: None,
    };
    let mut core = empty(config, events, log, checkpoints)?;
    if let Some((_, manifest)) = newest {
        core.restore(manifest)?;
    } else {
        core.install_restored(HashMap::new(), &BTreeMap::new())?;
    }
    for record in records {
        core.replay(&record.bytes)?;
        Counters::add(&core.counters.steps_replayed, 1);
    }
    core.publish(Vec::new());
    Ok(core)
}

fn read_manifest(body: &[u8]) -> SqlResult<Manifest> {
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }
    let damaged = |error: serde_json::Error| {
        SqlError::new(SqlState::DATA_CORRUPTED, format!("the newest checkpoint's manifest cannot be read: {error}"))
    };
    let Format { format } = serde_json::from_slice(body).map_err(damaged)?;
    if format > MANIFEST_FORMAT {
        let message = format!(
            "the data directory was written by a newer version of Headwater (manifest format {format}, this program reads up to {MANIFEST_FORMAT})"
        );
        return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message));
    }
    serde_json::from_slice(body).map_err(damaged)
}

fn empty(config: &EngineConfig, events: Events, log: Log, checkpoints: Checkpoints) -> SqlResult<Core> {
    let catalog = Arc::new(Catalog::bootstrap());
    let at = Moment { step: Step(0), now: 0 };
    let published =
        Published { moment: at, catalog: catalog.clone(), relations: HashMap::new(), positions: BTreeMap::new() };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.workers.max(2))
        .thread_name("headwater-io")
        .enable_all()
        .build()
        .map_err(|error| SqlError::new(SqlState::IO_ERROR, format!("cannot start threads: {error}")))?;
    let (workers, reports) = Workers::start(config.workers);
    Ok(Core {
        config: config.clone(),
        events,
        runtime,
        log,
        checkpoints,
        workers,
        reports,
        at,
        catalog,
        contents: HashMap::new(),
        flows: HashMap::new(),
        positions: BTreeMap::new(),
        readers: Readers::default(),
        outlets: Outlets::default(),
        outgoing: Vec::new(),
        fills: BTreeMap::new(),
        jobs: Jobs::default(),
        jobs_begun: 0,
        rows_unweighed: 0,
        closing: Vec::new(),
        temporary: Vec::new(),
        published: watch::channel(Arc::new(published)).0,
        failed: watch::channel(None).0,
        counters: Arc::default(),
    })
}

impl Core {
    fn restore(&mut self, manifest: Manifest) -> SqlResult<()> {
        self.at = manifest.at;
        self.catalog = Arc::new(manifest.catalog);
        self.positions = manifest.positions;
        let names = manifest.parts.iter().flat_map(|part| part.runs.iter().map(|run| run.name.clone()));
        self.checkpoints.named = names.collect();
        let mut parts: HashMap<RelationId, Vec<SavedPart>> = HashMap::new();
        for part in manifest.parts {
            let part = self.open_part(part)?;
            parts.entry(part.relation).or_default().push(part);
        }
        self.install_restored(parts, &manifest.fingerprints)
    }

    fn open_part(&self, part: PartFiles) -> SqlResult<SavedPart> {
        // Columns of relations may have been renamed since the run was written; operators' columns have no names.
        let relation = self.catalog.get(part.relation).filter(|_| part.place == Place::Output);
        let kept = |relation| Some((self.catalog.kept_schema(relation)?, relation.arrangement_key()));
        let relation = relation.and_then(|relation| kept(relation));
        let open = |file| {
            let expected = relation.as_ref().map(|(schema, key)| (schema.clone(), key.as_slice()));
            self.checkpoints.files.open(file, expected).map_err(SqlError::from)
        };
        let runs = part.runs.iter().map(open).collect::<SqlResult<_>>()?;
        Ok(SavedPart { relation: part.relation, place: part.place, runs, errors: part.errors })
    }

    /// Installs all relations of the catalog with the state of a checkpoint, then waits until they stand.
    ///
    /// A dataflow that this program would build otherwise than the one that saved the state is filled anew.
    fn install_restored(
        &mut self,
        mut parts: HashMap<RelationId, Vec<SavedPart>>,
        fingerprints: &BTreeMap<RelationId, u64>,
    ) -> SqlResult<()> {
        let catalog = self.catalog.clone();
        for relation in catalog.relations() {
            let saved = parts.remove(&relation.id).unwrap_or_default();
            // What was fed is nowhere else; there is nothing to fill it from anew.
            let is_fed = matches!(relation.kind, RelationKind::Table | RelationKind::Source);
            let fits = |fingerprint| is_fed || fingerprints.get(&relation.id) == Some(&fingerprint);
            let saved = |fingerprint| fits(fingerprint).then_some(saved);
            let Some(install) = self.install_of(relation, &catalog, saved)? else { continue };
            self.workers.send(&Command::Install(Arc::new(install)));
            if relation.kind == RelationKind::Sink {
                self.reopen_sink(relation);
            }
        }
        // The checkpoint's own step once more, without rows, makes every worker report what it has restored.
        self.feed(Inputs::default().into_record(self.at), Vec::new());
        let changes = self.collect(self.at.step)?;
        self.publish(changes);
        Ok(())
    }

    /// Takes a step again as its record says.
    fn replay(&mut self, bytes: &[u8]) -> SqlResult<()> {
        let before = self.catalog.clone();
        let schema_of = |edits: &[CatalogEdit], id: RelationId| {
            let after = edits.iter().fold((*before).clone(), |catalog, edit| catalog.apply(edit));
            after.get(id).map(|relation| relation.arrow_schema())
        };
        let mut record = StepRecord::decode(bytes, schema_of)?;
        assert!(record.at.step > self.at.step, "the log's steps rise");
        for id in std::mem::take(&mut record.reread) {
            let rows = self.reread(id, self.positions.get(&id).cloned(), record.positions.get(&id).cloned())?;
            record.deltas.push((id, rows));
        }
        let commands = self.apply_edits(&record.edits)?;
        let step = record.at.step;
        self.feed(record, commands);
        let changes = self.collect(step)?;
        self.publish(changes);
        Ok(())
    }
}
