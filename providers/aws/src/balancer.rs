//! A load balancer: one for the network layer, with a listener and a group of targets for each port. Machines register
//! themselves.

use std::collections::BTreeSet;

use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, Listener, LoadBalancerAttribute, LoadBalancerSchemeEnum, LoadBalancerStateEnum,
    LoadBalancerTypeEnum, ProtocolEnum, TargetGroup, TargetTypeEnum,
};
use castrum_blueprints::blueprint::{Port, Protocol};
use castrum_blueprints::names::{Digest, ResourceKind, ResourcePath};
use castrum_provider::{Change, Failure, LoadBalancerSpec, Removed, ResourceSeen, Wanted};

use crate::balancers::{Balancer, Balancers, ELB_GONE, TARGETS, elb_tags, list, name};
use crate::failure::{Fault, fault};
use crate::firewall::GROUP;
use crate::labels::{Label, Tags, with_state};
use crate::list::{Part, Scope};
use crate::network::VPC;
use crate::place::{Found, Pauses, Place, awaited, change_of, not_ready, settle, taken_name};
use crate::subnet::SUBNET;

const BALANCER: &str = "load-balancer";
const LISTENER: &str = "listener";
const CROSS_ZONE: &str = "load_balancing.cross_zone.enabled";

/// What the names of resources are here.
struct Ids {
    vpc: String,
    subnets: BTreeSet<String>,
    groups: BTreeSet<String>,
}

fn protocol(port: Port) -> ProtocolEnum {
    match port.protocol {
        Protocol::Tcp => ProtocolEnum::Tcp,
        Protocol::Udp => ProtocolEnum::Udp,
    }
}

/// A port as it stands at the end of a name.
fn word(port: Port) -> String {
    format!("{}{}", &port.protocol.as_str()[..1], port.number)
}

/// A short word for a set of ports.
fn state(ports: impl Iterator<Item = String>) -> String {
    let ports: BTreeSet<String> = ports.collect();
    Digest::of(ports.into_iter().collect::<Vec<_>>().join(" ").as_bytes()).short().to_owned()
}

fn listener_word(listener: &Listener) -> String {
    let protocol = listener.protocol().map(|it| it.as_str().to_lowercase()).unwrap_or_default();
    format!("{}{}", protocol.get(..1).unwrap_or_default(), listener.port().unwrap_or_default())
}

fn forwards_to(listener: &Listener) -> Option<&str> {
    listener.default_actions().iter().find_map(|action| action.target_group_arn.as_deref())
}

/// What the parts are as one resource.
pub(crate) fn judge(place: &Place, path: &ResourcePath, parts: &Balancers) -> Option<ResourceSeen> {
    let targets: Vec<&str> = parts.targets.iter().map(|targets| targets.id.as_str()).collect();
    let Some(balancer) = parts.balancers.first() else {
        return targets.first().map(|id| Found::remnant(path, id, "group of targets").seen());
    };
    place.learn(path, TARGETS, &targets.join(" "));
    let mut found = Found::new(place, balancer);
    match balancer.it.it.state().and_then(|state| state.code()) {
        Some(LoadBalancerStateEnum::Active) => {}
        Some(LoadBalancerStateEnum::Provisioning) => found.lacks("it is being made"),
        _ => found.lacks("it does not work, says the service"),
    }
    let listeners = &balancer.it.listeners;
    if balancer.label.state.as_deref() != Some(&state(listeners.iter().map(listener_word))) {
        found.lacks("its ports are not those that were declared");
    }
    let lead = |listener: &Listener| forwards_to(listener).is_some_and(|to| targets.contains(&to));
    found.must(listeners.iter().all(lead), "it hands on to something that was not declared");
    Some(found.seen())
}

/// The balancer as it is now.
pub(crate) async fn look(place: &Place, path: &ResourcePath) -> Result<Option<ResourceSeen>, Failure> {
    Ok(judge(place, path, &list(place, Scope::One(path)).await?))
}

async fn ids(place: &Place, spec: &LoadBalancerSpec) -> Result<Ids, Failure> {
    let vpc = place.resolve(&place.path(ResourceKind::Network, &spec.network), VPC).await?;
    let subnets = place.resolve_all(ResourceKind::Subnet, SUBNET, &spec.subnets).await?.into_iter().collect();
    let groups =
        place.resolve_all(ResourceKind::Firewall, GROUP, &spec.firewalls).await?.into_iter().collect();
    Ok(Ids { vpc, subnets, groups })
}

