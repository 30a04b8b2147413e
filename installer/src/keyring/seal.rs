//! The keyring file as bytes: one line that says how it is sealed, one line that is sealed.
//!
//! ```text
//! {"format":"castrum-keyring","format_version":1,"cluster":…,"kdf":…,"key_check":…,"nonce":…,"sealed_length":…}
//! base64 of ChaCha20-Poly1305 (RFC 8439) over the contents, with the whole first line as associated data
//! ```
//! A passphrase becomes a key by PBKDF2-HMAC-SHA256 with the 600,000 rounds that OWASP asks for. The key check tells a
//! wrong passphrase from an altered file; guessing against it is as dear as guessing against the seal itself.

use std::num::NonZeroU32;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use castrum_blueprints::names::ClusterId;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::error::Unspecified;
use ring::rand::SecureRandom;
use ring::{hmac, pbkdf2};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::secret::base64_text;
use super::{KeyringError, Passphrase};

const FORMAT: &str = "castrum-keyring";
const FORMAT_VERSION: u64 = 1;
/// How every keyring file begins, so that a cut off one is told from another file.
const BEGINNING: &str = r#"{"format":"castrum-keyring","#;
const ROUNDS: NonZeroU32 = NonZeroU32::new(600_000).expect("not zero");
/// More than this is somebody who wants us to wait.
const MAX_ROUNDS: u32 = 20_000_000;

/// The key that seals the file; the keys for its parts are derived from it.
#[derive(Clone)]
pub(super) struct SealingKey(pub(super) Zeroizing<[u8; 32]>);

impl SealingKey {
    fn part(&self, label: &str) -> hmac::Tag {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &*self.0), label.as_bytes())
    }

    fn cipher(&self) -> Result<LessSafeKey, Unspecified> {
        let key = self.part("castrum-keyring-v1 seal");
        UnboundKey::new(&CHACHA20_POLY1305, key.as_ref()).map(LessSafeKey::new)
    }

    fn check(&self) -> Vec<u8> {
        self.part("castrum-keyring-v1 check").as_ref()[..16].to_vec()
    }
}

/// Where the sealing key comes from, as the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Kdf {
    /// A passphrase.
    Pbkdf2(Pbkdf2),
    /// 32 random bytes in a file of their own.
    KeyFile,
}

impl Kdf {
    /// Whether we would have written it so: a weakened file is an altered file.
    fn credible(&self) -> bool {
        match self {
            Self::Pbkdf2(Pbkdf2 { rounds, salt }) => {
                (ROUNDS.get()..=MAX_ROUNDS).contains(&rounds.get()) && salt.len() == 16
            }
            Self::KeyFile => true,
        }
    }
}

/// How a passphrase becomes a key: PBKDF2-HMAC-SHA256 (RFC 8018).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pbkdf2 {
    rounds: NonZeroU32,
    #[serde(with = "base64_text")]
    salt: Vec<u8>,
}

impl Pbkdf2 {
    /// With a new salt.
    pub(super) fn draw(rng: &dyn SecureRandom) -> Result<Self, KeyringError> {
        let mut salt = vec![0; 16];
        rng.fill(&mut salt).map_err(|_| KeyringError::Random)?;
        Ok(Self { rounds: ROUNDS, salt })
    }

    pub(super) fn key(&self, passphrase: &Passphrase) -> SealingKey {
        let mut key = Zeroizing::new([0; 32]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, self.rounds, &self.salt, passphrase.bytes(), &mut *key);
        SealingKey(key)
    }
}

/// The part of the first line that every version has.
#[derive(Deserialize)]
struct Preamble {
    format: String,
    format_version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    format_version: u64,
    cluster: ClusterId,
    kdf: Kdf,
    #[serde(with = "base64_text")]
    key_check: Vec<u8>,
    #[serde(with = "base64_text")]
    nonce: Vec<u8>,
    /// Of the second line, without its line end.
    sealed_length: usize,
}

/// A file that looks right, not opened yet.
pub(super) struct Sealed<'a> {
    path: &'a Path,
    first_line: &'a [u8],
    header: Header,
    body: &'a [u8],
}

