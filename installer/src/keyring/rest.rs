//! Where the sealed bytes of a keyring rest: in a file, or wherever a project's state lies.

use std::any::Any;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::KeyringError;

/// Somewhere that sealed bytes rest: written whole or not at all, and changed by one at a time.
pub trait Rest: Send + Sync {
    /// What people call it.
    fn path(&self) -> &Path;

    /// Whether there is a keyring, readable or not.
    fn exists(&self) -> Result<bool, KeyringError>;

    /// The sealed bytes.
    fn read(&self) -> Result<Vec<u8>, KeyringError>;

    /// Replaces them; safe when it returns.
    fn write(&self, sealed: &[u8]) -> Result<(), KeyringError>;

    /// Keeps everybody else from changing them until the result is dropped.
    fn hold(&self, patience: Duration) -> Result<Box<dyn Any + Send>, KeyringError>;
}

/// In a file that only its owner may read.
pub struct InFile(PathBuf);

impl InFile {
    /// At `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }
}

impl Rest for InFile {
    fn path(&self) -> &Path {
        &self.0
    }

    fn exists(&self) -> Result<bool, KeyringError> {
        Ok(!matches!(fs::symlink_metadata(&self.0), Err(error) if error.kind() == io::ErrorKind::NotFound))
    }

    fn read(&self) -> Result<Vec<u8>, KeyringError> {
        let path = || self.0.clone();
        fs::read(&self.0).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => KeyringError::Missing { path: path() },
            _ => KeyringError::Read { path: path(), source },
        })
    }

    fn write(&self, sealed: &[u8]) -> Result<(), KeyringError> {
        replace(&self.0, sealed).map_err(|source| KeyringError::Write { path: self.0.clone(), source })
    }

    fn hold(&self, patience: Duration) -> Result<Box<dyn Any + Send>, KeyringError> {
        let path = beside(&self.0, ".lock");
        let failed = |source| KeyringError::Write { path: path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(folder_of(&path)).map_err(failed)?;
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(failed)?;
        let until = Instant::now() + patience;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Box::new(file)),
                Err(TryLockError::WouldBlock) if Instant::now() >= until => {
                    return Err(KeyringError::Busy { path });
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
    }
}

/// Puts `bytes` at `path` whole, or leaves what was there. The lock is held, so the name of the new file is ours.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = beside(path, ".new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) | Ok(()) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder_of(path))?.sync_all()
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    PathBuf::from(name)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
