//! One master, as the installer talks to it: HTTP/1.1 in mutual TLS over any stream of bytes, so that a tunnel through SSH
//! is as good as a direct connection. The tunnel's end need not be trusted; the certificates are.
//!
//! Every call may be made again, so a call on a kept connection that turns out to be closed is made once more on a new one.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use castrum_blueprints::manifest::SignedManifest;
use castrum_blueprints::names::NodeName;
use castrum_blueprints::status::NodeStatus;
use castrum_blueprints::trust::node_dns;
use castrum_blueprints::wire::{HOLD_SECONDS, JoinDecision, PublishAnswer, WatchAnswer, WireError};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::error::LinkError;

/// How long it may take until there is a TLS session; a tunnel takes its time.
const CONNECT: Duration = Duration::from_secs(10);
const CALL: Duration = Duration::from_secs(15);
/// Manifests may have to go through a slow tunnel.
const PUBLISH: Duration = Duration::from_mins(1);
const WATCH: Duration = Duration::from_secs(HOLD_SECONDS + 10);
/// The most that is taken of an answer: the statuses of some thousand nodes.
const ANSWER: usize = 64 << 20;
/// Manifests go in batches of about this many bytes; a master takes bodies of 8 MiB.
const BATCH: usize = 2 << 20;
/// Connections that are kept: one for the watch, one for calls.
const KEPT: usize = 2;

/// Whatever bytes can go both ways over.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A way to reach one master's API port.
#[async_trait]
pub trait Dial: Send + Sync {
    /// A new stream to it.
    async fn dial(&self) -> io::Result<Box<dyn Stream>>;
}

/// The direct way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Direct(pub SocketAddr);

#[async_trait]
impl Dial for Direct {
    async fn dial(&self) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(self.0).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

/// What the installer shows and trusts; cheap to clone.
#[derive(Debug, Clone)]
pub struct ClientTls(Arc<ClientConfig>);

impl ClientTls {
    /// From the installer's certificate and key, and the cluster's CA, all in PEM.
    pub fn from_pem(certificate: &str, key: &str, ca: &str) -> Result<Self, LinkError> {
        let certificates = |what, pem: &str| {
            let all = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
            all.map_err(|source| LinkError::Pem { what, source })
        };
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
        let key = key.map_err(|source| LinkError::Pem { what: "installer's key", source })?;
        let mut roots = RootCertStore::empty();
        for ca in certificates("cluster's CA certificate", ca)? {
            roots.add(ca).map_err(LinkError::Credentials)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(LinkError::Credentials)?
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates("installer's certificate", certificate)?, key)
            .map_err(LinkError::Credentials)?;
        Ok(Self(Arc::new(config)))
    }
}

/// One master of the cluster.
pub struct MasterClient {
    node: NodeName,
    dial: Arc<dyn Dial>,
    tls: ClientTls,
    connect: Duration,
    kept: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl std::fmt::Debug for MasterClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MasterClient").field("node", &self.node).finish_non_exhaustive()
    }
}

/// One call.
struct Call {
    method: Method,
    path: String,
    body: Option<Bytes>,
    time: Duration,
}

impl MasterClient {
    /// The master `node`, reached through `dial`; it must prove to be that node. Nothing is sent yet.
    pub fn new(node: NodeName, dial: Arc<dyn Dial>, tls: ClientTls) -> Self {
        Self { node, dial, tls, connect: CONNECT, kept: Mutex::default() }
    }

    /// With another time until there has to be a TLS session; it is 10 seconds otherwise.
    #[must_use]
    pub fn connect_within(self, connect: Duration) -> Self {
        Self { connect, ..self }
    }

    /// The master.
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    /// What changed since `after`, the cursor of the last answer: at once if anything did or `after` is 0, and after
    /// [`HOLD_SECONDS`] otherwise.
    pub async fn watch(&self, after: u64) -> Result<WatchAnswer, LinkError> {
        self.get(format!("/v1/watch?after={after}"), WATCH).await
    }

    /// Hands manifests to the master, and says which ones it refused.
    pub async fn publish(&self, manifests: &[SignedManifest]) -> Result<PublishAnswer, LinkError> {
        let mut answer = PublishAnswer::default();
        for batch in batches(manifests).map_err(|source| self.unwritten(source))? {
            let call = Call {
                method: Method::PUT,
                path: "/v1/manifests".to_owned(),
                body: Some(batch),
                time: PUBLISH,
            };
            let part: PublishAnswer = self.understood(&self.call(&call).await?)?;
            answer.refused.extend(part.refused);
        }
        Ok(answer)
    }

    /// Tells the master who is admitted and who is not.
    pub async fn decide_joins(&self, decisions: &[JoinDecision]) -> Result<(), LinkError> {
        let body = serde_json::to_vec(decisions).map_err(|source| self.unwritten(source))?.into();
        let call = Call { method: Method::PUT, path: "/v1/joins".to_owned(), body: Some(body), time: CALL };
        self.call(&call).await.map(drop)
    }

    /// What the master says of itself.
    pub async fn self_status(&self) -> Result<NodeStatus, LinkError> {
        self.get("/v1/self".to_owned(), CALL).await
    }

