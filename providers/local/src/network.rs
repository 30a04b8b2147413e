//! The cluster's private network: one bridge of this machine, named and labelled from the cluster and the resource.

use std::path::Path;

use castrum_blueprints::names::{ClusterId, Digest, ResourceKind, ResourcePath};
use castrum_provider::{Change, NetworkSpec, Removed, Wanted};

use crate::error::LocalError;
use crate::ip::{self, Link};
use crate::range::Range;
use crate::store::{DirLock, Made, Record, Store};

/// How many ranges are tried before giving up.
const ATTEMPTS: u32 = 64;

/// The name of a link of ours: 15 characters, which is all that the kernel takes.
pub(crate) fn link_name(prefix: &str, cluster: &ClusterId, path: &ResourcePath) -> String {
    format!("{prefix}{}", Digest::of(format!("{cluster}\0{path}").as_bytes()).short())
}

/// Makes the bridge, or finds it as it should be.
pub(crate) fn ensure(
    store: &Store,
    wanted: &Wanted,
    spec: &NetworkSpec,
) -> Result<(Change, Record), LocalError> {
    // One at a time on this machine: two clusters must not choose the same range.
    let _choosing = DirLock::acquire(store.root())?;
    let _lock = DirLock::acquire(&store.dir(&wanted.path)?)?;
    let bridge = link_name("cb-", &store.cluster, &wanted.path);
    let found = ip::link(&bridge)?;
    let old = store.read(&wanted.path)?;
    prove_ownership(store, &wanted.path, found.as_ref(), old.is_some())?;
    let range = choose(store, wanted, spec, (old.as_ref(), found.as_ref()))?;
    let record = Record {
        cluster: store.cluster.clone(),
        path: wanted.path.clone(),
        spec: wanted.spec.clone(),
        generation: wanted.generation,
        created_at: old.as_ref().map_or_else(castrum_provider::now, |old| old.created_at),
        complete: true,
        made: Made::Network { bridge: bridge.clone(), range },
    };
    if old.as_ref() != Some(&record) {
        store.write(&record)?;
    }
    let intact = found.as_ref().is_some_and(|link| is_intact(link, store, &wanted.path, range));
    if !intact {
        make(store, &wanted.path, range, found.is_some())?;
    }
    let change = match (&old, found.is_some()) {
        (Some(old), true) if intact && *old == record => Change::Unchanged,
        (None, _) | (_, false) => Change::Created,
        _ => Change::Changed,
    };
    Ok((change, record))
}

/// Removes the bridge and its record; refuses while machines still hang on it.
pub(crate) fn remove(store: &Store, path: &ResourcePath) -> Result<Removed, LocalError> {
    let bridge = link_name("cb-", &store.cluster, path);
    let lock = DirLock::existing(&store.dir(path)?)?;
    let found = ip::link(&bridge)?;
    let known = store.read(path)?.is_some();
    prove_ownership(store, path, found.as_ref(), known)?;
    let users = store.names(ResourceKind::Machine)?;
    if (known || found.is_some()) && !users.is_empty() {
        return Err(LocalError::NotReady {
            what: format!("network `{path}` is still used by `{}`", users.join("`, `")),
        });
    }
    let mut removed = Removed::Absent;
    if found.is_some() && ip::delete(&bridge)? {
        removed = Removed::Removed;
    }
    if let Some(lock) = lock {
        store.erase(path, lock)?;
        removed = Removed::Removed;
    }
    Ok(removed)
}

/// Whether the bridge of a record is there and as it was made.
pub(crate) fn is_whole(store: &Store, record: &Record, links: &[Link]) -> bool {
    let Made::Network { bridge, range } = &record.made else { return false };
    let found = links.iter().find(|link| link.ifname == *bridge);
    found.is_some_and(|link| is_intact(link, store, &record.path, *range))
}

