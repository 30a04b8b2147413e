//! The listing of load balancers and their groups of targets. Their service knows no filter by tags: names that come from
//! the cluster's id narrow the listing, and the tags of each prove whose it is.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_elasticloadbalancingv2::types::{
    Listener, LoadBalancer, Tag, TargetDescription, TargetGroup, TargetHealthStateEnum,
};
use castrum_blueprints::names::{ClusterId, Digest, ResourcePath};
use castrum_provider::Failure;
use futures_util::future::try_join_all;

use crate::failure::fault;
use crate::labels::{Label, Tags};
use crate::list::{Part, Scope};
use crate::place::Place;

/// The groups of targets of a balancer, by their ids.
pub(crate) const TARGETS: &str = "target-groups";
/// What is said of something that is not there.
pub(crate) const ELB_GONE: &[&str] = &["*NotFound", "*NotFoundException"];
/// How many things one question about tags may name.
const BATCH: usize = 20;

/// A load balancer with its listeners.
#[derive(Debug, Clone)]
pub(crate) struct Balancer {
    pub(crate) it: LoadBalancer,
    pub(crate) listeners: Vec<Listener>,
}

/// A group of targets with the machines that are registered.
#[derive(Debug, Clone)]
pub(crate) struct Targets {
    pub(crate) it: TargetGroup,
    pub(crate) machines: BTreeSet<String>,
}

/// What balancers consist of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Balancers {
    pub(crate) balancers: Vec<Part<Balancer>>,
    pub(crate) targets: Vec<Part<Targets>>,
}

/// Tags in the words of the service.
pub(crate) fn elb_tags(tags: &Tags) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(*key).value(value).build()).collect()
}

fn prefix(cluster: &ClusterId) -> String {
    format!("c{cluster}-")
}

/// The name of a balancer: there is room for 32 characters, and its groups of targets add theirs.
pub(crate) fn name(cluster: &ClusterId, path: &ResourcePath) -> String {
    format!("{}{}", prefix(cluster), &Digest::of(path.to_string().as_bytes()).as_str()[..10])
}

/// Balancers and groups of targets of ours.
pub(crate) async fn list(place: &Place, scope: Scope<'_>) -> Result<Balancers, Failure> {
    let begin = match scope {
        Scope::All => prefix(&place.cluster),
        Scope::One(path) => name(&place.cluster, path),
    };
    let (balancers, targets) = tokio::try_join!(balancers(place, &begin), targets(place, &begin))?;
    let arns = balancers.iter().filter_map(LoadBalancer::load_balancer_arn);
    let arns: Vec<String> =
        arns.chain(targets.iter().filter_map(TargetGroup::target_group_arn)).map(str::to_owned).collect();
    let mut labels = labels(place, &arns).await?;
    labels.retain(|_, label| match scope {
        Scope::All => label.path.site == place.site,
        Scope::One(path) => label.path == *path,
    });
    let ours = |arn: Option<String>| {
        let id = arn?;
        Some((labels.get(&id)?.clone(), id))
    };
    let balancers = balancers.into_iter().filter_map(|it| Some((ours(it.load_balancer_arn.clone())?, it)));
    let balancers = balancers.map(|((label, id), it)| async move {
        let listeners = listeners(place, &id).await?;
        Ok::<_, Failure>(Part { label, id, it: Balancer { it, listeners } })
    });
    let targets = targets.into_iter().filter_map(|it| Some((ours(it.target_group_arn.clone())?, it)));
    let targets = targets.map(|((label, id), it)| async move {
        let machines = registered(place, &id).await?;
        Ok::<_, Failure>(Part { label, id, it: Targets { it, machines } })
    });
    let (balancers, targets) = tokio::try_join!(try_join_all(balancers), try_join_all(targets))?;
    Ok(Balancers { balancers, targets })
}

async fn balancers(place: &Place, begin: &str) -> Result<Vec<LoadBalancer>, Failure> {
    let call = place.elb.describe_load_balancers().into_paginator().items().send();
    let found: Result<Vec<LoadBalancer>, _> = call.collect().await;
    let mut found = found.map_err(fault("DescribeLoadBalancers"))?;
    found.retain(|it| it.load_balancer_name().is_some_and(|name| name.starts_with(begin)));
    Ok(found)
}

