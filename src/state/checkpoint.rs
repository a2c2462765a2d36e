//! The run files of a checkpoint: every run is written once, and files that no manifest names are removed.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use super::ipc::StateError;
use super::run::Run;
use crate::storage::Disk;

/// A run that lies in a file; manifests name the state of a step by these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFile {
    pub name: String,
    pub rows: u64,
    pub bytes: u64,
}

/// The directory of run files.
pub struct RunFiles {
    disk: Arc<dyn Disk>,
    dir: String,
    next: AtomicU64,
}

const SUFFIX: &str = ".run";

impl RunFiles {
    /// Opens the directory, made when missing. New files get numbers above all that are there.
    pub fn new(disk: Arc<dyn Disk>, dir: &str) -> Result<Self, StateError> {
        disk.create_dir(dir)?;
        let numbers = disk.list(dir)?.into_iter().filter_map(|name| number_of(&name)).max();
        let next = AtomicU64::new(numbers.map_or(0, |newest| newest + 1));
        Ok(Self { disk, dir: dir.to_string(), next })
    }

    /// Writes a run that has no file yet. The file is synced; its name is durable after [`RunFiles::sync`].
    pub fn write(&self, run: &Run) -> Result<RunFile, StateError> {
        if let Some(file) = run.file.get() {
            return Ok(file.clone());
        }
        let bytes = run.write();
        let name = format!("{:020}{SUFFIX}", self.next.fetch_add(1, Ordering::Relaxed));
        self.disk.write_new(&self.path(&name), &bytes)?;
        let file = RunFile { name, rows: run.len() as u64, bytes: bytes.len() as u64 };
        // If two writers met here, both files hold the run; the one that is not named is removed by `retain`.
        Ok(run.file.get_or_init(|| file).clone())
    }

    /// Makes the names of all files written so far durable, as is needed before a manifest names them.
    pub fn sync(&self) -> Result<(), StateError> {
        Ok(self.disk.sync_dir(&self.dir)?)
    }

    /// Maps a run file of a relation with these columns and this key, and checks all of it. Without a relation, as for
    /// the state of operators, the columns and the key are those that the file names.
    pub fn open(&self, file: &RunFile, relation: Option<(SchemaRef, &[usize])>) -> Result<Arc<Run>, StateError> {
        let path = self.path(&file.name);
        let bytes = self.disk.map(&path)?;
        if bytes.len() as u64 != file.bytes {
            let reason = format!("it has {} bytes, not {}", bytes.len(), file.bytes);
            return Err(StateError::Corrupt { file: path, reason });
        }
        let run = match relation {
            Some((schema, key)) => Run::open(bytes, schema, key.to_vec()),
            None => Run::open_stored(bytes),
        };
        let run = run.map_err(|error| error.of_file(&path))?;
        if run.len() as u64 != file.rows {
            let reason = format!("it has {} rows, not {}", run.len(), file.rows);
            return Err(StateError::Corrupt { file: path, reason });
        }
        run.file.get_or_init(|| file.clone());
        Ok(Arc::new(run))
    }

    /// Removes all run files but those named. Runs that are mapped stay readable.
    pub fn retain(&self, names: &HashSet<String>) -> Result<(), StateError> {
        for name in self.disk.list(&self.dir)? {
            if number_of(&name).is_some() && !names.contains(&name) {
                self.disk.remove(&self.path(&name))?;
            }
        }
        Ok(())
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.dir)
    }
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_suffix(SUFFIX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::FaultyDisk;
    use crate::zset::{parse_rows, pretty_rows};

    fn run() -> Run {
        Run::build(&parse_rows("k INT, s TEXT", "+1 | 1 | a\n-2 | 2 | NULL\n+1 | 3 | a string of some length"), &[0])
    }

    #[test]
    fn a_run_is_written_once_and_comes_back() {
        let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new(1));
        let (files, run) = (RunFiles::new(disk.clone(), "runs").unwrap(), run());
        let file = files.write(&run).unwrap();
        assert_eq!(files.write(&run).unwrap(), file);
        let back = RunFiles::new(disk.clone(), "runs").unwrap().open(&file, Some((run.schema(), &[0]))).unwrap();
        assert_eq!(pretty_rows(back.rows()), pretty_rows(run.rows()));
        assert_eq!(files.write(&back).unwrap(), file);
        let stored = files.open(&file, None).unwrap();
        assert_eq!((stored.key(), pretty_rows(stored.rows())), (&[0][..], pretty_rows(run.rows())));
        assert_eq!(disk.list("runs").unwrap().len(), 1);
    }

    #[test]
    fn files_that_no_manifest_names_are_removed_and_numbers_are_not_used_twice() {
        let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new(1));
        let files = RunFiles::new(disk.clone(), "runs").unwrap();
        let (old, new) = (files.write(&run()).unwrap(), files.write(&run()).unwrap());
        files.retain(&HashSet::from([new.name.clone()])).unwrap();
        assert_eq!(disk.list("runs").unwrap(), std::slice::from_ref(&new.name));
        let later = RunFiles::new(disk, "runs").unwrap().write(&run()).unwrap();
        assert!(later.name > new.name && new.name > old.name);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new(1));
        let (files, run) = (RunFiles::new(disk.clone(), "runs").unwrap(), run());
        let file = files.write(&run).unwrap();
        let path = format!("runs/{}", file.name);
        let mut bytes = disk.read(&path).unwrap();
        bytes[200] ^= 1;
        disk.write_new(&path, &bytes).unwrap();
        let error = files.open(&file, Some((run.schema(), &[0]))).unwrap_err().to_string();
        assert_eq!(error, format!("{path}: the run file is broken: the checksum of its rows does not match"));
        disk.write_new(&path, &bytes[..100]).unwrap();
        assert!(
            files.open(&file, Some((run.schema(), &[0]))).unwrap_err().to_string().contains("it has 100 bytes, not")
        );
    }
}
