//! One deterministic archive for each component, made once and found again by what it is made of.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::thread;

use castrum_blueprints::lock::LockedPackage;
use castrum_blueprints::manifest::Blob;
use castrum_blueprints::names::{ComponentName, Digest};
use castrum_blueprints::stack::{DebSource, Source};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use tokio::sync::watch;

use super::cache::Hashing;
use super::tree::{Filter, Objection, Tree};
use super::{ArtifactError, Cache, Listener, Order, Progress, Stage, fetch, pack, paths, unpack};

/// Goes up whenever the same recipe begins to give other bytes.
const FORMAT: u32 = 1;

/// What no program reads when it runs.
const DOCUMENTATION: [&str; 4] = ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian"];

/// Puts the component's files into one blob of the cache, or finds the one that was made of the same before.
pub async fn bundle(
    cache: &Cache,
    component: &ComponentName,
    order: &Order,
    packages: &[LockedPackage],
    listener: Listener<'_>,
) -> Result<Blob, ArtifactError> {
    let recipe = recipe(order, packages);
    if let Some(blob) = cache.recall(&recipe) {
        return Ok(blob);
    }
    let start = Progress { artifact: component.to_string(), stage: Stage::Unpack, done: 0, total: 0 };
    let (pulse, mut heard) = watch::channel(start);
    let work = Work { cache: cache.clone(), order: order.clone(), packages: packages.to_vec(), pulse };
    let mut making = tokio::task::spawn_blocking(move || work.make(&recipe));
    loop {
        tokio::select! {
            made = &mut making => {
                listener(heard.borrow().clone());
                return made.map_err(|_| ArtifactError::Stopped { artifact: component.to_string() })?;
            }
            Ok(()) = heard.changed() => listener(heard.borrow_and_update().clone()),
        }
    }
}

/// Bundles all components, as many at a time as there are processors; those with the same files share one bundle.
pub async fn bundle_all(
    cache: &Cache,
    orders: &BTreeMap<ComponentName, Order>,
    locked: &BTreeMap<ComponentName, Vec<LockedPackage>>,
    listener: Listener<'_>,
) -> Result<BTreeMap<ComponentName, Blob>, ArtifactError> {
    let at_a_time = thread::available_parallelism().map_or(1, usize::from);
    let mut sharing: BTreeMap<Digest, Vec<&ComponentName>> = BTreeMap::new();
    for (component, order) in orders {
        sharing.entry(recipe(order, packages_of(locked, component))).or_default().push(component);
    }
    let each = sharing.into_values().map(|components| async move {
        let first = components[0];
        let blob = bundle(cache, first, &orders[first], packages_of(locked, first), listener).await?;
        Ok(components.into_iter().map(|component| (component.clone(), blob.clone())).collect::<Vec<_>>())
    });
    let made: Vec<_> = stream::iter(each).buffer_unordered(at_a_time).try_collect().await?;
    Ok(made.into_iter().flatten().collect())
}

fn packages_of<'a>(
    locked: &'a BTreeMap<ComponentName, Vec<LockedPackage>>,
    component: &ComponentName,
) -> &'a [LockedPackage] {
    locked.get(component).map_or(&[], Vec::as_slice)
}

/// The digest of everything that decides a bundle's bytes.
fn recipe(order: &Order, packages: &[LockedPackage]) -> Digest {
    #[derive(Serialize)]
    struct Recipe<'a> {
        format: u32,
        zstd: u32,
        level: i32,
        source: &'a Source,
        content: &'a str,
        packages: Vec<&'a Digest>,
    }
    let recipe = Recipe {
        format: FORMAT,
        zstd: zstd::zstd_safe::version_number(),
        level: pack::LEVEL,
        source: &order.source,
        content: &order.content,
        packages: packages.iter().map(|package| &package.sha256).collect(),
    };
    Digest::of(&serde_json::to_vec(&recipe).expect("a recipe is plain data"))
}

struct Work {
    cache: Cache,
    order: Order,
    packages: Vec<LockedPackage>,
    pulse: watch::Sender<Progress>,
}

