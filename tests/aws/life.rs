//! A cluster's life in an account: made, found whole, put right after somebody changed it, grown, shrunk, and removed
//! without a trace.

use std::collections::BTreeMap;

use castrum_blueprints::plan::Progress;
use castrum_tests::cluster::small;
use castrum_tests::moto::{ApiCall, Camp, Peer, plant};

/// The id of every cluster here.
const CLUSTER: &str = "0123456789ab";

/// What the calls that changed something were, and how many of each.
pub fn changes(calls: &[ApiCall]) -> BTreeMap<String, usize> {
    let mut changes = BTreeMap::new();
    for call in calls.iter().filter(|call| !call.looks()) {
        *changes.entry(call.action.clone()).or_default() += 1;
    }
    changes
}

/// Three masters, two agents and a public agent over two zones, made beside what belongs to others.
async fn made() -> (Camp, String) {
    let peer = Peer::start();
    plant(&peer, CLUSTER).await;
    let before = peer.account().await;
    let camp = Camp::new(peer, small(2)).await;
    let (outcome, _) = camp.apply().await;
    assert_eq!(outcome.progress, Some(Progress::Converged), "{:#?}", outcome.plan);
    (camp, before)
}

/// A run that changes nothing: neither by the engine's words nor by the account's calls.
async fn assert_nothing_to_do(camp: &Camp) {
    assert_eq!(camp.plan().await, BTreeMap::new());
    camp.peer.forget_calls().await;
    let (outcome, heard) = camp.apply().await;
    assert_eq!(outcome.progress, Some(Progress::Converged), "{:#?}", outcome.plan);
    assert_eq!(heard.started(), Vec::<String>::new());
    assert_eq!(changes(&camp.peer.calls().await), BTreeMap::new());
}

async fn destroyed(camp: &Camp, before: &str) {
    let (outcome, _) = camp.destroy().await;
    assert_eq!(outcome.progress, Some(Progress::Converged), "{:#?}", outcome.plan);
    assert_same(&camp.peer.account().await, before);
    assert_eq!(camp.world.audit().agents, 0);
}

/// The same text, or the first lines that differ.
pub fn assert_same(now: &str, before: &str) {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (now, before) = (lines(now), lines(before));
    let at =
        now.iter().zip(&before).position(|(one, other)| one != other).unwrap_or(now.len().min(before.len()));
    let around = |lines: &[String]| {
        lines[at.saturating_sub(12).min(lines.len())..(at + 12).min(lines.len())].join("\n")
    };
    assert!(now == before, "line {at} differs. Now:\n{}\nBefore:\n{}", around(&now), around(&before));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_made_and_removed_without_a_trace() {
    let (camp, before) = made().await;
    let calls = camp.peer.calls().await;
    println!("{} calls, of which changed something: {:?}", calls.len(), changes(&calls));
    let desired = camp.desired();
    for path in desired.resources.keys() {
        assert!(
            !camp.peer.labelled(CLUSTER, &path.to_string()).await.is_empty()
                || path.kind.to_string() == "load-balancer",
            "{path}"
        );
    }
    assert_nothing_to_do(&camp).await;
    destroyed(&camp, &before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_changed_is_seen_with_its_reason_and_put_right() {
    let (camp, before) = made().await;
    let whole = camp.peer.named().await;
    let group = one_of(&camp, "here/firewall/nodes", "sg-").await;
    let rule = [
        ("GroupId", group.as_str()),
        ("IpPermissions.1.IpProtocol", "tcp"),
        ("IpPermissions.1.FromPort", "23"),
        ("IpPermissions.1.ToPort", "23"),
        ("IpPermissions.1.IpRanges.1.CidrIp", "0.0.0.0/0"),
    ];
    camp.peer.call("ec2", "AuthorizeSecurityGroupIngress", &rule).await;
    assert_put_right(&camp, "ensure here/firewall/nodes", "tcp 23").await;
    let instance = one_of(&camp, "here/machine/agents-1", "i-").await;
    camp.peer.call("ec2", "TerminateInstances", &[("InstanceId.1", &instance)]).await;
    assert_put_right(&camp, "ensure here/machine/agents-1", "does not exist").await;
    let vpc = one_of(&camp, "here/network/nodes", "vpc-").await;
    let tag = [("ResourceId.1", vpc.as_str()), ("Tag.1.Key", "Name"), ("Tag.1.Value", "mine")];
    camp.peer.call("ec2", "CreateTags", &tag).await;
    assert_put_right(&camp, "ensure here/network/nodes", "`Name`").await;
    assert_same(&camp.peer.named().await, &whole);
    assert_nothing_to_do(&camp).await;
    destroyed(&camp, &before).await;
}

/// The plan has this step for this reason, and a run does it.
async fn assert_put_right(camp: &Camp, step: &str, reason: &str) {
    let plan = camp.plan().await;
    assert!(plan.get(step).is_some_and(|said| said.contains(reason)), "{step}, {reason}: {plan:#?}");
    let (outcome, _) = camp.apply().await;
    assert_eq!(outcome.progress, Some(Progress::Converged), "{:#?}", outcome.plan);
}

async fn one_of(camp: &Camp, path: &str, kind: &str) -> String {
    let ids = camp.peer.labelled(CLUSTER, path).await;
    ids.iter().find(|id| id.starts_with(kind)).unwrap_or_else(|| panic!("no {kind} in {ids:?}")).clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_grows_and_shrinks_by_what_it_must() {
    let (mut camp, before) = made().await;
    let small_one = camp.peer.named().await;
    camp.peer.forget_calls().await;
    camp.declare(small(4));
    let (outcome, heard) = camp.apply().await;
    assert_eq!(outcome.progress, Some(Progress::Converged), "{:#?}", outcome.plan);
    let grown = changes(&camp.peer.calls().await);
    println!("growing by two: {grown:?}");
    assert_eq!(grown.get("RunInstances"), Some(&2), "{grown:?}");
    assert_eq!(grown.get("TerminateInstances"), None, "{grown:?}");
    let touched = heard.started().into_iter().filter(|id| id.contains("/machine/"));
    assert!(
        touched.clone().all(|id| id.contains("agents-3") || id.contains("agents-4")),
        "{:?}",
        touched.collect::<Vec<_>>()
    );
    camp.peer.forget_calls().await;
    camp.declare(small(2));
    let (outcome, _) = camp.apply().await;
    assert_eq!(outcome.progress, Some(Progress::Converged), "{:#?}", outcome.plan);
    let shrunk = changes(&camp.peer.calls().await);
    println!("shrinking by two: {shrunk:?}");
    assert_eq!(shrunk.get("RunInstances"), None, "{shrunk:?}");
    assert_same(&camp.peer.named().await, &small_one);
    destroyed(&camp, &before).await;
}
