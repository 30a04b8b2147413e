//! How a node says how it is: at once when something changed, every few seconds anyway, to one master at a time.

use std::sync::Arc;
use std::time::Duration;

use castrum_blueprints::status::NodeStatus;
use hyper::Method;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use super::client::{self, Call, Line};
use super::pace::Backoff;
use super::{Context, chain};
use crate::http::HttpError;

/// Silence that is longer means that the node is in trouble.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// What changes within this time is said together.
const TOGETHER: Duration = Duration::from_millis(50);
const TIME: Duration = Duration::from_secs(3);
const CAP: usize = 64 * 1024;

/// Reports the node's status to the masters. It runs until it is dropped, or nobody can change the status any more.
pub async fn report(ctx: Arc<Context>) {
    let mut status = ctx.status.clone();
    let mut line = Line::default();
    loop {
        say(&ctx, &mut line, &mut status).await;
        let said = Instant::now();
        if matches!(tokio::time::timeout_at(said + HEARTBEAT, status.changed()).await, Ok(Err(_))) {
            return;
        }
        tokio::time::sleep_until(said + TOGETHER).await;
    }
}

/// Until somebody has heard it. What changes meanwhile is in what is said next.
async fn say(ctx: &Context, line: &mut Line, status: &mut watch::Receiver<NodeStatus>) {
    if let Some(relay) = &ctx.relay {
        let own = status.borrow_and_update().clone();
        let heard = relay.hear(&own, ctx.identity.address().ok());
        if let Err(error) = heard {
            warn!(error = chain(&error), "the relay of this node does not take its status");
        }
        return;
    }
    let mut backoff = Backoff::default();
    let mut left = ctx.masters.all().len();
    loop {
        let master = ctx.masters.any().await;
        let text = serde_json::to_vec(&*status.borrow_and_update()).expect("a status is plain data");
        let call = Call {
            method: Method::PUT,
            path: "/v1/status",
            body: Some(text.into()),
            timeout: TIME,
            cap: CAP,
        };
        let heard: Result<(), HttpError> = match line.call(ctx, &master, call).await {
            Ok(answer) => client::good(master.name.as_str(), &answer),
            Err(error) => Err(error),
        };
        let Err(error) = heard else { return };
        warn!(master = %master.name, error = chain(&error), "cannot report the status");
        ctx.masters.failed(&master);
        left = left.saturating_sub(1);
        if left == 0 {
            tokio::time::sleep(backoff.next()).await;
            left = ctx.masters.all().len();
        }
    }
}
