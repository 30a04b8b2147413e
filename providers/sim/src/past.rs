//! How a place looked before: what eventual consistency shows in place of the present.

use std::collections::BTreeMap;

use castrum_blueprints::names::{ResourcePath, SiteName, Timestamp};
use castrum_blueprints::resource::ResourceSeen;

use crate::place::{Place, Resource};

/// Every state that each resource was in, with the time since when; `None`: it was not there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Past {
    resources: BTreeMap<ResourcePath, Vec<(Timestamp, Option<Resource>)>>,
}

impl Past {
    /// Remembers how `path` was until now, if nothing is known of it.
    pub(crate) fn begin(&mut self, place: &Place, path: &ResourcePath) {
        let known = self.resources.entry(path.clone());
        known.or_insert_with(|| vec![(Timestamp(0), place.find(path).cloned())]);
    }

    /// Remembers how `path` is from `now` on.
    pub(crate) fn note(&mut self, place: &Place, path: &ResourcePath, now: Timestamp) {
        let states = self.resources.entry(path.clone()).or_default();
        states.push((now, place.find(path).cloned()));
    }

    /// What a look shows at `now` that is as old for each resource as `age` says; what is not remembered was always as it is.
    pub(crate) fn seen_in(
        &self,
        (place, site): (&Place, &SiteName),
        now: Timestamp,
        age: impl Fn(&ResourcePath) -> u64,
    ) -> BTreeMap<ResourcePath, ResourceSeen> {
        let mut seen = place.seen_in(site, now);
        for (path, states) in self.resources.iter().filter(|(path, _)| path.site == *site) {
            let then = Timestamp(now.0.saturating_sub(age(path)));
            let state = states.iter().rfind(|(since, _)| *since <= then);
            match state.and_then(|(_, resource)| resource.as_ref()) {
                Some(resource) => drop(seen.insert(path.clone(), resource.seen(path, then))),
                None => drop(seen.remove(path)),
            }
        }
        seen
    }
}
