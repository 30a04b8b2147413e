//! The plan: what it says of hand-drawn worlds. Every gate is shown refusing, and shown opening.

use std::sync::Arc;

use castrum_blueprints::names::{Role, Timestamp};
use castrum_blueprints::observed::Failed;
use castrum_blueprints::plan::{Action, Area, Progress, masters_to_pin, plan};
use castrum_blueprints::resource::{Blind, PowerState};
use castrum_blueprints::status::Phase;
use castrum_tests::cluster::{site, small};
use castrum_tests::sketch::{Sketch, machine, name};
use serde_json::json;

const NONE: Vec<String> = Vec::new();

#[test]
fn done_means_an_empty_plan() {
    let plan = Sketch::whole(&small(3)).plan();
    assert_eq!((plan.steps.len(), plan.blocked.len(), plan.debt.len()), (0, 0, 0), "{plan:#?}");
    assert_eq!(plan.progress(), Progress::Converged);
}

#[test]
fn machines_wait_for_their_network_and_agents_for_the_addresses_of_masters() {
    let mut sketch = Sketch::empty(&small(1));
    assert_eq!(sketch.steps(), ["ensure here/network/nodes"]);
    assert_eq!(sketch.waits("here/machine/masters-1"), "the network `nodes`");
    let whole = Sketch::whole(&small(1));
    let made = |path: &str| whole.observed.resources[&path.parse().expect("a path")].clone();
    sketch.observed.saw(made("here/network/nodes"));
    let masters = ["masters-1", "masters-2", "masters-3"].map(|node| format!("ensure here/machine/{node}"));
    assert_eq!(sketch.steps(), masters);
    assert_eq!(
        sketch.waits("here/machine/agents-1"),
        "the addresses of all masters, which its boot data names"
    );
    for node in ["masters-1", "masters-2"] {
        sketch.observed.saw(made(&format!("here/machine/{node}")));
    }
    assert!(!sketch.steps().iter().any(|id| id.contains("agents-1")), "one master has no address yet");
    sketch.observed.saw(made("here/machine/masters-3"));
    assert!(sketch.steps().iter().any(|id| id == "ensure here/machine/agents-1"));
}

#[test]
fn a_component_waits_for_its_bundle_in_a_depot() {
    let mut sketch = Sketch::whole(&small(1));
    sketch.close("agents-1", "gauge");
    assert_eq!(sketch.opens("agents-1"), ["gauge"]);
    let bundle = castrum_tests::cluster::blob("gauge").digest;
    for master in ["masters-1", "masters-2", "masters-3"] {
        sketch.says(master, |status| {
            status.blobs.remove(&bundle);
        });
        sketch.observed.nodes.get_mut(&name(master)).expect("known").filled.clear();
    }
    assert_eq!(sketch.opens("agents-1"), NONE);
    assert_eq!(sketch.waits("gauge on agents-1"), "the bundle of gauge to be in the depot");
    assert!(sketch.steps().contains(&"fill masters-1".to_owned()));
}

#[test]
fn a_component_waits_for_what_it_requires_on_its_own_node() {
    let mut sketch = Sketch::whole(&small(1));
    sketch.close("agents-1", "engine");
    sketch.phase("agents-1", "runtime", Phase::Settling);
    assert_eq!(sketch.opens("agents-1"), NONE);
    assert_eq!(sketch.waits("engine on agents-1"), "runtime on agents-1");
    sketch.phase("agents-1", "runtime", Phase::Healthy);
    assert_eq!(sketch.opens("agents-1"), ["engine"]);
}

#[test]
fn a_quorum_store_opens_the_way_with_a_majority_and_not_before() {
    let mut sketch = Sketch::whole(&small(1));
    sketch.close("agents-1", "pool");
    for (node, opens) in [("masters-1", true), ("masters-3", false)] {
        sketch.phase(node, "store", Phase::Failing);
        assert_eq!(!sketch.opens("agents-1").is_empty(), opens, "after {node}");
    }
    assert_eq!(sketch.waits("pool on agents-1"), "store is healthy on 1 of 3 masters, and 2 are needed");
}

