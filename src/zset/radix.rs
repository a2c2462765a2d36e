//! Row numbers in the order of their hashes, by a radix sort that knows that hashes are spread evenly.

/// A row number with the hash of the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HashedRow {
    pub hash: u64,
    pub row: u32,
}

/// Below this a comparison sort is faster than counting.
const SMALL: usize = 192;
/// Below this an insertion sort is faster than a call.
const TINY: usize = 20;
/// More buckets than this at once overflow the first-level cache and the page table cache.
const BUCKET_BITS_MAX: u32 = 11;

/// All rows in ascending order of hash; rows of equal hash stay in their order.
pub fn sort_by_hash(hashes: &[u64]) -> Vec<HashedRow> {
    assert!(u32::try_from(hashes.len()).is_ok(), "a batch has fewer than 2^32 rows");
    let mut rows: Vec<HashedRow> = (0..).zip(hashes).map(|(row, hash)| HashedRow { hash: *hash, row }).collect();
    if hashes.is_sorted() {
        return rows;
    }
    if rows.len() <= SMALL {
        rows.sort_unstable();
        return rows;
    }
    let mut scratch = rows.clone();
    let mut bounds = Vec::new();
    scatter(&rows, &mut scratch, &mut bounds);
    let mut inner = Vec::new();
    for (start, end) in pairs(&bounds) {
        sort_bucket(&mut scratch[start..end], &mut rows[start..end], &mut inner);
    }
    rows
}

/// Sorts what is in `from` into `to`.
fn sort_bucket(from: &mut [HashedRow], to: &mut [HashedRow], bounds: &mut Vec<u32>) {
    if from.len() <= SMALL {
        to.copy_from_slice(from);
        return sort_few(to);
    }
    scatter(from, to, bounds);
    for (start, end) in pairs(bounds) {
        sort_few(&mut to[start..end]);
    }
}

fn sort_few(rows: &mut [HashedRow]) {
    if rows.len() > TINY {
        return rows.sort_unstable();
    }
    for end in 1..rows.len() {
        let row = rows[end];
        let mut place = end;
        while place > 0 && rows[place - 1].hash > row.hash {
            rows[place] = rows[place - 1];
            place -= 1;
        }
        rows[place] = row;
    }
}

fn pairs(bounds: &[u32]) -> impl Iterator<Item = (usize, usize)> + '_ {
    bounds.windows(2).map(|pair| (pair[0] as usize, pair[1] as usize))
}

/// Distributes `from` over buckets of `to` by the leading bits in which the hashes differ, keeping the order within
/// a bucket. Bucket `i` then lies between `bounds[i]` and `bounds[i + 1]`.
fn scatter(from: &[HashedRow], to: &mut [HashedRow], bounds: &mut Vec<u32>) {
    let (least, most) = from.iter().fold((u64::MAX, 0), |(least, most), row| (least.min(row.hash), most.max(row.hash)));
    // Only the bits in which the hashes differ tell them apart: a worker's share has equal leading bits.
    let width = 64 - (most - least).leading_zeros();
    let bits = (from.len().ilog2() - 1).clamp(1, BUCKET_BITS_MAX);
    let shift = width.saturating_sub(bits);
    let bucket = |row: &HashedRow| ((row.hash - least) >> shift) as usize;
    let buckets = ((most - least) >> shift) as usize + 1;
    bounds.clear();
    bounds.resize(buckets + 1, 0);
    from.iter().for_each(|row| bounds[bucket(row) + 1] += 1);
    (0..buckets).for_each(|bucket| bounds[bucket + 1] += bounds[bucket]);
    for row in from {
        let place = &mut bounds[bucket(row)];
        to[*place as usize] = *row;
        *place += 1;
    }
    // Every start has moved to the start of the next bucket.
    bounds.rotate_right(1);
    bounds[0] = 0;
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn check(hashes: &[u64]) {
        let mut expected: Vec<HashedRow> =
            hashes.iter().enumerate().map(|(row, hash)| HashedRow { hash: *hash, row: row as u32 }).collect();
        expected.sort_by_key(|row| row.hash);
        assert!(sort_by_hash(hashes) == expected, "{} hashes", hashes.len());
    }

    #[test]
    fn sorts_like_a_stable_sort_whatever_the_spread() {
        let mut random = SmallRng::seed_from_u64(3);
        for rows in [0, 1, 2, 19, 192, 193, 500, 5_000, 60_000] {
            check(&(0..rows).map(|_| random.random()).collect::<Vec<_>>());
            check(&(0..rows).map(|_| random.random::<u64>() >> 62).collect::<Vec<_>>());
            check(&(0..rows).map(|_| random.random::<u64>() | 7 << 61).collect::<Vec<_>>());
            check(&(0..rows).map(|row| if row % 2 == 0 { 17 } else { random.random() }).collect::<Vec<_>>());
            check(&vec![u64::MAX; rows]);
            check(&(0..rows).map(|row| if row % 3 == 0 { u64::MAX } else { 0 }).collect::<Vec<_>>());
        }
    }
}
