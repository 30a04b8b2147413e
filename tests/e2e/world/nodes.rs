//! Inside the nodes, through `castrum node ssh`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Ran, World};

const COMMAND: Duration = Duration::from_secs(30);

/// The units of Castrum on all nodes, by node and unit: which start of each it is.
pub type Units = BTreeMap<(String, String), String>;

impl World {
    /// Runs a command on a node.
    pub fn try_on(&self, node: &str, command: &str) -> Ran {
        self.start(&["node", "ssh", node, "--", command]).wait(COMMAND)
    }

    /// Runs a command on a node, which must succeed; what it wrote.
    pub fn on(&self, node: &str, command: &str) -> String {
        let ran = self.try_on(node, command);
        assert_eq!(ran.code, 0, "`{command}` on {node}\n{}", ran.tail());
        ran.stdout
    }

    /// Docker on a node.
    pub fn docker(&self, node: &str, words: &str) -> String {
        self.on(node, &format!("sudo /opt/castrum/active/docker/store/usr/bin/docker {words}"))
    }

    /// Every start of every unit of ours.
    pub fn units(&self) -> Units {
        let mut units = Units::new();
        for node in self.nodes() {
            let shown =
                self.on(node, "systemctl show 'castrum-*.service' --property=Id,InvocationID,ActiveState");
            for block in shown.split("\n\n") {
                let field =
                    |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
                assert_eq!(field("ActiveState="), "active", "{} on {node}", field("Id="));
                units.insert((node.clone(), field("Id=").to_owned()), field("InvocationID=").to_owned());
            }
        }
        assert!(units.len() > self.nodes().len() * 3, "{units:?}");
        units
    }
}
