//! What machines stand on while a provider is checked: one resource of each kind that the place makes, and a machine that
//! is attached to all of them.

use castrum_blueprints::blueprint::{Port, Protocol, Size};
use castrum_blueprints::names::{ResourceKind, Role};

use super::{Miss, Opened, Suite, skipped};
use crate::{
    AddressSpec, Attachments, Exit, FirewallRule, FirewallSpec, ImageSpec, KeySpec, LoadBalancerSpec,
    MachineSpec, NetworkSpec, PlacementSpec, ResourceSpec, SubnetSpec, VolumeSpec, Wanted, Zone,
};

/// The memory of a machine, and that of a larger one.
const MEMORY: [u64; 2] = [512, 1024];
const RELEASE: &str = "debian-12";
const NETWORK: &str = "nodes";
const PURPOSE: &str = "held to the contract";
const PORT: Port = Port { number: 7443, protocol: Protocol::Tcp };
/// Of a key that was thrown away.
const PUBLIC_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICTDjY7u8MD+OUft4gjibMmsxDFBHmX+lIrOcvu8of9v castrum-check";

/// One of each kind but machines, in the order in which they are made.
pub(super) fn one_of_each(zone: &str) -> Vec<(&'static str, ResourceSpec)> {
    let (network, purpose, zone) = (NETWORK.to_owned(), PURPOSE.to_owned(), zone.to_owned());
    let subnet = |exit, gateway: Option<&str>| {
        let gateway = gateway.map(str::to_owned);
        ResourceSpec::Subnet(SubnetSpec { network: network.clone(), zone: zone.clone(), exit, gateway })
    };
    let address = || ResourceSpec::Address(AddressSpec { purpose: purpose.clone() });
    let rules = vec![
        FirewallRule { port: PORT, from: Zone::Own },
        FirewallRule { port: Port { number: 22, ..PORT }, from: Zone::Admin },
    ];
    vec![
        (RELEASE, ResourceSpec::Image(ImageSpec { release: RELEASE.to_owned() })),
        (NETWORK, ResourceSpec::Network(NetworkSpec { nodes: 8, cidr: None })),
        ("gateway", address()),
        ("machine", address()),
        ("public", subnet(Exit::Direct, Some("gateway"))),
        ("private", subnet(Exit::Through("public".to_owned()), None)),
        (
            "nodes",
            ResourceSpec::Firewall(FirewallSpec {
                network: network.clone(),
                purpose: purpose.clone(),
                rules,
            }),
        ),
        ("access", ResourceSpec::Key(KeySpec { public_key: PUBLIC_KEY.to_owned() })),
        ("spread", ResourceSpec::Placement(PlacementSpec { purpose: purpose.clone() })),
        ("data", ResourceSpec::Volume(VolumeSpec { zone: zone.clone(), size_gib: 1 })),
        (
            "public",
            ResourceSpec::LoadBalancer(LoadBalancerSpec {
                network: network.clone(),
                purpose: purpose.clone(),
                subnets: vec!["public".to_owned()],
                firewalls: vec!["nodes".to_owned()],
                ports: vec![PORT],
            }),
        ),
    ]
}

impl Suite<'_> {
    fn zone(&self) -> &str {
        self.ground.zones.first().map_or("a", String::as_str)
    }

    /// What machines stand on, where the place has it.
    pub(super) fn base(&self, opened: &Opened) -> Vec<Wanted> {
        let kinds = opened.provider.abilities().kinds;
        let wanted = one_of_each(self.zone()).into_iter().filter(|(_, spec)| kinds.contains(&spec.kind()));
        wanted.map(|(name, spec)| self.wanted(name, spec)).collect()
    }

    /// The `number`-th machine, larger if `large`; the first one has a volume and an address of its own.
    pub(super) fn machine(&self, opened: &Opened, number: usize, large: bool) -> Result<Wanted, Miss> {
        let abilities = opened.provider.abilities();
        if !abilities.kinds.contains(&ResourceKind::Machine) {
            return Err(skipped("it makes no machines"));
        }
        let Some((node, existing)) = self.ground.nodes.get(number) else {
            return Err(skipped(format!("it needs {} machines", number + 1)));
        };
        let attached = attachments(&abilities.kinds, number == 0);
        let own_image = abilities.kinds.contains(&ResourceKind::Image).then(|| RELEASE.to_owned());
        let spec = MachineSpec {
            node: node.clone(),
            role: Role::Agent,
            size: Size { cpus: 1, memory_mib: MEMORY[usize::from(large)], disk_gib: 4 },
            disks: Vec::new(),
            zone: attached.subnet.is_some().then(|| self.zone().to_owned()),
            image: own_image.or_else(|| self.ground.image.clone()),
            open_ports: Vec::new(),
            existing: existing.clone(),
            attached,
        };
        let boot_data = abilities.boot_data.then(|| self.boot_data("first"));
        let wanted = self.wanted(node.as_str(), ResourceSpec::Machine(Box::new(spec)));
        Ok(Wanted { boot_data, ..wanted })
    }
}

fn attachments(kinds: &[ResourceKind], first: bool) -> Attachments {
    let one = |kind, name: &str| kinds.contains(&kind).then(|| name.to_owned());
    let own = |kind, name: &str| one(kind, name).filter(|_| first);
    Attachments {
        subnet: one(ResourceKind::Subnet, "public"),
        firewalls: one(ResourceKind::Firewall, "nodes").into_iter().collect(),
        address: own(ResourceKind::Address, "machine"),
        key: one(ResourceKind::Key, "access"),
        placement: one(ResourceKind::Placement, "spread"),
        volumes: own(ResourceKind::Volume, "data").into_iter().collect(),
        balancers: one(ResourceKind::LoadBalancer, "public").into_iter().collect(),
    }
}
