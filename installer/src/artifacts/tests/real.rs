//! The machine's own package archive. Without apt lists or a network there is nothing to test against.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

use castrum_blueprints::stack::{Stack, StackFiles};

use super::super::{Apt, bundle, bundle_all, fetch, orders, resolve};
use super::*;

type Orders = BTreeMap<ComponentName, Order>;
type Locked = BTreeMap<ComponentName, Vec<LockedPackage>>;

/// What a small Debian server with systemd has.
const BASE: [&str; 18] = [
    "adduser",
    "debconf",
    "dpkg",
    "init-system-helpers",
    "libaudit1",
    "libc6",
    "libcap2",
    "libgcc-s1",
    "libgcrypt20",
    "liblzma5",
    "libselinux1",
    "libsystemd0",
    "libudev1",
    "libzstd1",
    "lsb-base",
    "netbase",
    "sysvinit-utils",
    "zlib1g",
];

async fn made(
    bench: &Bench,
    orders: &Orders,
) -> Result<(Locked, BTreeMap<ComponentName, Blob>), ArtifactError> {
    let apt = Apt::default();
    let locked = resolve(&apt, &bench.cache, orders).await?;
    fetch(&apt, &bench.cache, orders, &locked, &|_| ()).await?;
    let blobs = bundle_all(&bench.cache, orders, &locked, &|_| ()).await?;
    Ok((locked, blobs))
}

#[tokio::test]
async fn real_packages_become_bundles() {
    let bench = Bench::new();
    let orders: Orders = [
        (component("busybox"), order(&["busybox-static"], &[])),
        (component("etcd"), order(&["etcd-server"], &["libc6", "adduser", "init-system-helpers"])),
    ]
    .into();
    let (locked, blobs) = match made(&bench, &orders).await {
        Err(ArtifactError::NoLists | ArtifactError::Offline { .. } | ArtifactError::Program { .. }) => {
            eprintln!("not tested: this machine has no package archive at hand");
            return;
        }
        result => result.unwrap(),
    };
    let names =
        |name: &str| locked[&component(name)].iter().map(|package| package.name.clone()).collect::<Vec<_>>();
    assert_eq!(names("busybox"), ["busybox-static"]);
    assert_eq!(names("etcd"), ["etcd-server"]);
    for (name, argument, says) in [("busybox", "--help", "BusyBox v"), ("etcd", "--version", "etcd Version")]
    {
        let lines = bench.listing(&blobs[&component(name)]);
        assert!(lines.contains(&"0755 usr/bin/".to_owned()), "{name}");
        assert!(!lines.iter().any(|line| line.starts_with("0755 usr/share/doc")), "{name}");
        let folder = bench.dir.path().join(name);
        let bundle = File::open(bench.cache.blob_path(&blobs[&component(name)].digest)).unwrap();
        tar::Archive::new(zstd::Decoder::new(bundle).unwrap()).unpack(&folder).unwrap();
        let output = Command::new(folder.join("usr/bin").join(name)).arg(argument).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains(says), "{name}: {output:?}");
    }
    let (again, same) = made(&bench, &orders).await.unwrap();
    assert_eq!((again, same), (locked, blobs));
    let other = Bench::new();
    assert_eq!(made(&other, &orders).await.unwrap().1, made(&bench, &orders).await.unwrap().1);
}

/// The stack that is shipped, as orders.
fn shipped() -> Orders {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../blueprints/stacks/swarm");
    let mut files = StackFiles::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(&root).unwrap().display().to_string();
                files.insert(name, fs::read_to_string(path).unwrap());
            }
        }
    }
    orders(&Stack::read(&files).unwrap(), &files).unwrap()
}

/// Prints what it costs: `cargo test -p castrum artifacts -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "measures, and downloads 250 MB"]
async fn measured() {
    let wanted: [(&str, &[&str]); 6] = [
        ("etcd", &["etcd-server", "etcd-client"]),
        ("containerd", &["containerd", "runc"]),
        ("docker", &["docker.io", "iptables"]),
        ("prometheus", &["prometheus"]),
        ("node-exporter", &["prometheus-node-exporter"]),
        ("caddy", &["caddy"]),
    ];
    let whole = wanted.iter().map(|(name, packages)| (component(name), order(packages, &BASE))).collect();
    for (what, orders) in [("whole packages", whole), ("the shipped stack", shipped())] {
        eprintln!("{what}:");
        measure(&orders).await;
    }
}

async fn measure(orders: &Orders) {
    let (bench, apt, clock) = (Bench::new(), Apt::default(), Instant::now());
    let locked = resolve(&apt, &bench.cache, orders).await.unwrap();
    eprintln!("  resolve: {:.2?}", clock.elapsed());
    let clock = Instant::now();
    fetch(&apt, &bench.cache, orders, &locked, &|_| ()).await.unwrap();
    eprintln!("  fetch, cold: {:.2?}", clock.elapsed());
    for (name, order) in orders {
        let packages = &locked[name];
        let clock = Instant::now();
        let blob = bundle(&bench.cache, name, order, packages, &|_| ()).await.unwrap();
        let elapsed = clock.elapsed();
        let size: u64 = packages.iter().map(|package| package.size).sum();
        let (count, size, bundled) = (packages.len(), size >> 10, blob.size >> 10);
        eprintln!("  {name}: {count} packages of {size} KiB, bundle of {bundled} KiB, {elapsed:.2?}");
    }
    let clock = Instant::now();
    made(&bench, orders).await.unwrap();
    eprintln!("  again, warm: {:.2?}", clock.elapsed());
    let clock = Instant::now();
    fetch(&apt, &bench.cache, orders, &locked, &|_| ()).await.unwrap();
    bundle_all(&bench.cache, orders, &locked, &|_| ()).await.unwrap();
    eprintln!("  again, warm, from the lock file: {:.2?}", clock.elapsed());
    let status = fs::read_to_string("/proc/self/status").unwrap();
    eprintln!("  {}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap());
}
