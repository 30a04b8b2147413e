//! Whole runs on simulated worlds.

use castrum_blueprints::plan::Progress;
use castrum_provider_sim::{Settings, runtime};
use castrum_tests::cluster::small;
use castrum_tests::rig::Rig;

#[test]
fn three_masters_and_agents_converge_and_the_second_apply_has_no_steps() {
    for settings in [Settings::instant(), Settings::default()] {
        runtime().expect("a runtime").block_on(async {
            let rig = Rig::new(small(3), settings);
            let (outcome, heard) = rig.apply().await.expect("rendered");
            println!("{:#?}", heard.started());
            println!("{:#?} {:#?}", outcome.plan.blocked, outcome.plan.debt);
            assert_eq!(outcome.progress, Some(Progress::Converged));
            assert_eq!(rig.world.audit().agents, 7);
            let (outcome, heard) = rig.apply().await.expect("rendered");
            assert_eq!(outcome.progress, Some(Progress::Converged));
            assert_eq!(heard.started(), Vec::<String>::new());
            let (outcome, _) = rig.destroy().await;
            assert_eq!(outcome.progress, Some(Progress::Converged));
            assert_eq!(rig.world.audit().resources, 0);
        });
    }
}
