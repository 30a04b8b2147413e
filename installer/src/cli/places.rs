//! From a provider's name to a provider: one of those that are linked in, or an executable.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use castrum_blueprints::blueprint::{ExistingMachine, Port};
use castrum_blueprints::names::{ClusterId, ResourcePath, SiteName};
use castrum_provider::conformance::Opened;
use castrum_provider::{Deadlines, EXECUTABLE_PREFIX, Executable, Failure, Hello, ProcessProvider};
use castrum_provider_local::{Local, LocalOptions};
use castrum_provider_sim::{Sim, World};
use castrum_provider_ssh::Ssh;
use serde_json::Value;

use super::context::ssh_options;
use super::fault::{Fault, code};

/// The name of the provider whose time is virtual.
pub(super) const SIM: &str = "sim";
/// The providers that are linked in; their names come before any executable's.
pub(super) const BUILT_IN: [&str; 3] = ["local", SIM, "ssh"];

/// Whether a provider is linked in.
pub(super) fn is_built_in(name: &str) -> bool {
    BUILT_IN.contains(&name)
}

/// One site, as a provider is told of it.
pub(super) struct Place<'a> {
    /// The cluster.
    pub(super) cluster: &'a ClusterId,
    /// The site.
    pub(super) site: &'a SiteName,
    /// What the blueprint says of it.
    pub(super) settings: &'a BTreeMap<String, Value>,
    /// Its machines that exist already.
    pub(super) machines: BTreeMap<ResourcePath, ExistingMachine>,
    /// What will listen on them.
    pub(super) listening: BTreeMap<ResourcePath, BTreeSet<Port>>,
    /// The world that simulated sites share.
    pub(super) world: &'a Arc<World>,
}

/// Why a provider cannot be had.
pub(super) enum OpenError {
    /// There is no such provider.
    Missing(MissingProvider),
    /// It does not start, or does not take the site.
    Failed(Failure),
    /// Anything else.
    Other(Fault),
}

impl OpenError {
    /// The end of a command; `lead` says for what the provider was wanted.
    pub(super) fn into_fault(self, lead: &str) -> Fault {
        match self {
            Self::Missing(missing) => {
                Fault::new(code::ERROR, format!("{lead}{missing}")).hint(missing_hint())
            }
            Self::Failed(failure) => {
                Fault::from(Failure { message: format!("{lead}{}", failure.message), ..failure })
            }
            Self::Other(fault) => fault,
        }
    }
}

/// A provider that is neither linked in nor found.
#[derive(Debug, thiserror::Error)]
#[error("there is no provider `{name}`: `{EXECUTABLE_PREFIX}{name}` was not found in {}", shown(.places))]
pub(super) struct MissingProvider {
    name: String,
    places: Vec<PathBuf>,
}

/// What helps where there is no such provider.
pub(super) fn missing_hint() -> String {
    format!(
        "use {}, or put the executable beside `castrum` or into a folder of `PATH`; see `castrum provider list`",
        BUILT_IN.map(|name| format!("`{name}`")).join(", ")
    )
}

fn shown(places: &[PathBuf]) -> String {
    places.iter().map(|place| format!("`{}`", place.display())).collect::<Vec<_>>().join(", ")
}

/// Where executables are looked for: beside this program, then on `PATH`. A folder that is not named from the root could
/// be anybody's.
pub(super) fn folders() -> Vec<PathBuf> {
    let own = std::env::current_exe().ok().and_then(|program| Some(program.parent()?.to_owned()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = own.into_iter().collect();
    for folder in std::env::split_paths(&path).filter(|folder| folder.is_absolute()) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// The provider `name` for one site.
pub(super) async fn open(name: &str, place: Place<'_>) -> Result<Opened, OpenError> {
    let (cluster, site) = (place.cluster.clone(), place.site.clone());
    match name {
        "local" => Ok(Opened::here(Local::new(cluster, site, LocalOptions::default()))),
        "ssh" => {
            let options = ssh_options().map_err(OpenError::Other)?;
            Ok(Opened::here(Ssh::new(cluster, place.machines, options).listening(place.listening)))
        }
        SIM => {
            let sim = Sim::new(place.world, site, place.settings);
            let fault = |error| OpenError::Other(Fault::of(code::BLUEPRINT, &error));
            Ok(Opened::here(sim.map_err(fault)?))
        }
        other => {
            let places = folders();
            let Some(executable) = Executable::find(other, &places) else {
                return Err(OpenError::Missing(MissingProvider { name: other.to_owned(), places }));
            };
            let hello = Hello::new(cluster, site, place.settings.clone());
            let started = ProcessProvider::start(executable, hello, Deadlines::default()).await;
            Ok(Opened::process(started.map_err(OpenError::Failed)?))
        }
    }
}
