//! The look at everything of the cluster in this site: one listing for each kind of thing, all at once. What one of them
//! hides, the others still show.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{Instance, InternetGateway, NatGateway, RouteTable, Subnet, Volume, Vpc};
use castrum_blueprints::names::{ResourceKind, ResourcePath, Timestamp};
use castrum_provider::{Blind, Failure, Observation, ResourceSeen, now};

use crate::attach::Around;
use crate::balancers::{self, Balancers};
use crate::failure::is_about_credentials;
use crate::list::{Part, Scope};
use crate::place::Place;
use crate::{address, balancer, firewall, key, machine, nat, network, placement, subnet, volume};

/// What came of one look.
struct Look<'a> {
    place: &'a Place,
    seen: BTreeMap<ResourcePath, ResourceSeen>,
    blind: Vec<(ResourceKind, Failure)>,
}

/// The paths of one kind among parts.
fn paths<T>(kind: ResourceKind, parts: &[Part<T>]) -> BTreeSet<ResourcePath> {
    parts.iter().map(|part| &part.label.path).filter(|path| path.kind == kind).cloned().collect()
}

/// The parts of one resource.
fn of<T: Clone>(path: &ResourcePath, parts: &[Part<T>]) -> Vec<Part<T>> {
    parts.iter().filter(|part| part.label.path == *path).cloned().collect()
}

impl Look<'_> {
    fn add(&mut self, seen: Option<ResourceSeen>) {
        if let Some(seen) = seen {
            self.seen.insert(seen.path.clone(), seen);
        }
    }

    fn simple<T: Clone>(
        &mut self,
        kind: ResourceKind,
        listed: Result<&[Part<T>], &Failure>,
        judge: impl Fn(&Place, &ResourcePath, &[Part<T>]) -> Option<ResourceSeen>,
    ) {
        match listed {
            Err(failure) => self.blind.push((kind, failure.clone())),
            Ok(parts) => {
                for path in paths(kind, parts) {
                    self.add(judge(self.place, &path, &of(&path, parts)));
                }
            }
        }
    }

    /// The observation that the contract asks for. Where nothing could be listed, the whole site is dark.
    fn observation(self, taken_at: Timestamp) -> Observation {
        let site = &self.place.site;
        let dark = self.blind.len() == KINDS.len()
            || self.blind.iter().any(|(_, failure)| is_about_credentials(failure));
        let blind = match self.blind.first() {
            Some((_, failure)) if dark => {
                vec![Blind { site: site.clone(), kind: None, reason: failure.message.clone() }]
            }
            _ => {
                let all = self.blind.iter();
                all.map(|(kind, failure)| Blind {
                    site: site.clone(),
                    kind: Some(*kind),
                    reason: failure.message.clone(),
                })
                .collect()
            }
        };
        Observation { seen: self.seen, blind, taken_at }
    }
}

/// The kinds that this place makes.
pub(crate) const KINDS: [ResourceKind; 9] = [
    ResourceKind::Network,
    ResourceKind::Address,
    ResourceKind::Subnet,
    ResourceKind::Firewall,
    ResourceKind::Key,
    ResourceKind::Placement,
    ResourceKind::Volume,
    ResourceKind::LoadBalancer,
    ResourceKind::Machine,
];

fn all<T>(listed: &Result<Vec<Part<T>>, Failure>) -> Result<&[Part<T>], &Failure> {
    listed.as_ref().map(Vec::as_slice)
}

