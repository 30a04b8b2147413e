//! Who this node is: what boot data says of it, and the key and certificate that prove it to others.
//!
//! ```text
//! boot.json ──load──▶ Identity ──join::prepare──▶ node.key, request ──join::accept──▶ node.crt ──tls──▶ Tls
//! ```

pub mod anew;
pub mod join;

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use castrum_blueprints::boot::BootConfig;
use castrum_blueprints::manifest::{MANIFEST_FORMAT, Manifest, Peer, SignedManifest};
use castrum_blueprints::names::{ClusterId, Digest, NodeName, Role};
use castrum_blueprints::trust::signing_input;
use ring::signature::{ED25519, UnparsedPublicKey};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A node talks to few others; remembered sessions are memory.
const REMEMBERED_SESSIONS: usize = 16;
/// Certificate and key of an agent that was admitted anew, in one file, so that both change in one step.
const ANEW_FILE: &str = "agent.pem";

/// Why a node does not know who it is, or cannot prove it.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read.
    #[error("read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The boot file is not JSON, or not what it should be.
    #[error("understand `{}`", path.display())]
    Boot {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A field of the boot file cannot be used.
    #[error("`{field}` in the boot file: {reason}")]
    BootField {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate or key is not in PEM.
    #[error("read the {what} as PEM")]
    Pem {
        /// Which.
        what: &'static str,
        /// What is wrong with it.
        source: rustls_pki_types::pem::Error,
    },
    /// Certificate and key do not make a TLS identity.
    #[error("use certificate and key for TLS")]
    Tls(#[source] rustls::Error),
    /// The CA cannot be used to check others.
    #[error("use the cluster's CA to check others")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    /// The certificate is not one for this node.
    #[error("the certificate is not one of this cluster for {name}")]
    Certificate {
        /// The name that it should be valid for.
        name: String,
        /// What is wrong with it.
        source: webpki::Error,
    },
    /// No key or request could be made.
    #[error("make a key and a certificate signing request")]
    Key(#[source] rcgen::Error),
    /// The join token cannot be used.
    #[error("use the join token")]
    Token(#[source] castrum_blueprints::trust::TrustError),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Random,
    /// What came in or went out did not pass.
    #[error("{what}")]
    Stream {
        /// What was done.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a signed manifest is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The signature is not one by the cluster's key over these bytes.
    #[error("its signature is not by this cluster's key")]
    Signature,
    /// The signed bytes are not a manifest.
    #[error("understand the manifest")]
    Form(#[source] serde_json::Error),
    /// A form that this agent does not know.
    #[error("its form {found} is not the {MANIFEST_FORMAT} that this agent understands")]
    Format {
        /// The version that it has.
        found: u32,
    },
    /// What is said outside is not what was signed inside.
    #[error("its {0} is not what was signed")]
    Outside(&'static str),
    /// It is for another cluster.
    #[error("it is for cluster {0}")]
    OtherCluster(ClusterId),
}

/// Who this node is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// What all paths are under; `/` but in tests.
    pub root: PathBuf,
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeName,
    /// What it is for.
    pub role: Role,
    /// Which machine of that name.
    pub incarnation: u64,
    /// The unix second from which on its token is worth nothing.
    pub expires: u64,
    /// The masters as they were when the machine was made.
    pub masters: Vec<Peer>,
    /// The digest of the agent's own blob.
    pub agent: Option<Digest>,
    /// The port of every agent's API.
    pub api_port: u16,
    ca: CertificateDer<'static>,
    former: Vec<CertificateDer<'static>>,
    /// What components trust, in PEM: the CA, and those before it.
    trusted: Vec<String>,
    verify_key: [u8; 32],
}

/// What the node shows and trusts in TLS.
#[derive(Debug, Clone)]
pub struct Tls {
    /// For calls to others.
    pub client: Arc<ClientConfig>,
    /// For the node's own API. A caller may come without a certificate; what it may then ask is decided by call.
    pub server: Arc<ServerConfig>,
    /// For calls to components of this node, which may have been started with an earlier certificate.
    pub components: Arc<ClientConfig>,
}

impl Identity {
    /// Reads `boot.json` under `root`.
    pub fn load(root: &Path) -> Result<Arc<Self>, IdentityError> {
        let path = state_dir(root).join("boot.json");
        let text = fs::read(&path).map_err(|source| IdentityError::Read { path: path.clone(), source })?;
        let boot: BootConfig =
            serde_json::from_slice(&text).map_err(|source| IdentityError::Boot { path, source })?;
        let bad = |field, reason: &str| IdentityError::BootField { field, reason: reason.to_owned() };
        if boot.format_version != BootConfig::FORMAT {
            return Err(bad("format_version", "this agent understands 1 only"));
        }
        let verify_key = STANDARD.decode(&boot.verify_key).ok().and_then(|key| key.try_into().ok());
        let verify_key = verify_key.ok_or_else(|| bad("verify_key", "not 32 bytes in base64"))?;
        let ca = CertificateDer::from_pem_slice(boot.ca.as_bytes())
            .map_err(|source| IdentityError::Pem { what: "cluster's CA certificate", source })?;
        let former = boot.former_cas.iter().map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()));
        let former = former
            .collect::<Result<_, _>>()
            .map_err(|source| IdentityError::Pem { what: "CA certificate of an earlier keyring", source })?;
        let trusted = std::iter::once(boot.ca).chain(boot.former_cas).collect();
        Ok(Arc::new(Self {
            root: root.to_owned(),
            cluster: boot.cluster,
            node: boot.node,
            role: boot.role,
            incarnation: boot.incarnation,
            expires: boot.expires,
            masters: boot.masters,
            agent: boot.agent,
            api_port: boot.api_port,
            ca,
            former,
            trusted,
            verify_key,
        }))
    }

    /// Where the agent keeps its own state.
    pub fn state_dir(&self) -> PathBuf {
        state_dir(&self.root)
    }

    /// Where key and certificates are.
    pub fn pki_dir(&self) -> PathBuf {
        self.state_dir().join("pki")
    }

    /// The node's address inside the cluster: the one that it has towards a master.
    pub fn address(&self) -> io::Result<IpAddr> {
        let master = self.masters.first().ok_or_else(|| io::Error::other("no master is known"))?;
        let any: SocketAddr = match master.address {
            IpAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            IpAddr::V6(_) => ([0; 8], 0).into(),
        };
        // Connecting a datagram socket sends nothing; it only asks for the route.
        let socket = UdpSocket::bind(any)?;
        socket.connect((master.address, self.api_port))?;
        Ok(socket.local_addr()?.ip())
    }

    /// What the node shows and trusts in TLS; `None` as long as it has no certificate.
    pub fn tls(&self) -> Result<Option<Tls>, IdentityError> {
        let Some(joined) = self.read_pki("node.crt")? else { return Ok(None) };
        let key_path = self.pki_dir().join("node.key");
        let key = fs::read(&key_path).map_err(|source| IdentityError::Read { path: key_path, source })?;
        let mut tls = self.tls_from(&joined, &zeroize::Zeroizing::new(key))?;
        // Components go on with what the node first joined with; the agent itself shows what it was admitted anew with.
        if let Some(anew) = self.read_pki(ANEW_FILE)? {
            let own = self.tls_from(&anew, &anew)?;
            tls = Tls { components: tls.components, ..own };
        }
        Ok(Some(tls))
    }

    fn read_pki(&self, name: &str) -> Result<Option<zeroize::Zeroizing<Vec<u8>>>, IdentityError> {
        let path = self.pki_dir().join(name);
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(IdentityError::Read { path, source }),
            Ok(content) => Ok(Some(zeroize::Zeroizing::new(content))),
        }
    }

    fn tls_from(&self, certificate: &[u8], key: &[u8]) -> Result<Tls, IdentityError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<_, _>>()
            .map_err(|source| IdentityError::Pem { what: "node's certificate", source })?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|source| IdentityError::Pem { what: "node's key", source })?;
        let client = |roots| {
            let client = client_builder(roots)?.with_client_auth_cert(chain.clone(), key.clone_key());
            let mut client = client.map_err(IdentityError::Tls)?;
            client.resumption = Resumption::in_memory_sessions(REMEMBERED_SESSIONS);
            Ok(Arc::new(client))
        };
        let mut wider = self.roots()?;
        for former in &self.former {
            wider.add(former.clone()).map_err(IdentityError::Tls)?;
        }
        let (components, client) = (client(wider)?, client(self.roots()?)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()?), provider())
            .allow_unauthenticated()
            .build()
            .map_err(IdentityError::Verifier)?;
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(IdentityError::Tls)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(IdentityError::Tls)?;
        server.send_tls13_tickets = 1;
        Ok(Tls { client, server: Arc::new(server), components })
    }

    /// What a node that has no certificate yet trusts in TLS.
    fn stranger(&self) -> Result<Arc<ClientConfig>, IdentityError> {
        Ok(Arc::new(client_builder(self.roots()?)?.with_no_client_auth()))
    }

    fn roots(&self) -> Result<RootCertStore, IdentityError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone()).map_err(IdentityError::Tls)?;
        Ok(roots)
    }

    /// Checks that a manifest was signed for this cluster and is what it says outside; not that it is for this node.
    pub fn verify(&self, signed: &SignedManifest) -> Result<Manifest, ManifestError> {
        let signature = STANDARD.decode(&signed.signature).map_err(|_| ManifestError::Signature)?;
        UnparsedPublicKey::new(&ED25519, &self.verify_key)
            .verify(&signing_input("manifest", signed.manifest.as_bytes()), &signature)
            .map_err(|_| ManifestError::Signature)?;
        let manifest: Manifest = serde_json::from_str(&signed.manifest).map_err(ManifestError::Form)?;
        if manifest.format_version != MANIFEST_FORMAT {
            return Err(ManifestError::Format { found: manifest.format_version });
        }
        if manifest.cluster != self.cluster {
            return Err(ManifestError::OtherCluster(manifest.cluster));
        }
        let outside = [
            ("node", manifest.node == signed.node),
            ("generation", manifest.generation == signed.generation),
            ("content", manifest.content() == signed.content),
        ];
        match outside.into_iter().find(|(_, same)| !same) {
            Some((what, _)) => Err(ManifestError::Outside(what)),
            None => Ok(manifest),
        }
    }
}

/// Where the agent keeps its own state, under `root`.
pub(crate) fn state_dir(root: &Path) -> PathBuf {
    root.join("var/lib/castrum")
}

fn client_builder(
    roots: RootCertStore,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, IdentityError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    Ok(builder.map_err(IdentityError::Tls)?.with_root_certificates(roots))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
