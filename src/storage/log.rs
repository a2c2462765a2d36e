//! The log: records appended to numbered segment files, made durable many at a time, read back after a crash.
//!
//! A position is the count of bytes of all records before it. A segment is named by the position of its first record:
//!
//! ```text
//! segment   0  "HWATLOG" and the format's number   8 bytes
//!           8  position of the first record        u64
//!          16  crc32 of bytes 0..16                u32
//!          20  records
//! record    0  length of the payload               u32   (2^32 - 1: a mark without payload)
//!           4  crc32 of the payload                u32
//!           8  synced: every record before this position was durable when this one was written    u64
//!          16  crc32 of the record's own position (u64) and bytes 0..16                           u32
//!          20  payload
//! ```
//!
//! A record is broken when a checksum does not match or the file ends within it. It is a **torn tail**, to be cut, if
//! nothing shows that it was ever durable; it is **damage**, to be refused, if a later segment exists, or if a later
//! record says by `synced` that it was. So an acknowledged record is never cut for a torn one, save in one case that no
//! single copy can decide: damage to the very last records after a crash. A clean stop ([`Log::close`]) leaves a mark
//! behind them, and then that case is damage too.
//!
//! After a failed sync nobody knows what the disk holds, so the log is poisoned: every later call fails with the first
//! error, and the truth is found by opening it again; so it is after a failed write. Opening writes what may be in
//! memory only (the records after the last `synced`) into a new segment before anything builds on it.
//!
//! A write for which there was no room is another matter: what it left behind is cut off, the records of the failed
//! call are gone, and the log takes the next ones as soon as there is room.

use std::sync::Arc;

use bytes::Bytes;

use super::checksum::{crc32, crc32_of, u32_at, u64_at};
use super::disk::{AppendFile, Disk};
use super::error::StorageError;

/// A place between two records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogPosition(pub u64);

/// One record as it was appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// The place after the record: a log opened from here goes on with the next one.
    pub position: LogPosition,
    /// Shares the bytes of its segment.
    pub bytes: Bytes,
}

/// The log in one directory, open for appending.
pub struct Log {
    disk: Arc<dyn Disk>,
    dir: String,
    /// First positions of all segments, ascending; the last one is being written.
    segments: Vec<u64>,
    file: Box<dyn AppendFile>,
    /// Records that the file does not have yet.
    buffer: Vec<u8>,
    position: u64,
    /// Every record before this is in the file; behind it a write for which there was no room may have left a part.
    written: u64,
    synced: u64,
    segment_bytes: u64,
    poison: Option<StorageError>,
    /// Set by a write for which there was no room, until what it left behind is cut off.
    full: Option<StorageError>,
}

const SEGMENT_BYTES: u64 = 64 << 20;
const BUFFER_BYTES: usize = 1 << 20;
const MAGIC: &[u8; 7] = b"HWATLOG";
const FORMAT: u8 = 1;
const HEADER: usize = 20;
const MARK: u32 = u32::MAX;

impl Log {
    /// Opens the log and returns the records after `from`, which is a position that `append` gave (or 0).
    ///
    /// The caller promises that everything before `from` was durable: a log that ends before it is damaged.
    pub fn open(disk: Arc<dyn Disk>, dir: &str, from: LogPosition) -> Result<(Log, Vec<LogRecord>), StorageError> {
        Log::open_with_segments(disk, dir, from, SEGMENT_BYTES)
    }

    /// [`Log::open`] with segments of another size.
    pub fn open_with_segments(
        disk: Arc<dyn Disk>,
        dir: &str,
        from: LogPosition,
        segment_bytes: u64,
    ) -> Result<(Log, Vec<LogRecord>), StorageError> {
        disk.create_dir(dir)?;
        let mut segments = segments_of(&*disk, dir)?;
        match segments.first() {
            None if from.0 > 0 => return Err(missing(dir, from.0)),
            None => {
                new_segment(&*disk, dir, 0, &[])?;
                disk.sync_dir("")?;
                segments.push(0);
            }
            Some(first) if *first > from.0 => return Err(missing(dir, from.0)),
            Some(_) => {}
        }
        let mut records = Vec::new();
        let end = read_segments(&*disk, dir, &mut segments, from.0, &mut records)?;
        let last = *segments.last().expect("a log has a segment");
        let file = disk.open_append(&segment_path(dir, last))?;
        let log = Log {
            disk,
            dir: dir.to_string(),
            segments,
            file,
            buffer: Vec::new(),
            position: end,
            written: end,
            synced: end,
            segment_bytes,
            poison: None,
            full: None,
        };
        Ok((log, records))
    }

