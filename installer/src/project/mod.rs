//! The project folder: blueprint, `castrum.lock`, and `.castrum/` with journal, keyring and the lock of running commands.
//!
//! Files are written whole or not at all. Deleting `.castrum/` loses history and the keyring, never the cluster.

mod guard;
mod journal;
mod whole;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use castrum_blueprints::lock::{Lock, LockError};
use castrum_blueprints::names::{ClusterId, ClusterName};
use ring::rand::{SecureRandom, SystemRandom};

use crate::commands::validate::{ReadBlueprintError, read_blueprint};

pub use guard::{Guard, Holder};
pub use journal::{Journal, read_journal, runs};
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
}

/// One project folder.
#[derive(Debug)]
pub struct Project {
    blueprint: PathBuf,
    folder: PathBuf,
    writing: Mutex<()>,
}

impl Project {
    /// The project of a blueprint file; all else is beside it.
    pub fn of(blueprint: &Path) -> Self {
        let folder = match blueprint.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        Self { blueprint: blueprint.to_owned(), folder, writing: Mutex::new(()) }
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

    /// Reads the lock file; `None` if there is none.
    pub fn read_lock(&self) -> Result<Option<Lock>, ProjectError> {
        let path = self.lock_path();
        match fs::read_to_string(&path) {
            Ok(text) => {
                Lock::from_text(&text).map(Some).map_err(|source| ProjectError::Lock { path, source })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ProjectError::Read { path, source }),
        }
    }

    /// Writes the lock file, if it says something new.
    pub fn write_lock(&self, lock: &Lock) -> Result<(), ProjectError> {
        let path = self.lock_path();
        let text = lock.to_text();
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
