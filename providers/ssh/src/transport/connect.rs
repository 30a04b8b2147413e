//! From a route to a session: hop by hop connection, host key, authentication, proof.

use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use castrum_blueprints::trust::HOST_KEY_PROOF_FILE;
use russh::client::{self, ChannelOpenHandle, DisconnectReason, Msg};
use russh::keys::{PublicKey, PublicKeyOrCertificate};
use russh::{Channel, Preferred, cipher, compression};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::auth::authenticate;
use super::error::{SshError, fingerprint};
use super::exec::Limits;
use super::hostkey::{HostKeyCheck, HostKeyPolicy, HostKeyProof, key_line};
use super::line::{Cut, Line, Wire};
use super::route::{Hop, Route, Target};
use super::session::{Inner, Session};

/// A silent server is asked for a sign of life this often.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// So many signs of life may be missing.
const KEEPALIVES_MISSED: usize = 3;
/// Ends a session that is stuck in writing, where no keepalive can be sent.
const STUCK: Duration = Duration::from_secs(25);
/// AES-GCM first: with the instructions that processors have for it, it moved a quarter more than `ChaCha20`.
const CIPHERS: &[cipher::Name] = &[
    cipher::AES_256_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];
/// The most that a proof may be long.
const PROOF_BYTES: usize = 64 * 1024;

/// What the protocol engine tells about a connection, for those who hold the session.
#[derive(Default)]
pub(crate) struct News {
    /// The host key that was accepted; it stays the same when keys are exchanged anew.
    pub(crate) host_key: OnceLock<PublicKey>,
    /// Why the host key was refused.
    refusal: Mutex<Option<SshError>>,
    /// How the session ended.
    pub(crate) end: OnceLock<String>,
}

/// Our side of the protocol engine's callbacks.
pub(crate) struct Client {
    check: HostKeyCheck,
    news: Arc<News>,
    /// Dropped with the engine, which tells everybody who waits for it.
    _alive: watch::Sender<()>,
}

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let key = key.public_key();
        if let Some(accepted) = self.news.host_key.get() {
            return Ok(accepted.key_data() == key.key_data());
        }
        match self.check.check(&key) {
            Ok(()) => Ok(self.news.host_key.set(key).is_ok()),
            Err(refusal) => {
                *self.news.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
                Ok(false)
            }
        }
    }

    async fn disconnected(&mut self, reason: DisconnectReason<russh::Error>) -> Result<(), russh::Error> {
        let text = match &reason {
            DisconnectReason::ReceivedDisconnect(info) => format!("the server ended it: {}", info.message),
            DisconnectReason::Error(russh::Error::Disconnect | russh::Error::HUP) => {
                "the server closed the connection".to_owned()
            }
            DisconnectReason::Error(error) => error.to_string(),
        };
        let _ = self.news.end.set(text);
        match reason {
            DisconnectReason::ReceivedDisconnect(_) => Ok(()),
            DisconnectReason::Error(error) => Err(error),
        }
    }

    // Nothing is forwarded to this side: dropping the handle refuses the channel.

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }
}

/// What is under way, for the message when the deadline passes.
struct Phase<'a>(&'a Mutex<String>);

impl Phase<'_> {
    fn set(&self, text: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }
}

/// Opens the session that `route` leads to; all of it takes at most `within`.
pub(crate) async fn open(route: &Route, within: Duration) -> Result<Session, SshError> {
    let phase = Mutex::new(String::new());
    let work = async {
        let mut via = None;
        for hop in route.jumps.iter().chain([&route.last]) {
            via = Some(open_hop(hop, via, &Phase(&phase)).await?);
        }
        via.ok_or_else(|| SshError::Config { place: "route".into(), reason: "it is empty".into() })
    };
    // In a box: the whole of key exchange and authentication is a large future to carry through every caller.
    let result = timeout(within, boxed(work)).await;
    result.unwrap_or_else(|_| {
        let what = phase.into_inner().unwrap_or_else(PoisonError::into_inner);
        Err(SshError::TimedOut { what, after: within })
    })
}

