//! Gates: how they are written, and when they are open.

use std::sync::Arc;

use castrum_blueprints::names::Timestamp;

use super::world::{NOW, blank, component, failing, node, settle, small};
use crate::view::wait_gate::{Gate, GateError};

fn gate(text: &str) -> Gate {
    text.parse().unwrap()
}

#[test]
fn gates_read_back() {
    for text in
        ["healthy", "quorum", "node/agents-1", "node/agents-1/healthy", "component/etcd", "role/public-agent"]
    {
        assert_eq!(gate(text).to_string(), text);
    }
    for text in
        ["", "health", "node", "node/", "node/A", "node/a-1/dead", "component/a/b", "role/king", "healthy/"]
    {
        assert!(text.parse::<Gate>().is_err(), "{text}");
    }
}

#[test]
fn a_gate_that_could_never_open_is_refused() {
    let case = small();
    for good in ["healthy", "quorum", "node/agents-1", "component/edge", "role/agent"] {
        assert_eq!(gate(good).check(&case.desired), Ok(()));
    }
    for bad in ["node/agents-3", "node/agents-3/healthy", "component/etcd"] {
        assert!(matches!(gate(bad).check(&case.desired), Err(GateError::Absent { .. })), "{bad}");
    }
    let only_masters = blank(&[("masters", "master", 1)]);
    let error = gate("role/agent").check(&only_masters.desired).unwrap_err();
    assert_eq!(error.to_string(), "this cluster has no node of role `agent`; it has master");
}

#[test]
fn gates_open_and_say_what_is_missing() {
    let case = small();
    let look = |text: &str| gate(text).evaluate(&case.desired, &case.observed, NOW);
    for open in [
        "quorum",
        "node/masters-1",
        "node/public-1",
        "node/agents-1/healthy",
        "component/store",
        "role/master",
    ] {
        assert!(look(open).open, "{open}: {:?}", look(open));
    }
    for closed in [
        "healthy",
        "node/agents-2",
        "node/public-1/healthy",
        "component/edge",
        "component/swarm",
        "role/agent",
    ] {
        assert!(!look(closed).open, "{closed}");
    }
    let healthy = look("healthy");
    assert_eq!(healthy.awaited, "every node to be healthy; 4 of 6 are, and not agents-2, public-1");
    assert_eq!(healthy.last_seen, "agents-2 was last heard 1m 40s ago");
    let edge = look("component/edge");
    assert_eq!(edge.last_seen, "edge on public-1 is failing: check answers is critical: connection refused");
}

#[test]
fn quorum_is_a_majority() {
    let mut case = small();
    for (count, open) in [(1, true), (2, false)] {
        let known = case.observed.nodes.get_mut(&node(&format!("masters-{count}"))).unwrap();
        let status = Arc::make_mut(&mut known.heard.as_mut().unwrap().status);
        status.components.insert(component("store"), failing("no leader"));
        let awaited = Gate::Quorum.evaluate(&case.desired, &case.observed, NOW);
        assert_eq!(awaited.open, open, "{awaited:?}");
    }
}

#[test]
fn an_old_word_opens_nothing() {
    let mut case = small();
    settle(&mut case);
    let late = Timestamp(NOW.0 + 3_600_000);
    assert!(!Gate::Healthy.evaluate(&case.desired, &case.observed, late).open);
    assert!(!Gate::Quorum.evaluate(&case.desired, &case.observed, late).open);
}