impl Work {
    fn make(&self, recipe: &Digest) -> Result<Blob, ArtifactError> {
        let staging = self.cache.staging()?;
        let spool = tempfile::tempfile_in(staging.path());
        let spool = spool.map_err(|source| ArtifactError::Spool { source })?;
        let tree = self.gather(spool)?;
        let (nodes, spool) = tree.finish();
        if nodes.is_empty() {
            return Err(ArtifactError::Empty { component: self.name() });
        }
        let (total, staged) = (pack::bytes(&nodes), staging.file()?);
        let mut pulse = |done| self.tell(Stage::Pack, done, total).map_err(io::Error::other);
        let written = pack::write(&nodes, &spool, Hashing::new(staged.as_file()), &mut pulse);
        let written = written.map_err(|source| self.unless_stopped(source, staged.path()))?;
        let (_, digest, size) = written.finish();
        let blob = self.cache.keep(staged, digest, size)?;
        self.cache.remember(recipe, &blob)?;
        Ok(blob)
    }

    fn gather(&self, spool: File) -> Result<Tree, ArtifactError> {
        match &self.order.source {
            Source::Deb(deb) => self.gather_packages(deb, spool),
            Source::Tarball(archive) => {
                let name = fetch::file_name(&archive.url);
                let blob = self.fetched(name, &archive.sha256)?;
                let mut tree = Tree::new(Filter::default(), spool);
                unpack::add_archive(&mut tree, name, &self.cache.blob_path(&blob.digest), archive.strip)?;
                in_place(tree)
            }
            Source::File(file) => {
                let mut tree = Tree::new(Filter::default(), spool);
                tree.begin(&file.path);
                let mode = if file.executable { 0o755 } else { 0o644 };
                let refused = |why| ArtifactError::Refused {
                    package: file.path.clone(),
                    path: file.target.clone(),
                    why,
                };
                let target = paths::member(file.target.as_bytes(), 0).map_err(refused)?;
                let target = target.ok_or_else(|| refused("is not the path of a file"))?;
                match tree.add_file(target, mode, self.order.content.as_bytes()) {
                    Ok(_) => Ok(tree),
                    Err(Objection::Rule(why)) => Err(refused(why)),
                    Err(Objection::Conflict(_)) => Err(refused("is there twice")),
                    Err(Objection::Read(source) | Objection::Spool(source)) => {
                        Err(ArtifactError::Spool { source })
                    }
                }
            }
        }
    }

    fn gather_packages(&self, deb: &DebSource, spool: File) -> Result<Tree, ArtifactError> {
        let drop = DOCUMENTATION.into_iter().map(str::to_owned).chain(deb.drop.iter().cloned()).collect();
        let mut tree = Tree::new(Filter { keep: deb.keep.iter().cloned().collect(), drop }, spool);
        let total = self.packages.iter().map(|package| package.size).sum();
        let mut done = 0;
        for package in &self.packages {
            self.tell(Stage::Unpack, done, total)?;
            let blob = self.fetched(&package.name, &package.sha256)?;
            unpack::add_deb(&mut tree, &package.name, &self.cache.blob_path(&blob.digest))?;
            done += package.size;
        }
        self.tell(Stage::Unpack, done, total)?;
        let mut tree = in_place(tree)?;
        for (path, target) in &deb.links {
            let bad = |why| ArtifactError::Link { path: path.clone(), target: target.clone(), why };
            tree.declare(path, target).map_err(bad)?;
        }
        Ok(tree)
    }

    fn fetched(&self, name: &str, digest: &Digest) -> Result<Blob, ArtifactError> {
        self.cache.blob(digest).ok_or_else(|| ArtifactError::NotFetched { name: name.to_owned() })
    }

    fn name(&self) -> String {
        self.pulse.borrow().artifact.clone()
    }

    /// Fails once nobody listens any more: the work would be for nothing.
    fn tell(&self, stage: Stage, done: u64, total: u64) -> Result<(), ArtifactError> {
        if self.pulse.is_closed() {
            return Err(ArtifactError::Stopped { artifact: self.name() });
        }
        self.pulse.send_if_modified(|progress| {
            // A listener that hears of every buffer hears too much.
            let news = progress.stage != stage || done == total || done - progress.done > total / 100;
            if news {
                (progress.stage, progress.done, progress.total) = (stage, done, total);
            }
            news
        });
        Ok(())
    }

    fn unless_stopped(&self, source: io::Error, path: &Path) -> ArtifactError {
        if self.pulse.is_closed() {
            return ArtifactError::Stopped { artifact: self.name() };
        }
        ArtifactError::File { action: "written", path: path.to_owned(), source }
    }
}

/// The tree, if nothing in it would be written through a link.
fn in_place(tree: Tree) -> Result<Tree, ArtifactError> {
    match tree.misplaced() {
        Some((path, first, second)) => Err(ArtifactError::Conflict {
            path: path.to_owned(),
            first: first.to_owned(),
            second: second.to_owned(),
        }),
        None => Ok(tree),
    }
}
