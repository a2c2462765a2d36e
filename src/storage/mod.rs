//! Bytes that survive: the disk, the log, the manifests. Knows neither rows nor SQL; imports no room but `error`.
//!
//! Formats are drawn byte by byte in `docs/formats.md`. Everything here goes through [`Disk`], so that tests put
//! [`FaultyDisk`] in its place, which loses what was not synced and fails where it is told to.

mod checksum;
mod disk;
mod error;
mod faulty;
mod log;
mod manifest;

pub use checksum::{crc32, crc32_of};
pub use disk::{AppendFile, Disk, RealDisk};
pub use error::StorageError;
pub use faulty::{FaultyDisk, Loss, Repeat};
pub use log::{Log, LogPosition, LogRecord};
pub use manifest::ManifestStore;
