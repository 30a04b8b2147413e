//! A firewall: a security group, whose rules are compared one by one each time.

use aws_sdk_ec2::types::{ResourceType, SecurityGroup};
use castrum_blueprints::names::{Digest, ResourceKind, ResourcePath};
use castrum_provider::{Change, Failure, FirewallSpec, Removed, ResourceSeen, Wanted, Zone};

use crate::failure::fault;
use crate::labels::with_state;
use crate::list::{Part, Scope, filter, tagged};
use crate::network::{VPC, WORLD, gone};
use crate::place::{Found, Pauses, Place, awaited, change_of, not_ready, settle, taken_name};
use crate::rules::{self, Rule, Rules, Source};

pub(crate) const GROUP: &str = "security-group";

fn ingress(group: &SecurityGroup) -> Rules {
    rules::present(group.ip_permissions()).into_iter().map(|(rule, _)| rule).collect()
}

/// Whether machines of the group may send to everywhere.
fn lets_out(group: &SecurityGroup) -> bool {
    group.ip_permissions_egress().iter().any(|permission| {
        permission.ip_protocol() == Some("-1")
            && permission.ip_ranges().iter().any(|range| range.cidr_ip() == Some(WORLD))
    })
}

/// What a group was put to: its rules, and the ranges of the site's settings where a rule speaks of them.
fn state(place: &Place, rules: &Rules, admin: bool) -> String {
    let ranges = place.settings.admin.iter().map(|range| range.text.as_str()).collect::<Vec<_>>().join(" ");
    let ranges = Digest::of(ranges.as_bytes());
    format!("{} {}", rules::state(rules), if admin { ranges.short() } else { "-" })
}

/// What the parts are as one resource.
pub(crate) fn judge(
    place: &Place,
    path: &ResourcePath,
    parts: &[Part<SecurityGroup>],
) -> Option<ResourceSeen> {
    let (group, others) = settle(parts.to_vec(), |_| false);
    let group = group?;
    place.learn(path, GROUP, &group.id);
    let mut found = Found::new(place, &group);
    for other in others {
        found.lacks(format!("another one was made beside it, {}", other.id));
    }
    let (told, there) = (group.label.state.as_deref().unwrap_or_default(), ingress(&group.it));
    let (rules, _) = told.split_once(' ').unwrap_or((told, ""));
    if rules != rules::state(&there) {
        let foreign = rules::present(group.it.ip_permissions()).into_iter().find(|(_, ours)| !ours);
        match foreign {
            Some((rule, _)) => found.lacks(format!("lets {rule}, which is not declared")),
            None => found.lacks("its rules are not those that were declared"),
        }
    } else if ![true, false].map(|admin| state(place, &there, admin)).iter().any(|state| state == told) {
        found.lacks("it lets in other ranges than `admin` of the site says");
    }
    found.must(lets_out(&group.it), "it does not let everything out any more");
    Some(found.seen())
}

/// What each zone of the rules is here, in the order of the rules.
async fn sources(place: &Place, spec: &FirewallSpec, own: &str) -> Result<Vec<Vec<Source>>, Failure> {
    let mut all = Vec::with_capacity(spec.rules.len());
    for rule in &spec.rules {
        all.push(match &rule.from {
            Zone::Own => vec![Source::Group(own.to_owned())],
            Zone::Firewall(name) => {
                let path = place.path(ResourceKind::Firewall, name);
                vec![Source::Group(place.resolve(&path, GROUP).await?)]
            }
            Zone::Admin => {
                let ranges = place.settings.admin.iter();
                ranges
                    .map(|range| {
                        if range.v6 { Source::V6(range.text.clone()) } else { Source::V4(range.text.clone()) }
                    })
                    .collect()
            }
            Zone::World => vec![Source::V4(WORLD.to_owned()), Source::V6("::/0".to_owned())],
        });
    }
    Ok(all)
}

/// Makes the group, and gives it exactly the rules that are declared.
pub(crate) async fn ensure(
    place: &Place,
    wanted: &Wanted,
    spec: &FirewallSpec,
) -> Result<(Change, ResourceSeen), Failure> {
    let path = &wanted.path;
    let vpc = place.resolve(&place.path(ResourceKind::Network, &spec.network), VPC).await?;
    let (kept, _) = settle(place.groups(Scope::One(path)).await?, |group| group.vpc_id() != Some(&vpc));
    let created = kept.is_none();
    let group = match kept {
        Some(group) => group,
        None => create(place, wanted, spec, &vpc).await?,
    };
    if group.it.vpc_id() != Some(&vpc) {
        return Err(not_ready(format!("`{path}` is in another VPC than its network, {}", group.id)));
    }
    let sources = sources(place, spec, &group.id).await?;
    let rules = rules::wanted(spec, |number| sources.get(number).cloned().unwrap_or_default());
    let admin = spec.rules.iter().any(|rule| rule.from == Zone::Admin);
    let mut touched = ensure_rules(place, &group, &rules).await?;
    let tags = with_state(place.tags(wanted, GROUP), &state(place, &rules, admin));
    touched |= place.retag(&group.id, &group.label, &tags).await?;
    let change = change_of(created, touched);
    let mut pauses = Pauses::new();
    loop {
        match judge(place, path, &place.groups(Scope::One(path)).await?) {
            Some(seen) if seen.ready => return Ok((change, seen)),
            seen => pauses.pause(|| awaited(path, seen.as_ref())).await?,
        }
    }
}

