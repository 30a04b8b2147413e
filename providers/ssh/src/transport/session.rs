//! One authenticated connection to one machine, shared by all who have something to do there.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use russh::client::Handle;
use russh::keys::PublicKey;
use tokio::sync::watch;
use tokio::time::timeout;

use super::auth::Auth;
use super::connect::{self, Client, News};
use super::error::SshError;
use super::hostkey::{HostKeyPolicy, key_line};
use super::line::Cut;
use super::quote::quote;
use super::route::{Route, Target};

/// How long a machine may take to open a channel or a tunnel.
pub(crate) const OPENING: Duration = Duration::from_secs(30);

/// An authenticated session. Clones are the same session; it ends when the last one, and all that was opened on it,
/// is dropped.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) handle: Handle<Client>,
    pub(crate) cut: Arc<Cut>,
    pub(crate) news: Arc<News>,
    pub(crate) gone: watch::Receiver<()>,
    pub(crate) address: String,
    pub(crate) user: String,
    pub(crate) host_key: PublicKey,
    /// The session that this one runs through.
    pub(crate) _via: Option<Session>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.cut.cut();
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({}@{})", self.0.user, self.0.address)
    }
}

impl Session {
    /// Connects to `target` itself and authenticates; all of it takes at most `within`.
    pub async fn connect(
        target: &Target,
        auth: &Auth,
        policy: HostKeyPolicy,
        within: Duration,
    ) -> Result<Self, SshError> {
        Self::open(&Route::direct(target.clone(), auth.clone(), policy), within).await
    }

    /// Connects along `route`; all of it takes at most `within`.
    pub async fn open(route: &Route, within: Duration) -> Result<Self, SshError> {
        connect::open(route, within).await
    }

    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    pub(crate) fn handle(&self) -> &Handle<Client> {
        &self.0.handle
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        &self.0.address
    }

    /// The login name.
    pub fn user(&self) -> &str {
        &self.0.user
    }

    /// The host key that was accepted.
    pub fn host_key(&self) -> &PublicKey {
        &self.0.host_key
    }

    /// The host key as a line without comment, to be pinned from now on.
    pub fn host_key_line(&self) -> String {
        key_line(&self.0.host_key)
    }

    /// Whether the session has ended.
    pub fn is_closed(&self) -> bool {
        self.0.handle.is_closed()
    }

    /// `script` as one command that runs as root: as it is for root, else through `sudo` without a password.
    pub fn as_root(&self, script: &str) -> Result<String, SshError> {
        let sudo = if self.user() == "root" { "" } else { "sudo -n " };
        Ok(format!("{sudo}sh -c {}", quote(script)?))
    }

    /// Ends the session politely; those who hold it still find it closed.
    pub async fn close(&self) {
        let goodbye = self.0.handle.disconnect(russh::Disconnect::ByApplication, "", "en");
        if matches!(timeout(Duration::from_secs(1), goodbye).await, Ok(Ok(()))) {
            let _ = timeout(Duration::from_secs(1), self.gone()).await;
        }
        self.0.cut.cut();
    }

    /// Waits until the session has ended.
    pub fn gone(&self) -> impl Future<Output = ()> + Send + Sync + use<> {
        let mut gone = self.0.gone.clone();
        async move { while gone.changed().await.is_ok() {} }
    }

    /// The error for whoever finds the session ended.
    pub(crate) fn lost(&self) -> SshError {
        let reason = self.0.news.end.get().map_or("the connection broke off", String::as_str);
        SshError::Lost { address: self.0.address.clone(), reason: reason.to_owned() }
    }

    /// The error for something that the server did not do.
    pub(crate) fn refused(&self, what: &str, error: &russh::Error) -> SshError {
        match error {
            russh::Error::ChannelOpenFailure(reason) => SshError::Refused {
                address: self.0.address.clone(),
                what: what.to_owned(),
                reason: format!("{reason:?}"),
            },
            _ => self.lost(),
        }
    }

    pub(crate) fn timed_out(&self, what: &str, after: Duration) -> SshError {
        SshError::TimedOut { what: format!("{what} on `{}`", self.0.address), after }
    }
}
