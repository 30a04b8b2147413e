//! Tests of the whole way, against package archives that are made on the spot and against the machine's own.

mod archive;
mod bundles;
mod hostile;
mod killed;
mod real;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use castrum_blueprints::lock::LockedPackage;
use castrum_blueprints::manifest::Blob;
use castrum_blueprints::names::{ComponentName, Digest};
use castrum_blueprints::stack::{DebSource, Source};
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

use super::{ArtifactError, Cache, Order};

/// One member of a made-up package, written as it is and however hostile.
#[derive(Clone)]
struct Member {
    path: String,
    kind: EntryType,
    mode: u32,
    target: String,
    bytes: Vec<u8>,
    mtime: u64,
}

fn member(kind: EntryType, path: &str, mode: u32) -> Member {
    let (path, target, bytes) = (path.to_owned(), String::new(), Vec::new());
    Member { path, kind, mode, target, bytes, mtime: 1_700_000_000 }
}

fn folder(path: &str) -> Member {
    member(EntryType::Directory, path, 0o755)
}

fn file(path: &str, bytes: &str) -> Member {
    Member { bytes: bytes.as_bytes().to_vec(), ..member(EntryType::Regular, path, 0o644) }
}

fn link(path: &str, target: &str) -> Member {
    Member { target: target.to_owned(), ..member(EntryType::Symlink, path, 0o777) }
}

fn hard(path: &str, target: &str) -> Member {
    Member { target: target.to_owned(), ..member(EntryType::Link, path, 0o644) }
}

fn tar_of(members: &[Member]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for member in members {
        let mut header = Header::new_gnu();
        // The fields are written by hand, since the library refuses what a hostile archive would say.
        let raw = header.as_gnu_mut().unwrap();
        raw.name[..member.path.len()].copy_from_slice(member.path.as_bytes());
        raw.linkname[..member.target.len()].copy_from_slice(member.target.as_bytes());
        header.set_entry_type(member.kind);
        header.set_mode(member.mode);
        header.set_mtime(member.mtime);
        header.set_uid(1000);
        header.set_gid(1000);
        header.set_size(member.bytes.len() as u64);
        header.set_cksum();
        builder.append(&header, member.bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A Debian package around `members` (deb(5)).
fn deb_of(members: &[Member]) -> Vec<u8> {
    let parts: [(&str, Vec<u8>); 3] = [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar", tar_of(&[file("./control", "Package: x\n")])),
        ("data.tar", tar_of(members)),
    ];
    let mut deb = b"!<arch>\n".to_vec();
    for (name, bytes) in parts {
        let head = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, "100644", bytes.len());
        deb.extend_from_slice(head.as_bytes());
        deb.extend_from_slice(&bytes);
        if bytes.len() % 2 == 1 {
            deb.push(b'\n');
        }
    }
    deb
}

/// A cache in a folder that goes with the test.
struct Bench {
    dir: TempDir,
    cache: Cache,
}

impl Bench {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let cache = Cache::open(dir.path().join("cache")).unwrap();
        Self { dir, cache }
    }

    /// Puts bytes into the cache as a fetched package of this name.
    fn fetched(&self, name: &str, bytes: &[u8]) -> LockedPackage {
        let sha256 = Digest::of(bytes);
        fs::write(self.cache.blob_path(&sha256), bytes).unwrap();
        LockedPackage {
            name: name.to_owned(),
            version: "1".to_owned(),
            architecture: "all".to_owned(),
            sha256,
            size: bytes.len() as u64,
        }
    }

    async fn bundle_debs(&self, order: &Order, debs: &[(&str, Vec<Member>)]) -> Result<Blob, ArtifactError> {
        let packages: Vec<_> =
            debs.iter().map(|(name, members)| self.fetched(name, &deb_of(members))).collect();
        super::bundle(&self.cache, &component("app"), order, &packages, &|_| ()).await
    }

    /// What lies in the staging folder.
    fn leftovers(&self) -> Vec<PathBuf> {
        entries(&self.dir.path().join("cache/staging"))
    }

    fn listing(&self, blob: &Blob) -> Vec<String> {
        listing(&self.cache.blob_path(&blob.digest))
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Every member of a bundle in a line, for people to compare.
fn listing(path: &Path) -> Vec<String> {
    let mut archive = tar::Archive::new(zstd::Decoder::new(File::open(path).unwrap()).unwrap());
    let mut lines = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
        assert_eq!((header.username(), header.groupname()), (Ok(Some("root")), Ok(Some("root"))));
        let (path, mode) = (entry.path().unwrap().display().to_string(), header.mode().unwrap());
        let target = entry.link_name().unwrap().map(|target| target.display().to_string());
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap_or_default();
        lines.push(match header.entry_type() {
            EntryType::Directory => format!("{mode:04o} {path}"),
            EntryType::Symlink => format!("{path} -> {}", target.unwrap()),
            EntryType::Link => format!("{path} = {}", target.unwrap()),
            _ => format!("{mode:04o} {path}: {text}"),
        });
    }
    lines
}

fn component(name: &str) -> ComponentName {
    name.parse().unwrap()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn order(packages: &[&str], provided: &[&str]) -> Order {
    let source = DebSource {
        packages: names(packages),
        without: BTreeSet::new(),
        links: BTreeMap::new(),
        keep: BTreeSet::new(),
        drop: BTreeSet::new(),
    };
    Order { source: Source::Deb(source), provided: names(provided), content: String::new() }
}
