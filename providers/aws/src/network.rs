//! A network: a VPC with its way out, an internet gateway, and a route table that leads to it.

use aws_sdk_ec2::types::{
    AttributeBooleanValue, InternetGateway, ResourceType, RouteState, RouteTable, Vpc, VpcAttributeName,
    VpcState,
};
use castrum_blueprints::names::{ClusterId, ResourcePath};
use castrum_provider::{Change, Failure, NetworkSpec, Removed, ResourceSeen, Wanted};

use crate::failure::{NOT_FOUND, fault};
use crate::list::{Part, Scope, filter, tagged};
use crate::place::{Found, LIVES, Pauses, Place, awaited, invalid, not_ready, settle};

pub(crate) const VPC: &str = "vpc";
pub(crate) const PUBLIC: &str = "public-route-table";
const GATEWAY: &str = "internet-gateway";
/// Everywhere.
pub(crate) const WORLD: &str = "0.0.0.0/0";

/// What a network consists of.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(crate) vpcs: Vec<Part<Vpc>>,
    pub(crate) gateways: Vec<Part<InternetGateway>>,
    pub(crate) tables: Vec<Part<RouteTable>>,
}

/// The range of a network that the blueprint gives none: the second number comes from the cluster's id.
pub(crate) fn range(cluster: &ClusterId) -> String {
    let number = u8::from_str_radix(&cluster.as_str()[..2], 16).unwrap_or_default();
    format!("10.{number}.0.0/16")
}

async fn parts(place: &Place, path: &ResourcePath) -> Result<Parts, Failure> {
    let scope = Scope::One(path);
    let (vpcs, gateways, tables) =
        tokio::try_join!(place.vpcs(scope), place.internet_gateways(scope), place.route_tables(scope))?;
    Ok(Parts { vpcs, gateways, tables })
}

fn attached(gateway: &InternetGateway) -> Option<&str> {
    gateway.attachments().iter().find_map(|attachment| attachment.vpc_id())
}

/// Where the table leads what is for the world, and whether anybody is there.
pub(crate) fn way_out(table: &RouteTable) -> Option<(&str, bool)> {
    let route = table.routes().iter().find(|route| route.destination_cidr_block() == Some(WORLD))?;
    let target = route.gateway_id().or(route.nat_gateway_id()).unwrap_or_default();
    Some((target, route.state() != Some(&RouteState::Blackhole)))
}

/// The VPC that stays: the one whose gateway is there.
fn choose(parts: &Parts) -> (Option<Part<Vpc>>, Vec<Part<Vpc>>) {
    let used = |vpc: &Vpc| parts.gateways.iter().any(|gateway| attached(&gateway.it) == vpc.vpc_id());
    settle(parts.vpcs.clone(), used)
}

/// What the parts are as one resource.
pub(crate) fn judge(place: &Place, path: &ResourcePath, parts: &Parts) -> Option<ResourceSeen> {
    let (Some(vpc), others) = choose(parts) else {
        let left = parts.gateways.first().map(|gateway| (&gateway.id, "internet gateway"));
        let left = left.or(parts.tables.first().map(|table| (&table.id, "route table")));
        return left.map(|(id, what)| Found::remnant(path, id, what).seen());
    };
    place.learn(path, VPC, &vpc.id);
    let mut found = Found::new(place, &vpc);
    for other in others {
        found.lacks(format!("another one was made beside it, {}", other.id));
    }
    found.must(vpc.it.state() != Some(&VpcState::Pending), "it is being made");
    let gateway = parts.gateways.iter().find(|gateway| attached(&gateway.it) == Some(&vpc.id));
    found.must(gateway.is_some(), "its internet gateway is missing");
    let table = parts.tables.iter().find(|table| table.it.vpc_id() == Some(&vpc.id));
    if let Some(table) = table {
        place.learn(path, PUBLIC, &table.id);
        let leads = gateway.is_some_and(|gateway| way_out(&table.it) == Some((&gateway.id, true)));
        found.must(leads, "its route table leads nowhere");
    } else {
        found.lacks("its route table is missing");
    }
    Some(found.seen())
}

/// The network as it is now.
pub(crate) async fn look(place: &Place, path: &ResourcePath) -> Result<Option<ResourceSeen>, Failure> {
    Ok(judge(place, path, &parts(place, path).await?))
}

