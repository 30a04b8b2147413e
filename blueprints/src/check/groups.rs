//! What one group must be in itself and beside the others, and the group as checked.

use super::Check;
use crate::blueprint::{Group, Port};
use crate::document::Code;
use crate::document::path::{Step, quote, steps};
use crate::document::written::{Given, Written, WrittenGroup};

/// How long a node's name may be.
const NODE_NAME: usize = 40;
/// A group's name that commands take for all groups.
const ALL: &str = "all";
/// Folders that no disk may be mounted on or below.
const SYSTEM_FOLDERS: [&str; 13] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib64",
    "/opt/castrum",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/tmp",
    "/usr",
];
/// Folders that hold what is needed before disks are mounted, and may hold mounts below.
const SYSTEM_ROOTS: [&str; 4] = ["/opt", "/root", "/var", "/var/lib"];

impl Check<'_> {
    /// Everything about one group.
    pub(super) fn group(&mut self, group: &WrittenGroup) {
        self.site_of(group);
        self.name_of(group);
        self.machines(group);
        let at = |key| [Step::Key("groups"), Step::Key(&group.name), Step::Key(key)];
        self.once(&at("zones"), group.zones.iter().map(Some), |zone| (*zone).clone());
        self.once(&at("openPorts"), group.open_ports.iter().copied(), |port| port_text(*port));
        self.disks(group);
        for key in group.labels.keys().filter(|key| key.starts_with("castrum")) {
            let message = format!("the label {} is Castrum's own", quote(key));
            let path = steps!["groups", group.name.as_str(), "labels", key.as_str()];
            self.key_error(Code::Reserved, path, message, "labels that begin with `castrum` are reserved");
        }
    }

    fn name_of(&mut self, group: &WrittenGroup) {
        let path = steps!["groups", group.name.as_str()];
        if group.name == ALL {
            let message = format!("a group cannot be named `{ALL}`");
            self.error(Code::Reserved, path, message, "commands take that word for every group".to_owned());
        }
        let Some(count) = self.count(group) else { return };
        let longest = group.name.len() + 1 + count.to_string().len();
        if group.name.len() <= NODE_NAME && longest > NODE_NAME {
            let message =
                format!("the node `{}-{count}` would have a name of {longest} characters", group.name);
            let room = NODE_NAME - 1 - count.to_string().len();
            let hint = format!("a node's name has at most {NODE_NAME}: use at most {room} for the group's");
            self.error(Code::BadName, path, message, hint);
        }
        let Some(other) = self.group_with_node(&group.name) else { return };
        let message =
            format!("the group {} is named like a node of the group {}", quote(&group.name), quote(&other));
        self.error(
            Code::DuplicateValue,
            path,
            message,
            "choose a name without a number at its end".to_owned(),
        );
    }

    /// The group that has a node of this name.
    fn group_with_node(&self, name: &str) -> Option<String> {
        let (group, digits) = name.rsplit_once('-')?;
        let number: u32 = digits.parse().ok()?;
        let count = self.count(self.groups.get(group)?)?;
        (number.to_string() == digits && (1..=count).contains(&number)).then(|| group.to_owned())
    }

    fn disks(&mut self, group: &WrittenGroup) {
        let mounts = || group.disks.iter().map(|disk| disk.as_ref().map(|disk| disk.mount.as_str()));
        self.once(steps!["groups", group.name.as_str(), "disks"], mounts(), |mount| (*mount).to_owned());
        for (index, mount) in mounts().enumerate() {
            let Some(mount) = mount else { continue };
            let below = |folder: &&str| mount == *folder || mount.starts_with(&format!("{folder}/"));
            if SYSTEM_FOLDERS.iter().any(below) || SYSTEM_ROOTS.contains(&mount) {
                let path = steps!["groups", group.name.as_str(), "disks", index, "mount"];
                let message =
                    format!("a disk cannot be mounted on {}, which belongs to the system", quote(mount));
                self.error(
                    Code::Reserved,
                    path,
                    message,
                    "choose a folder like `/data` or `/var/lib/data`".to_owned(),
                );
            }
        }
    }
}

fn port_text(port: Port) -> String {
    format!("{}/{}", port.number, port.protocol.as_str())
}

/// The group as checked; `None` only if an error was found in it.
pub(super) fn group(group: &WrittenGroup, written: &Written) -> Option<Group> {
    let site = match (&group.site, written.sites.as_slice()) {
        (Given::Yes(name), _) => name,
        (Given::No, [only]) => &only.name,
        _ => return None,
    };
    let machines = match &group.machines {
        Given::Yes(machines) => machines.iter().cloned().collect::<Option<Vec<_>>>()?,
        Given::No => Vec::new(),
        Given::Unusable => return None,
    };
    let count = match group.count {
        Given::Yes(count) => count,
        Given::No if machines.is_empty() => 1,
        Given::No => u32::try_from(machines.len()).ok()?,
        Given::Unusable => return None,
    };
    Some(Group {
        role: group.role?,
        site: site.parse().ok()?,
        count,
        size: group.size,
        disks: group.disks.iter().cloned().collect::<Option<_>>()?,
        zones: group.zones.clone(),
        open_ports: group.open_ports.iter().copied().collect::<Option<_>>()?,
        labels: group.labels.clone(),
        machines,
    })
}
