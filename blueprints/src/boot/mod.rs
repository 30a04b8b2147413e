//! Boot data: what a new machine is told at its first boot, as cloud-init user-data.
//!
//! It holds one secret, the one-time join token. A node that the installer enrolls over SSH gets the token only to prove
//! its host keys; all others also get what they need to fetch the agent from the depot and to join. JSON is YAML, so the
//! document is made by a serializer and needs no quoting of our own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::manifest::{AGENT_PORT, Peer, SignedManifest};
use crate::names::{ClusterId, Digest, NodeName, ResourceKind, ResourcePath, Role};
use crate::resource::{MachineSpec, ResourceSeen};
use crate::trust::{HOST_KEY_PROOF_SCRIPT, JoinToken};

/// The path of a node's [`BootConfig`].
pub const BOOT_FILE: &str = "/var/lib/castrum/boot.json";
/// The path of a node's join token; the agent removes it once it has its certificate.
pub const TOKEN_FILE: &str = "/var/lib/castrum/token";
/// Where a node that is admitted anew prepares its new identity, as if the folder were the root of a machine.
pub const ANEW_DIR: &str = "/var/lib/castrum/anew";
/// The path of the agent's program.
pub const AGENT_FILE: &str = "/opt/castrum/bin/castrum-agent";
/// The path of the agent's systemd unit.
pub const AGENT_UNIT_FILE: &str = "/etc/systemd/system/castrum-agent.service";
/// The text of the agent's systemd unit.
pub const AGENT_UNIT: &str = include_str!("castrum-agent.service");
/// The user that the installer logs in as; it has sudo without a password.
pub const LOGIN_USER: &str = "castrum";
/// User-data must be smaller than this: EC2 takes 16 KiB, the least of all clouds.
pub const USER_DATA_LIMIT: usize = 16 * 1024;

/// The script that puts further disks where they belong.
pub const DISKS_SCRIPT: &str = include_str!("disks.py");

const FETCH_AGENT: &str = include_str!("fetch_agent.py");
const HOST_KEYS_SCRIPT_FILE: &str = "/var/lib/castrum/host-keys.py";
const FETCH_AGENT_FILE: &str = "/var/lib/castrum/fetch-agent.py";
const DISKS_SCRIPT_FILE: &str = "/var/lib/castrum/disks.py";
const DISKS_FILE: &str = "/var/lib/castrum/disks.json";

/// What an agent must know before it has its first manifest. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootConfig {
    /// 1.
    pub format_version: u32,
    /// The cluster.
    pub cluster: ClusterId,
    /// The node that this machine is.
    pub node: NodeName,
    /// What the node is for.
    pub role: Role,
    /// Which machine of that name.
    pub incarnation: u64,
    /// When its token expires, in seconds since 1970.
    pub expires: u64,
    /// The masters, which it joins through.
    pub masters: Vec<Peer>,
    /// The cluster's CA certificate in PEM.
    pub ca: String,
    /// The key that manifests are signed with (Ed25519), in base64.
    pub verify_key: String,
    /// The agent's blob, which a machine without a certificate may fetch.
    pub agent: Option<Digest>,
    /// The port of the agents' API.
    pub api_port: u16,
    /// The CA certificates of keyrings that were lost, in PEM: components may show certificates of theirs. The agents' own
    /// API does not trust them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former_cas: Vec<String>,
}

/// What a node that is admitted anew is handed with its new identity: manifests that it or its master holds already,
/// signed anew. Nothing of them changes but the signature.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handover {
    /// The manifest that the node holds.
    pub held: Option<SignedManifest>,
    /// On masters: those that they keep for other nodes.
    pub relayed: Vec<SignedManifest>,
}

impl BootConfig {
    /// The format and port that this version writes.
    pub const FORMAT: u32 = 1;
    /// The port of the agents' API.
    pub const PORT: u16 = AGENT_PORT;

    /// The text of the file.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("a boot config is plain data")
    }
}

/// A volume, and where the machine mounts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootDisk {
    /// The place's own id of the volume.
    pub volume: String,
    /// An absolute path.
    pub mount: String,
}

/// The volumes that a machine is given as further disks, as far as they exist. Places without volumes bring disks along.
pub fn disks(
    machine: &ResourcePath,
    spec: &MachineSpec,
    seen: &BTreeMap<ResourcePath, ResourceSeen>,
) -> Vec<BootDisk> {
    let path =
        |name: &String| ResourcePath { kind: ResourceKind::Volume, name: name.clone(), ..machine.clone() };
    let pairs = spec.attached.volumes.iter().zip(&spec.disks);
    let disks = pairs.filter_map(|(name, disk)| {
        let volume = seen.get(&path(name))?.id.clone();
        Some(BootDisk { volume, mount: disk.mount.clone() })
    });
    disks.collect()
}

