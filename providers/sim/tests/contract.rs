//! The provider contract, held against the simulated place: what `providers/CONTRACT.md` says of every provider.

use std::sync::Arc;

use castrum_blueprints::blueprint::Size;
use castrum_blueprints::names::{ClusterId, ResourceKind, ResourcePath, Role};
use castrum_provider::{
    Attachments, BootData, Change, FailureClass, MachineSpec, NetworkSpec, PowerState, Provider, Removed,
    ResourceSpec, Wanted,
};
use castrum_provider_sim::{Faults, Lane, Limit, Settings, Sim, World, runtime};

fn path(text: &str) -> ResourcePath {
    text.parse().expect("a path")
}

fn network() -> Wanted {
    let spec = ResourceSpec::Network(NetworkSpec { nodes: 8, cidr: None });
    Wanted { path: path("here/network/main"), spec, generation: 0, boot_data: None }
}

fn machine(memory_mib: u32) -> Wanted {
    let spec = ResourceSpec::Machine(Box::new(MachineSpec {
        node: "masters-1".parse().expect("a name"),
        role: Role::Master,
        size: Size { cpus: 1, memory_mib: memory_mib.into(), disk_gib: 4 },
        disks: Vec::new(),
        zone: None,
        image: None,
        open_ports: Vec::new(),
        existing: None,
        attached: Attachments::default(),
    }));
    let boot_data = Some(BootData::new("#cloud-config\n{}\n".to_owned()));
    Wanted { path: path("here/machine/masters-1"), spec, generation: 0, boot_data }
}

fn site(world: &Arc<World>, settings: Settings) -> Sim {
    Sim::with(world, "here".parse().expect("a name"), settings).expect("a site")
}

fn world() -> Arc<World> {
    World::new(ClusterId::from_bytes([7; 6]))
}

fn run<T>(work: impl Future<Output = T>) -> T {
    runtime().expect("a runtime").block_on(work)
}

#[test]
fn making_and_removing_again_changes_nothing() {
    run(async {
        let (world, network, machine) = (world(), network(), machine(512));
        let sim = site(&world, Settings::default());
        for wanted in [&network, &machine] {
            assert_eq!(sim.ensure(wanted).await.expect("made").change, Change::Created);
            assert_eq!(sim.ensure(wanted).await.expect("found").change, Change::Unchanged);
        }
        assert_eq!(world.audit().made, 2);
        assert_eq!(sim.remove(&machine.path).await.expect("removed"), Removed::Removed);
        assert_eq!(sim.remove(&machine.path).await.expect("gone"), Removed::Absent);
    });
}

#[test]
fn making_at_once_makes_one() {
    run(async {
        let (world, machine) = (world(), machine(512));
        let (one, two) = (site(&world, Settings::default()), site(&world, Settings::default()));
        let (first, second) = tokio::join!(one.ensure(&machine), two.ensure(&machine));
        assert_eq!(first.expect("made").seen.id, second.expect("made").seen.id);
        assert!(world.audit().duplicates.is_empty());
        assert_eq!(world.audit().made, 1);
    });
}

#[test]
fn an_answer_that_was_lost_is_no_second_machine() {
    run(async {
        let (world, machine) = (world(), machine(512));
        let lossy = Settings { faults: Faults { after: 1.0, ..Faults::default() }, ..Settings::default() };
        let lost = site(&world, lossy).ensure(&machine).await.expect_err("the answer is lost");
        assert_eq!(lost.class, FailureClass::Transient);
        assert_eq!(world.audit().made, 1, "it had its effect");
        let again = site(&world, Settings::default()).ensure(&machine).await.expect("found");
        assert_eq!(again.change, Change::Unchanged);
        assert_eq!(world.audit().made, 1);
    });
}

