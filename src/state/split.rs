//! Which worker owns which hashes: contiguous ranges of equal size, in the order in which runs are sorted.

/// The worker that owns a hash.
#[inline]
pub fn worker_of(hash: u64, workers: usize) -> usize {
    ((u128::from(hash) * workers as u128) >> 64) as usize
}

/// The first and the last hash that a worker owns.
pub fn range_of(worker: usize, workers: usize) -> (u64, u64) {
    assert!(worker < workers, "worker {worker} is one of {workers}");
    // The first hash of a worker is the smallest h with h * workers >= worker * 2^64.
    let first = |worker: usize| ((worker as u128) << 64).div_ceil(workers as u128);
    (first(worker) as u64, (first(worker + 1) - 1) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_meet_and_cover_all_hashes() {
        for workers in [1, 2, 3, 7, 16, 63] {
            let mut next = 0_u128;
            for worker in 0..workers {
                let (first, last) = range_of(worker, workers);
                assert_eq!(u128::from(first), next);
                assert_eq!((worker_of(first, workers), worker_of(last, workers)), (worker, worker));
                next = u128::from(last) + 1;
            }
            assert_eq!(next, 1 << 64);
        }
    }
}
