//! Which type of instance a machine becomes: the smallest that has what its size asks for.

use castrum_blueprints::blueprint::Size;

/// A type of instance: its name, its processors and its memory in MiB.
pub(crate) type InstanceType = (&'static str, u32, u64);

/// Types of the current generation for x86-64, in the order in which they are preferred: by price, so that the first that
/// is large enough is taken. Of types of the same size the cheaper family comes first: one that lends its processors,
/// then one of the general purpose. Smaller ones than these do not hold a node.
pub(crate) const TYPES: [InstanceType; 39] = [
    ("t3.micro", 2, 1024),
    ("t3.small", 2, 2048),
    ("t3.medium", 2, 4096),
    ("t3.large", 2, 8192),
    ("c7i.large", 2, 4096),
    ("m7i-flex.large", 2, 8192),
    ("m7i.large", 2, 8192),
    ("r7i.large", 2, 16_384),
    ("t3.xlarge", 4, 16_384),
    ("c7i.xlarge", 4, 8192),
    ("m7i-flex.xlarge", 4, 16_384),
    ("m7i.xlarge", 4, 16_384),
    ("r7i.xlarge", 4, 32_768),
    ("t3.2xlarge", 8, 32_768),
    ("c7i.2xlarge", 8, 16_384),
    ("m7i-flex.2xlarge", 8, 32_768),
    ("m7i.2xlarge", 8, 32_768),
    ("r7i.2xlarge", 8, 65_536),
    ("c7i.4xlarge", 16, 32_768),
    ("m7i-flex.4xlarge", 16, 65_536),
    ("m7i.4xlarge", 16, 65_536),
    ("r7i.4xlarge", 16, 131_072),
    ("c7i.8xlarge", 32, 65_536),
    ("m7i-flex.8xlarge", 32, 131_072),
    ("m7i.8xlarge", 32, 131_072),
    ("r7i.8xlarge", 32, 262_144),
    ("c7i.12xlarge", 48, 98_304),
    ("m7i.12xlarge", 48, 196_608),
    ("r7i.12xlarge", 48, 393_216),
    ("c7i.16xlarge", 64, 131_072),
    ("m7i.16xlarge", 64, 262_144),
    ("r7i.16xlarge", 64, 524_288),
    ("c7i.24xlarge", 96, 196_608),
    ("m7i.24xlarge", 96, 393_216),
    ("r7i.24xlarge", 96, 786_432),
    ("c7i.48xlarge", 192, 393_216),
    ("m7i.48xlarge", 192, 786_432),
    ("r7i.48xlarge", 192, 1_572_864),
    ("u7i-6tb.112xlarge", 448, 6_291_456),
];

/// The first type that is large enough.
pub(crate) fn choose(size: &Size) -> Option<&'static str> {
    let fits = |(_, cpus, memory): &&InstanceType| *cpus >= size.cpus && *memory >= size.memory_mib;
    TYPES.iter().find(fits).map(|(name, ..)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(cpus: u32, memory_mib: u64) -> Option<&'static str> {
        choose(&Size { cpus, memory_mib, disk_gib: 20 })
    }

    #[test]
    fn the_smallest_that_fits_is_taken() {
        for (cpus, memory, name) in [
            (1, 512, "t3.micro"),
            (1, 1024, "t3.micro"),
            (2, 1025, "t3.small"),
            (2, 8192, "t3.large"),
            (2, 16_384, "r7i.large"),
            (4, 8192, "t3.xlarge"),
            (16, 1024, "c7i.4xlarge"),
            (8, 40_000, "r7i.2xlarge"),
            (400, 1, "u7i-6tb.112xlarge"),
        ] {
            assert_eq!(chosen(cpus, memory), Some(name), "{cpus} processors and {memory} MiB");
        }
        assert_eq!(chosen(449, 1), None);
    }

    #[test]
    fn each_type_stands_there_once_and_smaller_ones_come_first() {
        let names: std::collections::BTreeSet<_> = TYPES.iter().map(|(name, ..)| name).collect();
        assert_eq!(names.len(), TYPES.len());
        assert!(TYPES.is_sorted_by_key(|(_, cpus, _)| *cpus));
    }
}
