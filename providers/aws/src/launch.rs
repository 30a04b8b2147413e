//! The creation of an instance: one call that is the same call however often it is sent. Only here is boot data read.

use aws_sdk_ec2::operation::run_instances::builders::RunInstancesFluentBuilder;
use aws_sdk_ec2::types::{
    BlockDeviceMapping, EbsBlockDevice, HttpTokensState, IamInstanceProfileSpecification, Instance,
    InstanceMarketOptionsRequest, InstanceMetadataEndpointState, InstanceMetadataOptionsRequest,
    InstanceType, MarketType, Placement, ResourceType, VolumeType,
};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use castrum_blueprints::boot::USER_DATA_LIMIT;
use castrum_blueprints::names::Role;
use castrum_provider::{BootData, Failure, MachineSpec, Wanted};

use crate::attach::Things;
use crate::failure::fault;
use crate::images::{image_of, root_of};
use crate::list::{Part, Scope, tagged};
use crate::machine::{INSTANCE, alive, living};
use crate::place::{LIVES, Pauses, Place, invalid, not_ready};
use crate::types;
use crate::volume::gib;

/// The type that a machine becomes: the one that the site names, or the smallest that fits.
pub(crate) fn type_of(place: &Place, wanted: &Wanted, spec: &MachineSpec) -> Result<String, Failure> {
    if let Some(named) = place.settings.instance_type.of(spec.role) {
        return Ok(named.to_owned());
    }
    let size = &spec.size;
    types::choose(size).map(str::to_owned).ok_or_else(|| {
        let text = format!(
            "no type of instance has {} processors and {} MiB of memory, as `{}` needs",
            size.cpus, size.memory_mib, wanted.path
        );
        invalid(text).with_hint("make it smaller, or name a type with `instanceType` of the site")
    })
}

fn user_data(wanted: &Wanted) -> Result<Option<String>, Failure> {
    let Some(text) = wanted.boot_data.as_ref().map(BootData::expose) else { return Ok(None) };
    if text.len() > USER_DATA_LIMIT {
        let size = text.len();
        let text = format!(
            "the boot data of `{}` has {size} bytes, and the service takes {USER_DATA_LIMIT} at the most",
            wanted.path
        );
        return Err(invalid(text).with_hint("shorten what the blueprint adds to the boot of its nodes"));
    }
    Ok(Some(BASE64_STANDARD.encode(text)))
}

/// The call that makes the instance, but for its token.
async fn request(
    place: &Place,
    wanted: &Wanted,
    spec: &MachineSpec,
    things: &Things,
) -> Result<RunInstancesFluentBuilder, Failure> {
    let image = image_of(place, spec.image.as_deref()).await?;
    let root = root_of(place, &image).await?;
    let disk =
        EbsBlockDevice::builder().volume_type(VolumeType::Gp3).encrypted(true).delete_on_termination(true);
    let disk = disk.volume_size(gib(spec.size.disk_gib).max(root.gib)).build();
    let metadata = InstanceMetadataOptionsRequest::builder().http_tokens(HttpTokensState::Required);
    let metadata =
        metadata.http_put_response_hop_limit(2).http_endpoint(InstanceMetadataEndpointState::Enabled);
    let kind = InstanceType::from(type_of(place, wanted, spec)?.as_str());
    let call = place.ec2.run_instances().min_count(1).max_count(1).image_id(image).instance_type(kind);
    let call = call.metadata_options(metadata.build());
    let call =
        call.block_device_mappings(BlockDeviceMapping::builder().device_name(root.device).ebs(disk).build());
    let call =
        call.set_user_data(user_data(wanted)?).subnet_id(&things.subnet).set_key_name(things.key.clone());
    let groups = (!things.groups.is_empty()).then(|| things.groups.clone());
    let call = call.set_security_group_ids(groups);
    let placement = things.placement.as_ref().map(|name| Placement::builder().group_name(name).build());
    let profile = place.settings.instance_profile.as_ref();
    let profile = profile.map(|name| IamInstanceProfileSpecification::builder().name(name).build());
    let call = call.set_placement(placement).set_iam_instance_profile(profile);
    let spot = place.settings.spot && spec.role != Role::Master;
    let market = InstanceMarketOptionsRequest::builder().market_type(MarketType::Spot).build();
    let call = call.set_instance_market_options(spot.then_some(market));
    let mut parts = vec![
        (ResourceType::Instance, INSTANCE),
        (ResourceType::Volume, "root-disk"),
        (ResourceType::NetworkInterface, "interface"),
    ];
    if spot {
        parts.push((ResourceType::SpotInstancesRequest, "spot-request"));
    }
    let tags = parts.into_iter().map(|(kind, part)| tagged(kind, &place.tags(wanted, part))).collect();
    Ok(call.set_tag_specifications(Some(tags)))
}

