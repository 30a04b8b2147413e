//! Why a master did not do what it was asked, and whose move it is now.

use std::error::Error;
use std::io;
use std::time::Duration;

use castrum_blueprints::names::NodeName;

/// What is to be done about a [`LinkError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkClass {
    /// The master is away, frozen or cut off: ask another one, and this one later.
    Unreachable,
    /// One of both does not accept the other's certificate: somebody in between, a wrong keyring, a wrong clock.
    TlsRefused,
    /// It answered, and not with what was asked for.
    Http,
    /// What the installer was given cannot be used at all.
    Ours,
}

/// Why a call to a master gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The installer's own certificate, key or CA cannot be used.
    #[error("read the {what} as PEM")]
    Pem {
        /// Which.
        what: &'static str,
        /// What is wrong with it.
        source: rustls_pki_types::pem::Error,
    },
    /// They cannot be used together.
    #[error("use certificate, key and CA for TLS")]
    Credentials(#[source] rustls::Error),
    /// The call cannot be written down.
    #[error("write down the call to {node}")]
    Call {
        /// The master.
        node: NodeName,
        /// What is wrong with it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// No connection.
    #[error("connect to {node}")]
    Unreachable {
        /// The master.
        node: NodeName,
        /// What the system, or the tunnel, said.
        source: io::Error,
    },
    /// One of both does not accept the other's certificate.
    #[error("TLS with {node}")]
    Tls {
        /// The master.
        node: NodeName,
        /// What TLS said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The connection broke.
    #[error("talk to {node}")]
    Broke {
        /// The master.
        node: NodeName,
        /// How.
        source: hyper::Error,
    },
    /// No end in time.
    #[error("{node} did not answer within {} ms", .after.as_millis())]
    TimedOut {
        /// The master.
        node: NodeName,
        /// How long it was waited.
        after: Duration,
    },
    /// It said no.
    #[error("{node} answered {status}: {error}")]
    Refused {
        /// The master.
        node: NodeName,
        /// The status code.
        status: u16,
        /// What it said.
        error: String,
    },
    /// Its answer is larger than anything that was asked for.
    #[error("the answer of {node} is larger than {cap} bytes")]
    TooLarge {
        /// The master.
        node: NodeName,
        /// The most that is taken.
        cap: usize,
    },
    /// Its answer is not what the call promises.
    #[error("the answer of {node} is not understood")]
    Answer {
        /// The master.
        node: NodeName,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl LinkError {
    /// What is to be done about it.
    pub fn class(&self) -> LinkClass {
        match self {
            Self::Pem { .. } | Self::Credentials(_) | Self::Call { .. } => LinkClass::Ours,
            Self::Unreachable { .. } | Self::Broke { .. } | Self::TimedOut { .. } => LinkClass::Unreachable,
            Self::Tls { .. } => LinkClass::TlsRefused,
            Self::Refused { .. } | Self::TooLarge { .. } | Self::Answer { .. } => LinkClass::Http,
        }
    }

    /// An error of the handshake: only what TLS itself says is about trust.
    pub(super) fn of_handshake(node: &NodeName, source: io::Error) -> Self {
        let node = node.clone();
        if is_tls(&source) {
            Self::Tls { node, source: source.into() }
        } else {
            Self::Unreachable { node, source }
        }
    }

    /// An error of a connection. In TLS 1.3 a client hears only with the first answer that its certificate is refused.
    pub(super) fn of_connection(node: &NodeName, source: hyper::Error) -> Self {
        let node = node.clone();
        if is_tls(&source) { Self::Tls { node, source: source.into() } } else { Self::Broke { node, source } }
    }
}

fn is_tls(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if error.is::<rustls::Error>() || inside.is_some_and(<dyn Error + Send + Sync>::is::<rustls::Error>) {
            return true;
        }
        next = error.source();
    }
    false
}