fn boxed<'a, T>(
    future: impl Future<Output = T> + Send + 'a,
) -> std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>> {
    Box::pin(future)
}

async fn open_hop(hop: &Hop, via: Option<Session>, phase: &Phase<'_>) -> Result<Session, SshError> {
    let address = hop.target.to_string();
    let check = HostKeyCheck::new(&hop.policy, &hop.target)?;
    phase.set(format!("connecting to `{address}`"));
    let wire = wire_to(&hop.target, via.as_ref()).await?;
    phase.set(format!("the SSH handshake with `{address}`"));
    let cut = Arc::new(Cut::default());
    let guard = CutOnDrop(Some(cut.clone()));
    let news = Arc::new(News::default());
    let (alive, gone) = watch::channel(());
    let config = Arc::new(protocol(&check));
    let client = Client { check, news: news.clone(), _alive: alive };
    let mut handle = client::connect_stream(config, Line::new(wire, cut.clone()), client)
        .await
        .map_err(|error| handshake_error(&address, &news, error))?;
    phase.set(format!("authenticating `{}` at `{address}`", hop.target.user));
    authenticate(&mut handle, &address, &hop.target.user, &hop.auth).await?;
    let host_key = news.host_key.get().cloned();
    let host_key = host_key.ok_or_else(|| handshake_error(&address, &news, russh::Error::UnknownKey))?;
    guard.keep();
    let user = hop.target.user.clone();
    let session = Session::new(Inner { handle, cut, news, gone, address, user, host_key, _via: via });
    if let HostKeyPolicy::Proven(verifier) = &hop.policy {
        phase.set(format!("proving the host key of `{}`", session.address()));
        prove(&session, verifier.as_ref()).await?;
    }
    Ok(session)
}

/// Ends the line of a connection that does not become a session, also when its future is dropped.
struct CutOnDrop(Option<Arc<Cut>>);

impl CutOnDrop {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        if let Some(cut) = &self.0 {
            cut.cut();
        }
    }
}

async fn wire_to(target: &Target, via: Option<&Session>) -> Result<Box<dyn Wire>, SshError> {
    if let Some(via) = via {
        return Ok(Box::new(via.open_tunnel(&target.address, target.port).await?));
    }
    let unreachable = |source| SshError::Unreachable { address: target.to_string(), source };
    let stream = TcpStream::connect((target.address.as_str(), target.port)).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    Ok(Box::new(stream))
}

fn protocol(check: &HostKeyCheck) -> client::Config {
    client::Config {
        preferred: Preferred {
            key: check.algorithms(),
            // What is large here is compressed already.
            compression: (&[compression::NONE]).into(),
            cipher: CIPHERS.into(),
            ..Preferred::DEFAULT
        },
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: KEEPALIVES_MISSED,
        inactivity_timeout: Some(STUCK),
        nodelay: true,
        ..client::Config::default()
    }
}

fn handshake_error(address: &str, news: &News, error: russh::Error) -> SshError {
    if let Some(refusal) = news.refusal.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return refusal;
    }
    SshError::Handshake { address: address.to_owned(), source: error }
}

/// Has the machine prove its host key. Nobody has the session yet, and on failure nobody gets it.
async fn prove(session: &Session, verifier: &dyn HostKeyProof) -> Result<(), SshError> {
    let address = session.address().to_owned();
    let found = fingerprint(session.host_key());
    let limits = Limits { stdout: PROOF_BYTES, ..Limits::default() };
    let output = session.exec(&format!("cat {HOST_KEY_PROOF_FILE}"), (), &limits).await?;
    if !output.status.is_success() {
        return Err(SshError::HostKeyProofMissing { address, found });
    }
    let proof = String::from_utf8_lossy(&output.stdout);
    let verdict = verifier.verify(&key_line(session.host_key()), &proof).await;
    verdict.map_err(|reason| SshError::HostKeyUnproven { address, found, reason })
}
