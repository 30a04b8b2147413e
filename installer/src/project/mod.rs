//! The project folder: blueprint, `castrum.lock`, and `.castrum/` with journal, keyring and the lock of running commands.
//!
//! Files are written whole or not at all. Deleting `.castrum/` loses history and the keyring, never the cluster.
//!
//! A blueprint may name an object store for its state. Then the lease, the keyring, the journal and the lock file that
//! counts lie there (see [`Shared`]), and `castrum.lock` beside the blueprint is a copy for version control.

mod bucket;
mod chronicle;
mod guard;
mod journal;
mod keeper;
mod lease;
mod lineage;
mod place;
mod sealed;
mod shared;
mod tenure;
#[cfg(test)]
mod tests;
mod whole;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use castrum_blueprints::blueprint::StatePlace;
use castrum_blueprints::event::Event;
use castrum_blueprints::lock::{Lock, LockError};
use castrum_blueprints::names::{ClusterId, ClusterName, Digest};
use ring::rand::{SecureRandom, SystemRandom};

use crate::commands::validate::{ReadBlueprintError, read_blueprint};
use crate::keyring::{InFile, Rest};

pub use bucket::Bucket;
pub use guard::{Guard, Holder};
pub use journal::{Journal, read_journal, runs};
pub use keeper::{TakeError, told};
pub use lease::Lease;
use lease::Pinned;
use lineage::{Lineage, lineage};
pub use place::{Kept, Place, PlaceError, Version, When};
pub use shared::Shared;
pub use tenure::{Gone, Tenure};
pub use whole::write_whole;

/// Why the project folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The lock file cannot be used.
    #[error("`{}` cannot be used", path.display())]
    Lock {
        /// Which.
        path: PathBuf,
        /// Why.
        source: LockError,
    },
    /// Another command is at work.
    #[error("another command is at work on this cluster: {holder}")]
    Held {
        /// Who.
        holder: String,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// The place of the state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The lock file here and the one in the place of the state are two histories.
    #[error("`{}` and the lock file in `{place}` are not of one history", path.display())]
    Strayed {
        /// The one here.
        path: PathBuf,
        /// The place.
        place: String,
    },
}

/// Why the state in an object store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The place.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The lease that this command had.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// Something was to be written without a lease.
    #[error("nothing is written to `{place}` without its lease")]
    NoLease {
        /// The place.
        place: String,
    },
    /// The thread of the network cannot be started.
    #[error("cannot start the thread that speaks to the place of the state")]
    Thread(#[source] io::Error),
}

impl StateError {
    /// What a person can do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Place(error) => error.remedy().to_owned(),
            Self::Gone(_) => {
                "wait until the other has ended; the next `castrum apply` goes on from there".to_owned()
            }
            Self::NoLease { .. } | Self::Thread(_) => "run it again".to_owned(),
        }
    }
}

/// One project folder.
#[derive(Debug)]
pub struct Project {
    blueprint: PathBuf,
    folder: PathBuf,
    writing: Mutex<()>,
    shared: Option<Arc<Shared>>,
}

impl Project {
    /// The project of a blueprint file; all else is beside it.
    pub fn of(blueprint: &Path) -> Self {
        let folder = match blueprint.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        Self { blueprint: blueprint.to_owned(), folder, writing: Mutex::new(()), shared: None }
    }

    /// The same project, with its state where the blueprint says. Nothing is asked yet.
    pub fn with_state(self, state: Option<&StatePlace>) -> Result<Self, StateError> {
        let Some(state) = state else { return Ok(self) };
        let bucket = Arc::new(Bucket::open(state)?);
        let shared =
            Shared::new(bucket, u64::from(state.lease_seconds) * 1000).map_err(StateError::Thread)?;
        Ok(Self { shared: Some(Arc::new(shared)), ..self })
    }

    /// The state in an object store; `None`: it is in the folder.
    pub fn shared(&self) -> Option<&Arc<Shared>> {
        self.shared.as_ref()
    }

    /// The blueprint's path.
    pub fn blueprint_path(&self) -> &Path {
        &self.blueprint
    }

    /// The project folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The blueprint's bytes; one byte more than the limit if it is too large.
    pub fn read_blueprint(&self) -> Result<Vec<u8>, ReadBlueprintError> {
        read_blueprint(&self.blueprint)
    }

    /// The path of the lock file: `castrum.lock`, or `NAME.lock` beside a blueprint that is not `cluster.yaml`.
    pub fn lock_path(&self) -> PathBuf {
        match self.blueprint.file_stem().and_then(|stem| stem.to_str()) {
            None | Some("cluster" | "castrum") => self.folder.join("castrum.lock"),
            Some(stem) => self.folder.join(format!("{stem}.castrum.lock")),
        }
    }

    /// The folder of what is not kept in version control. Blueprints that lie side by side do not share it.
    pub fn work_dir(&self) -> PathBuf {
        let dir = self.folder.join(".castrum");
        match self.blueprint.file_stem().and_then(|stem| stem.to_str()) {
            None | Some("cluster" | "castrum") => dir,
            Some(stem) => dir.join(stem),
        }
    }

    /// The keyring's path.
    pub fn keyring_path(&self) -> PathBuf {
        self.work_dir().join("keyring")
    }

    /// The journal's path.
    pub fn journal_path(&self) -> PathBuf {
        self.work_dir().join("journal.jsonl")
    }

