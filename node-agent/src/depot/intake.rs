//! One blob on its way in: hashed as it comes, and only given its name when it is what the name says.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use castrum_blueprints::names::Digest;
use ring::digest::{Context, SHA256};
use rustix::fs::FlockOperation;

use super::DepotError;

/// Makes the names of two takers of one blob in one process differ.
static TAKERS: AtomicU64 = AtomicU64::new(0);

/// A blob that is being taken; dropped before [`Intake::finish`], it leaves nothing.
#[derive(Debug)]
pub(crate) struct Intake {
    file: File,
    temp: PathBuf,
    digest: Digest,
    hash: HashState,
    came: u64,
    most: u64,
    exact: bool,
    named: bool,
}

struct HashState(Context);

impl std::fmt::Debug for HashState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashState")
    }
}

impl Intake {
    /// Takes up to `most` bytes, or just as many if `exact`.
    pub(super) fn begin(dir: &Path, digest: &Digest, most: u64, exact: bool) -> Result<Self, DepotError> {
        let taker = TAKERS.fetch_add(1, Ordering::Relaxed);
        let temp = dir.join(format!("{digest}.{}-{taker}.part", std::process::id()));
        let open = || {
            let file = File::options().write(true).create_new(true).open(&temp)?;
            // So that a sweep can tell a taker that lives from one that died.
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            Ok(file)
        };
        let file = open().map_err(|source| DepotError::File { path: temp.clone(), source })?;
        let hash = HashState(Context::new(&SHA256));
        Ok(Self { file, temp, digest: digest.clone(), hash, came: 0, most, exact, named: false })
    }

    /// Takes the next bytes; more than the blob has are refused at once.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), DepotError> {
        self.came += bytes.len() as u64;
        if self.came > self.most {
            return Err(self.wrong_size());
        }
        self.hash.0.update(bytes);
        self.file.write_all(bytes).map_err(|source| DepotError::File { path: self.temp.clone(), source })
    }

    /// How many bytes came so far.
    pub(crate) fn came(&self) -> u64 {
        self.came
    }

    /// Gives the blob its name, if it is what the name says. This waits for the disk.
    pub(crate) fn finish(mut self) -> Result<PathBuf, DepotError> {
        if self.exact && self.came != self.most {
            return Err(self.wrong_size());
        }
        let mut raw = [0; 32];
        raw.copy_from_slice(self.hash.0.clone().finish().as_ref());
        let found = Digest::from_bytes(raw);
        if found != self.digest {
            return Err(DepotError::Digest { wanted: self.digest.clone(), found });
        }
        let path = self.temp.with_file_name(self.digest.to_string());
        let name = || {
            self.file.sync_all()?;
            fs::rename(&self.temp, &path)?;
            match path.parent() {
                Some(dir) => File::open(dir)?.sync_all(),
                None => Ok(()),
            }
        };
        name().map_err(|source| DepotError::File { path: path.clone(), source })?;
        self.named = true;
        Ok(path)
    }

    fn wrong_size(&self) -> DepotError {
        DepotError::Size { digest: self.digest.clone(), size: self.most, came: self.came }
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        if !self.named {
            // If it cannot be removed now, the next sweep does it.
            drop(fs::remove_file(&self.temp));
        }
    }
}
