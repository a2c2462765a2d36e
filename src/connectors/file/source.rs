//! Files as a source: once, or followed as they grow, are added and rotated.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::lines::{LineReader, Piece, Span};
use super::settings::{FileSettings, Mode};
use crate::connectors::format::{BadLine, Encoding, OnError, ParquetRows, Target};
use crate::connectors::options::Side;
use crate::connectors::paths::{AllowedPaths, missing};
use crate::connectors::source::{Budget, ConnectorError, DeadLetter, Polled, Position, Source, SourceSpec};
use crate::error::{SqlError, SqlResult, SqlState};

/// Where reading stands in every file. Files that are not named have not been begun.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct FilesAt {
    files: BTreeMap<String, FileAt>,
}

/// Where reading stands in one file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct FileAt {
    /// Bytes (of the unpacked file) or, in Parquet, rows.
    offset: u64,
    /// Lines before the offset.
    lines: u64,
    /// Nothing more will be read from it.
    done: bool,
    /// Tells a file that was renamed from a new one.
    inode: u64,
    /// Tells a file that was replaced from one that grew: inodes are used again.
    head: Head,
}

/// The checksum of the first bytes of a file, of those that were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    length: u64,
    checksum: u32,
}

const HEAD_BYTES: u64 = 1 << 10;

/// What a file showed when it had no complete line left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Looked {
    length: u64,
    inode: u64,
}

/// The source.
pub struct FileSource {
    settings: FileSettings,
    target: Target,
    allowed: AllowedPaths,
    at: FilesAt,
    until: Option<Until>,
    /// Files to read next.
    queue: VecDeque<PathBuf>,
    current: Option<(PathBuf, Reader)>,
    /// Files that had no complete line left; until they change they are left alone.
    exhausted: HashMap<PathBuf, Looked>,
}

/// Where a source that reads again has to stop.
struct Until {
    /// As it was given; what the source says when it has got there.
    position: Position,
    /// The end in each file, by the name that the file has today.
    files: BTreeMap<String, FileAt>,
}

enum Reader {
    Lines(Box<LineReader>),
    Parquet(Box<ParquetRows>),
}

/// What one poll has gathered.
#[derive(Default)]
struct Gathered {
    parts: Vec<RecordBatch>,
    rows: usize,
    dead_letters: Vec<DeadLetter>,
    bytes: u64,
}

/// The first file that a source would read.
pub fn first_file(settings: &FileSettings, allowed: &AllowedPaths) -> SqlResult<PathBuf> {
    let files = allowed.matching(&settings.pattern)?;
    let has_content = |path: &&PathBuf| fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0);
    let first = files.iter().find(has_content).or(files.first());
    first.cloned().ok_or_else(|| nothing_matches(settings))
}

fn nothing_matches(settings: &FileSettings) -> SqlError {
    let message = format!("no file matches \"{}\"", settings.pattern);
    SqlError::new(SqlState::UNDEFINED_FILE, message)
}

/// The same places by the names that the files have now, since files that are followed may be renamed.
fn named_as_today(places: BTreeMap<String, FileAt>, files: &[PathBuf]) -> BTreeMap<String, FileAt> {
    let inode = |path: &PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.ino());
    let today: Vec<(String, u64)> = files.iter().map(|path| (key(path), inode(path))).collect();
    let name_today = |name: &str, at: &FileAt| {
        let same = today.iter().find(|(other, inode)| other == name && *inode == at.inode);
        let renamed = || today.iter().find(|(_, inode)| *inode == at.inode);
        same.or_else(renamed).map_or(name.to_string(), |(today, _)| today.clone())
    };
    places.into_iter().map(|(name, at)| (name_today(&name, &at), at)).collect()
}

fn parse_position(position: &Position) -> SqlResult<FilesAt> {
    let parsed = serde_json::from_value(position.clone());
    parsed.map_err(|_| SqlError::internal(format!("{position} is no position of a source of files")))
}

