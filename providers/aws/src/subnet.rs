//! A subnet: its way to the world, by addresses of its machines or through the gateway of another subnet, and the gateway
//! that it may have itself.

use aws_sdk_ec2::types::{AttributeBooleanValue, ResourceType, RouteTable, Subnet, SubnetState};
use castrum_blueprints::names::{ResourceKind, ResourcePath};
use castrum_provider::{Change, Exit, Failure, Removed, ResourceSeen, SubnetSpec, Wanted};

use crate::failure::fault;
use crate::labels::{Tags, with_state};
use crate::list::{Part, Scope, filter, tagged};
use crate::nat::{self, Gateways};
use crate::network::{PUBLIC, VPC, ensure_route, gone, own_table, remove_table, way_out};
use crate::place::{Found, Pauses, Place, awaited, change_of, invalid, not_ready, settle};
use crate::range::Block;

pub(crate) const SUBNET: &str = "subnet";
const TABLE: &str = "route-table";
const DIRECT: &str = "direct";
const THROUGH: &str = "through";
/// What the state of a subnet with a gateway of its own ends with.
const GATEWAY: &str = "+gateway";

/// What a subnet consists of.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(crate) subnets: Vec<Part<Subnet>>,
    pub(crate) tables: Vec<Part<RouteTable>>,
    pub(crate) gateways: Gateways,
}

async fn parts(place: &Place, path: &ResourcePath) -> Result<Parts, Failure> {
    let scope = Scope::One(path);
    let (subnets, tables, gateways) =
        tokio::try_join!(place.subnets(scope), place.route_tables(scope), place.nat_gateways(scope))?;
    Ok(Parts { subnets, tables, gateways: nat::living(gateways) })
}

fn state(spec: &SubnetSpec) -> String {
    let way = if spec.exit == Exit::Direct { DIRECT } else { THROUGH };
    format!("{way}{}", if spec.gateway.is_some() { GATEWAY } else { "" })
}

fn used(subnet: &Subnet) -> bool {
    // Some addresses of each subnet are the service's own; one of several that has fewer left has machines.
    subnet.available_ip_address_count().is_some_and(|left| {
        let size = subnet.cidr_block().and_then(|cidr| cidr.split_once('/')?.1.parse::<u32>().ok());
        size.is_some_and(|bits| i64::from(left) + 5 < 1_i64 << 32_u32.saturating_sub(bits))
    })
}

/// The table that a subnet goes by, of those that are listed.
fn table_of<'a>(subnet: &str, tables: &'a [Part<RouteTable>]) -> Option<&'a Part<RouteTable>> {
    let of =
        |table: &&Part<RouteTable>| table.it.associations().iter().any(|it| it.subnet_id() == Some(subnet));
    tables.iter().find(of)
}

/// What the parts are as one resource. `tables` are those of the whole cluster, where they are known.
pub(crate) fn judge(
    place: &Place,
    path: &ResourcePath,
    parts: &Parts,
    tables: Option<&[Part<RouteTable>]>,
) -> Option<ResourceSeen> {
    let (Some(subnet), others) = settle(parts.subnets.clone(), used) else {
        let left = parts.gateways.first().map(|gateway| (&gateway.id, "gateway"));
        let left = left.or(parts.tables.first().map(|table| (&table.id, "route table")));
        return left.map(|(id, what)| Found::remnant(path, id, what).seen());
    };
    place.learn(path, SUBNET, &subnet.id);
    let mut found = Found::new(place, &subnet);
    for other in others {
        found.lacks(format!("another one was made beside it, {}", other.id));
    }
    found.must(subnet.it.state() != Some(&SubnetState::Pending), "it is being made");
    let state = subnet.label.state.as_deref().unwrap_or_default();
    let direct = state.starts_with(DIRECT);
    let public = subnet.it.map_public_ip_on_launch() == Some(true);
    match (direct, public) {
        (true, false) => found.lacks("its machines get no public addresses any more"),
        (false, true) => found.lacks("its machines get public addresses, which is not declared"),
        _ => {}
    }
    if let Some(tables) = tables {
        match table_of(&subnet.id, tables) {
            None => found.lacks("it has no way out: no route table of this cluster is its own"),
            Some(table) if (table.label.path.kind == ResourceKind::Network) != direct => {
                found.lacks("it goes out another way than declared");
            }
            Some(table) => {
                found.must(way_out(&table.it).is_some_and(|(_, there)| there), "its way out is gone");
            }
        }
    }
    if state.ends_with(GATEWAY) {
        nat::judge(place, path, &parts.gateways, &mut found);
    } else {
        found.must(parts.gateways.is_empty(), "it has a gateway, which is not declared");
    }
    Some(found.seen())
}

