//! Filling a master's depot: each blob is streamed from its file, and verified by the agent while it is written.

use std::time::Duration;

use castrum_blueprints::boot::AGENT_FILE;
use castrum_blueprints::manifest::Blob;
use castrum_blueprints::names::NodeName;
use castrum_provider::{Failure, FailureClass};
use castrum_provider_ssh::transport::{Limits, Stdin};

use super::Shared;
use super::login::classify;

pub(super) async fn fill(
    shared: &Shared,
    node: &NodeName,
    blobs: &[Blob],
    sent: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), Failure> {
    let reach = shared.reach_of(node).ok_or_else(|| {
        Failure::new(FailureClass::NotReady, format!("it is not known where {node} is reached"))
    })?;
    let session = shared.session(&reach).await?;
    let failed = |error| classify(&error, false);
    for blob in blobs {
        let path = shared.blobs.blob_path(&blob.digest);
        let file = tokio::fs::File::open(&path).await.map_err(|error| {
            let message = format!("cannot read the bundle `{}`: {error}", path.display());
            Failure::new(FailureClass::Invalid, message)
                .with_hint("run `castrum apply` again to make it anew")
        })?;
        let command = session.as_root(&format!("{AGENT_FILE} depot put {}", blob.digest)).map_err(failed)?;
        // A slow line of 1 MiB/s is still served.
        let deadline = Duration::from_secs(120 + blob.size / (1 << 20));
        session.check(&command, Stdin::reader(file), &Limits::within(deadline)).await.map_err(failed)?;
        sent(blob.size);
    }
    Ok(())
}
