//! The contract's verbs over machines that exist already. A machine is not made but claimed, not destroyed but released.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use castrum_blueprints::blueprint::{ExistingMachine, Port};
use castrum_blueprints::names::{ClusterId, Digest, ResourceKind, ResourcePath, SiteName, Timestamp};
use castrum_provider::{
    Abilities, Change, Ensured, Failure, FailureClass, MachineSeen, MachineSpec, Observation, PowerState,
    Provider, Removed, ResourceSeen, ResourceSpec, Wanted, now,
};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};

use crate::machine::{Said, SshOptions, run_script};
use crate::owner::{Label, Owner};

const LOOK: &str = include_str!("scripts/look.sh");
const CHECK: &str = include_str!("scripts/check.sh");
const CLAIM: &str = include_str!("scripts/claim.sh");
const RELEASE: &str = include_str!("scripts/release.sh");

/// The machines of one site of one cluster.
#[derive(Debug)]
pub struct Ssh {
    cluster: ClusterId,
    machines: BTreeMap<ResourcePath, ExistingMachine>,
    listening: BTreeMap<ResourcePath, BTreeSet<Port>>,
    options: SshOptions,
}

/// The machines that `resources` declare in `site`.
pub fn machines_of(
    resources: &BTreeMap<ResourcePath, ResourceSpec>,
    site: &SiteName,
) -> BTreeMap<ResourcePath, ExistingMachine> {
    let in_site = resources.iter().filter(|(path, _)| path.site == *site);
    in_site.filter_map(|(path, spec)| Some((path.clone(), existing(spec)?.1.clone()))).collect()
}

fn existing(spec: &ResourceSpec) -> Option<(&MachineSpec, &ExistingMachine)> {
    match spec {
        ResourceSpec::Machine(machine) => Some((machine, machine.existing.as_ref()?)),
        _ => None,
    }
}

impl Ssh {
    /// The site of `cluster` that consists of `machines`. Nothing is asked of them yet.
    pub fn new(
        cluster: ClusterId,
        machines: BTreeMap<ResourcePath, ExistingMachine>,
        options: SshOptions,
    ) -> Self {
        Self { cluster, machines, listening: BTreeMap::new(), options }
    }

    /// With the ports that nodes will listen on, which `preflight` then wants to be free.
    #[must_use]
    pub fn listening(self, listening: BTreeMap<ResourcePath, BTreeSet<Port>>) -> Self {
        Self { listening, ..self }
    }

    /// Runs a script on all machines, at most so many at once as the options say.
    async fn everywhere(
        &self,
        script: &'static str,
        arguments: impl Fn(&ResourcePath) -> Vec<String> + Sync,
    ) -> Vec<(&ResourcePath, &ExistingMachine, Result<Said, Failure>)> {
        let mut runs: Vec<BoxFuture<'_, _>> = Vec::new();
        for (path, machine) in &self.machines {
            let arguments = arguments(path);
            let run = async move {
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                (path, machine, run_script(&self.options, machine, script, &arguments).await)
            };
            runs.push(run.boxed());
        }
        stream::iter(runs).buffer_unordered(self.options.parallel.max(1)).collect().await
    }

    async fn release(&self, path: &ResourcePath, machine: &ExistingMachine) -> Result<Removed, Failure> {
        let resource = path.to_string();
        let said = run_script(&self.options, machine, RELEASE, &[self.cluster.as_str(), &resource]).await?;
        match said.text.split_once('\n').map(|(done, _)| done) {
            Some("removed") => Ok(Removed::Removed),
            // Another's machine is not this resource, so this resource does not exist there.
            Some("absent" | "refused") => Ok(Removed::Absent),
            _ => Err(unexpected(machine, &said.text)),
        }
    }

    fn not_ours(&self, path: &ResourcePath, machine: &ExistingMachine, label: &Label) -> Failure {
        let (whose, hint) = match label {
            Label::Of(owner) if owner.cluster == self.cluster => (
                format!("is `{}` of this cluster already", owner.resource),
                "keep the machines of a group in their order, and add new ones at the end",
            ),
            Label::Of(owner) => (
                format!("belongs to the cluster {}, as `{}`", owner.cluster, owner.resource),
                "destroy that cluster first",
            ),
            _ => (
                "has an owner label that cannot be read".to_owned(),
                "look at `/etc/castrum/owner` there; remove it if nobody needs the machine",
            ),
        };
        let message = format!("machine `{}` cannot become `{path}`: it {whose}", machine.address);
        Failure::new(FailureClass::NotOurs, message).with_hint(hint)
    }
}

#[async_trait]
impl Provider for Ssh {
    fn abilities(&self) -> Abilities {
        Abilities {
            provider: "ssh".to_owned(),
            kinds: vec![ResourceKind::Machine],
            boot_data: false,
            power: false,
            ..Abilities::default()
        }
    }

    async fn observe(&self) -> Observation {
        let taken_at = now();
        let mut seen = BTreeMap::new();
        for (path, machine, said) in self.everywhere(LOOK, |_| Vec::new()).await {
            let found = match said {
                // A machine is no more blind than another is dark: it exists, and it is not ready.
                Err(failure) => Some(unseen(path, machine, &failure, taken_at)),
                Ok(said) => match Label::parse(&said.text) {
                    Label::Of(owner) if owner.cluster == self.cluster => {
                        Some(claimed(machine, owner, said.own_address))
                    }
                    _ => None,
                },
            };
            if let Some(found) = found {
                keep(&mut seen, found);
            }
        }
        Observation { seen, blind: Vec::new(), taken_at }
    }