#[test]
fn a_change_is_told_and_boot_data_is_read_at_creation_only() {
    run(async {
        let world = world();
        let sim = site(&world, Settings::default());
        let made = sim.ensure(&machine(512)).await.expect("made");
        let told_again = Wanted { boot_data: Some(BootData::new("other".to_owned())), ..machine(512) };
        assert_eq!(sim.ensure(&told_again).await.expect("found").change, Change::Unchanged);
        let larger = machine(1024);
        let changed = sim.ensure(&larger).await.expect("changed");
        assert_eq!(changed.change, Change::Changed);
        assert_eq!(changed.seen.spec, Some(larger.spec.digest()));
        let life = |ensured: castrum_provider::Ensured| ensured.seen.machine.expect("a machine").incarnation;
        assert_eq!(life(changed), life(made), "it is the same machine");
    });
}

#[test]
fn what_cannot_be_seen_is_blind_and_not_absent() {
    run(async {
        let world = world();
        site(&world, Settings::default()).ensure(&network()).await.expect("made");
        let dark = Settings { faults: Faults { blind: 1.0, ..Faults::default() }, ..Settings::default() };
        let seen = site(&world, dark).observe().await;
        assert!(seen.seen.is_empty());
        assert_eq!(seen.blind.len(), 1, "{seen:?}");
        let seen = site(&world, Settings::default()).observe().await;
        assert_eq!((seen.seen.len(), seen.blind.len()), (1, 0));
    });
}

#[test]
fn failures_have_a_class() {
    run(async {
        let (world, machine) = (world(), machine(512));
        let class = async |settings| match site(&world, settings).ensure(&machine).await {
            Ok(_) => None,
            Err(failure) => Some((failure.class, failure.retry_after_ms.is_some())),
        };
        let faults = |faults| Settings { faults, ..Settings::default() };
        let denied = faults(Faults { denied: ["masters-1".to_owned()].into(), ..Faults::default() });
        assert_eq!(class(denied).await, Some((FailureClass::Denied, false)));
        let lost = faults(Faults { before: 1.0, ..Faults::default() });
        assert_eq!(class(lost).await, Some((FailureClass::Transient, false)));
        let full = Settings { machines: Some(0), ..Settings::default() };
        assert_eq!(class(full).await, Some((FailureClass::Exhausted, false)));
        assert_eq!(world.audit().made, 0, "none of them had an effect");
        let limit = Limit { capacity: 1, refill_per_second: 0.1 };
        let busy = site(&world, Settings { bucket: Some(limit), ..Settings::default() });
        let (first, second) = tokio::join!(busy.ensure(&machine), busy.ensure(&machine));
        assert_eq!(first.expect("the first call").change, Change::Created);
        let throttled = second.expect_err("one call too many");
        assert_eq!((throttled.class, throttled.retry_after_ms.is_some()), (FailureClass::Throttled, true));
    });
}

#[test]
fn a_network_in_use_is_not_ready_to_go() {
    run(async {
        let sim = site(&world(), Settings::default());
        sim.ensure(&network()).await.expect("made");
        sim.ensure(&machine(512)).await.expect("made");
        let early = sim.remove(&network().path).await.expect_err("a machine is in it");
        assert_eq!(early.class, FailureClass::NotReady);
        sim.remove(&machine(512).path).await.expect("removed");
        assert_eq!(sim.remove(&network().path).await.expect("removed"), Removed::Removed);
    });
}

#[test]
fn power_is_where_it_was_put_and_what_is_off_is_switched_on() {
    run(async {
        let (world, machine) = (world(), machine(512));
        let sim = site(&world, Settings::default());
        let power = sim.power().expect("a simulated place has power control");
        assert_eq!(power.state(&machine.path).await.expect_err("no machine").class, FailureClass::Invalid);
        sim.ensure(&machine).await.expect("made");
        for wanted in [PowerState::Paused, PowerState::On, PowerState::Off, PowerState::Off] {
            power.set(&machine.path, wanted).await.expect("set");
            assert_eq!(power.state(&machine.path).await.expect("told"), wanted);
        }
        assert_eq!(sim.ensure(&machine).await.expect("on again").change, Change::Changed);
        assert_eq!(power.state(&machine.path).await.expect("told"), PowerState::On);
        power.kill(&machine.path).await.expect("killed");
        assert_eq!(power.state(&machine.path).await.expect("told"), PowerState::Off);
    });
}

