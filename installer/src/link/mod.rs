//! The installer's end of the agents' API: HTTP/1.1 and JSON over mutual TLS, on any stream.

mod client;

use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;

use crate::keyring::InstallerIdentity;

pub use client::MasterClient;

/// Why a call to a master did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No connection came about.
    #[error("`{address}` cannot be reached")]
    Unreachable {
        /// Host and port.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The TLS handshake failed: it is another machine, or the certificates do not fit.
    #[error("no mutual TLS with {name}")]
    Tls {
        /// The name that was expected.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// The connection broke off.
    #[error("the connection broke off")]
    Http(#[from] hyper::Error),
    /// The master answered with an error.
    #[error("{call} was answered with {status}: {message}")]
    Refused {
        /// What was asked.
        call: String,
        /// The HTTP status.
        status: u16,
        /// What the answer said.
        message: String,
    },
    /// The answer is not what it should be.
    #[error("the answer to {call} cannot be read")]
    Answer {
        /// What was asked.
        call: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The answer is larger than any right one.
    #[error("the answer to {call} is larger than {limit} bytes")]
    TooLarge {
        /// What was asked.
        call: String,
        /// The limit.
        limit: usize,
    },
    /// No answer came in time.
    #[error("no answer to {call} within {seconds} s")]
    TimedOut {
        /// What was asked.
        call: String,
        /// The deadline.
        seconds: u64,
    },
    /// The TLS configuration cannot be made.
    #[error("the TLS configuration cannot be made")]
    Config(#[from] rustls::Error),
}

/// The TLS configuration of this run: our certificate, and no other CA than the cluster's.
pub fn tls_config(
    ca: CertificateDer<'static>,
    identity: &InstallerIdentity,
) -> Result<Arc<ClientConfig>, LinkError> {
    let mut roots = RootCertStore::empty();
    roots.add(ca)?;
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(identity.chain(), identity.private_key())?;
    Ok(Arc::new(config))
}