    /// The SSH host keys of the node's machine, as `TYPE BASE64`. Every node answers this, not only masters.
    pub async fn host_keys(&self) -> Result<BTreeSet<String>, LinkError> {
        self.get("/v1/host-keys".to_owned(), CALL).await
    }

    async fn get<T: DeserializeOwned>(&self, path: String, time: Duration) -> Result<T, LinkError> {
        let call = Call { method: Method::GET, path, body: None, time };
        self.understood(&self.call(&call).await?)
    }

    /// The body of a good answer.
    async fn call(&self, call: &Call) -> Result<Bytes, LinkError> {
        let late = |_| LinkError::TimedOut { node: self.node.clone(), after: call.time };
        let kept = self.kept().pop().filter(SendRequest::is_ready);
        let both = async {
            if let Some(sender) = kept {
                match self.ask(sender, call).await {
                    Err(LinkError::Broke { .. }) => {}
                    answered => return answered,
                }
            }
            self.ask(self.connect().await?, call).await
        };
        tokio::time::timeout(call.time, both).await.map_err(late)?
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, LinkError> {
        let node = || self.node.clone();
        let server = ServerName::try_from(node_dns(&self.node));
        let server = server.map_err(|source| LinkError::Call { node: node(), source: source.into() })?;
        let connected = async {
            let stream =
                self.dial.dial().await.map_err(|source| LinkError::Unreachable { node: node(), source })?;
            let session = TlsConnector::from(Arc::clone(&self.tls.0)).connect(server, stream).await;
            session.map_err(|source| LinkError::of_handshake(&self.node, source))
        };
        let late = |_| LinkError::TimedOut { node: node(), after: self.connect };
        let session = tokio::time::timeout(self.connect, connected).await.map_err(late)??;
        let (sender, connection) = http1::handshake(TokioIo::new(session))
            .await
            .map_err(|source| LinkError::of_connection(&self.node, source))?;
        // It ends when the sender is dropped; its error reaches the one who waits for an answer.
        tokio::spawn(async { drop(connection.await) });
        Ok(sender)
    }

    async fn ask(&self, mut sender: SendRequest<Full<Bytes>>, call: &Call) -> Result<Bytes, LinkError> {
        let mut request =
            Request::builder().method(&call.method).uri(&call.path).header(HOST, node_dns(&self.node));
        if call.body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(call.body.clone().unwrap_or_default()));
        let request =
            request.map_err(|source| LinkError::Call { node: self.node.clone(), source: source.into() })?;
        let broke = |source| LinkError::of_connection(&self.node, source);
        let (head, mut incoming) = sender.send_request(request).await.map_err(broke)?.into_parts();
        let mut body = BytesMut::new();
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(broke)?;
            let Some(data) = frame.data_ref() else { continue };
            if body.len() + data.len() > ANSWER {
                return Err(LinkError::TooLarge { node: self.node.clone(), cap: ANSWER });
            }
            body.extend_from_slice(data);
        }
        let mut kept = self.kept();
        if kept.len() < KEPT {
            kept.push(sender);
        }
        drop(kept);
        self.good(head.status, body.freeze())
    }

    fn good(&self, status: StatusCode, body: Bytes) -> Result<Bytes, LinkError> {
        if status.is_success() {
            return Ok(body);
        }
        let said = serde_json::from_slice(&body).map(|said: WireError| said.error);
        let error = said.unwrap_or_else(|_| "(nothing else)".to_owned());
        Err(LinkError::Refused { node: self.node.clone(), status: status.as_u16(), error })
    }

    fn understood<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, LinkError> {
        serde_json::from_slice(body).map_err(|source| LinkError::Answer { node: self.node.clone(), source })
    }

    fn unwritten(&self, source: serde_json::Error) -> LinkError {
        LinkError::Call { node: self.node.clone(), source: source.into() }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<SendRequest<Full<Bytes>>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// JSON lists of about [`BATCH`] bytes each.
fn batches<T: Serialize>(items: &[T]) -> Result<Vec<Bytes>, serde_json::Error> {
    let mut done = Vec::new();
    let mut open = Vec::new();
    for item in items {
        let text = serde_json::to_vec(item)?;
        if !open.is_empty() && open.len() + text.len() > BATCH {
            open.push(b']');
            done.push(Bytes::from(std::mem::take(&mut open)));
        }
        open.push(if open.is_empty() { b'[' } else { b',' });
        open.extend_from_slice(&text);
    }
    if !open.is_empty() {
        open.push(b']');
        done.push(Bytes::from(open));
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_everything_in_order_and_stay_small() {
        let items: Vec<String> = (0..100).map(|number| format!("{number}{}", "x".repeat(100_000))).collect();
        let batches = batches(&items).unwrap();
        assert!(batches.len() > 3 && batches.iter().all(|batch| batch.len() < BATCH + 200_000));
        let read: Vec<String> =
            batches.iter().flat_map(|batch| serde_json::from_slice::<Vec<String>>(batch).unwrap()).collect();
        assert_eq!(read, items);
        assert!(super::batches::<String>(&[]).unwrap().is_empty());
    }
}