/// Looks at everything.
pub(crate) async fn observe(place: &Place) -> Observation {
    let (taken_at, scope) = (now(), Scope::All);
    let (
        vpcs,
        internet,
        tables,
        subnets,
        nats,
        groups,
        addresses,
        keys,
        placements,
        volumes,
        instances,
        balancers,
    ) = tokio::join!(
        place.vpcs(scope),
        place.internet_gateways(scope),
        place.route_tables(scope),
        place.subnets(scope),
        place.nat_gateways(scope),
        place.groups(scope),
        place.addresses(scope),
        place.keys(scope),
        place.placements(scope),
        place.volumes(scope),
        place.instances(scope),
        balancers::list(place, scope),
    );
    let mut look = Look { place, seen: BTreeMap::new(), blind: Vec::new() };
    look.networks((all(&vpcs), all(&internet), all(&tables)));
    look.subnets((all(&subnets), all(&nats), all(&tables)));
    look.simple(ResourceKind::Address, all(&addresses), address::judge);
    look.simple(ResourceKind::Firewall, all(&groups), firewall::judge);
    look.simple(ResourceKind::Key, all(&keys), key::judge);
    look.simple(ResourceKind::Placement, all(&placements), placement::judge);
    look.simple(ResourceKind::Volume, all(&volumes), volume::judge);
    look.balancers(balancers.as_ref());
    let around = Around { addresses: addresses.as_deref().ok(), balancers: balancers.as_ref().ok() };
    look.machines((all(&instances), all(&volumes)), around);
    look.observation(taken_at)
}

type Listed<'a, T> = Result<&'a [Part<T>], &'a Failure>;

impl Look<'_> {
    fn networks(
        &mut self,
        (vpcs, internet, tables): (Listed<'_, Vpc>, Listed<'_, InternetGateway>, Listed<'_, RouteTable>),
    ) {
        let kind = ResourceKind::Network;
        let (vpcs, gateways, tables) = match (vpcs, internet, tables) {
            (Ok(vpcs), Ok(gateways), Ok(tables)) => (vpcs, gateways, tables),
            (Err(failure), ..) | (_, Err(failure), _) | (.., Err(failure)) => {
                return self.blind.push((kind, failure.clone()));
            }
        };
        let mut all = paths(kind, vpcs);
        all.extend(paths(kind, gateways).into_iter().chain(paths(kind, tables)));
        for path in all {
            let (vpcs, gateways, tables) = (of(&path, vpcs), of(&path, gateways), of(&path, tables));
            self.add(network::judge(self.place, &path, &network::Parts { vpcs, gateways, tables }));
        }
    }

    fn subnets(
        &mut self,
        (subnets, nats, tables): (Listed<'_, Subnet>, Listed<'_, NatGateway>, Listed<'_, RouteTable>),
    ) {
        let kind = ResourceKind::Subnet;
        let (subnets, nats, tables) = match (subnets, nats, tables) {
            (Ok(subnets), Ok(nats), Ok(tables)) => (subnets, nat::living(nats.to_vec()), tables),
            (Err(failure), ..) | (_, Err(failure), _) | (.., Err(failure)) => {
                return self.blind.push((kind, failure.clone()));
            }
        };
        let mut all = paths(kind, subnets);
        all.extend(paths(kind, &nats).into_iter().chain(paths(kind, tables)));
        for path in all {
            let parts = subnet::Parts {
                subnets: of(&path, subnets),
                tables: of(&path, tables),
                gateways: of(&path, &nats),
            };
            self.add(subnet::judge(self.place, &path, &parts, Some(tables)));
        }
    }

    fn balancers(&mut self, listed: Result<&Balancers, &Failure>) {
        let kind = ResourceKind::LoadBalancer;
        let listed = match listed {
            Ok(listed) => listed,
            Err(failure) => return self.blind.push((kind, failure.clone())),
        };
        let mut all = paths(kind, &listed.balancers);
        all.extend(paths(kind, &listed.targets));
        for path in all {
            let parts =
                Balancers { balancers: of(&path, &listed.balancers), targets: of(&path, &listed.targets) };
            self.add(balancer::judge(self.place, &path, &parts));
        }
    }

    fn machines(
        &mut self,
        (instances, disks): (Listed<'_, Instance>, Listed<'_, Volume>),
        around: Around<'_>,
    ) {
        let kind = ResourceKind::Machine;
        let instances = match instances {
            Ok(instances) => instances,
            Err(failure) => return self.blind.push((kind, failure.clone())),
        };
        // Where disks cannot be listed, only one that was left alone is missed, and volumes are blind already.
        let disks = disks.unwrap_or_default();
        let mut all = paths(kind, instances);
        all.extend(paths(kind, disks));
        for path in all {
            let (instances, disks) = (of(&path, instances), of(&path, disks));
            self.add(machine::judge(self.place, &path, (&instances, &disks), around));
        }
    }
}