    /// Adds a record and returns the place after it. It is durable after the next [`Log::sync`]. If that or
    /// [`Log::flush`] finds no room, all records since the last flush are gone.
    pub fn append(&mut self, bytes: &[u8]) -> Result<LogPosition, StorageError> {
        self.sound()?;
        let length = u32::try_from(bytes.len()).ok().filter(|length| *length < MARK);
        let Some(length) = length else {
            let message = format!("a log record of {} bytes is too large, the limit is 4 GiB", bytes.len());
            return Err(StorageError::Io { kind: std::io::ErrorKind::InvalidInput, message });
        };
        let result = self.make_room().and_then(|()| self.push(length, bytes));
        self.remember(result)
    }

    /// Hands everything appended to the operating system: it survives the death of this process.
    pub fn flush(&mut self) -> Result<(), StorageError> {
        self.sound()?;
        let result = self.write_buffer();
        self.remember(result)
    }

    /// Makes everything appended durable: it survives the loss of power.
    pub fn sync(&mut self) -> Result<(), StorageError> {
        self.sound()?;
        let result = self.write_and_sync();
        self.remember(result)
    }

    /// Syncs, and leaves a mark by which the next opening knows that every record was durable.
    pub fn close(mut self) -> Result<(), StorageError> {
        self.sync()?;
        self.push(MARK, &[])?;
        self.write_and_sync()
    }

    /// The place after the last record appended.
    pub fn position(&self) -> LogPosition {
        LogPosition(self.position)
    }

    /// Every record before this place is durable.
    pub fn synced(&self) -> LogPosition {
        LogPosition(self.synced)
    }

    /// Bytes of records after `position`: what a restart from there would read.
    pub fn bytes_since(&self, position: LogPosition) -> u64 {
        self.position.saturating_sub(position.0)
    }

    /// Removes the segments that lie wholly before `before`; a log cannot be opened from an earlier place any more.
    pub fn cut(&mut self, before: LogPosition) -> Result<(), StorageError> {
        self.sound()?;
        let result = self.remove_segments(before.0);
        self.remember(result)
    }

    fn sound(&mut self) -> Result<(), StorageError> {
        match &self.poison {
            Some(error) => Err(error.clone()),
            None => self.cut_unwritten(),
        }
    }

    /// After a write for which there was no room: back to the last record that is in the file. This needs no room.
    fn cut_unwritten(&mut self) -> Result<(), StorageError> {
        let Some(error) = &self.full else { return Ok(()) };
        let end = HEADER as u64 + (self.written - self.start());
        if self.file.truncate(end).is_err() {
            return Err(error.clone());
        }
        self.buffer.clear();
        self.position = self.written;
        self.full = None;
        Ok(())
    }

    fn remember<T>(&mut self, result: Result<T, StorageError>) -> Result<T, StorageError> {
        match &result {
            Err(error) if error.is_full() && self.poison.is_none() => self.full = Some(error.clone()),
            Err(error) if self.poison.is_none() => self.poison = Some(error.clone()),
            Err(_) | Ok(_) => {}
        }
        result
    }

    fn start(&self) -> u64 {
        *self.segments.last().expect("a log has a segment")
    }

    /// Begins a new segment when the current one is full. Invariant: all segments but the last are wholly durable.
    fn make_room(&mut self) -> Result<(), StorageError> {
        if self.position - self.start() < self.segment_bytes {
            return Ok(());
        }
        self.write_and_sync()?;
        new_segment(&*self.disk, &self.dir, self.position, &[])?;
        self.file = self.disk.open_append(&segment_path(&self.dir, self.position))?;
        self.segments.push(self.position);
        Ok(())
    }