/// Makes the network, or what is missing of it.
pub(crate) async fn ensure(
    place: &Place,
    wanted: &Wanted,
    spec: &NetworkSpec,
) -> Result<(Change, ResourceSeen), Failure> {
    let before = parts(place, &wanted.path).await?;
    let mut change = if before.vpcs.is_empty() { Change::Created } else { Change::Unchanged };
    let vpc = ensure_vpc(place, wanted, spec, &before).await?;
    let mut touched = ensure_names(place, &vpc.id).await?;
    let gateway = ensure_gateway(place, wanted, &vpc.id, &mut touched).await?;
    let table = ensure_table(place, wanted, &vpc.id, &mut touched).await?;
    touched |= ensure_route(place, &table, &gateway.id).await?;
    // The VPC comes last: by its tag the whole network counts as what it shall be, and nobody would come back for the rest.
    for (id, label, part) in [
        (&gateway.id, &gateway.label, GATEWAY),
        (&table.id, &table.label, PUBLIC),
        (&vpc.id, &vpc.label, VPC),
    ] {
        touched |= place.retag(id, label, &place.tags(wanted, part)).await?;
    }
    if touched && change == Change::Unchanged {
        change = Change::Changed;
    }
    let mut pauses = Pauses::new();
    loop {
        match look(place, &wanted.path).await? {
            Some(seen) if seen.ready => return Ok((change, seen)),
            seen => pauses.pause(|| awaited(&wanted.path, seen.as_ref())).await?,
        }
    }
}

async fn ensure_vpc(
    place: &Place,
    wanted: &Wanted,
    spec: &NetworkSpec,
    before: &Parts,
) -> Result<Part<Vpc>, Failure> {
    let path = &wanted.path;
    let cidr = spec.cidr.clone().unwrap_or_else(|| range(&place.cluster));
    let (mut kept, mut rest) = choose(before);
    if kept.is_none() {
        place.not_just_made(path, VPC)?;
        let tags = tagged(ResourceType::Vpc, &place.tags(wanted, VPC));
        let made = place.ec2.create_vpc().cidr_block(&cidr).tag_specifications(tags).send().await;
        let made = made.map_err(fault("CreateVpc"))?;
        place.made(path, VPC, made.vpc().and_then(Vpc::vpc_id).unwrap_or_default());
        // Somebody else may have made one at the same time.
        let mut pauses = Pauses::new();
        loop {
            (kept, rest) = choose(&parts(place, path).await?);
            if kept.is_some() || !pauses.listing(place).await {
                break;
            }
        }
    }
    let vpc = kept.ok_or_else(|| not_ready(format!("the VPC of `{path}` is not in the listing yet")))?;
    for other in rest {
        let deleted = place.ec2.delete_vpc().vpc_id(&other.id).send().await.map_err(fault("DeleteVpc"));
        gone(deleted.map(drop))?;
    }
    if vpc.it.cidr_block() != Some(&cidr) {
        let text =
            format!("`{path}` has the range {}, and cannot get {cidr}", vpc.it.cidr_block().unwrap_or("?"));
        return Err(
            invalid(text).with_hint("keep the `cidr` that the site had, or destroy the cluster first")
        );
    }
    Ok(vpc)
}

/// What was to be deleted and is not there is deleted.
pub(crate) fn gone(deleted: Result<(), crate::failure::Fault>) -> Result<(), Failure> {
    match deleted {
        Err(fault) if fault.is(NOT_FOUND) => Ok(()),
        deleted => Ok(deleted?),
    }
}

/// Machines of the VPC get names.
async fn ensure_names(place: &Place, vpc: &str) -> Result<bool, Failure> {
    let asked =
        place.ec2.describe_vpc_attribute().vpc_id(vpc).attribute(VpcAttributeName::EnableDnsHostnames);
    let asked = asked.send().await.map_err(fault("DescribeVpcAttribute"))?;
    if asked.enable_dns_hostnames().and_then(AttributeBooleanValue::value) == Some(true) {
        return Ok(false);
    }
    let on = AttributeBooleanValue::builder().value(true).build();
    let call = place.ec2.modify_vpc_attribute().vpc_id(vpc).enable_dns_hostnames(on);
    call.send().await.map_err(fault("ModifyVpcAttribute"))?;
    Ok(true)
}

