//! The small cluster, word by word.

use std::fmt::Write as _;

use castrum_blueprints::plan::{Plan, forecast, plan_destroy};
use insta::assert_snapshot;

use super::timelines::apply_events;
use super::world::{NOW, blank, node, opts, settle, small};
use crate::view::events_view::{EventFilter, events_ndjson, events_text};
use crate::view::finish_view::{Finish, destroyed_text, finish_text};
use crate::view::get_view::{Filter, Subject, get_json, get_text};
use crate::view::graph_view::{GraphFormat, graph_text};
use crate::view::plan_view::{destroy_json, destroy_text, plan_json, plan_text};
use crate::view::status_view::{node_json, node_text, status_json, status_text};
use crate::view::style::{json_text, yaml};
use crate::view::wait_gate::Gate;
use crate::view::wait_view::{waits_json, waits_text};

const GROUPS: &[(&str, &str, u32)] =
    &[("masters", "master", 3), ("agents", "agent", 2), ("public", "public-agent", 1)];

#[test]
fn a_first_plan() {
    let case = blank(GROUPS);
    let forecast = forecast(&case.desired, &case.observed, NOW).unwrap();
    assert_snapshot!(plan_text(&forecast, &case.observed, &opts(100)));
    let json = plan_json(&forecast, &case.observed);
    assert_eq!(json["summary"]["make"], 8);
    assert_snapshot!("a_first_plan_in_numbers", json_text(&json["summary"]));
}

#[test]
fn a_plan_with_trouble() {
    let case = small();
    let forecast = forecast(&case.desired, &case.observed, NOW).unwrap();
    assert_snapshot!(plan_text(&forecast, &case.observed, &opts(100)));
}

#[test]
fn status() {
    let case = small();
    assert_snapshot!(status_text(&case.world(), &opts(110)));
    assert_snapshot!("status_narrow", status_text(&case.world(), &opts(40)));
    assert_snapshot!("status_json", json_text(&status_json(&case.world(), NOW)));
}

#[test]
fn waits() {
    let case = small();
    let all = waits_text(&case.world(), (None, "c.yaml"), &opts(110));
    let narrow = waits_text(&case.world(), (Some("public-1"), "c.yaml"), &opts(50));
    let none = waits_text(&case.world(), (Some("agents-1"), "c.yaml"), &opts(110));
    assert_snapshot!(format!("{all}== public-1\n{narrow}== agents-1\n{none}"));
    assert_snapshot!("waits_json", json_text(&waits_json(&case.world(), None, NOW)));
    let by_component = waits_json(&case.world(), Some("edge"), NOW);
    assert_eq!(by_component["waits"].as_array().map(Vec::len), Some(1));
}

#[test]
fn one_node() {
    let case = small();
    assert_snapshot!(node_text(&case.world(), &node("public-1"), &opts(110)).unwrap());
    assert_snapshot!("one_frozen_node", node_text(&case.world(), &node("agents-2"), &opts(110)).unwrap());
    assert!(node_text(&case.world(), &node("agents-3"), &opts(110)).is_none());
    assert_eq!(node_json(&case.world(), &node("public-1"), NOW).unwrap()["healthy"], false);
    assert!(node_json(&case.world(), &node("agents-3"), NOW).is_none());
}

#[test]
fn every_list() {
    let case = small();
    let mut text = String::new();
    for subject in Subject::ALL {
        let list = get_text(subject, &case.world(), &Filter::default(), &opts(120));
        let _ = write!(text, "== {subject}\n{list}");
    }
    assert_snapshot!(text);
}

#[test]
fn lists_of_some_nodes() {
    let case = small();
    let agents = Filter { role: Some(castrum_blueprints::names::Role::Agent), ..Filter::default() };
    let nowhere = Filter { site: Some("there".parse().unwrap()), ..Filter::default() };
    let public = Filter { group: Some("public".parse().unwrap()), ..Filter::default() };
    let mut text = String::new();
    for (name, filter) in [("agents", &agents), ("public", &public), ("nowhere", &nowhere)] {
        for subject in Subject::ALL {
            let list = get_text(subject, &case.world(), filter, &opts(120));
            let _ = write!(text, "== {subject} of {name}\n{list}");
        }
    }
    assert_snapshot!(text);
    assert_snapshot!("lists_yaml", yaml(&get_json(Subject::Firewall, &case.world(), &public, NOW)));
}

