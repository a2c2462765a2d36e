//! The one door to the file system: the `Disk` trait, and the real disk below a data directory.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

/// Files below one data directory. All paths are relative to it, with `/` between names.
///
/// Errors carry what was tried and on which file; their kind tells a full disk apart. A name is durable only after
/// [`Disk::sync_dir`] of its directory, a content only after `sync`.
pub trait Disk: Send + Sync {
    /// Opens a file for appending, made empty if there was none.
    fn open_append(&self, path: &str) -> io::Result<Box<dyn AppendFile>>;
    /// Makes a new file with this content, synced. A file of that name (left by a crash) is replaced.
    fn write_new(&self, path: &str, bytes: &[u8]) -> io::Result<()>;
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;
    /// The content of a file that nobody will shorten, mapped into memory.
    fn map(&self, path: &str) -> io::Result<Bytes>;
    /// Replaces `to` if there is one, at once.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, path: &str) -> io::Result<()>;
    /// The names in a directory, sorted; `""` is the data directory itself.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    /// Makes a directory and those above it; one that is there already is fine.
    fn create_dir(&self, dir: &str) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    fn exists(&self, path: &str) -> io::Result<bool>;
}

/// A file that grows at its end.
pub trait AppendFile: Send {
    /// Writes all bytes at the end. After an error any part of them may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes all that was appended durable. After an error nobody knows what is: the file must not be used again.
    fn sync(&mut self) -> io::Result<()>;
    fn len(&self) -> u64;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Cuts the file to its first `len` bytes.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

/// A directory of the file system, locked against every other process for as long as this value lives.
pub struct RealDisk {
    root: PathBuf,
    _lock: File,
}

const LOCK_FILE: &str = "LOCK";

impl RealDisk {
    /// Opens the data directory, made when missing. If another process has it: `WouldBlock`, with one clear sentence.
    pub fn open(root: &Path) -> io::Result<RealDisk> {
        fs::create_dir_all(root).map_err(|error| told(&error, "make the data directory", root))?;
        let root = fs::canonicalize(root).map_err(|error| told(&error, "open the data directory", root))?;
        let lock = lock(&root)?;
        Ok(RealDisk { root, _lock: lock })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, path: &str) -> PathBuf {
        let path = Path::new(path);
        assert!(
            path.components().all(|part| matches!(part, Component::Normal(_))),
            "stored files lie below the data directory: {path:?}"
        );
        self.root.join(path)
    }
}

fn lock(root: &Path) -> io::Result<File> {
    let path = root.join(LOCK_FILE);
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = open.map_err(|error| told(&error, "open", &path))?;
    match file.try_lock() {
        Ok(()) => {
            let note = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
            note.map_err(|error| told(&error, "write", &path))?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            // The number only helps to find the process; a lock file without it is no reason to say less.
            let known = file.read_to_string(&mut owner).is_ok() && !owner.trim().is_empty();
            let owner = if known { format!(" (process {})", owner.trim()) } else { String::new() };
            let text = format!("the data directory {root:?} is in use by another headwater{owner}");
            Err(io::Error::new(io::ErrorKind::WouldBlock, text))
        }
        Err(TryLockError::Error(error)) => Err(told(&error, "lock", &path)),
    }
}

/// The same error with what was tried on which file; the kind stays.
fn told(error: &io::Error, what: &str, path: &Path) -> io::Error {
    let reason = match error.kind() {
        io::ErrorKind::StorageFull => "no space left on the file system".to_string(),
        io::ErrorKind::QuotaExceeded => "the disk quota is used up".to_string(),
        _ => {
            // std appends "(os error 13)", which tells a user nothing.
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or(&text).to_lowercase()
        }
    };
    io::Error::new(error.kind(), format!("cannot {what} {path:?}: {reason}"))
}

impl Disk for RealDisk {
    fn open_append(&self, path: &str) -> io::Result<Box<dyn AppendFile>> {
        let path = self.path(path);
        let open = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let file = open.map_err(|error| told(&error, "open", &path))?;
        let len = file.metadata().map_err(|error| told(&error, "read the size of", &path))?.len();
        Ok(Box::new(RealFile { file, len, path }))
    }

