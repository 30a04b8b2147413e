//! Whole runs on simulated worlds: what a run promises, and what it does when the world does not.

use std::collections::BTreeSet;

use castrum_blueprints::event::What;
use castrum_blueprints::names::{ComponentName, NodeName, ResourceKind, ResourcePath};
use castrum_blueprints::plan::{Area, Progress};
use castrum_provider::{Power as _, PowerState};
use castrum_provider_sim::{Audit, Component, Faults, Limit, Range, Settings};
use castrum_tests::cluster::{site, small};
use castrum_tests::rig::{Rig, on_sim};
use castrum_tests::verdict::assert_whole;

fn node(text: &str) -> NodeName {
    text.parse().expect("a name")
}

fn component(text: &str) -> ComponentName {
    text.parse().expect("a name")
}

fn machine(name: &str) -> ResourcePath {
    ResourcePath { site: site(), kind: ResourceKind::Machine, name: name.to_owned() }
}

fn debtors(outcome: &castrum::engine::Outcome) -> BTreeSet<String> {
    outcome.plan.debt.iter().map(|debt| debt.subject.clone()).collect()
}

#[test]
fn three_masters_and_agents_converge_and_the_second_apply_has_no_steps() {
    for settings in [Settings::instant(), Settings::default()] {
        on_sim(async {
            let rig = Rig::new(small(3), settings);
            let (outcome, _) = rig.apply().await.expect("rendered");
            assert_eq!(outcome.progress, Some(Progress::Converged), "{:#?}", outcome.plan);
            assert_whole(&rig);
            let (outcome, heard) = rig.apply().await.expect("rendered");
            assert_eq!(outcome.progress, Some(Progress::Converged));
            assert_eq!(heard.started(), Vec::<String>::new());
            let (outcome, _) = rig.destroy().await;
            assert_eq!(outcome.progress, Some(Progress::Converged));
            assert_eq!((rig.world.audit().resources, rig.world.audit().agents), (0, 0));
        });
    }
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_one_another() {
    let run = |seed: u64| {
        let mut events = Vec::new();
        on_sim(async {
            let rig = Rig::new(small(3), Settings { seed, ..Settings::default() });
            let (_, heard) = rig.apply().await.expect("rendered");
            events = heard.all();
        });
        serde_json::to_string(&events).expect("events are plain data")
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn a_founder_is_pinned_before_it_is_asked_and_founds_once() {
    on_sim(async {
        let rig = Rig::new(small(2), Settings::default());
        let (_, heard) = rig.apply().await.expect("rendered");
        let events = heard.all();
        let place = |wanted: &dyn Fn(&What) -> bool| events.iter().position(|event| wanted(&event.what));
        let founder = rig.project.lock().founders[&component("pool")].clone();
        let pinned = place(&|what| matches!(what, What::StepDone { id, .. } if id == "found pool"));
        let joined = place(
            &|what| matches!(what, What::ComponentPhase { node, component: c, .. } if *node == founder && c.as_str() == "pool"),
        );
        assert!(pinned.expect("pinned") < joined.expect("joined"), "the pin comes first");
        assert_eq!(rig.world.audit().founded_twice.len(), 0);
    });
}

#[test]
fn a_dead_agent_and_a_dead_master_are_debt_and_the_others_come_up() {
    for dead in ["agents-2", "masters-3"] {
        on_sim(async {
            let faults = Faults { never_boots: [node(dead)].into(), ..Faults::default() };
            let mut rig = Rig::new(small(3), Settings { faults, ..Settings::default() });
            let (outcome, _) = rig.apply().await.expect("rendered");
            assert_eq!(outcome.progress, Some(Progress::Partial));
            assert_eq!(debtors(&outcome), [dead.to_owned()].into(), "{:#?}", outcome.plan);
            assert_eq!(outcome.plan.debt[0].area, Area::Boot);
            assert!(
                outcome.plan.blocked.iter().all(|blocked| blocked.by_debt),
                "{:#?}",
                outcome.plan.blocked
            );
            let healthy =
                |name: &NodeName| rig.world.portrait()[name].iter().all(|line| line.contains("healthy"));
            let others = rig.world.portrait().into_keys().filter(|name| name.as_str() != dead);
            let others: Vec<NodeName> = others.collect();
            assert!(others.len() == 6 && others.iter().all(healthy));
            // Somebody repairs it: its power is cycled, and it boots this time.
            rig.settle(Settings::default());
            rig.sim.kill(&machine(dead)).await.expect("off");
            let (outcome, heard) = rig.apply().await.expect("rendered");
            assert_eq!(outcome.progress, Some(Progress::Converged), "{:#?}", outcome.plan);
            assert!(heard.started().iter().all(|id| id.contains(dead)), "{:?}", heard.started());
            assert_whole(&rig);
        });
    }
}

#[test]
fn a_frozen_node_is_debt_and_thawed_the_next_apply_finishes_it() {
    for (frozen, after) in [("agents-1", 14_000), ("masters-2", 9_000), ("masters-1", 16_000)] {
        on_sim(async {
            let faults = Faults { freezes: [(node(frozen), after)].into(), ..Faults::default() };
            let rig = Rig::new(small(3), Settings { faults, ..Settings::default() });
            let (outcome, _) = rig.apply().await.expect("rendered");
            assert_eq!(outcome.progress, Some(Progress::Partial), "{frozen} {:#?}", outcome.plan);
            assert!(debtors(&outcome).contains(frozen), "{:#?}", outcome.plan);
            rig.world.thaw(&node(frozen));
            let (outcome, _) = rig.apply().await.expect("rendered");
            assert_eq!(outcome.progress, Some(Progress::Converged), "{frozen} {:#?}", outcome.plan);
            assert_whole(&rig);
        });
    }
}

#[test]
fn a_paused_machine_is_debt_and_is_not_switched_on_behind_anybodys_back() {
    on_sim(async {
        let rig = Rig::new(small(2), Settings::default());
        rig.apply().await.expect("rendered").0.progress.expect("ended");
        rig.sim.set(&machine("agents-1"), PowerState::Paused).await.expect("paused");
        let (outcome, heard) = rig.apply().await.expect("rendered");
        assert_eq!(outcome.progress, Some(Progress::Partial));
        assert_eq!(debtors(&outcome), ["agents-1".to_owned()].into());
        assert!(outcome.plan.debt[0].reason.contains("paused"));
        assert_eq!(heard.started(), Vec::<String>::new());
        rig.sim.set(&machine("agents-1"), PowerState::On).await.expect("on");
        let (outcome, _) = rig.apply().await.expect("rendered");
        assert_eq!(outcome.progress, Some(Progress::Converged));
        assert_whole(&rig);
    });
}

#[test]
fn a_machine_that_was_removed_is_made_anew_and_joins_again_but_for_a_master() {
    on_sim(async {
        use castrum_provider::Provider as _;
        let rig = Rig::new(small(2), Settings::default());
        rig.apply().await.expect("rendered").0.progress.expect("ended");
        rig.sim.remove(&machine("agents-2")).await.expect("removed");
        let (outcome, _) = rig.apply().await.expect("rendered");
        assert_eq!(outcome.progress, Some(Progress::Converged), "{:#?}", outcome.plan);
        assert_whole(&rig);
        // A new machine would be no member of the quorum store that runs on the others.
        rig.sim.remove(&machine("masters-3")).await.expect("removed");
        let (outcome, heard) = rig.apply().await.expect("rendered");
        assert_eq!((outcome.progress, heard.started()), (Some(Progress::Partial), Vec::new()));
        assert_eq!(debtors(&outcome), ["masters-3".to_owned()].into());
        assert_eq!(outcome.plan.debt[0].area, Area::Safety);
    });
}

#[test]
fn calls_that_fail_or_lose_their_answer_are_repeated_until_they_work() {
    on_sim(async {
        let faults = Faults { before: 0.25, after: 0.25, ..Faults::default() };
        let bucket = Some(Limit { capacity: 4, refill_per_second: 2.0 });
        let rig = Rig::new(small(12), Settings { faults, bucket, seed: 3, ..Settings::default() });
        let (outcome, heard) = rig.apply().await.expect("rendered");
        assert_eq!(outcome.progress, Some(Progress::Converged), "{:#?}", outcome.plan);
        assert!(heard.failures() > 5, "{} failures", heard.failures());
        assert_whole(&rig);
        let (outcome, _) = rig.destroy().await;
        assert_eq!((outcome.progress, rig.world.audit().resources), (Some(Progress::Converged), 0));
    });
}

#[test]
fn what_is_not_allowed_is_debt_at_once_and_holds_up_no_other() {
    on_sim(async {
        let faults = Faults { denied: ["agents-2".to_owned()].into(), ..Faults::default() };
        let rig = Rig::new(small(3), Settings { faults, ..Settings::default() });
        let (outcome, heard) = rig.apply().await.expect("rendered");
        assert_eq!(outcome.progress, Some(Progress::Partial));
        assert_eq!(debtors(&outcome), ["agents-2".to_owned()].into());
        assert_eq!(outcome.plan.debt[0].area, Area::Infrastructure);
        assert_eq!(heard.started().iter().filter(|id| id.contains("agents-2")).count(), 1, "tried once");
        assert_eq!(rig.world.audit().agents, 6);
        // Where the foundation is not allowed, nothing can be made, and the run says so.
        let faults = Faults { denied: ["nodes".to_owned()].into(), ..Faults::default() };
        let rig = Rig::new(small(3), Settings { faults, ..Settings::default() });
        let (outcome, _) = rig.apply().await.expect("rendered");
        assert_eq!(outcome.progress, Some(Progress::Partial));
        assert_eq!(rig.world.audit().resources, 0);
        assert_eq!(debtors(&outcome), ["ensure here/network/nodes".to_owned()].into());
    });
}

#[test]
fn a_place_without_room_is_debt_and_what_fits_comes_up() {
    on_sim(async {
        let rig = Rig::new(small(6), Settings { machines: Some(7), ..Settings::default() });
        let (outcome, _) = rig.apply().await.expect("rendered");
        assert_eq!(outcome.progress, Some(Progress::Partial));
        assert_eq!(outcome.plan.debt.len(), 3, "{:#?}", outcome.plan.debt);
        assert_eq!(rig.world.audit().agents, 7);
    });
}

#[test]
fn a_component_that_never_becomes_healthy_is_debt_and_what_stands_on_it_is_not_awaited() {
    on_sim(async {
        // A quorum store that is broken on two of three masters: nothing above it can open.
        let broken =
            Component { broken_on: ["masters-1", "masters-2"].map(node).into(), ..Component::default() };
        let components = [(component("store"), broken)].into();
        let rig = Rig::new(small(3), Settings { components, ..Settings::default() });
        let (outcome, _) = rig.apply().await.expect("rendered");
        assert_eq!(outcome.progress, Some(Progress::Partial));
        let debt = ["store on masters-1", "store on masters-2"].map(str::to_owned);
        assert_eq!(debtors(&outcome), debt.into(), "{:#?}", outcome.plan.debt);
        let pools = outcome.plan.blocked.iter().filter(|blocked| blocked.subject.starts_with("pool on"));
        assert!(
            pools.clone().count() == 7 && pools.clone().all(|b| b.by_debt),
            "{:#?}",
            outcome.plan.blocked
        );
        let gauges = rig.world.portrait().into_values().flatten().filter(|l| l == "gauge healthy").count();
        assert_eq!(gauges, 7, "what does not stand on it came up");
    });
}

#[test]
fn starts_that_fail_are_tried_again_by_the_node() {
    on_sim(async {
        let shaky = Component { failing_starts: 3, ..Component::default() };
        let components = [(component("engine"), shaky)].into();
        let rig = Rig::new(small(2), Settings { components, ..Settings::default() });
        let (outcome, _) = rig.apply().await.expect("rendered");
        assert_eq!(outcome.progress, Some(Progress::Converged), "{:#?}", outcome.plan);
        assert_whole(&rig);
    });
}

#[test]
fn a_blind_place_is_never_planned_against() {
    on_sim(async {
        let mut rig = Rig::new(small(1), Settings::default());
        rig.apply().await.expect("rendered").0.progress.expect("ended");
        let before = rig.world.audit();
        let faults = Faults { blind: 1.0, ..Faults::default() };
        rig.settle(Settings { faults, ..Settings::default() });
        let (outcome, heard) = rig.apply().await.expect("rendered");
        assert_eq!(outcome.progress, Some(Progress::Partial));
        assert_eq!(heard.started(), Vec::<String>::new());
        let (outcome, heard) = rig.destroy().await;
        assert_eq!((outcome.progress, heard.started()), (Some(Progress::Partial), Vec::new()));
        assert_eq!(rig.world.audit(), before);
    });
}

#[test]
fn somebody_who_asks_to_stop_gets_a_run_that_starts_nothing_more_and_the_next_goes_on() {
    on_sim(async {
        let rig = Rig::new(small(3), Settings::default());
        let (engine, heard, canceller) = rig.engine();
        let stop = async {
            tokio::time::sleep(std::time::Duration::from_secs(8)).await;
            canceller.cancel();
            heard.started().len()
        };
        let (outcome, started) = tokio::join!(engine.converge(rig.desired()), stop);
        assert_eq!(outcome.expect("rendered").progress, None);
        assert_eq!(heard.started().len(), started, "nothing was started after it");
        let ended = |what: &What| matches!(what, What::StepDone { .. } | What::StepFailed { .. });
        assert_eq!(heard.all().iter().filter(|event| ended(&event.what)).count(), started, "all was joined");
        drop(engine);
        let (outcome, _) = rig.apply().await.expect("rendered");
        assert_eq!(outcome.progress, Some(Progress::Converged));
        assert_whole(&rig);
    });
}

#[test]
fn two_applies_at_once_make_one_cluster() {
    for seed in 0..20 {
        on_sim(async {
            let rig = Rig::new(small(4), Settings { seed, ..Settings::default() });
            let ((one, ..), (two, ..)) = (rig.engine(), rig.engine());
            let later = async {
                tokio::time::sleep(std::time::Duration::from_millis(seed * 700)).await;
                two.converge(rig.desired()).await
            };
            let (one, two) = tokio::join!(one.converge(rig.desired()), later);
            for outcome in [one, two] {
                let outcome = outcome.expect("rendered");
                assert_eq!(outcome.progress, Some(Progress::Converged), "seed {seed}: {:#?}", outcome.plan);
            }
            assert_whole(&rig);
            assert_eq!(rig.world.audit().made, 9, "a network and eight machines");
        });
    }
}

#[test]
fn an_agent_that_is_killed_comes_back_and_restarts_nothing() {
    on_sim(async {
        let rig = Rig::new(small(2), Settings::default());
        rig.apply().await.expect("rendered").0.progress.expect("ended");
        rig.world.record();
        for name in rig.world.portrait().keys() {
            rig.world.kill_agent(name);
        }
        let (outcome, heard) = rig.apply().await.expect("rendered");
        assert_eq!((outcome.progress, heard.started()), (Some(Progress::Converged), Vec::new()));
        let restarted = rig.world.happenings().into_iter();
        let restarted = restarted.filter(|h| matches!(h.what, castrum_provider_sim::Happened::Started(_)));
        assert_eq!(restarted.count(), 0);
        rig.world.crash(&node("agents-1"), &component("engine"));
        let (outcome, heard) = rig.apply().await.expect("rendered");
        assert_eq!((outcome.progress, heard.started()), (Some(Progress::Converged), Vec::new()));
        assert_whole(&rig);
    });
}

#[test]
fn a_cluster_can_grow_and_shrink_but_loses_no_master() {
    on_sim(async {
        let mut rig = Rig::new(small(2), Settings::default());
        rig.apply().await.expect("rendered").0.progress.expect("ended");
        rig.cluster = small(5);
        let (outcome, _) = rig.apply().await.expect("rendered");
        assert_eq!(outcome.progress, Some(Progress::Converged), "{:#?}", outcome.plan);
        assert_whole(&rig);
        rig.cluster = small(1);
        let (outcome, _) = rig.apply().await.expect("rendered");
        assert_eq!(outcome.progress, Some(Progress::Converged), "{:#?}", outcome.plan);
        assert_whole(&rig);
        rig.cluster.blueprint.groups.get_mut("masters").expect("a group").count = 1;
        let before = rig.world.audit();
        let (outcome, _) = rig.apply().await.expect("rendered");
        assert_eq!(outcome.progress, Some(Progress::Partial));
        assert_eq!(outcome.plan.debt.len(), 2, "{:#?}", outcome.plan.debt);
        assert_eq!(Audit { resources: before.resources, ..rig.world.audit() }, rig.world.audit());
    });
}

#[test]
fn a_destroy_ends_and_says_what_is_left() {
    on_sim(async {
        let mut rig = Rig::new(small(2), Settings::default());
        rig.apply().await.expect("rendered").0.progress.expect("ended");
        let faults = Faults { denied: ["agents-1".to_owned()].into(), ..Faults::default() };
        rig.settle(Settings { faults, ..Settings::default() });
        let (outcome, _) = rig.destroy().await;
        assert_eq!(outcome.progress, Some(Progress::Partial));
        assert_eq!(rig.world.audit().resources, 2, "the machine, and the network that it is in");
        rig.settle(Settings::default());
        let (outcome, _) = rig.destroy().await;
        assert_eq!((outcome.progress, rig.world.audit().resources), (Some(Progress::Converged), 0));
    });
}

#[test]
fn the_world_outlives_its_process_in_its_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = Some(dir.path().join("world.json").display().to_string());
    let settings = Settings { state, ..Settings::default() };
    let mut lock = None;
    let mut made = None;
    let mut at = None;
    for expected in [true, false] {
        on_sim(async {
            let mut cluster = small(3);
            cluster.lock = lock.clone().unwrap_or(cluster.lock);
            let rig = Rig::new(cluster, settings.clone());
            assert!(at.is_none_or(|at| rig.world.now() >= at), "time goes on");
            let (outcome, heard) = rig.apply().await.expect("rendered");
            assert_eq!(outcome.progress, Some(Progress::Converged), "{:#?}", outcome.plan);
            assert_eq!(!heard.started().is_empty(), expected);
            assert_whole(&rig);
            lock = Some(rig.project.lock());
            assert!(made.is_none_or(|made| made == rig.world.audit().made));
            (made, at) = (Some(rig.world.audit().made), Some(rig.world.now()));
        });
    }
    on_sim(async {
        let rig = Rig::new(small(3), settings.clone());
        let (outcome, _) = rig.destroy().await;
        assert_eq!(outcome.progress, Some(Progress::Converged));
    });
    assert_eq!(
        std::fs::read_dir(dir.path()).expect("a folder").count(),
        0,
        "a destroyed world leaves nothing"
    );
}

#[test]
fn a_component_in_a_slow_world_has_its_time_and_not_more() {
    on_sim(async {
        let slow = Component { check: Range::exactly(170_000), ..Component::default() };
        let rig = Rig::new(
            small(1),
            Settings { components: [(component("gauge"), slow)].into(), ..Settings::default() },
        );
        let (outcome, _) = rig.apply().await.expect("rendered");
        assert_eq!(outcome.progress, Some(Progress::Converged));
        let slow = Component { check: Range::exactly(190_000), ..Component::default() };
        let rig = Rig::new(
            small(1),
            Settings { components: [(component("gauge"), slow)].into(), ..Settings::default() },
        );
        let (outcome, _) = rig.apply().await.expect("rendered");
        assert_eq!(outcome.progress, Some(Progress::Partial));
        assert!(debtors(&outcome).contains("gauge on agents-1"));
    });
}
