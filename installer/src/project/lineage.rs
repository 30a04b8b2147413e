//! Two lock files of one cluster: the one beside the blueprint, and the one in the place of the state. Which counts.
//!
//! The place's counts, if the one here is missing, the same, or one that counted there before: somebody else's checkout is
//! only behind. The one here counts only if the place has none: then this is the cluster's first run with that place.
//! Anything else is two histories, and nobody but a person can say which cluster is meant.

use castrum_blueprints::lock::Lock;

/// Which lock file counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lineage {
    /// There is none.
    None,
    /// The one here; the place has none.
    Here(Lock),
    /// The place's, and the one here is the same.
    Both(Lock),
    /// The place's; the one here is missing or behind.
    There(Lock),
    /// Neither: they are two histories.
    Strayed,
}

/// Which of the two counts; `before` says whether the one here counted in the place before.
pub fn lineage<E>(
    here: Option<Lock>,
    there: Option<Lock>,
    before: impl FnOnce(&Lock) -> Result<bool, E>,
) -> Result<Lineage, E> {
    Ok(match (here, there) {
        (None, None) => Lineage::None,
        (Some(here), None) => Lineage::Here(here),
        (None, Some(there)) => Lineage::There(there),
        (Some(here), Some(there)) if here == there => Lineage::Both(there),
        (Some(here), Some(there)) if here.cluster == there.cluster && before(&here)? => Lineage::There(there),
        (Some(_), Some(_)) => Lineage::Strayed,
    })
}

#[cfg(test)]
mod tests {
    use castrum_blueprints::names::ClusterId;

    use super::*;

    fn lock(cluster: u8, founder: Option<&str>) -> Lock {
        let mut lock = Lock::new(ClusterId::from_bytes([cluster; 6]), "demo".parse().expect("a name"));
        if let Some(node) = founder {
            lock.founders.insert("etcd".parse().expect("a name"), node.parse().expect("a name"));
        }
        lock
    }

    fn of(here: Option<Lock>, there: Option<Lock>, before: bool) -> Lineage {
        lineage::<()>(here, there, |_| Ok(before)).expect("nothing fails here")
    }

    #[test]
    fn the_place_counts_unless_it_has_nothing_and_two_histories_are_refused() {
        let (old, new) = (lock(1, None), lock(1, Some("masters-1")));
        assert_eq!(of(None, None, true), Lineage::None);
        assert_eq!(of(Some(new.clone()), None, false), Lineage::Here(new.clone()));
        assert_eq!(of(None, Some(new.clone()), false), Lineage::There(new.clone()));
        assert_eq!(of(Some(new.clone()), Some(new.clone()), false), Lineage::Both(new.clone()));
        assert_eq!(of(Some(old.clone()), Some(new.clone()), true), Lineage::There(new.clone()));
        assert_eq!(of(Some(new.clone()), Some(old), false), Lineage::Strayed);
        assert_eq!(of(Some(lock(2, None)), Some(new), true), Lineage::Strayed, "another cluster");
    }
}
