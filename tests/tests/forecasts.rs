//! Forecast and run: the same `plan`, so that a preview cannot disagree with what happens. And the properties of both.

use std::collections::BTreeSet;

use castrum_blueprints::names::{NodeName, Role, Timestamp};
use castrum_blueprints::observed::{Failed, Observed};
use castrum_blueprints::plan::{Action, Plan, Planner, Progress, forecast, plan};
use castrum_blueprints::resource::PowerState;
use castrum_blueprints::stack::Stack;
use castrum_blueprints::stacks;
use castrum_blueprints::status::Phase;
use castrum_provider_sim::Settings;
use castrum_tests::camp;
use castrum_tests::cluster::{Cluster, small};
use castrum_tests::rig::{Rig, on_sim};
use castrum_tests::sketch::Sketch;
use proptest::prelude::*;
use serde_json::json;

fn swarm() -> Stack {
    Stack::read(&stacks::files("swarm").expect("it is brought along")).expect("valid")
}

fn of(stack: Stack, (masters, agents, edges): (u32, u32, u32)) -> Cluster {
    Cluster::new(stack).group("masters", Role::Master, masters).group("agents", Role::Agent, agents).group(
        "edges",
        Role::PublicAgent,
        edges,
    )
}

/// The steps of all rounds; a step that is foreseen twice is one that has to be done twice.
fn foreseen(cluster: &Cluster, observed: &Observed, now: Timestamp) -> Vec<String> {
    let forecast = forecast(&cluster.desired(), observed, now).expect("rendered");
    assert_eq!(forecast.progress, Progress::Converged);
    let mut steps: Vec<String> = forecast.rounds.into_iter().flat_map(|r| r.steps).map(|s| s.id).collect();
    steps.sort();
    steps
}

#[test]
fn a_forecast_names_the_very_steps_of_the_run() {
    // At most as many machines as a run asks for at once: of more, some come later, and others hear of them once more.
    let sizes = [(1, 0, 0), (1, 2, 1), (3, 0, 0), (3, 4, 2), (5, 8, 3)];
    for (stack, sizes) in [(camp::stack(), &sizes[..]), (swarm(), &sizes[..])] {
        for size in sizes {
            let cluster = of(stack.clone(), *size);
            on_sim(async {
                let rig = Rig::new(cluster.clone(), Settings::instant());
                let foreseen = foreseen(&cluster, &Observed::default(), rig.world.now());
                let (outcome, heard) = rig.apply().await.expect("rendered");
                assert_eq!(outcome.progress, Some(Progress::Converged), "{:#?}", outcome.plan);
                let mut done = heard.started();
                done.sort();
                assert_eq!(foreseen, done, "{} {size:?}", stack.name);
            });
        }
    }
}

#[test]
fn a_forecast_of_a_change_names_the_very_steps_of_the_run() {
    on_sim(async {
        let mut rig = Rig::new(small(3), Settings::instant());
        let (outcome, _) = rig.apply().await.expect("rendered");
        rig.cluster = small(5).set("runtime", "level", json!(3)).limits(|limits| limits.agents_at_once = 2);
        rig.cluster.lock = rig.project.lock();
        let foreseen = foreseen(&rig.cluster, &outcome.observed, rig.world.now());
        let (outcome, heard) = rig.apply().await.expect("rendered");
        assert_eq!(outcome.progress, Some(Progress::Converged), "{:#?}", outcome.plan);
        let nodes = |steps: &[String]| {
            steps
                .iter()
                .map(|id| id.split('@').next().unwrap_or_default().to_owned())
                .collect::<BTreeSet<_>>()
        };
        assert_eq!(nodes(&foreseen), nodes(&heard.started()));
    });
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    for cluster in [of(camp::stack(), (3, 20, 2)), of(swarm(), (3, 20, 2))] {
        let whole = Sketch::whole(&cluster);
        for observed in [Observed::default(), whole.observed] {
            let bytes = || {
                let desired = cluster.desired();
                let plan = plan(&desired, &observed, whole.now).expect("rendered");
                let forecast = forecast(&desired, &observed, whole.now).expect("rendered");
                (serde_json::to_vec(&plan).expect("data"), serde_json::to_vec(&forecast).expect("data"))
            };
            assert_eq!(bytes(), bytes());
        }
    }
}

