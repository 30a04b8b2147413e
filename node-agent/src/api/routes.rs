//! The calls of [`castrum_blueprints::wire`], who may make them, and what they do.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use castrum_blueprints::manifest::SignedManifest;
use castrum_blueprints::names::{ComponentName, Digest, NodeName};
use castrum_blueprints::status::NodeStatus;
use castrum_blueprints::trust::JoinRequest;
use castrum_blueprints::wire::{JoinDecision, PublishAnswer, WireError};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::{debug, error};

use super::body::{self, FileBody, Reply};
use super::caller::Caller;
use super::relay::Relay;
use super::{Context, chain};

/// An answer that is not 2xx.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    error: String,
}

impl Refused {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into() }
    }

    fn not_found(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }
}

type Answered = Result<Response<Reply>, Refused>;

/// Answers one request.
pub(super) async fn answer(ctx: &Context, caller: &Caller, request: Request<Incoming>) -> Response<Reply> {
    let what = format!("{} {}", request.method(), request.uri().path());
    match route(ctx, caller, request).await {
        Ok(response) => response,
        Err(refused) => {
            debug!(from = %caller.from, what, status = refused.status.as_u16(), error = refused.error, "refused");
            let said = WireError { error: refused.error };
            let text = serde_json::to_vec(&said).unwrap_or_default();
            let mut response = json(refused.status, text.into());
            if refused.status == StatusCode::SERVICE_UNAVAILABLE {
                response.headers_mut().insert(RETRY_AFTER, hyper::header::HeaderValue::from_static("1"));
            }
            response
        }
    }
}

async fn route(ctx: &Context, caller: &Caller, request: Request<Incoming>) -> Answered {
    let (head, incoming) = request.into_parts();
    let query = Query(head.uri.query().unwrap_or_default());
    let parts: Vec<&str> = head.uri.path().split('/').skip(1).collect();
    let limits = &ctx.limits;
    match (&head.method, parts.as_slice()) {
        (&Method::POST, ["v1", "join"]) => join(ctx, caller, incoming).await,
        (&Method::GET, ["v1", "blob", digest]) => blob(ctx, caller, digest),
        (&Method::GET, ["v1", "holders", digest]) => {
            need(caller, caller.is_member(), "a node of this cluster")?;
            ok(&relay(ctx)?.holders(&named::<Digest>(digest)?))
        }
        (&Method::GET, ["v1", "manifest", node]) => manifest(ctx, caller, node, query).await,
        (&Method::PUT, ["v1", "status"]) => status(ctx, caller, incoming).await,
        (&Method::GET, ["v1", "fact", component, name]) => fact(ctx, caller, component, name).await,
        (&Method::GET, ["v1", "watch"]) => {
            installer(caller)?;
            let (after, hold) = (query.number("after")?.unwrap_or(0), query.hold(limits.hold)?);
            let text = relay(ctx)?.watch(after, hold).await.map_err(|error| ours(&error))?;
            Ok(json(StatusCode::OK, text))
        }
        (&Method::PUT, ["v1", "manifests"]) => {
            installer(caller)?;
            let relay = relay(ctx)?;
            ok(&publish(relay, taken(ctx, incoming, limits.installer_body).await?))
        }
        (&Method::PUT, ["v1", "joins"]) => {
            installer(caller)?;
            let relay = relay(ctx)?;
            let decisions: Vec<JoinDecision> = taken(ctx, incoming, limits.installer_body).await?;
            relay.decide(decisions);
            Ok(nothing())
        }
        (&Method::GET, ["v1", "self"]) => {
            installer(caller)?;
            ok(&*ctx.status.borrow())
        }
        (&Method::GET, ["v1", "host-keys"]) => {
            installer(caller)?;
            ok(&crate::identity::join::host_keys(&ctx.identity.root))
        }
        _ => Err(Refused::not_found("there is no such call")),
    }
}

async fn join(ctx: &Context, caller: &Caller, incoming: Incoming) -> Answered {
    let relay = relay(ctx)?;
    let now = std::time::Instant::now();
    if !ctx.joins.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take(now) {
        return Err(Refused::new(StatusCode::TOO_MANY_REQUESTS, "too many join requests at a time"));
    }
    let request: JoinRequest = taken(ctx, incoming, ctx.limits.join_body).await?;
    let asked = relay.join(request, caller.from, ctx.limits.hold).await;
    ok(&asked.map_err(|full| Refused::new(StatusCode::TOO_MANY_REQUESTS, full.to_string()))?)
}

