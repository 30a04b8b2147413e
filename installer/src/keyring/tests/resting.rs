//! The keyring at rest: it comes back whole, or with an error that says what to do.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

pub(super) struct Place {
    pub(super) folder: tempfile::TempDir,
}

impl Place {
    pub(super) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join(".castrum/keyring")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("config/castrum/keys/0123456789ab")
    }

    pub(super) fn file(&self) -> KeyringFile {
        file_in(self.folder.path())
    }

    fn with_passphrase(&self, text: &str) -> KeyringFile {
        KeyringFile::new(self.path(), cluster(), passphrase(text))
    }

    fn made(self) -> Self {
        self.file().create(NOW, &rng()).expect("a keyring");
        self
    }

    /// The error of opening, after the file was changed by `bend`.
    fn open_bent(&self, bend: impl FnOnce(Vec<u8>) -> Vec<u8>) -> KeyringError {
        let whole = fs::read(self.path()).expect("a file");
        fs::write(self.path(), bend(whole.clone())).expect("written");
        let error = self.file().open().expect_err("a refusal");
        fs::write(self.path(), whole).expect("written");
        error
    }
}

pub(super) fn file_in(folder: &Path) -> KeyringFile {
    let key = folder.join("config/castrum/keys/0123456789ab");
    KeyringFile::new(folder.join(".castrum/keyring"), cluster(), Unlock::KeyFile(key))
}

/// Puts other contents into the file, sealed by the right key.
pub(super) fn seal_instead(place: &Place, contents: Vec<u8>) {
    let key = seal::SealingKey(unlock::read_key(&place.key()).expect("a key"));
    let contents = Zeroizing::new(contents);
    let file = seal::seal(contents, &cluster(), &seal::Kdf::KeyFile, &key, &rng()).expect("a file");
    fs::write(place.path(), file).expect("written");
}

fn passphrase(text: &str) -> Unlock {
    Unlock::Passphrase(Passphrase::new(text.as_bytes().to_vec()).expect("a passphrase"))
}

#[test]
fn a_successor_remembers_the_cas_before_it_and_has_keys_of_its_own() {
    let (lost, next) = (Place::new().made(), Place::new());
    let before = lost.file().open().expect("a keyring");
    next.file().create_after(vec![before.ca_pem()], NOW, &rng()).expect("a keyring");
    let after = next.file().open().expect("a keyring");
    assert_eq!((after.cluster(), after.former_cas()), (before.cluster(), &[before.ca_pem()][..]));
    assert_ne!(after.ca_pem(), before.ca_pem());
    assert_ne!(after.verifying_key(), before.verifying_key());
    assert!(before.former_cas().is_empty());
}

