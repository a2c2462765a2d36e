//! Numbers for keys: which group each row belongs to. Operators keep a group's state in columns, by its number.

mod packed;

use std::borrow::Cow;

use arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray, Int64Array, PrimitiveArray, StringViewArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType, UInt32Type,
};
use arrow::row::{RowConverter, SortField};
use hashbrown::HashTable;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

use self::packed::Packed;
use crate::state::touch;

/// The keys that have a number now. Numbers are small and are used again after [`Groups::release`].
///
/// Key columns are in canonical form (`zset::canonical`): equal keys are equal by their bits.
pub(super) struct Groups {
    keys: Keys,
    numbers: Numbers,
}

enum Keys {
    /// No key columns: one group.
    None,
    /// One column of integers of up to 64 bits, or dates and times.
    Ints(Ints),
    /// Several such columns, or booleans, of at most 128 bits together.
    Packed(Packed),
    /// One column of text or bytes.
    Bytes(Bytes),
    /// Anything else, in Arrow's row format.
    Rows(RowConverter, Bytes),
}

impl Keys {
    fn rows(types: &[DataType]) -> Self {
        let fields = types.iter().map(|data_type| SortField::new(data_type.clone())).collect();
        Keys::Rows(RowConverter::new(fields).expect("every SQL type has a row format"), Bytes::default())
    }
}

/// Hands out group numbers, freed ones first.
#[derive(Default)]
struct Numbers {
    free: Vec<u32>,
    next: u32,
}

impl Numbers {
    #[inline]
    fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            let number = self.next;
            self.next = number.checked_add(1).expect("an operator has fewer than 2^32 groups on a worker");
            number
        })
    }
}

impl Groups {
    /// For keys of columns of these types.
    pub(super) fn new(types: &[DataType]) -> Self {
        let keys = match types {
            [] => Keys::None,
            [one] if is_int(one) => Keys::Ints(Ints::default()),
            [DataType::Utf8View | DataType::BinaryView] => Keys::Bytes(Bytes::default()),
            several => match Packed::new(several) {
                Some(packed) => Keys::Packed(packed),
                None => Keys::rows(several),
            },
        };
        Self { keys, numbers: Numbers::default() }
    }
    /// All numbers are below this.
    pub(super) fn bound(&self) -> usize {
        match self.keys {
            Keys::None => 1,
            _ => self.numbers.next as usize,
        }
    }

    /// The group of each of `rows` rows; new keys get a number.
    pub(super) fn assign(&mut self, columns: &[ArrayRef], rows: usize) -> Vec<u32> {
        touch(rows);
        let numbers = &mut self.numbers;
        match &mut self.keys {
            Keys::None => vec![0; rows],
            Keys::Ints(ints) => ints.assign(&columns[0], numbers),
            Keys::Packed(packed) => packed.assign(columns, rows, numbers),
            Keys::Bytes(bytes) => match columns[0].data_type() {
                DataType::Utf8View => {
                    let column = columns[0].as_string_view();
                    let key = |row: usize| column.is_valid(row).then(|| column.value(row).as_bytes());
                    (0..rows).map(|row| bytes.number(key(row), numbers)).collect()
                }
                _ => {
                    let column = columns[0].as_binary_view();
                    let key = |row: usize| column.is_valid(row).then(|| column.value(row));
                    (0..rows).map(|row| bytes.number(key(row), numbers)).collect()
                }
            },
            Keys::Rows(converter, bytes) => {
                let keys = converter.convert_columns(columns).expect("the columns have the types of the key");
                keys.iter().map(|key| bytes.number(Some(key.as_ref()), numbers)).collect()
            }
        }
    }

    /// Forgets the keys of these groups; their numbers will be given to other keys.
    pub(super) fn release(&mut self, groups: &[u32]) {
        for group in groups {
            match &mut self.keys {
                Keys::None => continue,
                Keys::Ints(ints) => ints.remove(*group),
                Keys::Packed(packed) => packed.remove(*group),
                Keys::Bytes(bytes) | Keys::Rows(_, bytes) => bytes.remove(*group),
            }
            self.numbers.free.push(*group);
        }
        if let Keys::Bytes(bytes) | Keys::Rows(_, bytes) = &mut self.keys {
            bytes.compact();
        }
    }

