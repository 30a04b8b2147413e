//! Listings of what carries the cluster's label: of all of it for a look, of one resource for a change.

use aws_sdk_ec2::types::{
    Address, Filter, Instance, InstanceState, InstanceStateName, InternetGateway, KeyPairInfo, NatGateway,
    NetworkInterface, PlacementGroup, Reservation, ResourceType, RouteTable, SecurityGroup, Subnet, Tag,
    TagSpecification, Volume, Vpc,
};
use castrum_blueprints::names::ResourcePath;
use castrum_provider::{CLUSTER_LABEL, Failure, RESOURCE_LABEL};

use crate::failure::fault;
use crate::labels::{Label, Tags};
use crate::place::{Place, lock};

/// One thing of ours, as it was listed.
#[derive(Debug, Clone)]
pub(crate) struct Part<T> {
    /// What its tags say.
    pub(crate) label: Label,
    /// The service's id of it.
    pub(crate) id: String,
    /// The thing.
    pub(crate) it: T,
}

/// What a listing is of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scope<'a> {
    /// Everything of the cluster in this site.
    All,
    /// One resource.
    One(&'a ResourcePath),
}

impl Scope<'_> {
    fn has(self, place: &Place, path: &ResourcePath) -> bool {
        match self {
            Self::All => path.site == place.site,
            Self::One(one) => path == one,
        }
    }
}

/// Lists things by one value of one property.
pub(crate) fn filter(name: &str, value: &str) -> Filter {
    Filter::builder().name(name).values(value).build()
}

/// Instances that are not gone, nor on their way.
pub(crate) fn living() -> Filter {
    let living = ["pending", "running", "stopping", "stopped"].map(str::to_owned).to_vec();
    Filter::builder().name("instance-state-name").set_values(Some(living)).build()
}

/// Tags in the words of the service.
pub(crate) fn ec2_tags(tags: &Tags) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(*key).value(value).build()).collect()
}

/// Tags that a thing has from the call on that makes it.
pub(crate) fn tagged(kind: ResourceType, tags: &Tags) -> TagSpecification {
    TagSpecification::builder().resource_type(kind).set_tags(Some(ec2_tags(tags))).build()
}