/// Something that can be otherwise than in a whole cluster.
#[derive(Debug, Clone)]
enum Harm {
    Gone(usize),
    Power(usize, PowerState),
    Silent(usize, u64),
    Unheard(usize),
    Phase(usize, usize, Phase),
    Closed(usize, usize),
    NoBlobs(usize),
    OtherManifest(usize),
    Failed(usize, bool),
    Setting,
}

fn a_harm() -> impl Strategy<Value = Harm> {
    let power = prop_oneof![Just(PowerState::Off), Just(PowerState::Paused), Just(PowerState::Unknown)];
    let phase = prop_oneof![
        Just(Phase::Fetching),
        Just(Phase::Waiting),
        Just(Phase::Joining),
        Just(Phase::Settling),
        Just(Phase::Failing)
    ];
    let n = any::<usize>;
    prop_oneof![
        1 => n().prop_map(Harm::Gone),
        1 => (n(), power).prop_map(|(n, power)| Harm::Power(n, power)),
        1 => (n(), 0..400_000_u64).prop_map(|(n, ago)| Harm::Silent(n, ago)),
        1 => n().prop_map(Harm::Unheard),
        3 => (n(), n(), phase).prop_map(|(n, c, phase)| Harm::Phase(n, c, phase)),
        3 => (n(), n()).prop_map(|(n, c)| Harm::Closed(n, c)),
        1 => n().prop_map(Harm::NoBlobs),
        1 => n().prop_map(Harm::OtherManifest),
        1 => (n(), any::<bool>()).prop_map(|(n, hopeless)| Harm::Failed(n, hopeless)),
        1 => Just(Harm::Setting),
    ]
}

fn harmed(mut sketch: Sketch, harms: Vec<Harm>) -> Sketch {
    let nodes = sketch.nodes();
    let at = |n: usize| nodes[n % nodes.len()].clone();
    for harm in harms {
        match harm {
            Harm::Gone(n) => sketch.observed.gone(&sketch.desired.nodes[&at(n)].machine.clone()),
            Harm::Power(n, power) => {
                let path = &sketch.desired.nodes[&at(n)].machine;
                if let Some(machine) =
                    sketch.observed.resources.get_mut(path).and_then(|seen| seen.machine.as_mut())
                {
                    machine.power = power;
                }
            }
            Harm::Silent(n, ago) => {
                let now = sketch.now;
                let heard = sketch.observed.nodes.get_mut(&at(n)).and_then(|seen| seen.heard.as_mut());
                if let Some(heard) = heard {
                    heard.at = Timestamp(now.0 - ago);
                }
            }
            Harm::Unheard(n) => {
                sketch.observed.nodes.remove(&at(n));
            }
            Harm::Phase(n, c, phase) => on_component(&mut sketch, (&at(n), c), |sketch, node, name| {
                sketch.phase(node, name, phase);
            }),
            Harm::Closed(n, c) => on_component(&mut sketch, (&at(n), c), Sketch::close),
            Harm::NoBlobs(n) => {
                if let Some(seen) = sketch.observed.nodes.get_mut(&at(n)) {
                    seen.filled.clear();
                    sketch.says(at(n).as_str(), |status| status.blobs.clear());
                }
            }
            Harm::OtherManifest(n) => {
                let seen = sketch.observed.nodes.get_mut(&at(n));
                if let Some(published) = seen.and_then(|seen| seen.published.as_mut()) {
                    published.generation += 3;
                    published.content = castrum_blueprints::names::Digest::of(b"another installer's");
                }
            }
            Harm::Failed(n, hopeless) => {
                let step = format!("ensure here/machine/{}", at(n));
                let retry = (!hopeless).then(|| sketch.now.plus(1_000));
                let failed = Failed { message: "it failed".to_owned(), at: None, retry_at: retry };
                sketch.observed.failed(&step, failed, sketch.now);
            }
            Harm::Setting => {
                let founders = sketch.desired.founders.clone();
                sketch.desired = small(4).set("runtime", "level", json!(9)).desired().with_founders(founders);
            }
        }
    }
    sketch
}

