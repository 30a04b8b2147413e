//! From the document as written to the blueprint as checked: what takes more than one value to judge.
//!
//! All checks run, whatever the others found; a check that would build on a value that is missing or unusable stays
//! silent, because that has been reported already. Only a document without any error becomes a [`Blueprint`].

mod groups;
mod machines;
mod own;
mod state;

use std::collections::BTreeMap;

use crate::blueprint::{Blueprint, Site};
use crate::document::path::{Step, quote, show, steps};
use crate::document::written::{Given, Written, WrittenGroup};
use crate::document::{Code, Document, Findings, Found, Remark, Severity, did_you_mean};
use crate::names::Role;

/// How many nodes one cluster may have.
const NODES: u64 = 100_000;

/// A blueprint that can be used, and what its author should know about it all the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// The blueprint.
    pub blueprint: Blueprint,
    /// What was found; none of it an error.
    pub warnings: Findings,
}

/// Checks `document` as a whole.
pub fn check(document: &Document) -> Result<Checked, Findings> {
    let written = document.written();
    let sites = written.sites.iter().map(|site| (site.name.as_str(), site.provider.as_deref())).collect();
    let groups = written.groups.iter().map(|group| (group.name.as_str(), group)).collect();
    let mut check = Check { document, written, sites, groups, found: document.found() };
    if document.is_yaml() {
        check.sites();
        check.masters();
        check.nodes();
        check.own_checks();
        check.limits();
        check.access();
        check.state();
        for group in &written.groups {
            check.group(group);
        }
        check.machines_once();
    }
    let findings = check.found.into_findings(document.file());
    if findings.has_errors() {
        return Err(findings);
    }
    match blueprint(written) {
        Some(blueprint) => Ok(Checked { blueprint, warnings: findings }),
        None => Err(findings),
    }
}

struct Check<'a> {
    document: &'a Document,
    written: &'a Written,
    /// The sites' providers, by site.
    sites: BTreeMap<&'a str, Option<&'a str>>,
    groups: BTreeMap<&'a str, &'a WrittenGroup>,
    found: Found,
}

