//! What changed since when: each change has a number that only grows, and only the newest change of a thing is kept.

use std::collections::BTreeMap;

/// The newest change of each thing, in order.
#[derive(Debug)]
pub(crate) struct Changes<K> {
    newest: u64,
    by_number: BTreeMap<u64, K>,
    by_thing: BTreeMap<K, u64>,
}

impl<K: Ord + Clone> Changes<K> {
    /// Nothing yet. `start` must be larger than any number that an earlier life of this process gave, so that who comes
    /// with such a number is told everything.
    pub(crate) fn new(start: u64) -> Self {
        Self { newest: start, by_number: BTreeMap::new(), by_thing: BTreeMap::new() }
    }

    /// The number of the newest change.
    pub(crate) fn newest(&self) -> u64 {
        self.newest
    }

    /// `thing` changed now.
    pub(crate) fn touch(&mut self, thing: K) -> u64 {
        self.forget(&thing);
        self.newest += 1;
        self.by_number.insert(self.newest, thing.clone());
        self.by_thing.insert(thing, self.newest);
        self.newest
    }

    /// `thing` is nothing to be told any more.
    pub(crate) fn forget(&mut self, thing: &K) {
        if let Some(number) = self.by_thing.remove(thing) {
            self.by_number.remove(&number);
        }
    }

    /// What changed after `after`; all, if that is a number that was never given.
    pub(crate) fn since(&self, after: u64) -> impl Iterator<Item = &K> {
        let after = if after > self.newest { 0 } else { after };
        self.by_number.range(after.saturating_add(1)..).map(|(_, thing)| thing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_change_of_a_thing_is_told() {
        let mut changes = Changes::new(1000);
        let first = changes.touch("a");
        changes.touch("b");
        let last = changes.touch("a");
        assert_eq!(changes.since(0).copied().collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(changes.since(first).copied().collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(changes.since(last).count(), 0);
        changes.forget(&"b");
        assert_eq!(changes.since(0).copied().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn a_number_of_another_life_gets_everything() {
        let mut changes = Changes::new(1000);
        changes.touch("a");
        assert_eq!(changes.since(999).count(), 1);
        assert_eq!(changes.since(u64::MAX).count(), 1);
    }
}
