//! The node's calls to other agents: to one that must prove to be who it is meant to be, over a connection that is kept.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use castrum_blueprints::manifest::Peer;
use castrum_blueprints::names::ComponentName;
use castrum_blueprints::trust::node_dns;
use castrum_blueprints::wire::WireError;
use hyper::Method;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Context;
use crate::http::{Answer, Endpoint, HttpError, Link, within};

const FACT_TIME: Duration = Duration::from_secs(10);
const FACT_CAP: usize = 64 * 1024;

/// Asks `peer` for a fact of one of its components.
pub async fn fetch_fact(
    ctx: &Context,
    peer: &Peer,
    component: &ComponentName,
    name: &str,
) -> Result<Value, HttpError> {
    let endpoint = agent(&ctx.tls.client, peer, ctx.identity.api_port)?;
    let path = format!("/v1/fact/{component}/{name}");
    let answer = within(FACT_TIME, endpoint.name(), async {
        Link::open(&endpoint).await?.ask(Method::GET, &path, None, FACT_CAP).await
    });
    understood(endpoint.name(), &answer.await?)
}

/// How to reach the agent of `peer`.
pub(crate) fn agent(tls: &Arc<ClientConfig>, peer: &Peer, port: u16) -> Result<Endpoint, HttpError> {
    let name = node_dns(&peer.name);
    let server = ServerName::try_from(name.clone());
    let server = server.map_err(|_| HttpError::Url { url: name, reason: "it is no TLS name" })?;
    Ok(Endpoint::of_agent(tls, SocketAddr::new(peer.address, port), server))
}

/// The JSON of a good answer, or what a bad one says.
pub(crate) fn understood<T: DeserializeOwned>(to: &str, answer: &Answer) -> Result<T, HttpError> {
    good(to, answer)?;
    serde_json::from_slice(&answer.body).map_err(|source| HttpError::Answer { to: to.to_owned(), source })
}

/// Whether an answer is a good one.
pub(crate) fn good(to: &str, answer: &Answer) -> Result<(), HttpError> {
    if (200..300).contains(&answer.status) {
        return Ok(());
    }
    let said = serde_json::from_slice(&answer.body).map(|said: WireError| said.error);
    let error = said.unwrap_or_else(|_| "(nothing else)".to_owned());
    Err(HttpError::Status { to: to.to_owned(), status: answer.status, error })
}

/// One call, besides to whom.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    pub(crate) body: Option<Bytes>,
    pub(crate) timeout: Duration,
    pub(crate) cap: usize,
}

/// The connection to the master that is talked to. It is opened when there is something to say.
#[derive(Debug, Default)]
pub(crate) struct Line {
    to: Option<Peer>,
    link: Option<Link>,
}

impl Line {
    /// Calls `peer`, over the connection of the last call if that was to the same.
    pub(crate) async fn call(
        &mut self,
        ctx: &Context,
        peer: &Peer,
        call: Call<'_>,
    ) -> Result<Answer, HttpError> {
        if self.to.as_ref() != Some(peer) {
            self.link = None;
            self.to = Some(peer.clone());
        }
        let endpoint = agent(&ctx.tls.client, peer, ctx.identity.api_port)?;
        // Taken out, so that a call that fails or is dropped half way leaves no half-used connection.
        let kept = self.link.take().filter(Link::is_open);
        let (link, answer) = within(call.timeout, endpoint.name(), async {
            let mut link = match kept {
                Some(link) => link,
                None => Link::open(&endpoint).await?,
            };
            let answer = link.ask(call.method, call.path, call.body, call.cap).await?;
            Ok((link, answer))
        })
        .await?;
        self.link = Some(link);
        Ok(answer)
    }
}
