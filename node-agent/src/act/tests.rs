//! The disk's side of actions, under a temporary root: what is laid down is what is seen, and what is left after a crash
//! at any point is taken up again.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use castrum_blueprints::manifest::{Blob, ComponentManifest, FolderManifest, Manifest};
use castrum_blueprints::names::{Digest, Role};
use castrum_blueprints::node::{config_name, desired_set, set_name, store_name};

use super::files::{beside, make_dir, remove_whole};
use super::probe::{probe, tidy};
use super::sets::{activate, configure, folder};
use crate::paths::Paths;

fn component(name: &str, unit: bool) -> ComponentManifest {
    ComponentManifest {
        name: name.parse().unwrap(),
        wave: 1,
        requires: [].into(),
        bundle: Some(Blob { digest: Digest::of(name.as_bytes()), size: 1 }),
        account: None,
        folders: vec![FolderManifest {
            path: format!("/var/lib/{name}"),
            owner: "root".into(),
            mode: 0o1750,
        }],
        config: BTreeMap::from([("a/b.conf".to_owned(), name.to_owned())]),
        unit: unit.then(|| "[Service]\n".to_owned()),
        membership: None,
        facts: BTreeMap::new(),
        checks: Vec::new(),
        digests: castrum_blueprints::manifest::Digests::default(),
    }
}

fn manifest(generation: u64, components: Vec<ComponentManifest>) -> Manifest {
    Manifest {
        format_version: 1,
        cluster: "0123456789ab".parse().unwrap(),
        cluster_name: "demo".parse().unwrap(),
        node: "agents-1".parse().unwrap(),
        role: Role::Agent,
        generation,
        masters: Vec::new(),
        components: components.into_iter().map(Arc::new).collect(),
    }
}

fn node() -> (tempfile::TempDir, Paths) {
    let dir = tempfile::tempdir().unwrap();
    let paths = Paths::new(dir.path());
    make_dir(&paths.state()).unwrap();
    make_dir(&paths.at("/etc")).unwrap();
    let me = rustix::process::getuid().as_raw();
    fs::write(paths.passwd(), format!("root:x:{me}:{me}::/root:/bin/sh\n")).unwrap();
    (dir, paths)
}

/// What a decision would have done before the switch.
fn lay_down(paths: &Paths, manifest: &Manifest) {
    let me = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    for component in &manifest.components {
        let blob = component.bundle.as_ref().unwrap();
        let bin = paths.store().join(store_name(&component.name, blob)).join("bin");
        make_dir(&bin).unwrap();
        fs::write(bin.join("run"), "program").unwrap();
        configure(paths, component, &config_name(component).unwrap()).unwrap();
        component.folders.iter().for_each(|wanted| folder(paths, wanted, me).unwrap());
    }
}

#[test]
fn what_is_laid_down_is_seen_and_reached_through_the_active_link() {
    let (_dir, paths) = node();
    let manifest = manifest(7, vec![component("etcd", true), component("overlay", false)]);
    assert_eq!(probe(&paths, &manifest).unwrap().stores.len(), 0);
    lay_down(&paths, &manifest);
    let set = set_name(&manifest);
    activate(&paths, &manifest, &set).unwrap();
    activate(&paths, &manifest, &set).unwrap();

    let facts = probe(&paths, &manifest).unwrap();
    assert_eq!(facts.active.as_ref(), Some(&set));
    assert_eq!(facts.sets[&set], desired_set(&manifest));
    assert_eq!(
        (facts.stores, facts.configs),
        (desired_set(&manifest).stores, desired_set(&manifest).configs)
    );
    assert_eq!(facts.linked, ["etcd".parse().unwrap()].into());
    assert_eq!(facts.folders.len(), 2);

    let active = paths.active().join("etcd");
    assert_eq!(fs::read_to_string(active.join("store/bin/run")).unwrap(), "program");
    assert_eq!(fs::read_to_string(active.join("config/a/b.conf")).unwrap(), "etcd");
    assert_eq!(fs::read_to_string(active.join("unit")).unwrap(), "[Service]\n");
    assert_eq!(fs::metadata(paths.at("/var/lib/etcd")).unwrap().mode() & 0o7777, 0o1750);
    let link = fs::read_link(paths.units().join("castrum-etcd.service")).unwrap();
    assert_eq!(link, Path::new("/opt/castrum/active/etcd/unit"), "as it is on a node, without the root");
}

