//! How a new node and the installer come to trust each other, as computations on bytes.
//!
//! Boot data carries a one-time [`JoinToken`]. It is never sent back: the node proves that it has it, once for its SSH
//! host keys ([`verify_host_key`]), and once for its own key pair ([`JoinStatement`]). Every code starts with a label of
//! its own, and every field is written with its length before it, so that no two statements share their bytes.

use std::collections::BTreeSet;
use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use crate::names::{ClusterId, NodeName, Role, hex};

/// The script that a node runs at boot to publish the proofs of its SSH host keys, for `python3 - TOKEN [PROOF [KEYS]]`.
pub const HOST_KEY_PROOF_SCRIPT: &str = include_str!("trust/host_keys.py");

/// Where [`HOST_KEY_PROOF_SCRIPT`] writes the proofs, for everybody to read.
pub const HOST_KEY_PROOF_FILE: &str = "/run/castrum/hostkeys.proof";

/// The DNS name in every certificate of the installer.
pub const INSTALLER_DNS: &str = "installer.castrum.internal";

/// No node has more kinds of host keys than this.
const MAX_HOST_KEYS: usize = 16;

/// Three kinds of keys make 0.3 KB; anything near this is not ours.
const MAX_PROOF_TEXT: usize = 64 * 1024;

/// The DNS name in a node's certificate that only this node has.
pub fn node_dns(node: &NodeName) -> String {
    format!("{node}.node.castrum.internal")
}

/// The DNS name in a node's certificate that all nodes of this role have.
pub fn role_dns(role: Role) -> String {
    format!("{role}.role.castrum.internal")
}

/// Why something that should prove trust does not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Text that should be a fixed number of bytes in hexadecimal.
    #[error("not a {what}: {digits} hexadecimal digits are needed")]
    NotHex {
        /// What the text should have been.
        what: &'static str,
        /// How many digits that takes.
        digits: usize,
    },
    /// A line that is not `TYPE BASE64 [COMMENT]`.
    #[error("not an SSH public key: write TYPE and BASE64, with a space between")]
    NotAHostKey,
    /// More host keys than a machine has.
    #[error("more than {MAX_HOST_KEYS} SSH host keys")]
    TooManyHostKeys,
    /// The statement was not made with this token.
    #[error("the proof does not belong to this join token and this statement")]
    WrongProof,
    /// The machine proved no key of this type (yet).
    #[error("no proof for a host key of type `{kind}`")]
    HostKeyNotProven {
        /// The type of the key that was seen.
        kind: String,
    },
    /// The machine that we talk to is not the one that got the token.
    #[error("the SSH host key of type `{kind}` is not the one that was proven: somebody may be in between")]
    HostKeyMismatch {
        /// The type of the key that was seen.
        kind: String,
    },
}

/// Bytes of a fixed length that travel as hexadecimal.
macro_rules! hex_bytes {
    ($(#[$doc:meta])* $type:ident, $length:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type([u8; $length]);

        impl $type {
            /// From the raw bytes.
            pub fn from_bytes(bytes: [u8; $length]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            pub fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = TrustError;
            fn try_from(text: String) -> Result<Self, TrustError> {
                text.parse()
            }
        }

        impl std::str::FromStr for $type {
            type Err = TrustError;
            fn from_str(text: &str) -> Result<Self, TrustError> {
                unhex(text).map(Self).ok_or(TrustError::NotHex { what: $what, digits: $length * 2 })
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                hex(&value.0)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&hex(&self.0))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($type))
            }
        }
    };
}

hex_bytes!(
    /// What shows that a [`JoinStatement`] was made by a holder of the token. Not a secret.
    JoinProof, 32, "join proof"
);
hex_bytes!(
    /// Random bytes that make each statement another one.
    Nonce, 32, "nonce"
);
hex_bytes!(
    /// An Ed25519 signature (RFC 8032) over a [`signing_input`].
    Signature, 64, "signature"
);
hex_bytes!(
    /// The public half of the cluster's Ed25519 signing key.
    VerifyingKey, 32, "verifying key"
);

