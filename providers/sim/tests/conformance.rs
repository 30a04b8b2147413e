//! The conformance suite, held against the simulated place through the trait.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use castrum_blueprints::names::{ClusterId, NodeName};
use castrum_provider::conformance::{Candidate, Check, Ground, Opened, Suite, Verdict};
use castrum_provider::{Failure, FailureClass};
use castrum_provider_sim::{Faults, Latencies, Range, Settings, Sim, World, runtime};

/// A simulated site, in a world for each cluster.
struct Simulated {
    settings: Settings,
    worlds: Mutex<BTreeMap<ClusterId, Arc<World>>>,
}

impl Simulated {
    fn opened(&self, cluster: &ClusterId, settings: Settings) -> Result<Opened, Failure> {
        let mut worlds = self.worlds.lock().expect("a lock");
        let world = worlds.entry(cluster.clone()).or_insert_with(|| World::new(cluster.clone()));
        let sim = Sim::with(world, "here".parse().expect("a name"), settings);
        let invalid =
            |error: castrum_provider_sim::SimError| Failure::new(FailureClass::Invalid, error.to_string());
        Ok(Opened::here(sim.map_err(invalid)?))
    }
}

#[async_trait]
impl Candidate for Simulated {
    async fn open(&self, cluster: &ClusterId) -> Result<Opened, Failure> {
        self.opened(cluster, self.settings.clone())
    }

    async fn open_unreachable(&self, cluster: &ClusterId) -> Option<Result<Opened, Failure>> {
        let faults = Faults { before: 1.0, ..self.settings.faults.clone() };
        Some(self.opened(cluster, Settings { faults, ..self.settings.clone() }))
    }
}

fn verdicts(settings: Settings) -> BTreeMap<Check, Verdict> {
    let node = |name: &str| -> (NodeName, _) { (name.parse().expect("a name"), None) };
    let ground = Ground {
        site: "here".parse().expect("a name"),
        clusters: [ClusterId::from_bytes([7; 6]), ClusterId::from_bytes([8; 6])],
        nodes: vec![node("check-1"), node("check-2")],
        zones: vec!["a".to_owned()],
        image: None,
        patience: Duration::from_hours(1),
    };
    let candidate = Simulated { settings, worlds: Mutex::default() };
    runtime().expect("a runtime").block_on(async {
        let suite = Suite::new(&candidate, &ground);
        let outcomes = suite.run(&mut |_| {}).await;
        suite.sweep().await.expect("everything is removed");
        let worlds = candidate.worlds.lock().expect("a lock");
        assert!(worlds.values().all(|world| world.audit().duplicates.is_empty()));
        outcomes.into_iter().map(|outcome| (outcome.check, outcome.verdict)).collect()
    })
}

#[test]
fn the_simulated_place_passes_the_suite() {
    let missed: Vec<_> =
        verdicts(Settings::default()).into_iter().filter(|(_, verdict)| *verdict != Verdict::Ok).collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn it_passes_with_all_that_clouds_make() {
    let settings = Settings { cloud: true, ..Settings::default() };
    let missed: Vec<_> =
        verdicts(settings).into_iter().filter(|(_, verdict)| *verdict != Verdict::Ok).collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn it_passes_with_images_latencies_and_answers_that_are_lost() {
    let latency = Latencies { machine: Range::between(20_000, 40_000), ..Latencies::default() };
    let faults = Faults { before: 0.1, after: 0.2, ..Faults::default() };
    let missed: Vec<_> = verdicts(Settings { image: true, latency, ..Settings::default() })
        .into_iter()
        .filter(|(check, verdict)| *verdict != Verdict::Ok && *check != Check::Unsupported)
        .collect();
    assert!(missed.is_empty(), "{missed:#?}");
    // Who asked is not told what its own first call did, so these go by answers that come.
    let of_answers = [Check::InterruptedMake, Check::InterruptedRemove, Check::Labels, Check::NotOurs];
    for seed in 0..5 {
        let verdicts = verdicts(Settings { seed, faults: faults.clone(), ..Settings::default() });
        for check in of_answers {
            assert_eq!(verdicts[&check], Verdict::Ok, "{} with the seed {seed}", check.name());
        }
    }
}
