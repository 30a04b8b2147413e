//! What public clouds are like, as settings of a simulated place.

use std::collections::BTreeMap;

use castrum_provider_sim::{Component, Lane, Latencies, Limit, Range, Settings};

/// The limits of the EC2 API for one account in one region.
///
/// From the tables of "Request throttling for the Amazon EC2 API",
/// <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html>: each call has a bucket of its own. Those that
/// only look, by filters or pages, have one of 100 tokens and 20 more a second; those that change something 50 and 5,
/// `RunInstances` 5 and 2, `TerminateInstances` 100 and 5. `RunInstances` also takes a token for each machine from a bucket of
/// 1,000 and 2 a second; with one machine a call, that is the wider of the two.
pub fn ec2() -> BTreeMap<Lane, Limit> {
    let limit = |capacity, refill_per_second| Limit { capacity, refill_per_second };
    BTreeMap::from([
        (Lane::Observe, limit(100, 20.0)),
        (Lane::Network, limit(50, 5.0)),
        (Lane::Machine, limit(5, 2.0)),
        (Lane::Remove, limit(100, 5.0)),
    ])
}

/// The bucket of machines alone, as it counts where calls make many machines each.
pub fn ec2_machines() -> BTreeMap<Lane, Limit> {
    BTreeMap::from([(Lane::Machine, Limit { capacity: 1_000, refill_per_second: 2.0 })])
}

/// A place in which everything takes its usual time, exactly; a machine takes `machine_ms` to be made, and the API has
/// these limits.
pub fn steady(machine_ms: u64, buckets: BTreeMap<Lane, Limit>) -> Settings {
    let exactly = Range::exactly;
    let latency = Latencies {
        observe: exactly(200),
        image: exactly(0),
        network: exactly(1_000),
        machine: exactly(machine_ms),
        remove: exactly(1_000),
        boot: exactly(10_000),
        enroll: exactly(1_500),
        join: exactly(800),
        fill: exactly(500),
        publish: exactly(40),
        deliver: exactly(20),
        report: exactly(20),
        power: exactly(500),
    };
    let component = Component {
        fetch: exactly(600),
        start: exactly(1_000),
        check: exactly(500),
        join: exactly(700),
        ..Component::default()
    };
    Settings { latency, component, buckets, ..Settings::default() }
}