/// What is ours of things with tags and an id.
fn ours<T>(
    (place, scope): (&Place, Scope<'_>),
    things: Vec<T>,
    of: impl Fn(&T) -> (&[Tag], Option<&str>),
) -> Vec<Part<T>> {
    let mut parts: Vec<Part<T>> = things
        .into_iter()
        .filter_map(|it| {
            let (tags, id) = of(&it);
            let pairs = tags.iter().filter_map(|tag| Some((tag.key()?, tag.value()?)));
            let label = Label::read(&place.cluster, pairs)?;
            // A filter by tags is the service's word; the label itself is the proof.
            scope.has(place, &label.path).then_some(())?;
            let id = id.filter(|id| !id.is_empty() && !place.is_buried(id))?.to_owned();
            Some(Part { label, id, it })
        })
        .collect();
    parts.sort_by(|one, other| one.id.cmp(&other.id));
    parts
}

macro_rules! paged {
    ($($list:ident, $call:ident, $operation:literal, $type:ty, $id:ident;)*) => {
        impl Place {
            $(
                #[doc = concat!("What ", $operation, " finds of ours.")]
                pub(crate) async fn $list(&self, scope: Scope<'_>) -> Result<Vec<Part<$type>>, Failure> {
                    let call = self.ec2.$call().set_filters(Some(self.filters(scope)));
                    let found: Result<Vec<$type>, _> = call.into_paginator().items().send().collect().await;
                    let found = found.map_err(fault($operation))?;
                    Ok(ours((self, scope), found, |it| (it.tags(), it.$id())))
                }
            )*
        }
    };
}

paged! {
    vpcs, describe_vpcs, "DescribeVpcs", Vpc, vpc_id;
    internet_gateways, describe_internet_gateways, "DescribeInternetGateways", InternetGateway, internet_gateway_id;
    route_tables, describe_route_tables, "DescribeRouteTables", RouteTable, route_table_id;
    subnets, describe_subnets, "DescribeSubnets", Subnet, subnet_id;
    groups, describe_security_groups, "DescribeSecurityGroups", SecurityGroup, group_id;
    volumes, describe_volumes, "DescribeVolumes", Volume, volume_id;
}

impl Place {
    fn filters(&self, scope: Scope<'_>) -> Vec<Filter> {
        let mut filters = vec![filter(&format!("tag:{CLUSTER_LABEL}"), self.cluster.as_str())];
        if let Scope::One(path) = scope {
            filters.push(filter(&format!("tag:{RESOURCE_LABEL}"), &path.to_string()));
        }
        filters
    }

    /// NAT gateways, also those that are gone or going, which are shown for about an hour.
    pub(crate) async fn nat_gateways(&self, scope: Scope<'_>) -> Result<Vec<Part<NatGateway>>, Failure> {
        let call = self.ec2.describe_nat_gateways().set_filter(Some(self.filters(scope)));
        let found: Result<Vec<NatGateway>, _> = call.into_paginator().items().send().collect().await;
        let found = found.map_err(fault("DescribeNatGateways"))?;
        Ok(ours((self, scope), found, |it| (it.tags(), it.nat_gateway_id())))
    }

    /// Instances, also those that are gone or going, which are shown for about an hour.
    pub(crate) async fn instances(&self, scope: Scope<'_>) -> Result<Vec<Part<Instance>>, Failure> {
        let mut found = self.describe_instances(self.filters(scope)).await?;
        for instance in &mut found {
            // Its token is still of use.
            if instance.instance_id().is_some_and(|id| lock(&self.terminated).contains(id)) {
                instance.state = Some(InstanceState::builder().name(InstanceStateName::Terminated).build());
            }
        }
        Ok(ours((self, scope), found, |it| (it.tags(), it.instance_id())))
    }

    /// Whether instances of anybody are there to which all the filters apply, the first of them.
    pub(crate) async fn inhabitant(&self, of: Filter) -> Result<Option<String>, Failure> {
        let found = self.describe_instances(vec![of, living()]).await?;
        Ok(found.into_iter().find_map(|instance| instance.instance_id))
    }

    async fn describe_instances(&self, filters: Vec<Filter>) -> Result<Vec<Instance>, Failure> {
        let call = self.ec2.describe_instances().set_filters(Some(filters));
        let found: Result<Vec<Reservation>, _> = call.into_paginator().items().send().collect().await;
        let found = found.map_err(fault("DescribeInstances"))?;
        Ok(found.into_iter().flat_map(|reservation| reservation.instances.unwrap_or_default()).collect())
    }

    /// Network interfaces.
    pub(crate) async fn interfaces(&self, scope: Scope<'_>) -> Result<Vec<Part<NetworkInterface>>, Failure> {
        let call = self.ec2.describe_network_interfaces().set_filters(Some(self.filters(scope)));
        let found: Result<Vec<NetworkInterface>, _> = call.into_paginator().items().send().collect().await;
        let found = found.map_err(fault("DescribeNetworkInterfaces"))?;
        Ok(ours((self, scope), found, |it| (it.tag_set(), it.network_interface_id())))
    }

    /// Elastic addresses.
    pub(crate) async fn addresses(&self, scope: Scope<'_>) -> Result<Vec<Part<Address>>, Failure> {
        let call = self.ec2.describe_addresses().set_filters(Some(self.filters(scope)));
        let found = call.send().await.map_err(fault("DescribeAddresses"))?;
        let found = found.addresses.unwrap_or_default();
        Ok(ours((self, scope), found, |it| (it.tags(), it.allocation_id())))
    }

    /// Key pairs.
    pub(crate) async fn keys(&self, scope: Scope<'_>) -> Result<Vec<Part<KeyPairInfo>>, Failure> {
        let call = self.ec2.describe_key_pairs().set_filters(Some(self.filters(scope)));
        let found = call.include_public_key(true).send().await.map_err(fault("DescribeKeyPairs"))?;
        let found = found.key_pairs.unwrap_or_default();
        Ok(ours((self, scope), found, |it| (it.tags(), it.key_pair_id())))
    }

    /// Placement groups that are not being deleted.
    pub(crate) async fn placements(&self, scope: Scope<'_>) -> Result<Vec<Part<PlacementGroup>>, Failure> {
        let call = self.ec2.describe_placement_groups().set_filters(Some(self.filters(scope)));
        let found = call.send().await.map_err(fault("DescribePlacementGroups"))?;
        let mut found = found.placement_groups.unwrap_or_default();
        found.retain(|group| group.state().is_none_or(|state| !state.as_str().starts_with("delet")));
        // The group's name is what machines are given.
        Ok(ours((self, scope), found, |it| (it.tags(), it.group_name())))
    }
}
