//! A disk in memory that fails and forgets as disks do: for tests of everything that must survive.
//!
//! It keeps what a process sees apart from what would be found after a loss of power. Content becomes durable by
//! `sync`, names by `sync_dir`. After a failed `sync` the bytes are gone although reading still shows them, as on
//! Linux. All choices follow from the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use super::disk::{AppendFile, Disk};

/// What a crash does to bytes and names that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// All of them are there: the process died, the machine did not.
    Nothing,
    /// All of them are gone.
    Everything,
    /// Some first part of each file's new bytes, and of the changes of names, is there.
    Part,
    /// Of each file's new bytes some sectors of 512 bytes are there, the others are zero.
    Torn,
}

impl Loss {
    pub const ALL: [Loss; 4] = [Loss::Nothing, Loss::Everything, Loss::Part, Loss::Torn];
}

/// Whether a fault happens at one call only or at every call from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    Once,
    Forever,
}

/// The disk. Clones share one content, like two handles of a file system.
#[derive(Clone)]
pub struct FaultyDisk(Arc<Mutex<Inside>>);

#[derive(Default)]
struct Inside {
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Changes of names since the last `sync_dir`, in order.
    pending: Vec<NameChange>,
    dirs: BTreeSet<String>,
    calls: u64,
    syncs: u64,
    fault: Option<Fault>,
    crashed: bool,
    random: u64,
}

#[derive(Default, Clone)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Bytes that a failed sync lost: reading shows them, the disk will never have them.
    lost: Vec<(usize, usize)>,
}

#[derive(Clone)]
enum NameChange {
    Link(String, usize),
    Unlink(String),
    Rename(String, String),
}

#[derive(Clone, Copy)]
enum Fault {
    CrashAtSync(u64),
    CrashAtCall(u64),
    FailAtCall(u64, io::ErrorKind, Repeat),
}

impl FaultyDisk {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Inside { random: seed, ..Inside::default() })))
    }
    /// The `n`-th sync of a file from here (from 1) does not happen, nor does anything after it.
    pub fn crash_at_sync(&self, n: u64) {
        let mut inside = self.inside();
        inside.fault = Some(Fault::CrashAtSync(inside.syncs + n));
    }
    /// The `n`-th call of any kind from here (from 1) does not happen, nor does anything after it.
    pub fn crash_at_call(&self, n: u64) {
        let mut inside = self.inside();
        inside.fault = Some(Fault::CrashAtCall(inside.calls + n));
    }
    /// The `n`-th call from here (from 1) fails with an error of this kind; a write has maybe written a part.
    pub fn fail_at_call(&self, n: u64, kind: io::ErrorKind, repeat: Repeat) {
        let mut inside = self.inside();
        inside.fault = Some(Fault::FailAtCall(inside.calls + n, kind, repeat));
    }
    /// From here on no call fails any more, unless the disk has crashed.
    pub fn heal(&self) {
        self.inside().fault = None;
    }
    pub fn has_crashed(&self) -> bool {
        self.inside().crashed
    }
    /// Calls made so far.
    pub fn calls(&self) -> u64 {
        self.inside().calls
    }
    /// Syncs of files made so far.
    pub fn syncs(&self) -> u64 {
        self.inside().syncs
    }
    /// What a machine finds when it starts again after losing power at this moment.
    pub fn after_crash(&self, loss: Loss) -> FaultyDisk {
        let mut inside = self.inside();
        let changes = inside.pending.len();
        let kept = match loss {
            Loss::Nothing => changes,
            Loss::Everything => 0,
            Loss::Part | Loss::Torn => inside.below(changes + 1),
        };
        let mut names = inside.durable_names.clone();
        inside.pending[..kept].to_vec().iter().for_each(|change| change.apply(&mut names));
        let mut found = Inside { dirs: inside.dirs.clone(), random: inside.next_random(), ..Inside::default() };
        for (name, file) in names {
            let content = inside.files[file].clone();
            let bytes = content.after_crash(loss, &mut inside);
            found.names.insert(name, found.files.len());
            found.files.push(Content { live: bytes.clone(), durable: bytes, lost: Vec::new() });
        }
        found.durable_names = found.names.clone();
        FaultyDisk(Arc::new(Mutex::new(found)))
    }
    /// Changes a file behind everybody's back, as a rotting disk does.
    pub fn spoil(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut inside = self.inside();
        let file = inside.names[path];
        change(&mut inside.files[file].live);
        inside.files[file].durable = inside.files[file].live.clone();
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().expect("no call panics while it holds the disk")
    }
}

