//! The depot: what the node has of the cluster's files, named by their content (sha256).
//!
//! ```text
//! bytes ──▶ Intake (.part, hashed as they come) ──finish: size and digest fit──▶ DEPOT/<digest>, whole and synced
//!                        └── anything else: nothing is left
//! ```
//! So a file that has its name is verified, and everything that is there can be handed on.

mod fetch;
mod intake;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use castrum_blueprints::manifest::Blob;
use castrum_blueprints::names::{Digest, NameError};
use rustix::fs::FlockOperation;
use tokio::sync::{Semaphore, watch};

pub use fetch::FetchError;
pub(crate) use fetch::Route;
pub(crate) use intake::Intake;

/// How many blobs are fetched at a time.
const AT_A_TIME: usize = 4;
/// What a blob may have at most when its size was not told.
const LARGEST: u64 = 64 << 30;

/// Why the depot did not take, give or drop something.
#[derive(Debug, thiserror::Error)]
pub enum DepotError {
    /// A file or the folder could not be used.
    #[error("use `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The bytes that came are not those of the digest.
    #[error("the bytes that came have the sha256 {found}, and not {wanted}")]
    Digest {
        /// The digest that was promised.
        wanted: Digest,
        /// The digest that they have.
        found: Digest,
    },
    /// More or fewer bytes came than the blob has.
    #[error("{came} bytes came for {digest}, which has {size}")]
    Size {
        /// The blob.
        digest: Digest,
        /// How many bytes it has.
        size: u64,
        /// How many came.
        came: u64,
    },
    /// Text that is not a digest.
    #[error("read the digest")]
    Name(#[source] NameError),
    /// The stream that should bring or take the bytes.
    #[error("{what}")]
    Stream {
        /// What was done.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

type Fetched = Option<Result<PathBuf, Arc<FetchError>>>;

/// The depot of this node.
#[derive(Debug)]
pub struct Depot {
    dir: PathBuf,
    route: Option<Route>,
    under_way: Mutex<BTreeMap<Blob, watch::Receiver<Fetched>>>,
    gate: Semaphore,
}

impl Depot {
    /// The depot under `root`, for taking and giving only.
    pub fn open(root: &Path) -> Result<Self, DepotError> {
        Self::make(root, None)
    }

    /// The depot under `root` that can also fetch; half files of an agent that died are removed.
    pub(crate) fn with_route(root: &Path, route: Route) -> Result<Self, DepotError> {
        let depot = Self::make(root, Some(route))?;
        depot.sweep()?;
        Ok(depot)
    }

    fn make(root: &Path, route: Option<Route>) -> Result<Self, DepotError> {
        let dir = crate::identity::state_dir(root).join("depot");
        fs::create_dir_all(&dir).map_err(|source| DepotError::File { path: dir.clone(), source })?;
        Ok(Self { dir, route, under_way: Mutex::default(), gate: Semaphore::new(AT_A_TIME) })
    }

    /// Where the blob is, or would be. Once there is a file, it is whole and verified.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.to_string())
    }

    /// Whether the blob is here.
    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// All blobs that are here.
    pub fn held(&self) -> BTreeSet<Digest> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return BTreeSet::new() };
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// Takes a blob from `from`, verifying it as it comes; it is stored whole or not at all.
    pub fn put(&self, digest: &Digest, from: &mut impl Read) -> Result<PathBuf, DepotError> {
        let mut intake = self.take_in(digest, None)?;
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return intake.finish(),
                Ok(count) => intake.write(&buffer[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(DepotError::Stream { what: "read the blob", source }),
            }
        }
    }

    /// Begins to take a blob of `size` bytes.
    pub(crate) fn take_in(&self, digest: &Digest, size: Option<u64>) -> Result<Intake, DepotError> {
        Intake::begin(&self.dir, digest, size.unwrap_or(LARGEST), size.is_some())
    }

    /// Makes sure that the blob is here: from a master, or from a node that has it. However many ask at a time, it
    /// comes once; it goes on when those who asked do not wait any more.
    pub async fn fetch(self: &Arc<Self>, blob: &Blob) -> Result<PathBuf, Arc<FetchError>> {
        if self.has(&blob.digest) {
            return Ok(self.path(&blob.digest));
        }
        let mut result = self.join_or_begin(blob);
        match result.wait_for(Option::is_some).await.map(|done| done.clone()) {
            Ok(Some(done)) => done,
            Ok(None) | Err(_) => Err(Arc::new(FetchError::Stopped { digest: blob.digest.clone() })),
        }
    }

    fn join_or_begin(self: &Arc<Self>, blob: &Blob) -> watch::Receiver<Fetched> {
        let mut under_way = self.under_way();
        if let Some(known) = under_way.get(blob) {
            return known.clone();
        }
        let (tell, result) = watch::channel(None);
        under_way.insert(blob.clone(), result.clone());
        let (depot, blob) = (Arc::clone(self), blob.clone());
        tokio::spawn(async move {
            let fetched = fetch::fetch(&depot, &blob).await.map_err(Arc::new);
            depot.under_way().remove(&blob);
            tell.send_replace(Some(fetched));
        });
        result
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeMap<Blob, watch::Receiver<Fetched>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops every blob that is not in `keep` and has been here for longer than `older_than`: what has just come is
    /// often for a manifest that is still on its way.
    pub fn collect(&self, keep: &BTreeSet<Digest>, older_than: Duration) -> Result<(), DepotError> {
        for digest in self.held().difference(keep) {
            let path = self.path(digest);
            let came = fs::metadata(&path).and_then(|meta| meta.modified());
            let age = came.ok().and_then(|came| SystemTime::now().duration_since(came).ok());
            if age.is_some_and(|age| age >= older_than) {
                fs::remove_file(&path).map_err(|source| DepotError::File { path, source })?;
            }
        }
        Ok(())
    }

    /// Removes what takers that died have left. A taker that lives holds a lock on its file.
    fn sweep(&self) -> Result<(), DepotError> {
        let entries = fs::read_dir(&self.dir);
        let entries = entries.map_err(|source| DepotError::File { path: self.dir.clone(), source })?;
        let is_part = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "part");
        for path in entries.flatten().map(|entry| entry.path()).filter(is_part) {
            let Ok(file) = fs::File::open(&path) else { continue };
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                fs::remove_file(&path).map_err(|source| DepotError::File { path, source })?;
            }
        }
        Ok(())
    }
}

/// `depot put DIGEST`: takes the blob from `input`.
pub fn put_command(root: &Path, digest: &str, input: &mut impl Read) -> Result<(), DepotError> {
    let digest = digest.parse().map_err(DepotError::Name)?;
    Depot::open(root)?.put(&digest, input).map(drop)
}

/// `depot has DIGEST...`: writes those that are missing, one a line.
pub fn has_command(root: &Path, digests: &[String], out: &mut impl Write) -> Result<(), DepotError> {
    let depot = Depot::open(root)?;
    for digest in digests {
        let digest: Digest = digest.parse().map_err(DepotError::Name)?;
        if !depot.has(&digest) {
            let written = writeln!(out, "{digest}");
            written.map_err(|source| DepotError::Stream { what: "write what is missing", source })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