    /// The keys of these groups, as columns of the types that `new` was given.
    pub(super) fn columns(&self, groups: &[u32], types: &[DataType]) -> Vec<ArrayRef> {
        match &self.keys {
            Keys::None => Vec::new(),
            Keys::Ints(ints) => vec![ints.column(groups, &types[0])],
            Keys::Packed(packed) => packed.columns(groups, types),
            Keys::Bytes(bytes) => vec![bytes.column(groups, &types[0])],
            Keys::Rows(converter, bytes) => {
                let parser = converter.parser();
                let rows = groups.iter().map(|group| parser.parse(bytes.key(*group).expect("row keys are not NULL")));
                converter.convert_rows(rows).expect("the bytes came from the same converter")
            }
        }
    }

    /// Bytes of memory held, roughly.
    pub(super) fn bytes(&self) -> usize {
        match &self.keys {
            Keys::None => 0,
            Keys::Ints(ints) => ints.table.capacity() * 17 + ints.keys.capacity() * 8,
            Keys::Packed(packed) => packed.bytes(),
            Keys::Bytes(bytes) | Keys::Rows(_, bytes) => {
                bytes.table.capacity() * 17 + bytes.spans.capacity() * size_of::<Span>() + bytes.arena.capacity()
            }
        }
    }
}

fn is_int(data_type: &DataType) -> bool {
    use DataType::{Date32, Int16, Int32, Int64, Time64, Timestamp, UInt32};
    matches!(
        data_type,
        Int16 | Int32 | Int64 | UInt32 | Date32 | Time64(TimeUnit::Microsecond) | Timestamp(TimeUnit::Microsecond, _)
    )
}

/// Keys of one integer column.
#[derive(Default)]
struct Ints {
    /// Key and group.
    table: HashTable<(i64, u32)>,
    /// By group.
    keys: Vec<i64>,
    null: Option<u32>,
}

impl Ints {
    fn assign(&mut self, column: &ArrayRef, numbers: &mut Numbers) -> Vec<u32> {
        let values = int_values(column);
        match column.nulls().filter(|nulls| nulls.null_count() > 0) {
            None => values.iter().map(|key| self.number(*key, numbers)).collect(),
            Some(nulls) => {
                let number = |(row, key): (usize, &i64)| match nulls.is_valid(row) {
                    true => self.number(*key, numbers),
                    false => self.null_number(numbers),
                };
                values.iter().enumerate().map(number).collect()
            }
        }
    }

    #[inline]
    fn number(&mut self, key: i64, numbers: &mut Numbers) -> u32 {
        let hash = int_hash(key);
        match self.table.find(hash, |(other, _)| *other == key) {
            Some((_, group)) => *group,
            None => self.insert(hash, key, numbers),
        }
    }

    #[cold]
    fn insert(&mut self, hash: u64, key: i64, numbers: &mut Numbers) -> u32 {
        let group = numbers.take();
        self.table.insert_unique(hash, (key, group), |(key, _)| int_hash(*key));
        self.keys.resize(self.keys.len().max(group as usize + 1), 0);
        self.keys[group as usize] = key;
        group
    }

    fn null_number(&mut self, numbers: &mut Numbers) -> u32 {
        *self.null.get_or_insert_with(|| {
            let group = numbers.take();
            self.keys.resize(self.keys.len().max(group as usize + 1), 0);
            group
        })
    }

    fn remove(&mut self, group: u32) {
        if self.null == Some(group) {
            self.null = None;
            return;
        }
        let key = self.keys[group as usize];
        let entry = self.table.find_entry(int_hash(key), |(other, _)| *other == key);
        entry.map_err(|_| ()).expect("a group that is released has its key").remove();
    }

    fn column(&self, groups: &[u32], data_type: &DataType) -> ArrayRef {
        let key = |group: &u32| (self.null != Some(*group)).then(|| self.keys[*group as usize]);
        int_column(groups.iter().map(key), data_type)
    }
}

