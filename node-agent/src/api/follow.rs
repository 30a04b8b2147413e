//! How a node gets its manifest: it asks a master for one that is newer than its own, and the answer comes when there is
//! one. What does not verify is never passed on, or one lying master could end the talk with a generation that nothing
//! is newer than.

use std::sync::Arc;
use std::time::Duration;

use castrum_blueprints::manifest::{Peer, SignedManifest};
use hyper::Method;
use tokio::sync::watch;
use tracing::{info, warn};

use super::client::{self, Call, Line};
use super::pace::Backoff;
use super::relay::Relay;
use super::{Context, chain};
use crate::http::HttpError;

const CAP: usize = 8 * 1024 * 1024;
/// What a held-back answer may take on top of the time that it is held back for.
const SLACK: Duration = Duration::from_secs(5);
/// After so many answers of nothing new another master is asked: this one may have missed something.
const PATIENCE: u32 = 8;
/// How often a master, which has its own relay, asks the others: one that was away while something was published is
/// waited for until it has found out.
const LOOK_AROUND: Duration = Duration::from_secs(15);

/// Puts each newer manifest of this node into `tx`, beginning after the one that is in it. It runs until it is dropped.
pub async fn follow(ctx: Arc<Context>, tx: watch::Sender<Option<SignedManifest>>) {
    match &ctx.relay {
        Some(relay) => {
            tokio::join!(follow_own(&ctx, relay, &tx), look_around(&ctx, relay, &tx));
        }
        None => follow_masters(&ctx, &tx).await,
    }
}

fn held(tx: &watch::Sender<Option<SignedManifest>>) -> u64 {
    tx.borrow().as_ref().map_or(0, |signed| signed.generation)
}

fn pass_on(tx: &watch::Sender<Option<SignedManifest>>, signed: SignedManifest) {
    if signed.generation > held(tx) {
        info!(generation = signed.generation, "a newer manifest came");
        tx.send_replace(Some(signed));
    }
}

/// A master is its own relay.
async fn follow_own(ctx: &Context, relay: &Relay, tx: &watch::Sender<Option<SignedManifest>>) {
    let mut backoff = Backoff::default();
    loop {
        match relay.newer(&ctx.identity.node, held(tx), ctx.limits.hold).await {
            Some(Ok(signed)) => {
                backoff.reset();
                pass_on(tx, signed);
            }
            None => {}
            Some(Err(error)) => {
                warn!(error = chain(&error), "cannot read the manifest that is relayed here");
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
}

/// What was published while a master was away, the others have.
async fn look_around(ctx: &Context, relay: &Relay, tx: &watch::Sender<Option<SignedManifest>>) {
    let mut line = Line::default();
    loop {
        for master in ctx.masters.all() {
            match ask(ctx, &mut line, &master, (held(tx), Duration::ZERO)).await {
                Ok(Some(signed)) => match relay.publish(&signed) {
                    Ok(()) => pass_on(tx, signed),
                    Err(error) => warn!(master = %master.name, error = chain(&error), "got a wrong manifest"),
                },
                Ok(None) => {}
                Err(error) => {
                    warn!(master = %master.name, error = chain(&error), "cannot ask for the manifest");
                }
            }
        }
        line = Line::default();
        tokio::time::sleep(LOOK_AROUND).await;
    }
}

async fn follow_masters(ctx: &Context, tx: &watch::Sender<Option<SignedManifest>>) {
    let mut line = Line::default();
    let mut backoff = Backoff::default();
    let mut nothing = 0;
    loop {
        let master = ctx.masters.any().await;
        let asked = tokio::select! {
            asked = ask(ctx, &mut line, &master, (held(tx), ctx.limits.hold)) => asked,
            // Somebody else of this agent found that it is dead.
            () = ctx.masters.left(&master) => continue,
        };
        match asked {
            Ok(Some(signed)) => {
                nothing = 0;
                backoff.reset();
                pass_on(tx, signed);
            }
            Ok(None) => {
                nothing += 1;
                backoff.reset();
                if nothing % PATIENCE == 0 {
                    ctx.masters.failed(&master);
                }
            }
            Err(error) => {
                warn!(master = %master.name, error = chain(&error), "cannot ask for the manifest");
                ctx.masters.failed(&master);
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
}

/// The manifest that is newer than `after`, if `master` has one within `hold`.
async fn ask(
    ctx: &Context,
    line: &mut Line,
    master: &Peer,
    (after, hold): (u64, Duration),
) -> Result<Option<SignedManifest>, HttpError> {
    let path = format!("/v1/manifest/{}?after={after}&wait={}", ctx.identity.node, hold.as_secs());
    let call = Call { method: Method::GET, path: &path, body: None, timeout: hold + SLACK, cap: CAP };
    let answer = line.call(ctx, master, call).await?;
    let to = master.name.as_str();
    if answer.status == 204 {
        return Ok(None);
    }
    let signed: SignedManifest = client::understood(to, &answer)?;
    let wrong = |error: String| HttpError::Status { to: to.to_owned(), status: answer.status, error };
    let manifest = ctx.identity.verify(&signed).map_err(|error| wrong(chain(&error)))?;
    if manifest.node != ctx.identity.node || signed.generation <= after {
        return Err(wrong("a manifest that was not asked for".to_owned()));
    }
    Ok(Some(signed))
}
