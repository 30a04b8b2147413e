//! Machines that exist already: made by the provider alone, with a user of their own and nothing of Castrum.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use castrum_blueprints::blueprint::Size;
use castrum_blueprints::names::{ClusterId, Digest, ResourceKind, ResourcePath, Role};
use castrum_provider::{
    Attachments, BootData, ImageSpec, MachineSpec, NetworkSpec, Provider, ResourceSpec, Wanted,
};
use castrum_provider_local::{Local, LocalOptions};

use super::{block_on, leftovers, program, until, whether};

/// In a project folder: whose machines its cluster lives on.
const NOTE: &str = "ground";
/// The private key of the machines' user, in the project folder.
const KEY: &str = "id_ed25519";
/// The machines' user.
const USER: &str = "keeper";

/// Cloud-init's last word.
const BOOTED: &str = "/var/lib/cloud/data/result.json";
const BOOT: Duration = Duration::from_mins(1);

/// The machines of one project folder, `rack-1` and so on.
pub struct Ground {
    dir: PathBuf,
    cluster: ClusterId,
    addresses: Vec<IpAddr>,
}

impl Ground {
    /// Makes the machines. The note comes first, so that a run that is killed leaves nothing that cannot be found.
    pub(super) fn make(dir: &Path, machines: u32) -> Self {
        let unique = format!("{} {:?}", dir.display(), std::time::SystemTime::now());
        let cluster: ClusterId = Digest::of(unique.as_bytes()).short().parse().expect("an id");
        fs::write(dir.join(NOTE), cluster.as_str()).expect("a note");
        let key = new_key(&dir.join(KEY));
        let addresses = block_on(async {
            let provider = local(&cluster);
            let image = ResourceSpec::Image(ImageSpec { release: "debian-12".to_owned() });
            let network = ResourceSpec::Network(NetworkSpec { nodes: machines, cidr: None });
            for (kind, name, spec) in
                [(ResourceKind::Image, "base", image), (ResourceKind::Network, "main", network)]
            {
                provider.ensure(&wanted(kind, name, spec, None)).await.expect("what machines need");
            }
            let made = (1..=machines).map(|number| {
                let (provider, wanted) = (provider.clone(), machine(number, &key));
                async move { provider.ensure(&wanted).await.expect("a machine").seen }
            });
            let made = futures_util::future::join_all(made).await;
            made.into_iter()
                .map(|seen| seen.machine.expect("a machine").address.expect("an address"))
                .collect()
        });
        let ground = Self { dir: dir.to_owned(), cluster, addresses };
        for number in 1..=ground.addresses.len() {
            until(BOOT, "the machine's first boot", || {
                whether(ground.try_in(number, &format!("test -s {BOOTED}")).is_ok())
            });
            let booted = ground.inside(number, &format!("cat {BOOTED}"));
            assert!(booted.contains("\"errors\": []"), "{booted}");
        }
        ground
    }

    /// The machines as a group of a blueprint lists them.
    pub(super) fn listed(&self, numbers: impl Iterator<Item = usize>) -> String {
        let listed = numbers.map(|number| {
            let host_key = self.inside(number, "cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub");
            format!(
                "{{ address: {}, user: {USER}, key: {}, hostKey: {} }}",
                self.addresses[number - 1],
                self.dir.join(KEY).display(),
                host_key.trim()
            )
        });
        listed.collect::<Vec<_>>().join(", ")
    }

    /// Runs a shell line as root in a machine, past Castrum and SSH; what it wrote.
    pub fn inside(&self, number: usize, line: &str) -> String {
        self.try_in(number, line).unwrap_or_else(|said| panic!("`{line}` in rack-{number}: {said}"))
    }

    fn try_in(&self, number: usize, line: &str) -> Result<String, String> {
        self.enter(number, &["--all", "--root", "--wd=/", "sh", "-c", line])
    }

