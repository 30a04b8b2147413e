//! The rules of a firewall as a set: what is wanted, what is there, and what is the difference.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::{IpPermission, IpRange, Ipv6Range, PrefixListId, UserIdGroupPair};
use castrum_blueprints::names::Digest;
use castrum_provider::FirewallSpec;

/// What every rule that is made here is described with, so that one made by hand shows.
pub(crate) const MARK: &str = "castrum";

/// Lets ports in from one source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rule {
    protocol: String,
    from: i32,
    to: i32,
    source: Source,
}

/// Where packets come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// Addresses of 32 bits.
    V4(String),
    /// Addresses of 128 bits.
    V6(String),
    /// Machines that carry a group.
    Group(String),
    /// A list of ranges that somebody keeps.
    List(String),
}

impl Rule {
    /// All ports of all protocols.
    pub(crate) fn everything(source: Source) -> Self {
        Self { protocol: "-1".to_owned(), from: -1, to: -1, source }
    }
}

/// A set of rules.
pub(crate) type Rules = BTreeSet<Rule>;

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Source::V4(from) | Source::V6(from) | Source::Group(from) | Source::List(from)) = &self.source;
        match (self.protocol.as_str(), self.from == self.to) {
            ("-1", _) => write!(f, "everything in from {from}"),
            (protocol, true) => write!(f, "{protocol} {} in from {from}", self.from),
            (protocol, false) => write!(f, "{protocol} {} to {} in from {from}", self.from, self.to),
        }
    }
}

/// The rules that a firewall shall have; `sources` tells what each of its zones is here.
pub(crate) fn wanted(spec: &FirewallSpec, sources: impl Fn(usize) -> Vec<Source>) -> Rules {
    let rules = spec.rules.iter().enumerate().flat_map(|(number, rule)| {
        let port = i32::from(rule.port.number);
        let protocol = rule.port.protocol.as_str().to_owned();
        sources(number).into_iter().map(move |source| Rule {
            protocol: protocol.clone(),
            from: port,
            to: port,
            source,
        })
    });
    rules.collect()
}

/// The rules that are there, each with whether it was made here.
pub(crate) fn present(permissions: &[IpPermission]) -> Vec<(Rule, bool)> {
    let marked = |text: Option<&str>| text.is_some_and(|text| text.starts_with(MARK));
    let of = |permission: &IpPermission| {
        let v4 = permission
            .ip_ranges()
            .iter()
            .map(|it| (it.cidr_ip().map(|at| Source::V4(at.to_owned())), it.description()));
        let v6 = permission.ipv6_ranges().iter();
        let v6 = v6.map(|it| (it.cidr_ipv6().map(|at| Source::V6(at.to_owned())), it.description()));
        let groups = permission.user_id_group_pairs().iter();
        let groups =
            groups.map(|it| (it.group_id().map(|at| Source::Group(at.to_owned())), it.description()));
        let lists = permission.prefix_list_ids().iter();
        let lists =
            lists.map(|it| (it.prefix_list_id().map(|at| Source::List(at.to_owned())), it.description()));
        let sources = v4.chain(v6).chain(groups).chain(lists);
        let rule = |source| Rule {
            protocol: permission.ip_protocol().unwrap_or("-1").to_owned(),
            from: permission.from_port().unwrap_or(-1),
            to: permission.to_port().unwrap_or(-1),
            source,
        };
        sources.filter_map(|(source, text)| Some((rule(source?), marked(text)))).collect::<Vec<_>>()
    };
    permissions.iter().flat_map(of).collect()
}

/// A short word for a set of rules, which tells sets apart.
pub(crate) fn state(rules: &Rules) -> String {
    let lines: Vec<String> = rules.iter().map(|rule| format!("{rule}\n")).collect();
    Digest::of(lines.concat().as_bytes()).short().to_owned()
}

/// Rules in the words of the service.
pub(crate) fn permissions(rules: impl Iterator<Item = Rule>) -> Vec<IpPermission> {
    let permission = |rule: Rule| {
        let all = rule.protocol == "-1";
        let permission = IpPermission::builder().ip_protocol(rule.protocol);
        let permission =
            permission.set_from_port((!all).then_some(rule.from)).set_to_port((!all).then_some(rule.to));
        let permission = match rule.source {
            Source::V4(at) => permission.ip_ranges(IpRange::builder().cidr_ip(at).description(MARK).build()),
            Source::V6(at) => {
                permission.ipv6_ranges(Ipv6Range::builder().cidr_ipv6(at).description(MARK).build())
            }
            Source::Group(at) => permission
                .user_id_group_pairs(UserIdGroupPair::builder().group_id(at).description(MARK).build()),
            Source::List(at) => permission
                .prefix_list_ids(PrefixListId::builder().prefix_list_id(at).description(MARK).build()),
        };
        permission.build()
    };
    rules.map(permission).collect()
}

#[cfg(test)]
mod tests {
    use castrum_blueprints::blueprint::{Port, Protocol};
    use castrum_provider::{FirewallRule, Zone};

    use super::*;

    fn spec(ports: &[u16]) -> FirewallSpec {
        let rule = |number: &u16| FirewallRule {
            port: Port { number: *number, protocol: Protocol::Tcp },
            from: Zone::World,
        };
        FirewallSpec { network: "n".into(), purpose: "p".into(), rules: ports.iter().map(rule).collect() }
    }

    fn world(_: usize) -> Vec<Source> {
        vec![Source::V4("0.0.0.0/0".to_owned()), Source::V6("::/0".to_owned())]
    }

    #[test]
    fn what_was_made_is_what_is_there() {
        let rules = wanted(&spec(&[80, 443]), world);
        assert_eq!(rules.len(), 4);
        let there = present(&permissions(rules.clone().into_iter()));
        assert!(there.iter().all(|(_, ours)| *ours));
        let there: Rules = there.into_iter().map(|(rule, _)| rule).collect();
        assert_eq!((state(&there), &there), (state(&rules), &rules));
    }

    #[test]
    fn the_order_and_the_grouping_do_not_matter_and_another_rule_does() {
        let merged = IpPermission::builder().ip_protocol("tcp").from_port(80).to_port(80);
        let merged = merged.ipv6_ranges(Ipv6Range::builder().cidr_ipv6("::/0").build());
        let merged = merged.ip_ranges(IpRange::builder().cidr_ip("0.0.0.0/0").build()).build();
        let there = present(&[merged]);
        assert!(there.iter().all(|(_, ours)| !ours), "a rule without the mark is somebody else's");
        let there: Rules = there.into_iter().map(|(rule, _)| rule).collect();
        assert_eq!(state(&there), state(&wanted(&spec(&[80]), world)));
        assert_ne!(state(&there), state(&wanted(&spec(&[81]), world)));
    }

    #[test]
    fn a_rule_says_what_it_lets_in() {
        let foreign = IpPermission::builder().ip_protocol("tcp").from_port(9999).to_port(9999);
        let foreign = foreign.ip_ranges(IpRange::builder().cidr_ip("0.0.0.0/0").build()).build();
        assert_eq!(present(&[foreign])[0].0.to_string(), "tcp 9999 in from 0.0.0.0/0");
        let all = IpPermission::builder().ip_protocol("-1");
        let all = all.user_id_group_pairs(UserIdGroupPair::builder().group_id("sg-1").build()).build();
        let rule = present(&[all])[0].0.clone();
        assert_eq!(rule.to_string(), "everything in from sg-1");
        let again = permissions(std::iter::once(rule));
        assert_eq!((again[0].from_port(), again[0].to_port()), (None, None));
    }
}
