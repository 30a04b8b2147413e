//! Where a blob comes from: the masters, then nodes that said they have it. Nobody is believed: what does not have the
//! digest is dropped, and the next one is asked.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use castrum_blueprints::manifest::{Blob, Peer};
use castrum_blueprints::names::{Digest, NodeName};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::{Method, Response};
use rustls::ClientConfig;
use tracing::{debug, warn};

use super::{Depot, DepotError, Intake};
use crate::api::client;
use crate::api::masters::Masters;
use crate::api::pace::Backoff;
use crate::api::relay::Relay;
use crate::http::{HttpError, Link, within};

/// How long the head of an answer, or a pause between bytes, may take.
const PAUSE: Duration = Duration::from_secs(10);
/// After this time a source must have given [`SLOWEST`] on average, or the next one is asked.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes a second.
const SLOWEST: u64 = 16 * 1024;
/// How often all sources are asked while one of them only said that it is busy.
const ROUNDS: u32 = 8;
const HOLDERS_CAP: usize = 64 * 1024;

/// Why a blob did not come.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody gave it.
    #[error("nobody gave {digest}; asked: {tried}")]
    Nowhere {
        /// The blob.
        digest: Digest,
        /// Who was asked, and what each one said.
        tried: String,
    },
    /// It came and could not be stored here.
    #[error("store {digest}")]
    Store {
        /// The blob.
        digest: Digest,
        /// What went wrong.
        source: DepotError,
    },
    /// The agent is ending.
    #[error("fetching {digest} was given up")]
    Stopped {
        /// The blob.
        digest: Digest,
    },
}

/// What is needed to reach those that may have a blob.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) me: NodeName,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) port: u16,
    pub(crate) masters: Arc<Masters>,
    /// On masters: what is known here of who has what.
    pub(crate) relay: Option<Arc<Relay>>,
}

/// What one source did.
enum Outcome {
    Stored,
    Busy,
    Failed(String),
}

/// What was tried in a round.
#[derive(Default)]
struct Tried {
    said: Vec<String>,
    busy: bool,
}

pub(super) async fn fetch(depot: &Depot, blob: &Blob) -> Result<PathBuf, FetchError> {
    let stopped = || FetchError::Stopped { digest: blob.digest.clone() };
    let _turn = depot.gate.acquire().await.map_err(|_| stopped())?;
    let Some(route) = &depot.route else { return Err(stopped()) };
    let mut backoff = Backoff::default();
    let mut tried = Tried::default();
    for _ in 0..ROUNDS {
        tried = Tried::default();
        if from_any(depot, route, &route.masters.all(), (blob, &mut tried)).await?
            || from_any(depot, route, &holders(route, &blob.digest).await, (blob, &mut tried)).await?
        {
            return Ok(depot.path(&blob.digest));
        }
        if !tried.busy {
            break;
        }
        tokio::time::sleep(backoff.next()).await;
    }
    let said = if tried.said.is_empty() { "nobody is known".to_owned() } else { tried.said.join("; ") };
    Err(FetchError::Nowhere { digest: blob.digest.clone(), tried: said })
}

/// Whether one of the sources gave it.
async fn from_any(
    depot: &Depot,
    route: &Route,
    sources: &[Peer],
    (blob, tried): (&Blob, &mut Tried),
) -> Result<bool, FetchError> {
    for source in sources {
        match from(depot, route, source, blob).await? {
            Outcome::Stored => return Ok(true),
            Outcome::Busy => {
                tried.busy = true;
                tried.said.push(format!("{}: busy", source.name));
            }
            Outcome::Failed(why) => {
                warn!(source = %source.name, digest = blob.digest.short(), why, "did not give a blob");
                tried.said.push(format!("{}: {why}", source.name));
            }
        }
    }
    Ok(false)
}

