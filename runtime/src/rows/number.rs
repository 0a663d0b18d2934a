//! Hashes by which rows are compared: two that have one number are one row.

use std::hash::{BuildHasherDefault, Hasher};

/// A 128-bit hash; rows are compared by it alone.
pub type Number = u128;

const FIRST: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
const SECOND: u128 = 0xd6e8_feb8_6659_fd93_c2b2_ae3d_27d4_eb4f;
const THIRD: u128 = 0xa076_1d64_78bd_642f_e703_7ed1_a0b4_28db;

/// What a number is made of. Two of different kinds are never equal because of what they are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A token at a position.
    Row = 1,
    /// An edit with its parameters.
    Edit,
    /// A row under an edit.
    Edited,
    /// A row with what a patch gives to it.
    Given,
    /// A row that takes the place of another.
    Redirected,
    /// A row behind earlier ones.
    Past,
}

/// A number from one that may be small or patterned: every bit depends on every bit.
pub fn mixed(kind: Kind, x: u128) -> Number {
    let x = x.wrapping_add((kind as u128).wrapping_mul(THIRD));
    let mut x = x ^ (x >> 64);
    x = x.wrapping_mul(FIRST);
    x ^= x >> 71;
    x = x.wrapping_mul(SECOND);
    x ^ (x >> 67)
}

/// The number of a pair. The order matters.
pub fn joined(kind: Kind, a: Number, b: u128) -> Number {
    mixed(kind, a.wrapping_mul(SECOND).wrapping_add(b))
}

/// What a sequence of numbers comes to with one more of them; [`mixed`] makes a number of it. One product,
/// since each step of a sequence waits for the one before.
pub fn behind(past: u128, next: Number) -> u128 {
    past.wrapping_mul(FIRST).wrapping_add(next)
}

/// Keeps what is a hash already: its low bits.
#[derive(Default)]
pub struct Kept(u64);

impl Hasher for Kept {
    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = (self.0 ^ u64::from(*b)).wrapping_mul(FIRST as u64);
        }
    }

    fn write_u128(&mut self, x: u128) {
        self.0 = x as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// By number.
pub type ByNumber<T> = std::collections::HashMap<Number, T, BuildHasherDefault<Kept>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_small_things_spread_over_all_bits() {
        let mut seen = std::collections::HashSet::new();
        let mut ones = [0u32; 128];
        for a in 0..200u128 {
            for b in 0..200u128 {
                let n = joined(Kind::Past, mixed(Kind::Row, a), b);
                assert!(seen.insert(n), "{a} and {b}");
                (0..128).for_each(|i| ones[i] += (n >> i & 1) as u32);
            }
        }
        assert!(ones.iter().all(|n| (19_000..21_000).contains(n)), "{ones:?}");
    }

    #[test]
    fn one_bit_changes_half_of_the_others() {
        for i in 0..128 {
            let changed = (mixed(Kind::Row, 7) ^ mixed(Kind::Row, 7 ^ (1 << i))).count_ones();
            assert!((30..98).contains(&changed), "bit {i} changes {changed}");
        }
    }

    #[test]
    fn order_and_kind_matter() {
        let (a, b) = (mixed(Kind::Row, 1), mixed(Kind::Row, 2));
        assert_ne!(joined(Kind::Past, a, b), joined(Kind::Past, b, a));
        assert_ne!(joined(Kind::Past, a, b), joined(Kind::Edited, a, b));
        // An edit without parameters and a row that only differ in what they are.
        assert_ne!(joined(Kind::Edited, a, mixed(Kind::Edit, 1)), joined(Kind::Past, a, mixed(Kind::Row, 1)));
    }
}
