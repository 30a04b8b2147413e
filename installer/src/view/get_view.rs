//! Lists: one kind of thing each, as a table or as data, of all the cluster or of some nodes only.
//!
//! A list is made once, as data; the table shows chosen fields of it.

mod lists;
mod ports;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use castrum_blueprints::desired::DesiredNode;
use castrum_blueprints::names::{ComponentName, GroupName, Role, SiteName, Timestamp};
use serde_json::{Value, json};

use super::style::{Tone, bytes, duration, safe};
use super::table::{Cell, Table, cell, toned};
use super::{FORMAT_VERSION, Opts, World};

/// What can be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The declared nodes and how they are.
    Nodes,
    /// The components of the stack and where they are healthy.
    Components,
    /// What is made, or shall be made, in the places.
    Resources,
    /// Every check of every node.
    Checks,
    /// The packet filter rules that the nodes need.
    Firewall,
    /// The boot order.
    Waves,
    /// Which port may be reached by whom, by role.
    Ports,
    /// The pinned packages.
    Packages,
    /// The node that founded each membership.
    Founders,
}

/// It is not known what to list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` cannot be listed; there are: {}", Subject::ALL.map(Subject::as_str).join(", "))]
pub struct UnknownSubject {
    word: String,
}

impl Subject {
    /// Everything that can be listed.
    pub const ALL: [Self; 9] = [
        Self::Nodes,
        Self::Components,
        Self::Resources,
        Self::Checks,
        Self::Firewall,
        Self::Waves,
        Self::Ports,
        Self::Packages,
        Self::Founders,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Components => "components",
            Self::Resources => "resources",
            Self::Checks => "checks",
            Self::Firewall => "firewall",
            Self::Waves => "waves",
            Self::Ports => "ports",
            Self::Packages => "packages",
            Self::Founders => "founders",
        }
    }

    /// The headings of its table and the fields under them.
    fn columns(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Nodes => &[
                ("NODE", "name"),
                ("ROLE", "role"),
                ("SITE", "site"),
                ("ADDRESS", "address"),
                ("MACHINE", "machine"),
                ("AGENT", "agent/state"),
                ("HEARD", "agent/age_ms"),
                ("GEN", "generation"),
                ("HEALTHY", "components/healthy"),
                ("OF", "components/total"),
                ("PROBLEM", "problem"),
            ],
            Self::Components => &[
                ("COMPONENT", "name"),
                ("CATEGORY", "category"),
                ("WAVE", "wave"),
                ("HEALTHY", "nodes/healthy"),
                ("OF", "nodes/total"),
                ("VERSION", "version"),
            ],
            Self::Resources => &[
                ("RESOURCE", "path"),
                ("STATE", "state"),
                ("POWER", "power"),
                ("ADDRESS", "address"),
                ("ID", "id"),
                ("NOTE", "note"),
            ],
            Self::Checks => &[
                ("NODE", "node"),
                ("CHECK", "name"),
                ("VERDICT", "verdict"),
                ("SINCE", "age_ms"),
                ("SEEN", "seen"),
                ("WHAT HOLDS", "description"),
            ],
            Self::Firewall => &[
                ("NODES", "group"),
                ("ROLE", "role"),
                ("PORT", "port"),
                ("PROTO", "protocol"),
                ("FROM", "from"),
                ("FOR", "component"),
                ("PURPOSE", "purpose"),
            ],
            Self::Waves => {
                &[("WAVE", "wave"), ("COMPONENTS", "components"), ("OPENS WHEN HEALTHY", "requires")]
            }
            Self::Ports => &[
                ("PORT", "port"),
                ("PROTO", "protocol"),
                ("COMPONENT", "component"),
                ("MASTER", "master"),
                ("AGENT", "agent"),
                ("PUBLIC-AGENT", "public-agent"),
                ("PURPOSE", "purpose"),
            ],
            Self::Packages => &[
                ("COMPONENT", "component"),
                ("PACKAGE", "name"),
                ("VERSION", "version"),
                ("ARCH", "architecture"),
                ("SIZE", "size_bytes"),
                ("SHA256", "sha256"),
            ],
            Self::Founders => &[("COMPONENT", "component"), ("FOUNDER", "node")],
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Subject {
    type Err = UnknownSubject;
    fn from_str(text: &str) -> Result<Self, UnknownSubject> {
        let known = Self::ALL.into_iter().find(|subject| subject.as_str() == text);
        known.ok_or_else(|| UnknownSubject { word: super::style::clean(text) })
    }
}

/// Which nodes a list is about; all of them if it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only nodes of this role.
    pub role: Option<Role>,
    /// Only nodes of this group.
    pub group: Option<GroupName>,
    /// Only nodes of this site.
    pub site: Option<SiteName>,
}

