//! Ten thousand nodes: every view stays short, and is made in no time to speak of.

use std::sync::Arc;
use std::time::Instant;

use castrum_blueprints::manifest::{MANIFEST_FORMAT, Manifest};
use castrum_blueprints::names::{Digest, Timestamp};
use castrum_blueprints::plan::{Action, Blocked, Forecast, Plan, Progress, Step, plan};

use super::world::{Case, NOW, blank, node, opts, settle};
use crate::view::finish_view::{Finish, finish_text};
use crate::view::get_view::{Filter, Subject, get_text};
use crate::view::graph_view::{GraphFormat, graph_text};
use crate::view::plan_view::{plan_json, plan_text};
use crate::view::status_view::{status_json, status_text};
use crate::view::wait_gate::Gate;

const AGENTS: u32 = 9_990;

fn large() -> Case {
    blank(&[("masters", "master", 5), ("agents", "agent", AGENTS), ("public", "public-agent", 5)])
}

fn timed<T>(what: &str, limit_ms: u128, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = work();
    let took = started.elapsed().as_millis();
    println!("{what}: {took} ms");
    assert!(took < limit_ms, "{what} took {took} ms");
    result
}

fn publications(case: &Case) -> Vec<Step> {
    let step = |number: u32| {
        let name = node(&format!("agents-{number}"));
        let manifest = Manifest {
            format_version: MANIFEST_FORMAT,
            cluster: case.desired.cluster.clone(),
            cluster_name: case.desired.name.clone(),
            role: castrum_blueprints::names::Role::Agent,
            generation: 1,
            masters: Vec::new(),
            components: Vec::new(),
            node: name.clone(),
        };
        let action = Action::Publish { manifest: Arc::new(manifest), content: Digest::of(b"x") };
        Step { id: format!("publish {name}@1"), action, reason: "its components change".to_owned() }
    };
    (1..=AGENTS).map(step).collect()
}

fn waits() -> Vec<Blocked> {
    let wait = |number: u32| Blocked {
        subject: format!("engine on agents-{number}"),
        waits_for: "its checks to be ok".to_owned(),
        gate: castrum_blueprints::plan::Gate::Agent { again: false },
        since: Timestamp(NOW.0 - u64::from(number)),
        last_seen: format!("engine starting for the {number}th time"),
        node: Some(node(&format!("agents-{number}"))),
        by_debt: false,
    };
    (1..=AGENTS).map(wait).collect()
}

#[test]
fn a_large_plan_is_short() {
    let case = large();
    let first = plan(&case.desired, &case.observed, NOW).unwrap();
    let second = Plan { steps: publications(&case), blocked: waits(), ..Plan::default() };
    let forecast = Forecast {
        rounds: vec![first, second.clone(), Plan { steps: Vec::new(), ..second }],
        progress: Progress::Pending,
    };
    let text = timed("plan", 5_000, || plan_text(&forecast, &case.observed, &opts(100)));
    assert!(text.lines().count() < 40, "{text}");
    assert!(text.contains("change what runs on agents-1..agents-9990 (9990 nodes)"), "{text}");
    assert!(text.contains("engine on agents-1..agents-9990 wait for their checks to be ok"), "{text}");
    timed("plan as data", 5_000, || plan_json(&forecast, &case.observed));
}

#[test]
fn a_large_status_is_short() {
    let mut case = large();
    settle(&mut case);
    let well = timed("status", 5_000, || status_text(&case.world(), &opts(120)));
    assert!(well.lines().count() < 20, "{well}");
    assert!(well.contains("9990 nodes healthy"), "{well}");
    for number in 1..=500 {
        case.observed.nodes.remove(&node(&format!("agents-{number}")));
    }
    case.plan.blocked = waits();
    let ill = timed("status with trouble", 5_000, || status_text(&case.world(), &opts(120)));
    assert!(ill.lines().count() < 70 && ill.contains("460 more that are not healthy"), "{ill}");
    let each = timed("waits", 5_000, || {
        crate::view::wait_view::waits_text(&case.world(), (None, "c.yaml"), &opts(100))
    });
    assert!(each.lines().count() < 250 && each.contains("more waits; `castrum explain wait NODE`"), "{each}");
    let finish = Finish { world: case.world(), events: &[], blueprint: "cluster.yaml", code: 30 };
    let end = timed("finish", 5_000, || finish_text(&finish, &opts(120)));
    assert!(end.lines().count() < 90, "{end}");
    timed("status as data", 10_000, || status_json(&case.world(), NOW));
}

#[test]
fn large_lists_graphs_and_gates() {
    let mut case = large();
    settle(&mut case);
    let world = case.world();
    for subject in Subject::ALL {
        let text =
            timed(subject.as_str(), 15_000, || get_text(subject, &world, &Filter::default(), &opts(120)));
        let expected = match subject {
            Subject::Nodes => 10_001,
            Subject::Checks => 1 + 5 * 4 + 9_990 * 2 + 5 * 3,
            Subject::Resources => 10_003,
            _ => text.lines().count().min(60),
        };
        assert_eq!(text.lines().count(), expected, "{subject}");
    }
    let svg = timed("graph", 5_000, || graph_text(&case.desired, &case.stack, GraphFormat::Svg));
    assert!(svg.len() < 20_000);
    assert!(timed("gate", 5_000, || Gate::Healthy.evaluate(&case.desired, &case.observed, NOW)).open);
}
