//! The one file that the keyring rests in: written whole or not at all, and never by two at once.
//!
//! A change holds an exclusive lock on `<file>.lock` from reading to writing. The new file is written beside the old
//! one, flushed to disk and renamed over it, so that a crash at any moment leaves one of the two. Where a project's state
//! lies elsewhere, the same bytes rest there (see [`Rest`]).

use std::any::Any;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use castrum_blueprints::names::ClusterId;
use ring::rand::SecureRandom;
use zeroize::Zeroizing;

use super::contents::Contents;
use super::rest::{InFile, Rest};
use super::seal::{Kdf, Pbkdf2, Sealed, SealingKey, seal};
use super::{Keyring, KeyringError, Unlock, unlock};

/// A change takes well under a second, even with a passphrase.
const PATIENCE: Duration = Duration::from_secs(30);

/// A keyring on disk.
pub struct KeyringFile {
    rest: Box<dyn Rest>,
    cluster: ClusterId,
    unlock: Unlock,
    patience: Duration,
    /// The key of the last time, since deriving it from a passphrase takes long on purpose.
    opened: Mutex<Option<(Kdf, SealingKey)>>,
}

impl KeyringFile {
    /// The keyring of `cluster` at `path` (`.castrum/keyring`). Nothing is read yet.
    pub fn new(path: impl Into<PathBuf>, cluster: ClusterId, unlock: Unlock) -> Self {
        Self::at(Box::new(InFile::new(path)), cluster, unlock)
    }

    /// The keyring of `cluster` that rests at `rest`. Nothing is read yet.
    pub fn at(rest: Box<dyn Rest>, cluster: ClusterId, unlock: Unlock) -> Self {
        Self { rest, cluster, unlock, patience: PATIENCE, opened: Mutex::new(None) }
    }

