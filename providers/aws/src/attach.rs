//! What a machine is attached to: compared with what is declared, repaired, and written down on the machine, so that a look
//! tells when somebody changed it.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::{Instance, Volume};
use castrum_blueprints::names::{Digest, ResourceKind};
use castrum_provider::{Failure, MachineSpec, Wanted};

use crate::address::{self, ADDRESS};
use crate::balancers::{Balancers, TARGETS, deregister, list, register, registered};
use crate::failure::fault;
use crate::firewall::GROUP;
use crate::key::KEY;
use crate::list::{Part, Scope};
use crate::place::{Pauses, Place, invalid, not_ours, not_ready};
use crate::placement::PLACEMENT;
use crate::subnet::SUBNET;
use crate::volume::{self, VOLUME};

/// The ids of what a machine is attached to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Things {
    pub(crate) subnet: String,
    pub(crate) groups: Vec<String>,
    pub(crate) address: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) placement: Option<String>,
    pub(crate) volumes: Vec<String>,
    pub(crate) targets: Vec<String>,
}

/// What of it can change while the machine lives, each as a short word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    firewalls: String,
    address: String,
    volumes: String,
    targets: String,
}

fn word<'a>(ids: impl Iterator<Item = &'a str>) -> String {
    let ids: BTreeSet<&str> = ids.collect();
    Digest::of(ids.into_iter().collect::<Vec<_>>().join(" ").as_bytes()).as_str()[..8].to_owned()
}

impl State {
    /// The state of a machine that is attached as declared.
    pub(crate) fn of(things: &Things, instance: &Instance) -> Self {
        // Without a firewall of its own it carries the network's.
        let groups = groups_of(instance);
        let wanted: BTreeSet<&str> = things.groups.iter().map(String::as_str).collect();
        Self {
            firewalls: word(if wanted.is_empty() { groups } else { wanted }.into_iter()),
            address: word(things.address.as_deref().into_iter()),
            volumes: word(things.volumes.iter().map(String::as_str)),
            targets: word(things.targets.iter().map(String::as_str)),
        }
    }

    /// As it is written down.
    pub(crate) fn text(&self) -> String {
        format!("f:{} a:{} v:{} b:{}", self.firewalls, self.address, self.volumes, self.targets)
    }

    /// Whether what was written down may name groups of targets.
    pub(crate) fn may_have_targets(text: Option<&str>) -> bool {
        text.is_none_or(|text| !text.contains(&format!("b:{}", word(std::iter::empty()))))
    }
}

fn groups_of(instance: &Instance) -> BTreeSet<&str> {
    instance.security_groups().iter().filter_map(|group| group.group_id()).collect()
}

/// The volumes of an instance beside its root disk.
fn volumes_of(instance: &Instance) -> impl Iterator<Item = &str> {
    let root = instance.root_device_name();
    let others = instance.block_device_mappings().iter().filter(move |mapping| mapping.device_name() != root);
    others.filter_map(|mapping| mapping.ebs()?.volume_id())
}

/// What else a look found, where it was not blind to it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Around<'a> {
    /// The allocation and the machine of each address.
    pub(crate) addresses: Option<&'a [Part<aws_sdk_ec2::types::Address>]>,
    pub(crate) balancers: Option<&'a Balancers>,
}

