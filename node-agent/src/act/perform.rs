//! One action after the other, from the word to the deed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use castrum_blueprints::manifest::{ComponentManifest, Manifest};
use castrum_blueprints::names::{ComponentName, Digest};
use castrum_blueprints::node::{Action, store_name};

use super::accounts::{self, AccountError};
use super::files::{FileError, remove, remove_whole};
use super::join::{JoinError, join};
use super::sets::{activate, configure, folder, unit_link};
use super::systemd::{Systemd, SystemdError};
use super::unpack::{UnpackError, unpack};
use crate::api::{Context, apart};
use crate::depot::{DepotError, FetchError};
use crate::identity::Tls;
use crate::paths::Paths;

/// Why an action failed.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The blob did not come.
    #[error("fetch")]
    Fetch(#[source] Arc<FetchError>),
    /// The bundle was not unpacked.
    #[error("unpack")]
    Unpack(#[source] UnpackError),
    /// Files were not laid down, switched or removed.
    #[error("lay down files")]
    Files(#[from] FileError),
    /// The account was not made.
    #[error("make an account")]
    Account(#[from] AccountError),
    /// The service manager did not do it.
    #[error(transparent)]
    Systemd(#[from] SystemdError),
    /// The node did not become a member.
    #[error("become a member")]
    Join(#[from] JoinError),
    /// Blobs were not removed.
    #[error("remove blobs")]
    Depot(#[source] DepotError),
    /// The manifest has changed since it was decided.
    #[error("the manifest no longer names `{0}`")]
    Outdated(String),
    /// There was no thread for work that waits for the disk.
    #[error("no thread for work on the disk")]
    NoThread,
}

/// What actions are done with.
#[derive(Debug, Clone)]
pub struct Actor {
    /// Where everything lies.
    pub paths: Paths,
    /// Other agents, and the depot.
    pub context: Arc<Context>,
    /// What the node shows and trusts.
    pub tls: Tls,
    /// The service manager.
    pub systemd: Systemd,
}

impl Actor {
    /// Does what was decided for `manifest`.
    pub async fn perform(&self, manifest: &Manifest, action: &Action) -> Result<(), ActError> {
        match action {
            Action::Fetch { blob, .. } => {
                self.context.depot.fetch(blob).await.map_err(ActError::Fetch)?;
                Ok(())
            }
            Action::Unpack { component, blob } => {
                let bundle = self.context.depot.path(&blob.digest);
                let target = self.paths.store().join(store_name(component, blob));
                let done = apart(move || unpack(&bundle, &target)).await.ok_or(ActError::NoThread)?;
                done.map_err(ActError::Unpack)
            }
            Action::Account { account, .. } => Ok(accounts::make(&self.paths, account).await?),
            Action::Folder { component, path } => self.make_folder(named(manifest, component)?, path),
            Action::Configure { component, tree } => {
                Ok(configure(&self.paths, named(manifest, component)?, tree)?)
            }
            Action::Activate { set } => Ok(activate(&self.paths, manifest, set)?),
            Action::Reload { .. } => Ok(self.systemd.reload().await?),
            Action::Start { component, .. } => Ok(self.systemd.start(component).await?),
            Action::Restart { component, .. } => Ok(self.systemd.restart(component).await?),
            Action::Stop { component } => Ok(self.systemd.stop(component).await?),
            Action::Forget { component } => Ok(remove(&unit_link(&self.paths, component))?),
            Action::Join { component } => {
                Ok(join(&self.context, &self.tls, named(manifest, component)?).await?)
            }
            Action::Collect { stores, configs, sets, blobs } => {
                self.collect([
                    (self.paths.sets(), sets),
                    (self.paths.store(), stores),
                    (self.paths.config(), configs),
                ])
                .await?;
                self.drop_blobs(blobs)
            }
        }
    }

    fn make_folder(&self, component: &ComponentManifest, path: &str) -> Result<(), ActError> {
        let found = component.folders.iter().find(|folder| folder.path == *path);
        let made = found.ok_or_else(|| ActError::Outdated(path.to_owned()))?;
        Ok(folder(&self.paths, made, accounts::ids(&self.paths, &made.owner)?)?)
    }

    async fn collect(&self, garbage: [(PathBuf, &BTreeSet<String>); 3]) -> Result<(), ActError> {
        let all = garbage.into_iter().flat_map(|(dir, names)| names.iter().map(move |name| dir.join(name)));
        let all: Vec<PathBuf> = all.collect();
        let removed = apart(move || all.iter().try_for_each(|path| remove_whole(path))).await;
        Ok(removed.ok_or(ActError::NoThread)??)
    }

    fn drop_blobs(&self, blobs: &BTreeSet<Digest>) -> Result<(), ActError> {
        if blobs.is_empty() {
            return Ok(());
        }
        let kept: BTreeSet<Digest> = self.context.depot.held().difference(blobs).cloned().collect();
        self.context.depot.collect(&kept, Duration::ZERO).map_err(ActError::Depot)
    }
}

fn named<'a>(manifest: &'a Manifest, component: &ComponentName) -> Result<&'a ComponentManifest, ActError> {
    let found = manifest.components.iter().find(|c| c.name == *component);
    found.map(AsRef::as_ref).ok_or_else(|| ActError::Outdated(component.to_string()))
}
