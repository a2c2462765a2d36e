//! Files of lines, read piece by piece: plain or packed, from any place, only complete lines.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use arrow::array::RecordBatch;
use flate2::read::MultiGzDecoder;

use super::settings::FileSettings;
use crate::connectors::format::{BadLine, Cells, CsvLines, Encoding, JsonLines, LineFormat, Target};
use crate::connectors::paths::AllowedPaths;
use crate::error::{SqlError, SqlResult, SqlState};

/// A longer line is malformed: a file without line feeds must not fill the memory.
const LINE_BYTES_MAX: usize = 16 << 20;
/// So much of a malformed line is kept.
const DEAD_LETTER_BYTES_MAX: usize = 1 << 16;
const PIECE_BYTES: usize = 1 << 20;

/// The bytes of a file, unpacked.
pub enum Input {
    Plain(File),
    Gzip(Box<MultiGzDecoder<File>>),
}

impl Input {
    pub fn new(file: File, is_gzip: bool) -> Input {
        if is_gzip { Input::Gzip(Box::new(MultiGzDecoder::new(file))) } else { Input::Plain(file) }
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        match self {
            Input::Plain(file) => file.seek(SeekFrom::Start(bytes)).map(|_| ()),
            Input::Gzip(decoder) => io::copy(&mut decoder.by_ref().take(bytes), &mut io::sink()).map(|_| ()),
        }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Input::Plain(file) => file.read(buffer),
            Input::Gzip(decoder) => decoder.read(buffer),
        }
    }
}

/// The error for a file that cannot be read on.
pub fn unreadable(path: &Path, error: &io::Error) -> SqlError {
    let reason = error.to_string();
    let reason = reason.split(" (os error").next().unwrap_or(&reason).to_lowercase();
    SqlError::new(SqlState::IO_ERROR, format!("cannot read \"{}\": {reason}", path.display()))
}

/// What a piece of a file held.
pub struct Piece {
    pub rows: RecordBatch,
    pub bad: Vec<BadLine>,
    pub bytes: u64,
}

/// One file that is being read.
pub struct LineReader {
    input: Input,
    format: LineFormat,
    /// Bytes read and not yet used.
    buffer: Vec<u8>,
    /// Where in the (unpacked) file the buffer begins.
    pub offset: u64,
    /// The number of the line that begins there.
    pub line: u64,
    /// The file ends, for this reader, here.
    limit: u64,
    /// A line without a line feed at the end is complete.
    ends: bool,
    at_end: bool,
    /// Why reading stopped before the end; told when everything before it has been used.
    failure: Option<io::Error>,
}

/// Where to begin and to end.
pub struct Span {
    pub offset: u64,
    pub line: u64,
    pub limit: Option<u64>,
    /// Nothing will be appended to the file.
    pub is_final: bool,
}

impl LineReader {
    /// Opens a file. `None`: its header is not complete yet.
    pub fn open(
        path: &Path,
        allowed: &AllowedPaths,
        settings: &FileSettings,
        target: &Target,
        span: &Span,
    ) -> SqlResult<Option<LineReader>> {
        let format = match settings.encoding {
            Encoding::Csv => LineFormat::Csv(CsvLines::new(settings.csv.clone(), target)),
            Encoding::Json | Encoding::Parquet => LineFormat::Json(JsonLines::new(target)),
        };
        let is_gzip = settings.is_gzip(path);
        let mut reader = LineReader {
            input: Input::new(allowed.open(path)?, is_gzip),
            format,
            buffer: Vec::new(),
            offset: 0,
            line: 1,
            limit: span.limit.unwrap_or(u64::MAX),
            ends: span.is_final || is_gzip || span.limit.is_some(),
            at_end: false,
            failure: None,
        };
        let failed = |error: io::Error| unreadable(path, &error);
        reader.skip_byte_order_mark();
        if settings.encoding == Encoding::Csv && settings.csv.header && !reader.read_header(path, target)? {
            return Ok(None);
        }
        if span.offset > reader.offset {
            // A packed file is unpacked again from its beginning.
            let mut input = Input::new(allowed.open(path)?, is_gzip);
            input.skip(span.offset).map_err(failed)?;
            let (offset, line) = (span.offset, span.line);
            reader = LineReader { input, buffer: Vec::new(), offset, line, at_end: false, failure: None, ..reader };
        }
        Ok(Some(reader))
    }

    fn skip_byte_order_mark(&mut self) {
        self.fill();
        if self.buffer.starts_with(b"\xef\xbb\xbf") {
            self.consume(3);
        }
    }

    /// True if the last line in the buffer is complete although no line feed ends it.
    fn is_whole_file(&self) -> bool {
        self.at_end && self.ends && self.failure.is_none()
    }

