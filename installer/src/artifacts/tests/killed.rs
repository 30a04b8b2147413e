//! Runs that end in the middle, by a dropped future and by SIGKILL.

use std::collections::BTreeMap;
use std::env;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use castrum_blueprints::stack::{Source, TarballSource};

use super::super::{Apt, bundle, bundle_all, fetch};
use super::*;

const CHILD: &str = "CASTRUM_TEST_KILLED_IN";

/// An order for an archive of 48 MiB that no compressor makes small.
fn large(folder: &Path) -> BTreeMap<ComponentName, Order> {
    let path = folder.join("large.tar");
    if !path.exists() {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        };
        let bytes = (0..48 << 20).map(|_| next()).collect();
        fs::write(&path, tar_of(&[Member { bytes, ..file("usr/large", "") }])).unwrap();
    }
    let sha256 = Digest::of(&fs::read(&path).unwrap());
    let source =
        Source::Tarball(TarballSource { url: format!("file://{}", path.display()), sha256, strip: 0 });
    BTreeMap::from([(component("large"), Order { source, provided: names(&[]), content: String::new() })])
}

async fn make(folder: &Path) {
    let cache = Cache::open(folder.join("cache")).unwrap();
    let orders = large(folder);
    fetch(&Apt::default(), &cache, &orders, &BTreeMap::new(), &|_| ()).await.unwrap();
    bundle_all(&cache, &orders, &BTreeMap::new(), &|_| ()).await.unwrap();
}

/// Does its work only when [`sigkill_leaves_no_half_blob`] calls it.
#[tokio::test]
async fn the_run_that_is_killed() {
    if let Some(folder) = env::var_os(CHILD) {
        make(Path::new(&folder)).await;
    }
}

fn assert_whole(folder: &Path) {
    for blob in entries(&folder.join("cache/blobs")) {
        let digest = Digest::of(&fs::read(&blob).unwrap());
        assert_eq!(blob.file_name().unwrap().to_str().unwrap(), digest.as_str());
    }
}

#[tokio::test]
async fn sigkill_leaves_no_half_blob() {
    let dir = TempDir::new().unwrap();
    large(dir.path());
    let mut killed = 0;
    for millis in [30, 120, 300, 700, 1500] {
        let name = "artifacts::tests::killed::the_run_that_is_killed";
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", name])
            .env(CHILD, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(millis));
        child.kill().unwrap();
        killed += u32::from(child.wait().unwrap().code().is_none());
        if dir.path().join("cache/blobs").exists() {
            assert_whole(dir.path());
        }
    }
    assert!(killed > 0, "every run was faster than its end");
    make(dir.path()).await;
    assert_whole(dir.path());
    assert_eq!(entries(&dir.path().join("cache/blobs")).len(), 2);
    assert!(entries(&dir.path().join("cache/staging")).is_empty());
}

#[tokio::test]
async fn a_dropped_bundle_stops_and_leaves_nothing() {
    let bench = Bench::new();
    let orders = large(bench.dir.path());
    fetch(&Apt::default(), &bench.cache, &orders, &BTreeMap::new(), &|_| ()).await.unwrap();
    let (name, begun) = (component("large"), AtomicBool::new(false));
    let listener = |_| begun.store(true, Ordering::Relaxed);
    {
        let mut work = Box::pin(bundle(&bench.cache, &name, &orders[&name], &[], &listener));
        while !begun.load(Ordering::Relaxed) {
            let finished = tokio::time::timeout(Duration::from_millis(1), &mut work).await;
            assert!(finished.is_err(), "it was done before it told anything");
        }
    }
    for _ in 0..500 {
        if bench.leftovers().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(bench.leftovers().is_empty());
    assert_eq!(entries(&bench.dir.path().join("cache/blobs")).len(), 1, "only the archive");
}

#[test]
fn the_folder_of_a_living_run_is_not_swept() {
    let bench = Bench::new();
    let staging = bench.cache.staging().unwrap();
    let orphan = bench.dir.path().join("cache/staging/orphan");
    fs::create_dir(&orphan).unwrap();
    fs::write(orphan.join("half"), "x").unwrap();
    Cache::open(bench.dir.path().join("cache")).unwrap();
    assert!(staging.path().exists());
    assert!(!orphan.exists());
}
