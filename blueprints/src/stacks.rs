//! The stacks that Castrum brings along, as the text of their folders.

use crate::stack::StackFiles;

macro_rules! folder {
    ($root:literal: $($path:literal),+ $(,)?) => {
        &[$(($path, include_str!(concat!("../stacks/", $root, "/", $path)))),+]
    };
}

/// `stacks/swarm`: etcd, Docker Engine in swarm mode, metrics, admin router and edge proxy.
const SWARM: &[(&str, &str)] = folder!("swarm":
    "stack.yaml",
    "containerd/config.toml.hbs",
    "containerd/unit.service.hbs",
    "docker/daemon.json.hbs",
    "docker/unit.service.hbs",
    "edge/Caddyfile.hbs",
    "edge/unit.service.hbs",
    "etcd/etcd.yaml.hbs",
    "etcd/unit.service.hbs",
    "node-exporter/unit.service.hbs",
    "node-exporter/web.yaml.hbs",
    "prometheus/prometheus.yaml.hbs",
    "prometheus/unit.service.hbs",
    "router/Caddyfile.hbs",
    "router/index.html.hbs",
    "router/unit.service.hbs",
);

/// The names of the stacks.
pub const NAMES: [&str; 1] = ["swarm"];

/// The folder of the stack `name`; `None` if Castrum brings none of that name.
pub fn files(name: &str) -> Option<StackFiles> {
    let folder = match name {
        "swarm" => SWARM,
        _ => return None,
    };
    Some(folder.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::Stack;

    #[test]
    fn every_stack_is_valid_and_its_waves_begin_at_one() {
        for name in NAMES {
            let stack = Stack::read(&files(name).expect("a stack")).expect("valid");
            assert_eq!(stack.name, name);
            assert_eq!(stack.waves.values().min(), Some(&1));
        }
    }
}
