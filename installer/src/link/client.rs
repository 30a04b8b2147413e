//! One connection to one master. Calls on it follow one another; whoever needs two at once makes two.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use castrum_blueprints::manifest::SignedManifest;
use castrum_blueprints::names::NodeName;
use castrum_blueprints::status::NodeStatus;
use castrum_blueprints::trust::node_dns;
use castrum_blueprints::wire::{HOLD_SECONDS, JoinDecision, PublishAnswer, WatchAnswer, WireError};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::LinkError;

/// A call that is answered at once takes less than this; a master that takes longer is stuck.
const PROMPT: Duration = Duration::from_secs(5);
/// A held-back answer comes within this.
const HELD: Duration = Duration::from_secs(HOLD_SECONDS + 10);
/// The states of 10,000 nodes are some 60 MiB; no right answer is larger.
const ANSWER_LIMIT: usize = 128 << 20;

/// A connection to a master's API.
pub struct MasterClient {
    name: String,
    sender: Mutex<SendRequest<Full<Bytes>>>,
}

impl MasterClient {
    /// Speaks to the agent of `node` over `stream`. The node proves by its certificate that it is that node.
    pub async fn over<S>(stream: S, tls: &Arc<ClientConfig>, node: &NodeName) -> Result<Self, LinkError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let name = node_dns(node);
        let server = ServerName::try_from(name.clone()).map_err(|_| {
            let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a DNS name");
            LinkError::Tls { name: name.clone(), source }
        })?;
        let handshake = TlsConnector::from(Arc::clone(tls)).connect(server, stream);
        let stream = match timeout(PROMPT, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(source)) => return Err(LinkError::Tls { name, source }),
            Err(_) => return Err(timed_out("the TLS handshake", PROMPT)),
        };
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a master ended");
            }
        });
        Ok(Self { name, sender: Mutex::new(sender) })
    }

    /// What is newer than `after`; held back until there is something.
    pub async fn watch(&self, after: u64) -> Result<WatchAnswer, LinkError> {
        self.call(Method::GET, &format!("/v1/watch?after={after}"), None::<&()>, HELD).await
    }

    /// Gives manifests to the master.
    pub async fn publish(&self, manifests: &[SignedManifest]) -> Result<PublishAnswer, LinkError> {
        self.call(Method::PUT, "/v1/manifests", Some(manifests), PROMPT).await
    }

    /// Tells the master what became of join requests.
    pub async fn decide_joins(&self, decisions: &[JoinDecision]) -> Result<(), LinkError> {
        self.call(Method::PUT, "/v1/joins", Some(decisions), PROMPT).await
    }

    /// The master's own status.
    pub async fn self_status(&self) -> Result<NodeStatus, LinkError> {
        self.call(Method::GET, "/v1/self", None::<&()>, PROMPT).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + ?Sized)>,
        within: Duration,
    ) -> Result<T, LinkError> {
        let call = format!("{method} {path}");
        match timeout(within, self.send(method, path, body, &call)).await {
            Ok(answer) => answer,
            Err(_) => Err(timed_out(&call, within)),
        }
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + ?Sized)>,
        call: &str,
    ) -> Result<T, LinkError> {
        let unreadable = |source| LinkError::Answer { call: call.to_owned(), source };
        let body = body.map(serde_json::to_vec).transpose().map_err(unreadable)?.unwrap_or_default();
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap_or_default();
        if let Ok(host) = self.name.parse() {
            request.headers_mut().insert(hyper::header::HOST, host);
        }
        let response = self.sender.lock().await.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await.map_err(|error| {
            match error.downcast::<hyper::Error>() {
                Ok(error) => LinkError::Http(*error),
                Err(error) if error.is::<LengthLimitError>() => {
                    LinkError::TooLarge { call: call.to_owned(), limit: ANSWER_LIMIT }
                }
                Err(_) => timed_out(call, HELD),
            }
        })?;
        let bytes = body.to_bytes();
        if !status.is_success() {
            let error = serde_json::from_slice::<WireError>(&bytes);
            let message = error.map_or_else(|_| "no reason given".to_owned(), |error| error.error);
            return Err(LinkError::Refused { call: call.to_owned(), status: status.as_u16(), message });
        }
        // 204 says as much as `null`.
        let bytes = if bytes.is_empty() { Bytes::from_static(b"null") } else { bytes };
        serde_json::from_slice(&bytes).map_err(unreadable)
    }
}

fn timed_out(call: &str, within: Duration) -> LinkError {
    LinkError::TimedOut { call: call.to_owned(), seconds: within.as_secs() }
}