    fn enter(&self, number: usize, words: &[&str]) -> Result<String, String> {
        let folder = LocalOptions::default().state_root.join(self.cluster.as_str()).join("ground/machine");
        let init = fs::read(folder.join(format!("rack-{number}")).join("init.json"));
        let init: serde_json::Value = serde_json::from_slice(&init.map_err(|error| error.to_string())?)
            .map_err(|error| error.to_string())?;
        let ran = Command::new("nsenter")
            .args(["--target", &init["pid"].to_string()])
            .args(words)
            .stdin(Stdio::null())
            .output()
            .expect("`nsenter` starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if ran.status.success() { Ok(text(&ran.stdout)) } else { Err(text(&ran.stderr) + &text(&ran.stdout)) }
    }

    /// Everything about a machine that somebody who lends it would look at, one fact a line.
    pub fn inventory(&self, number: usize) -> BTreeSet<String> {
        let mut facts = lines("", &self.inside(number, INVENTORY));
        for (what, words) in NETWORK {
            let said = self.enter(number, &[&["--net"], *words].concat());
            facts.extend(lines(what, &said.expect("the network is told")));
        }
        facts
    }

    /// The rules for packets of a machine that has been lent, by the tool that the cluster's engine brought.
    pub fn rules(&self, number: usize) -> BTreeSet<String> {
        lines("", &self.inside(number, "/tmp/tables iptables-save 2>/dev/null"))
    }

    /// Puts the tool where a release does not look.
    pub fn keep_tables(&self, number: usize) {
        self.inside(number, KEEP_TABLES);
    }
}

/// Inside a machine, all of it but what changes by itself or by being looked at:
///
/// - logs, temporary folders, and what systemd keeps of units, clocks and sessions (`/var/log`, `/tmp`, `/var/tmp`,
///   `/var/lib/systemd`, `/run/systemd`);
/// - that somebody logs in: the session, its user manager, the message of the day, what `sudo` remembers;
/// - the copies that account tools keep of what they changed last (`/etc/passwd-` and its like);
/// - how many connections the kernel follows just now.
const INVENTORY: &str = r#"
for process in /proc/[0-9]*; do
    [ "$(readlink $process/ns/pid)" = "$(readlink /proc/1/ns/pid)" ] || continue
    # This very shell and its children are not the machine's.
    [ "$(awk '/^PPid/ {print $2}' $process/status)" != 0 ] || [ $process = /proc/1 ] || continue
    [ "$(awk '/^PPid/ {print $2}' $process/status)" != $$ ] || continue
    sed 's/^/process /' $process/comm
done 2>/dev/null | grep -vxE 'process (systemd|\(sd-pam\))'
find / -xdev \( -path /var/log -o -path /tmp -o -path /var/tmp -o -path /var/lib/systemd \) -prune -o \
    -printf 'file %p %y %m %u:%g %l\n'
find /etc /opt /usr/local /root /home -xdev -type f ! -path '/etc/*-' -exec sha256sum {} + | sed 's/^/content /'
find /run -path '/run/systemd/*' -prune -o -path '/run/user/*' -prune -o -path '/run/sudo*' -prune -o \
    ! -path /run/motd.dynamic -printf 'run %p %y %m %u:%g\n'
systemctl list-unit-files --no-legend --plain | sed 's/^/unit file /'
systemctl list-units --no-legend --plain --full | awk '{print "unit", $1, $3}' | grep -vE 'user-|user@|session-|run-user-'
awk '{print "mount", $5}' /proc/1/mountinfo | grep -v ' /run/user/'
find /sys/fs/cgroup -type d -path '*castrum*' | sed 's/^/group /'
find /proc/sys/net -type f ! -name nf_conntrack_count -exec grep -H . {} + 2>/dev/null | sed 's/^/setting /'
"#;

/// In a machine's network, by the tools of this machine.
const NETWORK: &[(&str, &[&str])] = &[
    ("port ", &["sh", "-c", "ss -Hlntu | awk '{print $1, $5}'"]),
    ("link ", &["sh", "-c", "ip -o link | awk '{print $2}'"]),
    ("address ", &["sh", "-c", "ip -o address | awk '{print $2, $4}'"]),
    ("route ", &["ip", "route"]),
];

const KEEP_TABLES: &str = r#"
set -e
cp -rL /opt/castrum/active/docker/store/usr/lib/x86_64-linux-gnu /tmp/lib
cp -L /opt/castrum/active/docker/store/usr/sbin/xtables-nft-multi /tmp/lib/multi
printf '#!/bin/sh\nLD_LIBRARY_PATH=/tmp/lib XTABLES_LIBDIR=/tmp/lib/xtables exec /tmp/lib/multi "$@"\n' >/tmp/tables
chmod 755 /tmp/tables
"#;

fn lines(what: &str, text: &str) -> BTreeSet<String> {
    text.lines().map(|line| format!("{what}{line}")).collect()
}

/// Removes the machines of a project folder; what stays.
pub(super) fn raze(dir: &Path) -> Vec<String> {
    let Ok(note) = fs::read_to_string(dir.join(NOTE)) else { return Vec::new() };
    // A run that was killed while it wrote the note had made nothing.
    let Ok(cluster) = note.parse::<ClusterId>() else { return Vec::new() };
    if leftovers(&cluster).is_empty() {
        return Vec::new();
    }
    block_on(async {
        let provider = local(&cluster);
        for path in provider.observe().await.seen.keys().rev() {
            if let Err(failure) = provider.remove(path).await {
                eprintln!("`{path}`: {failure}");
            }
        }
    });
    leftovers(&cluster)
}

fn local(cluster: &ClusterId) -> Local {
    let options = LocalOptions { launcher: program(), ..LocalOptions::default() };
    Local::new(cluster.clone(), "ground".parse().expect("a name"), options)
}

fn new_key(path: &Path) -> String {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", USER, "-f"]).arg(path).stdin(Stdio::null());
    assert!(command.status().expect("`ssh-keygen` starts").success());
    fs::read_to_string(path.with_extension("pub")).expect("a public key").trim().to_owned()
}

fn machine(number: u32, key: &str) -> Wanted {
    let name = format!("rack-{number}");
    let spec = MachineSpec {
        node: name.parse().expect("a name"),
        role: Role::Agent,
        size: Size { cpus: 1, memory_mib: 1024, disk_gib: 8 },
        disks: Vec::new(),
        zone: None,
        image: Some("base".to_owned()),
        open_ports: Vec::new(),
        existing: None,
        attached: Attachments::default(),
    };
    let told = format!(
        "#cloud-config\nlocale: false\nssh_genkeytypes: [ed25519]\nusers:\n- name: {USER}\n  shell: /bin/bash\n  \
         sudo: 'ALL=(ALL) NOPASSWD:ALL'\n  ssh_authorized_keys: ['{key}']\n"
    );
    let spec = ResourceSpec::Machine(Box::new(spec));
    wanted(ResourceKind::Machine, &name, spec, Some(BootData::new(told)))
}

fn wanted(kind: ResourceKind, name: &str, spec: ResourceSpec, boot_data: Option<BootData>) -> Wanted {
    let path = ResourcePath { site: "ground".parse().expect("a name"), kind, name: name.to_owned() };
    Wanted { path, spec, generation: 0, boot_data }
}
