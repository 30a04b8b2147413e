//! Checks of the blueprint's own, as components of the stack: so they open a wave, gate every change, and keep their history,
//! as all others do.

use std::collections::BTreeMap;

use super::{Category, CheckTemplate, Component, FileSource, Source, Stack, StackError};
use crate::blueprint::OwnCheck;
use crate::manifest::Assertion;
use crate::names::ComponentName;

/// The name of the component that carries a check of the blueprint's own.
pub fn own_check_name(check: &str) -> String {
    format!("check-{check}")
}

/// Under which path the script of a check of the blueprint's own is a file of the stack. No folder can hold such a path.
pub fn own_check_file(check: &str) -> String {
    format!("//checks/{check}")
}

/// The script in its component's store.
const PROGRAM: &str = "check";

impl Stack {
    /// The same stack with checks of the blueprint's own: each a component without a process, begun when all that every node
    /// of its roles carries is healthy. Their scripts are to be files of the stack, see [`own_check_file`].
    pub fn with_checks(mut self, checks: &BTreeMap<String, OwnCheck>) -> Result<Self, StackError> {
        let own: Vec<_> = checks.iter().map(|(name, check)| (name, self.own_check(name, check))).collect();
        let mut findings = Vec::new();
        for (check, component) in own {
            let Ok(name) = own_check_name(check).parse::<ComponentName>() else {
                findings.push(format!("checks.{check}: the name is too long"));
                continue;
            };
            let below = component.requires.iter().filter_map(|required| self.waves.get(required)).max();
            self.waves.insert(name.clone(), below.map_or(1, |wave| wave + 1));
            if self.components.insert(name.clone(), component).is_some() {
                findings.push(format!("checks.{check}: the stack has a component `{name}` already"));
            }
        }
        if findings.is_empty() { Ok(self) } else { Err(StackError { findings }) }
    }

    fn own_check(&self, name: &str, check: &OwnCheck) -> Component {
        let everywhere = |component: &Component| check.roles.is_subset(&component.roles);
        let requires = self.components.iter().filter(|(_, component)| everywhere(component));
        let file = FileSource { path: own_check_file(name), target: PROGRAM.to_owned(), executable: true };
        Component {
            category: Category::ClusterManagement,
            description: check.description.clone(),
            roles: check.roles.clone(),
            requires: requires.map(|(name, _)| name.clone()).collect(),
            quorum: false,
            source: Some(Source::File(file)),
            account: None,
            folders: Vec::new(),
            ports: Vec::new(),
            settings: BTreeMap::new(),
            config: BTreeMap::new(),
            unit: None,
            membership: None,
            facts: BTreeMap::new(),
            checks: vec![CheckTemplate {
                name: name.to_owned(),
                description: check.description.clone(),
                assert: Assertion::Exec(vec![format!("{{{{store}}}}/{PROGRAM}")]),
                every: check.every_seconds,
                timeout: check.timeout_seconds,
            }],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::names::Role;

    fn check(roles: &[Role]) -> OwnCheck {
        OwnCheck {
            description: "It holds.".to_owned(),
            run: "a.sh".to_owned(),
            roles: roles.iter().copied().collect(),
            every_seconds: 30,
            timeout_seconds: 10,
        }
    }

    fn swarm() -> Stack {
        Stack::read(&crate::stacks::files("swarm").expect("it is brought along")).expect("valid")
    }

    #[test]
    fn a_check_comes_after_all_that_every_node_of_its_roles_carries() {
        let checks =
            [("all".to_owned(), check(&Role::ALL)), ("top".to_owned(), check(&[Role::Master]))].into();
        let stack = swarm().with_checks(&checks).expect("valid");
        let requires = |name: &str| -> BTreeSet<String> {
            let name: ComponentName = name.parse().expect("a name");
            stack.components[&name].requires.iter().map(ToString::to_string).collect()
        };
        assert!(requires("check-all").contains("swarm") && !requires("check-all").contains("etcd"));
        assert!(requires("check-top").contains("etcd") && !requires("check-top").contains("check-all"));
        let wave = |name: &str| stack.waves[&name.parse::<ComponentName>().expect("a name")];
        assert_eq!((wave("check-all"), wave("check-top")), (wave("swarm") + 1, wave("overlay") + 1));
    }

    #[test]
    fn a_name_that_the_stack_has_is_refused() {
        let once = swarm().with_checks(&[("a".to_owned(), check(&Role::ALL))].into()).expect("valid");
        let error = once.with_checks(&[("a".to_owned(), check(&Role::ALL))].into()).expect_err("twice");
        assert_eq!(error.findings, ["checks.a: the stack has a component `check-a` already"]);
    }
}
