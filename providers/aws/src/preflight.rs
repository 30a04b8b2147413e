//! What must be true of the account before anything is made: credentials, the region and its zones, rights, and room for
//! addresses.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::{AccountAttribute, AccountAttributeName, InstanceType, VolumeType};
use castrum_provider::{Failure, FailureClass};

use crate::failure::{Fault, fault};
use crate::list::Scope;
use crate::place::{Place, invalid};

/// What a call answers that would have been allowed.
const ALLOWED: &[&str] = &["DryRunOperation"];
/// What is said where something is not to be had for want of rights.
const REFUSED: &[&str] = &["UnauthorizedOperation", "AccessDenied*"];

/// Everything that is missing.
pub(crate) async fn check(place: &Place) -> Vec<Failure> {
    let mut findings = match zones(place).await {
        Ok(findings) => findings,
        // Without credentials or a service all else would say the same again.
        Err(failure) => return vec![hinted(failure)],
    };
    findings.extend(Box::pin(rights(place)).await);
    findings.extend(addresses(place).await);
    findings
}

fn hinted(mut failure: Failure) -> Failure {
    failure.hint.get_or_insert_with(|| "see whether the region is right, and reached from here".to_owned());
    failure
}

async fn zones(place: &Place) -> Result<Vec<Failure>, Failure> {
    let found =
        place.ec2.describe_availability_zones().send().await.map_err(fault("DescribeAvailabilityZones"))?;
    let there: BTreeSet<&str> =
        found.availability_zones().iter().filter_map(|zone| zone.zone_name()).collect();
    let missing = place.settings.zones.iter().filter(|zone| !there.contains(zone.as_str()));
    Ok(missing
        .map(|zone| {
            let all: Vec<&str> = there.iter().copied().collect();
            let text = format!("there is no zone `{zone}` in the region");
            invalid(text).with_hint(format!("set `zones` of the site to some of {}", all.join(", ")))
        })
        .collect())
}

/// Calls that make things, tried without effect.
async fn rights(place: &Place) -> Vec<Failure> {
    let ec2 = &place.ec2;
    let image = "ami-00000000000000000";
    let (vpc, group, address, volume, run) = tokio::join!(
        async {
            ec2.create_vpc()
                .cidr_block("10.0.0.0/16")
                .dry_run(true)
                .send()
                .await
                .map_err(fault("CreateVpc"))
                .err()
        },
        async {
            let call = ec2.create_security_group().group_name("castrum-check").description("castrum-check");
            call.dry_run(true).send().await.map_err(fault("CreateSecurityGroup")).err()
        },
        async { ec2.allocate_address().dry_run(true).send().await.map_err(fault("AllocateAddress")).err() },
        async {
            let zone = place.settings.zones.first().cloned().unwrap_or_default();
            let call = ec2.create_volume().availability_zone(zone).size(1).volume_type(VolumeType::Gp3);
            call.dry_run(true).send().await.map_err(fault("CreateVolume")).err()
        },
        async {
            let call = ec2.run_instances().image_id(image).instance_type(InstanceType::T3Micro);
            let call = call.min_count(1).max_count(1).dry_run(true);
            call.send().await.map_err(fault("RunInstances")).err()
        },
    );
    [vpc, group, address, volume, run].into_iter().flatten().filter_map(lacking).collect()
}

/// A call that was not allowed; other refusals say that it was looked at.
fn lacking(fault: Fault) -> Option<Failure> {
    (!fault.is(ALLOWED) && fault.is(REFUSED)).then(|| hinted(fault.into()))
}

/// Whether there is room for another address, where this cluster has none yet.
async fn addresses(place: &Place) -> Option<Failure> {
    let call = place
        .ec2
        .describe_account_attributes()
        .attribute_names(AccountAttributeName::from("vpc-max-elastic-ips"));
    // Who may not ask is told when an address is refused.
    let limit = call.send().await.ok()?;
    let mut values = limit.account_attributes().iter().flat_map(AccountAttribute::attribute_values);
    let limit: usize = values.find_map(|value| value.attribute_value()?.parse().ok())?;
    let taken = place.ec2.describe_addresses().send().await.ok()?.addresses().len();
    let ours = place.addresses(Scope::All).await.ok()?.len();
    (taken >= limit && ours == 0).then(|| {
        let text = format!("all {limit} elastic addresses of the account are taken");
        Failure::new(FailureClass::Exhausted, text)
            .with_hint("release some, or ask for more of the quota `EC2-VPC Elastic IPs` (L-0263D0A3)")
    })
}
