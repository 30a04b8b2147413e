//! A placement group: its machines stand on hardware of their own each. There is room for seven in each zone.

use aws_sdk_ec2::types::{PlacementGroup, PlacementGroupState, PlacementStrategy, ResourceType};
use castrum_blueprints::names::ResourcePath;
use castrum_provider::{Change, Failure, PlacementSpec, Removed, ResourceSeen, Wanted};

use crate::failure::fault;
use crate::list::{Part, Scope, tagged};
use crate::network::gone;
use crate::place::{Found, Pauses, Place, awaited, settle, taken_name};

pub(crate) const PLACEMENT: &str = "placement-group";

/// What the parts are as one resource.
pub(crate) fn judge(
    place: &Place,
    path: &ResourcePath,
    parts: &[Part<PlacementGroup>],
) -> Option<ResourceSeen> {
    let (group, _) = settle(parts.to_vec(), |_| false);
    let group = group?;
    place.learn(path, PLACEMENT, &group.id);
    let mut found = Found::new(place, &group);
    found.must(group.it.state() == Some(&PlacementGroupState::Available), "it is being made");
    Some(found.seen())
}

/// Makes the group.
pub(crate) async fn ensure(
    place: &Place,
    wanted: &Wanted,
    _spec: &PlacementSpec,
) -> Result<(Change, ResourceSeen), Failure> {
    let path = &wanted.path;
    let tags = place.tags(wanted, PLACEMENT);
    let (kept, _) = settle(place.placements(Scope::One(path)).await?, |_| false);
    let change = if let Some(group) = &kept {
        let id = group.it.group_id().unwrap_or_default();
        if place.retag(id, &group.label, &tags).await? { Change::Changed } else { Change::Unchanged }
    } else {
        create(place, wanted).await?;
        Change::Created
    };
    let mut pauses = Pauses::new();
    loop {
        match judge(place, path, &place.placements(Scope::One(path)).await?) {
            Some(seen) if seen.ready => return Ok((change, seen)),
            seen => pauses.pause(|| awaited(path, seen.as_ref())).await?,
        }
    }
}

async fn create(place: &Place, wanted: &Wanted) -> Result<(), Failure> {
    let (path, name) = (&wanted.path, place.name(&wanted.path));
    let tags = tagged(ResourceType::PlacementGroup, &place.tags(wanted, PLACEMENT));
    let call = place.ec2.create_placement_group().group_name(&name).strategy(PlacementStrategy::Spread);
    match call.tag_specifications(tags).send().await.map_err(fault("CreatePlacementGroup")) {
        Err(fault) if fault.is(&["InvalidPlacementGroup.Duplicate"]) => {
            let mut pauses = Pauses::new();
            while place.placements(Scope::One(path)).await?.is_empty() {
                if !pauses.listing(place).await {
                    return Err(taken_name("placement group", &name));
                }
            }
            Ok(())
        }
        made => made.map(drop).map_err(Failure::from),
    }
}

/// Removes the group once no machine is in it.
pub(crate) async fn remove(place: &Place, path: &ResourcePath) -> Result<Removed, Failure> {
    let all = place.placements(Scope::One(path)).await?;
    for group in &all {
        let call = place.ec2.delete_placement_group().group_name(&group.id);
        gone(call.send().await.map_err(fault("DeletePlacementGroup")).map(drop))?;
    }
    place.removed(path);
    Ok(if all.is_empty() { Removed::Absent } else { Removed::Removed })
}
