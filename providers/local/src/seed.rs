//! The `NoCloud` seed: what cloud-init in a node reads instead of asking a metadata service.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use castrum_provider::BootData;

use crate::error::LocalError;
use crate::store::MachineMade;

/// Where cloud-init looks for it, relative to the node's root.
const SEED: &str = "var/lib/cloud/seed/nocloud";

/// Puts the seed of the node `host` into the upper layer of its disk.
pub(crate) fn write(
    upper: &Path,
    host: &str,
    made: &MachineMade,
    boot_data: &BootData,
) -> Result<(), LocalError> {
    let dir = upper.join(SEED);
    fs::create_dir_all(&dir).map_err(LocalError::file("create", &dir))?;
    let meta = format!("instance-id: {}\nlocal-hostname: {host}\n", made.incarnation);
    write_private(&dir.join("meta-data"), &meta)?;
    write_private(&dir.join("network-config"), &network_config(made))?;
    write_private(&dir.join("user-data"), boot_data.expose())
}

/// Matching by MAC, because the networkd renderer of cloud-init ignores a match by name. No gateway: what a node
/// cannot reach fails at once.
fn network_config(made: &MachineMade) -> String {
    format!(
        "version: 2\nethernets:\n  eth0:\n    match: {{macaddress: \"{}\"}}\n    set-name: eth0\n    accept-ra: false\n    \
         addresses: [{}/{}]\n",
        made.mac, made.address, made.prefix
    )
}

/// Boot data holds a one-time token.
fn write_private(path: &Path, text: &str) -> Result<(), LocalError> {
    let write = || -> std::io::Result<()> {
        let mut file = File::create(path)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())
    };
    write().map_err(LocalError::file("write", path))
}