    fn push(&mut self, length: u32, bytes: &[u8]) -> Result<LogPosition, StorageError> {
        self.buffer.extend_from_slice(&record_header(self.position, length, crc32(bytes), self.synced));
        if bytes.len() >= BUFFER_BYTES {
            self.write_buffer()?;
            self.file.append(bytes)?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        self.position += (HEADER + bytes.len()) as u64;
        if self.buffer.len() >= BUFFER_BYTES {
            self.write_buffer()?;
        }
        Ok(self.position())
    }

    fn write_buffer(&mut self) -> Result<(), StorageError> {
        if !self.buffer.is_empty() {
            self.file.append(&self.buffer)?;
            self.buffer.clear();
        }
        self.written = self.position;
        Ok(())
    }

    fn write_and_sync(&mut self) -> Result<(), StorageError> {
        self.write_buffer()?;
        if self.synced < self.position {
            let synced = self.file.sync().map_err(StorageError::from);
            // Whatever the reason, the bytes may be gone although reading shows them.
            synced.inspect_err(|error| self.poison = Some(error.clone()))?;
            self.synced = self.position;
        }
        Ok(())
    }

    fn remove_segments(&mut self, before: u64) -> Result<(), StorageError> {
        let old = self.segments.windows(2).take_while(|pair| pair[1] <= before).count();
        // From the oldest on, so that what is left after a crash has no hole.
        for start in self.segments.drain(..old).collect::<Vec<_>>() {
            self.disk.remove(&segment_path(&self.dir, start))?;
            self.disk.sync_dir(&self.dir)?;
        }
        Ok(())
    }
}

fn segment_path(dir: &str, start: u64) -> String {
    format!("{dir}/{start:020}.log")
}

/// First positions of the segments in `dir`, ascending.
fn segments_of(disk: &dyn Disk, dir: &str) -> Result<Vec<u64>, StorageError> {
    let names = disk.list(dir)?;
    let mut starts: Vec<u64> =
        names.iter().filter_map(|name| name.strip_suffix(".log")).filter_map(|start| start.parse().ok()).collect();
    starts.sort_unstable();
    Ok(starts)
}

/// Makes a segment with these records; there wholly, durably and under its name, or not at all.
fn new_segment(disk: &dyn Disk, dir: &str, start: u64, records: &[u8]) -> Result<(), StorageError> {
    let unnamed = format!("{dir}/new-segment");
    let mut bytes = Vec::with_capacity(HEADER + records.len());
    bytes.extend_from_slice(MAGIC);
    bytes.push(FORMAT);
    bytes.extend_from_slice(&start.to_le_bytes());
    bytes.extend_from_slice(&crc32(&bytes).to_le_bytes());
    bytes.extend_from_slice(records);
    disk.write_new(&unnamed, &bytes)?;
    disk.rename(&unnamed, &segment_path(dir, start))?;
    disk.sync_dir(dir)?;
    Ok(())
}

fn record_header(position: u64, length: u32, checksum: u32, synced: u64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[0..4].copy_from_slice(&length.to_le_bytes());
    header[4..8].copy_from_slice(&checksum.to_le_bytes());
    header[8..16].copy_from_slice(&synced.to_le_bytes());
    // The position is in the checksum, so a record that was moved or doubled is broken.
    let own = crc32_of(&[&position.to_le_bytes(), &header[..16]]);
    header[16..20].copy_from_slice(&own.to_le_bytes());
    header
}

fn missing(dir: &str, position: u64) -> StorageError {
    StorageError::corrupt(dir, position, format!("the log segment that holds position {position} is missing"))
}

/// Appends the records after `from` to `records`, makes the tail sound, and returns where the log ends.
fn read_segments(
    disk: &dyn Disk,
    dir: &str,
    segments: &mut Vec<u64>,
    from: u64,
    records: &mut Vec<LogRecord>,
) -> Result<u64, StorageError> {
    for pair in segments.windows(2).filter(|pair| pair[1] > from) {
        let segment = Segment::open(disk, dir, pair[0])?;
        let read = segment.read(from, Some(pair[1]), records)?;
        if read.end != pair[1] {
            return Err(segment.damaged(read.end, read.broken.unwrap_or("records are missing at the end")));
        }
    }
    let last = *segments.last().expect("a log has a segment");
    // The last segment may be cut below, and what a map shows behind the cut is lost: so its bytes are read.
    let segment = Segment::new(disk.read(&segment_path(dir, last))?.into(), dir, last)?;
    let read = segment.read(from, None, records)?;
    if let Some(reason) = read.broken
        && segment.was_durable(read.end)
    {
        return Err(segment.damaged(read.end, reason));
    }
    if read.end < from {
        return Err(segment.damaged(read.end, &format!("the log ends here, but its records up to {from} were durable")));
    }
    let durable = read.synced.max(last).max(from);
    segment.rescue_tail(disk, durable, read.end_of_records, segments)?;
    Ok(read.end_of_records.max(durable))
}

/// A segment file.
struct Segment {
    dir: String,
    path: String,
    bytes: Bytes,
    start: u64,
}

/// What reading a segment found.
struct Read {
    /// Where the sound records end.
    end: u64,
    /// The same without marks behind the last record.
    end_of_records: u64,
    /// Every record before this was durable, as a sound record says.
    synced: u64,
    /// What is wrong at `end`, if the segment goes on there.
    broken: Option<&'static str>,
}

/// A record's header that is sound for its place.
struct Header {
    length: u32,
    checksum: u32,
    synced: u64,
}

impl Segment {
    fn open(disk: &dyn Disk, dir: &str, start: u64) -> Result<Segment, StorageError> {
        Segment::new(disk.map(&segment_path(dir, start))?, dir, start)
    }