impl FileSource {
    pub fn open(spec: &SourceSpec) -> SqlResult<FileSource> {
        let settings = FileSettings::read(Side::Source, &spec.options)?;
        let target = Target::new(spec.schema.clone(), settings.on_error);
        let at = spec.from.as_ref().map(parse_position).transpose()?;
        let is_new = at.is_none();
        let mut source = FileSource {
            settings,
            target,
            allowed: spec.allowed_paths.clone(),
            at: at.unwrap_or_default(),
            until: None,
            queue: VecDeque::new(),
            current: None,
            exhausted: HashMap::new(),
        };
        let files = match source.allowed.matching(&source.settings.pattern) {
            // Files that are gone are no reason to lose what was read from them.
            Err(error) if !is_new && error.code == SqlState::UNDEFINED_FILE => Vec::new(),
            files => files?,
        };
        if is_new && files.is_empty() && source.settings.mode == Mode::Once {
            return Err(nothing_matches(&source.settings));
        }
        if is_new && let Some(first) = files.first() {
            // A wrong column list or a wrong encoding is told at CREATE, not by a million dead letters.
            let first = source.open_file(first)?;
            drop(first);
        }
        if let Some(position) = &spec.until {
            let ends = parse_position(position)?;
            source.until = Some(Until { position: position.clone(), files: named_as_today(ends.files, &files) });
            source.at.files = named_as_today(std::mem::take(&mut source.at.files), &files);
        }
        source.enqueue(files);
        Ok(source)
    }

    /// Where the source stands. One that reads again is where it should be only when every file was read so far.
    fn position(&self) -> Position {
        let is_there = |(name, end): (&String, &FileAt)| {
            end.offset == 0 || self.at.files.get(name).is_some_and(|at| at.offset == end.offset)
        };
        match &self.until {
            Some(until) if self.is_finished() && until.files.iter().all(is_there) => until.position.clone(),
            _ => serde_json::to_value(&self.at).expect("a position is plain data"),
        }
    }

    /// Puts the files in line that have something left to read.
    fn enqueue(&mut self, files: Vec<PathBuf>) {
        let before = self.at.files.clone();
        for path in files {
            let Ok(metadata) = fs::metadata(&path) else { continue };
            let looked = Looked { length: metadata.len(), inode: metadata.ino() };
            if self.exhausted.get(&path) == Some(&looked) {
                continue;
            }
            let at = self.follow(&before, &path, looked);
            let has_more = match &self.until {
                Some(until) => until.files.get(&key(&path)).is_some_and(|until| at.offset < until.offset),
                None => !at.done,
            };
            if has_more {
                self.queue.push_back(path);
            }
        }
    }

    /// Where reading stands in a file, which may have been renamed, replaced or cut since. `before` is where it stood
    /// in all files before this look at them: names may have been passed on from file to file.
    fn follow(&mut self, before: &BTreeMap<String, FileAt>, path: &Path, found: Looked) -> FileAt {
        let follows = self.settings.mode == Mode::Tail && self.until.is_none();
        match before.get(&key(path)) {
            Some(at) if !follows => return at.clone(),
            Some(at) if self.is_same(path, found, at) => {
                let at = FileAt { inode: found.inode, ..at.clone() };
                self.at.files.insert(key(path), at.clone());
                return at;
            }
            _ => {}
        }
        // Whatever stands under this name now is another file: perhaps one that had another name.
        let renamed = before.iter().find(|(old, at)| {
            let is_gone = || fs::metadata(old).map_or(true, |metadata| metadata.ino() != at.inode);
            follows && at.inode == found.inode && is_gone() && self.is_same(path, found, at)
        });
        let renamed = renamed.map(|(old, at)| (old.clone(), at.clone()));
        let at = match renamed {
            Some((old, at)) => {
                if self.at.files.get(&old) == Some(&at) {
                    self.at.files.remove(&old);
                }
                at
            }
            None => FileAt { inode: found.inode, ..FileAt::default() },
        };
        self.at.files.insert(key(path), at.clone());
        at
    }

    /// True if the file at `path` is the one that was read up to `at`. A file with another inode is the same only if
    /// enough of it is: a directory that was copied to another machine.
    fn is_same(&self, path: &Path, found: Looked, at: &FileAt) -> bool {
        if self.is_packed(path) {
            return found.inode == at.inode;
        }
        found.length >= at.offset
            && (found.inode == at.inode || at.head.length == HEAD_BYTES)
            && self.head(path, at.head.length) == Some(at.head)
    }