/// The nodes that said they have it, as far as a master that answers knows; never masters, which were asked before.
async fn holders(route: &Route, digest: &Digest) -> Vec<Peer> {
    let masters = route.masters.all();
    let mut found = Vec::new();
    if let Some(relay) = &route.relay {
        found = relay.holders(digest);
    } else {
        for master in &masters {
            match ask_holders(route, master, digest).await {
                Ok(peers) => {
                    found = peers;
                    break;
                }
                Err(error) => {
                    debug!(master = %master.name, error = crate::api::chain(&error), "did not say who has a blob");
                }
            }
        }
    }
    found.retain(|peer| peer.name != route.me && masters.iter().all(|master| master.name != peer.name));
    found
}

async fn ask_holders(route: &Route, master: &Peer, digest: &Digest) -> Result<Vec<Peer>, HttpError> {
    let endpoint = client::agent(&route.tls, master, route.port)?;
    let path = format!("/v1/holders/{digest}");
    let answer = within(PAUSE, endpoint.name(), async {
        Link::open(&endpoint).await?.ask(Method::GET, &path, None, HOLDERS_CAP).await
    });
    client::understood(endpoint.name(), &answer.await?)
}

/// Fetches from one source. An error means that it is not the source's fault.
async fn from(depot: &Depot, route: &Route, source: &Peer, blob: &Blob) -> Result<Outcome, FetchError> {
    let (mut link, answer) = match open(route, source, &blob.digest).await {
        Ok(opened) => opened,
        Err(error) => return Ok(Outcome::Failed(crate::api::chain(&error))),
    };
    match answer.status().as_u16() {
        200 => {}
        503 => return Ok(Outcome::Busy),
        404 => return Ok(Outcome::Failed("does not have it".to_owned())),
        other => return Ok(Outcome::Failed(format!("answered {other}"))),
    }
    if answer.body().size_hint().exact().is_some_and(|size| size != blob.size) {
        return Ok(Outcome::Failed("offers another number of bytes".to_owned()));
    }
    let failed = |source| FetchError::Store { digest: blob.digest.clone(), source };
    let intake = depot.take_in(&blob.digest, Some(blob.size)).map_err(failed)?;
    let intake = match receive(&mut link, answer.into_body(), intake).await {
        Ok(intake) => intake,
        Err(Broken::Source(why)) => return Ok(Outcome::Failed(why)),
        Err(Broken::Store(error)) => return settle(error, &blob.digest),
    };
    // Syncing a large file takes long, and everything else on this thread would wait.
    match crate::api::apart(move || intake.finish()).await {
        Some(Ok(_)) => Ok(Outcome::Stored),
        Some(Err(error)) => settle(error, &blob.digest),
        None => Err(FetchError::Stopped { digest: blob.digest.clone() }),
    }
}

/// Wrong bytes are the source's fault, a full disk is ours.
fn settle(error: DepotError, digest: &Digest) -> Result<Outcome, FetchError> {
    match error {
        DepotError::Digest { .. } | DepotError::Size { .. } => Ok(Outcome::Failed(error.to_string())),
        source => Err(FetchError::Store { digest: digest.clone(), source }),
    }
}

async fn open(
    route: &Route,
    source: &Peer,
    digest: &Digest,
) -> Result<(Link, Response<Incoming>), HttpError> {
    let endpoint = client::agent(&route.tls, source, route.port)?;
    let mut link = Link::open(&endpoint).await?;
    let path = format!("/v1/blob/{digest}");
    let answer = within(PAUSE, endpoint.name(), link.send(Method::GET, &path, None)).await?;
    Ok((link, answer))
}

enum Broken {
    Source(String),
    Store(DepotError),
}

async fn receive(link: &mut Link, mut body: Incoming, mut intake: Intake) -> Result<Intake, Broken> {
    let begun = Instant::now();
    loop {
        let frame = tokio::time::timeout(PAUSE, body.frame()).await;
        let Some(frame) = frame.map_err(|_| Broken::Source("stopped giving bytes".to_owned()))? else {
            return Ok(intake);
        };
        let frame = frame.map_err(|error| Broken::Source(crate::api::chain(&link.broke(error))))?;
        if let Some(data) = frame.data_ref() {
            intake.write(data).map_err(Broken::Store)?;
        }
        let time = begun.elapsed();
        if time > PATIENCE && intake.came() < SLOWEST * time.as_secs() {
            return Err(Broken::Source("gives bytes too slowly".to_owned()));
        }
    }
}
