//! A machine: an instance, with its root disk and its network interface, and what it is attached to.

use aws_sdk_ec2::primitives::DateTime;
use aws_sdk_ec2::types::{Instance, InstanceStateName, Volume, VolumeState};
use castrum_blueprints::names::{ResourcePath, Timestamp};
use castrum_provider::{
    Change, Failure, MachineSeen, MachineSpec, PowerState, Removed, ResourceSeen, Wanted,
};

use crate::attach::{self, Around, State, Things};
use crate::failure::fault;
use crate::labels::with_state;
use crate::launch::{launch, type_of};
use crate::list::{Part, Scope};
use crate::network::gone;
use crate::place::{Found, Pauses, Place, awaited, change_of, invalid, lock, not_ready};
use crate::volume::{self, gib};

pub(crate) const INSTANCE: &str = "instance";

fn state(instance: &Instance) -> Option<&InstanceStateName> {
    instance.state().and_then(|state| state.name())
}

/// Whether the instance is not gone, nor on its way.
pub(crate) fn alive(instance: &Instance) -> bool {
    !matches!(state(instance), Some(InstanceStateName::Terminated | InstanceStateName::ShuttingDown))
}

/// Those that are alive, the oldest first.
pub(crate) fn living(instances: &[Part<Instance>]) -> Vec<&Part<Instance>> {
    let mut living: Vec<_> = instances.iter().filter(|instance| alive(&instance.it)).collect();
    living.sort_by_key(|instance| (made_at(&instance.it), instance.id.clone()));
    living
}

fn millis(time: &DateTime) -> Option<Timestamp> {
    Some(Timestamp(u64::try_from(time.to_millis().ok()?).ok()?))
}

/// When the instance was made: a restart gives it another launch time, and leaves its interface where it is.
fn made_at(instance: &Instance) -> Timestamp {
    let interfaces = instance.network_interfaces().iter().filter_map(|interface| interface.attachment());
    let mut first = interfaces.filter(|attachment| attachment.device_index().unwrap_or_default() == 0);
    let attached = first.find_map(|attachment| attachment.attach_time());
    attached.or(instance.launch_time()).and_then(millis).unwrap_or_default()
}

/// The power state in the words of the contract.
pub(crate) fn power(instance: &Instance) -> PowerState {
    match state(instance) {
        Some(InstanceStateName::Pending | InstanceStateName::Running) => PowerState::On,
        Some(InstanceStateName::Stopping | InstanceStateName::Stopped) => PowerState::Off,
        _ => PowerState::Unknown,
    }
}

fn machine(instance: &Instance) -> MachineSeen {
    let address = |text: Option<&str>| text.and_then(|text| text.parse().ok());
    MachineSeen {
        address: address(instance.private_ip_address()),
        public_address: address(instance.public_ip_address()),
        power: power(instance),
        created_at: made_at(instance),
        incarnation: instance.instance_id().unwrap_or_default().to_owned(),
    }
}

/// What the parts are as one resource; `disks` are root disks.
pub(crate) fn judge(
    place: &Place,
    path: &ResourcePath,
    (instances, disks): (&[Part<Instance>], &[Part<Volume>]),
    around: Around<'_>,
) -> Option<ResourceSeen> {
    let living = living(instances);
    let Some((instance, others)) = living.split_first() else {
        let left = disks.iter().find(|disk| disk.it.state() == Some(&VolumeState::Available));
        return left.map(|disk| Found::remnant(path, &disk.id, "root disk").seen());
    };
    place.learn(path, INSTANCE, &instance.id);
    let mut found = Found::new(place, instance);
    for other in others {
        found.lacks(format!("another one was made beside it, {}", other.id));
    }
    found.must(state(&instance.it) != Some(&InstanceStateName::Pending), "it is being made");
    for drift in attach::drift(instance, around) {
        found.lacks(drift);
    }
    Some(ResourceSeen { machine: Some(machine(&instance.it)), ..found.seen() })
}

