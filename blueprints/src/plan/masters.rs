//! Masters: chosen when a cluster is made, and pinned in the lock file, since the quorum store knows its members by name.
//!
//! A further machine would begin with nothing and found a store of its own beside the first, and every check of both would be
//! ok. So the names are compared before anything is done, whoever is heard or not.

use std::collections::BTreeSet;

use crate::desired::Desired;
use crate::names::{NodeName, ResourceKind, Role};
use crate::observed::Observed;

/// The blueprint declares other masters than those that the cluster was made with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the cluster was made with the masters {}, and the blueprint declares {}", listed(.pinned), listed(.declared))]
pub struct OtherMasters {
    /// Those that it was made with.
    pub pinned: BTreeSet<NodeName>,
    /// Those that are declared.
    pub declared: BTreeSet<NodeName>,
}

fn listed(names: &BTreeSet<NodeName>) -> String {
    names.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", ")
}

/// The masters to pin: those that are declared. An error if the cluster has others: others are pinned, and of those some
/// machine is there, or may be there where nobody can look.
pub fn masters_to_pin(
    pinned: &BTreeSet<NodeName>,
    desired: &Desired,
    observed: &Observed,
) -> Result<BTreeSet<NodeName>, OtherMasters> {
    let masters = desired.nodes.iter().filter(|(_, node)| node.role == Role::Master);
    let declared: BTreeSet<NodeName> = masters.map(|(name, _)| name.clone()).collect();
    if pinned.is_empty() || *pinned == declared {
        return Ok(declared);
    }
    let is_pinned = |name: &str| name.parse().is_ok_and(|name: NodeName| pinned.contains(&name));
    let mut machines = observed.resources.keys().filter(|path| path.kind == ResourceKind::Machine);
    if observed.blind.is_empty() && !machines.any(|path| is_pinned(&path.name)) {
        return Ok(declared);
    }
    Err(OtherMasters { pinned: pinned.clone(), declared })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_said_by_name() {
        let names = |names: &[&str]| names.iter().map(|name| name.parse().expect("a name")).collect();
        let other = OtherMasters { pinned: names(&["a-1"]), declared: names(&["a-1", "a-2"]) };
        let said = "the cluster was made with the masters a-1, and the blueprint declares a-1, a-2";
        assert_eq!(other.to_string(), said);
    }
}