#[test]
fn exactly_one_master_founds_and_nobody_joins_before_it_is_done() {
    let mut sketch = Sketch::whole(&small(1));
    sketch.close_everywhere("edge");
    sketch.close_everywhere("net");
    sketch.close_everywhere("pool");
    sketch.desired = sketch.desired.with_founders(std::collections::BTreeMap::new());
    assert!(sketch.steps().contains(&"found pool".to_owned()));
    assert!(sketch.nodes().iter().all(|node| sketch.opens(node.as_str()).is_empty()), "first the pin");
    let pinned = [("pool".parse().expect("a name"), name("masters-2"))].into();
    sketch.desired = sketch.desired.with_founders(pinned);
    assert_eq!(sketch.opens("masters-2"), ["pool"]);
    assert_eq!((sketch.opens("masters-1"), sketch.opens("agents-1")), (NONE, NONE));
    assert_eq!(sketch.waits("pool on agents-1"), "pool to be founded on masters-2");
}

#[test]
fn a_config_that_names_all_nodes_waits_for_all_addresses() {
    let mut sketch = Sketch::whole(&small(2));
    sketch.close("masters-1", "panel");
    assert_eq!(sketch.opens("masters-1"), ["panel"]);
    sketch.observed.gone(&machine("agents-2"));
    assert_eq!(sketch.opens("masters-1"), NONE);
    assert!(sketch.waits("panel on masters-1").starts_with("the addresses of 1 more nodes"));
}