#[test]
fn the_switch_is_one_step_and_the_old_set_is_whole_until_then() {
    let (_dir, paths) = node();
    let old = manifest(1, vec![component("etcd", true)]);
    lay_down(&paths, &old);
    activate(&paths, &old, &set_name(&old)).unwrap();
    let mut changed = component("etcd", true);
    changed.config.insert("a/b.conf".into(), "changed".into());
    let new = manifest(2, vec![changed]);
    lay_down(&paths, &new);
    let seen = || fs::read_to_string(paths.active().join("etcd/config/a/b.conf")).unwrap();
    assert_eq!(seen(), "etcd");
    activate(&paths, &new, &set_name(&new)).unwrap();
    assert_eq!(seen(), "changed");
    activate(&paths, &old, &set_name(&old)).unwrap();
    assert_eq!(seen(), "etcd");
    let facts = probe(&paths, &old).unwrap();
    assert_eq!((facts.sets.len(), facts.configs.len()), (2, 2));
    remove_whole(&paths.sets().join(set_name(&new))).unwrap();
    assert_eq!(probe(&paths, &old).unwrap().sets.len(), 1);
}

#[test]
fn a_component_without_a_unit_any_more_has_no_link() {
    let (_dir, paths) = node();
    for (generation, unit) in [(1, true), (2, false)] {
        let manifest = manifest(generation, vec![component("etcd", unit)]);
        lay_down(&paths, &manifest);
        activate(&paths, &manifest, &set_name(&manifest)).unwrap();
        assert_eq!(probe(&paths, &manifest).unwrap().linked.len(), usize::from(unit));
    }
    assert!(fs::symlink_metadata(paths.units().join("castrum-etcd.service")).is_err());
}

#[test]
fn half_done_things_are_not_seen_and_are_swept() {
    let (_dir, paths) = node();
    let manifest = manifest(1, vec![component("etcd", true)]);
    let half = [
        beside(&paths.store().join("etcd-0123456789ab")),
        beside(&paths.config().join("etcd-0123456789ab")),
        beside(&paths.sets().join("1-0123456789ab")),
    ];
    for path in &half {
        make_dir(&path.join("x")).unwrap();
    }
    let facts = probe(&paths, &manifest).unwrap();
    assert!(facts.stores.is_empty() && facts.configs.is_empty() && facts.sets.is_empty());
    tidy(&paths).unwrap();
    assert!(half.iter().all(|path| !path.exists()));
    assert_eq!(fs::metadata(paths.state()).unwrap().mode() & 0o777, 0o711);
}

#[test]
fn a_link_that_leads_nowhere_is_no_active_set() {
    let (_dir, paths) = node();
    let manifest = manifest(1, vec![component("etcd", true)]);
    lay_down(&paths, &manifest);
    let set = set_name(&manifest);
    activate(&paths, &manifest, &set).unwrap();
    remove_whole(&paths.sets().join(&set)).unwrap();
    assert_eq!(probe(&paths, &manifest).unwrap().active, None);
}

#[test]
fn a_config_path_that_leads_out_is_refused() {
    let (dir, paths) = node();
    for bad in ["../../evil", "/evil"] {
        let mut component = component("etcd", true);
        component.config.insert(bad.into(), "x".into());
        assert!(configure(&paths, &component, "etcd-1").is_err(), "{bad}");
    }
    assert!(!dir.path().join("opt/castrum/evil").exists() && !Path::new("/evil").exists());
    assert!(probe(&paths, &manifest(1, Vec::new())).unwrap().configs.is_empty());
}