/// The subnet as it is now.
pub(crate) async fn look(place: &Place, path: &ResourcePath) -> Result<Option<ResourceSeen>, Failure> {
    let (parts, tables) = tokio::try_join!(parts(place, path), place.route_tables(Scope::All))?;
    Ok(judge(place, path, &parts, Some(&tables)))
}

/// Makes the subnet, or what is missing of it.
pub(crate) async fn ensure(
    place: &Place,
    wanted: &Wanted,
    spec: &SubnetSpec,
) -> Result<(Change, ResourceSeen), Failure> {
    let network = place.path(ResourceKind::Network, &spec.network);
    let vpc = place.resolve(&network, VPC).await?;
    let before = parts(place, &wanted.path).await?;
    let created = before.subnets.is_empty();
    let tags = with_state(place.tags(wanted, SUBNET), &state(spec));
    let subnet = ensure_subnet(place, (wanted, spec), before, (&vpc, &tags)).await?;
    let mut touched = ensure_addresses(place, &subnet, spec.exit == Exit::Direct).await?;
    touched |= nat::ensure(place, wanted, &subnet.id, spec.gateway.as_deref()).await?;
    touched |= ensure_exit(place, (wanted, spec), (&vpc, &subnet.id)).await?;
    touched |= place.retag(&subnet.id, &subnet.label, &tags).await?;
    let change = change_of(created, touched);
    let mut pauses = Pauses::new();
    loop {
        match look(place, &wanted.path).await? {
            Some(seen) if seen.ready => return Ok((change, seen)),
            seen => pauses.pause(|| awaited(&wanted.path, seen.as_ref())).await?,
        }
    }
}

async fn ensure_subnet(
    place: &Place,
    (wanted, spec): (&Wanted, &SubnetSpec),
    before: Parts,
    (vpc, tags): (&str, &Tags),
) -> Result<Part<Subnet>, Failure> {
    let path = &wanted.path;
    let (mut kept, mut rest) = settle(before.subnets, used);
    if kept.is_none() {
        place.not_just_made(path, SUBNET)?;
        let cidr = free_block(place, path, vpc).await?;
        let call = place.ec2.create_subnet().vpc_id(vpc).availability_zone(&spec.zone).cidr_block(cidr);
        let made = call.tag_specifications(tagged(ResourceType::Subnet, tags)).send().await;
        let made = made.map_err(fault("CreateSubnet"))?;
        place.made(path, SUBNET, made.subnet().and_then(Subnet::subnet_id).unwrap_or_default());
        let mut pauses = Pauses::new();
        loop {
            (kept, rest) = settle(place.subnets(Scope::One(path)).await?, used);
            if kept.is_some() || !pauses.listing(place).await {
                break;
            }
        }
    }
    let subnet =
        kept.ok_or_else(|| not_ready(format!("the subnet of `{path}` is not in the listing yet")))?;
    for other in rest {
        let call = place.ec2.delete_subnet().subnet_id(&other.id);
        gone(call.send().await.map_err(fault("DeleteSubnet")).map(drop))?;
    }
    if subnet.it.vpc_id() != Some(vpc) {
        return Err(not_ready(format!("`{path}` is in another VPC than its network, {}", subnet.id)));
    }
    match subnet.it.availability_zone() {
        Some(zone) if zone != spec.zone => {
            let text = format!("`{path}` is in the zone {zone}, and cannot move to {}", spec.zone);
            Err(invalid(text).with_hint("keep the `zones` that the site had, and add new ones at the end"))
        }
        _ => Ok(subnet),
    }
}

/// The first free part of the VPC.
async fn free_block(place: &Place, path: &ResourcePath, vpc: &str) -> Result<String, Failure> {
    let (vpcs, subnets) = (place.ec2.describe_vpcs().vpc_ids(vpc), place.ec2.describe_subnets());
    let vpcs = vpcs.send().await.map_err(fault("DescribeVpcs"))?;
    let range = vpcs.vpcs().first().and_then(|vpc| Block::read(vpc.cidr_block()?));
    let subnets: Result<Vec<Subnet>, _> =
        subnets.filters(filter("vpc-id", vpc)).into_paginator().items().send().collect().await;
    let subnets = subnets.map_err(fault("DescribeSubnets"))?;
    let taken: Vec<Block> = subnets.iter().filter_map(|subnet| Block::read(subnet.cidr_block()?)).collect();
    let range = range.ok_or_else(|| not_ready(format!("the VPC of `{path}` is not in the listing yet")))?;
    range.free(&taken).ok_or_else(|| {
        let text = format!("there is no room for `{path}` in its network");
        invalid(text).with_hint("set a larger `cidr` for the site, or fewer `zones`")
    })
}

