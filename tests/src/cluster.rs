//! Clusters for tests: a blueprint in words of Rust, a stack, and a lock in which everything is pinned.

use std::collections::BTreeMap;

use castrum_blueprints::blueprint::{Access, Blueprint, Disk, Group, Limits, Site, Size, StackChoice};
use castrum_blueprints::desired::{Desired, resolve};
use castrum_blueprints::lock::{Lock, LockedComponent};
use castrum_blueprints::manifest::Blob;
use castrum_blueprints::names::{Digest, ResourceKind, Role, SiteName};
use castrum_blueprints::resource::Abilities;
use castrum_blueprints::stack::Stack;
use serde_json::{Value, json};

/// A declared cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Its blueprint.
    pub blueprint: Blueprint,
    /// Its stack.
    pub stack: Stack,
    /// Its lock file.
    pub lock: Lock,
}

/// The site of every group, unless a test says otherwise.
pub const SITE: &str = "here";

/// The setting of a simulated site that makes all that clouds make.
const CLOUD: &str = "cloud";

/// The name of the only site.
pub fn site() -> SiteName {
    SITE.parse().expect("a name")
}

impl Cluster {
    /// One without any group yet.
    pub fn new(stack: Stack) -> Self {
        let name = "demo".parse::<castrum_blueprints::names::ClusterName>().expect("a name");
        let mut lock = Lock::new("0123456789ab".parse().expect("an id"), name.clone());
        lock.agent = Some(blob("agent"));
        for (component, declared) in &stack.components {
            let bundle = declared.source.as_ref().map(|_| blob(component.as_str()));
            lock.components
                .insert(component.clone(), LockedComponent { bundle, ..LockedComponent::default() });
        }
        let sim = Site { provider: "sim".to_owned(), settings: BTreeMap::new() };
        let blueprint = Blueprint {
            name,
            sites: BTreeMap::from([(site(), sim)]),
            groups: BTreeMap::new(),
            stack: StackChoice { name: stack.name.clone(), settings: BTreeMap::new() },
            checks: BTreeMap::new(),
            limits: Limits::default(),
            access: Access::default(),
            state: None,
        };
        Self { blueprint, stack, lock }
    }

    /// The same with one more group.
    #[must_use]
    pub fn group(mut self, name: &str, role: Role, count: u32) -> Self {
        let group = Group {
            role,
            site: site(),
            count,
            size: Size { cpus: 2, memory_mib: 2048, disk_gib: 20 },
            disks: Vec::new(),
            zones: Vec::new(),
            open_ports: Vec::new(),
            labels: BTreeMap::new(),
            machines: Vec::new(),
        };
        self.blueprint.groups.insert(name.parse().expect("a name"), group);
        self
    }

    /// The same with another value of a component's setting.
    #[must_use]
    pub fn set(mut self, component: &str, setting: &str, value: Value) -> Self {
        let settings = self.blueprint.stack.settings.entry(component.to_owned()).or_default();
        settings.insert(setting.to_owned(), value);
        self
    }

    /// The same with other limits.
    #[must_use]
    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.blueprint.limits);
        self
    }

    /// The same on a place that makes all that clouds make, in two zones; its agents have a further disk each.
    #[must_use]
    pub fn cloud(mut self) -> Self {
        let settings = [(CLOUD, Value::Bool(true)), ("zones", json!(["a", "b"]))];
        let site = self.blueprint.sites.get_mut(&site()).expect("the only site");
        site.settings.extend(settings.map(|(key, value)| (key.to_owned(), value)));
        for group in self.blueprint.groups.values_mut().filter(|group| group.role == Role::Agent) {
            group.disks = vec![Disk { size_gib: 10, mount: "/data".to_owned() }];
        }
        self.blueprint.access.authorized_keys = vec!["ssh-ed25519 AAAA somebody".to_owned()];
        self
    }

    /// Whether its place makes all that clouds make.
    pub fn is_cloud(&self) -> bool {
        self.blueprint.sites[&site()].settings.contains_key(CLOUD)
    }

    /// The cluster as it shall be, on a place that makes networks and machines, or all that clouds make.
    pub fn desired(&self) -> Desired {
        self.desired_with(&self.lock)
    }

    /// The same with another lock.
    pub fn desired_with(&self, lock: &Lock) -> Desired {
        let simple = |kind: &ResourceKind| matches!(kind, ResourceKind::Network | ResourceKind::Machine);
        let made = |kind: &ResourceKind| simple(kind) || (self.is_cloud() && *kind != ResourceKind::Image);
        let abilities = Abilities {
            provider: "sim".to_owned(),
            kinds: ResourceKind::ALL.into_iter().filter(made).collect(),
            boot_data: true,
            power: true,
            ..Abilities::default()
        };
        let abilities = BTreeMap::from([(site(), abilities)]);
        resolve(&self.blueprint, &self.stack, lock, &abilities).expect("the cluster can be resolved")
    }
}

/// A made-up bundle.
pub fn blob(name: &str) -> Blob {
    Blob { digest: Digest::of(name.as_bytes()), size: 1_000_000 }
}

/// Three masters, `agents` private agents and one public agent, on the stack of the tests.
pub fn small(agents: u32) -> Cluster {
    Cluster::new(crate::camp::stack())
        .group("masters", Role::Master, 3)
        .group("agents", Role::Agent, agents)
        .group("edges", Role::PublicAgent, 1)
}
