//! What opens the keyring file: a passphrase, or a random key that rests outside the working folder.

use std::ffi::OsString;
use std::fmt;
use std::fs::{DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use castrum_blueprints::names::ClusterId;
use ring::rand::SecureRandom;
use zeroize::Zeroizing;

use super::KeyringError;

/// The environment variable with the passphrase itself.
pub const PASSPHRASE_ENV: &str = "CASTRUM_KEYRING_PASSPHRASE";

/// The environment variable with the path of a file that holds the passphrase.
pub const PASSPHRASE_FILE_ENV: &str = "CASTRUM_KEYRING_PASSPHRASE_FILE";

/// No passphrase and no key is longer than this.
const MAX_SECRET_FILE: u64 = 4096;

/// A passphrase; it cannot be printed.
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// Takes the bytes; one line end after them does not belong to the passphrase.
    pub fn new(bytes: Vec<u8>) -> Result<Self, KeyringError> {
        let mut bytes = Zeroizing::new(bytes);
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        if bytes.is_empty() { Err(KeyringError::EmptyPassphrase) } else { Ok(Self(bytes)) }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(redacted)")
    }
}

/// How to open the keyring file.
#[derive(Debug)]
pub enum Unlock {
    /// With a passphrase.
    Passphrase(Passphrase),
    /// With the random key in this file, which is made together with the keyring.
    KeyFile(PathBuf),
}

impl Unlock {
    /// What the environment says, asked through `env`: a passphrase, a file with one, or else the key of this cluster
    /// in `$XDG_CONFIG_HOME/castrum/keys/`.
    pub fn from_env(
        cluster: &ClusterId,
        env: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, KeyringError> {
        if let Some(passphrase) = env(PASSPHRASE_ENV) {
            return Passphrase::new(passphrase.into_vec()).map(Self::Passphrase);
        }
        if let Some(path) = env(PASSPHRASE_FILE_ENV).map(PathBuf::from) {
            let text =
                read_private(&path).map_err(|source| KeyringError::Read { path: path.clone(), source })?;
            return Passphrase::new(text?.to_vec()).map(Self::Passphrase);
        }
        let absolute = |name| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let config =
            absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
        let config = config.ok_or(KeyringError::NoConfigFolder)?;
        Ok(Self::KeyFile(config.join("castrum/keys").join(cluster.as_str())))
    }
}

/// The key in `path`.
pub(super) fn read_key(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyringError> {
    let key = || path.to_path_buf();
    let text = match read_private(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(KeyringError::SealingKeyMissing { key: key() });
        }
        Err(source) => return Err(KeyringError::Read { path: key(), source }),
        Ok(text) => text?,
    };
    let invalid = || KeyringError::SealingKeyInvalid { key: key() };
    let bytes = STANDARD.decode(text.trim_ascii_end()).map(Zeroizing::new).map_err(|_| invalid())?;
    bytes.as_slice().try_into().map(Zeroizing::new).map_err(|_| invalid())
}

/// The key in `path`, which is drawn first if it is not there. Two processes get the same key.
pub(super) fn read_or_make_key(
    path: &Path,
    rng: &dyn SecureRandom,
) -> Result<Zeroizing<[u8; 32]>, KeyringError> {
    match read_key(path) {
        Err(KeyringError::SealingKeyMissing { .. }) => {}
        other => return other,
    }
    let mut key = Zeroizing::new([0; 32]);
    rng.fill(&mut *key).map_err(|_| KeyringError::Random)?;
    write_key(path, &key).map_err(|source| KeyringError::Write { path: path.to_path_buf(), source })?;
    read_key(path)
}

/// Puts the key there whole, unless somebody else was faster.
fn write_key(path: &Path, key: &[u8; 32]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    let mut text = Zeroizing::new(STANDARD.encode(key));
    text.push('\n');
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => return Err(error.error),
        Err(_) | Ok(_) => {}
    }
    File::open(folder)?.sync_all()
}

/// The text of a file that only its owner may touch; whose permissions are too wide is the inner error.
fn read_private(path: &Path) -> io::Result<Result<Zeroizing<Vec<u8>>, KeyringError>> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Ok(Err(KeyringError::Exposed { path: path.to_path_buf(), mode }));
    }
    // Sized for the most that is read, so that no copy is left behind by growing.
    let mut text = Zeroizing::new(Vec::with_capacity(4096 + 64));
    file.take(MAX_SECRET_FILE).read_to_end(&mut text)?;
    Ok(Ok(text))
}