/// A column of one of the types for which `is_int` is true.
fn int_column(values: impl Iterator<Item = Option<i64>>, data_type: &DataType) -> ArrayRef {
    fn narrow<T: ArrowPrimitiveType>(
        values: impl Iterator<Item = Option<i64>>,
        data_type: &DataType,
        native: impl Fn(i64) -> T::Native,
    ) -> ArrayRef {
        let array: PrimitiveArray<T> = values.map(|value| value.map(&native)).collect();
        Arc::new(array.with_data_type(data_type.clone()))
    }
    match data_type {
        DataType::Int16 => narrow::<Int16Type>(values, data_type, |value| value as i16),
        DataType::Int32 => narrow::<Int32Type>(values, data_type, |value| value as i32),
        DataType::UInt32 => narrow::<UInt32Type>(values, data_type, |value| value as u32),
        DataType::Date32 => narrow::<Date32Type>(values, data_type, |value| value as i32),
        DataType::Time64(_) => narrow::<Time64MicrosecondType>(values, data_type, |value| value),
        DataType::Timestamp(_, _) => narrow::<TimestampMicrosecondType>(values, data_type, |value| value),
        _ => Arc::new(Int64Array::from_iter(values)),
    }
}

fn int_values(column: &ArrayRef) -> Cow<'_, [i64]> {
    fn widened<T: ArrowPrimitiveType>(column: &ArrayRef) -> Cow<'static, [i64]>
    where
        T::Native: Into<i64>,
    {
        column.as_primitive::<T>().values().iter().map(|value| (*value).into()).collect()
    }
    match column.data_type() {
        DataType::Int16 => widened::<Int16Type>(column),
        DataType::Int32 => widened::<Int32Type>(column),
        DataType::UInt32 => widened::<UInt32Type>(column),
        DataType::Date32 => widened::<Date32Type>(column),
        DataType::Time64(_) => Cow::Borrowed(column.as_primitive::<Time64MicrosecondType>().values()),
        DataType::Timestamp(_, _) => Cow::Borrowed(column.as_primitive::<TimestampMicrosecondType>().values()),
        _ => Cow::Borrowed(column.as_primitive::<Int64Type>().values()),
    }
}

/// Only for the table in memory: cheaper than the hash that orders and routes.
#[inline]
fn int_hash(key: i64) -> u64 {
    let product = u128::from(key as u64 ^ 0x5851_f42d_4c95_7f2d) * 0x9e37_79b9_7f4a_7c15;
    product as u64 ^ (product >> 64) as u64
}

/// Keys that are bytes, one after another in an arena.
#[derive(Default)]
struct Bytes {
    /// Hash and group.
    table: HashTable<(u64, u32)>,
    /// By group: where its key lies.
    spans: Vec<Span>,
    arena: Vec<u8>,
    /// Bytes of the arena that belong to no group.
    dead: usize,
    null: Option<u32>,
}

#[derive(Clone, Copy, Default)]
struct Span {
    start: usize,
    length: usize,
}

impl Bytes {
    #[inline]
    fn number(&mut self, key: Option<&[u8]>, numbers: &mut Numbers) -> u32 {
        let Some(key) = key else { return self.null_number(numbers) };
        let hash = xxh3_64(key);
        let (spans, arena) = (&self.spans, &self.arena);
        let same = |(other, group): &(u64, u32)| *other == hash && bytes_of(spans, arena, *group) == key;
        match self.table.find(hash, same) {
            Some((_, group)) => *group,
            None => self.insert(hash, key, numbers),
        }
    }

    #[cold]
    fn insert(&mut self, hash: u64, key: &[u8], numbers: &mut Numbers) -> u32 {
        let group = numbers.take();
        self.table.insert_unique(hash, (hash, group), |(hash, _)| *hash);
        self.spans.resize(self.spans.len().max(group as usize + 1), Span::default());
        self.spans[group as usize] = Span { start: self.arena.len(), length: key.len() };
        self.arena.extend_from_slice(key);
        group
    }

    fn null_number(&mut self, numbers: &mut Numbers) -> u32 {
        *self.null.get_or_insert_with(|| {
            let group = numbers.take();
            self.spans.resize(self.spans.len().max(group as usize + 1), Span::default());
            group
        })
    }

    /// `None` for the group of NULL.
    fn key(&self, group: u32) -> Option<&[u8]> {
        (self.null != Some(group)).then(|| bytes_of(&self.spans, &self.arena, group))
    }