/// Makes the balancer, or what is missing of it.
pub(crate) async fn ensure(
    place: &Place,
    wanted: &Wanted,
    spec: &LoadBalancerSpec,
) -> Result<(Change, ResourceSeen), Failure> {
    let ids = ids(place, spec).await?;
    let before = list(place, Scope::One(&wanted.path)).await?;
    let created = before.balancers.is_empty();
    let tags = with_state(place.tags(wanted, BALANCER), &state(spec.ports.iter().copied().map(word)));
    let balancer = match settle(before.balancers.clone(), |_| false).0 {
        Some(balancer) => balancer,
        None => create(place, &wanted.path, &ids, &tags).await?,
    };
    let mut touched = ensure_place(place, &balancer, &ids).await?;
    touched |= ensure_cross_zone(place, &balancer.id).await?;
    touched |= ensure_ports(place, (wanted, spec), (&balancer, &before), &ids.vpc).await?;
    touched |= retag(place, &balancer.id, &balancer.label, &tags).await?;
    let change = change_of(created, touched);
    let mut pauses = Pauses::new();
    loop {
        match look(place, &wanted.path).await? {
            Some(seen) if seen.ready => return Ok((change, seen)),
            seen => pauses.pause(|| awaited(&wanted.path, seen.as_ref())).await?,
        }
    }
}

async fn create(
    place: &Place,
    path: &ResourcePath,
    ids: &Ids,
    tags: &Tags,
) -> Result<Part<Balancer>, Failure> {
    let name = name(&place.cluster, path);
    let call = place.elb.create_load_balancer().name(&name).r#type(LoadBalancerTypeEnum::Network);
    let call = call.scheme(LoadBalancerSchemeEnum::InternetFacing).set_tags(Some(elb_tags(tags)));
    let call = call.set_subnets(Some(ids.subnets.iter().cloned().collect()));
    let groups = (!ids.groups.is_empty()).then(|| ids.groups.iter().cloned().collect());
    match call.set_security_groups(groups).send().await.map_err(fault("CreateLoadBalancer")) {
        Err(fault) if fault.is(&["DuplicateLoadBalancerName*"]) => {
            return Err(taken_name("load balancer", &name));
        }
        made => drop(made?),
    }
    let mut pauses = Pauses::new();
    loop {
        if let Some(balancer) = list(place, Scope::One(path)).await?.balancers.into_iter().next() {
            return Ok(balancer);
        }
        if !pauses.listing(place).await {
            return Err(not_ready(format!("`{path}` is not in the listing yet, or has lost its labels")));
        }
    }
}

/// Subnets and firewalls.
async fn ensure_place(place: &Place, balancer: &Part<Balancer>, ids: &Ids) -> Result<bool, Failure> {
    let mut touched = false;
    let zones = balancer.it.it.availability_zones().iter();
    let subnets: BTreeSet<String> = zones.filter_map(|zone| zone.subnet_id.clone()).collect();
    if subnets != ids.subnets {
        let call = place.elb.set_subnets().load_balancer_arn(&balancer.id);
        let call = call.set_subnets(Some(ids.subnets.iter().cloned().collect()));
        call.send().await.map_err(fault("SetSubnets"))?;
        touched = true;
    }
    let groups: BTreeSet<String> = balancer.it.it.security_groups().iter().cloned().collect();
    if groups != ids.groups {
        let call = place.elb.set_security_groups().load_balancer_arn(&balancer.id);
        let call = call.set_security_groups(Some(ids.groups.iter().cloned().collect()));
        call.send().await.map_err(fault("SetSecurityGroups"))?;
        touched = true;
    }
    Ok(touched)
}

/// Machines of all zones get their share, however few are in one.
async fn ensure_cross_zone(place: &Place, arn: &str) -> Result<bool, Failure> {
    let asked = place.elb.describe_load_balancer_attributes().load_balancer_arn(arn).send().await;
    let asked = asked.map_err(fault("DescribeLoadBalancerAttributes"))?;
    let mut set = asked.attributes().iter().filter(|attribute| attribute.key() == Some(CROSS_ZONE));
    if set.any(|attribute| attribute.value() == Some("true")) {
        return Ok(false);
    }
    let on = LoadBalancerAttribute::builder().key(CROSS_ZONE).value("true").build();
    let call = place.elb.modify_load_balancer_attributes().load_balancer_arn(arn).attributes(on);
    call.send().await.map_err(fault("ModifyLoadBalancerAttributes"))?;
    Ok(true)
}

/// One listener and one group of targets for each port, and none for others.
async fn ensure_ports(
    place: &Place,
    (wanted, spec): (&Wanted, &LoadBalancerSpec),
    (balancer, before): (&Part<Balancer>, &Balancers),
    vpc: &str,
) -> Result<bool, Failure> {
    let mut touched = false;
    let mut kept = BTreeSet::new();
    for port in spec.ports.iter().copied() {
        let name = format!("{}-{}", name(&place.cluster, &wanted.path), word(port));
        let tags = place.tags(wanted, TARGETS);
        let there =
            before.targets.iter().find(|targets| targets.it.it.target_group_name.as_deref() == Some(&*name));
        let targets = if let Some(targets) = there {
            touched |= retag(place, &targets.id, &targets.label, &tags).await?;
            targets.id.clone()
        } else {
            touched = true;
            create_targets(place, (&name, port), vpc, &tags).await?
        };
        touched |= ensure_listener(place, wanted, (balancer, port), &targets).await?;
        kept.insert(targets);
    }
    for listener in &balancer.it.listeners {
        if !spec.ports.iter().any(|port| word(*port) == listener_word(listener)) {
            delete_listener(place, listener).await?;
            touched = true;
        }
    }
    for targets in before.targets.iter().filter(|targets| !kept.contains(&targets.id)) {
        delete_targets(place, &targets.id).await?;
        touched = true;
    }
    Ok(touched)
}