#[test]
fn masters_change_one_at_a_time_and_agents_in_bounded_batches() {
    let cluster = small(5).limits(|limits| limits.agents_at_once = 2);
    let mut sketch = Sketch::whole(&cluster);
    sketch.desired = cluster
        .clone()
        .set("runtime", "level", json!(2))
        .desired()
        .with_founders(sketch.desired.founders.clone());
    let changes = |sketch: &Sketch, kind: &str| {
        sketch
            .steps()
            .iter()
            .filter(|id| id.starts_with(&format!("publish {kind}")))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(changes(&sketch, "masters").len(), 1);
    assert_eq!(changes(&sketch, "agents").len() + changes(&sketch, "edges").len(), 2);
    // One master is not well: none other is touched, and whoever is being changed counts.
    sketch.phase("masters-3", "store", Phase::Failing);
    assert_eq!(
        changes(&sketch, "masters"),
        ["publish masters-3@5"],
        "the one that is not well may be changed"
    );
    sketch.phase("masters-2", "store", Phase::Failing);
    assert_eq!(
        sketch.waits("change of masters-1"),
        "other nodes of its kind to be healthy after their change"
    );
    sketch.phase("agents-4", "gauge", Phase::Failing);
    assert_eq!(changes(&sketch, "agents").len(), 2, "one that is not well, and one more");
    // A batch that does not become healthy stops the rest, for good.
    sketch.phase("agents-5", "gauge", Phase::Failing);
    let blocked =
        |sketch: &Sketch| sketch.plan().blocked.into_iter().find(|b| b.subject == "change of agents-1");
    assert!(blocked(&sketch).is_some_and(|blocked| !blocked.by_debt));
    for node in ["agents-4", "agents-5"] {
        let seen = sketch.observed.nodes.get_mut(&name(node)).expect("known");
        seen.striving.values_mut().for_each(|(_, since)| *since = Timestamp(0));
    }
    assert!(blocked(&sketch).is_some_and(|blocked| blocked.by_debt));
}

#[test]
fn what_cannot_be_seen_is_not_planned_against() {
    let mut sketch = Sketch::whole(&small(2));
    sketch.observed.resources.clear();
    sketch.observed.blind = vec![Blind { site: site(), kind: None, reason: "no answer".to_owned() }];
    let plan = sketch.plan();
    assert_eq!(plan.steps, []);
    assert_eq!(plan.progress(), Progress::Partial);
    assert!(plan.debt.iter().all(|debt| debt.area == Area::Infrastructure && debt.reason == "no answer"));
}

#[test]
fn what_is_not_declared_is_removed_but_for_masters_and_what_is_still_in_use() {
    let mut sketch = Sketch::whole(&small(3));
    sketch.desired = small(2).desired().with_founders(sketch.desired.founders.clone());
    assert!(sketch.steps().contains(&"remove here/machine/agents-3".to_owned()));
    let mut fewer = small(2);
    fewer.blueprint.groups.get_mut("masters").expect("a group").count = 2;
    sketch.desired = fewer.desired().with_founders(sketch.desired.founders.clone());
    let plan = sketch.plan();
    assert!(
        plan.steps
            .iter()
            .all(|step| !matches!(&step.action, Action::Remove { path } if path.name == "masters-3"))
    );
    let kept = plan.debt.iter().find(|debt| debt.subject == "here/machine/masters-3").expect("it is kept");
    assert_eq!(kept.area, Area::Safety);
    let network = "here/network/old".parse().expect("a path");
    let mut seen = sketch.observed.resources[&"here/network/nodes".parse().expect("a path")].clone();
    seen.path = network;
    sketch.observed.saw(seen);
    assert!(!sketch.steps().contains(&"remove here/network/old".to_owned()), "machines may be in it");
}

#[test]
fn a_master_is_not_added_to_a_quorum_store_that_runs() {
    let mut sketch = Sketch::whole(&small(1));
    let mut more = small(1);
    more.blueprint.groups.get_mut("masters").expect("a group").count = 5;
    sketch.desired = more.desired().with_founders(sketch.desired.founders.clone());
    let plan = sketch.plan();
    let touched = |step: &castrum_blueprints::plan::Step| {
        step.action.node().is_some_and(|node| node.as_str().starts_with("masters-"))
    };
    assert!(!plan.steps.iter().any(touched), "{:?}", sketch.steps());
    let refused = |node: &str| plan.debt.iter().any(|debt| debt.subject == node && debt.area == Area::Safety);
    assert!(refused("masters-4") && refused("masters-5") && plan.debt.len() == 2, "{:#?}", plan.debt);
    assert!(plan.blocked.iter().all(|blocked| blocked.by_debt), "no run waits for it: {:#?}", plan.blocked);
    assert!(
        plan.debt[0].reason.starts_with("its machine is gone; store runs on masters-1 already"),
        "{:#?}",
        plan.debt
    );
    // The same for a machine that is gone: as many new ones as are a majority would be a store of their own.
    let mut sketch = Sketch::whole(&small(1));
    sketch.observed.gone(&machine("masters-2"));
    assert!(!sketch.steps().contains(&"ensure here/machine/masters-2".to_owned()));
    assert!(sketch.plan().debt.iter().any(|debt| debt.subject == "masters-2" && debt.area == Area::Safety));
    // The same for masters under other names.
    let mut sketch = Sketch::whole(&small(1));
    let mut renamed = small(1);
    let group = renamed.blueprint.groups.remove("masters").expect("a group");
    renamed.blueprint.groups.insert("heads".parse().expect("a name"), group);
    sketch.desired = renamed.desired().with_founders(sketch.desired.founders.clone());
    assert!(!sketch.steps().iter().any(|step| step.contains("heads-")), "{:?}", sketch.steps());
    // Where no store has begun, a master is made as often as need be.
    let mut sketch = Sketch::whole(&small(1));
    sketch.desired = sketch.desired.with_founders(std::collections::BTreeMap::new());
    for node in ["masters-1", "masters-2", "masters-3"] {
        sketch.close(node, "store");
        sketch.says(node, |status| status.components.clear());
    }
    sketch.observed.gone(&machine("masters-2"));
    assert!(sketch.steps().contains(&"ensure here/machine/masters-2".to_owned()), "{:?}", sketch.steps());
}

#[test]
fn a_cluster_keeps_the_masters_that_it_was_made_with_whoever_is_heard() {
    let mut sketch = Sketch::whole(&small(1));
    sketch.observed.nodes.clear();
    let none = std::collections::BTreeSet::new();
    let pinned = masters_to_pin(&none, &sketch.desired, &sketch.observed).expect("the first time");
    assert_eq!(pinned, ["masters-1", "masters-2", "masters-3"].map(name).into());
    assert_eq!(masters_to_pin(&pinned, &sketch.desired, &sketch.observed), Ok(pinned.clone()));
    let changed = |change: &dyn Fn(&mut castrum_blueprints::blueprint::Blueprint)| {
        let mut cluster = small(1);
        change(&mut cluster.blueprint);
        cluster.desired()
    };
    let count = |count| {
        changed(&move |blueprint| blueprint.groups.get_mut("masters").expect("a group").count = count)
    };
    let renamed = changed(&|blueprint| {
        let group = blueprint.groups.remove("masters").expect("a group");
        blueprint.groups.insert("heads".parse().expect("a name"), group);
    });
    for other in [count(1), count(5), renamed] {
        masters_to_pin(&pinned, &other, &sketch.observed).expect_err("other masters");
        let mut unseen = sketch.observed.clone();
        unseen.resources.clear();
        let reason = "no answer".to_owned();
        unseen.blind.push(Blind { site: site(), kind: None, reason });
        masters_to_pin(&pinned, &other, &unseen).expect_err("unseen is not absent");
        // Where no machine is, there is no store.
        unseen.blind.clear();
        assert!(masters_to_pin(&pinned, &other, &unseen).is_ok_and(|masters| masters != pinned));
    }
}

#[test]
fn a_master_of_a_founded_platform_is_not_made_anew_while_another_is_there_unheard() {
    let mut sketch = Sketch::whole(&small(1));
    sketch.observed.nodes.clear();
    sketch.observed.gone(&machine("masters-2"));
    sketch.observed.gone(&machine("masters-3"));
    assert!(
        !sketch.steps().iter().any(|step| step.starts_with("ensure here/machine/masters-")),
        "{:?}",
        sketch.steps()
    );
    sketch.observed.gone(&machine("masters-1"));
    assert!(
        sketch.steps().contains(&"ensure here/machine/masters-2".to_owned()),
        "nothing is left to be split"
    );
}

#[test]
fn a_member_of_a_quorum_store_does_not_change_its_role() {
    let mut sketch = Sketch::whole(&small(3));
    let mut turned = small(3);
    for (group, role) in [("masters", Role::Agent), ("agents", Role::Master)] {
        turned.blueprint.groups.get_mut(group).expect("a group").role = role;
    }
    sketch.desired = turned.desired().with_founders(sketch.desired.founders.clone());
    let plan = sketch.plan();
    let published = plan.steps.iter().any(|step| matches!(step.action, Action::Publish { .. }));
    assert!(!published, "{:?}", sketch.steps());
    for node in ["masters-1", "masters-2", "masters-3", "agents-1", "agents-2", "agents-3"] {
        let debt = plan.debt.iter().find(|debt| debt.subject == node).expect("it is set aside");
        assert!(debt.area == Area::Safety && debt.reason.ends_with("cannot be changed yet"), "{debt:?}");
    }
}

#[test]
fn a_machine_that_is_off_is_switched_on_and_a_paused_one_is_left() {
    let mut sketch = Sketch::whole(&small(1));
    let power = |sketch: &mut Sketch, state: PowerState| {
        let seen = sketch.observed.resources.get_mut(&machine("agents-1")).expect("made");
        seen.machine.as_mut().expect("a machine").power = state;
    };
    power(&mut sketch, PowerState::Off);
    assert_eq!(sketch.steps(), ["ensure here/machine/agents-1"]);
    power(&mut sketch, PowerState::Paused);
    assert_eq!(sketch.steps(), NONE);
    assert_eq!(sketch.plan().debt[0].reason, "its machine is paused");
}

#[test]
fn waiting_turns_into_debt_when_its_time_is_over_and_not_before() {
    let mut sketch = Sketch::whole(&small(1));
    sketch.observed.listening_since = None;
    let limits = sketch.desired.limits;
    let at = |sketch: &Sketch, seconds: u32, more: u64| {
        let now = sketch.now.plus(u64::from(seconds) * 1000).plus(more).0 - 1;
        plan(&sketch.desired, &sketch.observed, Timestamp(now)).expect("rendered")
    };
    // Silence.
    let debts = |plan: &castrum_blueprints::plan::Plan| {
        plan.debt.iter().map(|d| d.subject.clone()).collect::<Vec<_>>()
    };
    for node in sketch.nodes() {
        let heard = sketch.observed.nodes.get_mut(&node).and_then(|seen| seen.heard.as_mut()).expect("heard");
        heard.at = if node.as_str() == "agents-1" { sketch.now } else { sketch.now.plus(3_600_000) };
    }
    assert_eq!(debts(&at(&sketch, limits.silence_seconds, 0)), NONE);
    assert_eq!(debts(&at(&sketch, limits.silence_seconds, 1)), ["agents-1"]);
    assert!(at(&sketch, limits.silence_seconds, 0).wake_at.is_some(), "it asks to be woken");
    // Boot.
    let seen = sketch.observed.nodes.get_mut(&name("agents-1")).expect("known");
    (seen.heard, seen.awaited_since) = (None, Some(sketch.now));
    assert_eq!(debts(&at(&sketch, limits.boot_seconds, 0)), NONE);
    assert_eq!(debts(&at(&sketch, limits.boot_seconds, 1)), ["agents-1"]);
    // Checks.
    let mut sketch = Sketch::whole(&small(1));
    for node in sketch.nodes() {
        let seen = sketch.observed.nodes.get_mut(&node).expect("known");
        seen.heard.as_mut().expect("heard").at = sketch.now.plus(3_600_000);
    }
    sketch.phase("agents-1", "gauge", Phase::Settling);
    assert_eq!(debts(&at(&sketch, limits.settle_seconds, 0)), NONE);
    assert_eq!(debts(&at(&sketch, limits.settle_seconds, 1)), ["gauge on agents-1"]);
}

#[test]
fn a_component_that_falls_back_again_and_again_gains_no_time() {
    let mut sketch = Sketch::whole(&small(1));
    let mut now = sketch.now;
    let gauge: castrum_blueprints::names::ComponentName = "gauge".parse().expect("a name");
    for turn in 0..40_u64 {
        now = now.plus(10_000);
        let heard = sketch.observed.nodes[&name("agents-1")].heard.as_ref().expect("heard");
        let mut status = (*heard.status).clone();
        status.sequence += 1;
        let phases = [Phase::Starting, Phase::Settling, Phase::Failing];
        status.components.get_mut(&gauge).expect("carried").phase =
            phases[usize::try_from(turn % 3).expect("small")];
        assert!(sketch.observed.hear(status, 0, now));
    }
    for node in sketch.nodes() {
        sketch.observed.nodes.get_mut(&node).expect("known").heard.as_mut().expect("heard").at = now;
    }
    sketch.now = now;
    assert!(sketch.plan().debt.iter().any(|debt| debt.subject == "gauge on agents-1"));
}

#[test]
fn a_step_that_failed_waits_for_its_turn_and_is_given_up_when_that_is_no_use() {
    let mut sketch = Sketch::empty(&small(1));
    let step = "ensure here/network/nodes";
    let later = sketch.now.plus(500);
    let busy = Failed { message: "busy".to_owned(), at: None, retry_at: Some(later) };
    sketch.observed.failed(step, busy, sketch.now);
    let waiting = sketch.plan();
    assert_eq!((waiting.steps.len(), waiting.wake_at), (0, Some(later)));
    sketch.now = later;
    assert_eq!(sketch.steps(), [step]);
    sketch.now = later.plus(3_600_000);
    assert_eq!(sketch.plan().debt[0].reason, "ensure here/network/nodes: busy (tried 1 times)");
    sketch.now = later;
    let denied = Failed { message: "not allowed".to_owned(), ..Failed::default() };
    sketch.observed.failed(step, denied, sketch.now);
    let given_up = sketch.plan();
    assert_eq!((given_up.steps.len(), given_up.debt.len()), (0, 1));
    sketch.observed.succeeded(step);
    assert_eq!(sketch.steps(), [step]);
}

#[test]
fn an_old_word_of_a_machine_that_is_gone_says_nothing_of_the_new_one() {
    let mut sketch = Sketch::whole(&small(1));
    sketch.now = sketch.now.plus(3_600_000);
    for node in ["masters-2", "agents-1"] {
        let seen = sketch.observed.resources.get_mut(&machine(node)).expect("made");
        seen.machine.as_mut().expect("a machine").created_at = sketch.now;
    }
    for node in sketch.nodes().iter().filter(|node| !["masters-2", "agents-1"].contains(&node.as_str())) {
        sketch.observed.nodes.get_mut(node).expect("known").heard.as_mut().expect("heard").at = sketch.now;
    }
    let plan = sketch.plan();
    assert_eq!(plan.debt, [], "they boot");
    assert_eq!(plan.steps.iter().map(|step| step.id.as_str()).collect::<Vec<_>>(), ["enroll masters-2"]);
    assert_eq!(sketch.waits("node agents-1"), "its agent to be heard");
}

#[test]
fn a_node_is_not_done_before_it_has_taken_up_what_was_published() {
    let mut sketch = Sketch::whole(&small(1));
    let seen = sketch.observed.nodes.get_mut(&name("agents-1")).expect("known");
    let published = seen.published.as_mut().expect("published");
    published.generation += 1;
    let held = Arc::clone(&seen.heard.as_ref().expect("heard").status);
    assert_eq!(held.content.as_ref(), Some(&published.content));
    published.content = castrum_blueprints::names::Digest::of(b"another");
    let plan = sketch.plan();
    assert_ne!(plan.progress(), Progress::Converged);
    assert!(sketch.waits("node agents-1").starts_with("its agent to take up generation"));
}

#[test]
fn what_was_filled_on_goes_on_to_be_filled() {
    let mut sketch = Sketch::whole(&small(1));
    for (master, blobs) in [("masters-1", 0), ("masters-2", 2), ("masters-3", 0)] {
        sketch.says(master, |status| {
            status.blobs = std::mem::take(&mut status.blobs).into_iter().take(blobs).collect();
        });
        sketch.observed.nodes.get_mut(&name(master)).expect("known").filled.clear();
    }
    let steps = sketch.steps();
    assert_eq!(steps, ["fill masters-2"], "a master that comes later takes from the one that has begun");
}