/// The first life whose token no dead instance had.
fn next_life<'a>(prefix: &str, dead: impl Iterator<Item = &'a Instance>) -> u32 {
    let lives = dead.filter_map(|it| it.client_token()?.strip_prefix(prefix)?.parse::<u32>().ok());
    lives.max().map_or(0, |last| last + 1)
}

/// What came of sending the call under one token.
enum Sent {
    /// The instance is there.
    There,
    /// What the token stands for is gone: the next one makes another instance.
    Gone,
}

/// Makes the instance. `dead` are earlier ones under the same label, which may have used up tokens.
pub(crate) async fn launch(
    place: &Place,
    wanted: &Wanted,
    spec: &MachineSpec,
    (things, dead): (&Things, &[Part<Instance>]),
) -> Result<(), Failure> {
    let call = request(place, wanted, spec, things).await?;
    let prefix = place.token(wanted, INSTANCE, 0);
    let prefix = prefix.strip_suffix('0').unwrap_or(&prefix);
    let first = next_life(prefix, dead.iter().map(|instance| &instance.it));
    for life in first..first + LIVES {
        let token = place.token(wanted, INSTANCE, life);
        match send(place, wanted, call.clone().client_token(&token), &token).await? {
            Sent::There => return Ok(()),
            Sent::Gone => {}
        }
    }
    Err(not_ready(format!("`{}` was made and removed too often of late", wanted.path)))
}

async fn send(
    place: &Place,
    wanted: &Wanted,
    call: RunInstancesFluentBuilder,
    token: &str,
) -> Result<Sent, Failure> {
    let made = match call.send().await.map_err(fault("RunInstances")) {
        Err(fault) if fault.is(&["IdempotentInstanceTerminated"]) => return Ok(Sent::Gone),
        // Boot data differs from run to run: an earlier call with this token, whose answer was lost, made it.
        Err(fault) if fault.is(&["IdempotentParameterMismatch"]) => None,
        made => made?.instances.unwrap_or_default().into_iter().next(),
    };
    let id = made.as_ref().and_then(Instance::instance_id);
    if made.as_ref().is_some_and(|instance| !alive(instance)) {
        return Ok(Sent::Gone);
    }
    if let Some(id) = id {
        place.made(&wanted.path, INSTANCE, id);
    }
    let mut pauses = Pauses::new();
    loop {
        let listed = place.instances(Scope::One(&wanted.path)).await?;
        if !living(&listed).is_empty() {
            return Ok(Sent::There);
        }
        let dead = |instance: &Part<Instance>| {
            Some(&*instance.id) == id || instance.it.client_token() == Some(token)
        };
        if listed.iter().any(dead) {
            return Ok(Sent::Gone);
        }
        if !pauses.listing(place).await {
            break;
        }
    }
    if place.taken_long_ago(token) {
        return Ok(Sent::Gone);
    }
    Err(not_ready(format!("the instance of `{}` is not in the listing yet", wanted.path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_a_dead_instance_had_is_not_used_again() {
        let dead = |token: &str| Instance::builder().client_token(token).build();
        assert_eq!(next_life("key-instance-", [].iter()), 0);
        let all = [dead("key-instance-0"), dead("key-instance-2"), dead("other-instance-9"), dead("")];
        assert_eq!(next_life("key-instance-", all.iter()), 3);
    }

    #[test]
    fn boot_data_that_is_too_long_is_refused_without_a_word_of_it() {
        let spec =
            castrum_provider::ResourceSpec::Network(castrum_provider::NetworkSpec { nodes: 1, cidr: None });
        let path = "here/machine/agents-1".parse().expect("a path");
        let wanted = |length: usize| Wanted {
            path,
            spec,
            generation: 0,
            boot_data: Some(BootData::new("secret ".repeat(length))),
        };
        let failure = user_data(&wanted(USER_DATA_LIMIT)).expect_err("it is too long");
        assert!(failure.message.contains("bytes") && !failure.message.contains("secret"), "{failure}");
    }
}
