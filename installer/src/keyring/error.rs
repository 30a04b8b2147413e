//! What can go wrong with the keyring, and what to do about it.

use std::io;
use std::path::PathBuf;

use castrum_blueprints::names::{ClusterId, NodeName};
use castrum_blueprints::trust::TrustError;

use crate::project::StateError;

/// Making keys or certificates failed.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The system gave no random bytes.
    #[error("cannot draw random bytes")]
    Random,
    /// The signing key in the keyring is none.
    #[error("the signing key in the keyring is not an Ed25519 key")]
    SigningKey,
    /// The CA in the keyring is none.
    #[error("the CA in the keyring is not usable")]
    Authority(#[source] rcgen::Error),
    /// A symmetric key in the keyring does not have 32 bytes.
    #[error("a key in the keyring does not have 32 bytes")]
    KeyLength,
    /// The SSH key could not be written.
    #[error("cannot encode the SSH key")]
    SshKey(#[source] russh::keys::ssh_key::Error),
    /// The request cannot be read, or its signature does not fit its key.
    #[error("cannot accept the certificate signing request")]
    Request(#[source] rcgen::Error),
    /// The request is larger than any honest one.
    #[error("the certificate signing request has {0} bytes")]
    RequestTooLarge(usize),
    /// The key is of a kind that nothing of ours makes.
    #[error("the certificate signing request is not for an ECDSA P-256 or Ed25519 key")]
    RequestKey,
    /// The certificate could not be written or signed.
    #[error("cannot sign the certificate")]
    Sign(#[source] rcgen::Error),
    /// The clock of this machine is wrong by decades.
    #[error("the clock says second {0} since 1970, which cannot be now")]
    Clock(u64),
    /// The CA's ten years are over.
    #[error("the cluster's CA certificate ended at second {0} since 1970")]
    AuthorityExpired(u64),
}

/// A node may not join, or not like this.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// No token was ever made for this node.
    #[error("node `{0}` was not asked to join")]
    Unknown(NodeName),
    /// The request speaks of another node than the one that it came from.
    #[error("a join request of node `{asked}` came from node `{from}`")]
    OtherNode {
        /// The name in the request.
        asked: NodeName,
        /// The node that the installer was talking to.
        from: NodeName,
    },
    /// The request comes from a machine that was replaced, or that does not exist yet.
    #[error("node `{node}` asks as incarnation {asked}, but it is at incarnation {current}")]
    OtherIncarnation {
        /// The node.
        node: NodeName,
        /// What the request or the caller said.
        asked: u64,
        /// What the keyring says.
        current: u64,
    },
    /// The time to join is over.
    #[error("the join token of node `{node}` expired at second {expired} since 1970")]
    Expired {
        /// The node.
        node: NodeName,
        /// When.
        expired: u64,
    },
    /// The token was used by another key pair.
    #[error("the join token of node `{0}` is spent: another key joined with it")]
    Spent(NodeName),
    /// The node has not joined with this key.
    #[error("node `{0}` has not joined with this key")]
    NotEnrolled(NodeName),
    /// The proof is not one.
    #[error("node `{node}` did not prove its join token")]
    Proof {
        /// The node.
        node: NodeName,
        /// Why.
        source: TrustError,
    },
    /// The certificate could not be made.
    #[error("cannot issue a certificate for node `{node}`")]
    Issue {
        /// The node.
        node: NodeName,
        /// Why.
        source: IssueError,
    },
    /// The keyring file could not be read or written.
    #[error("cannot record the node in the keyring")]
    Keyring(#[from] KeyringError),
}

impl EnrolError {
    /// What a person can do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Unknown(_) | Self::OtherNode { .. } => {
                "check which machine sends this: it may be of another cluster".into()
            }
            Self::OtherIncarnation { node, .. } => {
                format!("destroy the machine that was replaced, or replace `{node}` again")
            }
            Self::Expired { node, .. } => {
                format!("replace `{node}`, or run `castrum apply` to give it a new token")
            }
            Self::Spent(node) | Self::NotEnrolled(node) => {
                format!(
                    "if you did not reinstall `{node}`, somebody else has its token: look into it; then replace `{node}`"
                )
            }
            Self::Proof { node, .. } => {
                format!("replace `{node}`: its boot data does not belong to this keyring")
            }
            Self::Issue { source: IssueError::Clock(_), .. } => "set the clock of this machine".into(),
            Self::Issue { node, .. } => format!("read the agent's log on `{node}`, then replace it"),
            Self::Keyring(error) => error.remedy(),
        }
    }
}

