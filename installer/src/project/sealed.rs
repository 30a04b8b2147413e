//! The keyring in the place of the state: only its sealed bytes travel, and no copy is kept on this machine's disk.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lease::Pinned;
use super::shared::Shared;
use crate::keyring::{KeyringError, Rest};

/// Rests where the head of a place points to.
pub(super) struct InPlace {
    shared: Arc<Shared>,
    path: PathBuf,
}

impl InPlace {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let path = PathBuf::from(format!("{}/keyring", shared.name()));
        Self { shared, path }
    }
}

impl Rest for InPlace {
    fn path(&self) -> &Path {
        &self.path
    }

    fn exists(&self) -> Result<bool, KeyringError> {
        Ok(self.shared.pinned(Pinned::Keyring)?.is_some())
    }

    fn read(&self) -> Result<Vec<u8>, KeyringError> {
        let sealed = self.shared.pinned(Pinned::Keyring)?;
        Ok(sealed.ok_or_else(|| KeyringError::Missing { path: self.path.clone() })?.to_vec())
    }

    fn write(&self, sealed: &[u8]) -> Result<(), KeyringError> {
        Ok(self.shared.pin(Pinned::Keyring, sealed)?)
    }

    /// Other processes are kept out by the lease; this keeps the parts of this one apart.
    fn hold(&self, patience: Duration) -> Result<Box<dyn Any + Send>, KeyringError> {
        let until = Instant::now() + patience;
        loop {
            match Arc::clone(&self.shared.changing).try_lock_owned() {
                Ok(held) => return Ok(Box::new(held)),
                Err(_) if Instant::now() >= until => {
                    return Err(KeyringError::Busy { path: self.path.clone() });
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}