async fn ensure_gateway(
    place: &Place,
    wanted: &Wanted,
    vpc: &str,
    touched: &mut bool,
) -> Result<Part<InternetGateway>, Failure> {
    let (path, here) = (&wanted.path, |gateway: &InternetGateway| attached(gateway) == Some(vpc));
    let (mut kept, mut rest) = settle(place.internet_gateways(Scope::One(path)).await?, here);
    if kept.is_none() {
        place.not_just_made(path, GATEWAY)?;
        let tags = tagged(ResourceType::InternetGateway, &place.tags(wanted, GATEWAY));
        let made = place.ec2.create_internet_gateway().tag_specifications(tags).send().await;
        let made = made.map_err(fault("CreateInternetGateway"))?;
        let id = made.internet_gateway().and_then(InternetGateway::internet_gateway_id).unwrap_or_default();
        place.made(path, GATEWAY, id);
        *touched = true;
        let mut pauses = Pauses::new();
        loop {
            (kept, rest) = settle(place.internet_gateways(Scope::One(path)).await?, here);
            if kept.is_some() || !pauses.listing(place).await {
                break;
            }
        }
    }
    let gateway =
        kept.ok_or_else(|| not_ready(format!("the internet gateway of `{path}` is not in the listing yet")))?;
    for other in rest {
        remove_gateway(place, &other).await?;
    }
    if attached(&gateway.it) != Some(vpc) {
        if let Some(elsewhere) = attached(&gateway.it) {
            detach(place, &gateway.id, elsewhere).await?;
        }
        let call = place.ec2.attach_internet_gateway().internet_gateway_id(&gateway.id).vpc_id(vpc);
        match call.send().await.map_err(fault("AttachInternetGateway")) {
            Err(fault) if fault.is(&["Resource.AlreadyAssociated"]) => {}
            attached => drop(attached?),
        }
        *touched = true;
    }
    Ok(gateway)
}

async fn detach(place: &Place, gateway: &str, vpc: &str) -> Result<(), Failure> {
    let call = place.ec2.detach_internet_gateway().internet_gateway_id(gateway).vpc_id(vpc);
    match call.send().await.map_err(fault("DetachInternetGateway")) {
        Err(fault) if fault.is(&["Gateway.NotAttached"]) => Ok(()),
        detached => gone(detached.map(drop)),
    }
}

async fn remove_gateway(place: &Place, gateway: &Part<InternetGateway>) -> Result<(), Failure> {
    if let Some(vpc) = attached(&gateway.it) {
        detach(place, &gateway.id, vpc).await?;
    }
    let call = place.ec2.delete_internet_gateway().internet_gateway_id(&gateway.id);
    gone(call.send().await.map_err(fault("DeleteInternetGateway")).map(drop))?;
    place.bury(&gateway.id);
    Ok(())
}

async fn ensure_table(
    place: &Place,
    wanted: &Wanted,
    vpc: &str,
    touched: &mut bool,
) -> Result<Part<RouteTable>, Failure> {
    let (table, made) = own_table(place, wanted, vpc, PUBLIC).await?;
    *touched |= made;
    Ok(table)
}

/// The route table of a resource; whether it was made just now.
pub(crate) async fn own_table(
    place: &Place,
    wanted: &Wanted,
    vpc: &str,
    part: &'static str,
) -> Result<(Part<RouteTable>, bool), Failure> {
    let (path, used) = (&wanted.path, |table: &RouteTable| !table.associations().is_empty());
    let (mut kept, mut rest) = settle(place.route_tables(Scope::One(path)).await?, used);
    let made = kept.is_none();
    for life in 0..LIVES {
        if kept.is_some() {
            break;
        }
        let tags = tagged(ResourceType::RouteTable, &place.tags(wanted, part));
        let call = place.ec2.create_route_table().vpc_id(vpc).tag_specifications(tags);
        match call
            .client_token(place.token(wanted, part, life))
            .send()
            .await
            .map_err(fault("CreateRouteTable"))
        {
            // An earlier one of this name was in another VPC.
            Err(fault) if fault.is(&["IdempotentParameterMismatch"]) => continue,
            made => drop(made?),
        }
        // What is never listed is an earlier one that was removed, which the same token names.
        let mut pauses = Pauses::new();
        loop {
            (kept, rest) = settle(place.route_tables(Scope::One(path)).await?, used);
            if kept.is_some() || !pauses.listing(place).await {
                break;
            }
        }
    }
    let table =
        kept.ok_or_else(|| not_ready(format!("the route table of `{path}` is not in the listing yet")))?;
    place.learn(path, part, &table.id);
    for other in rest {
        remove_table(place, &other).await?;
    }
    Ok((table, made))
}

