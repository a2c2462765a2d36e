//! COPY's binary format: a signature, then rows of counted fields, then -1.

use super::super::ColumnBuilder;
use crate::error::{SqlError, SqlResult, SqlState};

/// The first eleven bytes.
pub const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags and the length of an extension.
const HEADER: usize = 19;

/// How far the data has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Header,
    Rows,
    Ended,
}

pub fn malformed(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::BAD_COPY_FORMAT, message)
}

/// The length of the header, `None` while it is incomplete.
pub fn header(data: &[u8], last: bool) -> SqlResult<Option<usize>> {
    let known = data.len().min(SIGNATURE.len());
    if data[..known] != SIGNATURE[..known] {
        return Err(malformed("COPY file signature not recognized"));
    }
    let (Some(flags), Some(extension)) = (int(data, 11), int(data, 15)) else {
        return if last { Err(malformed("invalid COPY file header (missing flags)")) } else { Ok(None) };
    };
    if flags & (1 << 16) != 0 {
        return Err(malformed("invalid COPY file header (WITH OIDS)"));
    }
    if flags as u32 >> 17 != 0 {
        return Err(malformed("unrecognized critical flags in COPY file header"));
    }
    let extension = usize::try_from(extension).map_err(|_| malformed("invalid COPY file header (missing length)"))?;
    Ok((data.len() >= HEADER + extension).then_some(HEADER + extension))
}

fn int(data: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_be_bytes(data.get(at..at + 4)?.try_into().ok()?))
}

/// A row's end in the data, `None` while it is incomplete. A row of -1 fields ends the data.
pub enum Row {
    Found(usize),
    End(usize),
    Partial,
}

/// Measures the row at `start` without reading its values.
pub fn measure(data: &[u8], start: usize, columns: usize) -> SqlResult<Row> {
    let Some(count) = data.get(start..start + 2) else { return Ok(Row::Partial) };
    let count = i16::from_be_bytes([count[0], count[1]]);
    if count == -1 {
        return Ok(Row::End(start + 2));
    }
    if usize::try_from(count) != Ok(columns) {
        return Err(malformed(format!("row field count is {count}, expected {columns}")));
    }
    let mut at = start + 2;
    for _ in 0..columns {
        let Some(size) = int(data, at) else { return Ok(Row::Partial) };
        at += 4;
        match size {
            -1 => {}
            size => at += usize::try_from(size).map_err(|_| malformed("invalid field size"))?,
        }
    }
    Ok(if at <= data.len() { Row::Found(at) } else { Row::Partial })
}

/// Appends the values of the measured row at `start`; a failure names its column.
pub fn append(data: &[u8], start: usize, builders: &mut [ColumnBuilder]) -> Result<(), (usize, SqlError)> {
    let mut at = start + 2;
    for (column, builder) in builders.iter_mut().enumerate() {
        let size = int(data, at).unwrap_or(-1);
        at += 4;
        match usize::try_from(size) {
            Err(_) => builder.append_null(),
            Ok(size) => {
                builder.append_binary(&data[at..at + size]).map_err(|error| (column, error))?;
                at += size;
            }
        }
    }
    Ok(())
}