/// What differs between what was written down and what is there.
pub(crate) fn drift(instance: &Part<Instance>, around: Around<'_>) -> Vec<&'static str> {
    let Some(text) = instance.label.state.as_deref() else { return vec!["it is not attached in whole yet"] };
    let differs = |key: &str, now: String| !text.contains(&format!("{key}:{now}"));
    let mut found = Vec::new();
    if differs("f", word(groups_of(&instance.it).into_iter())) {
        found.push("it carries other firewalls than declared");
    }
    if differs("v", word(volumes_of(&instance.it))) {
        found.push("other volumes are attached to it than declared");
    }
    if let Some(addresses) = around.addresses {
        let here = addresses.iter().filter(|address| address.it.instance_id() == Some(&instance.id));
        if differs("a", word(here.map(|address| address.id.as_str()))) {
            found.push("it has another public address than declared");
        }
    }
    if let Some(balancers) = around.balancers {
        let here = balancers.targets.iter().filter(|targets| targets.it.machines.contains(&instance.id));
        if differs("b", word(here.map(|targets| targets.id.as_str()))) {
            found.push("other load balancers hand on to it than declared");
        }
    }
    found
}

/// The ids behind the names.
pub(crate) async fn resolve(place: &Place, wanted: &Wanted, spec: &MachineSpec) -> Result<Things, Failure> {
    let attached = &spec.attached;
    let Some(subnet) = &attached.subnet else {
        let text = format!("`{}` is attached to no subnet, and every machine here is in one", wanted.path);
        return Err(invalid(text).with_hint("bring Castrum up to date: it has to ask for subnets"));
    };
    let one = async |kind, part, name: Option<&String>| match name {
        Some(name) => place.resolve(&place.path(kind, name), part).await.map(Some),
        None => Ok(None),
    };
    let targets = place.resolve_all(ResourceKind::LoadBalancer, TARGETS, &attached.balancers).await?;
    Ok(Things {
        subnet: place.resolve(&place.path(ResourceKind::Subnet, subnet), SUBNET).await?,
        groups: place.resolve_all(ResourceKind::Firewall, GROUP, &attached.firewalls).await?,
        address: one(ResourceKind::Address, ADDRESS, attached.address.as_ref()).await?,
        key: one(ResourceKind::Key, KEY, attached.key.as_ref()).await?,
        placement: one(ResourceKind::Placement, PLACEMENT, attached.placement.as_ref()).await?,
        volumes: place.resolve_all(ResourceKind::Volume, VOLUME, &attached.volumes).await?,
        targets: targets.iter().flat_map(|all| all.split_whitespace()).map(str::to_owned).collect(),
    })
}

/// Attaches a running instance as declared. Whether anything was to do.
pub(crate) async fn ensure(
    place: &Place,
    instance: &Part<Instance>,
    things: &Things,
) -> Result<bool, Failure> {
    let mut touched = ensure_groups(place, instance, things).await?;
    touched |= ensure_address(place, instance, things).await?;
    touched |= ensure_volumes(place, instance, things).await?;
    touched |= ensure_targets(place, instance, things).await?;
    Ok(touched)
}

async fn ensure_groups(place: &Place, instance: &Part<Instance>, things: &Things) -> Result<bool, Failure> {
    let wanted: BTreeSet<&str> = things.groups.iter().map(String::as_str).collect();
    if wanted.is_empty() || wanted == groups_of(&instance.it) {
        return Ok(false);
    }
    let groups = Some(things.groups.clone());
    let call = place.ec2.modify_instance_attribute().instance_id(&instance.id).set_groups(groups);
    call.send().await.map_err(fault("ModifyInstanceAttribute"))?;
    Ok(true)
}

async fn ensure_address(place: &Place, instance: &Part<Instance>, things: &Things) -> Result<bool, Failure> {
    let all = place.addresses(Scope::All).await?;
    let mut touched = false;
    for address in &all {
        if address.it.instance_id() == Some(&instance.id) && things.address.as_ref() != Some(&address.id) {
            address::disassociate(place, &address.it).await?;
            touched = true;
        }
    }
    let Some(wanted) = &things.address else { return Ok(touched) };
    let there = all.iter().find(|address| address.id == *wanted);
    match there.map(|address| address.it.instance_id().filter(|id| !id.is_empty())) {
        Some(Some(holder)) if holder == instance.id => Ok(touched),
        Some(Some(holder)) => {
            Err(not_ready(format!("the address of {} is still held by {holder}", instance.id)))
        }
        _ => {
            let call = place.ec2.associate_address().allocation_id(wanted).instance_id(&instance.id);
            call.allow_reassociation(false).send().await.map_err(fault("AssociateAddress"))?;
            Ok(true)
        }
    }
}

/// The name of the `number`-th further disk, as the service wants to have one; the system names it otherwise.
fn device(number: usize) -> Option<String> {
    let letter = (b'f'..=b'p').nth(number)?;
    Some(format!("/dev/sd{}", char::from(letter)))
}

async fn ensure_volumes(place: &Place, instance: &Part<Instance>, things: &Things) -> Result<bool, Failure> {
    let there: Vec<&str> = volumes_of(&instance.it).collect();
    let mut touched = false;
    if there.iter().any(|id| !things.volumes.iter().any(|wanted| wanted == id)) {
        let ours = place.volumes(Scope::All).await?;
        for id in there.iter().filter(|id| !things.volumes.iter().any(|wanted| wanted == *id)) {
            if !ours.iter().any(|volume| volume.id == **id && volume.label.path.kind == ResourceKind::Volume)
            {
                let text = format!("the volume {id} is attached to {}, and is not ours", instance.id);
                return Err(not_ours(text).with_hint("detach it there"));
            }
            volume::detach(place, id, &instance.id).await?;
            touched = true;
        }
    }
    for (number, id) in things.volumes.iter().enumerate() {
        if there.contains(&id.as_str()) {
            continue;
        }
        let device = device(number).ok_or_else(|| {
            invalid(format!("{} has more further disks than the service has names for", instance.id))
                .with_hint("give it at most eleven")
        })?;
        attach_volume(place, id, &instance.id, &device).await?;
        touched = true;
    }
    Ok(touched)
}

async fn attach_volume(place: &Place, id: &str, instance: &str, device: &str) -> Result<(), Failure> {
    let call = place.ec2.attach_volume().volume_id(id).instance_id(instance).device(device);
    match call.send().await.map_err(fault("AttachVolume")) {
        Err(fault) if fault.is(&["VolumeInUse"]) => {}
        attached => drop(attached?),
    }
    let mut pauses = Pauses::new();
    loop {
        let found =
            place.ec2.describe_volumes().volume_ids(id).send().await.map_err(fault("DescribeVolumes"))?;
        match found.volumes().first().and_then(|volume: &Volume| volume::holder(volume)) {
            Some(holder) if holder == instance => return Ok(()),
            Some(holder) => return Err(not_ready(format!("the volume {id} is still attached to {holder}"))),
            None => pauses.pause(|| format!("the volume {id} is being attached")).await?,
        }
    }
}

async fn ensure_targets(place: &Place, instance: &Part<Instance>, things: &Things) -> Result<bool, Failure> {
    let mut touched = false;
    for targets in &things.targets {
        if !registered(place, targets).await?.contains(&instance.id) {
            register(place, targets, &instance.id).await?;
            touched = true;
        }
    }
    let told = instance.label.state.as_deref();
    let same = told.is_some_and(|text| text.ends_with(&State::of(things, &instance.it).targets));
    if told.is_some() && !same && State::may_have_targets(told) {
        touched |= release(place, &instance.id, &things.targets).await?;
    }
    Ok(touched)
}

/// Takes a machine out of all groups of targets but these.
pub(crate) async fn release(place: &Place, instance: &str, but: &[String]) -> Result<bool, Failure> {
    let mut touched = false;
    for targets in list(place, Scope::All).await?.targets {
        if targets.it.machines.contains(instance) && !but.contains(&targets.id) {
            deregister(place, &targets.id, instance).await?;
            touched = true;
        }
    }
    Ok(touched)
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::GroupIdentifier;
    use castrum_blueprints::names::ClusterId;

    use super::*;
    use crate::labels::{Label, tags, with_state};

    fn instance(groups: &[&str], state: Option<&State>) -> Part<Instance> {
        let (cluster, path) =
            (ClusterId::from_bytes([7; 6]), "here/machine/agents-1".parse().expect("a path"));
        let mut tags = tags(&cluster, &path, &Digest::of(b"spec"), "instance");
        if let Some(state) = state {
            tags = with_state(tags, &state.text());
        }
        let label =
            Label::read(&cluster, tags.iter().map(|(key, value)| (*key, value.as_str()))).expect("ours");
        let groups = groups.iter().map(|id| GroupIdentifier::builder().group_id(*id).build()).collect();
        let it = Instance::builder().instance_id("i-1").set_security_groups(Some(groups)).build();
        Part { label, id: "i-1".to_owned(), it }
    }

    fn things(groups: &[&str], targets: &[&str]) -> Things {
        let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect();
        Things { groups: texts(groups), targets: texts(targets), ..Things::default() }
    }

    #[test]
    fn what_was_attached_as_declared_has_not_drifted() {
        let state = State::of(&things(&["sg-2", "sg-1"], &[]), &instance(&[], None).it);
        assert!(drift(&instance(&["sg-1", "sg-2"], Some(&state)), Around::default()).is_empty());
        let balancers = Balancers::default();
        let around = Around { addresses: Some(&[]), balancers: Some(&balancers) };
        assert!(drift(&instance(&["sg-1", "sg-2"], Some(&state)), around).is_empty());
    }

    #[test]
    fn another_firewall_and_a_lost_registration_show() {
        let state = State::of(&things(&["sg-1"], &["arn-1"]), &instance(&[], None).it);
        let other = drift(&instance(&["sg-1", "sg-9"], Some(&state)), Around::default());
        assert_eq!(other, ["it carries other firewalls than declared"]);
        let balancers = Balancers::default();
        let around = Around { addresses: None, balancers: Some(&balancers) };
        let lost = drift(&instance(&["sg-1"], Some(&state)), around);
        assert_eq!(lost, ["other load balancers hand on to it than declared"]);
        assert_eq!(drift(&instance(&["sg-1"], None), around), ["it is not attached in whole yet"]);
    }

    #[test]
    fn targets_are_looked_for_only_where_there_may_be_some() {
        let empty = instance(&[], None);
        assert!(!State::may_have_targets(Some(&State::of(&things(&[], &[]), &empty.it).text())));
        assert!(State::may_have_targets(Some(&State::of(&things(&[], &["arn-1"]), &empty.it).text())));
        assert!(State::may_have_targets(None));
    }

    #[test]
    fn there_are_eleven_names_for_further_disks() {
        assert_eq!(device(0).as_deref(), Some("/dev/sdf"));
        assert_eq!(device(10).as_deref(), Some("/dev/sdp"));
        assert_eq!(device(11), None);
    }
}
