//! Why bytes could not be kept or read back: one sentence each, and the SQLSTATE that a client sees.

use std::io;

use crate::error::{SqlError, SqlState};

/// A failure of the disk or of what it holds. Cloned into every later refusal of a poisoned log.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StorageError {
    /// The operating system refused; the message names the file and what was tried.
    #[error("{message}")]
    Io { kind: io::ErrorKind, message: String },
    /// A stored block is not what was written. Nothing after it can be trusted, so nothing is read.
    #[error("{file} is damaged at byte {offset}: {reason}")]
    Corrupt { file: String, offset: u64, reason: String },
    /// Written by a later release, in a format that this one does not know.
    #[error("{file} has format {found}, but this version of headwater reads formats up to {known}")]
    Newer { file: String, found: u8, known: u8 },
}

impl StorageError {
    pub fn corrupt(file: &str, offset: u64, reason: impl Into<String>) -> Self {
        Self::Corrupt { file: file.to_string(), offset, reason: reason.into() }
    }
    /// True when the file system or a quota has no room left.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { kind: io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded, .. })
    }
}

impl From<io::Error> for StorageError {
    fn from(error: io::Error) -> Self {
        Self::Io { kind: error.kind(), message: error.to_string() }
    }
}

impl From<StorageError> for SqlError {
    fn from(error: StorageError) -> Self {
        let message = error.to_string();
        match error {
            _ if error.is_full() => SqlError::new(SqlState::DISK_FULL, message)
                .hint("free space on the file system of the data directory, then try again"),
            StorageError::Io { kind: io::ErrorKind::WouldBlock, .. } => SqlError::new(SqlState::OBJECT_IN_USE, message)
                .hint("stop the other process, or choose another directory with --data-dir"),
            StorageError::Io { .. } => SqlError::new(SqlState::IO_ERROR, message),
            StorageError::Corrupt { .. } => SqlError::new(SqlState::DATA_CORRUPTED, message)
                .hint("restore the data directory from a backup, and check the disk"),
            StorageError::Newer { .. } => SqlError::new(SqlState::DATA_CORRUPTED, message)
                .hint("start the version of headwater that wrote this data directory, or a later one"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(error: StorageError) -> String {
        SqlError::from(error).code.as_str().to_string()
    }

    #[test]
    fn each_kind_has_its_sqlstate() {
        let io = |kind| StorageError::from(io::Error::new(kind, "cannot write \"log/1\": no space left on device"));
        assert_eq!(code(io(io::ErrorKind::StorageFull)), "53100");
        assert_eq!(code(io(io::ErrorKind::QuotaExceeded)), "53100");
        assert_eq!(code(io(io::ErrorKind::Other)), "58030");
        assert_eq!(code(io(io::ErrorKind::WouldBlock)), "55006");
        assert_eq!(code(StorageError::corrupt("log/1", 20, "the checksum does not match")), "XX001");
        let newer = StorageError::Newer { file: "manifest".into(), found: 9, known: 1 };
        assert_eq!(newer.to_string(), "manifest has format 9, but this version of headwater reads formats up to 1");
    }
}