impl Inside {
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.random;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next_random() % bound as u64).expect("less than a usize")
    }
    /// Counts a call, and fails it if its turn has come.
    fn call(&mut self, what: &str, path: &str) -> io::Result<()> {
        self.calls += 1;
        let calls = self.calls;
        match self.fault {
            Some(Fault::CrashAtCall(at)) if calls >= at => self.crashed = true,
            Some(Fault::FailAtCall(at, kind, repeat))
                if !self.crashed && (calls == at || (calls > at && repeat == Repeat::Forever)) =>
            {
                return Err(io::Error::new(kind, format!("cannot {what} {path:?}: injected fault")));
            }
            _ => {}
        }
        self.alive()
    }
    fn alive(&self) -> io::Result<()> {
        if self.crashed { Err(io::Error::other("the machine has lost power")) } else { Ok(()) }
    }
    fn file(&self, what: &str, path: &str) -> io::Result<usize> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("cannot {what} {path:?}: no such file"));
        self.names.get(path).copied().ok_or_else(missing)
    }
    fn link(&mut self, path: &str) -> usize {
        let file = self.files.len();
        self.files.push(Content::default());
        self.change(NameChange::Link(path.to_string(), file));
        file
    }
    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending.push(change);
    }
    fn append(&mut self, file: usize, path: &str, bytes: &[u8]) -> io::Result<()> {
        let verdict = self.call("write", path);
        let written = match &verdict {
            Ok(()) => bytes.len(),
            Err(_) if self.crashed => 0,
            Err(_) => self.below(bytes.len() + 1),
        };
        self.files[file].live.extend_from_slice(&bytes[..written]);
        verdict
    }
    fn sync(&mut self, file: usize, path: &str) -> io::Result<()> {
        self.syncs += 1;
        if matches!(self.fault, Some(Fault::CrashAtSync(at)) if self.syncs >= at) {
            self.crashed = true;
        }
        let verdict = self.call("sync", path);
        match &verdict {
            Ok(()) => self.files[file].sync(),
            Err(_) if self.crashed => {}
            Err(_) => self.files[file].lose(),
        }
        verdict
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            NameChange::Link(path, file) => drop(names.insert(path.clone(), *file)),
            NameChange::Unlink(path) => drop(names.remove(path)),
            NameChange::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
        }
    }
    fn dir(&self) -> &str {
        match self {
            NameChange::Link(path, _) | NameChange::Unlink(path) | NameChange::Rename(_, path) => dir_of(path),
        }
    }
}

fn dir_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

const SECTOR: usize = 512;

impl Content {
    fn sync(&mut self) {
        self.durable.clone_from(&self.live);
        let len = self.durable.len();
        for (from, to) in &self.lost {
            self.durable[(*from).min(len)..(*to).min(len)].fill(0);
        }
    }
    fn lose(&mut self) {
        if self.live.len() > self.durable.len() {
            self.lost.push((self.durable.len(), self.live.len()));
        }
    }
    fn after_crash(&self, loss: Loss, inside: &mut Inside) -> Vec<u8> {
        let grown = self.live.len() >= self.durable.len();
        match loss {
            Loss::Nothing => self.live.clone(),
            Loss::Everything => self.durable.clone(),
            _ if !grown => {
                if inside.below(2) == 0 {
                    self.durable.clone()
                } else {
                    self.live.clone()
                }
            }
            Loss::Part => {
                let kept = self.durable.len() + inside.below(self.live.len() - self.durable.len() + 1);
                [&self.durable[..], &self.live[self.durable.len()..kept]].concat()
            }
            Loss::Torn => {
                let mut bytes = [&self.durable[..], &self.live[self.durable.len()..]].concat();
                let mut at = self.durable.len();
                while at < bytes.len() {
                    let end = ((at / SECTOR + 1) * SECTOR).min(bytes.len());
                    if inside.below(2) == 0 {
                        bytes[at..end].fill(0);
                    }
                    at = end;
                }
                bytes
            }
        }
    }
}