/// What a token is bound to.
#[derive(Debug, Clone, Copy)]
pub struct JoinTerms<'a> {
    /// The cluster to join.
    pub cluster: &'a ClusterId,
    /// The only node that may join with it.
    pub node: &'a NodeName,
    /// Which machine of that name: the number grows when a node is replaced.
    pub incarnation: u64,
    /// The unix second from which on nobody may join with it.
    pub expires: u64,
}

/// The one secret in boot data. It cannot be printed, and is written only where [`JoinToken::expose`] or
/// [`exposed_token`] says so.
#[derive(Clone)]
pub struct JoinToken([u8; 32]);

impl JoinToken {
    /// The token for these terms; the same terms always give the same token.
    pub fn derive(join_key: &[u8; 32], terms: &JoinTerms<'_>) -> Self {
        let mut code = Code::new(join_key, "castrum-join-v1");
        code.field(terms.cluster.as_str().as_bytes());
        code.field(terms.node.as_str().as_bytes());
        code.field(&terms.incarnation.to_be_bytes());
        code.field(&terms.expires.to_be_bytes());
        Self(code.0.finalize().into_bytes().into())
    }

    /// The token from the text that [`JoinToken::expose`] gave; white space around it is ignored.
    pub fn parse(text: &str) -> Result<Self, TrustError> {
        unhex(text.trim()).map(Self).ok_or(TrustError::NotHex { what: "join token", digits: 64 })
    }

    /// The secret itself, in hexadecimal: for boot data, and for nothing else.
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(hex(&self.0))
    }
}

impl Drop for JoinToken {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken(redacted)")
    }
}

/// For a field that is meant to carry the secret: `#[serde(with = "castrum_blueprints::trust::exposed_token")]`.
pub mod exposed_token {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use zeroize::Zeroizing;

    use super::JoinToken;

    /// Writes the secret.
    pub fn serialize<S: Serializer>(token: &JoinToken, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&token.expose())
    }

    /// Reads the secret; the error does not repeat it.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<JoinToken, D::Error> {
        JoinToken::parse(&Zeroizing::new(String::deserialize(from)?)).map_err(D::Error::custom)
    }
}

/// What a node says when it asks to join. It holds nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinStatement {
    /// Who asks.
    pub node: NodeName,
    /// Which machine of that name, as boot data said.
    pub incarnation: u64,
    /// The certificate signing request (PKCS #10, DER), in hexadecimal.
    #[serde(with = "hex_text")]
    pub csr: Vec<u8>,
    /// The machine's SSH host keys, each as [`host_key`] writes it.
    pub host_keys: BTreeSet<String>,
    /// Drawn anew for every statement.
    pub nonce: Nonce,
}

impl JoinStatement {
    /// Proves this statement with `token`.
    pub fn prove(self, token: &JoinToken) -> JoinRequest {
        let proof = JoinProof(self.code(token).0.finalize().into_bytes().into());
        JoinRequest { statement: self, proof }
    }

    fn code(&self, token: &JoinToken) -> Code {
        let mut code = Code::new(&token.0, "castrum-proof-v1");
        code.field(self.node.as_str().as_bytes());
        code.field(&self.incarnation.to_be_bytes());
        code.field(&Sha256::digest(&self.csr));
        code.field(&(self.host_keys.len() as u64).to_be_bytes());
        for key in &self.host_keys {
            code.field(key.as_bytes());
        }
        code.field(&self.nonce.0);
        code
    }
}

/// A statement with its proof: what a node sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// What is said.
    pub statement: JoinStatement,
    /// What shows that a holder of the token said it.
    pub proof: JoinProof,
}

