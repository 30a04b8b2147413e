//! Secret bytes: wiped when dropped, and written only into the sealed part of the keyring.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SecureRandom;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use zeroize::Zeroizing;

use super::IssueError;

/// Bytes that are not printed.
pub(super) struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    pub(super) fn from_slice(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    /// 32 bytes from `rng`.
    pub(super) fn random(rng: &dyn SecureRandom) -> Result<Self, IssueError> {
        let mut bytes = Zeroizing::new(vec![0; 32]);
        rng.fill(&mut bytes).map_err(|_| IssueError::Random)?;
        Ok(Self(bytes))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, if they are 32.
    pub(super) fn array(&self) -> Option<[u8; 32]> {
        self.0.as_slice().try_into().ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// Only `Contents` has such fields, and only the sealing code serializes it.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&Zeroizing::new(STANDARD.encode(self.bytes())))
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(from)?);
        STANDARD
            .decode(text.as_bytes())
            .map(|b| Self(Zeroizing::new(b)))
            .map_err(|_| D::Error::custom("not base64"))
    }
}

/// Bytes that are no secret, as base64.
pub(super) mod base64_text {
    use base64::Engine as _;
    use serde::de::Error as _;

    use super::{Deserialize as _, Deserializer, STANDARD, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(from)?).map_err(D::Error::custom)
    }
}