/// The keyring file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// There is none.
    #[error("there is no keyring at {}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// There is one already.
    #[error("there is a keyring at {} already", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file could not be written; what was there before still is.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process holds the lock for longer than any change takes.
    #[error("another process holds {}", path.display())]
    Busy {
        /// The lock file.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("{} is not a keyring", path.display())]
    NotAKeyring {
        /// Which.
        path: PathBuf,
    },
    /// The file is of a later Castrum.
    #[error("{} has format version {found}; this Castrum knows {known}", path.display())]
    NewerFormat {
        /// Which.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The latest that we can read.
        known: u64,
    },
    /// The file belongs to another cluster.
    #[error("{} is the keyring of cluster {found}, not of {wanted}", path.display())]
    OtherCluster {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        found: ClusterId,
        /// Whose it should be.
        wanted: ClusterId,
    },
    /// The end of the file is missing.
    #[error("{} is cut off", path.display())]
    Truncated {
        /// Which.
        path: PathBuf,
    },
    /// The file was changed by something that is not Castrum.
    #[error("{} was altered", path.display())]
    Altered {
        /// Which.
        path: PathBuf,
    },
    /// The passphrase does not open it.
    #[error("the passphrase does not open {}", path.display())]
    WrongPassphrase {
        /// Which.
        path: PathBuf,
    },
    /// The key file does not open it.
    #[error("the sealing key {} does not open {}", key.display(), path.display())]
    WrongSealingKey {
        /// The keyring.
        path: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// It was sealed with a passphrase, and none was given.
    #[error("{} is sealed with a passphrase", path.display())]
    NeedsPassphrase {
        /// Which.
        path: PathBuf,
    },
    /// It was sealed with a key file, and a passphrase was given.
    #[error("{} is sealed with a key file, not with a passphrase", path.display())]
    NeedsKeyFile {
        /// Which.
        path: PathBuf,
    },
    /// The sealing key is not on this machine.
    #[error("there is no sealing key at {}", key.display())]
    SealingKeyMissing {
        /// Where it was looked for.
        key: PathBuf,
    },
    /// The sealing key's file holds something else.
    #[error("{} is not a sealing key", key.display())]
    SealingKeyInvalid {
        /// Which.
        key: PathBuf,
    },
    /// Others may read or change a secret file.
    #[error("{} is open to others (mode {mode:04o})", path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// An empty passphrase protects nothing.
    #[error("the passphrase for the keyring is empty")]
    EmptyPassphrase,
    /// Neither `XDG_CONFIG_HOME` nor `HOME` says where the sealing key is.
    #[error("no folder for the sealing key: neither XDG_CONFIG_HOME nor HOME is an absolute path")]
    NoConfigFolder,
    /// The seal is right, but what is in it is not what this Castrum knows.
    #[error("{} was opened, but holds something else than keys of this cluster", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
    },
    /// The first line of the file could not be made.
    #[error("cannot describe how the keyring is sealed")]
    Header(#[source] serde_json::Error),
    /// The cipher refused.
    #[error("cannot seal the keyring")]
    Seal,
    /// The system gave no random bytes.
    #[error("cannot draw random bytes")]
    Random,
    /// The place of the project's state cannot be used.
    #[error("cannot use the keyring in the place of the state")]
    State(#[from] StateError),
    /// The keys could not be made, or those in the file are not usable.
    #[error("the keys of the keyring are not usable")]
    Keys(#[from] IssueError),
}

impl KeyringError {
    /// What a person can do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::State(error) => error.remedy(),
            Self::Exists { path } => format!("move {} away if the cluster should get new keys", path.display()),
            Self::Read { path, .. } | Self::Write { path, .. } => {
                format!("check the permissions of {} and the space on its disk", path.display())
            }
            Self::Busy { path } => format!("wait for it to end; `fuser {}` names it", path.display()),
            Self::NewerFormat { .. } | Self::Unreadable { .. } => "use the Castrum that wrote it, or a later one".into(),
            Self::OtherCluster { .. } => "run in the working folder of this cluster, or restore its own keyring".into(),
            Self::WrongPassphrase { .. } | Self::NeedsPassphrase { .. } => {
                "set CASTRUM_KEYRING_PASSPHRASE, or CASTRUM_KEYRING_PASSPHRASE_FILE, to the passphrase it was sealed with".into()
            }
            Self::NeedsKeyFile { .. } => "unset CASTRUM_KEYRING_PASSPHRASE and CASTRUM_KEYRING_PASSPHRASE_FILE".into(),
            Self::SealingKeyMissing { key }
            | Self::SealingKeyInvalid { key }
            | Self::WrongSealingKey { key, .. } => {
                format!("copy {} from the machine that made this cluster", key.display())
            }
            Self::Exposed { path, .. } => format!("run `chmod 600 {}`, and ask who has read it", path.display()),
            Self::EmptyPassphrase => "give a passphrase, or unset CASTRUM_KEYRING_PASSPHRASE to use a key file".into(),
            Self::NoConfigFolder => "set HOME, or XDG_CONFIG_HOME, to an absolute path".into(),
            Self::Random | Self::Seal | Self::Header(_) => "check that getrandom(2) works on this machine".into(),
            Self::Keys(IssueError::Clock(_)) => "set the clock of this machine".into(),
            Self::Missing { .. } => {
                "restore it from a backup, or have `castrum recover` make a new one; nodes keep running without it".into()
            }
            Self::Truncated { .. }
            | Self::Altered { .. }
            | Self::NotAKeyring { .. }
            | Self::Keys(_) => "restore it from a backup of the working folder; nodes keep running without it".into(),
        }
    }
}
