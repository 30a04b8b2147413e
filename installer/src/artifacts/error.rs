//! What can go wrong between a package archive and a blob, and what to do about it.

use std::io;
use std::path::PathBuf;

use castrum_blueprints::names::{ComponentName, Digest};

/// Why an artifact could not be made. [`ArtifactError::remedy`] says what helps.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// A program of the machine is not there.
    #[error("`{program}` cannot be started")]
    Program {
        /// What was to be started.
        program: String,
        /// Why it did not start.
        source: io::Error,
    },
    /// There is nothing to resolve against.
    #[error("apt has no package lists")]
    NoLists,
    /// No list names the package.
    #[error("no archive of this machine's apt configuration has a package `{name}`")]
    UnknownPackage {
        /// The package.
        name: String,
    },
    /// The packages exist and cannot be had together.
    #[error("`{packages}` cannot be resolved: {detail}")]
    Unsatisfiable {
        /// What was asked for.
        packages: String,
        /// What apt says.
        detail: String,
    },
    /// A list names the package and does not say what its bytes are.
    #[error("the archive gives no sha256 for `{name}` {version}")]
    NoDigest {
        /// The package.
        name: String,
        /// Its version.
        version: String,
    },
    /// The archive has moved on.
    #[error("`{name}` {version}, as pinned, is no longer in the archive")]
    PinGone {
        /// The package.
        name: String,
        /// The pinned version.
        version: String,
    },
    /// The lists name a file that the archive no longer has.
    #[error("apt's package lists are older than the archive: {detail}")]
    StaleLists {
        /// What apt says.
        detail: String,
    },
    /// No connection to the archive.
    #[error("the archive cannot be reached: {detail}")]
    Offline {
        /// What apt says.
        detail: String,
    },
    /// Apt has no signature that vouches for the package.
    #[error("apt cannot authenticate what was asked for: {detail}")]
    Unauthenticated {
        /// What apt says.
        detail: String,
    },
    /// Bytes are not those of the pin.
    #[error("`{name}` has the sha256 {found}, not {wanted}")]
    WrongDigest {
        /// The artifact.
        name: String,
        /// As pinned.
        wanted: Digest,
        /// As received.
        found: Digest,
    },
    /// Apt failed in another way.
    #[error("`{command}` failed: {detail}")]
    Apt {
        /// The command without its options.
        command: String,
        /// What apt says.
        detail: String,
    },
    /// The stack's folder lacks a file that one of its components is made of.
    #[error("component `{component}` is made of `{path}`, which is not in the stack's folder")]
    NoFile {
        /// The component.
        component: ComponentName,
        /// The file.
        path: String,
    },
    /// A blob that a bundle needs is not in the cache.
    #[error("`{name}` is not in the cache")]
    NotFetched {
        /// The artifact.
        name: String,
    },
    /// A package cannot be read.
    #[error("`{package}` cannot be unpacked: {detail}")]
    Corrupt {
        /// The package.
        package: String,
        /// What the unpacker says.
        detail: String,
    },
    /// A package holds what no bundle may hold.
    #[error("`{package}` is refused: `{path}` {why}")]
    Refused {
        /// The package.
        package: String,
        /// The path in it.
        path: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// Two packages bring different things under one path.
    #[error("`{path}` is not the same in `{first}` and `{second}`")]
    Conflict {
        /// The path.
        path: String,
        /// The package that came first.
        first: String,
        /// The package that came second.
        second: String,
    },
    /// A recipe asks for a link that would lead nowhere.
    #[error("the link `{path}` to `{target}` {why}")]
    Link {
        /// The link.
        path: String,
        /// Its target.
        target: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The recipe leaves nothing over.
    #[error("the bundle of `{component}` would be empty")]
    Empty {
        /// The component.
        component: String,
    },
    /// Nobody waits for the result any more.
    #[error("the work on `{artifact}` was stopped")]
    Stopped {
        /// The component.
        artifact: String,
    },
    /// The disk does not take what is unpacked.
    #[error("the files of a bundle cannot be gathered")]
    Spool {
        /// What the disk says.
        source: io::Error,
    },
    /// A file cannot be read or written.
    #[error("`{}` cannot be {action}", path.display())]
    File {
        /// What was to be done.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it could not be done.
        source: io::Error,
    },
}

impl ArtifactError {
    /// What a person can do about it.
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::Program { program, .. } => {
                format!("install it: `{program}` comes with the packages apt, dpkg, gzip, xz-utils and bzip2")
            }
            Self::NoLists | Self::StaleLists { .. } => "run `apt-get update`".to_owned(),
            Self::UnknownPackage { .. } => {
                "run `apt-get update`, and see that apt's sources have the package's suite and component"
                    .to_owned()
            }
            Self::PinGone { name, .. } => format!(
                "run `apt-get update`; if it is still missing, remove `{name}` from `castrum.lock` to pin what \
                 the archive has now, or add an archive that keeps old versions to apt's sources"
            ),
            Self::Offline { .. } => {
                "see that this machine reaches its package archive (proxy: `Acquire::http::Proxy` of apt)"
                    .to_owned()
            }
            Self::Unauthenticated { .. } => {
                "give the archive's key to apt with `Signed-By`, and run `apt-get update`".to_owned()
            }
            Self::WrongDigest { .. } => {
                "do not use these bytes: find out who changed them, or pin them anew if that was you"
                    .to_owned()
            }
            Self::Refused { .. } => {
                "name the package under `without`, or take it from a source that can be trusted".to_owned()
            }
            Self::Conflict { path, .. } => {
                format!("leave one out: `without` for a package, `drop` for `{path}`")
            }
            _ => return None,
        })
    }

    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