impl Disk for FaultyDisk {
    fn open_append(&self, path: &str) -> io::Result<Box<dyn AppendFile>> {
        let mut inside = self.inside();
        inside.call("open", path)?;
        let known = inside.names.get(path).copied();
        let file = known.unwrap_or_else(|| inside.link(path));
        Ok(Box::new(FaultyFile { disk: self.clone(), file, path: path.to_string() }))
    }
    fn write_new(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut inside = self.inside();
        inside.call("open", path)?;
        let file = inside.link(path);
        inside.append(file, path, bytes)?;
        inside.sync(file, path)
    }
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut inside = self.inside();
        inside.call("read", path)?;
        let file = inside.file("read", path)?;
        Ok(inside.files[file].live.clone())
    }
    fn map(&self, path: &str) -> io::Result<Bytes> {
        self.read(path).map(Bytes::from)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inside = self.inside();
        inside.call("rename", from)?;
        inside.file("rename", from)?;
        inside.change(NameChange::Rename(from.to_string(), to.to_string()));
        Ok(())
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        let mut inside = self.inside();
        inside.call("remove", path)?;
        inside.file("remove", path)?;
        inside.change(NameChange::Unlink(path.to_string()));
        Ok(())
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut inside = self.inside();
        inside.call("list", dir)?;
        let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        let below = inside.names.keys().chain(&inside.dirs).filter_map(|path| path.strip_prefix(&prefix));
        let names: BTreeSet<String> = below.filter_map(|rest| rest.split('/').next()).map(String::from).collect();
        Ok(names.into_iter().filter(|name| !name.is_empty()).collect())
    }
    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let mut inside = self.inside();
        inside.call("make the directory", dir)?;
        inside.dirs.insert(dir.to_string());
        Ok(())
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut inside = self.inside();
        inside.call("sync the directory", dir)?;
        let (synced, pending) = inside.pending.clone().into_iter().partition(|change| change.dir() == dir);
        inside.pending = pending;
        let synced: Vec<NameChange> = synced;
        synced.iter().for_each(|change| change.apply(&mut inside.durable_names));
        Ok(())
    }
    fn exists(&self, path: &str) -> io::Result<bool> {
        let mut inside = self.inside();
        inside.call("look for", path)?;
        Ok(inside.names.contains_key(path) || inside.dirs.contains(path))
    }
}

struct FaultyFile {
    disk: FaultyDisk,
    file: usize,
    path: String,
}

impl AppendFile for FaultyFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.inside().append(self.file, &self.path, bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.disk.inside().sync(self.file, &self.path)
    }
    fn len(&self) -> u64 {
        self.disk.inside().files[self.file].live.len() as u64
    }
    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut inside = self.disk.inside();
        inside.call("cut", &self.path)?;
        let len = usize::try_from(len).expect("files in memory are small");
        let content = &mut inside.files[self.file];
        content.live.truncate(len);
        content.lost.iter_mut().for_each(|(from, to)| (*from, *to) = ((*from).min(len), (*to).min(len)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_synced_one_not() -> FaultyDisk {
        let disk = FaultyDisk::new(7);
        let mut file = disk.open_append("f").expect("opens");
        file.append(b"kept").expect("appends");
        file.sync().expect("syncs");
        disk.sync_dir("").expect("syncs");
        file.append(b" lost").expect("appends");
        disk.write_new("g", b"nameless").expect("writes");
        disk
    }

    #[test]
    fn unsynced_bytes_and_names_are_lost() {
        let found = one_synced_one_not().after_crash(Loss::Everything);
        assert_eq!(found.read("f").expect("reads"), b"kept");
        assert!(!found.exists("g").expect("looks"));
        let found = one_synced_one_not().after_crash(Loss::Nothing);
        assert_eq!(found.read("f").expect("reads"), b"kept lost");
        assert_eq!(found.read("g").expect("reads"), b"nameless");
    }

    #[test]
    fn what_was_synced_survives_every_kind_of_loss() {
        for loss in Loss::ALL {
            let bytes = one_synced_one_not().after_crash(loss).read("f").expect("reads");
            assert!(bytes.starts_with(b"kept") && bytes.len() <= 9, "{loss:?}: {bytes:?}");
        }
    }

    #[test]
    fn after_the_crash_every_call_fails() {
        let disk = FaultyDisk::new(1);
        disk.crash_at_sync(2);
        let mut file = disk.open_append("f").expect("opens");
        file.sync().expect("the first sync works");
        file.sync().expect_err("the second does not");
        file.append(b"x").expect_err("nor anything after it");
        assert!(disk.has_crashed());
    }

    #[test]
    fn a_failed_sync_loses_the_bytes_although_reading_shows_them() {
        let disk = FaultyDisk::new(1);
        let mut file = disk.open_append("f").expect("opens");
        disk.sync_dir("").expect("syncs");
        file.append(b"ab").expect("appends");
        disk.fail_at_call(1, io::ErrorKind::Other, Repeat::Once);
        file.sync().expect_err("injected");
        file.append(b"c").expect("appends");
        file.sync().expect("works, and is believed");
        assert_eq!(disk.read("f").expect("reads"), b"abc");
        assert_eq!(disk.after_crash(Loss::Everything).read("f").expect("reads"), b"\0\0c");
    }
}
