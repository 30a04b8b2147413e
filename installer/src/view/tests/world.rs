//! A small cluster by hand: three masters, two private agents of which one is frozen, one public agent that fails.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use castrum_blueprints::check;
use castrum_blueprints::desired::{Desired, resolve};
use castrum_blueprints::document::read;
use castrum_blueprints::lock::{Lock, LockedPackage};
use castrum_blueprints::manifest::Blob;
use castrum_blueprints::names::{ComponentName, Digest, NodeName, ResourceKind, ResourcePath, Timestamp};
use castrum_blueprints::observed::Observed;
use castrum_blueprints::plan::{Area, Blocked, Debt, Gate, Plan};
use castrum_blueprints::resource::{Abilities, Blind, MachineSeen, PowerState, ResourceSeen};
use castrum_blueprints::stack::Stack;
use castrum_blueprints::status::{CheckResult, ComponentStatus, NodeStatus, Phase, Verdict};
use castrum_blueprints::wire::Published;

use crate::view::{Opts, World};

/// A moment: 2026-01-02 03:04:05 UTC.
pub(super) const T: u64 = 1_767_323_045_000;
pub(super) const NOW: Timestamp = Timestamp(T + 600_000);

pub(super) fn opts(width: usize) -> Opts {
    Opts { width, color: false, now: NOW }
}

pub(super) fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

pub(super) fn component(name: &str) -> ComponentName {
    name.parse().unwrap()
}

pub(super) const STACK: &str = r#"
apiVersion: castrum.stack/v1
name: small
version: 1.2.3
description: A stack for tests.
components:
  store:
    category: cluster-management
    description: Keeps what all share.
    roles: [master]
    quorum: true
    source: {deb: {packages: [store-server]}}
    ports:
      - {number: 2379, protocol: tcp, from: cluster, purpose: clients}
      - {number: 2380, protocol: tcp, from: masters, purpose: members}
    checks: &answers
      - {name: answers, description: It answers., assert: {tcp: "127.0.0.1:2379"}}
  engine:
    category: container-runtimes
    description: Runs containers.
    roles: [master, agent, public-agent]
    source: {deb: {packages: [containerd, engine.io]}}
    checks: *answers
  swarm:
    category: container-orchestration
    description: All engines together.
    roles: [master, agent, public-agent]
    requires: [engine, store]
    ports: [{number: 7946, protocol: udp, from: cluster, purpose: gossip}]
    membership: {member: {tcp: "127.0.0.1:1"}, found: [], join: []}
    checks: *answers
  metrics:
    category: logging-and-metrics
    description: Keeps numbers.
    roles: [master]
    requires: [engine]
    ports:
      - {number: 9090, protocol: tcp, from: node, purpose: queries}
      - {number: 8443, protocol: tcp, from: outside, purpose: status page}
    checks: *answers
  edge:
    category: networking
    description: The way in.
    roles: [public-agent]
    requires: [swarm]
    ports: [{number: 80, protocol: tcp, from: outside, purpose: services}]
    checks: *answers
"#;

/// A cluster and everything that is known of it.
pub(super) struct Case {
    pub(super) desired: Desired,
    pub(super) observed: Observed,
    pub(super) plan: Plan,
    pub(super) lock: Lock,
    pub(super) stack: Stack,
}

impl Case {
    pub(super) fn world(&self) -> World<'_> {
        let Self { desired, observed, plan, lock, stack } = self;
        World { desired, observed, plan, lock, stack }
    }
}

/// A cluster of groups (name, role, count) of which nothing is known yet.
pub(super) fn blank(groups: &[(&str, &str, u32)]) -> Case {
    let mut text =
        "apiVersion: castrum/v1\nname: demo\nsites: {here: {provider: local}}\ngroups:\n".to_owned();
    for (name, role, count) in groups {
        let ports = if *name == "public" { ", openPorts: [8080/tcp]" } else { "" };
        let _ = writeln!(text, "  {name}: {{role: {role}, count: {count}{ports}}}");
    }
    text.push_str("stack: {name: swarm}\n");
    let document = read("cluster.yaml", text.as_bytes());
    let blueprint = match check::check(&document) {
        Ok(checked) => checked.blueprint,
        Err(findings) => panic!("{}", findings.render()),
    };
    let files = BTreeMap::from([("stack.yaml".to_owned(), STACK.to_owned())]);
    let stack = Stack::read(&files).unwrap();
    let lock = lock(&stack);
    let abilities = Abilities {
        provider: "local".to_owned(),
        kinds: vec![ResourceKind::Image, ResourceKind::Network, ResourceKind::Machine],
        boot_data: true,
        power: true,
        ..Abilities::default()
    };
    let abilities = BTreeMap::from([("here".parse().unwrap(), abilities)]);
    let desired = resolve(&blueprint, &stack, &lock, &abilities).unwrap();
    let observed = Observed { taken_at: NOW, ..Observed::default() };
    Case { desired, observed, plan: Plan::default(), lock, stack }
}

