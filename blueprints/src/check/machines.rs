//! Machines that exist already: only where the provider makes none, as many as nodes, and each of them once.

use std::collections::BTreeMap;

use super::Check;
use crate::blueprint::ExistingMachine;
use crate::document::Code;
use crate::document::path::{Step, quote, steps};
use crate::document::written::{Given, WrittenGroup};

/// The provider that makes no machines.
pub(super) const PROVIDER: &str = "ssh";

/// What the machines looked at so far occupy, with the nodes that they are.
#[derive(Default)]
struct Taken {
    /// Address and SSH port: several machines may be reached through one address.
    doors: BTreeMap<(String, u16), String>,
    private: BTreeMap<String, String>,
}

impl Check<'_> {
    /// Whether a group's machines fit its provider and its count.
    pub(super) fn machines(&mut self, group: &WrittenGroup) {
        let Some(provider) = self.provider(group) else { return };
        let name = group.name.as_str();
        match (&group.machines, provider == PROVIDER) {
            (Given::Yes(_), false) => {
                let message = format!("the provider {} makes its machines itself", quote(provider));
                let hint = format!("remove `machines`, or use a site with `provider: {PROVIDER}`");
                self.error(Code::Conflict, steps!["groups", name, "machines"], message, hint);
            }
            (Given::No, true) => {
                let message =
                    format!("`groups.{name}` has no `machines`, and the provider `{PROVIDER}` makes none");
                let hint = "list the machines that exist: `machines: [{ address: 10.0.0.5 }]`".to_owned();
                self.error(Code::MissingKey, steps!["groups", name], message, hint);
            }
            (Given::Yes(machines), true) => match group.count {
                Given::Yes(count) if usize::try_from(count) != Ok(machines.len()) => {
                    let message = format!("`count` is {count}, and {} machines are listed", machines.len());
                    let hint = "leave `count` out: it is the number of machines".to_owned();
                    self.error(Code::Conflict, steps!["groups", name, "count"], message, hint);
                }
                Given::No if machines.is_empty() => {
                    let message = format!("`groups.{name}` lists no machine");
                    self.error(Code::MissingKey, steps!["groups", name, "machines"], message, None);
                }
                _ => {}
            },
            _ => {}
        }
    }

    /// Whether any two machines of the cluster are the same.
    pub(super) fn machines_once(&mut self) {
        let mut taken = Taken::default();
        for group in &self.written.groups {
            let Given::Yes(machines) = &group.machines else { continue };
            for (index, machine) in machines.iter().enumerate() {
                let Some(machine) = machine else { continue };
                let node = format!("{}-{}", group.name, index + 1);
                let at =
                    [Step::Key("groups"), Step::Key(&group.name), Step::Key("machines"), Step::Item(index)];
                self.machine_once(machine, &node, &at, &mut taken);
            }
        }
    }

    fn machine_once(&mut self, machine: &ExistingMachine, node: &str, at: &[Step<'_>], taken: &mut Taken) {
        let field =
            |key: &'static str| -> Vec<Step<'_>> { at.iter().copied().chain([Step::Key(key)]).collect() };
        let door = (machine.address.to_ascii_lowercase(), machine.port.unwrap_or(22));
        if let Some(other) = taken.doors.get(&door) {
            let message = format!("{} is the machine of `{other}` already", quote(&machine.address));
            self.error(Code::DuplicateValue, &field("address"), message, None);
        } else {
            taken.doors.insert(door, node.to_owned());
        }
        let Some(address) = machine.private_address.map(|address| address.to_string()) else { return };
        if let Some(other) = taken.private.get(&address) {
            let message = format!("{} is the private address of `{other}` already", quote(&address));
            self.error(Code::DuplicateValue, &field("privateAddress"), message, None);
        } else {
            taken.private.insert(address, node.to_owned());
        }
    }
}