fn offer(file: &KeyringFile, node: &str) -> Result<JoinToken, EnrolError> {
    file.update(&rng(), |keyring| keyring.offer_token(&name(node), 1, NOW + HOUR, NOW))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

/// Two texts inside the file, one for the other, of whatever length.
fn swap_text(old: &'static str, new: &'static str) -> impl FnOnce(Vec<u8>) -> Vec<u8> {
    move |file| {
        let text = String::from_utf8(file).expect("text");
        assert!(text.contains(old), "{old}");
        text.replacen(old, new, 1).into_bytes()
    }
}

#[test]
fn a_keyring_comes_back_as_it_was() {
    let place = Place::new();
    let made = place.file().create(NOW, &rng()).expect("a keyring");
    let token = offer(&place.file(), "masters-1").expect("a token");
    let back = place.file().open().expect("a keyring");
    assert_eq!((back.ca_der(), back.verifying_key()), (made.ca_der(), made.verifying_key()));
    assert_eq!(back.ssh_public_line().expect("a line"), made.ssh_public_line().expect("a line"));
    assert_eq!(back.token(&name("masters-1")).expect("a token").expose(), token.expose());
    assert!(back.issue_installer(NOW, &rng()).is_ok());
    assert_eq!(back.sign("manifest", b"x"), made.sign("manifest", b"x"));
}

#[test]
fn others_are_kept_out_of_the_files() {
    let place = Place::new().made();
    offer(&place.file(), "masters-1").expect("a token");
    let folders = [place.path(), place.key()].map(|path| path.parent().expect("a folder").to_path_buf());
    assert_eq!((mode(&place.path()), mode(&place.key())), (0o600, 0o600));
    assert_eq!(folders.map(|folder| mode(&folder)), [0o700, 0o700]);
}

#[test]
fn a_keyring_is_made_once() {
    let place = Place::new();
    assert!(matches!(place.file().open(), Err(KeyringError::Missing { .. })));
    assert!(matches!(offer(&place.file(), "a-1"), Err(EnrolError::Keyring(KeyringError::Missing { .. }))));
    assert!(!place.file().exists().expect("a folder"));
    let made = place.file().open_or_create(NOW, &rng()).expect("a keyring");
    assert!(place.file().exists().expect("a folder"));
    assert!(matches!(place.file().create(NOW, &rng()), Err(KeyringError::Exists { .. })));
    assert_eq!(place.file().open_or_create(NOW, &rng()).expect("a keyring").ca_der(), made.ca_der());
}

#[test]
fn a_passphrase_opens_it_and_another_does_not() {
    let place = Place::new();
    let file = place.with_passphrase("correct horse");
    let made = file.create(NOW, &rng()).expect("a keyring");
    assert!(!place.key().exists(), "no key beside a passphrase");
    offer(&file, "masters-1").expect("a token");
    let back = place.with_passphrase("correct horse\n").open().expect("a keyring");
    assert_eq!(back.ca_der(), made.ca_der());
    assert_eq!(back.enrolments().count(), 1);
    let wrong = place.with_passphrase("correct hors").open();
    assert!(matches!(wrong, Err(KeyringError::WrongPassphrase { .. })));
    assert!(matches!(place.file().open(), Err(KeyringError::NeedsPassphrase { .. })));
    let weak = place.open_bent(swap_text("\"rounds\":600000", "\"rounds\":1"));
    assert!(matches!(weak, KeyringError::Altered { .. }));
    let endless = place.open_bent(swap_text("\"rounds\":600000", "\"rounds\":4000000000"));
    assert!(matches!(endless, KeyringError::Altered { .. }));
}

#[test]
fn how_it_is_sealed_can_be_changed() {
    let place = Place::new().made();
    let before = place.file().open().expect("a keyring").ca_der();
    assert!(matches!(place.with_passphrase("x").open(), Err(KeyringError::NeedsKeyFile { .. })));
    let mut file = place.file();
    file.reseal(passphrase("new"), &rng()).expect("resealed");
    offer(&file, "masters-1").expect("a token");
    assert_eq!(place.with_passphrase("new").open().expect("a keyring").ca_der(), before);
    assert!(matches!(place.file().open(), Err(KeyringError::NeedsPassphrase { .. })));
    // Resealed by another process meanwhile, with a new salt: a key that was kept does not count.
    let mut again = place.with_passphrase("new");
    again.reseal(passphrase("new"), &rng()).expect("resealed");
    assert_eq!(file.open().expect("a keyring").ca_der(), before);
    let mut other = place.with_passphrase("old");
    assert!(matches!(other.reseal(passphrase("mine"), &rng()), Err(KeyringError::WrongPassphrase { .. })));
}

#[test]
fn the_sealing_key_must_be_there_whole_private_and_the_right_one() {
    let place = Place::new().made();
    let key = fs::read(place.key()).expect("a key");
    fs::set_permissions(place.key(), Permissions::from_mode(0o640)).expect("changed");
    assert!(matches!(place.file().open(), Err(KeyringError::Exposed { mode: 0o640, .. })));
    fs::set_permissions(place.key(), Permissions::from_mode(0o600)).expect("changed");
    for bad in [&b""[..], b"nonsense", &key[..20], &[&key[..], &key[..]].concat()] {
        fs::write(place.key(), bad).expect("written");
        assert!(matches!(place.file().open(), Err(KeyringError::SealingKeyInvalid { .. })));
    }
    let other = Place::new().made();
    fs::copy(other.key(), place.key()).expect("copied");
    assert!(matches!(place.file().open(), Err(KeyringError::WrongSealingKey { .. })));
    fs::remove_file(place.key()).expect("removed");
    assert!(matches!(place.file().open(), Err(KeyringError::SealingKeyMissing { .. })));
    assert!(offer(&place.file(), "masters-1").is_err());
    assert!(!place.key().exists(), "a lost key is not replaced by one that opens nothing");
    fs::write(place.key(), key).expect("written");
    fs::set_permissions(place.key(), Permissions::from_mode(0o600)).expect("changed");
    assert!(place.file().open().is_ok());
}

#[test]
fn a_file_of_something_else_is_told_apart() {
    let place = Place::new().made();
    let found = "ba9876543210".parse().expect("an id");
    let other = KeyringFile::new(place.path(), found, Unlock::KeyFile(place.key())).open();
    assert!(matches!(&other, Err(KeyringError::OtherCluster { found, .. }) if *found == cluster()));
    let newer = place.open_bent(swap_text("\"format_version\":1,", "\"format_version\":2,\"new\":[],"));
    assert!(matches!(newer, KeyringError::NewerFormat { found: 2, known: 1, .. }));
    let older = place.open_bent(swap_text("\"format_version\":1,", "\"format_version\":0,"));
    assert!(matches!(older, KeyringError::Altered { .. }));
    let inside = Keyring::generate("ba9876543210".parse().expect("an id"), NOW, &rng()).expect("a keyring");
    seal_instead(&place, serde_json::to_vec(&inside.contents).expect("json"));
    assert!(matches!(place.file().open(), Err(KeyringError::Unreadable { .. })));
    for text in ["hello", "{}", "\n", "\0\0\0\0"] {
        assert!(matches!(place.open_bent(|_| text.into()), KeyringError::NotAKeyring { .. }), "{text:?}");
    }
}

#[test]
fn a_file_cut_off_anywhere_is_refused_as_such() {
    let place = Place::new().made();
    let length = fs::read(place.path()).expect("a file").len();
    for end in 0..length {
        let error = place.open_bent(|file| file[..end].to_vec());
        assert!(matches!(error, KeyringError::Truncated { .. }), "at {end}: {error}");
    }
}

#[test]
fn a_file_with_any_byte_changed_is_refused() {
    let place = Place::new().made();
    let whole = fs::read(place.path()).expect("a file");
    let body = whole.iter().position(|byte| *byte == b'\n').expect("a line end") + 1;
    for at in 0..whole.len() {
        let error = place.open_bent(|mut file| {
            file[at] ^= 1;
            file
        });
        if at >= body {
            assert!(matches!(error, KeyringError::Altered { .. }), "at {at}: {error}");
        }
    }
    let longer = place.open_bent(|file| [&file[..], b"\n"].concat());
    assert!(matches!(longer, KeyringError::Altered { .. }));
    // Each seal is right by itself, but not with the first line of the other.
    offer(&place.file(), "masters-1").expect("a token");
    let mixed = place.open_bent(|file| {
        let start = file.iter().position(|byte| *byte == b'\n').expect("a line end") + 1;
        let pad = |bytes: &[u8]| bytes[..bytes.len().min(whole.len() - body)].to_vec();
        [&whole[..body], &pad(&file[start..file.len() - 1])[..whole.len() - body - 1], b"\n"].concat()
    });
    assert!(matches!(mixed, KeyringError::Altered { .. }));
}

#[test]
fn a_change_that_fails_leaves_the_file_alone() {
    let place = Place::new().made();
    offer(&place.file(), "masters-1").expect("a token");
    let before = fs::read(place.path()).expect("a file");
    let refused = place.file().update(&rng(), |keyring| {
        keyring.forget(&name("masters-1"));
        keyring.offer_token(&name("masters-2"), 1, NOW, NOW)
    });
    assert!(matches!(refused, Err(EnrolError::Expired { .. })));
    assert_eq!(fs::read(place.path()).expect("a file"), before);
    fs::write(place.folder.path().join(".castrum/keyring.new"), "left by a crash").expect("written");
    offer(&place.file(), "masters-2").expect("a token");
    assert_eq!(place.file().open().expect("a keyring").enrolments().count(), 2);
    assert!(!place.folder.path().join(".castrum/keyring.new").exists());
    assert_ne!(fs::read(place.path()).expect("a file"), before);
}

#[test]
fn what_cannot_be_written_or_locked_is_said() {
    let place = Place::new().made();
    let lock = fs::File::open(place.folder.path().join(".castrum/keyring.lock")).expect("a lock file");
    lock.lock().expect("locked");
    let patient = place.file().with_patience(Duration::from_millis(30));
    assert!(matches!(offer(&patient, "masters-1"), Err(EnrolError::Keyring(KeyringError::Busy { .. }))));
    assert!(place.file().open().is_ok(), "reading waits for nobody");
    drop(lock);
    assert!(offer(&patient, "masters-1").is_ok());

    let below_a_file =
        KeyringFile::new(place.path().join("keyring"), cluster(), Unlock::KeyFile(place.key()));
    assert!(matches!(below_a_file.create(NOW, &rng()), Err(KeyringError::Write { .. })));
    let is_folder = KeyringFile::new(place.folder.path(), cluster(), Unlock::KeyFile(place.key()));
    assert!(matches!(is_folder.open(), Err(KeyringError::Read { .. })));
}

fn from_env(variables: &[(&str, &Path)]) -> Result<Unlock, KeyringError> {
    let map: BTreeMap<String, OsString> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), value.as_os_str().to_owned())).collect();
    Unlock::from_env(&cluster(), &|name| map.get(name).cloned())
}