async fn targets(place: &Place, begin: &str) -> Result<Vec<TargetGroup>, Failure> {
    let call = place.elb.describe_target_groups().into_paginator().items().send();
    let found: Result<Vec<TargetGroup>, _> = call.collect().await;
    let mut found = found.map_err(fault("DescribeTargetGroups"))?;
    found.retain(|it| it.target_group_name.as_deref().is_some_and(|name| name.starts_with(begin)));
    Ok(found)
}

async fn labels(place: &Place, arns: &[String]) -> Result<BTreeMap<String, Label>, Failure> {
    let mut labels = BTreeMap::new();
    for batch in arns.chunks(BATCH) {
        let call = place.elb.describe_tags().set_resource_arns(Some(batch.to_vec()));
        let found = match call.send().await.map_err(fault("DescribeTags")) {
            // One of them went since it was listed; the next look tells which.
            Err(fault) if fault.is(ELB_GONE) => {
                return Err(crate::place::not_ready(
                    "load balancers change while they are listed".to_owned(),
                ));
            }
            found => found?,
        };
        for described in found.tag_descriptions() {
            let tags = described.tags().iter().filter_map(|tag| Some((tag.key()?, tag.value()?)));
            if let (Some(arn), Some(label)) = (described.resource_arn(), Label::read(&place.cluster, tags)) {
                labels.insert(arn.to_owned(), label);
            }
        }
    }
    Ok(labels)
}

async fn listeners(place: &Place, balancer: &str) -> Result<Vec<Listener>, Failure> {
    let call = place.elb.describe_listeners().load_balancer_arn(balancer).into_paginator().items().send();
    let found: Result<Vec<Listener>, _> = call.collect().await;
    match found.map_err(fault("DescribeListeners")) {
        Err(fault) if fault.is(ELB_GONE) => Ok(Vec::new()),
        found => Ok(found?),
    }
}

/// The machines that are registered with a group of targets, whatever their health.
pub(crate) async fn registered(place: &Place, targets: &str) -> Result<BTreeSet<String>, Failure> {
    let call = place.elb.describe_target_health().target_group_arn(targets);
    let found = match call.send().await.map_err(fault("DescribeTargetHealth")) {
        Err(fault) if fault.is(ELB_GONE) => return Ok(BTreeSet::new()),
        found => found?,
    };
    let there = found.target_health_descriptions().iter().filter(|described| {
        let state = described.target_health().and_then(|health| health.state());
        state != Some(&TargetHealthStateEnum::Draining)
    });
    Ok(there.filter_map(|described| described.target()?.id.clone()).collect())
}

/// Registers a machine with a group of targets.
pub(crate) async fn register(place: &Place, targets: &str, machine: &str) -> Result<(), Failure> {
    let target = TargetDescription::builder().id(machine).build();
    let call = place.elb.register_targets().target_group_arn(targets).targets(target);
    call.send().await.map_err(fault("RegisterTargets"))?;
    Ok(())
}

/// Takes a machine out of a group of targets.
pub(crate) async fn deregister(place: &Place, targets: &str, machine: &str) -> Result<(), Failure> {
    let target = TargetDescription::builder().id(machine).build();
    let call = place.elb.deregister_targets().target_group_arn(targets).targets(target);
    match call.send().await.map_err(fault("DeregisterTargets")) {
        Err(fault) if fault.is(ELB_GONE) || fault.is(&["InvalidTarget*"]) => Ok(()),
        done => done.map(drop).map_err(Failure::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_room_for_a_port() {
        let cluster = ClusterId::from_bytes([7; 6]);
        let path = |text: &str| text.parse::<ResourcePath>().expect("a path");
        let (edge, other) = (path("here/load-balancer/edge"), path("there/load-balancer/edge"));
        assert!(format!("{}-u65535", name(&cluster, &edge)).len() <= 32);
        assert_ne!(name(&cluster, &edge), name(&cluster, &other));
        assert!(name(&cluster, &edge).starts_with(&prefix(&cluster)));
    }
}
