//! The place below a cluster: where its machines are, their power, and the keyring that opens them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use castrum::keyring::{KeyringFile, Unlock};
use castrum::link::{ClientTls, Direct, MasterClient};
use castrum::trust::Trust;
use castrum_blueprints::manifest::AGENT_PORT;
use castrum_blueprints::names::{ResourceKind, ResourcePath, SiteName};
use castrum_blueprints::status::{NodeStatus, Phase};
use castrum_blueprints::wire::{HeardStatus, WatchAnswer};
use castrum_provider::{PowerState, Provider};
use castrum_provider_local::{Local, LocalOptions};

use super::{World, program, until};

/// A runtime for one question.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

impl World {
    fn local(&self) -> Local {
        let options = LocalOptions { launcher: program(), ..LocalOptions::default() };
        Local::new(self.id(), site(), options)
    }

    /// The address and power of each machine that exists.
    pub fn machines(&self) -> BTreeMap<String, (IpAddr, PowerState)> {
        let observation = block_on(self.local().observe());
        assert!(observation.blind.is_empty(), "{:?}", observation.blind);
        let machines = observation.seen.into_values().filter_map(|seen| {
            let machine = seen.machine?;
            Some((seen.path.name, (machine.address?, machine.power)))
        });
        machines.collect()
    }

    /// The address of a machine.
    pub fn address(&self, node: &str) -> IpAddr {
        self.machines()[node].0
    }

    /// Switches, pauses or thaws machines, all at once.
    pub fn set_power(&self, nodes: &[&str], wanted: PowerState) {
        let local = self.local();
        let paths = nodes.iter().map(|name| ResourcePath {
            site: site(),
            kind: ResourceKind::Machine,
            name: (*name).to_owned(),
        });
        let power = local.power().expect("machines here have a switch");
        block_on(async {
            let set = paths.map(|path| async move { power.set(&path, wanted).await });
            for done in futures_util::future::join_all(set).await {
                done.expect("the switch works");
            }
        });
    }

    /// The sealed keyring.
    pub fn keyring(&self) -> KeyringFile {
        self.keyring_in(self.dir())
    }

    /// The sealed keyring of a copy of the project folder.
    pub fn keyring_in(&self, dir: &Path) -> KeyringFile {
        let config = self.dir().join("config");
        let env = move |name: &str| (name == "XDG_CONFIG_HOME").then(|| OsString::from(&config));
        let unlock = Unlock::from_env(&self.id(), &env).expect("a key beside the keyring");
        KeyringFile::new(dir.join(".castrum/keyring"), self.id(), unlock)
    }

    /// The keyring in use.
    pub fn trust(&self) -> Trust {
        Trust::open(self.keyring(), Vec::new()).expect("the keyring opens")
    }

    /// The API of a master, as the installer calls it.
    pub fn master(&self, node: &str) -> MasterClient {
        let trust = self.trust();
        let identity = trust.identity().expect("a certificate");
        let tls = ClientTls::from_pem(&identity.certificate.pem, &identity.private_key_pem(), trust.ca_pem());
        let way = Direct(SocketAddr::new(self.address(node), AGENT_PORT));
        MasterClient::new(node.parse().expect("a name"), Arc::new(way), tls.expect("an identity"))
            .connect_within(Duration::from_secs(3))
    }

    /// Everything that the masters know, those of them that answer.
    pub fn watch(&self) -> Vec<WatchAnswer> {
        let masters: Vec<_> = self
            .nodes()
            .iter()
            .filter(|node| node.starts_with("masters-"))
            .map(|node| self.master(node))
            .collect();
        let answers = block_on(async {
            futures_util::future::join_all(masters.iter().map(|master| master.watch(0))).await
        });
        answers.into_iter().filter_map(Result::ok).collect()
    }

    /// The last word of each node that is heard by any master.
    pub fn statuses(&self) -> BTreeMap<String, HeardStatus> {
        let mut newest: BTreeMap<String, HeardStatus> = BTreeMap::new();
        for heard in self.watch().into_iter().flat_map(|answer| answer.statuses) {
            let node = heard.status.node.to_string();
            if newest.get(&node).is_none_or(|known| known.age_ms > heard.age_ms) {
                newest.insert(node, heard);
            }
        }
        newest
    }

    /// Waits until the masters hear every node of `nodes`, each new enough and healthy in all its components.
    pub fn await_healthy(&self, within: Duration, nodes: &[&str], fresh: impl Fn(&NodeStatus) -> bool) {
        until(within, "healthy nodes", || {
            let statuses = self.statuses();
            let unwell = nodes.iter().filter_map(|name| match statuses.get(*name) {
                None => Some(format!("{name} is not heard")),
                Some(heard) if heard.age_ms > 10_000 => {
                    Some(format!("{name} is silent for {} ms", heard.age_ms))
                }
                Some(heard) if !fresh(&heard.status) => Some(format!("nothing new of {name}")),
                Some(heard) => unwell(&heard.status),
            });
            let unwell: Vec<_> = unwell.collect();
            unwell.is_empty().then_some(()).ok_or_else(|| unwell.join("; "))
        });
    }
}

fn unwell(status: &NodeStatus) -> Option<String> {
    let node = &status.node;
    if let Some(problem) = &status.problem {
        return Some(format!("{node}: {problem}"));
    }
    let mut components = status.components.iter();
    match components.find(|(_, component)| component.phase != Phase::Healthy) {
        Some((name, component)) => {
            Some(format!("{name} on {node} is {}: {:?}", component.phase, component.note))
        }
        None => status.components.is_empty().then(|| format!("{node} has no components")),
    }
}

fn site() -> SiteName {
    "here".parse().expect("a name")
}