impl<'a> Check<'a> {
    /// An error about the value at `path`.
    fn error(
        &mut self,
        code: Code,
        path: &[Step<'_>],
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        let (message, hint) = (message.into(), hint.into());
        self.add(path, |span| Remark::error(code, span, message).maybe_hint(hint));
    }

    /// An error about the key at the end of `path`.
    fn key_error(&mut self, code: Code, path: &[Step<'_>], message: String, hint: &str) {
        let document = self.document;
        self.found.add(document.source(), || {
            Remark::error(code, document.key_at(path), message).about(show(path)).hint(hint)
        });
    }

    /// Something that the author should know about the value at `path`.
    fn advise(&mut self, path: &[Step<'_>], message: impl Into<String>, hint: &str) {
        let (message, hint) = (message.into(), Some(hint.to_owned()));
        self.add(path, |span| Remark {
            severity: Severity::Warning,
            ..Remark::error(Code::Advice, span, message).maybe_hint(hint)
        });
    }

    fn add(&mut self, path: &[Step<'_>], remark: impl FnOnce(crate::document::Span) -> Remark) {
        let document = self.document;
        self.found.add(document.source(), || remark(document.value_at(path)).about(show(path)));
    }

    /// An error about one of several equal items of the list at `path`.
    fn once<T: Ord>(
        &mut self,
        path: &[Step<'_>],
        items: impl Iterator<Item = Option<T>>,
        said: impl Fn(&T) -> String,
    ) {
        let mut first: BTreeMap<T, usize> = BTreeMap::new();
        for (index, item) in items.enumerate() {
            let Some(item) = item else { continue };
            let Some(before) = first.get(&item) else {
                first.insert(item, index);
                continue;
            };
            let message =
                format!("{} is there twice: it is item {} already", quote(&said(&item)), before + 1);
            let path: Vec<Step<'_>> = path.iter().copied().chain([Step::Item(index)]).collect();
            self.error(Code::DuplicateValue, &path, message, None);
        }
    }

    fn sites(&mut self) {
        let mut unused = self.sites.clone();
        for group in &self.written.groups {
            match &group.site {
                Given::Yes(site) if self.sites.contains_key(site.as_str()) => unused.remove(site.as_str()),
                // A group that is nowhere yet may be meant for any site.
                _ => return,
            };
        }
        for site in unused.into_keys() {
            let path = steps!["sites", site];
            self.advise(path, format!("no group is in the site {}", quote(site)), "remove it, or use it");
        }
    }

    /// The provider of a group's site, if that can be told.
    fn provider(&self, group: &WrittenGroup) -> Option<&'a str> {
        match (&group.site, self.written.sites.as_slice()) {
            (Given::No, [only]) => only.provider.as_deref(),
            (Given::Yes(name), _) => self.sites.get(name.as_str()).copied().flatten(),
            _ => None,
        }
    }

    /// How many nodes a group has, if that can be told.
    fn count(&self, group: &WrittenGroup) -> Option<u32> {
        match (&group.machines, &group.count) {
            (_, Given::Yes(count)) => Some(*count),
            (Given::Yes(machines), Given::No) => u32::try_from(machines.len()).ok(),
            (Given::No, Given::No) => (self.provider(group)? != machines::PROVIDER).then_some(1),
            _ => None,
        }
    }

    /// How many nodes all groups of these roles have, if that can be told.
    fn total(&self, of: impl Fn(Role) -> bool) -> Option<u64> {
        let counts = self.written.groups.iter().map(|group| match group.role {
            Some(role) if !of(role) => Some(0),
            Some(_) => self.count(group).map(u64::from),
            None => None,
        });
        counts.sum()
    }

    fn masters(&mut self) {
        let written = self.written;
        let groups: Vec<&WrittenGroup> =
            written.groups.iter().filter(|group| group.role == Some(Role::Master)).collect();
        let (Some(masters), false) = (self.total(|role| role == Role::Master), written.groups.is_empty())
        else {
            return;
        };
        let path: &[Step<'_>] = match groups.as_slice() {
            [only] if only.count != Given::No => steps!["groups", only.name.as_str(), "count"],
            [only] => steps!["groups", only.name.as_str()],
            _ => steps!["groups"],
        };
        match masters {
            0 => {
                let hint = "add a group with `role: master` and `count: 3`".to_owned();
                self.error(Code::Quorum, path, "there is no master", hint);
            }
            1 => {
                let hint = "3 masters survive the loss of one";
                self.advise(path, "with 1 master the cluster does not survive the loss of it", hint);
            }
            3 | 5 | 7 => {}
            _ => {
                let message = format!("there are {masters} masters, and a quorum needs 1, 3, 5 or 7");
                let hint = match masters {
                    2 | 4 | 6 => {
                        format!("{} masters survive the loss of as many as {masters} would", masters - 1)
                    }
                    _ => "more than 7 make every write slower; add agents instead".to_owned(),
                };
                self.error(Code::Quorum, path, message, hint);
            }
        }
        if self.total(|role| role != Role::Master) == Some(0) {
            let hint = "add a group with `role: agent`";
            self.advise(steps!["groups"], "there is no agent, so nothing can run workloads", hint);
        }
    }

    fn nodes(&mut self) {
        let known = self.written.groups.iter().filter_map(|group| self.count(group));
        let nodes: u64 = known.map(u64::from).sum();
        if nodes > NODES {
            let message = format!("there are {nodes} nodes, and a cluster has at most {NODES}");
            self.error(Code::TooLarge, steps!["groups"], message, None);
        }
    }

    fn limits(&mut self) {
        let Some(masters) = self.total(|role| role == Role::Master) else { return };
        let seeds = u64::from(self.written.limits.depot_seeds);
        if masters > 0 && seeds > masters {
            let message = format!("the depots of {seeds} masters are to be filled, and there are {masters}");
            self.error(Code::Conflict, steps!["limits", "depotSeeds"], message, None);
        }
    }

    fn access(&mut self) {
        let keys = self.written.access.authorized_keys.iter().map(|key| Some(key.as_str()));
        let body = |key: &&str| key.split(' ').nth(1).unwrap_or(key).chars().take(24).collect();
        self.once(steps!["access", "authorizedKeys"], keys, body);
    }

    fn site_of(&mut self, group: &WrittenGroup) {
        match &group.site {
            Given::Yes(name) if !self.sites.is_empty() && !self.sites.contains_key(name.as_str()) => {
                let known: Vec<String> = self.sites.keys().take(8).map(|name| quote(name)).collect();
                let hint = did_you_mean(name, self.sites.keys().copied())
                    .unwrap_or_else(|| format!("the sites are {}", known.join(", ")));
                let path = steps!["groups", group.name.as_str(), "site"];
                self.error(Code::UnknownReference, path, format!("there is no site {}", quote(name)), hint);
            }
            Given::No if self.sites.len() > 1 => {
                let message =
                    format!("`groups.{}` has no `site`, and there are {}", group.name, self.sites.len());
                let hint = self.written.sites.first().map(|site| format!("add `site: {}`", site.name));
                self.error(Code::MissingKey, steps!["groups", group.name.as_str()], message, hint);
            }
            _ => {}
        }
    }
}

/// The blueprint of a document without errors.
fn blueprint(written: &Written) -> Option<Blueprint> {
    let site = |site: &crate::document::written::WrittenSite| {
        let provider = site.provider.clone()?;
        Some((site.name.parse().ok()?, Site { provider, settings: site.settings.clone() }))
    };
    let group = |group: &WrittenGroup| Some((group.name.parse().ok()?, groups::group(group, written)?));
    Some(Blueprint {
        name: written.name.as_ref()?.parse().ok()?,
        sites: written.sites.iter().map(site).collect::<Option<_>>()?,
        groups: written.groups.iter().map(group).collect::<Option<_>>()?,
        stack: written.stack.clone(),
        checks: written
            .checks
            .iter()
            .map(|(name, check)| Some((name.clone(), check.clone()?)))
            .collect::<Option<_>>()?,
        limits: written.limits,
        access: written.access.clone(),
        state: match &written.state {
            Given::Yes(state) => Some(state.clone()),
            Given::No | Given::Unusable => None,
        },
    })
}

#[cfg(test)]
mod tests;