    fn new(bytes: Bytes, dir: &str, start: u64) -> Result<Segment, StorageError> {
        let path = segment_path(dir, start);
        let segment = Segment { dir: dir.to_string(), path, bytes, start };
        let header = segment.bytes.get(..HEADER).filter(|header| header.starts_with(MAGIC));
        let Some(header) = header else {
            return Err(StorageError::corrupt(&segment.path, 0, "it does not begin as a log segment does"));
        };
        if header[7] > FORMAT {
            return Err(StorageError::Newer { file: segment.path, found: header[7], known: FORMAT });
        }
        let sound = u32_at(header, 16) == Some(crc32(&header[..16])) && u64_at(header, 8) == Some(start);
        if sound { Ok(segment) } else { Err(StorageError::corrupt(&segment.path, 8, "its header does not match")) }
    }

    fn offset(&self, position: u64) -> usize {
        HEADER + usize::try_from(position - self.start).expect("segments are smaller than memory")
    }

    fn damaged(&self, position: u64, reason: &str) -> StorageError {
        StorageError::corrupt(&self.path, self.offset(position) as u64, reason)
    }

    /// Reads records up to `limit`, or as far as they are sound, and keeps those after `from`.
    fn read(&self, from: u64, limit: Option<u64>, records: &mut Vec<LogRecord>) -> Result<Read, StorageError> {
        let mut read = Read { end: self.start, end_of_records: self.start, synced: self.start, broken: None };
        while limit.is_none_or(|limit| read.end < limit) && self.offset(read.end) < self.bytes.len() {
            let Some(header) = self.header(read.end) else {
                read.broken = Some("the header of a record does not match its checksum");
                break;
            };
            let begin = self.offset(read.end) + HEADER;
            let length = if header.length == MARK { 0 } else { header.length as usize };
            let payload = self.bytes.get(begin..begin + length).filter(|payload| crc32(payload) == header.checksum);
            if payload.is_none() {
                read.broken = Some("a record does not match its checksum");
                break;
            }
            let end = read.end + (HEADER + length) as u64;
            if read.end < from && from < end {
                return Err(self.damaged(read.end, &format!("position {from} lies within a record")));
            }
            read.synced = read.synced.max(header.synced);
            if header.length != MARK {
                if read.end >= from {
                    let bytes = self.bytes.slice(begin..begin + length);
                    records.push(LogRecord { position: LogPosition(end), bytes });
                }
                read.end_of_records = end;
            }
            read.end = end;
        }
        Ok(read)
    }

    fn header(&self, position: u64) -> Option<Header> {
        let offset = self.offset(position);
        let header = self.bytes.get(offset..offset + HEADER)?;
        let own = crc32_of(&[&position.to_le_bytes(), &header[..16]]);
        let sound = u32_at(header, 16)? == own;
        let (length, checksum, synced) = (u32_at(header, 0)?, u32_at(header, 4)?, u64_at(header, 8)?);
        sound.then_some(Header { length, checksum, synced })
    }

    /// True if a sound header anywhere behind the broken record at `position` says that the record was durable.
    fn was_durable(&self, position: u64) -> bool {
        let end = self.start + (self.bytes.len() - HEADER) as u64;
        (position + 1..end).any(|later| self.header(later).is_some_and(|header| header.synced > position))
    }

    /// Cuts what is not sound, and writes the records between `durable` and `end` anew: the operating system may hold
    /// them in memory only, and after a failed sync would never write them.
    fn rescue_tail(
        &self,
        disk: &dyn Disk,
        durable: u64,
        end: u64,
        segments: &mut Vec<u64>,
    ) -> Result<(), StorageError> {
        if durable < end {
            new_segment(disk, &self.dir, durable, &self.bytes[self.offset(durable)..self.offset(end)])?;
            if durable == self.start {
                return Ok(());
            }
            segments.push(durable);
        }
        if self.offset(durable) < self.bytes.len() {
            let mut file = disk.open_append(&self.path)?;
            file.truncate(self.offset(durable) as u64)?;
            file.sync()?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "log/tests.rs"]
mod tests;