    fn head(&self, path: &Path, length: u64) -> Option<Head> {
        let mut bytes = Vec::new();
        if length > 0 {
            self.allowed.open(path).ok()?.take(length).read_to_end(&mut bytes).ok()?;
        }
        Some(Head { length: bytes.len() as u64, checksum: crc32fast::hash(&bytes) })
    }

    fn is_packed(&self, path: &Path) -> bool {
        self.settings.encoding == Encoding::Parquet || self.settings.is_gzip(path)
    }

    /// `None`: the file is not ready to be read.
    fn open_file(&self, path: &Path) -> SqlResult<Option<Reader>> {
        let at = self.at.files.get(&key(path)).cloned().unwrap_or_default();
        if self.settings.encoding == Encoding::Parquet {
            let file = self.allowed.open(path)?;
            let place = path.display().to_string();
            let reader = ParquetRows::open(file, &place, at.offset, 8_192, &self.target)?;
            return Ok(Some(Reader::Parquet(Box::new(reader))));
        }
        let limit = self.until.as_ref().and_then(|until| until.files.get(&key(path))).map(|until| until.offset);
        let is_final = self.settings.mode == Mode::Once;
        let span = Span { offset: at.offset, line: at.lines + 1, limit, is_final };
        let reader = LineReader::open(path, &self.allowed, &self.settings, &self.target, &span)?;
        Ok(reader.map(|reader| Reader::Lines(Box::new(reader))))
    }

    /// Takes up the next file. False: none is left for now.
    fn next_file(&mut self, gathered: &mut Gathered) -> Result<bool, ConnectorError> {
        if self.queue.is_empty() && self.settings.mode == Mode::Tail && self.until.is_none() {
            // A link that leads outside since the source was made is not followed, and stops nothing.
            let files = self.allowed.matching(&self.settings.pattern).unwrap_or_default();
            self.enqueue(files);
        }
        let Some(path) = self.queue.pop_front() else { return Ok(false) };
        let metadata = fs::metadata(&path);
        let looked = metadata.map(|metadata| Looked { length: metadata.len(), inode: metadata.ino() });
        let looked = looked.unwrap_or(Looked { length: 0, inode: 0 });
        match self.open_file(&path) {
            Ok(Some(reader)) => self.current = Some((path, reader)),
            Ok(None) => {
                self.exhausted.insert(path, looked);
            }
            Err(_) if self.settings.mode == Mode::Tail && !path.exists() => {}
            Err(error) if error.code == SqlState::UNDEFINED_FILE => return Err(missing(&path).into()),
            Err(_) if self.settings.mode == Mode::Tail && self.settings.encoding == Encoding::Parquet => {
                // Its writer may not have finished: it is tried again when its length has changed.
                self.exhausted.insert(path, looked);
            }
            Err(error) => self.give_up(&path, &error, gathered)?,
        }
        Ok(true)
    }

    /// The whole file, or the rest of it, cannot be read.
    fn give_up(&mut self, path: &Path, error: &SqlError, gathered: &mut Gathered) -> Result<(), ConnectorError> {
        let at = self.at.files.entry(key(path)).or_default();
        at.done = true;
        let hint = error.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        let bad = BadLine { number: at.lines + 1, bytes: Vec::new(), reason: format!("{error}{hint}") };
        self.keep_bad(path, vec![bad], gathered)
    }

    fn keep_bad(&self, path: &Path, bad: Vec<BadLine>, gathered: &mut Gathered) -> Result<(), ConnectorError> {
        let place = path.display().to_string();
        match (self.settings.on_error, bad.first()) {
            (_, None) | (OnError::Skip, _) => Ok(()),
            (OnError::Stop, Some(first)) => {
                let message = format!("line {} of \"{place}\" cannot be read: {}", first.number, first.reason);
                let error = SqlError::new(SqlState::BAD_COPY_FORMAT, message);
                Err(error.hint("mend the file, or set on_error = 'dead_letter'").into())
            }
            _ => {
                let letter = |bad: BadLine| DeadLetter {
                    place: place.clone(),
                    offset: i64::try_from(bad.number).unwrap_or(i64::MAX),
                    bytes: bad.bytes,
                    reason: bad.reason,
                };
                gathered.dead_letters.extend(bad.into_iter().map(letter));
                Ok(())
            }
        }
    }

