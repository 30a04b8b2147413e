//! What of a cluster exists on this machine, seen from the machine itself and not from memory.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use castrum_blueprints::names::{ClusterId, ResourceKind, ResourcePath};
use castrum_provider::{Blind, MachineSeen, Observation, PowerState, ResourceSeen};

use crate::LocalOptions;
use crate::cgroup::{self, Cgroup};
use crate::error::LocalError;
use crate::ip::{self, Link};
use crate::store::{Made, Record, Store, cluster_dir};
use crate::{image, network, power};

/// The kinds that exist here.
pub(crate) const KINDS: [ResourceKind; 3] =
    [ResourceKind::Image, ResourceKind::Network, ResourceKind::Machine];

/// Everything of the site that is seen now.
pub(crate) fn observe(store: &Store, options: &LocalOptions) -> Observation {
    let mut observation = Observation { taken_at: castrum_provider::now(), ..Observation::default() };
    let links = match ip::links() {
        Ok(links) => links,
        Err(error) => {
            observation.blind.push(blind(store, Some(ResourceKind::Network), error));
            return observation;
        }
    };
    for kind in KINDS {
        let paths = match paths_of(store, kind, &links) {
            Ok(paths) => paths,
            Err(error) => {
                observation.blind.push(blind(store, Some(kind), error));
                continue;
            }
        };
        for path in paths {
            match look(store, options, &path, &links) {
                Ok(Some(seen)) => drop(observation.seen.insert(path, seen)),
                Ok(None) => {}
                Err(error) => observation.blind.push(blind(store, Some(kind), error)),
            }
        }
    }
    observation
}

/// One resource as it is now, from its record.
pub(crate) fn seen(
    store: &Store,
    options: &LocalOptions,
    record: &Record,
    links: &[Link],
) -> Result<ResourceSeen, LocalError> {
    let (id, whole, machine) = match &record.made {
        Made::Image { digest } => {
            (digest.to_string(), image::rootfs(&options.image_cache, digest).is_dir(), None)
        }
        Made::Network { bridge, .. } => (bridge.clone(), network::is_whole(store, record, links), None),
        Made::Machine(made) => {
            let cgroup = Cgroup::of(&store.cluster, &record.path)?;
            let machine = MachineSeen {
                address: Some(IpAddr::V4(made.address)),
                public_address: None,
                power: power::state(&cgroup, &store.dir(&record.path)?),
                created_at: record.created_at,
                incarnation: made.incarnation.clone(),
            };
            (made.incarnation.clone(), true, Some(machine))
        }
    };
    let ready = whole && record.complete;
    Ok(ResourceSeen {
        path: record.path.clone(),
        id,
        spec: Some(record.spec.digest()),
        ready,
        note: (!ready).then(|| "it is not made in whole; ensuring it again completes it".to_owned()),
        machine,
    })
}

/// Whatever of `cluster` is left on this machine, one sentence each; empty after a complete removal.
pub fn leftovers(cluster: &ClusterId, options: &LocalOptions) -> Vec<String> {
    let mut left = Vec::new();
    let state = cluster_dir(&options.state_root, cluster);
    if state.exists() {
        left.push(format!("folder `{}`", state.display()));
    }
    match ip::links() {
        Ok(links) => left.extend(
            links
                .iter()
                .filter(|link| link.resource_of(cluster).is_some())
                .map(|link| format!("link `{}`", link.ifname)),
        ),
        Err(error) => left.push(format!("links could not be listed ({error})")),
    }
    match cgroup::cluster_dir(cluster) {
        Ok(dir) if dir.exists() => {
            left.push(format!("cgroup `{}`", dir.display()));
            left.extend(
                cgroup::processes_below(&dir).iter().map(|process| format!("process {}", process.pid)),
            );
        }
        Ok(_) => {}
        Err(error) => left.push(format!("cgroups could not be listed ({error})")),
    }
    left.extend(mounts_below(&state).into_iter().map(|place| format!("mount `{place}`")));
    left
}

fn mounts_below(dir: &Path) -> Vec<String> {
    let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else { return vec!["(unknown)".to_owned()] };
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    places.filter(|place| Path::new(place).starts_with(dir)).map(str::to_owned).collect()
}

/// Resources with a folder, a labelled link or a cgroup: what has lost one of them is still found by another.
fn paths_of(store: &Store, kind: ResourceKind, links: &[Link]) -> Result<BTreeSet<ResourcePath>, LocalError> {
    let path = |name: String| ResourcePath { site: store.site.clone(), kind, name };
    let mut paths: BTreeSet<ResourcePath> = store.names(kind)?.into_iter().map(path).collect();
    let labelled = links.iter().filter_map(|link| link.resource_of(&store.cluster));
    paths.extend(labelled.filter(|path| path.site == store.site && path.kind == kind));
    if kind == ResourceKind::Machine {
        paths.extend(cgroup::nodes_with_cgroup(&store.cluster, &store.site)?.into_iter().map(path));
    }
    Ok(paths)
}

fn look(
    store: &Store,
    options: &LocalOptions,
    path: &ResourcePath,
    links: &[Link],
) -> Result<Option<ResourceSeen>, LocalError> {
    if let Some(record) = store.read(path)? {
        return seen(store, options, &record, links).map(Some);
    }
    // Without traces it was removed in this very moment, or interrupted before anything was made.
    if !has_traces(store, path, links)? {
        return Ok(None);
    }
    let machine = (path.kind == ResourceKind::Machine).then(|| MachineSeen {
        address: None,
        public_address: None,
        power: PowerState::Unknown,
        created_at: castrum_provider::now(),
        incarnation: "unknown".to_owned(),
    });
    Ok(Some(ResourceSeen {
        path: path.clone(),
        id: path.to_string(),
        spec: None,
        ready: false,
        note: Some("its record is lost; remove it and make it again".to_owned()),
        machine,
    }))
}

fn has_traces(store: &Store, path: &ResourcePath, links: &[Link]) -> Result<bool, LocalError> {
    let linked = links.iter().any(|link| link.resource_of(&store.cluster).as_ref() == Some(path));
    let grouped = path.kind == ResourceKind::Machine && Cgroup::of(&store.cluster, path)?.dir().exists();
    Ok(linked || grouped)
}

fn blind(store: &Store, kind: Option<ResourceKind>, error: LocalError) -> Blind {
    Blind { site: store.site.clone(), kind, reason: castrum_provider::Failure::from(error).message }
}