#[test]
fn the_environment_says_how_to_open_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("passphrase");
    fs::write(&secret, "from a file\r\n").expect("written");
    fs::set_permissions(&secret, Permissions::from_mode(0o644)).expect("changed");
    assert!(matches!(from_env(&[(PASSPHRASE_FILE_ENV, &secret)]), Err(KeyringError::Exposed { .. })));
    fs::set_permissions(&secret, Permissions::from_mode(0o600)).expect("changed");
    let bytes = |unlock: Result<Unlock, KeyringError>| match unlock {
        Ok(Unlock::Passphrase(passphrase)) => passphrase.bytes().to_vec(),
        _ => Vec::new(),
    };
    assert_eq!(bytes(from_env(&[(PASSPHRASE_FILE_ENV, &secret)])), b"from a file");
    let both = [(PASSPHRASE_ENV, Path::new("direct")), (PASSPHRASE_FILE_ENV, &secret)];
    assert_eq!(bytes(from_env(&both)), b"direct");
    assert!(matches!(from_env(&[(PASSPHRASE_ENV, Path::new(""))]), Err(KeyringError::EmptyPassphrase)));
    let missing = folder.path().join("none");
    assert!(matches!(from_env(&[(PASSPHRASE_FILE_ENV, &missing)]), Err(KeyringError::Read { .. })));
    fs::write(&secret, "\n").expect("written");
    assert!(matches!(from_env(&[(PASSPHRASE_FILE_ENV, &secret)]), Err(KeyringError::EmptyPassphrase)));

    let key = |variables: &[(&str, &str)]| {
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, Path::new(*value))).collect();
        match from_env(&variables) {
            Ok(Unlock::KeyFile(path)) => path.display().to_string(),
            _ => String::new(),
        }
    };
    assert_eq!(key(&[("XDG_CONFIG_HOME", "/c"), ("HOME", "/h")]), "/c/castrum/keys/0123456789ab");
    assert_eq!(key(&[("XDG_CONFIG_HOME", "c"), ("HOME", "/h")]), "/h/.config/castrum/keys/0123456789ab");
    assert!(matches!(from_env(&[("HOME", Path::new("h"))]), Err(KeyringError::NoConfigFolder)));
}