    /// Reads on in the current file.
    fn read_piece(&mut self, rows_max: usize, gathered: &mut Gathered) -> Result<(), ConnectorError> {
        let Some((path, mut reader)) = self.current.take() else { return Ok(()) };
        let piece = match &mut reader {
            Reader::Lines(lines) => lines.next(&path, rows_max, &self.target),
            Reader::Parquet(rows) => {
                let limit = self.until.as_ref().and_then(|until| until.files.get(&key(&path)));
                let left = limit.map_or(u64::MAX, |until| until.offset.saturating_sub(rows.row));
                let rows_max = usize::try_from(left).unwrap_or(usize::MAX).min(rows_max);
                if rows_max == 0 { Ok(None) } else { next_rows(rows, rows_max, &self.target) }
            }
        };
        match piece {
            Err(error) => self.give_up(&path, &error, gathered),
            Ok(None) => {
                self.leave(&path, &reader);
                Ok(())
            }
            Ok(Some(piece)) => {
                self.note(&path, &reader);
                gathered.bytes += piece.bytes;
                gathered.rows += piece.rows.num_rows();
                if piece.rows.num_rows() > 0 {
                    gathered.parts.push(piece.rows);
                }
                self.keep_bad(&path, piece.bad, gathered)?;
                self.current = Some((path, reader));
                Ok(())
            }
        }
    }

    /// Remembers how far a file has been read.
    fn note(&mut self, path: &Path, reader: &Reader) {
        let at = self.at.files.entry(key(path)).or_default();
        (at.offset, at.lines) = match reader {
            Reader::Lines(lines) => (lines.offset, lines.line - 1),
            Reader::Parquet(rows) => (rows.row, rows.row),
        };
    }

    /// Nothing more is in the file for now, or for ever.
    fn leave(&mut self, path: &Path, reader: &Reader) {
        self.note(path, reader);
        let is_packed = self.is_packed(path);
        let known = self.at.files.get(&key(path)).map_or((0, Head::default()), |at| (at.offset, at.head));
        let head_length = known.0.min(HEAD_BYTES);
        let grown = (!is_packed && known.1.length < head_length).then(|| self.head(path, head_length)).flatten();
        let at = self.at.files.entry(key(path)).or_default();
        at.done = self.settings.mode == Mode::Once || is_packed;
        at.head = grown.unwrap_or(at.head);
        // The file may have grown behind what was read: a length that was not looked at must not be remembered.
        let length = match reader {
            Reader::Lines(lines) => lines.end(),
            Reader::Parquet(_) => 0,
        };
        let looked = Looked { length, inode: at.inode };
        self.exhausted.insert(path.to_path_buf(), looked);
    }

    fn is_finished(&self) -> bool {
        let ends = self.settings.mode == Mode::Once || self.until.is_some();
        ends && self.current.is_none() && self.queue.is_empty()
    }
}

fn next_rows(rows: &mut ParquetRows, rows_max: usize, target: &Target) -> SqlResult<Option<Piece>> {
    let found = rows.next(rows_max, target)?;
    Ok(found.map(|(rows, bad)| Piece { bytes: rows.get_array_memory_size() as u64, rows, bad }))
}

fn key(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[async_trait]
impl Source for FileSource {
    async fn poll(&mut self, budget: Budget) -> Result<Polled, ConnectorError> {
        let mut gathered = Gathered::default();
        let letters_max = budget.rows.max(1);
        while gathered.rows < budget.rows
            && gathered.bytes < budget.bytes as u64
            && gathered.dead_letters.len() < letters_max
        {
            if self.current.is_none() && !self.next_file(&mut gathered)? {
                break;
            }
            self.read_piece(budget.rows - gathered.rows, &mut gathered)?;
        }
        let rows = concat_batches(&self.target.schema, &gathered.parts)
            .map_err(|error| SqlError::internal(format!("pieces of a file do not fit together: {error}")))?;
        Ok(Polled {
            rows,
            deletions: None,
            dead_letters: gathered.dead_letters,
            position: self.position(),
            finished: self.is_finished(),
            bytes: gathered.bytes,
            wait: None,
        })
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
