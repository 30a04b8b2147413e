//! A block volume that outlives the machine it is attached to. Machines attach it; it is detached before it is removed.

use aws_sdk_ec2::types::{ResourceType, Volume, VolumeAttachment, VolumeState, VolumeType};
use castrum_blueprints::names::ResourcePath;
use castrum_provider::{Change, Failure, Removed, ResourceSeen, VolumeSpec, Wanted};

use crate::failure::{NOT_FOUND, fault};
use crate::list::{Part, Scope, tagged};
use crate::network::gone;
use crate::place::{Found, LIVES, Pauses, Place, awaited, change_of, invalid, not_ours, not_ready, settle};

pub(crate) const VOLUME: &str = "volume";

fn used(volume: &Volume) -> bool {
    !volume.attachments().is_empty()
}

fn is_gone(volume: &Volume) -> bool {
    matches!(volume.state(), Some(VolumeState::Deleting | VolumeState::Deleted))
}

async fn living(place: &Place, path: &ResourcePath) -> Result<Vec<Part<Volume>>, Failure> {
    let mut all = place.volumes(Scope::One(path)).await?;
    all.retain(|volume| !is_gone(&volume.it));
    Ok(all)
}

/// What the parts are as one resource.
pub(crate) fn judge(place: &Place, path: &ResourcePath, parts: &[Part<Volume>]) -> Option<ResourceSeen> {
    let parts = parts.iter().filter(|volume| !is_gone(&volume.it)).cloned().collect();
    let (volume, others) = settle(parts, used);
    let volume = volume?;
    place.learn(path, VOLUME, &volume.id);
    let mut found = Found::new(place, &volume);
    for other in others {
        found.lacks(format!("another one was made beside it, {}", other.id));
    }
    match volume.it.state() {
        Some(VolumeState::Available | VolumeState::InUse) => {}
        Some(VolumeState::Creating) => found.lacks("it is being made"),
        _ => found.lacks("it is broken, says the service"),
    }
    Some(found.seen())
}

/// Makes the volume, or makes it larger.
pub(crate) async fn ensure(
    place: &Place,
    wanted: &Wanted,
    spec: &VolumeSpec,
) -> Result<(Change, ResourceSeen), Failure> {
    let path = &wanted.path;
    let (kept, rest) = settle(living(place, path).await?, used);
    let created = kept.is_none();
    let volume = match kept {
        Some(volume) => volume,
        None => create(place, wanted, spec).await?,
    };
    for other in rest.iter().filter(|other| !used(&other.it)) {
        delete(place, &other.id).await?;
    }
    let mut touched = ensure_size(place, path, &volume, spec).await?;
    touched |= place.retag(&volume.id, &volume.label, &place.tags(wanted, VOLUME)).await?;
    let change = change_of(created, touched);
    let mut pauses = Pauses::new();
    loop {
        match judge(place, path, &living(place, path).await?) {
            Some(seen) if seen.ready => return Ok((change, seen)),
            seen => pauses.pause(|| awaited(path, seen.as_ref())).await?,
        }
    }
}

async fn ensure_size(
    place: &Place,
    path: &ResourcePath,
    volume: &Part<Volume>,
    spec: &VolumeSpec,
) -> Result<bool, Failure> {
    let (size, zone) =
        (volume.it.size().unwrap_or_default(), volume.it.availability_zone().unwrap_or_default());
    if zone != spec.zone {
        let text = format!("`{path}` is in the zone {zone}, and cannot move to {}", spec.zone);
        return Err(
            invalid(text).with_hint("keep the `zones` that the site had, and add new ones at the end")
        );
    }
    match gib(spec.size_gib) {
        wanted if wanted == size => Ok(false),
        wanted if wanted < size => {
            let text = format!("`{path}` has {size} GiB, and cannot become smaller");
            Err(invalid(text).with_hint("keep its size, or replace the node"))
        }
        wanted => {
            let call = place.ec2.modify_volume().volume_id(&volume.id).size(wanted);
            call.send().await.map_err(fault("ModifyVolume"))?;
            Ok(true)
        }
    }
}

