//! Chance that depends on the seed and on what it is drawn for, so that the order of events changes nothing.

use std::hash::{Hash, Hasher};

use crate::settings::Range;

/// Draws for one site.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dice {
    seed: u64,
}

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed }
    }

    fn draw(self, key: impl Hash) -> u64 {
        let mut hasher = Fnv(0xcbf2_9ce4_8422_2325 ^ self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        key.hash(&mut hasher);
        mixed(hasher.0)
    }

    /// A number within the range, both ends included.
    pub(crate) fn within(self, range: Range, key: impl Hash) -> u64 {
        if range.high <= range.low {
            return range.low;
        }
        range.low + self.draw(key) % (range.high - range.low + 1)
    }

    /// Whether something of this probability happens.
    pub(crate) fn happens(self, probability: f64, key: impl Hash) -> bool {
        // 53 bits, as many as a double holds exactly.
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let drawn = (self.draw(key) >> 11) as f64 / (1_u64 << 53) as f64;
        drawn < probability
    }
}

/// The finalizer of splitmix64.
fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// FNV-1a: the same on every machine and in every version, unlike the standard hasher.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_depend_on_seed_and_key_only() {
        let range = Range { low: 10, high: 20 };
        let draws = |seed: u64| (0..50_u32).map(|n| Dice::new(seed).within(range, n)).collect::<Vec<_>>();
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
        assert!(draws(1).iter().all(|n| (10..=20).contains(n)));
        assert!(draws(1).contains(&10) && draws(1).contains(&20));
    }

    #[test]
    fn probabilities_are_kept() {
        let hits = (0..10_000_u32).filter(|n| Dice::new(7).happens(0.2, n)).count();
        assert!((1_800..2_200).contains(&hits), "{hits}");
        assert!((0..1000_u32).all(|n| !Dice::new(7).happens(0.0, n) && Dice::new(7).happens(1.0, n)));
    }
}