impl JoinRequest {
    /// Whether a holder of `token` said this, compared in constant time.
    pub fn verify(&self, token: &JoinToken) -> Result<(), TrustError> {
        if self.statement.host_keys.len() > MAX_HOST_KEYS {
            return Err(TrustError::TooManyHostKeys);
        }
        // They end up in known-hosts files, where a line break or a comment would say something else.
        for key in &self.statement.host_keys {
            if host_key(key)? != *key {
                return Err(TrustError::NotAHostKey);
            }
        }
        self.statement.code(token).0.verify_slice(&self.proof.0).map_err(|_| TrustError::WrongProof)
    }
}

/// `TYPE BASE64` of a public key line, without comment: the one spelling that proofs are about.
pub fn host_key(line: &str) -> Result<String, TrustError> {
    let mut words = line.split_whitespace();
    let (Some(kind), Some(key)) = (words.next(), words.next()) else { return Err(TrustError::NotAHostKey) };
    let kind_ok = kind.bytes().all(|b| b.is_ascii_alphanumeric() || b"-@.".contains(&b));
    let key_ok = key.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
    if kind_ok && key_ok { Ok(format!("{kind} {key}")) } else { Err(TrustError::NotAHostKey) }
}

/// The proof in hexadecimal that the holder of `token` gives for one host key line.
pub fn host_key_proof(token: &JoinToken, line: &str) -> Result<String, TrustError> {
    Ok(hex(&host_key_code(token, &host_key(line)?).finalize().into_bytes()))
}

/// Whether the host key seen in an SSH handshake is one that the holder of `token` proved.
///
/// `proofs` is the text of [`HOST_KEY_PROOF_FILE`] as read through that very connection: somebody in between can change
/// it, but cannot make it fit their own key without the token.
pub fn verify_host_key(token: &JoinToken, seen: &str, proofs: &str) -> Result<(), TrustError> {
    let key = host_key(seen)?;
    let kind = key.split(' ').next().unwrap_or_default().to_owned();
    let lines = if proofs.len() > MAX_PROOF_TEXT { "" } else { proofs };
    let mut claimed = false;
    for (line_kind, proof) in lines.lines().take(MAX_HOST_KEYS).filter_map(|line| line.split_once(' ')) {
        let Some(proof) = unhex::<32>(proof.trim()).filter(|_| line_kind == kind) else { continue };
        claimed = true;
        if host_key_code(token, &key).verify_slice(&proof).is_ok() {
            return Ok(());
        }
    }
    Err(if claimed { TrustError::HostKeyMismatch { kind } } else { TrustError::HostKeyNotProven { kind } })
}

fn host_key_code(token: &JoinToken, key: &str) -> Hmac<Sha256> {
    // Without lengths, so that a script can do it in a line; neither part can hold a space.
    let mut code = Code::new(&token.0, "castrum-hostkey-v1").0;
    code.update(key.as_bytes());
    code
}

/// The bytes that the cluster's signing key signs for `bytes`: a signature for one kind never fits another.
pub fn signing_input(kind: &str, bytes: &[u8]) -> Vec<u8> {
    let mut input = Vec::with_capacity(bytes.len() + kind.len() + 32);
    input.extend_from_slice(b"castrum-sign-v1\0");
    for field in [kind.as_bytes(), bytes] {
        input.extend_from_slice(&(field.len() as u64).to_be_bytes());
        input.extend_from_slice(field);
    }
    input
}

/// An HMAC-SHA256 (RFC 2104) over a label and fields with their lengths.
struct Code(Hmac<Sha256>);

impl Code {
    fn new(key: &[u8; 32], label: &str) -> Self {
        let mut code = Hmac::new_from_slice(key).expect("HMAC takes a key of any length");
        code.update(label.as_bytes());
        code.update(b"\0");
        Self(code)
    }

    fn field(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    unhex_all(text)?.try_into().ok()
}

fn unhex_all(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes().chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

mod hex_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::hex(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        super::unhex_all(&String::deserialize(from)?).ok_or_else(|| D::Error::custom("not hexadecimal"))
    }
}

#[cfg(test)]
mod tests;
