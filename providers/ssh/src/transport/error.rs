//! What can go wrong between here and a command's end on another machine, and what a person can do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use russh::keys::{HashAlg, PublicKey};

use super::exec::ExitStatus;

/// A failure of the SSH transport. It never carries a secret: commands do not either.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SshError {
    /// No TCP connection came about.
    #[error("`{address}` cannot be reached")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// A connection came about, but no SSH session.
    #[error("no SSH session with `{address}`")]
    Handshake {
        /// Host and port.
        address: String,
        /// What the protocol said.
        source: russh::Error,
    },
    /// The server accepts none of the identities.
    #[error("`{address}` refused every identity of user `{user}`: {}", tried.join("; "))]
    AuthRefused {
        /// Host and port.
        address: String,
        /// The login name.
        user: String,
        /// Each identity and what became of it.
        tried: Vec<String>,
    },
    /// The host presents another key than the expected one: possibly a man in the middle.
    #[error("`{address}` presents the host key {found}, but expected is {}", expected.join(" or "))]
    HostKeyMismatch {
        /// Host and port.
        address: String,
        /// Fingerprints of the keys that would be right.
        expected: Vec<String>,
        /// The fingerprint of the key that was presented.
        found: String,
    },
    /// Nothing vouches for the host's key.
    #[error("the host key {found} of `{address}` is not known")]
    HostKeyUnknown {
        /// Host and port.
        address: String,
        /// The fingerprint of the key that was presented.
        found: String,
        /// The key itself, as a `known_hosts` file or a blueprint would hold it.
        line: String,
        /// Where it was looked for.
        files: Vec<PathBuf>,
    },
    /// The machine has no proof for its host key yet; it may still be starting.
    #[error("`{address}` has no proof for its host key {found} (yet)")]
    HostKeyProofMissing {
        /// Host and port.
        address: String,
        /// The fingerprint of the key that was presented.
        found: String,
    },
    /// The proof does not fit the host key: possibly a man in the middle.
    #[error("`{address}` could not prove its host key {found}, possibly a man in the middle: {reason}")]
    HostKeyUnproven {
        /// Host and port.
        address: String,
        /// The fingerprint of the key that was presented.
        found: String,
        /// What the verifier said.
        reason: String,
    },
    /// A command ran and failed.
    #[error("`{command}` failed on `{address}` ({status}): {stderr}")]
    CommandFailed {
        /// Host and port.
        address: String,
        /// The command, shortened.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said on standard error.
        stderr: String,
    },
    /// A deadline passed.
    #[error("{what} took longer than {after:?}")]
    TimedOut {
        /// What was under way.
        what: String,
        /// The deadline.
        after: Duration,
    },
    /// A receiver of a stream took nothing for too long, and was dropped.
    #[error("`{address}` took no data for {after:?} and was dropped")]
    Stalled {
        /// Host and port.
        address: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The session ended under way.
    #[error("the session with `{address}` was lost: {reason}")]
    Lost {
        /// Host and port.
        address: String,
        /// What was seen last.
        reason: String,
    },
    /// The server refused a channel, a command or a forwarding.
    #[error("`{address}` refused {what}: {reason}")]
    Refused {
        /// Host and port.
        address: String,
        /// What was asked for.
        what: String,
        /// What it said.
        reason: String,
    },
    /// What should be sent could not be read.
    #[error("reading what should be sent")]
    Source(#[source] io::Error),
    /// A key cannot be used.
    #[error("the key `{name}` cannot be used: {reason}")]
    Key {
        /// Where it is from.
        name: String,
        /// Why.
        reason: String,
    },
    /// A file cannot be read.
    #[error("reading `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The SSH configuration asks for something impossible.
    #[error("{place}: {reason}")]
    Config {
        /// File and line, or the host.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// An argument holds a NUL byte.
    #[error("a command's argument holds a NUL byte")]
    Argument,
}

/// The kinds of failure, as a caller decides by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SshErrorKind {
    /// The machine does not answer, or not as an SSH server; it may later.
    Unreachable,
    /// The machine knows none of our keys, or refuses what was asked.
    Refused,
    /// The host key is not the right one.
    HostKey,
    /// A command ran and failed.
    Command,
    /// A deadline passed.
    TimedOut,
    /// The session ended under way.
    Lost,
    /// Something on this side is wrong.
    Local,
}

impl SshError {
    /// What kind of failure this is.
    pub fn kind(&self) -> SshErrorKind {
        match self {
            Self::Unreachable { .. } | Self::Handshake { .. } | Self::HostKeyProofMissing { .. } => {
                SshErrorKind::Unreachable
            }
            Self::AuthRefused { .. } | Self::Refused { .. } => SshErrorKind::Refused,
            Self::HostKeyMismatch { .. } | Self::HostKeyUnknown { .. } | Self::HostKeyUnproven { .. } => {
                SshErrorKind::HostKey
            }
            Self::CommandFailed { .. } => SshErrorKind::Command,
            Self::TimedOut { .. } | Self::Stalled { .. } => SshErrorKind::TimedOut,
            Self::Lost { .. } => SshErrorKind::Lost,
            Self::Source(_) | Self::Key { .. } | Self::File { .. } | Self::Config { .. } | Self::Argument => {
                SshErrorKind::Local
            }
        }
    }

    /// What would help, if that can be told.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Unreachable { source, .. } => return unreachable_hint(source),
            Self::Handshake { source: russh::Error::NoCommonAlgo { .. }, .. } => {
                "the server offers no algorithm that is accepted here; give it an `ed25519` host key".into()
            }
            Self::Handshake { .. } => "is it an SSH server that listens there?".into(),
            Self::AuthRefused { user, .. } => {
                format!("put a public key of yours into `authorized_keys` of `{user}`, or load the key into ssh-agent")
            }
            Self::HostKeyMismatch { .. } | Self::HostKeyUnproven { .. } => {
                "do not go on before you know why; if the machine was made anew, replace the key that is on record".into()
            }
            Self::HostKeyUnknown { line, .. } => {
                format!("compare it on the machine's console, then declare the host key `{line}`")
            }
            Self::Key { .. } => "load it into ssh-agent (`ssh-add`)".into(),
            Self::Refused { what, .. } if what.starts_with("a tunnel") => {
                "look at `AllowTcpForwarding` of the server, and whether anything listens there".into()
            }
            _ => return None,
        };
        Some(text)
    }
}

fn unreachable_hint(source: &io::Error) -> Option<String> {
    let text = match source.kind() {
        io::ErrorKind::ConnectionRefused => {
            "nothing listens on that port; is sshd running, and on this port?"
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "there is no route; look at the address, and at VPN or `ProxyJump`"
        }
        io::ErrorKind::TimedOut => "a firewall may be dropping the packets",
        _ if source.to_string().contains("lookup") => "the name cannot be resolved; look at the address",
        _ => return None,
    };
    Some(text.into())
}

/// The fingerprint of a key as OpenSSH shows it: algorithm and `SHA256:...`.
pub fn fingerprint(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256))
}