/// What user-data is made from.
#[derive(Debug)]
pub struct UserData<'a> {
    /// The node.
    pub node: &'a NodeName,
    /// The public key lines that may log in.
    pub authorized_keys: Vec<String>,
    /// The node's token.
    pub token: &'a JoinToken,
    /// The volumes that it mounts.
    pub disks: Vec<BootDisk>,
    /// What a node needs that fetches the agent by itself; `None`: the installer brings it.
    pub joins: Option<&'a BootConfig>,
}

/// Renders user-data (cloud-init's `#cloud-config`).
pub fn user_data(input: &UserData<'_>) -> String {
    let file =
        |path: &str, mode: &str, text: &str| json!({ "path": path, "permissions": mode, "content": text });
    let mut files = vec![
        file(TOKEN_FILE, "0600", &input.token.expose()),
        file(HOST_KEYS_SCRIPT_FILE, "0600", HOST_KEY_PROOF_SCRIPT),
    ];
    let mut commands = vec![json!(["python3", HOST_KEYS_SCRIPT_FILE, TOKEN_FILE])];
    if !input.disks.is_empty() {
        files.push(file(DISKS_SCRIPT_FILE, "0600", DISKS_SCRIPT));
        files.push(file(DISKS_FILE, "0600", &json!(input.disks).to_string()));
        commands.push(json!(["python3", DISKS_SCRIPT_FILE, DISKS_FILE]));
    }
    if let Some(boot) = input.joins {
        files.push(file(BOOT_FILE, "0600", &boot.to_text()));
        files.push(file(AGENT_UNIT_FILE, "0644", AGENT_UNIT));
        files.push(file(FETCH_AGENT_FILE, "0600", FETCH_AGENT));
        commands.push(json!(["python3", FETCH_AGENT_FILE, BOOT_FILE]));
    }
    let document = json!({
        "hostname": input.node,
        "preserve_hostname": false,
        "manage_etc_hosts": "localhost",
        "locale": false,
        "ssh_genkeytypes": ["ed25519"],
        "ssh_pwauth": false,
        "users": [{
            "name": LOGIN_USER,
            "gecos": "Castrum",
            "shell": "/bin/bash",
            "lock_passwd": true,
            "sudo": "ALL=(ALL) NOPASSWD:ALL",
            "ssh_authorized_keys": input.authorized_keys,
        }],
        "write_files": files,
        "runcmd": commands,
    });
    format!("#cloud-config\n{document}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot() -> BootConfig {
        BootConfig {
            format_version: BootConfig::FORMAT,
            cluster: "0123456789ab".parse().expect("an id"),
            node: "agents-1".parse().expect("a name"),
            role: Role::Agent,
            incarnation: 1,
            expires: 2_000_000_000,
            masters: (1..=7)
                .map(|n| Peer {
                    name: format!("masters-{n}").parse().expect("a name"),
                    address: [10, 0, 0, n].into(),
                })
                .collect(),
            ca: "x".repeat(900),
            verify_key: "y".repeat(44),
            agent: Some(Digest::of(b"agent")),
            api_port: BootConfig::PORT,
            former_cas: Vec::new(),
        }
    }

    #[test]
    fn user_data_is_cloud_config_and_within_the_limit_of_every_cloud() {
        let token = JoinToken::parse(&"ab".repeat(32)).expect("a token");
        let (boot, node) = (boot(), "agents-1".parse().expect("a name"));
        let keys = vec!["ssh-ed25519 AAAA".to_owned(); 8];
        let disks = (1..=8).map(|number| BootDisk {
            volume: format!("vol-{number:017x}"),
            mount: format!("/srv/disk-{number}"),
        });
        let text = user_data(&UserData {
            node: &node,
            authorized_keys: keys,
            token: &token,
            disks: disks.collect(),
            joins: Some(&boot),
        });
        let yaml: serde_json::Value = serde_saphyr::from_str(&text).expect("user-data is YAML");
        assert_eq!(yaml["hostname"], "agents-1");
        assert_eq!(yaml["write_files"].as_array().map(Vec::len), Some(7));
        assert!(text.len() < USER_DATA_LIMIT, "{} bytes", text.len());
    }

    #[test]
    fn a_node_that_the_installer_enrolls_is_told_nothing_but_its_token() {
        let token = JoinToken::parse(&"ab".repeat(32)).expect("a token");
        let node = "masters-1".parse().expect("a name");
        let text = user_data(&UserData {
            node: &node,
            authorized_keys: Vec::new(),
            token: &token,
            disks: Vec::new(),
            joins: None,
        });
        assert!(
            !text.contains(DISKS_FILE) && !text.contains(BOOT_FILE) && !text.contains("BEGIN CERTIFICATE")
        );
        assert!(text.contains(&*token.expose()));
    }
}
