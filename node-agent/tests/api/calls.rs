//! Calls as anybody can make them, from any address and with any certificate or none.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use castrum_blueprints::names::Digest;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::soon;

pub struct Ask<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub body: Bytes,
}

pub async fn ask(tls: &Arc<ClientConfig>, to: SocketAddr, call: Ask<'_>) -> (u16, Bytes) {
    ask_from(tls, Ipv4Addr::LOCALHOST.into(), to, call).await
}

/// A call from a given address, as a node of that address makes it.
pub async fn ask_from(tls: &Arc<ClientConfig>, from: IpAddr, to: SocketAddr, call: Ask<'_>) -> (u16, Bytes) {
    soon(call.path, async {
        let stream = dial(tls, from, to).await;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let driver = tokio::spawn(connection);
        let request = Request::builder().method(call.method).uri(call.path).header("host", "test");
        let answer = sender.send_request(request.body(Full::new(call.body)).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let body =
            answer.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        driver.abort();
        (status, body)
    })
    .await
}

pub async fn dial(tls: &Arc<ClientConfig>, from: IpAddr, to: SocketAddr) -> TlsStream<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let stream = socket.connect(to).await.unwrap();
    TlsConnector::from(Arc::clone(tls)).connect(ServerName::from(to.ip()), stream).await.unwrap()
}

/// Puts bytes under a digest, whatever they are: what a damaged or lying depot looks like.
pub fn plant(root: &Path, digest: &Digest, bytes: &[u8]) {
    std::fs::write(root.join("var/lib/castrum/depot").join(digest.to_string()), bytes).unwrap();
}
