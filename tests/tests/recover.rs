//! A cluster is found again: what labels and agents' words amount to, and in what order new keys are brought to nodes.

use std::collections::{BTreeMap, BTreeSet};

use castrum_blueprints::names::{Digest, NodeName, Role};
use castrum_blueprints::plan::{Plan, Progress, forecast_recover, plan_recover};
use castrum_blueprints::recover::{
    Answer, Asked, Confidence, Finding, Strangers, Word, is_refused, judge, strangers,
};
use castrum_blueprints::resource::{Blind, PowerState};
use castrum_blueprints::status::Phase;
use castrum_tests::cluster::{site, small};
use castrum_tests::sketch::{Sketch, machine, name};

/// The CA of the keyring that was lost.
fn lost() -> Digest {
    Digest::of(b"the lost CA")
}

fn word(sketch: &Sketch, node: &str) -> Word {
    Word {
        cluster: sketch.desired.cluster.clone(),
        node: name(node),
        generation: 3,
        authority: Some(lost()),
        former: BTreeSet::new(),
        unwell: BTreeSet::new(),
    }
}

/// Every machine tells what its label says.
fn asked(sketch: &Sketch) -> Asked {
    let nodes = sketch.nodes();
    let answer = |node: &NodeName| (machine(node.as_str()), Answer::Said(word(sketch, node.as_str())));
    Asked { answers: nodes.iter().map(answer).collect(), authority: None }
}

fn finding(sketch: &Sketch, asked: &Asked, node: &str) -> Finding {
    let findings = judge(&sketch.desired, &sketch.observed, asked);
    findings.into_iter().find(|finding| finding.resource == machine(node)).expect("a finding")
}

#[test]
fn a_label_is_believed_as_far_as_the_agent_bears_it_out() {
    let whole = Sketch::whole(&small(2));
    let other = |change: fn(&mut Word)| {
        let mut word = word(&whole, "agents-1");
        change(&mut word);
        Answer::Said(word)
    };
    let silent = Answer::Silent("it cannot be reached".to_owned());
    let table: [(&str, Answer, Confidence); 8] = [
        ("both agree", other(|_| {}), Confidence::Certain),
        ("another node", other(|word| word.node = name("masters-1")), Confidence::Ambiguous),
        (
            "another cluster",
            other(|word| word.cluster = "ba9876543210".parse().expect("an id")),
            Confidence::Ambiguous,
        ),
        ("a CA of its own", other(|word| word.authority = Some(Digest::of(b"mine"))), Confidence::Ambiguous),
        ("another host key", Answer::OtherHostKey("SHA256:x".to_owned()), Confidence::Ambiguous),
        ("an unknown host key", Answer::UnknownHostKey("SHA256:x".to_owned()), Confidence::Likely),
        ("silence", silent, Confidence::Likely),
        ("no agent", Answer::NoAgent, Confidence::Likely),
    ];
    for (what, answer, wanted) in table {
        let mut asked = asked(&whole);
        asked.answers.insert(machine("agents-1"), answer);
        let finding = finding(&whole, &asked, "agents-1");
        assert_eq!(finding.confidence, wanted, "{what}: {finding:?}");
        assert!(wanted != Confidence::Ambiguous || finding.remedy.is_some(), "{what}: no remedy");
        let findings = judge(&whole.desired, &whole.observed, &asked);
        assert_eq!(is_refused(&whole.desired, &findings), wanted == Confidence::Ambiguous, "{what}");
    }
}

#[test]
fn what_a_place_shows_is_listed_with_what_it_does_not_show() {
    let mut sketch = Sketch::whole(&small(2));
    let mut asked = asked(&sketch);
    let mut seen = sketch.observed.resources[&machine("agents-1")].clone();
    seen.path = machine("agents-9");
    sketch.observed.saw(seen);
    sketch.observed.gone(&machine("agents-1"));
    let mut off = sketch.observed.resources[&machine("agents-2")].clone();
    off.machine.as_mut().expect("a machine").power = PowerState::Off;
    sketch.observed.saw(off);
    asked.answers.remove(&machine("agents-2"));
    asked.answers.insert(machine("masters-3"), Answer::Silent("it refused every identity".to_owned()));
    let mut twice = sketch.observed.resources[&machine("masters-2")].clone();
    twice.note = Some("also found on `10.0.0.9`".to_owned());
    sketch.observed.saw(twice);
    let findings = judge(&sketch.desired, &sketch.observed, &asked);
    let opts = castrum::view::Opts { width: 100, color: false, now: sketch.now };
    insta::assert_snapshot!("findings", castrum::view::recover_view::findings_text(&findings, &opts));
    assert!(is_refused(&sketch.desired, &findings), "a label that is there twice");
}

#[test]
fn a_place_that_cannot_be_seen_has_lost_nothing() {
    let mut sketch = Sketch::whole(&small(1));
    sketch.observed.resources.clear();
    sketch.observed.blind.push(Blind { site: site(), kind: None, reason: "no answer".to_owned() });
    let findings = judge(&sketch.desired, &sketch.observed, &Asked::default());
    assert!(findings.iter().all(|finding| finding.confidence == Confidence::Unseen), "{findings:#?}");
}

#[test]
fn whom_all_trust_is_not_for_one_node_to_say() {
    let sketch = Sketch::whole(&small(1));
    let mut asked = asked(&sketch);
    let planted = Digest::of(b"planted");
    let mut word = word(&sketch, "masters-1");
    word.former.insert(planted.clone());
    asked.answers.insert(machine("masters-1"), Answer::Said(word));
    assert_eq!(asked.agreed(&sketch.desired.cluster), BTreeSet::from([lost()]));
    assert_eq!(finding(&sketch, &asked, "masters-1").confidence, Confidence::Certain);
}

