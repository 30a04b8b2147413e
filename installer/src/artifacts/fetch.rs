//! Brings pinned files into the cache: each verified against its pin, whole or not at all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use castrum_blueprints::lock::LockedPackage;
use castrum_blueprints::names::{ComponentName, Digest};
use castrum_blueprints::stack::{Source, TarballSource};
use futures_util::future;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::time::{self, MissedTickBehavior};

use super::packages::parse_file_name;
use super::{Apt, ArtifactError, Cache, Listener, Order, Progress, Stage};

/// Downloads at a time.
const DOWNLOADS: usize = 3;
/// Packages are asked for in at most so many calls of apt, each of which uses one connection.
const APT_CALLS: usize = 2;
/// A second call of apt costs about a second of CPU time, and pays only with many bytes.
const WORTH_A_CALL: u64 = 128 << 20;
/// How often progress is looked at.
const TICK: Duration = Duration::from_millis(200);

/// Brings everything that the orders are made of into the cache, except what is there. `locked` has their packages.
pub async fn fetch(
    apt: &Apt,
    cache: &Cache,
    orders: &BTreeMap<ComponentName, Order>,
    locked: &BTreeMap<ComponentName, Vec<LockedPackage>>,
    listener: Listener<'_>,
) -> Result<(), ArtifactError> {
    let packages = batches(missing_packages(cache, locked)).into_iter().map(Work::Packages);
    let archives = missing_archives(cache, orders).into_iter().map(Work::Archive);
    let each = packages.chain(archives).map(|work| async move { work.run(apt, cache, listener).await });
    stream::iter(each).buffer_unordered(DOWNLOADS).try_for_each(future::ok).await
}

/// Files that come together.
enum Work {
    Packages(Vec<LockedPackage>),
    Archive(TarballSource),
}

fn missing_packages(
    cache: &Cache,
    locked: &BTreeMap<ComponentName, Vec<LockedPackage>>,
) -> Vec<LockedPackage> {
    let missing = locked.values().flatten().filter(|package| cache.blob(&package.sha256).is_none());
    let each: BTreeMap<&Digest, &LockedPackage> = missing.map(|package| (&package.sha256, package)).collect();
    each.into_values().cloned().collect()
}

fn missing_archives(cache: &Cache, orders: &BTreeMap<ComponentName, Order>) -> Vec<TarballSource> {
    let mut each: BTreeMap<&Digest, &TarballSource> = BTreeMap::new();
    for order in orders.values() {
        if let Source::Tarball(archive) = &order.source
            && cache.blob(&archive.sha256).is_none()
        {
            each.insert(&archive.sha256, archive);
        }
    }
    each.into_values().cloned().collect()
}

/// Splits packages into calls of about the same number of bytes.
fn batches(mut packages: Vec<LockedPackage>) -> Vec<Vec<LockedPackage>> {
    let total: u64 = packages.iter().map(|package| package.size).sum();
    let calls = if total < WORTH_A_CALL { 1 } else { APT_CALLS };
    packages.sort_by(|one, other| other.size.cmp(&one.size).then_with(|| one.cmp(other)));
    let mut batches: Vec<(u64, Vec<LockedPackage>)> = vec![(0, Vec::new()); calls];
    for package in packages {
        if let Some((size, batch)) = batches.iter_mut().min_by_key(|(size, _)| *size) {
            *size += package.size;
            batch.push(package);
        }
    }
    batches.into_iter().map(|(_, batch)| batch).filter(|batch| !batch.is_empty()).collect()
}

impl Work {
    async fn run(self, apt: &Apt, cache: &Cache, listener: Listener<'_>) -> Result<(), ArtifactError> {
        match self {
            Self::Packages(packages) => fetch_packages(apt, cache, &packages, listener).await,
            Self::Archive(archive) => fetch_archive(apt, cache, &archive, listener).await,
        }
    }
}