#[test]
fn abilities_are_told_without_asking_and_what_is_not_among_them_is_refused() {
    run(async {
        let sim = site(&world(), Settings::default());
        let abilities = sim.abilities();
        assert!(abilities.boot_data && abilities.power == sim.power().is_some());
        assert!(!abilities.kinds.contains(&ResourceKind::Volume));
        let volume = Wanted { path: path("here/volume/main"), ..network() };
        assert_eq!(sim.ensure(&volume).await.expect_err("no volumes").class, FailureClass::Unsupported);
    });
}

#[test]
fn a_look_may_be_old_and_is_right_in_the_end() {
    run(async {
        let world = world();
        let stale = Faults { stale: 60_000, ..Faults::default() };
        let sim = site(&world, Settings { faults: stale, ..Settings::default() });
        assert_eq!(sim.abilities().stale_ms, 60_000);
        let pass = async |millis| world.clock().sleep_until(world.now().plus(millis)).await;
        let mut missed = 0;
        sim.ensure(&network()).await.expect("made");
        for _ in 0..10 {
            missed += usize::from(sim.observe().await.seen.is_empty());
        }
        assert!(missed > 3, "{missed} of 10 looks were old");
        pass(60_000).await;
        assert_eq!(sim.observe().await.seen.len(), 1, "nothing is older than that");
        sim.remove(&network().path).await.expect("removed");
        let mut shown = 0;
        for _ in 0..10 {
            shown += sim.observe().await.seen.len();
        }
        assert!(shown > 3, "{shown} of 10 looks were old");
        pass(60_000).await;
        assert_eq!(sim.observe().await.seen.len(), 0);
        assert_eq!(sim.remove(&network().path).await.expect("gone"), Removed::Absent);
    });
}

#[test]
fn one_resource_may_hang_or_be_dead_or_foreign_or_held_or_linger() {
    run(async {
        let world = world();
        let make = site(&world, Settings::default());
        make.ensure(&machine(512)).await.expect("made");
        let name = || ["masters-1".to_owned()].into();
        let sim = |faults| site(&world, Settings { faults, ..Settings::default() });
        let path = machine(512).path;
        let hangs = sim(Faults { hangs: name(), ..Faults::default() });
        let day = std::time::Duration::from_hours(24);
        assert!(tokio::time::timeout(day, hangs.remove(&path)).await.is_err(), "it never answers");
        let dead = sim(Faults { dead: name(), ..Faults::default() }).remove(&path).await;
        assert_eq!(dead.expect_err("dead").class, FailureClass::Transient);
        let foreign = sim(Faults { foreign: name(), ..Faults::default() }).remove(&path).await;
        assert_eq!(foreign.expect_err("foreign").class, FailureClass::NotOurs);
        let held = sim(Faults { held: name(), ..Faults::default() }).remove(&path).await;
        assert_eq!(held.expect_err("held").class, FailureClass::NotReady);
        assert_eq!(world.audit().resources, 1, "none of them had an effect");
        let lingers = sim(Faults { lingers: name(), ..Faults::default() });
        assert_eq!(lingers.remove(&path).await.expect("removed"), Removed::Removed);
        assert_eq!((world.audit().resources, lingers.observe().await.seen.len()), (0, 1));
    });
}

#[test]
fn each_lane_has_its_own_bucket() {
    run(async {
        let limit = Limit { capacity: 1, refill_per_second: 2.0 };
        let buckets = [(Lane::Machine, limit)].into();
        let sim = site(&world(), Settings { buckets, ..Settings::instant() });
        sim.ensure(&machine(512)).await.expect("the only token");
        for _ in 0..20 {
            sim.ensure(&network()).await.expect("another lane");
            assert!(sim.observe().await.blind.is_empty(), "another lane");
        }
        let throttled = sim.ensure(&machine(512)).await.expect_err("no token is left");
        assert_eq!((throttled.class, throttled.retry_after_ms), (FailureClass::Throttled, Some(500)));
    });
}