/// A size as the service counts it.
pub(crate) fn gib(size: u64) -> i32 {
    i32::try_from(size).unwrap_or(i32::MAX)
}

async fn create(place: &Place, wanted: &Wanted, spec: &VolumeSpec) -> Result<Part<Volume>, Failure> {
    let path = &wanted.path;
    for life in 0..LIVES {
        let call = place.ec2.create_volume().availability_zone(&spec.zone).size(gib(spec.size_gib));
        let call = call.volume_type(VolumeType::Gp3).encrypted(true);
        let call = call.tag_specifications(tagged(ResourceType::Volume, &place.tags(wanted, VOLUME)));
        match call.client_token(place.token(wanted, VOLUME, life)).send().await.map_err(fault("CreateVolume"))
        {
            // An earlier one of this name had another size.
            Err(fault) if fault.is(&["IdempotentParameterMismatch"]) => continue,
            made => drop(made?),
        }
        // What is never listed is an earlier one that was removed, which the same token names.
        let mut pauses = Pauses::new();
        loop {
            if let Some(volume) = settle(living(place, path).await?, used).0 {
                return Ok(volume);
            }
            if !pauses.listing(place).await {
                break;
            }
        }
    }
    Err(not_ready(format!("`{path}` is not in the listing yet")))
}

pub(crate) async fn delete(place: &Place, id: &str) -> Result<(), Failure> {
    gone(place.ec2.delete_volume().volume_id(id).send().await.map_err(fault("DeleteVolume")).map(drop))?;
    place.bury(id);
    Ok(())
}

/// The machine that the volume is attached to, and by which name.
pub(crate) fn holder(volume: &Volume) -> Option<&str> {
    volume.attachments().iter().find_map(VolumeAttachment::instance_id).filter(|id| !id.is_empty())
}

/// Takes the volume from a machine, and waits until it is free.
pub(crate) async fn detach(place: &Place, id: &str, machine: &str) -> Result<(), Failure> {
    let detached = place
        .ec2
        .detach_volume()
        .volume_id(id)
        .instance_id(machine)
        .send()
        .await
        .map_err(fault("DetachVolume"));
    match detached {
        // It was free, or is on its way.
        Err(fault) if fault.is(&["IncorrectState", "InvalidAttachment.NotFound"]) => {}
        detached => gone(detached.map(drop))?,
    }
    let mut pauses = Pauses::new();
    loop {
        let found =
            place.ec2.describe_volumes().volume_ids(id).send().await.map_err(fault("DescribeVolumes"));
        let free = match found {
            Err(fault) if fault.is(NOT_FOUND) => true,
            found => found?.volumes().iter().all(|volume| !used(volume)),
        };
        if free {
            return Ok(());
        }
        pauses.pause(|| format!("the volume {id} is being detached")).await?;
    }
}

/// Removes the volume. It is taken from a machine of this cluster, and from no other.
pub(crate) async fn remove(place: &Place, path: &ResourcePath) -> Result<Removed, Failure> {
    let all = living(place, path).await?;
    for volume in &all {
        if let Some(machine) = holder(&volume.it) {
            let ours = place.instances(Scope::All).await?.iter().any(|instance| instance.id == machine);
            if !ours {
                let text = format!("`{path}` is attached to {machine}, which is not this cluster's");
                return Err(not_ours(text).with_hint("detach it there if nobody needs it"));
            }
            detach(place, &volume.id, machine).await?;
        }
        delete(place, &volume.id).await?;
    }
    let mut pauses = Pauses::new();
    while !living(place, path).await?.is_empty() {
        pauses.pause(|| format!("`{path}` is being removed")).await?;
    }
    place.removed(path);
    Ok(if all.is_empty() { Removed::Absent } else { Removed::Removed })
}
