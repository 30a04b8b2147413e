//! The blueprint as its author wrote it, typed: what could be read is there, and defaults of the table are filled in.
//!
//! A value that is missing or unusable has been reported by the time this is read, so it is `None` here only where
//! [`check`](crate::check) must not draw conclusions from it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::fields::BLUEPRINT;
use super::scalar::Meaning;
use super::shape::{Need, Record, Shape};
use super::tree::{Kind, Node};
use super::words::{gibibytes, mebibytes, port, seconds, state_place};
use crate::blueprint::{
    Access, Disk, ExistingMachine, Limits, OwnCheck, Port, Size, StackChoice, StatePlace,
};
use crate::names::Role;

/// A blueprint as written.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) name: Option<String>,
    pub(crate) sites: Vec<WrittenSite>,
    pub(crate) groups: Vec<WrittenGroup>,
    pub(crate) stack: StackChoice,
    pub(crate) checks: Vec<(String, Option<OwnCheck>)>,
    pub(crate) limits: Limits,
    pub(crate) access: Access,
    pub(crate) state: Given<StatePlace>,
}

/// A site as written.
#[derive(Debug, Clone)]
pub(crate) struct WrittenSite {
    pub(crate) name: String,
    pub(crate) provider: Option<String>,
    pub(crate) settings: BTreeMap<String, Value>,
}

/// A group as written.
#[derive(Debug, Clone)]
pub(crate) struct WrittenGroup {
    pub(crate) name: String,
    pub(crate) role: Option<Role>,
    pub(crate) site: Given<String>,
    pub(crate) count: Given<u32>,
    pub(crate) size: Size,
    pub(crate) disks: Vec<Option<Disk>>,
    pub(crate) zones: Vec<String>,
    pub(crate) open_ports: Vec<Option<Port>>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) machines: Given<Vec<Option<ExistingMachine>>>,
}

/// A value that may be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Given<T> {
    /// It was left out.
    No,
    /// It is there and wrong, which has been reported.
    Unusable,
    /// It is there.
    Yes(T),
}

/// A record in the tree: its fields by key, with the table's defaults.
#[derive(Clone, Copy)]
struct View<'a> {
    record: &'static Record,
    node: Option<&'a Node>,
}

impl<'a> View<'a> {
    fn node(self, key: &str) -> Option<&'a Node> {
        Some(&self.node?.entry(key)?.value)
    }

    /// The text of a scalar field, or else its default.
    fn text(self, key: &str) -> Option<&'a str> {
        match (self.node(key).map(|node| &node.kind), self.record.field(key)?.need) {
            (Some(Kind::Scalar(text, _)), _) => Some(text),
            (None, Need::Default(text)) => Some(text),
            _ => None,
        }
    }

    fn read<T>(self, key: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        self.text(key).and_then(parse)
    }

    fn owned(self, key: &str) -> Option<String> {
        self.text(key).map(str::to_owned)
    }

    fn number(self, key: &str) -> Option<u32> {
        self.read(key, number)
    }

    /// An optional scalar field, told apart from a wrong one.
    fn given<T>(self, key: &str, parse: impl FnOnce(&str) -> Option<T>) -> Given<T> {
        match self.node(key) {
            None => Given::No,
            Some(_) => self.read(key, parse).map_or(Given::Unusable, Given::Yes),
        }
    }

    fn record(self, key: &str) -> View<'a> {
        match self.record.field(key).map(|field| field.shape) {
            Some(Shape::Record(record)) => View { record, node: self.node(key) },
            _ => View { record: self.record, node: None },
        }
    }

    /// The record that each value of a map or list is.
    fn views(self, key: &str, nodes: impl Iterator<Item = &'a Node>) -> Vec<View<'a>> {
        let record = self.record.field(key).and_then(|field| field.shape.inner().1).unwrap_or(self.record);
        nodes.map(|node| View { record, node: Some(node) }).collect()
    }

    fn list(self, key: &str) -> impl Iterator<Item = &'a Node> {
        self.node(key).map(Node::items).unwrap_or_default().iter()
    }

    fn texts(self, key: &str) -> Vec<String> {
        self.list(key).filter_map(Node::text).map(str::to_owned).collect()
    }

    fn map<T>(self, key: &str, read: impl Fn(&Node) -> Option<T>) -> BTreeMap<String, T> {
        let entries = self.node(key).map(Node::entries).unwrap_or_default().iter();
        entries.filter_map(|entry| Some((entry.key.to_string(), read(&entry.value)?))).collect()
    }

    fn named(self, key: &str) -> Vec<(String, View<'a>)> {
        let entries = self.node(key).map(Node::entries).unwrap_or_default();
        let views = self.views(key, entries.iter().map(|entry| &entry.value));
        entries.iter().map(|entry| entry.key.to_string()).zip(views).collect()
    }
}

