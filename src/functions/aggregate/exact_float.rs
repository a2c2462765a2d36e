//! Sums of floats without any rounding until they are read, so that they do not drift when rows come and go.
//!
//! Every finite float is a whole number times a power of two. The range of exponents is cut into bins of 32; a bin's sum
//! is a whole number in units of the bin's lowest power, so adding and taking back are exact. Data uses few bins.

use std::collections::HashMap;

use crate::zset::{Weight, weights_add};

/// Exponents in one bin.
const BIN_BITS: u32 = 32;
/// Bins over all exponents of a double, -1074 to 971.
const BINS: usize = 64;
const EXPONENT_MIN: i32 = -1074;

/// One exact sum for each group.
pub(super) struct ExactFloats {
    groups: usize,
    /// The bins in use, each with one sum for each group.
    bins: Vec<Bin>,
    /// Where in `bins` a bin is.
    places: [Option<u8>; BINS],
    /// Groups that hold values which no sum can: few.
    specials: HashMap<u32, Specials>,
}

struct Bin {
    index: usize,
    sums: Vec<i128>,
}

/// How many of each there are.
#[derive(Clone, Copy, Default, PartialEq)]
struct Specials {
    nans: i64,
    positive: i64,
    negative: i64,
}

impl Default for ExactFloats {
    fn default() -> Self {
        Self { groups: 0, bins: Vec::new(), places: [None; BINS], specials: HashMap::new() }
    }
}

impl ExactFloats {
    pub(super) fn grow(&mut self, groups: usize) {
        self.groups = groups;
        self.bins.iter_mut().for_each(|bin| bin.sums.resize(groups, 0));
    }

    #[inline]
    pub(super) fn add(&mut self, group: u32, value: f64, weight: Weight) {
        let bits = value.to_bits();
        let fraction = (bits & ((1 << 52) - 1)) as i128;
        let (mantissa, shifted) = match (bits >> 52) & 0x7ff {
            0x7ff => return self.add_special(group, value, weight),
            0 => (fraction, 0),
            // The lowest bit of this mantissa stands for 2^(shifted - 1074).
            exponent => (fraction | (1 << 52), exponent as u32 - 1),
        };
        let signed = if value.is_sign_negative() { -mantissa } else { mantissa };
        let place = self.place((shifted / BIN_BITS) as usize);
        // A double has 53 bits and moves up by at most 31: 2^43 of them fit the sum.
        self.bins[place].sums[group as usize] += (signed << (shifted % BIN_BITS)) * i128::from(weight);
    }

    #[inline]
    fn place(&mut self, index: usize) -> usize {
        match self.places[index] {
            Some(place) => usize::from(place),
            None => self.new_bin(index),
        }
    }

    #[cold]
    fn new_bin(&mut self, index: usize) -> usize {
        let place = self.bins.len();
        self.places[index] = Some(place as u8);
        self.bins.push(Bin { index, sums: vec![0; self.groups] });
        place
    }

    #[cold]
    fn add_special(&mut self, group: u32, value: f64, weight: Weight) {
        let specials = self.specials.entry(group).or_default();
        let count = match value {
            value if value.is_nan() => &mut specials.nans,
            value if value > 0.0 => &mut specials.positive,
            _ => &mut specials.negative,
        };
        *count = weights_add(*count, weight);
        if *specials == Specials::default() {
            self.specials.remove(&group);
        }
    }

    /// The sum, rounded once. `Err` if it is finite but too large for a double.
    pub(super) fn total(&self, group: u32) -> Result<f64, Overflow> {
        if let Some(special) = self.special_total(group) {
            return Ok(special);
        }
        let total = self.finite_total(group);
        if total.is_finite() { Ok(total) } else { Err(Overflow) }
    }

    /// The sum without any rounding: doubles, falling, of which each is what the ones before lack.
    pub(super) fn parts(&self, group: u32) -> Result<Vec<f64>, Overflow> {
        if let Some(special) = self.special_total(group) {
            return Ok(vec![special]);
        }
        let mut rest = ExactFloats::default();
        rest.grow(1);
        for (index, sum) in self.bins_of(group) {
            let place = rest.place(index);
            rest.bins[place].sums[0] = sum;
        }
        let mut parts = Vec::with_capacity(3);
        loop {
            match rest.total(0)? {
                0.0 => return Ok(parts),
                part => {
                    rest.add(0, part, -1);
                    parts.push(part);
                }
            }
        }
    }

