//! A node or a place that says anything at all cannot speak to the terminal of whoever looks.

use castrum_blueprints::event::What;
use castrum_blueprints::names::Timestamp;
use castrum_blueprints::plan::{Forecast, Progress};
use castrum_blueprints::status::Phase;

use super::timelines::{at, phase};
use super::world::{Case, NOW, component, hostile, node, opts};
use crate::events::Listener as _;
use crate::view::events_view::{EventFilter, events_ndjson, events_text};
use crate::view::finish_view::{Finish, destroyed_text, finish_text};
use crate::view::get_view::{Filter, Subject, get_json, get_text};
use crate::view::graph_view::{GraphFormat, graph_text};
use crate::view::plan_view::{destroy_json, destroy_text, plan_json, plan_text};
use crate::view::status_view::{node_json, node_text, status_json, status_text};
use crate::view::style::{json_text, yaml};
use crate::view::timeline_view::{timeline, timeline_json, timeline_svg, timeline_text};
use crate::view::wait_gate::Gate;
use crate::view::wait_view::{waits_json, waits_text};

/// A title that is set, a screen that is wiped, C1 controls, a line that is overwritten, text that is turned round,
/// text that hides, and the end of a tag.
const EVIL: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{90}q\u{9c}\r\n\u{8}\u{7f}\u{202e}evil\u{200b}\u{feff}</text><script>\"'\\";

/// What a terminal obeys or hides.
pub(super) fn is_obeyed(char: char) -> bool {
    char != '\n'
        && (char.is_control()
            || matches!(char, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'))
}

fn assert_tame(what: &str, text: &str) {
    if let Some(char) = text.chars().find(|char| is_obeyed(*char)) {
        panic!("{what} lets {char:?} through:\n{text:?}");
    }
}

fn texts(case: &Case) -> Vec<(String, String)> {
    let (world, opts) = (case.world(), opts(90));
    let forecast = Forecast { rounds: vec![case.plan.clone()], progress: Progress::Partial };
    let finish = Finish { world, events: &events(), blueprint: EVIL, code: 30 };
    let mut texts = vec![
        ("plan".to_owned(), plan_text(&forecast, &case.observed, &opts)),
        ("destroy".to_owned(), destroy_text(&case.plan, &case.observed, &opts)),
        ("destroyed".to_owned(), destroyed_text(&case.plan, &case.desired.name, 30, &opts)),
        ("status".to_owned(), status_text(&world, &opts)),
        ("finish".to_owned(), finish_text(&finish, &opts)),
        ("events".to_owned(), events_text(&events(), &EventFilter::default(), &opts)),
        ("ndjson".to_owned(), events_ndjson(&events(), &EventFilter::default())),
        ("node".to_owned(), node_text(&world, &node("public-1"), &opts).unwrap()),
    ];
    for subject in Subject::ALL {
        texts.push((subject.to_string(), get_text(subject, &world, &Filter::default(), &opts)));
    }
    let timeline = timeline(&events(), Some(&case.stack)).unwrap();
    texts.push(("timeline".to_owned(), timeline_text(&timeline, &opts)));
    texts.push(("timeline svg".to_owned(), timeline_svg(&timeline)));
    for format in [GraphFormat::Dot, GraphFormat::Mermaid, GraphFormat::Svg, GraphFormat::Json] {
        texts.push((format!("graph {format:?}"), graph_text(&case.desired, &case.stack, format)));
    }
    texts.push(("waits".to_owned(), waits_text(&world, (None, EVIL), &opts)));
    let mut values = vec![
        plan_json(&forecast, &case.observed),
        destroy_json(&case.plan, &case.observed),
        status_json(&world, NOW),
        node_json(&world, &node("public-1"), NOW).unwrap(),
        timeline_json(&timeline),
        waits_json(&world, None, NOW),
    ];
    values.extend(Subject::ALL.map(|subject| get_json(subject, &world, &Filter::default(), NOW)));
    for value in values {
        texts.push(("json".to_owned(), json_text(&value)));
        texts.push(("json as it is".to_owned(), value.to_string()));
        texts.push(("yaml".to_owned(), yaml(&value)));
    }
    texts
}

fn events() -> Vec<castrum_blueprints::event::Event> {
    let evil = || EVIL.to_owned();
    let note = Some(evil());
    vec![
        at(0, What::RunStarted { verb: evil(), cluster: "0123456789ab".parse().unwrap() }),
        at(1, What::StepStarted { id: evil(), reason: evil() }),
        at(1, What::StepStarted { id: format!("fill {EVIL}-1"), reason: evil() }),
        at(2, What::StepProgress { id: format!("fill {EVIL}-1"), done: 1 << 30, total: 1 << 20 }),
        at(3, What::StepFailed { id: evil(), message: evil(), hint: note.clone(), retry_at: None }),
        at(4, What::NodeRefused { node: node("agents-1"), reason: evil() }),
        at(
            5,
            What::ComponentPhase {
                node: node("agents-1"),
                component: component("edge"),
                phase: Phase::Failing,
                note,
            },
        ),
        phase(6, "agents-1", "engine", Phase::Fetching),
        at(700, What::Waiting { blocked: hostile(EVIL).plan.blocked }),
        at(800, What::SetAside { debt: hostile(EVIL).plan.debt[0].clone() }),
        at(900, What::Notice { text: evil() }),
        at(1000, What::StepDone { id: format!("fill {EVIL}-1"), outcome: evil() }),
    ]
}

#[test]
fn no_view_lets_a_node_speak_to_the_terminal() {
    let case = hostile(EVIL);
    for (what, text) in texts(&case) {
        assert_tame(&what, &text);
        assert!(!what.contains("svg") || !text.contains("<script"), "{what}");
    }
    let status = status_text(&case.world(), &opts(0));
    assert!(status.contains("evil"), "what it says is still shown:\n{status}");
}

#[test]
fn gates_are_tame() {
    let case = hostile(EVIL);
    for gate in ["healthy", "quorum", "node/public-1/healthy", "component/engine", "role/agent"] {
        let awaited = gate.parse::<Gate>().unwrap().evaluate(&case.desired, &case.observed, NOW);
        assert_tame(gate, &format!("{}{}", awaited.awaited, awaited.last_seen));
    }
    assert_tame("error", &EVIL.parse::<Gate>().unwrap_err().to_string());
    assert_tame("error", &EVIL.parse::<Subject>().unwrap_err().to_string());
}

#[test]
fn ndjson_means_the_same_after_it_is_made_safe() {
    let lines = events_ndjson(&events(), &EventFilter::default());
    let back: Vec<castrum_blueprints::event::Event> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(back, events());
}

#[test]
fn the_screen_writes_no_control_but_its_own() {
    for terminal in [true, false] {
        let (out, mut screen) = super::screens::screen(terminal, 70);
        for event in events() {
            screen.hear(&event);
        }
        screen.line(EVIL);
        screen.tick(Timestamp(NOW.0));
        drop(screen);
        let mut text = out.text();
        for rows in 1..20 {
            text = text.replace(&format!("\r\u{1b}[{rows}A\u{1b}[J"), "");
        }
        assert_tame("screen", &text);
    }
}
