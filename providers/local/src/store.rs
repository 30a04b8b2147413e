//! Records of what this provider makes, one folder per resource, written before anything is made.
//!
//! `<state root>/<cluster>/<site>/<kind>/<name>/record.json` names the owner, the wanted spec and every name on this
//! machine that belongs to the resource. A record is the first thing that appears and the last that goes, so that a
//! crash at any point leaves something that tells what else there may be.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use castrum_blueprints::names::{ClusterId, Digest, ResourceKind, ResourcePath, SiteName, Timestamp};
use castrum_provider::ResourceSpec;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::error::LocalError;
use crate::range::Range;

const RECORD: &str = "record.json";

/// One resource of ours on this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub cluster: ClusterId,
    pub path: ResourcePath,
    pub spec: ResourceSpec,
    pub generation: u32,
    pub created_at: Timestamp,
    /// Whether it was made in whole.
    pub complete: bool,
    pub made: Made,
}

/// What belongs to the resource on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Made {
    Image { digest: Digest },
    Network { bridge: String, range: Range },
    Machine(MachineMade),
}

/// A machine's names and addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MachineMade {
    pub image: Digest,
    pub bridge: String,
    pub cable: String,
    pub mac: String,
    pub address: Ipv4Addr,
    pub prefix: u8,
    pub incarnation: String,
}

/// The records of one site of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    root: PathBuf,
    pub cluster: ClusterId,
    pub site: SiteName,
}

impl Store {
    pub(crate) fn new(root: PathBuf, cluster: ClusterId, site: SiteName) -> Self {
        Self { root, cluster, site }
    }

    /// The folder of all clusters' records.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of this site's records.
    pub(crate) fn site_dir(&self) -> PathBuf {
        cluster_dir(&self.root, &self.cluster).join(self.site.as_str())
    }

    /// The folder of one resource, after checking that it is in this site and cannot lead elsewhere.
    pub(crate) fn dir(&self, path: &ResourcePath) -> Result<PathBuf, LocalError> {
        let plain = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'_')
        };
        let safe = path.name.len() <= 64 && path.name.bytes().all(plain) && !path.name.starts_with('.');
        if safe && path.site == self.site {
            return Ok(self.site_dir().join(path.kind.as_str()).join(&path.name));
        }
        Err(LocalError::Invalid {
            what: format!("`{path}` cannot be a resource of site `{}`", self.site),
            hint: "use a-z, 0-9, `-`, `_` and `.` in names".to_owned(),
        })
    }

    /// The record of `path`, after proving that it is this cluster's.
    pub(crate) fn read(&self, path: &ResourcePath) -> Result<Option<Record>, LocalError> {
        let file = self.dir(path)?.join(RECORD);
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LocalError::file("read", &file)(error)),
        };
        let record: Record = serde_json::from_slice(&text)
            .map_err(|source| LocalError::Parse { path: file.clone(), source })?;
        if record.cluster == self.cluster && record.path == *path {
            return Ok(Some(record));
        }
        Err(LocalError::NotOurs { what: format!("the folder of `{}`", file.display()) })
    }

    /// Writes the record, whole or not at all.
    pub(crate) fn write(&self, record: &Record) -> Result<(), LocalError> {
        let text = serde_json::to_vec_pretty(record).expect("a record is plain data");
        write_atomically(&self.dir(&record.path)?.join(RECORD), &text)
    }

    /// The names of all resources of `kind` that have a folder.
    pub(crate) fn names(&self, kind: ResourceKind) -> Result<Vec<String>, LocalError> {
        let dir = self.site_dir().join(kind.as_str());
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(LocalError::file("list", &dir)(error)),
        };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        Ok(names)
    }

    /// All readable records of `kind`.
    pub(crate) fn records(&self, kind: ResourceKind) -> Result<Vec<Record>, LocalError> {
        let paths =
            self.names(kind)?.into_iter().map(|name| ResourcePath { site: self.site.clone(), kind, name });
        paths.filter_map(|path| self.read(&path).transpose()).collect()
    }

    /// Removes everything in the resource's folder, its record last, and then folders that are empty now.
    pub(crate) fn erase(&self, path: &ResourcePath, lock: DirLock) -> Result<(), LocalError> {
        let dir = self.dir(path)?;
        self.clear(path)?;
        let record = dir.join(RECORD);
        match fs::remove_file(&record) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(LocalError::file("remove", &record)(error));
            }
            _ => {}
        }
        lock.remove_dir()?;
        for parent in dir.ancestors().skip(1).take(4) {
            if fs::remove_dir(parent).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Removes everything in the resource's folder but its record.
    pub(crate) fn clear(&self, path: &ResourcePath) -> Result<(), LocalError> {
        let dir = self.dir(path)?;
        for entry in fs::read_dir(&dir).map_err(LocalError::file("list", &dir))?.flatten() {
            if entry.file_name() == RECORD {
                continue;
            }
            let path = entry.path();
            let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let removed = if folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(LocalError::file("remove", &path))?;
        }
        Ok(())
    }
}

/// The folder of everything of `cluster` below `root`.
pub(crate) fn cluster_dir(root: &Path, cluster: &ClusterId) -> PathBuf {
    root.join(cluster.as_str())
}

/// Replaces `file` by `text` in one step, readable by root only.
pub(crate) fn write_atomically(file: &Path, text: &[u8]) -> Result<(), LocalError> {
    let new = file.with_extension("new");
    let write = || -> io::Result<()> {
        let mut out = File::create(&new)?;
        rustix::fs::fchmod(&out, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?;
        out.write_all(text)?;
        out.sync_data()?;
        fs::rename(&new, file)
    };
    write().map_err(LocalError::file("write", file))
}

/// An exclusive lock on a folder, which is made if need be, for root only: node disks hold set-user-id programs.
///
/// It ends with its holder, however that ends.
#[derive(Debug)]
pub(crate) struct DirLock {
    dir: PathBuf,
    _held: File,
}

impl DirLock {
    /// Waits for the lock on `dir`.
    pub(crate) fn acquire(dir: &Path) -> Result<Self, LocalError> {
        loop {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
            match made {
                // Another cluster's removal may take an empty parent away under us.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                made => made.map_err(LocalError::file("create", dir))?,
            }
            if let Some(lock) = Self::existing(dir)? {
                return Ok(lock);
            }
        }
    }

    /// Waits for the lock on `dir`; `None` if there is no such folder (any more).
    pub(crate) fn existing(dir: &Path) -> Result<Option<Self>, LocalError> {
        let held = match File::open(dir) {
            Ok(held) => held,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LocalError::file("open", dir)(error)),
        };
        flock(&held, FlockOperation::LockExclusive)
            .map_err(|errno| LocalError::file("lock", dir)(errno.into()))?;
        // Whoever held it before us may have removed the folder, and a third may have made another one.
        let (ours, theirs) =
            (held.metadata().map_err(LocalError::file("look at", dir))?, fs::metadata(dir).ok());
        let same = theirs.is_some_and(|theirs| (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()));
        Ok(same.then(|| Self { dir: dir.to_owned(), _held: held }))
    }

    /// Removes the folder, which must be empty.
    pub(crate) fn remove_dir(self) -> Result<(), LocalError> {
        fs::remove_dir(&self.dir).map_err(LocalError::file("remove", &self.dir))
    }
}