/// The blueprint that `root` holds.
pub(crate) fn read(root: Option<&Node>) -> Written {
    let view = View { record: &BLUEPRINT, node: root };
    let sites = view.named("sites").into_iter().map(|(name, site)| WrittenSite {
        name,
        provider: site.owned("provider"),
        settings: site.map("settings", value),
    });
    let stack = view.record("stack");
    Written {
        name: view.owned("name"),
        sites: sites.collect(),
        groups: view.named("groups").into_iter().map(|(name, group)| read_group(name, group)).collect(),
        stack: StackChoice {
            name: stack.owned("name").unwrap_or_default(),
            settings: stack.map("settings", |component| {
                let settings = component.entries().iter();
                Some(
                    settings
                        .filter_map(|entry| Some((entry.key.to_string(), value(&entry.value)?)))
                        .collect(),
                )
            }),
        },
        checks: view.named("checks").into_iter().map(|(name, check)| (name, read_check(check))).collect(),
        limits: read_limits(view.record("limits")),
        access: Access { authorized_keys: view.record("access").texts("authorizedKeys") },
        state: match view.node("state") {
            None => Given::No,
            Some(_) => read_state(view.record("state")).map_or(Given::Unusable, Given::Yes),
        },
    }
}

fn read_check(check: View<'_>) -> Option<OwnCheck> {
    let roles = check.list("roles").map(|node| node.text().and_then(role));
    let roles: BTreeSet<Role> = roles.collect::<Option<_>>()?;
    Some(OwnCheck {
        description: check.owned("description")?,
        run: check.owned("run")?,
        roles: if check.node("roles").is_some() { roles } else { Role::ALL.into() },
        every_seconds: check.read("every", seconds)?,
        timeout_seconds: check.read("timeout", seconds)?,
    })
}

fn role(text: &str) -> Option<Role> {
    Role::ALL.into_iter().find(|role| role.as_str() == text)
}

fn read_state(state: View<'_>) -> Option<StatePlace> {
    let (store, bucket, prefix) = state_place(state.text("place")?)?;
    Some(StatePlace {
        store,
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        endpoint: state.owned("endpoint"),
        region: state.owned("region"),
        lease_seconds: state.read("lease", seconds)?,
    })
}

fn read_group(name: String, group: View<'_>) -> WrittenGroup {
    let size = group.record("size");
    let machines = match group.node("machines").map(|node| &node.kind) {
        None => Given::No,
        Some(Kind::List(..)) => {
            let machines = group.views("machines", group.list("machines"));
            Given::Yes(machines.into_iter().map(read_machine).collect())
        }
        Some(_) => Given::Unusable,
    };
    let disks = group.views("disks", group.list("disks")).into_iter();
    WrittenGroup {
        name,
        role: group.read("role", role),
        site: group.given("site", |text| Some(text.to_owned())),
        count: group.given("count", number),
        size: Size {
            cpus: size.number("cpus").unwrap_or(0),
            memory_mib: size.read("memory", mebibytes).unwrap_or(0),
            disk_gib: size.read("disk", gibibytes).unwrap_or(0),
        },
        disks: disks
            .map(|disk| Some(Disk { size_gib: disk.read("size", gibibytes)?, mount: disk.owned("mount")? }))
            .collect(),
        zones: group.texts("zones"),
        open_ports: group.list("openPorts").map(|node| node.text().and_then(port)).collect(),
        labels: group.map("labels", |node| node.text().map(str::to_owned)),
        machines,
    }
}

fn read_machine(machine: View<'_>) -> Option<ExistingMachine> {
    Some(ExistingMachine {
        address: machine.owned("address")?,
        private_address: machine.read("privateAddress", |text| text.parse().ok()),
        port: machine.number("port").and_then(|port| u16::try_from(port).ok()),
        user: machine.owned("user"),
        key: machine.owned("key"),
        host_key: machine.owned("hostKey"),
    })
}

fn read_limits(limits: View<'_>) -> Limits {
    let defaults = Limits::default();
    Limits {
        boot_seconds: limits.read("boot", seconds).unwrap_or(defaults.boot_seconds),
        settle_seconds: limits.read("settle", seconds).unwrap_or(defaults.settle_seconds),
        silence_seconds: limits.read("silence", seconds).unwrap_or(defaults.silence_seconds),
        agents_at_once: limits.number("agentsAtOnce").unwrap_or(defaults.agents_at_once),
        depot_seeds: limits.number("depotSeeds").unwrap_or(defaults.depot_seeds),
    }
}

fn number(text: &str) -> Option<u32> {
    match Meaning::of_plain(text) {
        Meaning::Integer(value) => u32::try_from(value).ok(),
        _ => None,
    }
}

/// A node as plain data; `None` if something in it was refused.
pub(crate) fn value(node: &Node) -> Option<Value> {
    Some(match &node.kind {
        Kind::Refused => return None,
        Kind::List(items, _) => Value::Array(items.iter().map(value).collect::<Option<_>>()?),
        Kind::Map(entries, _) => {
            let entries = entries.iter().map(|entry| Some((entry.key.to_string(), value(&entry.value)?)));
            Value::Object(entries.collect::<Option<_>>()?)
        }
        Kind::Scalar(text, _) => match node.meaning()? {
            Meaning::Null => Value::Null,
            Meaning::Bool(value) => value.into(),
            Meaning::Integer(value) => value.into(),
            Meaning::Unsigned(value) => value.into(),
            Meaning::Float(value) => serde_json::Number::from_f64(value)?.into(),
            Meaning::Text => Value::String(text.to_string()),
        },
    })
}
