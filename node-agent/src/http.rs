//! The one HTTP/1.1 client of the agent: for checks and membership calls on the node, and for talk with other agents.
//!
//! Host names are not resolved: a static binary cannot count on the machine's resolver, and everything that an agent
//! calls has an address. `localhost` is 127.0.0.1.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use castrum_blueprints::manifest::Target;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

/// How long connecting and the TLS handshake may take together.
const CONNECT: Duration = Duration::from_secs(3);
/// Buffers of one connection; it bounds what a connection can take of memory.
const BUFFER: usize = 64 * 1024;

/// Why a call did not give an answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The URL cannot be called.
    #[error("cannot call `{url}`: {reason}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The method or the path cannot be sent.
    #[error("the request for {to} is not valid HTTP")]
    Request {
        /// Who was to be asked.
        to: String,
        /// What is wrong with it.
        source: hyper::http::Error,
    },
    /// No connection.
    #[error("connect to {to}")]
    Connect {
        /// Who was to be asked.
        to: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// No TLS session: a certificate was refused, by them or by us.
    #[error("TLS handshake with {to}")]
    Tls {
        /// Who was to be asked.
        to: String,
        /// What TLS said.
        source: std::io::Error,
    },
    /// The connection broke or spoke something else than HTTP.
    #[error("talk to {to}")]
    Exchange {
        /// Who was asked.
        to: String,
        /// What went wrong.
        source: hyper::Error,
    },
    /// No end in time.
    #[error("{to} did not answer within {} ms", .after.as_millis())]
    TimedOut {
        /// Who was asked.
        to: String,
        /// How long it was waited.
        after: Duration,
    },
    /// The answer is larger than anything that was asked for.
    #[error("the answer of {to} is larger than {cap} bytes")]
    TooLarge {
        /// Who was asked.
        to: String,
        /// The most that is taken.
        cap: usize,
    },
    /// An answer that is a refusal.
    #[error("{to} answered {status}: {error}")]
    Status {
        /// Who was asked.
        to: String,
        /// The status code.
        status: u16,
        /// What it said.
        error: String,
    },
    /// An answer that is not what the call promises.
    #[error("the answer of {to} is not understood")]
    Answer {
        /// Who was asked.
        to: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// What is asked, besides where.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The method.
    pub method: &'a str,
    /// The JSON body.
    pub body: Option<&'a Value>,
    /// How long the whole may take.
    pub timeout: Duration,
    /// How many bytes of the answer's body are taken.
    pub cap: usize,
}

/// An answer, whatever its status code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

/// Asks `target` once, over a connection of its own; `tls` is what the node shows and trusts for `https`.
pub async fn request(
    tls: Option<&Arc<ClientConfig>>,
    target: &Target,
    ask: Ask<'_>,
) -> Result<Answer, HttpError> {
    let (endpoint, path) = Endpoint::of_target(tls, target)?;
    let body = ask.body.map(|body| Bytes::from(body.to_string()));
    within(ask.timeout, endpoint.name(), async {
        let mut link = Link::open(&endpoint).await?;
        let method = Method::from_bytes(ask.method.as_bytes());
        let method = method
            .map_err(|source| HttpError::Request { to: endpoint.name().to_owned(), source: source.into() })?;
        link.ask(method, &path, body, ask.cap).await
    })
    .await
}

/// `future`, or [`HttpError::TimedOut`].
pub(crate) async fn within<T>(
    after: Duration,
    to: &str,
    future: impl Future<Output = Result<T, HttpError>>,
) -> Result<T, HttpError> {
    match tokio::time::timeout(after, future).await {
        Ok(result) => result,
        Err(_) => Err(HttpError::TimedOut { to: to.to_owned(), after }),
    }
}

/// Somebody who can be connected to.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    connect: Connect,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    host: String,
    name: String,
}

#[derive(Debug, Clone)]
enum Connect {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Endpoint {
    /// Another agent at `address`, which must prove to be `server`.
    pub(crate) fn of_agent(
        tls: &Arc<ClientConfig>,
        address: SocketAddr,
        server: ServerName<'static>,
    ) -> Self {
        let host = server.to_str().into_owned();
        let name = format!("{host} ({address})");
        Self { connect: Connect::Tcp(address), tls: Some((Arc::clone(tls), server)), host, name }
    }

