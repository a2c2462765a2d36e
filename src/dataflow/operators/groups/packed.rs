//! Keys of several columns of integers, packed into one number of 128 bits.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::DataType;
use hashbrown::HashTable;
use std::borrow::Cow;
use std::sync::Arc;

use super::{Numbers, int_column, int_values, is_int};

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Key {
    /// The values, the first column's in the highest bits; 0 for NULL.
    bits: u128,
    /// One bit for each column that is NULL.
    nulls: u32,
}

pub(super) struct Packed {
    /// Bits of each column.
    widths: Vec<u32>,
    /// Hash and group.
    table: HashTable<(u64, u32)>,
    /// By group.
    keys: Vec<Key>,
}

/// Bits of a value; `None` for types that are not packed.
fn width(data_type: &DataType) -> Option<u32> {
    match data_type {
        DataType::Boolean => Some(1),
        DataType::Int16 => Some(16),
        DataType::Int32 | DataType::UInt32 | DataType::Date32 => Some(32),
        other => is_int(other).then_some(64),
    }
}

impl Packed {
    /// `None` if the columns have other types, or are too many.
    pub(super) fn new(types: &[DataType]) -> Option<Self> {
        let widths: Vec<u32> = types.iter().map(width).collect::<Option<_>>()?;
        let fits = widths.iter().sum::<u32>() <= 128 && widths.len() <= 32;
        fits.then(|| Self { widths, table: HashTable::new(), keys: Vec::new() })
    }

    pub(super) fn assign(&mut self, columns: &[ArrayRef], rows: usize, numbers: &mut Numbers) -> Vec<u32> {
        let mut keys = vec![Key::default(); rows];
        for (place, (column, width)) in columns.iter().zip(&self.widths).enumerate() {
            pack(column, *width, place, &mut keys);
        }
        keys.iter().map(|key| self.number(*key, numbers)).collect()
    }

    #[inline]
    fn number(&mut self, key: Key, numbers: &mut Numbers) -> u32 {
        let (hash, keys) = (hash_of(key), &self.keys);
        match self.table.find(hash, |(other, group)| *other == hash && keys[*group as usize] == key) {
            Some((_, group)) => *group,
            None => self.insert(hash, key, numbers),
        }
    }

    #[cold]
    fn insert(&mut self, hash: u64, key: Key, numbers: &mut Numbers) -> u32 {
        let group = numbers.take();
        self.table.insert_unique(hash, (hash, group), |(hash, _)| *hash);
        self.keys.resize(self.keys.len().max(group as usize + 1), Key::default());
        self.keys[group as usize] = key;
        group
    }

    pub(super) fn remove(&mut self, group: u32) {
        let hash = hash_of(self.keys[group as usize]);
        let entry = self.table.find_entry(hash, |(_, other)| *other == group);
        entry.map_err(|_| ()).expect("a group that is released has its key").remove();
    }

    pub(super) fn columns(&self, groups: &[u32], types: &[DataType]) -> Vec<ArrayRef> {
        let mut above: u32 = self.widths.iter().sum();
        let column = |(place, (width, data_type)): (usize, (&u32, &DataType))| {
            above -= width;
            let values = groups.iter().map(|group| {
                let key = &self.keys[*group as usize];
                (key.nulls >> place & 1 == 0).then(|| unpacked(key.bits >> above, *width))
            });
            match data_type {
                DataType::Boolean => {
                    Arc::new(values.map(|value| value.map(|bit| bit & 1 == 1)).collect::<BooleanArray>())
                }
                _ => int_column(values, data_type),
            }
        };
        self.widths.iter().zip(types).enumerate().map(column).collect()
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.capacity() * 17 + self.keys.capacity() * size_of::<Key>()
    }
}

/// Shifts one more column into the keys.
fn pack(column: &ArrayRef, width: u32, place: usize, keys: &mut [Key]) {
    let values: Cow<'_, [i64]> = match column.data_type() {
        DataType::Boolean => column.as_boolean().values().iter().map(i64::from).collect(),
        _ => int_values(column),
    };
    let mask = u64::MAX >> (64 - width);
    match column.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => {
            for (key, value) in keys.iter_mut().zip(values.iter()) {
                key.bits = key.bits << width | u128::from(*value as u64 & mask);
            }
        }
        Some(nulls) => {
            for ((key, value), valid) in keys.iter_mut().zip(values.iter()).zip(nulls) {
                let value = if valid { *value as u64 & mask } else { 0 };
                key.bits = key.bits << width | u128::from(value);
                key.nulls |= u32::from(!valid) << place;
            }
        }
    }
}

/// The lowest bits as a signed number; what is unsigned loses the sign when it is narrowed.
fn unpacked(bits: u128, width: u32) -> i64 {
    (bits as u64 as i64) << (64 - width) >> (64 - width)
}

/// Only for the table in memory.
#[inline]
fn hash_of(key: Key) -> u64 {
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    let (low, high) = (key.bits as u64, (key.bits >> 64) as u64);
    let mixed = fold(low ^ 0x5851_f42d_4c95_7f2d ^ u64::from(key.nulls), 0x9e37_79b9_7f4a_7c15);
    fold(mixed ^ high, 0xd6e8_feb8_6659_fd93)
}
