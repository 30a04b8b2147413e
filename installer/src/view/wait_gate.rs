//! Gates that `wait-for` waits for: how they are written, and whether they are open.

use std::fmt;
use std::str::FromStr;

use castrum_blueprints::desired::{Desired, DesiredNode};
use castrum_blueprints::names::{ComponentName, NameError, NodeName, Role, Timestamp};
use castrum_blueprints::observed::{Heard, Observed};
use castrum_blueprints::status::Phase;

use super::facts::worst_check;
use super::names::ranges;
use super::style::{age, clean};

/// Something that can be waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// Every node is heard, and every component that it carries is healthy.
    Healthy,
    /// The node's agent is heard.
    Node(NodeName),
    /// The node is heard, and every component that it carries is healthy.
    NodeHealthy(NodeName),
    /// The component is healthy on every node that carries it.
    Component(ComponentName),
    /// Every node of the role is heard and healthy.
    Role(Role),
    /// Every quorum store is healthy on a majority of its masters.
    Quorum,
}

/// Why a gate cannot be waited for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// It is not written as a gate is.
    #[error(
        "`{text}` is no gate; there are `healthy`, `quorum`, `node/NAME`, `node/NAME/healthy`, `component/NAME` and `role/ROLE`"
    )]
    Form {
        /// What was written.
        text: String,
    },
    /// It names what could not be a name.
    #[error("the gate names nothing that could exist")]
    Name(#[from] NameError),
    /// It names a role that there is not.
    #[error("`{text}` is no role; there are `master`, `agent` and `public-agent`")]
    Role {
        /// What was written.
        text: String,
    },
    /// The cluster has no such thing: what is waited for would never come.
    #[error("this cluster has no {what} `{name}`; it has {known}")]
    Absent {
        /// A node, a component, a role.
        what: &'static str,
        /// Its name.
        name: String,
        /// What there is.
        known: String,
    },
}

impl FromStr for Gate {
    type Err = GateError;
    fn from_str(text: &str) -> Result<Self, GateError> {
        let parts: Vec<&str> = text.split('/').collect();
        match parts[..] {
            ["healthy"] => Ok(Self::Healthy),
            ["quorum"] => Ok(Self::Quorum),
            ["node", name] => Ok(Self::Node(name.parse()?)),
            ["node", name, "healthy"] => Ok(Self::NodeHealthy(name.parse()?)),
            ["component", name] => Ok(Self::Component(name.parse()?)),
            ["role", name] => {
                let known = Role::ALL.into_iter().find(|role| role.as_str() == name);
                known.map(Self::Role).ok_or_else(|| GateError::Role { text: short(name) })
            }
            _ => Err(GateError::Form { text: short(text) }),
        }
    }
}

fn short(text: &str) -> String {
    clean(text).chars().take(80).collect()
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Healthy => f.write_str("healthy"),
            Self::Node(node) => write!(f, "node/{node}"),
            Self::NodeHealthy(node) => write!(f, "node/{node}/healthy"),
            Self::Component(name) => write!(f, "component/{name}"),
            Self::Role(role) => write!(f, "role/{role}"),
            Self::Quorum => f.write_str("quorum"),
        }
    }
}

/// How a gate stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Awaited {
    /// Whether it is open.
    pub open: bool,
    /// What is still awaited; what holds, if it is open.
    pub awaited: String,
    /// What was last seen of that.
    pub last_seen: String,
}

impl Gate {
    /// Whether the cluster has what the gate names.
    pub fn check(&self, desired: &Desired) -> Result<(), GateError> {
        let absent =
            |what, name: &str, known: String| Err(GateError::Absent { what, name: name.to_owned(), known });
        match self {
            Self::Node(node) | Self::NodeHealthy(node) if !desired.nodes.contains_key(node) => {
                absent("node", node.as_str(), ranges(desired.nodes.keys().map(NodeName::as_str), 6))
            }
            Self::Component(name) if !desired.carried.values().flatten().any(|carried| carried == name) => {
                let known: Vec<_> = desired.renderer.names().map(ComponentName::as_str).collect();
                absent("component", name.as_str(), known.join(", "))
            }
            Self::Role(role) if !desired.nodes.values().any(|node| node.role == *role) => {
                let known =
                    Role::ALL.into_iter().filter(|role| desired.nodes.values().any(|n| n.role == *role));
                absent("node of role", role.as_str(), known.map(Role::as_str).collect::<Vec<_>>().join(", "))
            }
            _ => Ok(()),
        }
    }

    /// How the gate stands.
    pub fn evaluate(&self, desired: &Desired, observed: &Observed, now: Timestamp) -> Awaited {
        let look = Look { desired, observed, now };
        match self {
            Self::Healthy => look.all_of(desired.nodes.iter(), "every node to be healthy"),
            Self::Role(role) => look.all_of(
                desired.nodes.iter().filter(|(_, node)| node.role == *role),
                &format!("every {role} to be healthy"),
            ),
            Self::NodeHealthy(name) => {
                look.all_of(desired.nodes.get_key_value(name), &format!("{name} to be healthy"))
            }
            Self::Node(name) => look.heard_gate(name),
            Self::Component(name) => look.component(name),
            Self::Quorum => look.quorum(),
        }
    }
}