fn is_intact(link: &Link, store: &Store, path: &ResourcePath, range: Range) -> bool {
    let ours = link.resource_of(&store.cluster).as_ref() == Some(path);
    ours && link.range() == Some(range) && link.flags.iter().any(|flag| flag == "UP")
}

/// A bridge of our name without our label is ours only if a record announced it.
fn prove_ownership(
    store: &Store,
    path: &ResourcePath,
    link: Option<&Link>,
    known: bool,
) -> Result<(), LocalError> {
    match link {
        Some(link) if link.ifalias.is_some() && link.resource_of(&store.cluster).as_ref() != Some(path) => {
            Err(LocalError::NotOurs { what: format!("link `{}`", link.ifname) })
        }
        Some(link) if link.ifalias.is_none() && !known => {
            Err(LocalError::NotOurs { what: format!("link `{}`", link.ifname) })
        }
        _ => Ok(()),
    }
}

fn choose(
    store: &Store,
    wanted: &Wanted,
    spec: &NetworkSpec,
    (old, found): (Option<&Record>, Option<&Link>),
) -> Result<Range, LocalError> {
    let recorded = old.and_then(|old| match &old.made {
        Made::Network { range, .. } => Some(*range),
        _ => None,
    });
    let bridge = link_name("cb-", &store.cluster, &wanted.path);
    let routed = ip::routed_ranges(&bridge)?;
    if let Some(range) = recorded.or_else(|| found.and_then(Link::range)) {
        return keep(range, spec, &wanted.path, &routed);
    }
    if let Some(text) = &spec.cidr {
        let hint = "write a private range of /9 to /24, as in `10.20.0.0/24`".to_owned();
        let range: Range = text.parse().map_err(|what| LocalError::Invalid { what, hint })?;
        return keep(range, spec, &wanted.path, &routed);
    }
    let seed = format!("{}\0{}", store.cluster, wanted.path);
    (0..ATTEMPTS)
        .map(|attempt| Range::derived(&seed, spec.nodes, attempt))
        .find(|range| !routed.iter().any(|other| range.overlaps(*other)))
        .ok_or_else(|| LocalError::Exhausted {
            what: format!("no free range for {} nodes in 10.0.0.0/8", spec.nodes),
            hint: "give the site a `cidr` that this machine does not route elsewhere".to_owned(),
        })
}

fn keep(
    range: Range,
    spec: &NetworkSpec,
    path: &ResourcePath,
    routed: &[Range],
) -> Result<Range, LocalError> {
    if let Some(other) = routed.iter().find(|other| range.overlaps(**other)) {
        return Err(LocalError::Exhausted {
            what: format!(
                "range {range} of network `{path}` overlaps {other}, which this machine routes elsewhere"
            ),
            hint: format!("free {other} on this machine, or choose another `cidr`"),
        });
    }
    if !range.holds(spec.nodes) {
        return Err(LocalError::Exhausted {
            what: format!("range {range} of network `{path}` is too small for {} nodes", spec.nodes),
            hint: "destroy the cluster and apply again, or give the site a larger `cidr`".to_owned(),
        });
    }
    Ok(range)
}

fn make(store: &Store, path: &ResourcePath, range: Range, exists: bool) -> Result<(), LocalError> {
    let bridge = link_name("cb-", &store.cluster, path);
    let alias = ip::alias(&store.cluster, path);
    let mut commands = Vec::new();
    if !exists {
        // No forward delay: ports would drop everything in the first 15 seconds.
        commands.push(format!("link add {bridge} type bridge forward_delay 0 mcast_snooping 0"));
    }
    commands.push(format!("link set dev {bridge} alias \"{alias}\""));
    commands.push(format!("link set dev {bridge} addrgenmode none"));
    commands.push(format!("address replace {}/{} dev {bridge}", range.host(), range.prefix()));
    commands.push(format!("link set dev {bridge} up"));
    ip::batch(&commands)?;
    debug_assert!(Path::new("/sys/class/net").join(&bridge).exists(), "the bridge is in our own namespace");
    Ok(())
}
