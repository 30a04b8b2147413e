//! The gateway of a subnet, through which others go out: a NAT gateway with an address that stays.

use aws_sdk_ec2::types::{NatGateway, NatGatewayState, ResourceType};
use castrum_blueprints::names::{ResourceKind, ResourcePath};
use castrum_provider::{Failure, Wanted};

use crate::address::ADDRESS;
use crate::failure::fault;
use crate::list::{Part, Scope, tagged};
use crate::network::gone;
use crate::place::{Found, LIVES, Pauses, Place, not_ready, settle};

pub(crate) const GATEWAY: &str = "nat-gateway";

/// Gateways that are there or come to be.
pub(crate) type Gateways = Vec<Part<NatGateway>>;

fn is_gone(gateway: &NatGateway) -> bool {
    matches!(gateway.state(), Some(NatGatewayState::Deleted | NatGatewayState::Deleting))
}

/// Those that are not gone, nor on their way.
pub(crate) fn living(all: Vec<Part<NatGateway>>) -> Gateways {
    all.into_iter().filter(|gateway| !is_gone(&gateway.it)).collect()
}

fn available(gateway: &NatGateway) -> bool {
    gateway.state() == Some(&NatGatewayState::Available)
}

fn allocation(gateway: &NatGateway) -> Option<&str> {
    gateway.nat_gateway_addresses().iter().find_map(|address| address.allocation_id())
}

/// Judges the gateway that a subnet shall have.
pub(crate) fn judge(place: &Place, path: &ResourcePath, gateways: &Gateways, found: &mut Found) {
    match gateways.iter().find(|gateway| available(&gateway.it)).or(gateways.first()) {
        None => found.lacks("its gateway is missing"),
        Some(gateway) if available(&gateway.it) => place.learn(path, GATEWAY, &gateway.id),
        Some(gateway) if gateway.it.state() == Some(&NatGatewayState::Failed) => {
            found.lacks(format!(
                "its gateway failed: {}",
                gateway.it.failure_message().unwrap_or("no reason given")
            ));
        }
        Some(_) => found.lacks("its gateway is being made"),
    }
    found.must(gateways.len() < 2, "it has more than one gateway");
}

/// Makes the gateway, or removes what is not declared. Whether something was done.
pub(crate) async fn ensure(
    place: &Place,
    wanted: &Wanted,
    subnet: &str,
    address: Option<&str>,
) -> Result<bool, Failure> {
    let now = living(place.nat_gateways(Scope::One(&wanted.path)).await?);
    let Some(address) = address else {
        remove(place, &now).await?;
        return Ok(!now.is_empty());
    };
    let allocation_id = place.resolve(&place.path(ResourceKind::Address, address), ADDRESS).await?;
    let (fits, wrong): (Gateways, Gateways) = now.into_iter().partition(|gateway| {
        gateway.it.state() != Some(&NatGatewayState::Failed)
            && gateway.it.subnet_id() == Some(subnet)
            && allocation(&gateway.it).is_none_or(|id| id == allocation_id)
    });
    let (kept, mut others) = settle(fits, available);
    others.extend(wrong);
    remove(place, &others).await?;
    let made = kept.is_none();
    let gateway = match kept {
        Some(gateway) => gateway,
        None => create(place, wanted, subnet, &allocation_id).await?,
    };
    let tagged = place.retag(&gateway.id, &gateway.label, &place.tags(wanted, GATEWAY)).await?;
    wait_available(place, &wanted.path, &gateway.id).await?;
    place.learn(&wanted.path, GATEWAY, &gateway.id);
    Ok(made || tagged || !others.is_empty())
}

async fn create(
    place: &Place,
    wanted: &Wanted,
    subnet: &str,
    allocation_id: &str,
) -> Result<Part<NatGateway>, Failure> {
    let path = &wanted.path;
    for life in 0..LIVES {
        let tags = tagged(ResourceType::Natgateway, &place.tags(wanted, GATEWAY));
        let call = place.ec2.create_nat_gateway().subnet_id(subnet).allocation_id(allocation_id);
        let call = call.tag_specifications(tags).client_token(place.token(wanted, GATEWAY, life));
        let id = match call.send().await.map_err(fault("CreateNatGateway")) {
            // An earlier one of this name had another address, or was in another subnet.
            Err(fault) if fault.is(&["IdempotentParameterMismatch"]) => continue,
            made => made?.nat_gateway.and_then(|gateway| gateway.nat_gateway_id).unwrap_or_default(),
        };
        // What is gone, or never listed, is an earlier one that was removed, which the same token names.
        let mut pauses = Pauses::new();
        loop {
            let listed = place.nat_gateways(Scope::One(path)).await?;
            let known = listed.iter().any(|gateway| gateway.id == id);
            if let Some(gateway) = settle(living(listed), available).0 {
                return Ok(gateway);
            }
            if known || !pauses.listing(place).await {
                break;
            }
        }
    }
    Err(not_ready(format!("the gateway of `{path}` is not in the listing yet")))
}

async fn state(place: &Place, id: &str) -> Result<Option<NatGateway>, Failure> {
    match place
        .ec2
        .describe_nat_gateways()
        .nat_gateway_ids(id)
        .send()
        .await
        .map_err(fault("DescribeNatGateways"))
    {
        Err(fault) if fault.is(crate::failure::NOT_FOUND) => Ok(None),
        found => Ok(found?.nat_gateways.unwrap_or_default().into_iter().next()),
    }
}

async fn wait_available(place: &Place, path: &ResourcePath, id: &str) -> Result<(), Failure> {
    let mut pauses = Pauses::new();
    loop {
        match state(place, id).await? {
            Some(gateway) if available(&gateway) => return Ok(()),
            Some(gateway) if gateway.state() == Some(&NatGatewayState::Failed) => {
                let why = gateway.failure_message().unwrap_or("no reason given");
                return Err(not_ready(format!("the gateway of `{path}` failed: {why}")));
            }
            _ => pauses.pause(|| format!("the gateway of `{path}` is being made")).await?,
        }
    }
}

/// Removes gateways, and waits until they are gone: until then they hold their subnet and their address.
pub(crate) async fn remove(place: &Place, gateways: &Gateways) -> Result<(), Failure> {
    for gateway in gateways {
        let call = place.ec2.delete_nat_gateway().nat_gateway_id(&gateway.id);
        gone(call.send().await.map_err(fault("DeleteNatGateway")).map(drop))?;
    }
    for gateway in gateways {
        let mut pauses = Pauses::new();
        while state(place, &gateway.id).await?.is_some_and(|it| it.state() != Some(&NatGatewayState::Deleted))
        {
            pauses.pause(|| format!("the gateway {} is being removed", gateway.id)).await?;
        }
        place.bury(&gateway.id);
    }
    Ok(())
}
