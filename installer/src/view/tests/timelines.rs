//! Time lines of a run that ended, of one that was killed, and of one of many nodes.

use castrum_blueprints::event::{EVENT_FORMAT, Event, What};
use castrum_blueprints::names::Timestamp;
use castrum_blueprints::plan::{Area, Blocked, Debt, Gate, Progress};
use castrum_blueprints::status::Phase;
use insta::assert_snapshot;

use super::world::{T, component, node, opts, small};
use crate::view::style::json_text;
use crate::view::timeline_view::{timeline, timeline_json, timeline_svg, timeline_text};

pub(super) fn at(ms: u64, what: What) -> Event {
    Event { format_version: EVENT_FORMAT, at: Timestamp(T + ms), run: "r1".to_owned(), what }
}

fn begin(ms: u64, id: &str) -> Event {
    at(ms, What::StepStarted { id: id.to_owned(), reason: "does not exist".to_owned() })
}

fn done(ms: u64, id: &str) -> Event {
    at(ms, What::StepDone { id: id.to_owned(), outcome: "created".to_owned() })
}

pub(super) fn phase(ms: u64, of: &str, name: &str, phase: Phase) -> Event {
    at(ms, What::ComponentPhase { node: node(of), component: component(name), phase, note: None })
}

/// A component from being fetched to being healthy.
fn component_run(from: u64, of: &str, name: &str) -> Vec<Event> {
    let phases = [Phase::Fetching, Phase::Preparing, Phase::Starting, Phase::Settling, Phase::Healthy];
    phases.into_iter().zip(0..).map(|(step, count)| phase(from + count * 800, of, name, step)).collect()
}

/// An apply of the small cluster: agents-2 does not come, one step fails once.
pub(super) fn apply_events() -> Vec<Event> {
    let cluster = "0123456789ab".parse().unwrap();
    let mut events = vec![
        at(0, What::RunStarted { verb: "apply".to_owned(), cluster }),
        at(100, What::Looked { resources: 0, heard: 0, blind: 0 }),
        begin(150, "ensure here/image/debian-12"),
        begin(150, "ensure here/network/nodes"),
        done(400, "ensure here/network/nodes"),
        done(3_000, "ensure here/image/debian-12"),
    ];
    for name in ["masters-1", "masters-2", "masters-3", "agents-1", "agents-2", "public-1"] {
        let id = format!("ensure here/machine/{name}");
        let later = if name.starts_with('m') { 0 } else { 1_500 };
        events.push(begin(3_050 + later, &id));
        events.push(done(4_500 + later, &id));
        if name.starts_with('m') {
            events.push(begin(4_600, &format!("enroll {name}")));
            events.push(done(7_200, &format!("enroll {name}")));
            events.push(at(7_300, What::NodeAdmitted { node: node(name) }));
            events.push(at(7_900, What::NodeHeard { node: node(name) }));
        } else if name != "agents-2" {
            events.push(at(12_000, What::NodeHeard { node: node(name) }));
        }
        if name == "agents-1" {
            let message = "connection reset".to_owned();
            let retry_at = Some(Timestamp(T + 10_000));
            let id = "publish agents-1@1".to_owned();
            events.push(at(
                9_000,
                What::StepFailed { id, message, hint: Some("look at it".to_owned()), retry_at },
            ));
        }
    }
    events.push(begin(8_000, "fill masters-1"));
    let id = "fill masters-1".to_owned();
    events.push(at(9_000, What::StepProgress { id, done: 40 << 20, total: 80 << 20 }));
    events.push(done(10_000, "fill masters-1"));
    for name in ["masters-1", "masters-2", "masters-3"] {
        events.push(begin(10_050, &format!("publish {name}@1")));
        events.push(done(10_100, &format!("publish {name}@1")));
        events.extend(component_run(10_200, name, "engine"));
        events.extend(component_run(10_900, name, "store"));
        events.extend(component_run(14_200, name, "swarm"));
    }
    for name in ["agents-1", "public-1"] {
        events.extend(component_run(12_100, name, "engine"));
        events.extend(component_run(17_500, name, "swarm"));
    }
    events.extend(component_run(20_800, "public-1", "edge"));
    events.push(waiting(20_000));
    let debt = Debt {
        subject: "agents-2".to_owned(),
        reason: "its machine is paused".to_owned(),
        since: Timestamp(T + 6_000),
        area: Area::Boot,
    };
    events.push(at(21_000, What::SetAside { debt: debt.clone() }));
    events.push(at(24_100, What::Notice { text: "the edge answers".to_owned() }));
    events.push(at(
        24_200,
        What::RunFinished { progress: Some(Progress::Partial), debt: vec![debt], code: 30 },
    ));
    events.sort_by_key(|event| event.at);
    events
}