/// Removes a route table, from its subnets first.
pub(crate) async fn remove_table(place: &Place, table: &Part<RouteTable>) -> Result<(), Failure> {
    for association in table.it.associations().iter().filter(|association| association.main() != Some(true)) {
        let Some(id) = association.route_table_association_id() else { continue };
        let call = place.ec2.disassociate_route_table().association_id(id);
        gone(call.send().await.map_err(fault("DisassociateRouteTable")).map(drop))?;
    }
    let call = place.ec2.delete_route_table().route_table_id(&table.id);
    gone(call.send().await.map_err(fault("DeleteRouteTable")).map(drop))?;
    place.bury(&table.id);
    Ok(())
}

/// Leads what is for the world to a gateway, an internet gateway or another one. Whether it was led elsewhere.
pub(crate) async fn ensure_route(place: &Place, table: &Part<RouteTable>, to: &str) -> Result<bool, Failure> {
    let nat = to.starts_with("nat-").then(|| to.to_owned());
    let internet = nat.is_none().then(|| to.to_owned());
    match way_out(&table.it) {
        Some((now, true)) if now == to => return Ok(false),
        Some(_) => {
            let call = place.ec2.replace_route().route_table_id(&table.id).destination_cidr_block(WORLD);
            let call = call.set_gateway_id(internet).set_nat_gateway_id(nat);
            call.send().await.map_err(fault("ReplaceRoute"))?;
        }
        None => {
            let call = place.ec2.create_route().route_table_id(&table.id).destination_cidr_block(WORLD);
            let call = call.set_gateway_id(internet).set_nat_gateway_id(nat);
            match call.send().await.map_err(fault("CreateRoute")) {
                Err(fault) if fault.is(&["RouteAlreadyExists"]) => {}
                made => drop(made?),
            }
        }
    }
    Ok(true)
}

/// Removes the network once nothing is in it.
pub(crate) async fn remove(place: &Place, path: &ResourcePath) -> Result<Removed, Failure> {
    let parts = parts(place, path).await?;
    if parts.vpcs.is_empty() && parts.gateways.is_empty() && parts.tables.is_empty() {
        place.removed(path);
        return Ok(Removed::Absent);
    }
    for vpc in &parts.vpcs {
        if let Some(instance) = place.inhabitant(filter("vpc-id", &vpc.id)).await? {
            return Err(not_ready(format!("`{path}` is in use: the instance {instance} is in it")));
        }
        let call = place.ec2.describe_subnets().filters(filter("vpc-id", &vpc.id));
        let subnets = call.send().await.map_err(fault("DescribeSubnets"))?;
        if let Some(subnet) = subnets.subnets().first().and_then(|subnet| subnet.subnet_id()) {
            return Err(not_ready(format!("`{path}` is in use: the subnet {subnet} is in it")));
        }
    }
    for table in &parts.tables {
        remove_table(place, table).await?;
    }
    for gateway in &parts.gateways {
        remove_gateway(place, gateway).await?;
    }
    for vpc in &parts.vpcs {
        gone(place.ec2.delete_vpc().vpc_id(&vpc.id).send().await.map_err(fault("DeleteVpc")).map(drop))?;
        place.bury(&vpc.id);
    }
    place.removed(path);
    Ok(Removed::Removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_comes_from_the_id() {
        assert_eq!(range(&ClusterId::from_bytes([7; 6])), "10.7.0.0/16");
        assert_eq!(range(&ClusterId::from_bytes([255, 0, 0, 0, 0, 0])), "10.255.0.0/16");
    }
}