    /// Reads the header line; false if it is not complete yet.
    fn read_header(&mut self, path: &Path, target: &Target) -> SqlResult<bool> {
        loop {
            let is_end = self.is_whole_file();
            if self.buffer.is_empty() && is_end {
                // An empty file has no rows and needs no header.
                return Ok(true);
            }
            let LineFormat::Csv(lines) = &mut self.format else { return Ok(true) };
            let valid = match std::str::from_utf8(&self.buffer) {
                Ok(text) => text,
                Err(error) => std::str::from_utf8(&self.buffer[..error.valid_up_to()]).expect("found valid"),
            };
            if let Some(length) = lines.read_header(valid, is_end, target)? {
                self.line += valid[..length].matches('\n').count().max(1) as u64;
                self.consume(length);
                return Ok(true);
            }
            if self.at_end {
                return self.failure.take().map_or(Ok(false), |error| Err(unreadable(path, &error)));
            }
            self.fill();
        }
    }

    /// How far into the file this reader has looked, used or not.
    pub fn end(&self) -> u64 {
        self.offset + self.buffer.len() as u64
    }

    fn consume(&mut self, bytes: usize) {
        self.buffer.drain(..bytes);
        self.offset += bytes as u64;
    }

    /// Reads on into the buffer.
    fn fill(&mut self) {
        let left = self.limit.saturating_sub(self.end());
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
        match (&mut self.input).take(wanted as u64).read_to_end(&mut self.buffer) {
            Ok(read) => self.at_end = read < PIECE_BYTES,
            Err(error) => {
                self.failure = Some(error);
                self.at_end = true;
            }
        }
    }

    /// The next lines, at most `rows_max`; `None` if no complete line is left.
    pub fn next(&mut self, path: &Path, rows_max: usize, target: &Target) -> SqlResult<Option<Piece>> {
        loop {
            if let Some(piece) = self.decode(rows_max, target)? {
                return Ok(Some(piece));
            }
            if self.at_end {
                return self.failure.take().map_or(Ok(None), |error| Err(unreadable(path, &error)));
            }
            if self.buffer.len() >= LINE_BYTES_MAX {
                let reason = format!("the line is longer than {} MiB", LINE_BYTES_MAX >> 20);
                return Ok(Some(self.give_up_line(reason, target)));
            }
            self.fill();
        }
    }

    /// Decodes what is in the buffer; `None` if no line in it is complete.
    fn decode(&mut self, rows_max: usize, target: &Target) -> SqlResult<Option<Piece>> {
        let (text, is_whole) = match std::str::from_utf8(&self.buffer) {
            Ok(text) => (text, true),
            Err(error) => {
                let valid = &self.buffer[..error.valid_up_to()];
                let text = std::str::from_utf8(valid).expect("the first part was found valid");
                // A character that the end of the buffer cuts is no fault.
                if error.error_len().is_none() && !self.at_end {
                    (text, true)
                } else {
                    (&text[..text.rfind('\n').map_or(0, |at| at + 1)], false)
                }
            }
        };
        let is_end = self.is_whole_file() && is_whole;
        let mut cells = Cells::new(text, target.width(), self.line);
        let used = self.format.split(&mut cells, is_end, rows_max);
        if used == 0 {
            return if is_whole { Ok(None) } else { self.bad_encoding(target) };
        }
        self.line = cells.next_number;
        let (rows, bad) = cells.into_rows(target)?;
        self.consume(used);
        Ok(Some(Piece { rows, bad, bytes: used as u64 }))
    }

    /// The first line in the buffer is not UTF-8, or a quoted field in it goes on to a line that is not.
    fn bad_encoding(&mut self, target: &Target) -> SqlResult<Option<Piece>> {
        let end = self.buffer.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        match end.or(self.is_whole_file().then_some(self.buffer.len())) {
            Some(end) => Ok(Some(self.bad_line(end, "the line is not valid UTF-8".to_string(), target))),
            None => Ok(None),
        }
    }

    fn bad_line(&mut self, end: usize, reason: String, target: &Target) -> Piece {
        let kept = self.buffer[..end].trim_ascii_end();
        let bytes = kept[..kept.len().min(DEAD_LETTER_BYTES_MAX)].to_vec();
        let bad = vec![BadLine { number: self.line, bytes, reason }];
        self.line += 1;
        self.consume(end);
        Piece { rows: RecordBatch::new_empty(target.schema.clone()), bad, bytes: end as u64 }
    }

    /// Goes over a line that is too long to be one.
    fn give_up_line(&mut self, reason: String, target: &Target) -> Piece {
        let mut piece = Piece { rows: RecordBatch::new_empty(target.schema.clone()), bad: Vec::new(), bytes: 0 };
        let bytes = self.buffer[..DEAD_LETTER_BYTES_MAX].to_vec();
        piece.bad.push(BadLine { number: self.line, bytes, reason });
        loop {
            let end = self.buffer.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(self.buffer.len(), |at| at + 1);
            piece.bytes += used as u64;
            self.consume(used);
            if end.is_some() || self.at_end {
                self.line += 1;
                return piece;
            }
            self.fill();
        }
    }
}
