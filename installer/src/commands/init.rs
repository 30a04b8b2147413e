//! `castrum init`: a commented blueprint to begin with. It is valid as it is written.

use castrum_blueprints::names::{ClusterName, SiteName};

/// A provider that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot be the name of a provider")]
pub struct NotAProvider(String);

/// A blueprint of the cluster `name` on `provider`.
pub fn init(name: &ClusterName, provider: &str) -> Result<String, NotAProvider> {
    // Providers are named by the same rule as sites.
    if provider.parse::<SiteName>().is_err() {
        return Err(NotAProvider(provider.to_owned()));
    }
    let groups = if provider == "ssh" { EXISTING } else { MADE };
    let site = match provider {
        "local" => "on this machine, each node a Debian of its own; it needs root",
        "ssh" => "machines that exist already, reached over SSH",
        "sim" => "simulated, for trying plans and forecasts",
        _ => "made by the executable `castrum-provider-NAME` beside `castrum` or on PATH",
    };
    Ok(TEMPLATE
        .replace("@groups@", groups)
        .replace("@about@", site)
        .replace("@provider@", provider)
        .replace("@name@", name.as_str()))
}

const TEMPLATE: &str = "\
# A blueprint: everything about one cluster. `castrum explain` tells what each field means, `castrum validate` checks
# this file, `castrum plan` shows what would be done, and `castrum apply` does it.
apiVersion: castrum/v1
name: @name@

# The places that nodes are made in: @about@.
sites:
  here: { provider: @provider@ }

@groups@
# The platform. Settings are by component, as in `settings: { prometheus: { retention: 7d } }`.
stack: { name: swarm }

# How long to wait, and how much to disturb at once. These are the defaults.
limits:
  boot: 5m
  settle: 3m
  silence: 30s
  agentsAtOnce: 10

# Who may log in as `castrum`, beside Castrum itself.
access:
  authorizedKeys: []
";

const MADE: &str = "\
groups:
  # 1, 3, 5 or 7 masters: they carry the quorum store and the control plane; 3 survive the loss of one.
  masters:
    role: master
    count: 3
    # size: { cpus: 2, memory: 4GiB, disk: 20GiB }
  # Workloads run here; reached from inside only.
  agents:
    role: agent
    count: 1
    # labels: { tier: gold }
    # disks: [{ size: 100GiB, mount: /data }]
  # The edge runs here; reached from outside.
  public:
    role: public-agent
    count: 1
    # openPorts: [8080/tcp]
";

const EXISTING: &str = "\
# The addresses are examples: put your machines here. A machine can also have `user`, `port`, `key` (the path of a
# private key), `hostKey` (a public key; without one it must be in `known_hosts`) and `privateAddress`.
groups:
  # 1, 3, 5 or 7 masters: they carry the quorum store and the control plane; 3 survive the loss of one.
  masters:
    role: master
    machines:
      - { address: 192.0.2.11 }
      - { address: 192.0.2.12 }
      - { address: 192.0.2.13 }
  # Workloads run here; reached from inside only.
  agents:
    role: agent
    machines:
      - { address: 192.0.2.21 }
  # The edge runs here; reached from outside.
  public:
    role: public-agent
    machines:
      - { address: 192.0.2.31 }
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::fmt::fmt;
    use crate::commands::validate::validate;

    #[test]
    fn every_beginning_is_valid_and_canonical() {
        let name: ClusterName = "first".parse().expect("a name");
        for provider in ["local", "ssh", "sim", "aws"] {
            let text = init(&name, provider).expect("a blueprint");
            let verdict = validate("cluster.yaml", text.as_bytes());
            assert_eq!(verdict.findings.list, [], "{provider}");
            assert!(!fmt("cluster.yaml", text.as_bytes()).expect("a layout").changed, "{provider}");
            assert!(!text.contains('@') && text.contains("name: first\n"), "{text}");
            let blueprint = verdict.blueprint.expect("a blueprint");
            assert!(blueprint.sites.values().all(|site| site.provider == provider));
        }
    }

    /// Who takes away a `#` must not be met by an error.
    #[test]
    fn what_is_commented_out_is_valid_too() {
        let name: ClusterName = "first".parse().expect("a name");
        let text = init(&name, "local").expect("a blueprint");
        let text = ["size:", "labels:", "disks:", "openPorts:"]
            .iter()
            .fold(text, |text, key| text.replace(&format!("# {key}"), key));
        let verdict = validate("cluster.yaml", text.as_bytes());
        assert_eq!(verdict.findings.list, []);
        assert_eq!(verdict.blueprint.expect("a blueprint").groups["agents"].disks.len(), 1);
    }

    #[test]
    fn a_provider_has_a_name() {
        let name: ClusterName = "first".parse().expect("a name");
        assert!(init(&name, "x: {").is_err());
    }
}