fn lock(stack: &Stack) -> Lock {
    let mut lock = Lock::new("0123456789ab".parse().unwrap(), "demo".parse().unwrap());
    lock.agent = Some(Blob { digest: Digest::of(b"agent"), size: 5_000_000 });
    for (name, package, version) in [
        ("engine", "containerd", "1.6.20"),
        ("engine", "engine.io", "20.10.24+dfsg1"),
        ("store", "store-server", "3.4.23-4"),
    ] {
        let locked = lock.components.entry(component(name)).or_default();
        locked.packages.push(LockedPackage {
            name: package.to_owned(),
            version: version.to_owned(),
            architecture: "amd64".to_owned(),
            sha256: Digest::of(package.as_bytes()),
            size: 12_345_678,
        });
        locked.source =
            Some(Digest::of(&serde_json::to_vec(&stack.components[name].source.as_ref().unwrap()).unwrap()));
        locked.bundle = Some(Blob { digest: Digest::of(name.as_bytes()), size: 31_000_000 });
    }
    lock.founders.insert(component("swarm"), node("masters-1"));
    lock
}

pub(super) fn machine(case: &Case, name: &NodeName, power: PowerState, last: u8) -> ResourceSeen {
    let path = case.desired.nodes[name].machine.clone();
    let spec = Some(case.desired.resources[&path].digest());
    let machine = MachineSeen {
        address: Some([10, 9, 8, last].into()),
        public_address: None,
        power,
        created_at: Timestamp(T),
        incarnation: "one".to_owned(),
    };
    ResourceSeen { path, id: format!("i-{last}"), spec, ready: true, note: None, machine: Some(machine) }
}

pub(super) fn status(case: &Case, name: &NodeName) -> NodeStatus {
    let carried = &case.desired.carried[&case.desired.nodes[name].role];
    let components = carried.iter().map(|name| (name.clone(), healthy())).collect();
    NodeStatus {
        format_version: 1,
        cluster: case.desired.cluster.clone(),
        node: name.clone(),
        incarnation: "one".to_owned(),
        agent_version: "0.1.0".to_owned(),
        boot_id: "b".to_owned(),
        sequence: 7,
        started_at: Timestamp(T + 8_000),
        at: Timestamp(NOW.0 - 2_000),
        generation: 3,
        content: Some(Digest::of(b"content")),
        components,
        blobs: BTreeSet::from([Digest::of(b"agent")]),
        problem: None,
    }
}

pub(super) fn healthy() -> ComponentStatus {
    let result = CheckResult {
        verdict: Verdict::Ok,
        since: Timestamp(T + 30_000),
        at: Timestamp(NOW.0 - 5_000),
        seen: "connected in 1 ms".to_owned(),
    };
    ComponentStatus {
        applied: Digest::of(b"applied"),
        phase: Phase::Healthy,
        since: Timestamp(T + 30_000),
        note: None,
        checks: BTreeMap::from([("answers".to_owned(), result)]),
        restarts: 0,
    }
}

pub(super) fn failing(seen: &str) -> ComponentStatus {
    let mut failing = healthy();
    failing.phase = Phase::Failing;
    failing.since = Timestamp(NOW.0 - 92_000);
    failing.restarts = 4;
    let check = failing.checks.get_mut("answers").unwrap();
    (check.verdict, check.since, check.seen) = (Verdict::Critical, failing.since, seen.to_owned());
    failing
}