    /// Waits this long for another process to let go, instead of 30 seconds.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.rest.path()
    }

    /// Whether there is such a file, readable or not.
    pub fn exists(&self) -> Result<bool, KeyringError> {
        self.rest.exists()
    }

    /// Makes the keyring of a new cluster, and its sealing key if that is a file. Refused if there is one already.
    pub fn create(&self, now: u64, rng: &dyn SecureRandom) -> Result<Keyring, KeyringError> {
        self.create_after(Vec::new(), now, rng)
    }

    /// Makes the keyring of a cluster that has lost the one before, whose CA certificates are `former_cas`.
    pub fn create_after(
        &self,
        former_cas: Vec<String>,
        now: u64,
        rng: &dyn SecureRandom,
    ) -> Result<Keyring, KeyringError> {
        let _lock = self.lock()?;
        if self.exists()? {
            return Err(KeyringError::Exists { path: self.path().to_path_buf() });
        }
        let keyring = Keyring::generate(self.cluster.clone(), now, rng)?.succeeding(former_cas);
        let (kdf, key) = new_sealing_key(&self.unlock, rng)?;
        self.save(&keyring, &kdf, &key, rng)?;
        self.remember(kdf, key);
        Ok(keyring)
    }

    /// Opens the keyring as it is now. Changes to the result are not saved; see [`KeyringFile::update`].
    pub fn open(&self) -> Result<Keyring, KeyringError> {
        self.load().map(|(keyring, _, _)| keyring)
    }

    /// Opens the keyring, or makes it if there is none. Only for a cluster that has no nodes yet: those that exist do
    /// not trust new keys.
    pub fn open_or_create(&self, now: u64, rng: &dyn SecureRandom) -> Result<Keyring, KeyringError> {
        if self.exists()? {
            return self.open();
        }
        match self.create(now, rng) {
            // Another process was faster.
            Err(KeyringError::Exists { .. }) => self.open(),
            other => other,
        }
    }

    /// Reads, changes and saves, while no other process can. If `change` fails, nothing is saved; what it gives is
    /// handed out only after the file is safely on disk.
    pub fn update<T, E: From<KeyringError>>(
        &self,
        rng: &dyn SecureRandom,
        change: impl FnOnce(&mut Keyring) -> Result<T, E>,
    ) -> Result<T, E> {
        let _lock = self.lock()?;
        let (mut keyring, kdf, key) = self.load()?;
        let given = change(&mut keyring)?;
        self.save(&keyring, &kdf, &key, rng)?;
        Ok(given)
    }

    /// Seals the file in another way from now on: a new passphrase, or a key file.
    pub fn reseal(&mut self, to: Unlock, rng: &dyn SecureRandom) -> Result<(), KeyringError> {
        let _lock = self.lock()?;
        let (keyring, _, _) = self.load()?;
        let (kdf, key) = new_sealing_key(&to, rng)?;
        self.save(&keyring, &kdf, &key, rng)?;
        self.remember(kdf, key);
        self.unlock = to;
        Ok(())
    }

    fn load(&self) -> Result<(Keyring, Kdf, SealingKey), KeyringError> {
        let path = || self.path().to_path_buf();
        let file = self.rest.read()?;
        let sealed = Sealed::parse(self.path(), &file, &self.cluster)?;
        let kdf = sealed.kdf().clone();
        let key = self.sealing_key(&kdf)?;
        if !sealed.fits(&key) {
            return Err(match &self.unlock {
                Unlock::Passphrase(_) => KeyringError::WrongPassphrase { path: path() },
                Unlock::KeyFile(key) => KeyringError::WrongSealingKey { path: path(), key: key.clone() },
            });
        }
        // What serde says about contents that do not fit would quote them.
        let contents: Contents = serde_json::from_slice(&sealed.open(&key)?)
            .map_err(|_| KeyringError::Unreadable { path: path() })?;
        if contents.cluster != self.cluster {
            return Err(KeyringError::Unreadable { path: path() });
        }
        let keyring = Keyring::from_contents(contents)?;
        self.remember(kdf.clone(), key.clone());
        Ok((keyring, kdf, key))
    }

    fn sealing_key(&self, kdf: &Kdf) -> Result<SealingKey, KeyringError> {
        if let Some((known, key)) = &*self.opened.lock().unwrap_or_else(PoisonError::into_inner)
            && known == kdf
        {
            return Ok(key.clone());
        }
        match (kdf, &self.unlock) {
            (Kdf::Pbkdf2(pbkdf2), Unlock::Passphrase(passphrase)) => Ok(pbkdf2.key(passphrase)),
            (Kdf::KeyFile, Unlock::KeyFile(path)) => unlock::read_key(path).map(SealingKey),
            (Kdf::Pbkdf2(_), Unlock::KeyFile(_)) => {
                Err(KeyringError::NeedsPassphrase { path: self.path().to_path_buf() })
            }
            (Kdf::KeyFile, Unlock::Passphrase(_)) => {
                Err(KeyringError::NeedsKeyFile { path: self.path().to_path_buf() })
            }
        }
    }

    fn remember(&self, kdf: Kdf, key: SealingKey) {
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some((kdf, key));
    }

    fn save(
        &self,
        keyring: &Keyring,
        kdf: &Kdf,
        key: &SealingKey,
        rng: &dyn SecureRandom,
    ) -> Result<(), KeyringError> {
        // Room for all of it, so that growing leaves no copy of a secret behind.
        let mut contents =
            Zeroizing::new(Vec::with_capacity(8192 + 2048 * keyring.contents.enrolments.len()));
        serde_json::to_writer(&mut *contents, &keyring.contents)
            .map_err(|error| KeyringError::Write { path: self.path().to_path_buf(), source: error.into() })?;
        let file = seal(contents, &self.cluster, kdf, key, rng)?;
        self.rest.write(&file)
    }

    /// Held until the result is dropped, or this process ends.
    fn lock(&self) -> Result<Box<dyn Any + Send>, KeyringError> {
        self.rest.hold(self.patience)
    }
}

impl fmt::Debug for KeyringFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyringFile")
            .field("path", &self.path())
            .field("cluster", &self.cluster)
            .field("unlock", &self.unlock)
            .finish_non_exhaustive()
    }
}

fn new_sealing_key(unlock: &Unlock, rng: &dyn SecureRandom) -> Result<(Kdf, SealingKey), KeyringError> {
    match unlock {
        Unlock::KeyFile(path) => Ok((Kdf::KeyFile, SealingKey(unlock::read_or_make_key(path, rng)?))),
        Unlock::Passphrase(passphrase) => {
            let pbkdf2 = Pbkdf2::draw(rng)?;
            let key = pbkdf2.key(passphrase);
            Ok((Kdf::Pbkdf2(pbkdf2), key))
        }
    }
}
