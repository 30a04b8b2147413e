//! Ranges of addresses: which part of a network a new subnet gets.

/// A range of IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    first: u32,
    bits: u32,
}

/// The size of a subnet, where the network has room for sixteen of them; in a smaller one each gets a sixteenth.
const SUBNET_BITS: u32 = 20;
/// The smallest subnet that there is.
const SMALLEST: u32 = 28;

impl Block {
    /// Reads `ADDRESS/BITS`.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (first, bits) = text.split_once('/')?;
        let (first, bits): (std::net::Ipv4Addr, u32) = (first.parse().ok()?, bits.parse().ok()?);
        (bits <= 32).then(|| Self { first: first.to_bits(), bits })
    }

    fn size(self) -> u64 {
        1 << (32 - self.bits)
    }

    fn overlaps(self, other: Self) -> bool {
        let (here, there) = (u64::from(self.first), u64::from(other.first));
        here < there + other.size() && there < here + self.size()
    }

    /// The first part of this range, of a subnet's size, that none of those taken overlaps.
    pub(crate) fn free(self, taken: &[Self]) -> Option<String> {
        let bits = (self.bits + 4).clamp(SUBNET_BITS, SMALLEST.max(self.bits));
        let step = 1_u64 << (32 - bits);
        let all = (0..self.size() / step).map(|number| u64::from(self.first) + number * step);
        let blocks = all.filter_map(|first| Some(Self { first: u32::try_from(first).ok()?, bits }));
        let free = blocks.into_iter().find(|block| !taken.iter().any(|other| other.overlaps(*block)));
        free.map(|block| format!("{}/{}", std::net::Ipv4Addr::from_bits(block.first), block.bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(of: &str, taken: &[&str]) -> Option<String> {
        let taken: Vec<Block> = taken.iter().map(|text| Block::read(text).expect("a range")).collect();
        Block::read(of).expect("a range").free(&taken)
    }

    #[test]
    fn the_first_that_is_free_is_taken() {
        assert_eq!(free("10.7.0.0/16", &[]).as_deref(), Some("10.7.0.0/20"));
        assert_eq!(free("10.7.0.0/16", &["10.7.0.0/20", "10.7.32.0/20"]).as_deref(), Some("10.7.16.0/20"));
        assert_eq!(free("10.7.0.0/16", &["10.7.0.5/32", "10.7.16.0/19"]).as_deref(), Some("10.7.48.0/20"));
        assert_eq!(free("10.7.0.0/16", &["10.7.0.0/16"]), None, "the network is full");
    }

    #[test]
    fn small_networks_have_small_subnets() {
        assert_eq!(free("10.7.0.0/24", &["10.7.0.0/28"]).as_deref(), Some("10.7.0.16/28"));
        assert_eq!(free("10.7.0.0/28", &[]).as_deref(), Some("10.7.0.0/28"));
        assert_eq!(free("10.7.0.0/18", &[]).as_deref(), Some("10.7.0.0/22"));
        assert_eq!(free("255.255.0.0/16", &["255.255.0.0/17"]).as_deref(), Some("255.255.128.0/20"));
    }
}