async fn fetch_packages(
    apt: &Apt,
    cache: &Cache,
    packages: &[LockedPackage],
    listener: Listener<'_>,
) -> Result<(), ArtifactError> {
    let staging = cache.staging()?;
    let folder = staging.path();
    let specs = packages.iter().map(spec).collect::<Vec<_>>();
    let watch = || {
        let seen = files_in(folder, packages).into_iter();
        seen.map(|(package, (_, size))| progress(&package.name, size, package.size)).collect()
    };
    reporting(apt.download(cache, &specs, folder), watch, listener).await?;
    let mut files = files_in(folder, packages);
    for package in packages {
        let (path, _) = files.remove(package).ok_or_else(|| ArtifactError::Apt {
            command: "apt-get download".to_owned(),
            detail: format!("it left no file for {}", spec(package)),
        })?;
        admit(cache, path, &package.name, &package.sha256).await?;
        listener(progress(&package.name, package.size, package.size));
    }
    Ok(())
}

async fn fetch_archive(
    apt: &Apt,
    cache: &Cache,
    archive: &TarballSource,
    listener: Listener<'_>,
) -> Result<(), ArtifactError> {
    let staging = cache.staging()?;
    let to = staging.path().join("archive");
    let name = file_name(&archive.url);
    if let Some(path) = archive.url.strip_prefix("file://") {
        tokio::fs::copy(path, &to).await.map_err(ArtifactError::file("copied into the cache", path))?;
    } else {
        let watch = || size_of(&to).map(|size| progress(name, size, 0)).into_iter().collect();
        reporting(apt.download_url(cache, &archive.url, &to), watch, listener).await?;
    }
    let size = admit(cache, to, name, &archive.sha256).await?;
    listener(progress(name, size, size));
    Ok(())
}

fn spec(package: &LockedPackage) -> String {
    format!("{}:{}={}", package.name, package.architecture, package.version)
}

/// The last part of the address: what people know an archive by.
pub(crate) fn file_name(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    path.rsplit('/').next().unwrap_or(path)
}

fn progress(artifact: &str, done: u64, total: u64) -> Progress {
    Progress { artifact: artifact.to_owned(), stage: Stage::Fetch, done, total }
}

fn size_of(path: &Path) -> Option<u64> {
    path.metadata().ok().map(|found| found.len())
}

/// Waits for `work`, and tells the listener now and then what has changed of what `watch` sees.
async fn reporting<T>(
    work: impl Future<Output = T>,
    watch: impl Fn() -> Vec<Progress>,
    listener: Listener<'_>,
) -> T {
    let mut told: BTreeMap<String, u64> = BTreeMap::new();
    let mut ticks = time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            result = &mut work => return result,
            _ = ticks.tick() => for seen in watch() {
                if told.insert(seen.artifact.clone(), seen.done) != Some(seen.done) {
                    listener(seen);
                }
            }
        }
    }
}

/// The packages that have a file in `folder`, by the names that apt gives them, with path and size.
fn files_in<'p>(folder: &Path, packages: &'p [LockedPackage]) -> BTreeMap<&'p LockedPackage, (PathBuf, u64)> {
    let Ok(entries) = folder.read_dir() else { return BTreeMap::new() };
    let found = |path: PathBuf| {
        let choice = parse_file_name(path.file_name()?.to_str()?)?;
        let same = |package: &&LockedPackage| {
            package.name == choice.name
                && package.version == choice.version
                && package.architecture == choice.arch
        };
        let size = size_of(&path)?;
        packages.iter().find(same).map(|package| (package, (path, size)))
    };
    entries.filter_map(Result::ok).filter_map(|entry| found(entry.path())).collect()
}

async fn admit(cache: &Cache, path: PathBuf, name: &str, wanted: &Digest) -> Result<u64, ArtifactError> {
    let (cache, artifact, wanted) = (cache.clone(), name.to_owned(), wanted.clone());
    let hashed = tokio::task::spawn_blocking(move || cache.admit(&artifact, &path, &wanted)).await;
    hashed.map_err(|_| ArtifactError::Stopped { artifact: name.to_owned() })?.map(|blob| blob.size)
}
