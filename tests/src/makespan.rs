//! How long it takes to make many machines, beside what cannot be had in less time.

use std::collections::BTreeMap;

use castrum_blueprints::event::What;
use castrum_blueprints::names::Role;
use castrum_blueprints::plan::Progress;
use castrum_blueprints::stack::Stack;
use castrum_provider_sim::{Lane, Limit};

use crate::clouds;
use crate::cluster::Cluster;
use crate::rig::{Rig, on_sim};

/// What making machines took; times in seconds of virtual time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Makespan {
    /// Until the last machine was made.
    pub taken: f64,
    /// The longest chain of what must follow one another: look, network, masters, all others.
    pub critical: f64,
    /// The same, with as many machines at a time as the bucket gives.
    pub bucket: f64,
    /// How many calls of its API there were.
    pub calls: f64,
    /// How many there would be if each machine took one.
    pub needed: f64,
}

/// Masters that the machines of all others wait for, since their boot data names them.
const MASTERS: u32 = 3;
const LOOK: f64 = 0.2;
const NETWORK: f64 = 1.0;
const MACHINE_MS: u64 = 30_000;
const MACHINE: f64 = 30.0;

/// One component, so that nearly all that happens is the making of machines.
const STACK: &str = r#"
apiVersion: castrum.stack/v1
name: bare
version: 1.0.0
description: Hardly anything.
components:
  gauge:
    category: logging-and-metrics
    description: Measures the machine.
    roles: [master]
    source: {deb: {packages: [gauge]}}
    unit: unit.hbs
    checks: [{name: measures, description: It measures., assert: {exec: ["true"]}}]
"#;

/// Makes so many machines in a place with these limits.
pub fn measure(machines: u32, buckets: BTreeMap<Lane, Limit>) -> Makespan {
    let limit = buckets.get(&Lane::Machine).copied();
    let mut makespan = Makespan::default();
    on_sim(async {
        let rig = Rig::new(bare(machines), clouds::steady(MACHINE_MS, buckets));
        let begun = rig.world.now();
        let (outcome, heard) = rig.apply().await.expect("rendered");
        assert_eq!(outcome.progress, Some(Progress::Converged), "{:#?}", outcome.plan.debt);
        let made = |what: &What| matches!(what, What::StepDone { id, .. } if id.starts_with("ensure "));
        let last = heard.all().into_iter().rfind(|event| made(&event.what)).expect("machines were made");
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of some hours")]
        let taken = last.at.since(begun) as f64 / 1000.0;
        makespan.taken = taken;
        makespan.calls = rig.world.calls().into_values().map(f64::from).sum();
    });
    // A look before, a look after, the network, and each machine.
    makespan.needed = f64::from(machines) + 3.0;
    makespan.critical = LOOK + NETWORK + 2.0 * MACHINE;
    makespan.bucket = limit.map_or(0.0, |limit| bound(machines, limit));
    makespan
}

/// What the bucket allows: it is full when the first machines are made, and full again when the masters are there.
fn bound(machines: u32, limit: Limit) -> f64 {
    let others = machines.saturating_sub(MASTERS);
    // What is left after the masters, and what comes while they are made.
    let left = f64::from(limit.capacity.saturating_sub(MASTERS)) + limit.refill_per_second * MACHINE;
    let held = left.min(f64::from(limit.capacity));
    let waits = (f64::from(others) - held).max(0.0) / limit.refill_per_second;
    LOOK + NETWORK + MACHINE + waits + MACHINE
}

fn bare(machines: u32) -> Cluster {
    let files = [("stack.yaml", STACK), ("unit.hbs", "[Service]\nExecStart={{store}}/run\nType=notify\n")];
    let files = files.into_iter().map(|(path, text)| (path.to_owned(), text.to_owned())).collect();
    Cluster::new(Stack::read(&files).expect("the stack is valid"))
        .group("masters", Role::Master, MASTERS)
        .group("agents", Role::Agent, machines.saturating_sub(MASTERS))
}
