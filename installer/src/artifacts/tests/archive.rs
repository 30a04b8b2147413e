//! Resolving and fetching against a package archive in a folder, with apt as it is.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use super::super::{Apt, Progress, fetch, resolve};
use super::*;

/// A package archive in a folder, and an apt that knows no other.
struct Archive {
    bench: Bench,
    apt: Apt,
    options: Vec<(&'static str, String)>,
}

/// Name, version, and further lines of its control paragraph.
type Entry = (&'static str, &'static str, &'static str);

impl Archive {
    fn new(entries: &[Entry]) -> Self {
        Self::with_trust(entries, "[trusted=yes]")
    }

    fn with_trust(entries: &[Entry], trust: &str) -> Self {
        let bench = Bench::new();
        let root = bench.dir.path();
        let mut list = String::new();
        fs::create_dir_all(root.join("archive")).unwrap();
        fs::create_dir_all(root.join("lists/partial")).unwrap();
        for (name, version, more) in entries {
            let bytes = deb_of(&[file(&format!("usr/bin/{name}"), version)]);
            let file = format!("{name}_{}_all.deb", version.replace(':', "."));
            fs::write(root.join("archive").join(&file), &bytes).unwrap();
            let (digest, size) = (Digest::of(&bytes), bytes.len());
            let head = format!("Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: x\n");
            write!(
                list,
                "{head}{more}Filename: ./{file}\nSize: {size}\nSHA256: {digest}\nDescription: x\n\n"
            )
            .unwrap();
        }
        fs::write(root.join("archive/Packages"), list).unwrap();
        fs::write(
            root.join("sources.list"),
            format!("deb {trust} file:{} ./\n", root.join("archive").display()),
        )
        .unwrap();
        let at = |name: &str| root.join(name).display().to_string();
        let options = vec![
            ("Dir::Etc::sourcelist", at("sources.list")),
            ("Dir::Etc::sourceparts", "/dev/null".to_owned()),
            ("Dir::Etc::preferences", "/dev/null".to_owned()),
            ("Dir::Etc::preferencesparts", "/dev/null".to_owned()),
            ("Dir::State::lists", at("lists/")),
        ];
        let apt = options.iter().fold(Apt::default(), |apt, (item, value)| apt.with_option(item, value));
        let archive = Self { bench, apt, options };
        archive.update();
        archive
    }

    /// Reads the archive's list. The machine's own hooks stay out of it.
    fn update(&self) {
        let config = self.bench.dir.path().join("apt.conf");
        fs::write(&config, "Dir::Etc::parts \"/dev/null\";\nDir::Etc::main \"/dev/null\";\n").unwrap();
        let mut command = Command::new("apt-get");
        command.env("APT_CONFIG", config).args(["-qq", "-o", "Acquire::AllowInsecureRepositories=true"]);
        command.args(["-o", "APT::Sandbox::User=root", "-o", "Dir::State::status=/dev/null"]);
        command.args(["-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="]);
        for (item, value) in &self.options {
            command.arg("-o").arg(format!("{item}={value}"));
        }
        let status = command.arg("update").stderr(Stdio::null()).stdout(Stdio::null()).status().unwrap();
        assert!(status.success());
    }

    async fn locked(&self, order: &Order) -> Result<Vec<LockedPackage>, ArtifactError> {
        let orders = BTreeMap::from([(component("app"), order.clone())]);
        Ok(resolve(&self.apt, &self.bench.cache, &orders).await?.remove(&component("app")).unwrap())
    }

    async fn fetched(&self, packages: &[LockedPackage]) -> Result<(), ArtifactError> {
        let locked = BTreeMap::from([(component("app"), packages.to_vec())]);
        fetch(&self.apt, &self.bench.cache, &BTreeMap::new(), &locked, &|_| ()).await
    }
}

const SMALL: [Entry; 4] = [
    ("app", "1:2.0-1+b1", "Depends: library (>= 1), base\nRecommends: extra\n"),
    ("library", "1.0~rc1", "Depends: base\n"),
    ("base", "1", "Depends: deeper\n"),
    ("deeper", "1", ""),
];

fn spelled(packages: &[LockedPackage]) -> Vec<String> {
    packages
        .iter()
        .map(|package| format!("{} {} {}", package.name, package.version, package.architecture))
        .collect()
}

#[tokio::test]
async fn packages_are_pinned_fetched_and_found_again() {
    let archive = Archive::new(&SMALL);
    let packages = archive.locked(&order(&["app"], &["base"])).await.unwrap();
    assert_eq!(spelled(&packages), ["app 1:2.0-1+b1 all", "library 1.0~rc1 all"]);
    let told = Mutex::new(Vec::new());
    let locked = BTreeMap::from([(component("app"), packages.clone())]);
    let listener = |progress: Progress| told.lock().unwrap().push(progress);
    fetch(&archive.apt, &archive.bench.cache, &BTreeMap::new(), &locked, &listener).await.unwrap();
    for package in &packages {
        let bytes = fs::read(archive.bench.cache.blob_path(&package.sha256)).unwrap();
        assert_eq!((Digest::of(&bytes), bytes.len() as u64), (package.sha256.clone(), package.size));
        let last =
            told.lock().unwrap().iter().rfind(|progress| progress.artifact == package.name).cloned().unwrap();
        assert_eq!((last.done, last.total), (package.size, package.size));
    }
    assert!(archive.bench.leftovers().is_empty());
    // What is in the cache is not asked for again.
    fs::remove_dir_all(archive.bench.dir.path().join("archive")).unwrap();
    archive.fetched(&packages).await.unwrap();
}

#[tokio::test]
async fn components_that_exclude_each_other_are_solved_one_by_one() {
    let archive = Archive::new(&[
        ("light", "1", "Conflicts: full\nDepends: shared\n"),
        ("full", "1", "Depends: shared\n"),
        ("shared", "1", ""),
    ]);
    let orders = BTreeMap::from([
        (component("one"), order(&["light"], &[])),
        (component("two"), order(&["full"], &[])),
    ]);
    let pinned = resolve(&archive.apt, &archive.bench.cache, &orders).await.unwrap();
    assert_eq!(spelled(&pinned[&component("one")]), ["light 1 all", "shared 1 all"]);
    assert_eq!(spelled(&pinned[&component("two")]), ["full 1 all", "shared 1 all"]);
    let error = archive.locked(&order(&["light", "full"], &[])).await.unwrap_err();
    assert!(
        matches!(&error, ArtifactError::Unsatisfiable { packages, .. } if packages == "full light"),
        "{error:?}"
    );
}

#[tokio::test]
async fn what_cannot_be_had_is_named_with_a_remedy() {
    let archive = Archive::new(&SMALL);
    let error = archive.locked(&order(&["nosuch"], &[])).await.unwrap_err();
    assert!(matches!(&error, ArtifactError::UnknownPackage { name } if name == "nosuch"), "{error:?}");
    assert!(error.remedy().unwrap().contains("apt-get update"));

    let mut packages = archive.locked(&order(&["app"], &["base"])).await.unwrap();
    packages[0].version = "0.9".to_owned();
    let error = archive.fetched(&packages).await.unwrap_err();
    assert_eq!(error.to_string(), "`app` 0.9, as pinned, is no longer in the archive");
    assert!(error.remedy().unwrap().contains("castrum.lock"));

    fs::remove_dir_all(archive.bench.dir.path().join("lists")).unwrap();
    let error = archive.locked(&order(&["app"], &[])).await.unwrap_err();
    assert!(matches!(error, ArtifactError::NoLists), "{error:?}");
    assert!(archive.bench.leftovers().is_empty());
}

#[tokio::test]
async fn other_bytes_never_get_a_name() {
    let archive = Archive::new(&SMALL);
    let packages = archive.locked(&order(&["app"], &["base"])).await.unwrap();
    let blobs = archive.bench.dir.path().join("cache/blobs");

    let mut other = packages.clone();
    other[0].sha256 = Digest::of(b"other");
    let error = archive.fetched(&other[..1]).await.unwrap_err();
    assert!(matches!(&error, ArtifactError::WrongDigest { name, .. } if name == "app"), "{error:?}");
    assert!(entries(&blobs).is_empty());

    let path = archive.bench.dir.path().join("archive/app_1.2.0-1+b1_all.deb");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = archive.fetched(&packages[..1]).await.unwrap_err();
    let known = matches!(error, ArtifactError::StaleLists { .. } | ArtifactError::WrongDigest { .. });
    assert!(known, "{error:?}");
    assert!(entries(&blobs).is_empty());
    assert!(archive.bench.leftovers().is_empty());
}

#[tokio::test]
async fn what_apt_cannot_authenticate_is_not_fetched() {
    let archive = Archive::with_trust(&SMALL, "");
    let packages = archive.locked(&order(&["deeper"], &[])).await.unwrap();
    let error = archive.fetched(&packages).await.unwrap_err();
    assert!(matches!(error, ArtifactError::Unauthenticated { .. }), "{error:?}");
    assert!(entries(&archive.bench.dir.path().join("cache/blobs")).is_empty());
}
