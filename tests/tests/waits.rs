//! Waits: each says as data what it waits for, and what is known of when that will be looked at, given up, or opened.

use castrum_blueprints::names::Timestamp;
use castrum_blueprints::observed::Failed;
use castrum_blueprints::plan::{Blocked, Gate, Outlook, Waiting};
use castrum_blueprints::resource::{Blind, PowerState};
use castrum_blueprints::status::{CheckResult, Phase, Verdict};
use castrum_tests::cluster::{blob, site, small};
use castrum_tests::sketch::{Sketch, machine, name};

fn outlook(sketch: &Sketch, subject: &str) -> (Blocked, Outlook) {
    let blocked = sketch.plan().blocked.into_iter().find(|blocked| blocked.subject == subject);
    let blocked = blocked.unwrap_or_else(|| panic!("{subject} does not wait"));
    let outlook = blocked.outlook(&sketch.desired, &sketch.observed);
    (blocked, outlook)
}

fn component(name: &str) -> castrum_blueprints::names::ComponentName {
    name.parse().expect("a name")
}

#[test]
fn every_wait_says_its_gate() {
    let mut sketch = Sketch::empty(&small(1));
    let network = Gate::Resource { path: "here/network/nodes".parse().expect("a path") };
    assert_eq!(sketch.gate("here/machine/masters-1"), Some(network));
    let later = sketch.now.plus(500);
    let busy = Failed { message: "busy".to_owned(), at: None, retry_at: Some(later) };
    sketch.observed.failed("ensure here/network/nodes", busy, sketch.now);
    assert_eq!(sketch.gate("ensure here/network/nodes"), Some(Gate::NextTry { at: later }));
    let denied = Failed { message: "no".to_owned(), ..Failed::default() };
    sketch.observed.failed("ensure here/network/nodes", denied, sketch.now);
    assert_eq!(sketch.gate("ensure here/network/nodes"), Some(Gate::Somebody));

    let mut sketch = Sketch::whole(&small(1));
    sketch.close("agents-1", "engine");
    sketch.phase("agents-1", "runtime", Phase::Settling);
    assert_eq!(sketch.gate("engine on agents-1"), Some(Gate::Component { component: component("runtime") }));
    assert_eq!(sketch.gate("runtime on agents-1"), Some(Gate::Checks { component: component("runtime") }));
    let bundle = blob("engine").digest;
    for master in ["masters-1", "masters-2", "masters-3"] {
        sketch.says(master, |status| {
            status.blobs.remove(&bundle);
        });
        sketch.observed.nodes.get_mut(&name(master)).expect("known").filled.clear();
    }
    assert_eq!(sketch.gate("engine on agents-1"), Some(Gate::Bundle { component: component("engine") }));
    let seen = sketch.observed.resources.get_mut(&machine("agents-1")).expect("made");
    seen.machine.as_mut().expect("a machine").power = PowerState::Paused;
    assert_eq!(sketch.gate("node agents-1"), Some(Gate::Machine));
    let reason = "no answer".to_owned();
    sketch.observed.blind.push(Blind { site: site(), kind: None, reason });
    assert_eq!(sketch.gate("here/network/nodes"), Some(Gate::Site { site: site() }));
}

#[test]
fn memberships_manifests_and_agents_have_their_gates() {
    let mut sketch = Sketch::whole(&small(1));
    sketch.close_everywhere("edge");
    sketch.close_everywhere("net");
    sketch.close_everywhere("pool");
    let pinned = [(component("pool"), name("masters-2"))].into();
    sketch.desired = sketch.desired.with_founders(pinned);
    assert_eq!(sketch.gate("pool on agents-1"), Some(Gate::Founding { component: component("pool") }));

    let mut sketch = Sketch::whole(&small(1));
    let seen = sketch.observed.nodes.get_mut(&name("agents-1")).expect("known");
    let published = seen.published.as_mut().expect("published");
    published.generation += 1;
    published.content = castrum_blueprints::names::Digest::of(b"other");
    let generation = published.generation;
    assert_eq!(sketch.gate("node agents-1"), Some(Gate::Manifest { generation }));
    let seen = sketch.observed.nodes.get_mut(&name("agents-1")).expect("known");
    (seen.heard, seen.awaited_since) = (None, Some(sketch.now));
    assert_eq!(sketch.gate("node agents-1"), Some(Gate::Agent { again: false }));
    sketch.observed.gone(&machine("agents-1"));
    sketch.close("masters-1", "panel");
    assert_eq!(sketch.gate("panel on masters-1"), Some(Gate::Addresses));
}

#[test]
fn a_failing_check_says_when_it_is_run_next_and_how_long_it_is_waited_for() {
    let mut sketch = Sketch::whole(&small(1));
    sketch.phase("agents-1", "gauge", Phase::Settling);
    let (check, every) = {
        let intervals = sketch.desired.renderer.check_intervals(&component("gauge"));
        let (check, every) = intervals.first_key_value().expect("a check");
        ((*check).to_owned(), u64::from(*every) * 1000)
    };
    sketch.says("agents-1", |status| {
        let (verdict, seen) = (Verdict::Critical, "refused".to_owned());
        let at = Timestamp(status.at.0 - 700);
        let result = CheckResult { verdict, since: at, at, seen };
        status.components.get_mut(&component("gauge")).expect("carried").checks.insert(check, result);
    });
    let heard = sketch.observed.nodes[&name("agents-1")].heard.as_ref().expect("heard").at;
    let (_, outlook) = outlook(&sketch, "gauge on agents-1");
    assert_eq!(outlook.next_check, Some(Timestamp(heard.0 + every - 700)));
    assert_eq!(outlook.last_seen_at, Some(heard));
    let settle = sketch.desired.limits.settle_seconds;
    assert_eq!(outlook.patience_seconds, Some(settle));
    let own = sketch.observed.nodes[&name("agents-1")].heard.as_ref().expect("heard").status.clone();
    let since = own.components[&component("gauge")].since;
    assert_eq!(outlook.since, Timestamp(heard.0 - own.at.since(since)), "as the node says");
    assert_eq!(outlook.command.as_deref(), Some("node logs agents-1 gauge"));
    // What has no process has no log.
    sketch.phase("agents-1", "pool", Phase::Settling);
    assert_eq!(self::outlook(&sketch, "pool on agents-1").1.command.as_deref(), Some("get checks"));
    // What is set aside is not given up again.
    sketch.now = sketch.now.plus(u64::from(settle) * 1000 * 2);
    for node in sketch.nodes() {
        sketch.observed.nodes.get_mut(&node).expect("known").heard.as_mut().expect("heard").at = sketch.now;
    }
    let (blocked, outlook) = self::outlook(&sketch, "gauge on agents-1");
    assert_eq!((blocked.by_debt, outlook.patience_seconds), (true, None));
}

#[test]
fn waits_go_back_to_when_they_were_first_seen() {
    let mut sketch = Sketch::empty(&small(1));
    let mut waiting = Waiting::default();
    let mut plan = sketch.plan();
    waiting.note(&mut plan);
    let first = plan.blocked[0].since;
    sketch.observed.taken_at = sketch.observed.taken_at.plus(60_000);
    sketch.now = sketch.now.plus(60_000);
    let mut later = sketch.plan();
    assert!(later.blocked[0].since > first, "a look of its own knows no better");
    waiting.note(&mut later);
    assert_eq!(later.blocked[0].since, first);
}