/// Right after the keyring was lost, with nobody heard.
fn bereft(agents: u32) -> (Sketch, Strangers) {
    let mut sketch = Sketch::whole(&small(agents));
    let strangers = strangers(&sketch.desired, &sketch.observed, &asked(&sketch));
    sketch.observed.nodes.clear();
    sketch.observed.listening_since = Some(sketch.now);
    (sketch, strangers)
}

fn steps(sketch: &Sketch, strangers: &Strangers) -> (Vec<String>, Plan) {
    let plan = plan_recover(&sketch.desired, &sketch.observed, strangers, sketch.now);
    (plan.steps.iter().map(|step| step.id.clone()).collect(), plan)
}

/// Lets a node be admitted anew and heard, as it was when the cluster was whole.
fn admit(sketch: &mut Sketch, whole: &Sketch, node: &str) {
    sketch.now = sketch.now.plus(1000);
    let mut seen = whole.observed.nodes[&name(node)].clone();
    seen.enrolled_at = Some(sketch.now);
    let heard = seen.heard.as_mut().expect("it was heard");
    heard.at = sketch.now;
    let status = std::sync::Arc::make_mut(&mut heard.status);
    let checks = status.components.values_mut().flat_map(|component| component.checks.values_mut());
    checks.for_each(|check| check.at = status.started_at);
    sketch.observed.nodes.insert(name(node), seen);
}

#[test]
fn new_keys_come_to_one_master_at_a_time_and_to_agents_after_them() {
    let (mut sketch, strangers) = bereft(3);
    let whole = Sketch::whole(&small(3));
    for master in ["masters-1", "masters-2", "masters-3"] {
        assert_eq!(steps(&sketch, &strangers).0, [format!("readmit {master}")]);
        admit(&mut sketch, &whole, master);
        let began = sketch.observed.nodes[&name(master)].heard.as_ref().expect("heard").status.started_at;
        sketch.phase(master, "store", Phase::Settling);
        assert!(steps(&sketch, &strangers).0.is_empty(), "{master} is not healthy yet");
        sketch.phase(master, "store", Phase::Healthy);
        sketch.says(master, |status| status.started_at = began.plus(1));
        assert!(steps(&sketch, &strangers).0.is_empty(), "no check was run since {master} changed over");
        sketch.says(master, |status| status.started_at = began);
    }
    assert_eq!(
        steps(&sketch, &strangers).0,
        ["readmit agents-1", "readmit agents-2", "readmit agents-3", "readmit edges-1"]
    );
    sketch.desired.limits.agents_at_once = 2;
    assert_eq!(steps(&sketch, &strangers).0.len(), 2, "agents come in bounded batches");
    for agent in ["agents-1", "agents-2", "agents-3", "edges-1"] {
        admit(&mut sketch, &whole, agent);
    }
    assert_eq!(steps(&sketch, &strangers).1.progress(), Progress::Converged);
}

#[test]
fn a_master_that_is_not_healthy_afterwards_stops_all_others() {
    let (mut sketch, strangers) = bereft(1);
    let whole = Sketch::whole(&small(1));
    admit(&mut sketch, &whole, "masters-1");
    sketch.phase("masters-1", "store", Phase::Failing);
    assert_eq!(steps(&sketch, &strangers).1.progress(), Progress::Pending);
    sketch.now = sketch.now.plus(u64::from(sketch.desired.limits.settle_seconds) * 1000);
    let (ids, plan) = steps(&sketch, &strangers);
    assert!(ids.is_empty() && plan.progress() == Progress::Partial, "{plan:#?}");
    assert!(plan.debt[0].reason.contains("store is failing"), "{:?}", plan.debt);
    let mut known = strangers;
    known.known.get_mut(&name("masters-1")).expect("a stranger").insert("store".parse().expect("a name"));
    assert_eq!(steps(&sketch, &known).0, ["readmit masters-2"], "it was failing before");
}

#[test]
fn a_node_that_cannot_be_asked_is_debt_and_holds_up_nobody() {
    let (sketch, mut strangers) = bereft(1);
    strangers.known.remove(&name("masters-1"));
    strangers.unread.insert(name("masters-1"), "its machine is off".to_owned());
    let forecast = forecast_recover(&sketch.desired, &sketch.observed, &strangers, sketch.now);
    let rounds: Vec<Vec<&str>> = forecast
        .rounds
        .iter()
        .map(|round| round.steps.iter().map(|step| step.id.as_str()).collect())
        .collect();
    let agents = vec!["readmit agents-1", "readmit edges-1"];
    assert_eq!(rounds, [vec!["readmit masters-2"], vec!["readmit masters-3"], agents, vec![]]);
    assert_eq!(forecast.progress, Progress::Partial);
    assert!(forecast.rounds[0].debt[0].reason.contains("its machine is off"));
}

#[test]
fn who_holds_to_our_keyring_is_no_stranger() {
    let sketch = Sketch::whole(&small(1));
    let mut asked = asked(&sketch);
    asked.authority = Some(lost());
    let known = strangers(&sketch.desired, &sketch.observed, &asked);
    assert_eq!(known, Strangers::default());
    asked.authority = Some(Digest::of(b"new"));
    let known: BTreeMap<_, _> = strangers(&sketch.desired, &sketch.observed, &asked).known;
    assert_eq!(known.len(), sketch.desired.nodes.len());
    assert!(sketch.desired.nodes.values().any(|node| node.role == Role::Master));
}
