//! From names to ids: what was learnt is not asked for twice, and what is not known is looked at.

use castrum_blueprints::names::{ResourceKind, ResourcePath};
use castrum_provider::Failure;

use crate::list::Scope;
use crate::place::{Place, not_ready};
use crate::{address, balancer, firewall, key, network, placement, subnet, volume};

impl Place {
    /// The id of a part of a resource that must be there.
    pub(crate) async fn resolve(&self, path: &ResourcePath, part: &'static str) -> Result<String, Failure> {
        if let Some(id) = self.known(path, part) {
            return Ok(id);
        }
        // Judging what is found makes it known.
        let scope = Scope::One(path);
        match path.kind {
            ResourceKind::Network => drop(network::look(self, path).await?),
            ResourceKind::Subnet => drop(subnet::look(self, path).await?),
            ResourceKind::Address => drop(address::judge(self, path, &self.addresses(scope).await?)),
            ResourceKind::Firewall => drop(firewall::judge(self, path, &self.groups(scope).await?)),
            ResourceKind::Key => drop(key::judge(self, path, &self.keys(scope).await?)),
            ResourceKind::Placement => drop(placement::judge(self, path, &self.placements(scope).await?)),
            ResourceKind::Volume => drop(volume::judge(self, path, &self.volumes(scope).await?)),
            ResourceKind::LoadBalancer => drop(balancer::look(self, path).await?),
            ResourceKind::Image | ResourceKind::Machine => {}
        }
        let missing = || not_ready(format!("`{path}` is needed first, and its {part} is not there yet"));
        self.known(path, part).ok_or_else(missing)
    }

    /// The ids of several resources of one kind, in their order.
    pub(crate) async fn resolve_all(
        &self,
        kind: ResourceKind,
        part: &'static str,
        names: &[String],
    ) -> Result<Vec<String>, Failure> {
        let mut ids = Vec::with_capacity(names.len());
        for name in names {
            ids.push(self.resolve(&self.path(kind, name), part).await?);
        }
        Ok(ids)
    }
}