    /// Where the keyring rests.
    pub fn keyring(&self) -> Result<Box<dyn Rest>, StateError> {
        let here = InFile::new(self.keyring_path());
        Ok(match &self.shared {
            // A keyring that was here before the blueprint named a place is taken there by the first run.
            Some(shared) if shared.pinned(Pinned::Keyring)?.is_some() || !self.keyring_path().exists() => {
                Box::new(sealed::InPlace::new(Arc::clone(shared)))
            }
            _ => Box::new(here),
        })
    }

    /// Takes what was in the folder before the blueprint named a place to that place, and what counts there from it. The
    /// lease must be held.
    pub fn meet(&self) -> Result<(), ProjectError> {
        let Some(shared) = &self.shared else { return Ok(()) };
        match self.lineage(shared)? {
            Lineage::None | Lineage::Both(_) => {}
            Lineage::Here(lock) | Lineage::There(lock) => self.write_lock(&lock)?,
            Lineage::Strayed => return Err(self.strayed(shared)),
        }
        let path = self.keyring_path();
        if path.exists() && shared.pinned(Pinned::Keyring)?.is_none() {
            let sealed = fs::read(&path).map_err(|source| ProjectError::Read { path, source })?;
            shared.pin(Pinned::Keyring, &sealed)?;
        }
        Ok(())
    }

    /// Every event of the journal, and how many lines of it cannot be read.
    pub fn events(&self) -> Result<(Vec<Event>, usize), ProjectError> {
        if let Some(shared) = &self.shared {
            return Ok(journal::read_lines(shared.journal()?));
        }
        let path = self.journal_path();
        read_journal(&path).map_err(|source| ProjectError::Read { path, source })
    }

    /// Reads the lock file that counts; `None` if there is none.
    pub fn read_lock(&self) -> Result<Option<Lock>, ProjectError> {
        let Some(shared) = &self.shared else { return self.lock_here() };
        match self.lineage(shared)? {
            Lineage::None => Ok(None),
            Lineage::Here(lock) | Lineage::Both(lock) | Lineage::There(lock) => Ok(Some(lock)),
            Lineage::Strayed => Err(self.strayed(shared)),
        }
    }

    fn lineage(&self, shared: &Shared) -> Result<Lineage, ProjectError> {
        let there = shared.pinned(Pinned::Lock)?.map(|bytes| {
            let text = String::from_utf8_lossy(&bytes);
            let path = PathBuf::from(format!("{}/lock", shared.name()));
            Lock::from_text(&text).map_err(|source| ProjectError::Lock { path, source })
        });
        lineage(self.lock_here()?, there.transpose()?, |here| {
            Ok(shared.was_pinned(Pinned::Lock, &Digest::of(here.to_text().as_bytes()))?)
        })
    }

    fn strayed(&self, shared: &Shared) -> ProjectError {
        ProjectError::Strayed { path: self.lock_path(), place: shared.name() }
    }

    fn lock_here(&self) -> Result<Option<Lock>, ProjectError> {
        let path = self.lock_path();
        match fs::read_to_string(&path) {
            Ok(text) => {
                Lock::from_text(&text).map(Some).map_err(|source| ProjectError::Lock { path, source })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ProjectError::Read { path, source }),
        }
    }

    /// Writes the lock file, if it says something new. Where there is a place for state, it counts there first.
    pub fn write_lock(&self, lock: &Lock) -> Result<(), ProjectError> {
        let path = self.lock_path();
        let text = lock.to_text();
        if let Some(shared) = &self.shared {
            shared.pin(Pinned::Lock, text.as_bytes())?;
        }
        if fs::read_to_string(&path).is_ok_and(|held| held == text) {
            return Ok(());
        }
        write_whole(&path, text.as_bytes(), 0o644).map_err(|source| ProjectError::Write { path, source })
    }

    /// Changes the lock file; concurrent changes of this process follow one another.
    pub fn update_lock(&self, change: impl FnOnce(&mut Lock)) -> Result<(), ProjectError> {
        let _writing = self.writing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let path = self.lock_path();
        let missing = || ProjectError::Read { path, source: io::ErrorKind::NotFound.into() };
        let mut lock = self.read_lock()?.ok_or_else(missing)?;
        change(&mut lock);
        self.write_lock(&lock)
    }

    /// The lock of the cluster; if there is none, its id is drawn now.
    pub fn lock_or_new(&self, name: &ClusterName) -> Result<Lock, ProjectError> {
        if let Some(lock) = self.read_lock()? {
            return Ok(lock);
        }
        let mut bytes = [0; 6];
        SystemRandom::new().fill(&mut bytes).map_err(|_| ProjectError::Random)?;
        Ok(Lock::new(ClusterId::from_bytes(bytes), name.clone()))
    }

    /// Makes the working folder, readable by its owner only, and keeps it out of version control.
    pub fn make_work_dir(&self) -> Result<(), ProjectError> {
        use std::os::unix::fs::DirBuilderExt as _;
        let dir = self.work_dir();
        let make = || -> io::Result<()> {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
            let ignore = self.folder.join(".castrum/.gitignore");
            if !ignore.exists() {
                write_whole(&ignore, b"*\n", 0o644)?;
            }
            Ok(())
        };
        make().map_err(|source| ProjectError::Write { path: dir.clone(), source })
    }
}
