//! A public address that stays: an elastic one.

use aws_sdk_ec2::types::{Address, DomainType, ResourceType};
use castrum_blueprints::names::ResourcePath;
use castrum_provider::{AddressSpec, Change, Failure, Removed, ResourceSeen, Wanted};

use crate::failure::fault;
use crate::list::{Part, Scope, tagged};
use crate::network::gone;
use crate::place::{Found, Pauses, Place, awaited, not_ready, settle};

pub(crate) const ADDRESS: &str = "address";

fn used(address: &Address) -> bool {
    address.association_id().is_some()
}

/// What the parts are as one resource.
pub(crate) fn judge(place: &Place, path: &ResourcePath, parts: &[Part<Address>]) -> Option<ResourceSeen> {
    let (kept, others) = settle(parts.to_vec(), used);
    let kept = kept?;
    place.learn(path, ADDRESS, &kept.id);
    let mut found = Found::new(place, &kept);
    for other in others {
        found.lacks(format!("another one was made beside it, {}", other.id));
    }
    Some(found.seen())
}

/// Makes the address.
pub(crate) async fn ensure(
    place: &Place,
    wanted: &Wanted,
    _spec: &AddressSpec,
) -> Result<(Change, ResourceSeen), Failure> {
    let path = &wanted.path;
    let tags = place.tags(wanted, ADDRESS);
    let (mut kept, mut rest) = settle(place.addresses(Scope::One(path)).await?, used);
    let mut change = Change::Unchanged;
    if kept.is_none() {
        place.not_just_made(path, ADDRESS)?;
        let call = place.ec2.allocate_address().domain(DomainType::Vpc);
        let made = call.tag_specifications(tagged(ResourceType::ElasticIp, &tags)).send().await;
        let made = made.map_err(fault("AllocateAddress"))?;
        place.made(path, ADDRESS, made.allocation_id().unwrap_or_default());
        change = Change::Created;
        // Somebody else may have made one at the same time.
        let mut pauses = Pauses::new();
        loop {
            (kept, rest) = settle(place.addresses(Scope::One(path)).await?, used);
            if kept.is_some() || !pauses.listing(place).await {
                break;
            }
        }
    }
    let address = kept.ok_or_else(|| not_ready(format!("`{path}` is not in the listing yet")))?;
    for other in rest.iter().filter(|other| !used(&other.it)) {
        release(place, &other.id).await?;
    }
    if place.retag(&address.id, &address.label, &tags).await? && change == Change::Unchanged {
        change = Change::Changed;
    }
    let mut pauses = Pauses::new();
    loop {
        match judge(place, path, &place.addresses(Scope::One(path)).await?) {
            Some(seen) if seen.ready => return Ok((change, seen)),
            seen => pauses.pause(|| awaited(path, seen.as_ref())).await?,
        }
    }
}

async fn release(place: &Place, id: &str) -> Result<(), Failure> {
    let call = place.ec2.release_address().allocation_id(id);
    gone(call.send().await.map_err(fault("ReleaseAddress")).map(drop))?;
    place.bury(id);
    Ok(())
}

/// Takes the address from its machine.
pub(crate) async fn disassociate(place: &Place, address: &Address) -> Result<(), Failure> {
    let Some(association) = address.association_id() else { return Ok(()) };
    let call = place.ec2.disassociate_address().association_id(association);
    gone(call.send().await.map_err(fault("DisassociateAddress")).map(drop))
}

/// Removes the address. One that a gateway has is in use; a machine is none the worse without it.
pub(crate) async fn remove(place: &Place, path: &ResourcePath) -> Result<Removed, Failure> {
    let all = place.addresses(Scope::One(path)).await?;
    for address in &all {
        let machine = address.it.instance_id().is_some_and(|id| !id.is_empty());
        if used(&address.it) && !machine {
            let by = address.it.network_interface_id().unwrap_or("something");
            return Err(not_ready(format!("`{path}` is in use by a gateway, {by}")));
        }
        disassociate(place, &address.it).await?;
        release(place, &address.id).await?;
    }
    place.removed(path);
    Ok(if all.is_empty() { Removed::Absent } else { Removed::Removed })
}