fn blob(ctx: &Context, caller: &Caller, digest: &str) -> Answered {
    let digest: Digest = named(digest)?;
    let for_anybody = ctx.identity.agent.as_ref() == Some(&digest);
    need(caller, for_anybody || caller.is_member(), "a node of this cluster")?;
    let busy =
        |_| Refused::new(StatusCode::SERVICE_UNAVAILABLE, "giving as many blobs as can be given at a time");
    let turn = ctx.blobs.clone().try_acquire_owned().map_err(busy)?;
    let opened = std::fs::File::open(ctx.depot.path(&digest)).and_then(|file| FileBody::new(file, turn));
    match opened {
        Ok(file) => Ok(Response::new(Either::Right(file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Refused::not_found("this node does not have it"))
        }
        Err(error) => Err(ours(&error)),
    }
}

async fn manifest(ctx: &Context, caller: &Caller, node: &str, query: Query<'_>) -> Answered {
    let node: NodeName = named(node)?;
    need(caller, caller.is_node(&node), node.as_str())?;
    let (after, hold) = (query.number("after")?.unwrap_or(0), query.hold(ctx.limits.hold)?);
    match relay(ctx)?.newer(&node, after, hold).await {
        Some(signed) => ok(&signed.map_err(|error| ours(&error))?),
        None => Ok(nothing()),
    }
}

async fn status(ctx: &Context, caller: &Caller, incoming: Incoming) -> Answered {
    need(caller, caller.is_member(), "a node of this cluster")?;
    let relay = relay(ctx)?;
    let status: NodeStatus = taken(ctx, incoming, ctx.limits.status_body).await?;
    need(caller, caller.is_node(&status.node), status.node.as_str())?;
    if status.cluster != ctx.identity.cluster {
        return Err(Refused::new(StatusCode::CONFLICT, "this is another cluster"));
    }
    let heard = relay.hear(&status, Some(caller.from));
    heard.map_err(|stale| Refused::new(StatusCode::CONFLICT, stale.to_string()))?;
    Ok(nothing())
}

async fn fact(ctx: &Context, caller: &Caller, component: &str, name: &str) -> Answered {
    need(caller, caller.is_member(), "a node of this cluster")?;
    let component: ComponentName = named(component)?;
    let roles = ctx.facts.roles(&component, name);
    let roles = roles.ok_or_else(|| Refused::not_found("there is no such fact here"))?;
    need(caller, roles.into_iter().any(|role| caller.has_role(role)), "a node of the fact's roles")?;
    let read = ctx.facts.read(component, name.to_owned()).await;
    ok(&read.map_err(|error| Refused::new(StatusCode::SERVICE_UNAVAILABLE, error))?)
}

fn publish(relay: &Relay, manifests: Vec<SignedManifest>) -> PublishAnswer {
    let mut answer = PublishAnswer::default();
    for signed in manifests {
        if let Err(error) = relay.publish(&signed) {
            answer.refused.insert(signed.node, chain(&error));
        }
    }
    answer
}

fn relay(ctx: &Context) -> Result<&Relay, Refused> {
    ctx.relay.as_deref().ok_or_else(|| Refused::not_found("this node is not a master"))
}

fn installer(caller: &Caller) -> Result<(), Refused> {
    need(caller, caller.is_installer(), "the installer")
}

fn need(caller: &Caller, allowed: bool, who: &str) -> Result<(), Refused> {
    match (allowed, &caller.certificate) {
        (true, _) => Ok(()),
        (false, None) => {
            Err(Refused::new(StatusCode::UNAUTHORIZED, "a certificate of this cluster is needed"))
        }
        (false, Some(_)) => Err(Refused::new(StatusCode::FORBIDDEN, format!("only {who} may ask this"))),
    }
}

fn named<T: std::str::FromStr<Err = castrum_blueprints::names::NameError>>(text: &str) -> Result<T, Refused> {
    text.parse().map_err(|error: T::Err| Refused::new(StatusCode::BAD_REQUEST, error.to_string()))
}

async fn taken<T: DeserializeOwned>(ctx: &Context, incoming: Incoming, cap: usize) -> Result<T, Refused> {
    let bytes = body::take(incoming, cap, ctx.limits.body).await?;
    serde_json::from_slice(&bytes).map_err(|error| Refused::new(StatusCode::BAD_REQUEST, error.to_string()))
}

/// Something that is our fault.
fn ours(error: &dyn std::error::Error) -> Refused {
    error!(error = chain(error), "cannot answer");
    Refused::new(StatusCode::INTERNAL_SERVER_ERROR, chain(error))
}

fn ok(value: &impl Serialize) -> Answered {
    let text = serde_json::to_vec(value).map_err(|error| ours(&error))?;
    Ok(json(StatusCode::OK, text.into()))
}

fn json(status: StatusCode, text: Bytes) -> Response<Reply> {
    let mut response = Response::new(Either::Left(Full::new(text)));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn nothing() -> Response<Reply> {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// The part of a URL after `?`, of which only numbers are understood.
struct Query<'a>(&'a str);

impl Query<'_> {
    fn number(&self, name: &str) -> Result<Option<u64>, Refused> {
        let pairs = self.0.split('&').filter_map(|pair| pair.split_once('='));
        let Some((_, value)) = pairs.into_iter().find(|(key, _)| *key == name) else { return Ok(None) };
        let wrong = |_| Refused::new(StatusCode::BAD_REQUEST, format!("`{name}` is not a number"));
        value.parse().map(Some).map_err(wrong)
    }

    /// How long the caller wants the answer to be held back, at most `most`.
    fn hold(&self, most: Duration) -> Result<Duration, Refused> {
        Ok(self.number("wait")?.map_or(most, |seconds| Duration::from_secs(seconds).min(most)))
    }
}