impl Filter {
    fn is_open(&self) -> bool {
        *self == Self::default()
    }

    fn admits(&self, node: &DesiredNode) -> bool {
        self.role.is_none_or(|role| role == node.role)
            && self.group.as_ref().is_none_or(|group| *group == node.group)
            && self.site.as_ref().is_none_or(|site| *site == node.machine.site)
    }

    /// The roles of the nodes that are admitted.
    fn roles(&self, world: &World<'_>) -> BTreeSet<Role> {
        if self.is_open() {
            return Role::ALL.into_iter().collect();
        }
        world.desired.nodes.values().filter(|node| self.admits(node)).map(|node| node.role).collect()
    }

    /// Whether some admitted node carries the component.
    fn admits_component(roles: &BTreeSet<Role>, world: &World<'_>, name: &ComponentName) -> bool {
        world.stack.components.get(name).is_none_or(|component| !component.roles.is_disjoint(roles))
    }
}

fn items(subject: Subject, world: &World<'_>, filter: &Filter, now: Timestamp) -> Vec<Value> {
    match subject {
        Subject::Nodes => lists::nodes(world, filter, now),
        Subject::Components => lists::components(world, filter, now),
        Subject::Resources => lists::resources(world, filter),
        Subject::Checks => lists::checks(world, filter, now),
        Subject::Firewall => ports::firewall(world, filter),
        Subject::Waves => lists::waves(world, filter),
        Subject::Ports => ports::matrix(world, filter),
        Subject::Packages => lists::packages(world, filter),
        Subject::Founders => lists::founders(world, filter),
    }
}

/// A list, for people.
pub fn get_text(subject: Subject, world: &World<'_>, filter: &Filter, opts: &Opts) -> String {
    let columns = subject.columns();
    let heads: Vec<_> = columns.iter().map(|(head, _)| *head).collect();
    let mut table = Table::new(&heads);
    for item in items(subject, world, filter, opts.now) {
        table.row(columns.iter().map(|(_, field)| field_cell(&item, field)).collect::<Vec<_>>());
    }
    if table.is_empty() {
        let what = if subject == Subject::Firewall { "firewall rules" } else { subject.as_str() };
        return format!("there are no {what}{}\n", if filter.is_open() { "" } else { " that match" });
    }
    table.render(opts)
}

fn field_cell(item: &Value, field: &str) -> Cell {
    let value = item.pointer(&format!("/{field}")).unwrap_or(&Value::Null);
    match value {
        Value::Null => cell(""),
        Value::String(word) => toned(tone(word), word),
        Value::Array(words) => cell(words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")),
        Value::Number(number) => match number.as_u64() {
            Some(ms) if field.ends_with("_ms") => cell(duration(ms)),
            Some(size) if field.ends_with("_bytes") => cell(bytes(size)),
            _ => cell(number.to_string()),
        },
        other => cell(other.to_string()),
    }
}

fn tone(word: &str) -> Tone {
    match word {
        "ok" | "as declared" => Tone::Good,
        "critical" | "unknown" | "silent" | "never" | "absent" => Tone::Bad,
        "warning" | "paused" | "off" | "differs" | "not ready" | "not made" | "surplus" => Tone::Warn,
        _ => Tone::Plain,
    }
}

/// A list, as data.
pub fn get_json(subject: Subject, world: &World<'_>, filter: &Filter, now: Timestamp) -> Value {
    safe(json!({
        "format_version": FORMAT_VERSION,
        "kind": subject.as_str(),
        "items": items(subject, world, filter, now),
    }))
}
