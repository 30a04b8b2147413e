//! The places of a blueprint, each with its provider.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use castrum_blueprints::names::{ResourcePath, SiteName};
use castrum_blueprints::resource::Abilities;
use castrum_provider::{Blind, Observation, Provider};
use futures_util::future::join_all;

/// The providers by site.
#[derive(Clone, Default)]
pub struct Sites(pub BTreeMap<SiteName, Arc<dyn Provider>>);

impl Sites {
    /// What each place can do.
    pub fn abilities(&self) -> BTreeMap<SiteName, Abilities> {
        self.0.iter().map(|(name, provider)| (name.clone(), provider.abilities())).collect()
    }

    /// The provider of a resource's site.
    pub fn of(&self, path: &ResourcePath) -> Option<&Arc<dyn Provider>> {
        self.0.get(&path.site)
    }

    /// Looks at all places at once.
    pub async fn observe(&self) -> Observation {
        let mut whole = Observation::default();
        for observation in join_all(self.0.iter().map(|(site, provider)| look(site, &**provider))).await {
            whole.seen.extend(observation.seen);
            whole.blind.extend(observation.blind);
            whole.taken_at = observation.taken_at;
        }
        whole
    }
}

/// A look that takes longer than this sees nothing: a place that hangs does not hold up the others.
const LOOK_DEADLINE: Duration = Duration::from_mins(2);

async fn look(site: &SiteName, provider: &dyn Provider) -> Observation {
    let looked = tokio::time::timeout(LOOK_DEADLINE, provider.observe()).await;
    looked.unwrap_or_else(|_| {
        let reason = format!("it did not answer within {} seconds", LOOK_DEADLINE.as_secs());
        let blind = vec![Blind { site: site.clone(), kind: None, reason }];
        Observation { blind, ..Observation::default() }
    })
}