/// The machine as it is now.
async fn look(place: &Place, path: &ResourcePath) -> Result<Option<ResourceSeen>, Failure> {
    let instances = place.instances(Scope::One(path)).await?;
    Ok(judge(place, path, (&instances, &[]), Around::default()))
}

/// Makes the machine, or repairs what is not as declared.
pub(crate) async fn ensure(
    place: &Place,
    wanted: &Wanted,
    spec: &MachineSpec,
) -> Result<(Change, ResourceSeen), Failure> {
    let path = &wanted.path;
    let things = attach::resolve(place, wanted, spec).await?;
    let before = place.instances(Scope::One(path)).await?;
    let there = living(&before);
    let created = there.is_empty();
    let mut touched = false;
    if let Some((instance, others)) = there.split_first() {
        touched |= ensure_kind(place, wanted, spec, (instance, &things)).await?;
        for other in others {
            // Made by two at a time, or by a call that was taken for lost; this one nobody counts with.
            terminate(place, &[&other.id]).await?;
            touched = true;
        }
    } else {
        if let Some(dying) = before.iter().find(|it| state(&it.it) == Some(&InstanceStateName::ShuttingDown))
        {
            return Err(not_ready(format!("`{path}` is being removed, {}", dying.id)));
        }
        launch(place, wanted, spec, (&things, &before)).await?;
    }
    let instance = wait_running(place, path, &mut touched).await?;
    touched |= attach::ensure(place, &instance, &things).await?;
    let tags = with_state(place.tags(wanted, INSTANCE), &State::of(&things, &instance.it).text());
    touched |= place.retag(&instance.id, &instance.label, &tags).await?;
    let change = change_of(created, touched);
    let mut pauses = Pauses::new();
    loop {
        match look(place, path).await? {
            Some(seen) if seen.ready => return Ok((change, seen)),
            seen => pauses.pause(|| awaited(path, seen.as_ref())).await?,
        }
    }
}

/// What cannot change while an instance lives must be as it was; its root disk may grow.
async fn ensure_kind(
    place: &Place,
    wanted: &Wanted,
    spec: &MachineSpec,
    (instance, things): (&Part<Instance>, &Things),
) -> Result<bool, Failure> {
    const REPLACE: &str = "replace the node: remove it from its group, apply, and add it again";
    let path = &wanted.path;
    if instance.it.subnet_id() != Some(&things.subnet) {
        let text = format!("`{path}` is in the subnet {}", instance.it.subnet_id().unwrap_or("?"));
        return Err(invalid(format!("{text}, and cannot move to {}", things.subnet)).with_hint(REPLACE));
    }
    if instance.label.spec == Some(wanted.spec.digest()) {
        return Ok(false);
    }
    let (now, needed) =
        (instance.it.instance_type().map_or("?", |kind| kind.as_str()), type_of(place, wanted, spec)?);
    if now != needed {
        let text = format!(
            "`{path}` is of the type {now}, and its size needs {needed}: it would have to be stopped"
        );
        return Err(invalid(text).with_hint(REPLACE));
    }
    ensure_disk(place, path, &instance.it, gib(spec.size.disk_gib)).await
}

async fn ensure_disk(
    place: &Place,
    path: &ResourcePath,
    instance: &Instance,
    wanted: i32,
) -> Result<bool, Failure> {
    let root = instance.root_device_name();
    let mut roots = instance.block_device_mappings().iter().filter(|mapping| mapping.device_name() == root);
    let Some(id) = roots.find_map(|mapping| mapping.ebs()?.volume_id()) else { return Ok(false) };
    let found = place.ec2.describe_volumes().volume_ids(id).send().await.map_err(fault("DescribeVolumes"))?;
    match found.volumes().first().and_then(Volume::size) {
        Some(size) if size < wanted => {
            let call = place.ec2.modify_volume().volume_id(id).size(wanted);
            call.send().await.map_err(fault("ModifyVolume"))?;
            Ok(true)
        }
        // The image may have asked for more than the blueprint does.
        Some(_) => Ok(false),
        None => Err(not_ready(format!("the root disk of `{path}` is not in the listing yet"))),
    }
}