    async fn ensure(&self, wanted: &Wanted) -> Result<Ensured, Failure> {
        let Some((_, machine)) = existing(&wanted.spec) else {
            let message = format!("`{}`: only machines that are listed can be used here", wanted.path);
            return Err(Failure::new(FailureClass::Unsupported, message)
                .with_hint("list the machines of the group with their addresses"));
        };
        let (path, spec, now) = (wanted.path.to_string(), wanted.spec.digest(), now().0.to_string());
        let arguments = [self.cluster.as_str(), &path, spec.as_str(), &now];
        let said = run_script(&self.options, machine, CLAIM, &arguments).await?;
        let (done, label) = said.text.split_once('\n').unwrap_or((&said.text, ""));
        let change = match done {
            "created" => Change::Created,
            "changed" => Change::Changed,
            "unchanged" => Change::Unchanged,
            "refused" => return Err(self.not_ours(&wanted.path, machine, &Label::parse(label))),
            _ => return Err(unexpected(machine, &said.text)),
        };
        match Label::parse(label) {
            Label::Of(owner) => Ok(Ensured { change, seen: claimed(machine, owner, said.own_address) }),
            _ => Err(unexpected(machine, &said.text)),
        }
    }

    async fn remove(&self, path: &ResourcePath) -> Result<Removed, Failure> {
        let declared = self.machines.get(path);
        if let Some(machine) = declared
            && self.release(path, machine).await? == Removed::Removed
        {
            return Ok(Removed::Removed);
        }
        // The blueprint may have moved it: then the label is on another machine.
        for (other, machine, said) in self.everywhere(LOOK, |_| Vec::new()).await {
            if other == path {
                continue;
            }
            let label = Label::parse(&said?.text);
            if matches!(&label, Label::Of(owner) if owner.cluster == self.cluster && owner.resource == *path)
            {
                return self.release(path, machine).await;
            }
        }
        Ok(Removed::Absent)
    }

    async fn preflight(&self) -> Vec<Failure> {
        let arguments = |path: &ResourcePath| {
            let ports = self.listening.get(path).into_iter().flatten();
            let ports = ports.map(|port| format!("{}:{}", port.protocol.as_str(), port.number));
            std::iter::once(self.cluster.to_string()).chain(ports).collect()
        };
        let checked = self.everywhere(CHECK, arguments).await.into_iter();
        checked
            .flat_map(|(_, machine, said)| match said {
                Err(failure) => vec![failure],
                Ok(said) => said.text.lines().map(|lack| lacking(machine, lack)).collect(),
            })
            .collect()
    }
}

fn lacking(machine: &ExistingMachine, what: &str) -> Failure {
    if let Some((protocol, number)) = what.strip_prefix("port ").and_then(|port| port.split_once(':')) {
        let message = format!(
            "on machine `{}` something listens on port {number}/{protocol} already, which its node needs",
            machine.address
        );
        return Failure::new(FailureClass::Unsupported, message).with_hint(format!(
            "see `ss -lnp 'sport = :{number}'` there, and stop it or use another machine"
        ));
    }
    let message = format!("machine `{}` lacks {what}, which nodes need", machine.address);
    Failure::new(FailureClass::Unsupported, message).with_hint("use a machine with Debian 12 and systemd")
}

fn unexpected(machine: &ExistingMachine, text: &str) -> Failure {
    let shown: String = text.chars().take(200).collect();
    let message = format!("machine `{}` answered something unexpected: {shown}", machine.address);
    Failure::new(FailureClass::Transient, message)
        .with_hint("the login shell of the user must print nothing by itself")
}

/// Of two machines under one path, the one that can be used counts, and the other shows.
fn keep(seen: &mut BTreeMap<ResourcePath, ResourceSeen>, found: ResourceSeen) {
    match seen.get_mut(&found.path) {
        None => {
            seen.insert(found.path.clone(), found);
        }
        Some(known) if known.ready || !found.ready => {
            known.note = Some(format!("also found on `{}`", found.id));
        }
        Some(known) => {
            let note = format!("also declared as `{}`", known.id);
            *known = ResourceSeen { note: Some(note), ..found };
        }
    }
}

fn claimed(machine: &ExistingMachine, owner: Owner, own: Option<std::net::IpAddr>) -> ResourceSeen {
    let reached = machine.address.parse().ok();
    let address = machine.private_address.or(own).or(reached);
    let incarnation = Digest::of(format!("{}\0{}", machine.address, owner.claimed_at.0).as_bytes());
    ResourceSeen {
        path: owner.resource,
        id: machine.address.clone(),
        spec: owner.spec,
        ready: true,
        note: None,
        machine: Some(MachineSeen {
            address,
            public_address: reached.filter(|reached| Some(*reached) != address),
            power: PowerState::On,
            created_at: owner.claimed_at,
            incarnation: incarnation.short().to_owned(),
        }),
    }
}

/// A machine that did not answer. Whose it is cannot be told, but it is declared, and it did not vanish.
fn unseen(
    path: &ResourcePath,
    machine: &ExistingMachine,
    failure: &Failure,
    taken_at: Timestamp,
) -> ResourceSeen {
    let reached = machine.address.parse().ok();
    ResourceSeen {
        path: path.clone(),
        id: machine.address.clone(),
        spec: None,
        ready: false,
        note: Some(failure.message.clone()),
        machine: Some(MachineSeen {
            address: machine.private_address.or(reached),
            public_address: reached.filter(|_| machine.private_address.is_some()),
            power: PowerState::Unknown,
            created_at: taken_at,
            incarnation: String::new(),
        }),
    }
}