#[test]
fn events() {
    let events = apply_events();
    assert_snapshot!(events_text(&events, &EventFilter::default(), &opts(100)));
    let of_node = EventFilter { node: Some(node("agents-1")), ..EventFilter::default() };
    assert_snapshot!("events_of_a_node", events_text(&events, &of_node, &opts(100)));
    let failed = EventFilter { kind: Some("step-failed".to_owned()), ..EventFilter::default() };
    assert_eq!(events_ndjson(&events, &failed).lines().count(), 1);
    let other = EventFilter { run: Some("none".to_owned()), ..EventFilter::default() };
    assert_eq!(events_text(&events, &other, &opts(100)), "");
}

#[test]
fn graphs() {
    let case = small();
    for (name, format) in [
        ("dot", GraphFormat::Dot),
        ("mermaid", GraphFormat::Mermaid),
        ("svg", GraphFormat::Svg),
        ("json", GraphFormat::Json),
    ] {
        assert_snapshot!(format!("graph_{name}"), graph_text(&case.desired, &case.stack, format));
    }
}

#[test]
fn the_end_of_an_apply() {
    let mut case = small();
    let events = apply_events();
    let finish =
        Finish { world: case.world(), events: &events, blueprint: "my clusters/demo.yaml", code: 30 };
    assert_snapshot!(finish_text(&finish, &opts(110)));
    case = blank(GROUPS);
    settle(&mut case);
    let finish = Finish { world: case.world(), events: &[], blueprint: "cluster.yaml", code: 0 };
    assert_snapshot!("the_good_end_of_an_apply", finish_text(&finish, &opts(110)));
}

#[test]
fn a_destroy() {
    let mut case = small();
    case.plan = plan_destroy(&case.observed, NOW);
    assert_snapshot!(destroy_text(&case.plan, &case.observed, &opts(100)));
    assert_eq!(destroy_json(&case.plan, &case.observed)["remove"].as_array().unwrap().len(), 6);
    let done = destroyed_text(&Plan::default(), &case.desired.name, 0, &opts(100));
    let left = destroyed_text(&small().plan, &case.desired.name, 30, &opts(100));
    assert_snapshot!("a_destroy_that_ended", format!("{done}---\n{left}"));
}

#[test]
fn colour_is_all_that_colour_adds() {
    let case = small();
    let plain = status_text(&case.world(), &opts(110));
    let coloured = status_text(&case.world(), &crate::view::Opts { color: true, ..opts(110) });
    assert!(coloured.contains("\u{1b}[31m"));
    let mut stripped = coloured;
    for code in ["0", "1", "2", "31", "32", "33", "36"] {
        stripped = stripped.replace(&format!("\u{1b}[{code}m"), "");
    }
    assert_eq!(stripped, plain);
}

#[test]
fn nothing_known_is_no_trouble() {
    let mut case = blank(GROUPS);
    case.desired.nodes = std::sync::Arc::default();
    case.desired.resources = std::sync::Arc::default();
    case.stack.components.clear();
    case.lock.components.clear();
    case.observed = castrum_blueprints::observed::Observed::default();
    let world = case.world();
    let mut text = status_text(&world, &opts(100));
    for subject in Subject::ALL {
        text += &get_text(subject, &world, &Filter::default(), &opts(100));
        assert!(get_json(subject, &world, &Filter::default(), NOW)["items"].is_array());
    }
    text += &finish_text(&Finish { world, events: &[], blueprint: "cluster.yaml", code: 0 }, &opts(100));
    text += &destroy_text(&Plan::default(), &case.observed, &opts(100));
    text += &graph_text(&case.desired, &case.stack, GraphFormat::Dot);
    assert!(graph_text(&case.desired, &case.stack, GraphFormat::Svg).ends_with("</svg>\n"));
    assert!(!Gate::Healthy.evaluate(&case.desired, &case.observed, NOW).open);
    assert_snapshot!(text);
}