fn on_component(
    sketch: &mut Sketch,
    (node, c): (&NodeName, usize),
    change: impl FnOnce(&mut Sketch, &str, &str),
) {
    let heard = sketch.observed.nodes.get(node).and_then(|seen| seen.heard.as_ref());
    let Some(components) = heard.map(|heard| &heard.status.components).filter(|all| !all.is_empty()) else {
        return;
    };
    let name = components.keys().nth(c % components.len()).expect("within").clone();
    change(sketch, node.as_str(), name.as_str());
}

/// What holds of every plan of every world.
fn judge(sketch: &Sketch, plan: &Plan) {
    let (desired, observed) = (&sketch.desired, &sketch.observed);
    let healthy = |node: &NodeName, name: &str| {
        let heard = observed.nodes.get(node).and_then(|seen| seen.heard.as_ref());
        heard.is_some_and(|h| h.status.components.get(name).is_some_and(|c| c.phase == Phase::Healthy))
    };
    let ids: BTreeSet<_> = plan.steps.iter().map(|step| &step.id).collect();
    assert_eq!(ids.len(), plan.steps.len(), "a step is planned twice");
    let mut changed_masters = BTreeSet::new();
    for step in &plan.steps {
        let Action::Publish { manifest, .. } = &step.action else { continue };
        let seen = &observed.nodes[&manifest.node];
        let heard = seen.heard.as_ref().expect("nothing is published for a node that is not heard");
        let known = seen.published.as_ref().map_or(0, |p| p.generation).max(heard.status.generation);
        assert!(manifest.generation > known, "generations only grow");
        for component in &manifest.components {
            let open = seen.opened.contains(&component.name)
                || heard.status.components.contains_key(&component.name);
            for required in component.requires.iter().filter(|_| !open) {
                assert!(
                    healthy(&manifest.node, required.as_str()),
                    "{} opens before {required}",
                    component.name
                );
            }
            let status = heard.status.components.get(&component.name);
            let differs = status.is_some_and(|status| status.applied != component.digest());
            if differs && manifest.role == Role::Master {
                changed_masters.insert(manifest.node.clone());
            }
        }
    }
    for master in &changed_masters {
        let others = desired.nodes.iter().filter(|(name, n)| n.role == Role::Master && *name != master);
        for (other, _) in others {
            let well = desired.carried[&Role::Master].iter().all(|name| {
                let seen = observed.nodes.get(other);
                let open = seen.is_some_and(|seen| seen.opened.contains(name));
                !open || healthy(other, name.as_str())
            });
            assert!(!changed_masters.contains(other), "two masters are changed at once");
            assert!(well || !is_settled(sketch, master), "{master} is changed while {other} is not well");
        }
    }
}

fn is_settled(sketch: &Sketch, node: &NodeName) -> bool {
    let seen = &sketch.observed.nodes[node];
    let published = seen.published.as_ref().map(|published| &published.content);
    seen.heard.as_ref().is_some_and(|heard| {
        heard.status.components.values().all(|c| c.phase == Phase::Healthy)
            && published.is_none_or(|content| heard.status.content.as_ref() == Some(content))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_plan_of_every_world_is_safe_and_the_same_each_time(harms in proptest::collection::vec(a_harm(), 0..14)) {
        thread_local! { static WHOLE: Sketch = Sketch::whole(&small(4)); }
        let sketch = harmed(WHOLE.with(Clone::clone), harms);
        let first = sketch.plan();
        judge(&sketch, &first);
        let mut again = Planner::default();
        for _ in 0..2 {
            let kept = again.plan(&sketch.desired, &sketch.observed, sketch.now).expect("rendered");
            prop_assert_eq!(&kept, &first, "a planner that keeps what it rendered plans the same");
        }
        let forecast = forecast(&sketch.desired, &sketch.observed, sketch.now).expect("rendered");
        prop_assert!(forecast.rounds.len() < 60, "{} rounds", forecast.rounds.len());
        prop_assert!(forecast.rounds.last().is_none_or(|round| round.steps.is_empty()), "it ends when nothing is left to do");
        if !first.steps.is_empty() {
            prop_assert_eq!(&forecast.rounds[0], &first, "the first round is the plan");
        }
    }
}
