//! What can fail here, and which class of failure each is to the caller.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use castrum_provider::{Failure, FailureClass};

/// A failed operation on this machine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalError {
    #[error("cannot {action} `{}`", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot run `{program}`")]
    Spawn { program: String, source: io::Error },
    #[error("`{program}` failed: {output}")]
    Command { program: String, output: String },
    #[error("cannot understand `{}`", path.display())]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error("the node did not start: {reason}")]
    Launch { reason: String },
    #[error("{what} belongs to somebody else")]
    NotOurs { what: String },
    #[error("{what}")]
    Invalid { what: String, hint: String },
    #[error("{what}")]
    NotReady { what: String },
    #[error("provider `local` makes no {kind}")]
    Unsupported { kind: castrum_blueprints::names::ResourceKind },
    #[error("{what}")]
    Exhausted { what: String, hint: String },
    #[error("{what}")]
    Host { what: String, remedy: String },
}

impl LocalError {
    /// For `map_err`: a file operation that failed.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source }
    }

    fn class(&self) -> FailureClass {
        match self {
            Self::File { source, .. } | Self::Spawn { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => FailureClass::Denied,
                io::ErrorKind::StorageFull => FailureClass::Exhausted,
                io::ErrorKind::NotFound if matches!(self, Self::Spawn { .. }) => FailureClass::Unsupported,
                _ => FailureClass::Transient,
            },
            Self::Command { .. } | Self::Launch { .. } => FailureClass::Transient,
            Self::NotOurs { .. } => FailureClass::NotOurs,
            Self::Parse { .. } | Self::Invalid { .. } => FailureClass::Invalid,
            Self::NotReady { .. } => FailureClass::NotReady,
            Self::Exhausted { .. } => FailureClass::Exhausted,
            Self::Host { .. } | Self::Unsupported { .. } => FailureClass::Unsupported,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Invalid { hint, .. } | Self::Exhausted { hint, .. } => Some(hint.clone()),
            Self::Host { remedy, .. } => Some(remedy.clone()),
            Self::Parse { path, .. } => {
                Some(format!("if the file is damaged, move `{}` away and apply again", path.display()))
            }
            _ => None,
        }
    }
}

impl From<LocalError> for Failure {
    fn from(error: LocalError) -> Self {
        let mut message = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            // Writing to a String cannot fail.
            let _ = write!(message, ": {cause}");
            source = cause.source();
        }
        let failure = Failure::new(error.class(), message);
        match error.hint() {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }
}