    /// Adds a product of two doubles: what rounding takes from it is added, too.
    #[inline]
    pub(super) fn add_product(&mut self, group: u32, one: f64, other: f64, weight: Weight) {
        let product = one * other;
        self.add(group, product, weight);
        let lost = one.mul_add(other, -product);
        if lost.is_finite() {
            self.add(group, lost, weight);
        }
    }

    fn special_total(&self, group: u32) -> Option<f64> {
        let Specials { nans, positive, negative } = *self.specials.get(&group)?;
        Some(match (positive > 0, negative > 0) {
            _ if nans > 0 => f64::NAN,
            (true, true) => f64::NAN,
            (true, false) => f64::INFINITY,
            _ => f64::NEG_INFINITY,
        })
    }

    fn finite_total(&self, group: u32) -> f64 {
        let mut sums: Vec<(usize, i128)> = self.bins_of(group).collect();
        sums.sort_unstable_by_key(|(index, _)| *index);
        match sums.as_slice() {
            [] => 0.0,
            [(index, sum)] => rounded(sum.unsigned_abs(), unit(*index), *sum < 0),
            several => round_bins(several),
        }
    }

    /// The sums of a group that are not zero.
    fn bins_of(&self, group: u32) -> impl Iterator<Item = (usize, i128)> {
        self.bins.iter().map(move |bin| (bin.index, bin.sums[group as usize])).filter(|(_, sum)| *sum != 0)
    }

    pub(super) fn reset(&mut self, group: u32) {
        self.bins.iter_mut().for_each(|bin| bin.sums[group as usize] = 0);
        self.specials.remove(&group);
    }

    /// A group's state as entries of 17 bytes: the bin (64 to 66 for the count of NaN, +infinity, -infinity), its sum.
    pub(super) fn save(&self, group: u32) -> Vec<u8> {
        let mut entries: Vec<(usize, i128)> = self.bins_of(group).collect();
        if let Some(specials) = self.specials.get(&group) {
            let counts = [specials.nans, specials.positive, specials.negative];
            entries.extend(counts.iter().enumerate().map(|(kind, count)| (BINS + kind, i128::from(*count))));
        }
        entries.sort_unstable();
        entries.iter().flat_map(|(bin, sum)| std::iter::once(*bin as u8).chain(sum.to_le_bytes())).collect()
    }