pub(super) fn waiting(ms: u64) -> Event {
    let blocked = ["agents-1", "public-1"].map(|name| Blocked {
        subject: format!("swarm on {name}"),
        waits_for: "its checks to be ok".to_owned(),
        gate: Gate::Agent { again: false },
        since: Timestamp(T + 17_500),
        last_seen: "swarm starting".to_owned(),
        node: Some(node(name)),
        by_debt: false,
    });
    at(ms, What::Waiting { blocked: blocked.into() })
}

#[test]
fn a_run_that_ended() {
    let case = small();
    let timeline = timeline(&apply_events(), Some(&case.stack)).unwrap();
    assert_snapshot!(timeline_text(&timeline, &opts(100)));
    assert_snapshot!("a_run_as_svg", timeline_svg(&timeline));
    assert_snapshot!("a_run_as_json", json_text(&timeline_json(&timeline)["critical"]));
}

#[test]
fn the_chain_follows_what_is_required() {
    let case = small();
    let timeline = timeline(&apply_events(), Some(&case.stack)).unwrap();
    let labels: Vec<_> = timeline.critical.iter().map(|link| timeline.span(link).1.label.clone()).collect();
    assert_eq!(labels.last().map(String::as_str), Some("edge"));
    assert_eq!(labels.first().map(String::as_str), Some("ensure here/image/debian-12"));
    let at = |name: &str| labels.iter().position(|label| label == name).unwrap();
    assert!(
        at("machine") < at("fill")
            && at("fill") < at("store")
            && at("store") < at("swarm")
            && at("swarm") < at("edge")
    );
}

#[test]
fn a_run_that_was_killed() {
    let events: Vec<_> = apply_events().into_iter().filter(|event| event.at.0 < T + 13_000).collect();
    let timeline = timeline(&events, None).unwrap();
    assert_eq!(timeline.code, None);
    assert_snapshot!(timeline_text(&timeline, &opts(100)));
    assert!(timeline_svg(&timeline).contains("it was killed"));
    assert_eq!(timeline_json(&timeline)["finished"], false);
}

#[test]
fn every_beginning_of_a_run_can_be_drawn() {
    let events = apply_events();
    assert!(timeline(&[], None).is_none());
    for count in 1..events.len() {
        let timeline = timeline(&events[..count], None).unwrap();
        for width in [0, 1, 20, 300] {
            assert!(timeline_text(&timeline, &opts(width)).ends_with('\n'));
        }
        assert!(timeline_svg(&timeline).ends_with("</svg>\n"));
    }
}

#[test]
fn many_nodes_share_rows() {
    let mut events = vec![at(0, What::Interrupted)];
    for number in 1..=1000 {
        let name = format!("agents-{number}");
        events.push(begin(10, &format!("ensure here/machine/{name}")));
        events.push(done(1_000 + number, &format!("ensure here/machine/{name}")));
        events.push(at(3_000 + number, What::NodeHeard { node: node(&name) }));
        events.extend(component_run(4_000 + number, &name, "engine"));
    }
    let timeline = timeline(&events, None).unwrap();
    assert_snapshot!(timeline_text(&timeline, &opts(100)));
    let svg = timeline_svg(&timeline);
    assert!(svg.contains("agents (1000)") && svg.len() < 20_000, "{} bytes", svg.len());
}