    fn of_target(tls: Option<&Arc<ClientConfig>>, target: &Target) -> Result<(Self, String), HttpError> {
        let bad = |reason| HttpError::Url { url: target.url.clone(), reason };
        let uri: Uri = target.url.parse().map_err(|_| bad("it is not a URL"))?;
        let host = uri.host().ok_or_else(|| bad("it names no host"))?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let (tls, usual) = match uri.scheme_str() {
            Some("http") => (None, 80),
            Some("https") => {
                let config = tls.ok_or_else(|| bad("the node has no certificate yet"))?;
                let server =
                    ServerName::try_from(bare.to_owned()).map_err(|_| bad("its host is no TLS name"))?;
                (Some((Arc::clone(config), server)), 443)
            }
            _ => return Err(bad("it begins neither with `http://` nor with `https://`")),
        };
        let connect = if let Some(socket) = &target.socket {
            Connect::Unix(socket.into())
        } else {
            let host = address(bare).ok_or_else(|| bad("its host is neither an address nor `localhost`"))?;
            Connect::Tcp((host, uri.port_u16().unwrap_or(usual)).into())
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let name = target.socket.clone().unwrap_or_else(|| target.url.clone());
        let host = uri.authority().map_or(host, |authority| authority.as_str()).to_owned();
        Ok((Self { connect, tls, host, name }, path))
    }

    /// Who this is, for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    async fn dial(&self) -> Result<Box<dyn Stream>, HttpError> {
        let failed = |source| HttpError::Connect { to: self.name.clone(), source };
        let stream: Box<dyn Stream> = match &self.connect {
            Connect::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(failed)?),
            Connect::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(failed)?;
                stream.set_nodelay(true).map_err(failed)?;
                Box::new(stream)
            }
        };
        let Some((config, server)) = &self.tls else { return Ok(stream) };
        let connector = TlsConnector::from(Arc::clone(config));
        let limited = |session: &mut rustls::ClientConnection| session.set_buffer_limit(Some(BUFFER));
        let stream = connector.connect_with(server.clone(), stream, limited).await;
        Ok(Box::new(stream.map_err(|source| HttpError::Tls { to: self.name.clone(), source })?))
    }
}

fn address(host: &str) -> Option<IpAddr> {
    if host == "localhost" { Some(Ipv4Addr::LOCALHOST.into()) } else { host.parse().ok() }
}

/// Whatever bytes can go both ways over.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// An open connection, for one call after the other; closed when dropped.
#[derive(Debug)]
pub(crate) struct Link {
    name: String,
    host: String,
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Link {
    /// Connects, and says hello in TLS if that is meant.
    pub(crate) async fn open(endpoint: &Endpoint) -> Result<Self, HttpError> {
        let stream = within(CONNECT, endpoint.name(), endpoint.dial()).await?;
        let built = http1::Builder::new().max_buf_size(BUFFER).handshake(TokioIo::new(stream)).await;
        let (sender, connection) =
            built.map_err(|source| HttpError::Exchange { to: endpoint.name.clone(), source })?;
        // Its error reaches the one who waits for an answer; without one nobody needs it.
        let driver = tokio::spawn(async { drop(connection.await) });
        Ok(Self { name: endpoint.name.clone(), host: endpoint.host.clone(), sender, driver })
    }

    /// Whether another call can go over it.
    pub(crate) fn is_open(&self) -> bool {
        self.sender.is_ready()
    }

    /// Sends a request and gives the answer's head; the body comes as it is read.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Response<Incoming>, HttpError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.host)
            .header(USER_AGENT, concat!("castrum-agent/", env!("CARGO_PKG_VERSION")));
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body.unwrap_or_default()));
        let request = request.map_err(|source| HttpError::Request { to: self.name.clone(), source })?;
        self.sender.send_request(request).await.map_err(|source| self.broke(source))
    }

    /// Sends a request and takes the whole answer, if it has no more than `cap` bytes.
    pub(crate) async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        cap: usize,
    ) -> Result<Answer, HttpError> {
        let (head, mut incoming) = self.send(method, path, body).await?.into_parts();
        let mut taken = BytesMut::new();
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|source| self.broke(source))?;
            let Some(data) = frame.data_ref() else { continue };
            if taken.len() + data.len() > cap {
                return Err(HttpError::TooLarge { to: self.name.clone(), cap });
            }
            taken.extend_from_slice(data);
        }
        Ok(Answer { status: head.status.as_u16(), body: taken.freeze() })
    }

    /// Names the one that was talked to in an error of the connection.
    pub(crate) fn broke(&self, source: hyper::Error) -> HttpError {
        HttpError::Exchange { to: self.name.clone(), source }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
