//! Safety over random worlds: whatever the place does, masters are changed one at a time, and nothing opens before
//! what it requires is healthy.

use castrum_blueprints::plan::Progress;
use castrum_provider_sim::{Component, Faults, Range, Settings};
use castrum_tests::cluster::small;
use castrum_tests::rig::{Rig, on_sim};
use castrum_tests::verdict::{assert_masters_one_at_a_time, assert_order, assert_whole};
use proptest::prelude::*;
use serde_json::json;

/// Random latencies: of the place, and of every component.
fn a_world() -> impl Strategy<Value = Settings> {
    let fault = || prop_oneof![3 => Just(0.0), 1 => 0.0..0.25_f64];
    let millis = || (0..4_000_u64, 0..8_000_u64).prop_map(|(low, more)| Range::between(low, low + more));
    let pace = (millis(), millis(), 0..3_u32);
    (any::<u64>(), fault(), fault(), proptest::collection::vec(pace, 8)).prop_map(
        |(seed, before, after, paces)| {
            let names = ["store", "runtime", "engine", "pool", "net", "gauge", "panel", "edge"];
            let component = |(start, check, failing_starts)| Component {
                start,
                check,
                failing_starts,
                ..Component::default()
            };
            let components = names
                .into_iter()
                .zip(paces)
                .map(|(name, pace)| (name.parse().expect("a name"), component(pace)));
            let components = components.collect();
            Settings {
                seed,
                faults: Faults { before, after, ..Faults::default() },
                components,
                ..Settings::default()
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_opens_before_what_it_requires_in_any_world(settings in a_world(), agents in 0..8_u32) {
        on_sim(async {
            let rig = Rig::new(small(agents), settings);
            rig.world.record();
            let outcome = rig.apply_until_seen().await.expect("rendered");
            assert_eq!(outcome.progress, Some(Progress::Converged), "{:#?}", outcome.plan);
            assert_whole(&rig);
            assert_order(&rig, &rig.world.happenings());
        });
    }

    #[test]
    fn masters_are_changed_one_at_a_time_in_any_world(settings in a_world(), agents in 0..4_u32, two in any::<bool>()) {
        on_sim(async {
            let mut rig = Rig::new(small(agents), settings);
            let outcome = rig.apply_until_seen().await.expect("rendered");
            assert_eq!(outcome.progress, Some(Progress::Converged), "{:#?}", outcome.plan);
            rig.world.record();
            // The store and the runtime of every master are to read something else.
            rig.cluster = small(agents).set("store", "quota", json!(11)).set("runtime", "level", json!(2));
            let (one, second) = (rig.engine(), rig.engine());
            let outcomes = if two {
                let (a, b) = tokio::join!(one.0.converge(rig.desired()), second.0.converge(rig.desired()));
                vec![a, b]
            } else {
                vec![one.0.converge(rig.desired()).await]
            };
            for outcome in outcomes {
                let outcome = outcome.expect("rendered");
                let ended = outcome.progress == Some(Progress::Converged) || !outcome.observed.blind.is_empty();
                assert!(ended, "{:#?}", outcome.plan);
            }
            let outcome = rig.apply_until_seen().await.expect("rendered");
            assert_eq!(outcome.progress, Some(Progress::Converged), "{:#?}", outcome.plan);
            assert_whole(&rig);
            let happenings = rig.world.happenings();
            assert_masters_one_at_a_time(&rig, &happenings);
            let changed = happenings.iter().filter(|h| matches!(&h.what, castrum_provider_sim::Happened::Started(c) if c.as_str() == "runtime"));
            assert!(changed.count() >= 4 + agents as usize, "everybody was changed");
        });
    }
}