/// Lets every node be heard and healthy.
pub(super) fn settle(case: &mut Case) {
    let names: Vec<NodeName> = case.desired.nodes.keys().cloned().collect();
    for (at, name) in names.iter().enumerate() {
        let seen = machine(case, name, PowerState::On, u8::try_from(at % 250).unwrap() + 1);
        case.observed.saw(seen);
        let status = status(case, name);
        let published = Published { generation: 3, content: Digest::of(b"content") };
        case.observed.hear(status, 2_000, NOW);
        case.observed.published(name, published, NOW);
    }
}

/// The small cluster.
pub(super) fn small() -> Case {
    with_trouble("connection refused")
}

/// The small cluster, whose failing check says `seen`.
pub(super) fn with_trouble(seen: &str) -> Case {
    let mut case = blank(&[("masters", "master", 3), ("agents", "agent", 2), ("public", "public-agent", 1)]);
    settle(&mut case);
    let frozen = node("agents-2");
    let paused = machine(&case, &frozen, PowerState::Paused, 2);
    case.observed.saw(paused);
    let known = case.observed.nodes.get_mut(&frozen).unwrap();
    known.published = Some(Published { generation: 4, content: Digest::of(b"next") });
    let heard = known.heard.as_mut().unwrap();
    heard.at = Timestamp(NOW.0 - 100_000);
    Arc::make_mut(&mut heard.status).components.remove("swarm");
    let public = case.observed.nodes.get_mut(&node("public-1")).unwrap();
    let status = Arc::make_mut(&mut public.heard.as_mut().unwrap().status);
    status.components.insert(component("edge"), failing(seen));
    case.plan = trouble_plan(seen);
    case
}

fn trouble_plan(seen: &str) -> Plan {
    let blocked = |subject: &str,
                   (gate, waits_for): (Gate, &str),
                   (since, last_seen): (u64, &str),
                   of: &str,
                   by_debt| Blocked {
        subject: subject.to_owned(),
        waits_for: waits_for.to_owned(),
        gate,
        since: Timestamp(since),
        last_seen: last_seen.to_owned(),
        node: Some(node(of)),
        by_debt,
    };
    Plan {
        steps: Vec::new(),
        blocked: vec![
            blocked(
                "node agents-2",
                (Gate::Machine, "its agent to be heard"),
                (NOW.0 - 100_000, "its machine is paused"),
                "agents-2",
                true,
            ),
            blocked(
                "edge on public-1",
                (Gate::Checks { component: component("edge") }, "its checks to be ok"),
                (NOW.0 - 92_000, seen),
                "public-1",
                false,
            ),
        ],
        debt: vec![Debt {
            subject: "agents-2".to_owned(),
            reason: "its machine is paused".to_owned(),
            since: Timestamp(NOW.0 - 100_000),
            area: Area::Boot,
        }],
        wake_at: None,
    }
}

/// The small cluster in which everything that can speak says `text`.
pub(super) fn hostile(text: &str) -> Case {
    let mut case = with_trouble(text);
    for seen in case.observed.resources.values_mut() {
        (seen.note, seen.id, seen.ready) = (Some(text.to_owned()), text.to_owned(), false);
    }
    for known in case.observed.nodes.values_mut() {
        let status = Arc::make_mut(&mut known.heard.as_mut().unwrap().status);
        (status.problem, status.agent_version) = (Some(text.to_owned()), text.to_owned());
        for component in status.components.values_mut() {
            (component.note, component.phase) = (Some(text.to_owned()), Phase::Settling);
            let result = component.checks["answers"].clone();
            component.checks.insert(text.to_owned(), CheckResult { seen: text.to_owned(), ..result });
        }
    }
    case.observed.blind = vec![Blind { site: "here".parse().unwrap(), kind: None, reason: text.to_owned() }];
    let surplus =
        ResourcePath { site: "here".parse().unwrap(), kind: ResourceKind::Volume, name: text.to_owned() };
    case.observed.saw(ResourceSeen {
        path: surplus,
        id: text.to_owned(),
        spec: None,
        ready: true,
        note: Some(text.to_owned()),
        machine: None,
    });
    for blocked in &mut case.plan.blocked {
        (blocked.subject, blocked.waits_for, blocked.last_seen) = (text.into(), text.into(), text.into());
    }
    for debt in &mut case.plan.debt {
        (debt.subject, debt.reason) = (text.to_owned(), text.to_owned());
    }
    for locked in case.lock.components.values_mut() {
        for package in &mut locked.packages {
            text.clone_into(&mut package.version);
        }
    }
    case
}