async fn ensure_addresses(place: &Place, subnet: &Part<Subnet>, public: bool) -> Result<bool, Failure> {
    if subnet.it.map_public_ip_on_launch() == Some(public) {
        return Ok(false);
    }
    let value = AttributeBooleanValue::builder().value(public).build();
    let call = place.ec2.modify_subnet_attribute().subnet_id(&subnet.id).map_public_ip_on_launch(value);
    call.send().await.map_err(fault("ModifySubnetAttribute"))?;
    Ok(true)
}

/// Lets the subnet go out as declared. Whether it went out otherwise.
async fn ensure_exit(
    place: &Place,
    (wanted, spec): (&Wanted, &SubnetSpec),
    (vpc, subnet): (&str, &str),
) -> Result<bool, Failure> {
    let (table, mut touched) = match &spec.exit {
        Exit::Direct => {
            let network = place.path(ResourceKind::Network, &spec.network);
            (place.resolve(&network, PUBLIC).await?, false)
        }
        Exit::Through(name) => {
            let gateway = place.path(ResourceKind::Subnet, name);
            let gateway = place.resolve(&gateway, nat::GATEWAY).await?;
            let (table, made) = own_table(place, wanted, vpc, TABLE).await?;
            let routed = ensure_route(place, &table, &gateway).await?;
            let tagged = place.retag(&table.id, &table.label, &place.tags(wanted, TABLE)).await?;
            (table.id, made || routed || tagged)
        }
    };
    touched |= associate(place, subnet, &table).await?;
    if spec.exit == Exit::Direct {
        for left in place.route_tables(Scope::One(&wanted.path)).await? {
            remove_table(place, &left).await?;
            touched = true;
        }
    }
    Ok(touched)
}

async fn associate(place: &Place, subnet: &str, table: &str) -> Result<bool, Failure> {
    let call = place.ec2.describe_route_tables().filters(filter("association.subnet-id", subnet));
    let found = call.send().await.map_err(fault("DescribeRouteTables"))?;
    let associations = found.route_tables().iter().flat_map(RouteTable::associations);
    let now = associations
        .filter(|it| it.subnet_id() == Some(subnet))
        .find_map(|it| Some((it.route_table_association_id()?.to_owned(), it.route_table_id()?.to_owned())));
    match now {
        Some((_, now)) if now == table => Ok(false),
        Some((id, _)) => {
            let call = place.ec2.replace_route_table_association().association_id(id).route_table_id(table);
            call.send().await.map_err(fault("ReplaceRouteTableAssociation"))?;
            Ok(true)
        }
        None => {
            let call = place.ec2.associate_route_table().subnet_id(subnet).route_table_id(table);
            call.send().await.map_err(fault("AssociateRouteTable"))?;
            Ok(true)
        }
    }
}

/// Removes the subnet once nothing is in it.
pub(crate) async fn remove(place: &Place, path: &ResourcePath) -> Result<Removed, Failure> {
    let parts = parts(place, path).await?;
    if parts.subnets.is_empty() && parts.tables.is_empty() && parts.gateways.is_empty() {
        place.removed(path);
        return Ok(Removed::Absent);
    }
    for subnet in &parts.subnets {
        if let Some(instance) = place.inhabitant(filter("subnet-id", &subnet.id)).await? {
            return Err(not_ready(format!("`{path}` is in use: the instance {instance} is in it")));
        }
    }
    nat::remove(place, &parts.gateways).await?;
    for table in &parts.tables {
        remove_table(place, table).await?;
    }
    for subnet in &parts.subnets {
        // Its tie to the table of its network goes with it.
        let call = place.ec2.delete_subnet().subnet_id(&subnet.id);
        gone(call.send().await.map_err(fault("DeleteSubnet")).map(drop))?;
        place.bury(&subnet.id);
    }
    place.removed(path);
    Ok(Removed::Removed)
}