impl<'a> Sealed<'a> {
    pub(super) fn parse(path: &'a Path, file: &'a [u8], cluster: &ClusterId) -> Result<Self, KeyringError> {
        let altered = || KeyringError::Altered { path: path.to_path_buf() };
        let truncated = || KeyringError::Truncated { path: path.to_path_buf() };
        if !file.starts_with(BEGINNING.as_bytes()) {
            let cut = BEGINNING.as_bytes().starts_with(file);
            return Err(if cut {
                truncated()
            } else {
                KeyringError::NotAKeyring { path: path.to_path_buf() }
            });
        }
        let line_end = file.iter().position(|byte| *byte == b'\n').ok_or_else(truncated)?;
        let (first_line, rest) = file.split_at(line_end + 1);
        let header = parse_header(path, first_line)?;
        if header.cluster != *cluster {
            let (found, wanted) = (header.cluster, cluster.clone());
            return Err(KeyringError::OtherCluster { path: path.to_path_buf(), found, wanted });
        }
        if !header.kdf.credible() {
            return Err(altered());
        }
        let body = rest.strip_suffix(b"\n").unwrap_or(rest);
        match rest.len().cmp(&(header.sealed_length.saturating_add(1))) {
            std::cmp::Ordering::Less => Err(truncated()),
            std::cmp::Ordering::Equal if body.len() < rest.len() => {
                Ok(Self { path, first_line, header, body })
            }
            std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => Err(altered()),
        }
    }

    pub(super) fn kdf(&self) -> &Kdf {
        &self.header.kdf
    }

    /// Whether `key` is the one, without looking at what is sealed.
    pub(super) fn fits(&self, key: &SealingKey) -> bool {
        // The check is in the file for everybody to read, so comparing needs no constant time.
        self.header.key_check == key.check()
    }

    /// The contents, if nothing of the file was changed.
    pub(super) fn open(&self, key: &SealingKey) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
        let altered = || KeyringError::Altered { path: self.path.to_path_buf() };
        let nonce = Nonce::try_assume_unique_for_key(&self.header.nonce).map_err(|_| altered())?;
        let mut bytes = Zeroizing::new(STANDARD.decode(self.body).map_err(|_| altered())?);
        let cipher = key.cipher().map_err(|_| KeyringError::Seal)?;
        let length =
            cipher.open_in_place(nonce, Aad::from(self.first_line), &mut bytes).map_err(|_| altered())?.len();
        bytes.truncate(length);
        Ok(bytes)
    }
}

fn parse_header(path: &Path, first_line: &[u8]) -> Result<Header, KeyringError> {
    let altered = |_| KeyringError::Altered { path: path.to_path_buf() };
    let preamble: Preamble = serde_json::from_slice(first_line).map_err(altered)?;
    if preamble.format == FORMAT && preamble.format_version > FORMAT_VERSION {
        let found = preamble.format_version;
        return Err(KeyringError::NewerFormat { path: path.to_path_buf(), found, known: FORMAT_VERSION });
    }
    let header: Header = serde_json::from_slice(first_line).map_err(altered)?;
    if header.format == FORMAT && header.format_version == FORMAT_VERSION {
        Ok(header)
    } else {
        Err(KeyringError::Altered { path: path.to_path_buf() })
    }
}

/// The whole file for these contents, with a nonce of its own. Contents are wiped by being overwritten with the seal.
pub(super) fn seal(
    mut contents: Zeroizing<Vec<u8>>,
    cluster: &ClusterId,
    kdf: &Kdf,
    key: &SealingKey,
    rng: &dyn SecureRandom,
) -> Result<Vec<u8>, KeyringError> {
    let mut nonce = [0; NONCE_LEN];
    rng.fill(&mut nonce).map_err(|_| KeyringError::Random)?;
    let sealed_length = (contents.len() + CHACHA20_POLY1305.tag_len()).div_ceil(3) * 4;
    let header = Header {
        format: FORMAT.to_owned(),
        format_version: FORMAT_VERSION,
        cluster: cluster.clone(),
        kdf: kdf.clone(),
        key_check: key.check(),
        nonce: nonce.to_vec(),
        sealed_length,
    };
    let mut file = serde_json::to_vec(&header).map_err(KeyringError::Header)?;
    file.push(b'\n');
    let cipher = key.cipher().map_err(|_| KeyringError::Seal)?;
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = cipher
        .seal_in_place_separate_tag(nonce, Aad::from(&file), &mut contents)
        .map_err(|_| KeyringError::Seal)?;
    contents.extend_from_slice(tag.as_ref());
    file.extend_from_slice(STANDARD.encode(&*contents).as_bytes());
    file.push(b'\n');
    Ok(file)
}