    fn remove(&mut self, group: u32) {
        if self.null == Some(group) {
            self.null = None;
            return;
        }
        let hash = xxh3_64(bytes_of(&self.spans, &self.arena, group));
        let entry = self.table.find_entry(hash, |(_, other)| *other == group);
        entry.map_err(|_| ()).expect("a group that is released has its key").remove();
        self.dead += self.spans[group as usize].length;
        self.spans[group as usize] = Span::default();
    }

    /// Drops dead bytes when they are more than the live ones.
    fn compact(&mut self) {
        if self.dead < 1 << 16 || self.dead * 2 < self.arena.len() {
            return;
        }
        let mut arena = Vec::with_capacity(self.arena.len() - self.dead);
        for span in self.spans.iter_mut().filter(|span| span.length > 0) {
            let start = arena.len();
            arena.extend_from_slice(&self.arena[span.start..span.start + span.length]);
            span.start = start;
        }
        (self.arena, self.dead) = (arena, 0);
    }

    fn column(&self, groups: &[u32], data_type: &DataType) -> ArrayRef {
        let keys = groups.iter().map(|group| self.key(*group));
        match data_type {
            DataType::Utf8View => {
                let text = |key: &'_ [u8]| String::from_utf8(key.to_vec()).expect("the bytes came from text");
                Arc::new(StringViewArray::from_iter(keys.map(|key| key.map(text))))
            }
            _ => Arc::new(BinaryViewArray::from_iter(keys)),
        }
    }
}

#[inline]
fn bytes_of<'a>(spans: &[Span], arena: &'a [u8], group: u32) -> &'a [u8] {
    let Span { start, length } = spans[group as usize];
    &arena[start..start + length]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataflow::law::schema;
    use crate::zset::parse_rows;

    fn check(columns: &str, rows: &str, expected: &[u32]) {
        let types: Vec<DataType> = schema(columns).fields().iter().map(|field| field.data_type().clone()).collect();
        let rows = parse_rows(columns, rows);
        let mut groups = Groups::new(&types);
        let assigned = groups.assign(rows.batch().columns(), rows.len());
        assert_eq!(assigned, expected);
        let keys = groups.columns(&assigned, &types);
        assert_eq!(keys, rows.batch().columns(), "the keys come back");
        groups.release(&[expected[0]]);
        let again = groups.assign(rows.batch().columns(), rows.len());
        assert_eq!(again, expected, "a number that was freed is used again");
        assert_eq!(groups.columns(&again, &types), rows.batch().columns());
    }

    #[test]
    fn equal_keys_have_one_number() {
        check("k BIGINT", "+1 | 7\n+1 | NULL\n+1 | 7\n+1 | -1\n+1 | NULL", &[0, 1, 0, 2, 1]);
        check("k SMALLINT", "+1 | NULL\n+1 | 3", &[0, 1]);
        check("k TIMESTAMPTZ", "+1 | 2024-02-29T12:00:00Z\n+1 | NULL", &[0, 1]);
        check("k TEXT", "+1 | a\n+1 | a text that is longer than twelve\n+1 | NULL\n+1 | \n+1 | a", &[0, 1, 2, 3, 0]);
        check("k TEXT, j INT", "+1 | a | 1\n+1 | a | NULL\n+1 | NULL | 1\n+1 | a | 1", &[0, 1, 2, 0]);
        let pairs = "+1 | -7 | 1\n+1 | 1 | -7\n+1 | NULL | 0\n+1 | 0 | NULL\n+1 | 0 | 0\n+1 | -7 | 1";
        check("k BIGINT, j BIGINT", pairs, &[0, 1, 2, 3, 4, 0]);
        check("k INT, b BOOLEAN, s SMALLINT", "+1 | -1 | true | -2\n+1 | -1 | NULL | -2", &[0, 1]);
        check("k FLOAT", "+1 | 0.5\n+1 | NULL\n+1 | 0.5", &[0, 1, 0]);
    }

    #[test]
    fn long_keys_that_come_and_go_leave_no_memory_behind() {
        let mut groups = Groups::new(&[DataType::Utf8View]);
        for round in 0..2_000 {
            let text = format!("{round:0>100}");
            let column: ArrayRef = Arc::new(StringViewArray::from(vec![text.as_str(), "stays"]));
            let assigned = groups.assign(&[column], 2);
            groups.release(&assigned[..1]);
        }
        assert!(groups.bytes() < 200_000, "{}", groups.bytes());
        assert_eq!(groups.bound(), 2);
    }
}