async fn create_targets(
    place: &Place,
    (name, port): (&str, Port),
    vpc: &str,
    tags: &Tags,
) -> Result<String, Failure> {
    let call = place.elb.create_target_group().name(name).protocol(protocol(port)).port(port.number.into());
    let call =
        call.vpc_id(vpc).target_type(TargetTypeEnum::Instance).health_check_protocol(ProtocolEnum::Tcp);
    match call.set_tags(Some(elb_tags(tags))).send().await.map_err(fault("CreateTargetGroup")) {
        Err(fault) if fault.is(&["DuplicateTargetGroupName*"]) => Err(taken_name("group of targets", name)),
        made => {
            let made = made?;
            let arn = made.target_groups().first().and_then(TargetGroup::target_group_arn);
            Ok(arn.unwrap_or_default().to_owned())
        }
    }
}

async fn ensure_listener(
    place: &Place,
    wanted: &Wanted,
    (balancer, port): (&Part<Balancer>, Port),
    targets: &str,
) -> Result<bool, Failure> {
    let there = balancer.it.listeners.iter().find(|listener| listener.port() == Some(port.number.into()));
    if let Some(listener) = there {
        if listener_word(listener) == word(port) && forwards_to(listener) == Some(targets) {
            return Ok(false);
        }
        delete_listener(place, listener).await?;
    }
    let action = Action::builder().r#type(ActionTypeEnum::Forward).target_group_arn(targets).build();
    let call = place.elb.create_listener().load_balancer_arn(&balancer.id).protocol(protocol(port));
    let call = call.port(port.number.into()).default_actions(action);
    let call = call.set_tags(Some(elb_tags(&place.tags(wanted, LISTENER))));
    match call.send().await.map_err(fault("CreateListener")) {
        Err(fault) if fault.is(&["DuplicateListener*"]) => {}
        made => drop(made?),
    }
    Ok(true)
}

async fn retag(place: &Place, arn: &str, label: &Label, tags: &Tags) -> Result<bool, Failure> {
    if label.carries(tags) {
        return Ok(false);
    }
    let call = place.elb.add_tags().resource_arns(arn).set_tags(Some(elb_tags(tags)));
    call.send().await.map_err(fault("AddTags"))?;
    Ok(true)
}

fn gone(deleted: Result<(), Fault>) -> Result<(), Failure> {
    match deleted {
        Err(fault) if fault.is(ELB_GONE) => Ok(()),
        deleted => Ok(deleted?),
    }
}

async fn delete_listener(place: &Place, listener: &Listener) -> Result<(), Failure> {
    let call = place.elb.delete_listener().set_listener_arn(listener.listener_arn.clone());
    gone(call.send().await.map_err(fault("DeleteListener")).map(drop))
}

async fn delete_targets(place: &Place, arn: &str) -> Result<(), Failure> {
    let call = place.elb.delete_target_group().target_group_arn(arn);
    gone(call.send().await.map_err(fault("DeleteTargetGroup")).map(drop))
}

/// Removes the balancer, its listeners and its groups of targets.
pub(crate) async fn remove(place: &Place, path: &ResourcePath) -> Result<Removed, Failure> {
    let all = list(place, Scope::One(path)).await?;
    if all.balancers.is_empty() && all.targets.is_empty() {
        place.removed(path);
        return Ok(Removed::Absent);
    }
    for balancer in &all.balancers {
        for listener in &balancer.it.listeners {
            delete_listener(place, listener).await?;
        }
        let call = place.elb.delete_load_balancer().load_balancer_arn(&balancer.id);
        gone(call.send().await.map_err(fault("DeleteLoadBalancer")).map(drop))?;
    }
    for targets in &all.targets {
        delete_targets(place, &targets.id).await?;
    }
    let mut pauses = Pauses::new();
    while !list(place, Scope::One(path)).await?.balancers.is_empty() {
        pauses.pause(|| format!("`{path}` is being removed")).await?;
    }
    place.removed(path);
    Ok(Removed::Removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(protocol: ProtocolEnum, port: i32) -> Listener {
        Listener::builder().protocol(protocol).port(port).build()
    }

    #[test]
    fn listeners_and_ports_have_the_same_words() {
        let ports =
            [(443, Protocol::Tcp), (53, Protocol::Udp)].map(|(number, protocol)| Port { number, protocol });
        let listeners = [listener(ProtocolEnum::Udp, 53), listener(ProtocolEnum::Tcp, 443)];
        assert_eq!(ports.map(word), ["t443", "u53"]);
        assert_eq!(state(ports.into_iter().map(word)), state(listeners.iter().map(listener_word)));
        assert_ne!(state(ports[..1].iter().copied().map(word)), state(listeners.iter().map(listener_word)));
    }
}