    fn write_new(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(path);
        // An old file is unlinked and not overwritten, because somebody may have mapped it.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(told(&error, "replace", &path)),
            _ => {}
        }
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|error| told(&error, "write", &path))
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let path = self.path(path);
        fs::read(&path).map_err(|error| told(&error, "read", &path))
    }

    fn map(&self, path: &str) -> io::Result<Bytes> {
        let path = self.path(path);
        let file = File::open(&path).map_err(|error| told(&error, "open", &path))?;
        let len = file.metadata().map_err(|error| told(&error, "read the size of", &path))?.len();
        if len == 0 {
            return Ok(Bytes::new());
        }
        #[expect(
            unsafe_code,
            reason = "a mapping cannot be made safely; the lock keeps other processes of ours away \
                                        from the files, and none of ours is changed below its mapped length"
        )]
        let map = unsafe { memmap2::Mmap::map(&file) };
        Ok(Bytes::from_owner(map.map_err(|error| told(&error, "map", &path))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.path(from), self.path(to));
        fs::rename(&from, &to).map_err(|error| told(&error, "rename a file to", &to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let path = self.path(path);
        fs::remove_file(&path).map_err(|error| told(&error, "remove", &path))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let dir = self.path(dir);
        let names = || {
            let entries = fs::read_dir(&dir)?;
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<io::Result<Vec<_>>>()
        };
        let mut names = names().map_err(|error| told(&error, "list", &dir))?;
        names.sort();
        Ok(names)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let dir = self.path(dir);
        fs::create_dir_all(&dir).map_err(|error| told(&error, "make the directory", &dir))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let dir = self.path(dir);
        let sync = File::open(&dir).and_then(|file| file.sync_all());
        sync.map_err(|error| told(&error, "sync the directory", &dir))
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        let path = self.path(path);
        fs::exists(&path).map_err(|error| told(&error, "look for", &path))
    }
}

struct RealFile {
    file: File,
    len: u64,
    path: PathBuf,
}

impl AppendFile for RealFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).map_err(|error| told(&error, "write", &self.path))?;
        self.len += bytes.len() as u64;
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        // The length is part of what fdatasync keeps; times of change are not and need not be.
        self.file.sync_data().map_err(|error| told(&error, "sync", &self.path))
    }
    fn len(&self) -> u64 {
        self.len
    }
    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let cut = self.file.set_len(len).and_then(|()| self.file.seek(io::SeekFrom::End(0)));
        cut.map_err(|error| told(&error, "cut", &self.path))?;
        self.len = len;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_opener_is_refused_with_one_sentence() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = RealDisk::open(&dir.path().join("data")).expect("the first opener gets the lock");
        let second = RealDisk::open(&dir.path().join("data")).err().expect("the second is refused");
        assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
        assert!(second.to_string().contains("is in use by another headwater (process "), "{second}");
        drop(first);
        RealDisk::open(&dir.path().join("data")).expect("free again");
    }

    #[test]
    fn files_are_appended_cut_mapped_listed_renamed_and_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let disk = RealDisk::open(dir.path()).expect("opens");
        disk.create_dir("a/b").expect("makes both");
        let mut file = disk.open_append("a/b/f").expect("opens");
        file.append(b"hello world").expect("appends");
        file.truncate(5).expect("cuts");
        file.append(b"!").expect("appends at the new end");
        file.sync().expect("syncs");
        assert_eq!(file.len(), 6);
        assert_eq!(disk.open_append("a/b/f").expect("opens").len(), 6);
        assert_eq!(disk.map("a/b/f").expect("maps").as_ref(), b"hello!");
        disk.write_new("a/b/g", b"").expect("writes");
        disk.write_new("a/b/g", b"x").expect("replaces");
        disk.rename("a/b/g", "a/b/h").expect("renames");
        disk.sync_dir("a/b").expect("syncs");
        assert_eq!(disk.list("a/b").expect("lists"), ["f", "h"]);
        disk.remove("a/b/f").expect("removes");
        assert!(!disk.exists("a/b/f").expect("looks"));
        assert_eq!(disk.list("").expect("lists"), ["LOCK", "a"]);
    }

    #[test]
    fn errors_name_the_file_and_what_was_tried() {
        let dir = tempfile::tempdir().expect("a directory");
        let disk = RealDisk::open(dir.path()).expect("opens");
        let error = disk.read("nowhere").expect_err("there is no such file");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with("cannot read ") && error.to_string().contains("nowhere"), "{error}");
        assert!(error.to_string().ends_with(": no such file or directory"), "{error}");
    }
}
