//! Pinning: every component's packages and bundle, and the agent's program, resolved once and written to the lock file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use castrum_blueprints::desired::RELEASE;
use castrum_blueprints::event::What;
use castrum_blueprints::lock::{Lock, LockedComponent, LockedImage, LockedPackage, LockedStack};
use castrum_blueprints::manifest::Blob;
use castrum_blueprints::names::{ComponentName, SiteName};
use castrum_blueprints::stack::{Stack, StackFiles};
use castrum_provider::Failure;

use crate::artifacts::{Apt, ArtifactError, Cache, Order, Progress, bundle_all, fetch, orders, resolve};
use crate::engine::Sites;
use crate::events::Events;

/// Why something cannot be pinned.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// An artifact cannot be had.
    #[error("cannot get the platform's packages")]
    Artifact(#[from] ArtifactError),
    /// The agent's program is missing.
    #[error("the node agent `castrum-agent` is not beside `castrum`, and `CASTRUM_AGENT` names none")]
    NoAgent,
    /// A place does not tell the image that machines start from.
    #[error("site `{site}`: the image of {RELEASE} cannot be found")]
    Image {
        /// The site.
        site: SiteName,
        /// Why.
        source: Failure,
    },
    /// The bundle that was made is not the one that is pinned.
    #[error("the bundle of {component} has the digest {made}, and the lock file pins {pinned}")]
    OtherBundle {
        /// The component.
        component: ComponentName,
        /// What was made.
        made: String,
        /// What is pinned.
        pinned: String,
    },
}

/// Pins what is not pinned, and brings what is pinned into the cache.
pub async fn pin(
    (stack, files): (&Stack, &StackFiles),
    lock: &mut Lock,
    cache: &Cache,
    events: &Events,
) -> Result<(), PinError> {
    pin_agent(lock, cache)?;
    let orders = orders(stack, files)?;
    lock.components.retain(|name, _| orders.contains_key(name));
    resolve_new(&orders, lock, cache, events).await?;
    bundle_missing(&orders, lock, cache, events).await?;
    let (name, version, digest) = (stack.name.clone(), stack.version.clone(), stack.digest.clone());
    lock.stack = Some(LockedStack { name, version, digest });
    Ok(())
}

/// Pins the image of every site whose place has images of its own: a newer one that appears later changes nothing.
pub async fn pin_images(sites: &Sites, lock: &mut Lock) -> Result<(), PinError> {
    let has_images = |site: &SiteName| sites.0.get(site).is_some_and(|provider| provider.images().is_some());
    lock.images.retain(|site, image| has_images(site) && image.release == RELEASE);
    for (site, provider) in &sites.0 {
        let Some(images) = provider.images().filter(|_| !lock.images.contains_key(site)) else { continue };
        let found = images.find(RELEASE).await;
        let id = found.map_err(|source| PinError::Image { site: site.clone(), source })?;
        lock.images.insert(site.clone(), LockedImage { release: RELEASE.to_owned(), id });
    }
    Ok(())
}

/// Pins the node agent that is here.
pub fn pin_agent(lock: &mut Lock, cache: &Cache) -> Result<(), PinError> {
    lock.agent = Some(cache.adopt(&agent_program()?)?);
    Ok(())
}

async fn resolve_new(
    orders: &BTreeMap<ComponentName, Order>,
    lock: &mut Lock,
    cache: &Cache,
    events: &Events,
) -> Result<(), PinError> {
    let is_new = |name: &ComponentName, order: &Order| {
        lock.components.get(name).and_then(|locked| locked.source.as_ref()) != Some(&order.digest())
    };
    let new: BTreeMap<ComponentName, Order> = orders
        .iter()
        .filter(|(name, order)| is_new(name, order))
        .map(|(name, order)| (name.clone(), order.clone()))
        .collect();
    if new.is_empty() {
        return Ok(());
    }
    let id = "resolve packages".to_owned();
    events.say(What::StepStarted {
        id: id.clone(),
        reason: format!("{} components are not pinned", new.len()),
    });
    let resolved = resolve(&Apt::default(), cache, &new).await?;
    let count: usize = resolved.values().map(Vec::len).sum();
    events.say(What::StepDone { id, outcome: format!("{count} packages") });
    for (name, order) in new {
        let packages = resolved.get(&name).cloned().unwrap_or_default();
        lock.components
            .insert(name, LockedComponent { source: Some(order.digest()), packages, bundle: None });
    }
    Ok(())
}

async fn bundle_missing(
    orders: &BTreeMap<ComponentName, Order>,
    lock: &mut Lock,
    cache: &Cache,
    events: &Events,
) -> Result<(), PinError> {
    let here = |name: &ComponentName| {
        let bundle = lock.components.get(name).and_then(|locked| locked.bundle.as_ref());
        bundle.is_some_and(|bundle| cache.blob(&bundle.digest).is_some())
    };
    let wanted: BTreeMap<ComponentName, Order> = orders
        .iter()
        .filter(|(name, _)| !here(name))
        .map(|(name, order)| (name.clone(), order.clone()))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let packages =
        |name: &ComponentName| lock.components.get(name).map(|l| l.packages.clone()).unwrap_or_default();
    let locked: BTreeMap<ComponentName, Vec<LockedPackage>> =
        wanted.keys().map(|name| (name.clone(), packages(name))).collect();
    let id = "fetch and bundle components".to_owned();
    events
        .say(What::StepStarted { id: id.clone(), reason: format!("{} bundles are not here", wanted.len()) });
    let listener = |progress: Progress| {
        let id = format!("{:?} {}", progress.stage, progress.artifact).to_lowercase();
        events.say(What::StepProgress { id, done: progress.done, total: progress.total });
    };
    fetch(&Apt::default(), cache, &wanted, &locked, &listener).await?;
    let bundles = bundle_all(cache, &wanted, &locked, &listener).await?;
    let bytes: u64 = bundles.values().map(|bundle| bundle.size).sum();
    events.say(What::StepDone { id, outcome: format!("{} MiB", bytes >> 20) });
    for (name, bundle) in bundles {
        if let Some(locked) = lock.components.get_mut(&name) {
            take_bundle(&name, locked, bundle)?;
        }
    }
    Ok(())
}

fn take_bundle(name: &ComponentName, locked: &mut LockedComponent, made: Blob) -> Result<(), PinError> {
    match &locked.bundle {
        Some(pinned) if pinned.digest != made.digest => Err(PinError::OtherBundle {
            component: name.clone(),
            made: made.digest.to_string(),
            pinned: pinned.digest.to_string(),
        }),
        _ => {
            locked.bundle = Some(made);
            Ok(())
        }
    }
}

/// `CASTRUM_AGENT`, or `castrum-agent` beside this program.
fn agent_program() -> Result<PathBuf, PinError> {
    let named = std::env::var_os("CASTRUM_AGENT").map(PathBuf::from);
    let beside = || std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("castrum-agent")));
    named.or_else(beside).filter(|path: &PathBuf| Path::is_file(path)).ok_or(PinError::NoAgent)
}