/// Waits until the instance runs and has its address; one that is off is switched on.
async fn wait_running(
    place: &Place,
    path: &ResourcePath,
    touched: &mut bool,
) -> Result<Part<Instance>, Failure> {
    let (mut pauses, mut started) = (Pauses::new(), false);
    loop {
        let listed = place.instances(Scope::One(path)).await?;
        match living(&listed).first() {
            None => return Err(not_ready(format!("`{path}` went while it was being made"))),
            Some(instance) => match state(&instance.it) {
                Some(InstanceStateName::Running) if instance.it.private_ip_address().is_some() => {
                    return Ok((*instance).clone());
                }
                Some(InstanceStateName::Stopped) if !started => {
                    let call = place.ec2.start_instances().instance_ids(&instance.id);
                    call.send().await.map_err(fault("StartInstances"))?;
                    (started, *touched) = (true, true);
                }
                _ => {}
            },
        }
        pauses.pause(|| format!("`{path}` is not running yet")).await?;
    }
}

async fn terminate(place: &Place, ids: &[&String]) -> Result<(), Failure> {
    let ids = ids.iter().map(|id| (*id).clone()).collect();
    let call = place.ec2.terminate_instances().set_instance_ids(Some(ids));
    gone(call.send().await.map_err(fault("TerminateInstances")).map(drop))
}

/// Removes the machine with its root disk and its interface; its address and its volumes stay.
pub(crate) async fn remove(place: &Place, path: &ResourcePath) -> Result<Removed, Failure> {
    let mut all = place.instances(Scope::One(path)).await?;
    let there = living(&all);
    for instance in &there {
        if State::may_have_targets(instance.label.state.as_deref()) {
            attach::release(place, &instance.id, &[]).await?;
        }
    }
    let ids: Vec<&String> = there.iter().map(|instance| &instance.id).collect();
    if !ids.is_empty() {
        terminate(place, &ids).await?;
    }
    let terminated = |it: &Part<Instance>| state(&it.it) == Some(&InstanceStateName::Terminated);
    let mut existed = all.iter().any(|it| !terminated(it));
    let mut pauses = Pauses::new();
    while !all.iter().all(terminated) {
        pauses.pause(|| format!("`{path}` is being removed")).await?;
        all = place.instances(Scope::One(path)).await?;
    }
    lock(&place.terminated).extend(all.into_iter().map(|instance| instance.id));
    existed |= sweep(place, path).await?;
    place.removed(path);
    Ok(if existed { Removed::Removed } else { Removed::Absent })
}

/// Removes what an instance may leave. Whether there was anything.
async fn sweep(place: &Place, path: &ResourcePath) -> Result<bool, Failure> {
    let mut existed = false;
    for interface in place.interfaces(Scope::One(path)).await? {
        existed = true;
        let call = place.ec2.delete_network_interface().network_interface_id(&interface.id);
        gone(call.send().await.map_err(fault("DeleteNetworkInterface")).map(drop))?;
    }
    let mut pauses = Pauses::new();
    loop {
        let disks = place.volumes(Scope::One(path)).await?;
        if disks.is_empty() {
            return Ok(existed);
        }
        existed = true;
        for disk in disks.iter().filter(|disk| disk.it.state() == Some(&VolumeState::Available)) {
            volume::delete(place, &disk.id).await?;
        }
        pauses.pause(|| format!("the root disk of `{path}` is being removed")).await?;
    }
}

/// The living instance of a machine.
pub(crate) async fn find(place: &Place, path: &ResourcePath) -> Result<Part<Instance>, Failure> {
    let listed = place.instances(Scope::One(path)).await?;
    let found = living(&listed).first().map(|instance| (*instance).clone());
    found.ok_or_else(|| {
        invalid(format!("there is no machine `{path}`")).with_hint("apply the blueprint first")
    })
}
