//! Manifests: small files that say what a checkpoint consists of, replaced at once and never changed.
//!
//! ```text
//!  0  "HWMANIF" and the format's number   8 bytes
//!  8  number of the manifest              u64
//! 16  length of the body                  u64
//! 24  crc32 of bytes 0..24 and the body   u32
//! 28  body
//! ```

use std::sync::Arc;

use super::checksum::{crc32_of, u32_at, u64_at};
use super::disk::Disk;
use super::error::StorageError;

/// The manifests in one directory: the last two are kept, so that one that rots does not end everything.
///
/// Whoever removes what a manifest names (files, old log segments) must keep what the older one names too.
pub struct ManifestStore {
    disk: Arc<dyn Disk>,
    dir: String,
}

const MAGIC: &[u8; 7] = b"HWMANIF";
const FORMAT: u8 = 1;
const HEADER: usize = 28;
const KEPT: usize = 2;

impl ManifestStore {
    /// The store in `dir`, made when missing; `""` is the data directory itself.
    pub fn open(disk: Arc<dyn Disk>, dir: &str) -> Result<Self, StorageError> {
        if !dir.is_empty() {
            disk.create_dir(dir)?;
        }
        Ok(Self { disk, dir: dir.to_string() })
    }

    /// The newest sound manifest: its number and body. `None` if there never was one; an error if none is sound.
    pub fn newest(&self) -> Result<Option<(u64, Vec<u8>)>, StorageError> {
        Ok(self.all()?.into_iter().next())
    }

    /// All sound manifests that are kept, newest first.
    pub fn all(&self) -> Result<Vec<(u64, Vec<u8>)>, StorageError> {
        let mut sound = Vec::new();
        let mut first_damage = None;
        for number in self.numbers()?.into_iter().rev() {
            match self.read(number) {
                Ok(body) => sound.push((number, body)),
                Err(error @ StorageError::Corrupt { .. }) => {
                    tracing::warn!("{error}; an older manifest is used if there is one");
                    first_damage.get_or_insert(error);
                }
                Err(other) => return Err(other),
            }
        }
        match first_damage {
            Some(damage) if sound.is_empty() => Err(damage),
            _ => Ok(sound),
        }
    }

    /// Writes a manifest, durable when this returns, and removes all but the last two. Numbers only grow.
    pub fn write(&self, number: u64, body: &[u8]) -> Result<(), StorageError> {
        let unnamed = self.path("new-manifest");
        self.disk.write_new(&unnamed, &sealed(number, body))?;
        self.disk.rename(&unnamed, &self.path_of(number))?;
        self.disk.sync_dir(&self.dir)?;
        let numbers = self.numbers()?;
        for old in &numbers[..numbers.len().saturating_sub(KEPT)] {
            self.disk.remove(&self.path_of(*old))?;
        }
        Ok(())
    }

    fn path(&self, name: &str) -> String {
        if self.dir.is_empty() { name.to_string() } else { format!("{}/{name}", self.dir) }
    }

    fn path_of(&self, number: u64) -> String {
        self.path(&format!("manifest-{number:020}"))
    }

    fn numbers(&self) -> Result<Vec<u64>, StorageError> {
        let names = self.disk.list(&self.dir)?;
        let numbers = names.iter().filter_map(|name| name.strip_prefix("manifest-")?.parse().ok());
        let mut numbers: Vec<u64> = numbers.collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn read(&self, number: u64) -> Result<Vec<u8>, StorageError> {
        let path = self.path_of(number);
        let bytes = self.disk.read(&path)?;
        let damaged = |offset, reason: &str| Err(StorageError::corrupt(&path, offset, reason));
        if bytes.len() < HEADER || !bytes.starts_with(MAGIC) {
            return damaged(0, "it does not begin as a manifest does");
        }
        if bytes[7] > FORMAT {
            return Err(StorageError::Newer { file: path, found: bytes[7], known: FORMAT });
        }
        let body = &bytes[HEADER..];
        if u64_at(&bytes, 8) != Some(number) || u64_at(&bytes, 16) != Some(body.len() as u64) {
            return damaged(8, "its header does not match");
        }
        if u32_at(&bytes, 24) != Some(crc32_of(&[&bytes[..24], body])) {
            return damaged(24, "it does not match its checksum");
        }
        Ok(body.to_vec())
    }
}

fn sealed(number: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(MAGIC);
    bytes.push(FORMAT);
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&crc32_of(&[&bytes[..24], body]).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::{FaultyDisk, Loss};
    use super::*;

    fn store(disk: &FaultyDisk) -> ManifestStore {
        ManifestStore::open(Arc::new(disk.clone()), "meta").expect("opens")
    }

    #[test]
    fn the_newest_is_read_and_two_are_kept() {
        let disk = FaultyDisk::new(1);
        assert_eq!(store(&disk).newest(), Ok(None));
        for number in 1..=5 {
            store(&disk).write(number * 10, format!("body {number}").as_bytes()).expect("writes");
        }
        assert_eq!(store(&disk).newest(), Ok(Some((50, b"body 5".to_vec()))));
        assert_eq!(disk.list("meta").expect("lists").len(), 2);
        disk.spoil("meta/manifest-00000000000000000050", |bytes| bytes[30] ^= 1);
        assert_eq!(store(&disk).newest(), Ok(Some((40, b"body 4".to_vec()))), "the older one steps in");
        disk.spoil("meta/manifest-00000000000000000040", |bytes| bytes.truncate(30));
        let error = store(&disk).newest().expect_err("none is left");
        assert!(error.to_string().starts_with("meta/manifest-00000000000000000050 is damaged at byte"), "{error}");
    }

    #[test]
    fn every_flipped_byte_is_found() {
        let disk = FaultyDisk::new(1);
        store(&disk).write(1, b"the body of a manifest").expect("writes");
        let name = "meta/manifest-00000000000000000001";
        for at in 0..disk.read(name).expect("reads").len() {
            let copy = disk.after_crash(Loss::Nothing);
            copy.spoil(name, |bytes| bytes[at] ^= 0x10);
            store(&copy).newest().expect_err("damage is found");
        }
    }

    #[test]
    fn a_newer_format_is_refused_although_an_older_manifest_is_there() {
        let disk = FaultyDisk::new(1);
        store(&disk).write(1, b"a").expect("writes");
        store(&disk).write(2, b"b").expect("writes");
        disk.spoil("meta/manifest-00000000000000000002", |bytes| bytes[7] = 2);
        assert!(matches!(store(&disk).newest(), Err(StorageError::Newer { found: 2, .. })));
    }

    #[test]
    fn a_crash_at_any_call_leaves_the_old_or_the_new_one() {
        for n in 1.. {
            for loss in Loss::ALL {
                let disk = FaultyDisk::new(n);
                store(&disk).write(1, b"old").expect("writes");
                disk.crash_at_call(n);
                let written = store_after(&disk).and_then(|store| store.write(2, b"new"));
                let found = store(&disk.after_crash(loss)).newest().expect("one is sound").expect("one is there");
                assert!(found == (1, b"old".to_vec()) && written.is_err() || found == (2, b"new".to_vec()), "{n}");
                if written.is_ok() {
                    return;
                }
            }
        }
    }

    fn store_after(disk: &FaultyDisk) -> Result<ManifestStore, StorageError> {
        ManifestStore::open(Arc::new(disk.clone()), "meta")
    }
}
