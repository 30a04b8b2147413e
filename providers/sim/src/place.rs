//! Resources as a place keeps them: by its own ids, with our labels, and one create for each idempotency key.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use castrum_blueprints::names::{Digest, ResourceKind, ResourcePath, SiteName, Timestamp};
use castrum_blueprints::resource::{MachineSeen, PowerState, ResourceSeen};
use serde::{Deserialize, Serialize};

/// Everything that exists in all sites of a world.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Place {
    /// By label. More than one under one label is what idempotency keys are to prevent.
    pub(crate) resources: BTreeMap<ResourcePath, Vec<Resource>>,
    /// How many resources were ever made; ids and addresses are numbered by it.
    pub(crate) made: u64,
    /// How many resources use each.
    #[serde(default)]
    users: BTreeMap<ResourcePath, u32>,
    /// The number of each site, which its addresses begin with.
    sites: BTreeMap<SiteName, Numbers>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Numbers {
    site: u32,
    next_host: u32,
}

/// One resource.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Resource {
    pub(crate) id: String,
    key: String,
    spec: Digest,
    /// What it uses, by label.
    #[serde(default)]
    needs: Vec<ResourcePath>,
    pub(crate) ready_at: Timestamp,
    pub(crate) machine: Option<Machine>,
}

/// What only machines have.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Machine {
    address: IpAddr,
    pub(crate) power: PowerState,
    created_at: Timestamp,
}

/// A create as it reaches the place.
pub(crate) struct Create<'a> {
    pub(crate) path: &'a ResourcePath,
    pub(crate) key: String,
    pub(crate) spec: Digest,
    pub(crate) needs: Vec<ResourcePath>,
    pub(crate) ready_at: Timestamp,
    pub(crate) now: Timestamp,
}

/// Each site has 2^20 addresses of 10.0.0.0/8.
const HOSTS: u32 = 1 << 20;

impl Place {
    pub(crate) fn add_site(&mut self, site: &SiteName) {
        let number = u32::try_from(self.sites.len()).unwrap_or(u32::MAX);
        self.sites.entry(site.clone()).or_insert(Numbers { site: number % 16, next_host: 16 });
    }

    pub(crate) fn find(&self, path: &ResourcePath) -> Option<&Resource> {
        self.resources.get(path)?.first()
    }

    pub(crate) fn find_mut(&mut self, path: &ResourcePath) -> Option<&mut Resource> {
        self.resources.get_mut(path)?.first_mut()
    }

    /// Makes the resource, unless one was made with the same key. Whether it is new.
    pub(crate) fn create(&mut self, create: Create<'_>) -> bool {
        let known = self.resources.entry(create.path.clone()).or_default();
        if known.iter().any(|resource| resource.key == create.key) {
            return false;
        }
        self.made += 1;
        let id = format!("{}-{:08x}", create.path.kind, self.made);
        let machine = (create.path.kind == ResourceKind::Machine).then(|| {
            let numbers =
                self.sites.entry(create.path.site.clone()).or_insert(Numbers { site: 0, next_host: 16 });
            let host = numbers.site * HOSTS + numbers.next_host;
            numbers.next_host = (numbers.next_host + 1) % HOSTS;
            let address = IpAddr::V4(Ipv4Addr::from_bits((10 << 24) + host));
            Machine { address, power: PowerState::On, created_at: create.now }
        });
        let Create { key, spec, needs, ready_at, .. } = create;
        self.use_all(&needs);
        let resource = Resource { id, key, spec, needs, ready_at, machine };
        self.resources.entry(create.path.clone()).or_default().push(resource);
        true
    }

    /// Gives the resource another spec. Whether it had another.
    pub(crate) fn change(&mut self, path: &ResourcePath, spec: &Digest, needs: &[ResourcePath]) -> bool {
        let Some(resource) = self.find_mut(path) else { return false };
        let differs = resource.spec != *spec;
        if differs {
            resource.spec.clone_from(spec);
            let before = std::mem::replace(&mut resource.needs, needs.to_vec());
            self.use_all(needs);
            self.use_none(&before);
        }
        differs
    }

    fn use_all(&mut self, needs: &[ResourcePath]) {
        for need in needs {
            *self.users.entry(need.clone()).or_default() += 1;
        }
    }

    fn use_none(&mut self, needs: &[ResourcePath]) {
        for need in needs {
            let left = self.users.get(need).copied().unwrap_or_default().saturating_sub(1);
            if left == 0 {
                self.users.remove(need);
            } else {
                self.users.insert(need.clone(), left);
            }
        }
    }

    /// Whether anything uses the resource.
    pub(crate) fn is_used(&self, path: &ResourcePath) -> bool {
        self.users.contains_key(path)
    }

    /// Removes all that carries the label. Whether there was any.
    pub(crate) fn remove(&mut self, path: &ResourcePath) -> bool {
        let removed = self.resources.remove(path);
        for resource in removed.iter().flatten() {
            self.use_none(&resource.needs);
        }
        removed.is_some()
    }

    pub(crate) fn machines_in(&self, site: &SiteName) -> usize {
        let machine = |path: &&ResourcePath| path.site == *site && path.kind == ResourceKind::Machine;
        self.resources.keys().filter(machine).count()
    }

    pub(crate) fn seen_in(&self, site: &SiteName, now: Timestamp) -> BTreeMap<ResourcePath, ResourceSeen> {
        let in_site = self.resources.iter().filter(|(path, _)| path.site == *site);
        in_site.filter_map(|(path, all)| Some((path.clone(), all.first()?.seen(path, now)))).collect()
    }
}

impl Resource {
    pub(crate) fn seen(&self, path: &ResourcePath, now: Timestamp) -> ResourceSeen {
        let ready = self.ready_at <= now;
        let machine = self.machine.as_ref().map(|machine| MachineSeen {
            address: ready.then_some(machine.address),
            public_address: None,
            power: machine.power,
            created_at: machine.created_at,
            incarnation: self.id.clone(),
        });
        ResourceSeen {
            path: path.clone(),
            id: self.id.clone(),
            spec: Some(self.spec.clone()),
            ready,
            note: (!ready).then(|| "it is being made".to_owned()),
            machine,
        }
    }
}