/// One look at the world.
struct Look<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    now: Timestamp,
}

impl Look<'_> {
    fn heard(&self, name: &NodeName) -> Option<&Heard> {
        let heard = self.observed.nodes.get(name)?.heard.as_ref()?;
        let silence = u64::from(self.desired.limits.silence_seconds) * 1000;
        (self.now.since(heard.at) < silence).then_some(heard)
    }

    /// What keeps a node from being heard.
    fn unheard(&self, name: &NodeName) -> Option<String> {
        if self.heard(name).is_some() {
            return None;
        }
        let last = self.observed.nodes.get(name).and_then(|seen| seen.heard.as_ref());
        Some(match last.and_then(|heard| age(heard.at, self.now)) {
            Some(age) => format!("{name} was last heard {age} ago"),
            None => format!("{name} was never heard"),
        })
    }

    /// What keeps a component of a node from being healthy.
    fn unhealthy(&self, name: &NodeName, component: &ComponentName) -> Option<String> {
        let Some(heard) = self.heard(name) else { return self.unheard(name) };
        let Some(status) = heard.status.components.get(component) else {
            return Some(format!("{component} on {name} is not there yet"));
        };
        if status.phase == Phase::Healthy {
            return None;
        }
        let why = match (worst_check(status), &status.note) {
            (Some((check, result)), _) => format!(": check {check} is {}: {}", result.verdict, result.seen),
            (None, Some(note)) => format!(": {note}"),
            (None, None) => String::new(),
        };
        Some(format!("{component} on {name} is {}{why}", status.phase))
    }

    fn node_trouble(&self, name: &NodeName, node: &DesiredNode) -> Option<String> {
        if let Some(unheard) = self.unheard(name) {
            return Some(unheard);
        }
        let problem = self.heard(name).and_then(|heard| heard.status.problem.as_ref());
        let mut carried = self.desired.carried.get(&node.role).into_iter().flatten();
        let trouble = carried.find_map(|component| self.unhealthy(name, component));
        trouble.or_else(|| problem.map(|problem| format!("{name}: {problem}")))
    }

    fn all_of<'n>(
        &self,
        nodes: impl IntoIterator<Item = (&'n NodeName, &'n DesiredNode)>,
        wanted: &str,
    ) -> Awaited {
        let (mut total, mut missing, mut first) = (0, Vec::new(), None);
        for (name, node) in nodes {
            total += 1;
            if let Some(trouble) = self.node_trouble(name, node) {
                missing.push(name.as_str());
                first = first.or(Some(trouble));
            }
        }
        verdict((total, missing), first, wanted)
    }

    fn heard_gate(&self, name: &NodeName) -> Awaited {
        let unheard = self.unheard(name);
        let missing = if unheard.is_some() { vec![name.as_str()] } else { Vec::new() };
        verdict((1, missing), unheard, &format!("the agent of {name} to be heard"))
    }

    fn component(&self, component: &ComponentName) -> Awaited {
        let carriers = self.desired.nodes.iter().filter(|(_, node)| {
            self.desired.carried.get(&node.role).is_some_and(|carried| carried.contains(component))
        });
        let (mut total, mut missing, mut first) = (0, Vec::new(), None);
        for (name, _) in carriers {
            total += 1;
            if let Some(trouble) = self.unhealthy(name, component) {
                missing.push(name.as_str());
                first = first.or(Some(trouble));
            }
        }
        verdict((total, missing), first, &format!("{component} to be healthy on every node that carries it"))
    }

    fn quorum(&self) -> Awaited {
        let masters: Vec<_> = self
            .desired
            .nodes
            .iter()
            .filter(|(_, node)| node.role == Role::Master)
            .map(|(name, _)| name)
            .collect();
        let needed = masters.len() / 2 + 1;
        let carried = self.desired.carried.get(&Role::Master).into_iter().flatten();
        for component in carried.filter(|name| self.desired.renderer.is_quorum(name)) {
            let troubles: Vec<_> =
                masters.iter().filter_map(|name| self.unhealthy(name, component)).collect();
            let healthy = masters.len() - troubles.len();
            if healthy < needed {
                return Awaited {
                    open: false,
                    awaited: format!(
                        "{component} to be healthy on {needed} of {} masters; it is on {healthy}",
                        masters.len()
                    ),
                    last_seen: clean(troubles.first().map_or("", String::as_str)),
                };
            }
        }
        let open = !masters.is_empty();
        Awaited {
            open,
            awaited: "a majority of the masters".to_owned(),
            last_seen: format!("{} declared", masters.len()),
        }
    }
}

fn verdict((total, missing): (usize, Vec<&str>), first: Option<String>, wanted: &str) -> Awaited {
    if missing.is_empty() {
        let open = total > 0;
        let last_seen = if open { format!("{total} of {total}") } else { "there is none".to_owned() };
        return Awaited { open, awaited: wanted.to_owned(), last_seen };
    }
    let (done, names) = (total - missing.len(), ranges(missing.iter().copied(), 4));
    Awaited {
        open: false,
        awaited: format!("{wanted}; {done} of {total} are, and not {names}"),
        last_seen: clean(&first.unwrap_or_default()),
    }
}
