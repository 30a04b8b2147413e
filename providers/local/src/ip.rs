//! Links, addresses and routes of this machine through `ip` (iproute2), in batches and in JSON.

use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use castrum_blueprints::names::{ClusterId, ResourcePath};
use castrum_provider::{CLUSTER_LABEL, RESOURCE_LABEL};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::LocalError;
use crate::range::Range;

/// A link of this machine. `ip -j link` tells its alias, and only `ip -j address` its addresses.
#[derive(Debug, Deserialize)]
pub(crate) struct Link {
    #[serde(default)]
    pub ifname: String,
    /// Carries our labels.
    #[serde(default)]
    pub ifalias: Option<String>,
    #[serde(default)]
    pub flags: Vec<String>,
    #[serde(default)]
    addr_info: Vec<AddressInfo>,
}

#[derive(Debug, Deserialize)]
struct AddressInfo {
    #[serde(default)]
    local: Option<String>,
    #[serde(default)]
    prefixlen: u8,
}

#[derive(Debug, Deserialize)]
struct Route {
    dst: String,
    #[serde(default)]
    dev: Option<String>,
}

impl Link {
    /// Its first IPv4 range.
    pub(crate) fn range(&self) -> Option<Range> {
        self.addr_info.iter().find_map(|info| {
            let address: Ipv4Addr = info.local.as_ref()?.parse().ok()?;
            Some(Range::containing(address, info.prefixlen))
        })
    }

    /// The resource that its labels name, if they are `cluster`'s.
    pub(crate) fn resource_of(&self, cluster: &ClusterId) -> Option<ResourcePath> {
        let mut labels = self.ifalias.as_deref()?.split(' ').filter_map(|label| label.split_once('='));
        if labels.next()? != (CLUSTER_LABEL, cluster.as_str()) {
            return None;
        }
        let (key, path) = labels.next()?;
        (key == RESOURCE_LABEL).then(|| path.parse().ok())?
    }
}

/// What a link of ours carries as its alias.
pub(crate) fn alias(cluster: &ClusterId, path: &ResourcePath) -> String {
    format!("{CLUSTER_LABEL}={cluster} {RESOURCE_LABEL}={path}")
}

/// All links of this machine.
pub(crate) fn links() -> Result<Vec<Link>, LocalError> {
    let mut links: Vec<Link> = json(&["-j", "link", "show"])?;
    let addressed: Vec<Link> = json(&["-j", "-4", "address", "show"])?;
    for other in addressed {
        if let Some(link) = links.iter_mut().find(|link| link.ifname == other.ifname) {
            link.addr_info = other.addr_info;
        }
    }
    Ok(links)
}

/// The link `name`, if there is one.
pub(crate) fn link(name: &str) -> Result<Option<Link>, LocalError> {
    Ok(links()?.into_iter().find(|link| link.ifname == name))
}

/// The IPv4 ranges that this machine routes, but for the default route and those of the link `except`.
pub(crate) fn routed_ranges(except: &str) -> Result<Vec<Range>, LocalError> {
    let routes: Vec<Route> = json(&["-j", "-4", "route", "show", "table", "all"])?;
    let ours = |route: &Route| route.dev.as_deref() == Some(except);
    Ok(routes.iter().filter(|route| !ours(route)).filter_map(|route| route.dst.parse().ok()).collect())
}

/// Runs several commands in one go; all or an error.
pub(crate) fn batch(commands: &[String]) -> Result<(), LocalError> {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(spawn_failed)?;
    let mut text = commands.join("\n");
    text.push('\n');
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().map_err(spawn_failed)?;
    if output.status.success() && matches!(written, Some(Ok(()))) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(LocalError::Command { program: "ip -batch".to_owned(), output: said })
}

/// Removes the link `name`; whether it was there.
pub(crate) fn delete(name: &str) -> Result<bool, LocalError> {
    match batch(&[format!("link delete dev {name}")]) {
        Ok(()) => Ok(true),
        // It may have gone by itself meanwhile: a node's cable goes with the node.
        Err(error) => link(name)?.map_or(Ok(false), |_| Err(error)),
    }
}

fn json<T: DeserializeOwned>(args: &[&str]) -> Result<T, LocalError> {
    let output = Command::new("ip").args(args).stdin(Stdio::null()).output().map_err(spawn_failed)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(LocalError::Command { program: format!("ip {}", args.join(" ")), output: said });
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|source| LocalError::Parse { path: format!("ip {}", args.join(" ")).into(), source })
}

fn spawn_failed(source: std::io::Error) -> LocalError {
    LocalError::Spawn { program: "ip".to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_labels_are_read() {
        let cluster: ClusterId = "0123456789ab".parse().unwrap();
        let other: ClusterId = "ffffffffffff".parse().unwrap();
        let path: ResourcePath = "here/network/main".parse().unwrap();
        let text = serde_json::json!([{
            "ifname": "x", "ifalias": alias(&cluster, &path), "flags": ["UP"],
            "addr_info": [{"family": "inet6", "local": "fe80::1", "prefixlen": 64},
                          {"family": "inet", "local": "10.9.8.1", "prefixlen": 24}]
        }, { "ifname": "y", "ifalias": "something else", "addr_info": [{}] }]);
        let links: Vec<Link> = serde_json::from_value(text).unwrap();
        assert_eq!(links[0].resource_of(&cluster), Some(path));
        assert_eq!(links[0].resource_of(&other), None);
        assert_eq!(links[0].range(), Some("10.9.8.0/24".parse().unwrap()));
        assert_eq!(links[1].resource_of(&cluster), None);
    }
}