    /// Adds what `save` gave.
    pub(super) fn load(&mut self, group: u32, state: &[u8]) {
        for entry in state.chunks_exact(17) {
            let sum = i128::from_le_bytes(entry[1..].try_into().expect("an entry has 17 bytes"));
            match usize::from(entry[0]) {
                bin if bin < BINS => {
                    let place = self.place(bin);
                    self.bins[place].sums[group as usize] += sum;
                }
                special if sum != 0 => {
                    let value = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY][special - BINS];
                    self.add_special(group, value, sum as i64);
                }
                _ => {}
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bins.iter().map(|bin| bin.sums.capacity() * 16).sum()
    }
}

/// The sum is beyond the largest double.
#[derive(Debug, PartialEq)]
pub(super) struct Overflow;

/// The power of two that a bin's sum counts.
fn unit(bin: usize) -> i32 {
    bin as i32 * BIN_BITS as i32 + EXPONENT_MIN
}

/// `magnitude * 2^exponent`, rounded to the nearest double, ties to even. `exponent` is at least that of a bin.
fn rounded(magnitude: u128, exponent: i32, negative: bool) -> f64 {
    let bits = 128 - magnitude.leading_zeros() as i32;
    let shift = (bits - 53).max(0);
    let mut kept = magnitude >> shift;
    let rest = magnitude - (kept << shift);
    if shift > 0 {
        let half = 1_u128 << (shift - 1);
        if rest > half || (rest == half && kept & 1 == 1) {
            kept += 1;
        }
    }
    // Two factors, since one power of two may lie outside of the doubles where the product does not.
    let exponent = exponent + shift;
    let value = kept as f64 * power_of_two(exponent / 2) * power_of_two(exponent - exponent / 2);
    if negative { -value } else { value }
}

fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// The sum of several bins, rising: as one long number in digits of 32 bits, then rounded.
fn round_bins(sums: &[(usize, i128)]) -> f64 {
    let (digits, negative) = match long_number(sums, 1) {
        Some(digits) => (digits, false),
        None => (long_number(sums, -1).expect("a number or its opposite is not negative"), true),
    };
    let Some(top) = digits.iter().rposition(|digit| *digit != 0) else { return 0.0 };
    let lowest = top.saturating_sub(3);
    let magnitude = digits[lowest..=top].iter().rev().fold(0_u128, |sum, digit| (sum << 32) | u128::from(*digit));
    // What lies below only matters as "a little more".
    let more = digits[..lowest].iter().any(|digit| *digit != 0);
    rounded(magnitude | u128::from(more), unit(sums[0].0) + lowest as i32 * BIN_BITS as i32, negative)
}

/// The digits from the lowest bin on, least first; `None` if the number is negative.
fn long_number(sums: &[(usize, i128)], sign: i128) -> Option<Vec<u32>> {
    let (lowest, highest) = (sums[0].0, sums[sums.len() - 1].0);
    let mut rest = sums.iter().peekable();
    let mut digits = Vec::with_capacity(highest - lowest + 5);
    let mut carry = 0_i128;
    for bin in lowest..=highest + 4 {
        let here = rest.next_if(|(index, _)| *index == bin).map_or(0, |(_, sum)| sum * sign);
        let total = here + carry;
        digits.push(total as u32);
        carry = total >> BIN_BITS;
    }
    (carry >= 0).then_some(digits)
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn sum(values: &[f64]) -> Result<f64, Overflow> {
        let mut sums = ExactFloats::default();
        sums.grow(1);
        values.iter().for_each(|value| sums.add(0, *value, 1));
        sums.total(0)
    }

    #[test]
    fn a_sum_is_rounded_once() {
        assert_eq!(sum(&[0.1, 0.2]), Ok(0.1 + 0.2));
        assert_eq!(sum(&[0.1; 10]), Ok(1.0));
        assert_eq!(sum(&[1e300, 1.0, -1e300]), Ok(1.0));
        assert_eq!(sum(&[1e300, 1e-300, -1e300]), Ok(1e-300));
        assert_eq!(sum(&[-5e-324, -5e-324]), Ok(-1e-323));
        assert_eq!(sum(&[f64::MAX, f64::MAX, -f64::MAX]), Ok(f64::MAX));
        assert_eq!(sum(&[]), Ok(0.0));
    }

    #[test]
    fn what_no_double_holds_is_told() {
        assert_eq!(sum(&[f64::MAX, f64::MAX]), Err(Overflow));
        assert_eq!(sum(&[f64::INFINITY, 1.0]), Ok(f64::INFINITY));
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).expect("NaN is no overflow").is_nan());
        assert!(sum(&[1.0, f64::NAN]).expect("NaN is no overflow").is_nan());
    }

    #[test]
    fn two_doubles_add_as_the_processor_adds_them() {
        let mut random = SmallRng::seed_from_u64(7);
        for _ in 0..20_000 {
            let (a, b) = (f64::from_bits(random.random()), f64::from_bits(random.random()));
            // Close exponents make the interesting sums.
            let b = if random.random_bool(0.7) { a * (b.to_bits() as f64 / 1e19 - 1.0) } else { b };
            if (a + b).is_finite() {
                assert_eq!(sum(&[a, b]), Ok(a + b), "{a:e} + {b:e}");
            }
        }
    }

    #[test]
    fn rows_that_came_and_went_leave_no_trace() {
        let mut random = SmallRng::seed_from_u64(8);
        let mut sums = ExactFloats::default();
        sums.grow(1);
        sums.add(0, 0.3, 1);
        let before = sums.save(0);
        let values: Vec<f64> = (0..1_000).map(|_| f64::from_bits(random.random())).collect();
        values.iter().for_each(|value| sums.add(0, *value, 3));
        values.iter().rev().for_each(|value| sums.add(0, *value, -3));
        assert_eq!((sums.total(0), sums.save(0)), (Ok(0.3), before));
    }
}