async fn create(
    place: &Place,
    wanted: &Wanted,
    spec: &FirewallSpec,
    vpc: &str,
) -> Result<Part<SecurityGroup>, Failure> {
    let (path, name) = (&wanted.path, place.name(&wanted.path));
    // The description can hold few characters, and must be there.
    let plain = |c: &char| c.is_ascii_alphanumeric() || " ._-:/()#,@[]+=&;{}!$*".contains(*c);
    let purpose: String = spec.purpose.chars().filter(plain).take(200).collect();
    let call = place
        .ec2
        .create_security_group()
        .group_name(&name)
        .description(format!("Castrum: {purpose}"))
        .vpc_id(vpc);
    let call = call.tag_specifications(tagged(ResourceType::SecurityGroup, &place.tags(wanted, GROUP)));
    let made = call.send().await.map_err(fault("CreateSecurityGroup"));
    let double = matches!(&made, Err(fault) if fault.is(&["InvalidGroup.Duplicate"]));
    if !double {
        place.made(path, GROUP, made?.group_id().unwrap_or_default());
    }
    let mut pauses = Pauses::new();
    loop {
        if let Some(group) = place.groups(Scope::One(path)).await?.into_iter().next() {
            return Ok(group);
        }
        if !pauses.listing(place).await {
            let late = || not_ready(format!("`{path}` is not in the listing yet"));
            return Err(if double { taken_name("security group", &name) } else { late() });
        }
    }
}

/// Takes away what is not declared, and adds what is missing. Whether anything was to do.
async fn ensure_rules(place: &Place, group: &Part<SecurityGroup>, wanted: &Rules) -> Result<bool, Failure> {
    let there = ingress(&group.it);
    let foreign: Vec<Rule> = there.difference(wanted).cloned().collect();
    let missing: Vec<Rule> = wanted.difference(&there).cloned().collect();
    let mut touched = false;
    if !missing.is_empty() {
        let call = place.ec2.authorize_security_group_ingress().group_id(&group.id);
        let call = call.set_ip_permissions(Some(rules::permissions(missing.into_iter())));
        match call.send().await.map_err(fault("AuthorizeSecurityGroupIngress")) {
            Err(fault) if fault.is(&["InvalidPermission.Duplicate"]) => {
                return Err(not_ready(format!("the rules of {} change under us", group.id)));
            }
            added => drop(added?),
        }
        touched = true;
    }
    if !foreign.is_empty() {
        let call = place.ec2.revoke_security_group_ingress().group_id(&group.id);
        let call = call.set_ip_permissions(Some(rules::permissions(foreign.into_iter())));
        gone(call.send().await.map_err(fault("RevokeSecurityGroupIngress")).map(drop))?;
        touched = true;
    }
    if !lets_out(&group.it) {
        let out = rules::permissions(std::iter::once(Rule::everything(Source::V4(WORLD.to_owned()))));
        let call =
            place.ec2.authorize_security_group_egress().group_id(&group.id).set_ip_permissions(Some(out));
        match call.send().await.map_err(fault("AuthorizeSecurityGroupEgress")) {
            Err(fault) if fault.is(&["InvalidPermission.Duplicate"]) => {}
            added => drop(added?),
        }
        touched = true;
    }
    Ok(touched)
}

/// Removes the group once nothing carries it.
pub(crate) async fn remove(place: &Place, path: &ResourcePath) -> Result<Removed, Failure> {
    let all = place.groups(Scope::One(path)).await?;
    for group in &all {
        if let Some(instance) = place.inhabitant(filter("instance.group-id", &group.id)).await? {
            return Err(not_ready(format!("`{path}` is in use: the instance {instance} carries it")));
        }
        let call = place.ec2.delete_security_group().group_id(&group.id);
        gone(call.send().await.map_err(fault("DeleteSecurityGroup")).map(drop))?;
        place.bury(&group.id);
    }
    place.removed(path);
    Ok(if all.is_empty() { Removed::Absent } else { Removed::Removed })
}
