//! What machines stand on in a place that makes networks, subnets, firewalls and so on: computed from the blueprint, made
//! in its order, changed with it, and gone again.

use std::collections::BTreeSet;

use castrum_blueprints::names::{ResourceKind, ResourcePath};
use castrum_blueprints::plan::{Action, Progress};
use castrum_blueprints::resource::ResourceSpec;
use castrum_provider_sim::{Faults, Settings};
use castrum_tests::cluster::{Cluster, small};
use castrum_tests::rig::{Rig, on_sim};
use castrum_tests::sketch::Sketch;
use castrum_tests::verdict::assert_whole;

fn cloud(agents: u32) -> Cluster {
    small(agents).cloud()
}

fn spec(cluster: &Cluster, path: &str) -> ResourceSpec {
    let path: ResourcePath = path.parse().expect("a path");
    cluster.desired().resources.get(&path).cloned().unwrap_or_else(|| panic!("`{path}` is not declared"))
}

#[test]
fn the_ground_of_a_cluster_is_computed() {
    let desired = cloud(3).desired();
    let line = |(path, spec): (&ResourcePath, &ResourceSpec)| {
        let needs: Vec<String> = spec.needs().iter().map(|(kind, name)| format!("{kind}/{name}")).collect();
        format!("{path} needs [{}]", needs.join(", "))
    };
    let lines: Vec<String> = desired.resources.iter().map(line).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn everything_that_is_named_is_declared() {
    for cluster in [cloud(3), cloud(0), small(3)] {
        let desired = cluster.desired();
        for (path, spec) in desired.resources.iter() {
            for (kind, name) in spec.needs() {
                let needed = ResourcePath { site: path.site.clone(), kind, name: name.to_owned() };
                assert!(desired.resources.contains_key(&needed), "{path} needs {needed}");
                assert!(needed < *path || kind == path.kind, "{path} comes before {needed}");
            }
        }
    }
}

#[test]
fn who_may_reach_what_follows_from_the_stack() {
    let cluster = cloud(3);
    let firewalls = cluster.desired();
    let firewalls = firewalls.resources.values().filter_map(|spec| match spec {
        ResourceSpec::Firewall(firewall) => Some(firewall.clone()),
        _ => None,
    });
    insta::assert_json_snapshot!(firewalls.collect::<Vec<_>>());
}

#[test]
fn private_agents_have_no_address_and_a_way_out_and_masters_are_spread() {
    let cluster = cloud(3);
    let ResourceSpec::Machine(agent) = spec(&cluster, "here/machine/agents-2") else { panic!("a machine") };
    assert_eq!(agent.attached.subnet.as_deref(), Some("private-b"));
    assert_eq!((agent.attached.address, agent.zone.as_deref()), (None, Some("b")));
    assert_eq!(agent.attached.volumes, ["agents-2-1"]);
    let ResourceSpec::Machine(master) = spec(&cluster, "here/machine/masters-1") else { panic!("a machine") };
    assert_eq!(master.attached.address.as_deref(), Some("masters-1"));
    assert_eq!(master.attached.placement.as_deref(), Some("masters"));
    assert_eq!(master.attached.subnet.as_deref(), Some("public-a"));
}

#[test]
fn nothing_is_asked_for_before_what_it_needs_or_removed_before_what_uses_it() {
    on_sim(async {
        let mut rig = Rig::new(cloud(4), Settings::default());
        let (outcome, heard) = rig.apply().await.expect("rendered");
        assert_eq!((outcome.progress, heard.failures()), (Some(Progress::Converged), 0));
        assert_whole(&rig);
        let (_, heard) = rig.apply().await.expect("rendered");
        assert_eq!(heard.started(), Vec::<String>::new(), "a second apply does nothing");
        for agents in [6, 1, 0, 2] {
            rig.cluster = Cluster { lock: rig.project.lock(), ..cloud(agents) };
            let (outcome, heard) = rig.apply().await.expect("rendered");
            assert_eq!((outcome.progress, heard.failures()), (Some(Progress::Converged), 0), "{agents}");
            assert_whole(&rig);
        }
        // Of one kind, nobody knows which uses which: whoever is early is asked again.
        let (outcome, heard) = rig.destroy().await;
        assert_eq!(outcome.progress, Some(Progress::Converged));
        assert!(heard.failures() <= 6, "{:#?}", heard.all());
        assert_eq!(rig.world.audit().resources, 0);
    });
}

#[test]
fn a_growth_touches_only_what_is_new() {
    let before = Sketch::whole(&cloud(2));
    let grown = Sketch { desired: cloud(3).desired(), ..before };
    let made: BTreeSet<String> = grown
        .plan()
        .steps
        .into_iter()
        .filter(|step| matches!(step.action, Action::Ensure(_)))
        .map(|step| step.id)
        .collect();
    // The network is told how many nodes it must have room for.
    let expected = ["ensure here/network/nodes", "ensure here/volume/agents-3-1"];
    assert_eq!(made, expected.map(str::to_owned).into());
}

#[test]
fn what_cannot_be_made_is_debt_and_holds_up_only_what_needs_it() {
    on_sim(async {
        let denied = ["private-b".to_owned()].into();
        let faults = Faults { denied, ..Faults::default() };
        let rig = Rig::new(cloud(4), Settings { faults, ..Settings::instant() });
        let begun = rig.world.now();
        let (outcome, _) = rig.apply().await.expect("rendered");
        assert_eq!(outcome.progress, Some(Progress::Partial));
        assert!(rig.world.now().since(begun) < 60_000, "waiting is no use");
        let waiting: BTreeSet<&str> =
            outcome.plan.blocked.iter().map(|blocked| blocked.subject.as_str()).collect();
        let expected = ["ensure here/subnet/private-b", "here/machine/agents-2", "here/machine/agents-4"];
        assert_eq!(waiting, expected.into());
        let machines = rig.world.resources().into_iter().filter(|path| path.kind == ResourceKind::Machine);
        assert_eq!(machines.count(), 6, "all others are there");
    });
}

#[test]
fn a_site_with_subnets_and_without_zones_is_refused() {
    let mut cluster = cloud(1);
    let site = cluster.blueprint.sites.values_mut().next().expect("a site");
    site.settings.remove("zones");
    let abilities = castrum_blueprints::resource::Abilities {
        kinds: ResourceKind::ALL.to_vec(),
        ..castrum_blueprints::resource::Abilities::default()
    };
    let abilities = [(castrum_tests::cluster::site(), abilities)].into();
    let (blueprint, stack, lock) = (&cluster.blueprint, &cluster.stack, &cluster.lock);
    let refused = castrum_blueprints::desired::resolve(blueprint, stack, lock, &abilities);
    let message = refused.expect_err("there is no zone").to_string();
    assert!(message.contains("sites.here.settings.zones"), "{message}");
}
