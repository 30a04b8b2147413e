//! IPv4 ranges: which one a cluster takes, and who has which address in it.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The host's own address and a few in reserve come before the nodes'.
const FIRST_NODE: u32 = 10;

/// A range of addresses, as in `10.20.0.0/24`.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Range {
    base: u32,
    prefix: u8,
}

impl Range {
    /// The range of `prefix` bits that `address` is in.
    pub(crate) fn containing(address: Ipv4Addr, prefix: u8) -> Self {
        Self { base: u32::from(address) & mask(prefix), prefix }
    }

    /// The `attempt`-th choice of `seed` among the private 10.0.0.0/8, large enough for `nodes`.
    pub(crate) fn derived(seed: &str, nodes: u32, attempt: u32) -> Self {
        let prefix = prefix_for(nodes);
        let digest = Sha256::digest(format!("{seed}\0{attempt}"));
        let number = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        let slots = 1_u32 << (prefix - 8);
        Self { base: (10 << 24) | ((number % slots) << (32 - prefix)), prefix }
    }

    pub(crate) fn prefix(self) -> u8 {
        self.prefix
    }

    /// The host's own address on the bridge.
    pub(crate) fn host(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    /// Whether `nodes` fit.
    pub(crate) fn holds(self, nodes: u32) -> bool {
        self.prefix <= 24 && nodes < (1 << (32 - self.prefix)) - FIRST_NODE
    }

    /// Every address for a node, in order.
    pub(crate) fn node_addresses(self) -> impl Iterator<Item = Ipv4Addr> {
        let last = self.base | !mask(self.prefix);
        (self.base + FIRST_NODE..last).map(Ipv4Addr::from)
    }

    pub(crate) fn overlaps(self, other: Self) -> bool {
        let shorter = self.prefix.min(other.prefix);
        self.base & mask(shorter) == other.base & mask(shorter)
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

fn prefix_for(nodes: u32) -> u8 {
    (9..=24).rev().find(|prefix| (1_u32 << (32 - prefix)) - FIRST_NODE > nodes).unwrap_or(9)
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }
}

impl fmt::Debug for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Range({self})")
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not an IPv4 range such as `10.20.0.0/24`");
        let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
        let address: Ipv4Addr = address.parse().map_err(|_| bad())?;
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32).ok_or_else(bad)?;
        Ok(Self::containing(address, prefix))
    }
}

impl TryFrom<String> for Range {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Range> for String {
    fn from(range: Range) -> String {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_grows_with_the_cluster() {
        for (nodes, prefix) in [(1, 24), (245, 24), (246, 23), (250, 23), (500, 23), (1000, 22), (10_000, 18)]
        {
            let derived = Range::derived("seed", nodes, 0);
            assert_eq!(derived.prefix(), prefix, "{nodes} nodes");
            assert!(derived.holds(nodes), "{nodes} nodes in {derived}");
            assert!(derived.node_addresses().count() >= nodes as usize, "{nodes} nodes in {derived}");
            assert!(derived.overlaps(range("10.0.0.0/8")), "{derived}");
        }
    }

    #[test]
    fn the_choice_is_stable_and_moves_on() {
        assert_eq!(Range::derived("a", 5, 0), Range::derived("a", 5, 0));
        assert_ne!(Range::derived("a", 5, 0), Range::derived("a", 5, 1));
        assert_ne!(Range::derived("a", 5, 0), Range::derived("b", 5, 0));
    }

    #[test]
    fn overlap_is_seen_both_ways() {
        assert!(range("10.1.2.0/24").overlaps(range("10.1.0.0/16")));
        assert!(range("10.1.0.0/16").overlaps(range("10.1.2.7")));
        assert!(!range("10.1.2.0/24").overlaps(range("10.1.3.0/24")));
        assert!(range("0.0.0.0/0").overlaps(range("10.1.3.0/24")));
    }

    #[test]
    fn addresses_leave_out_the_host_and_the_broadcast() {
        let addresses: Vec<_> = range("10.1.2.0/24").node_addresses().collect();
        assert_eq!(addresses[0], Ipv4Addr::new(10, 1, 2, 10));
        assert_eq!(addresses.last(), Some(&Ipv4Addr::new(10, 1, 2, 254)));
    }
}
