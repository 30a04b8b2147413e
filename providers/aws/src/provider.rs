//! The verbs of the contract over a site.

use async_trait::async_trait;
use castrum_blueprints::names::{ResourceKind, ResourcePath};
use castrum_provider::{
    Abilities, Change, Ensured, Failure, FailureClass, Hello, Images, Observation, Power, Provider, Removed,
    ResourceSeen, ResourceSpec, Wanted,
};

use crate::place::{Place, invalid};
use crate::settings::Settings;
use crate::{
    address, balancer, client, firewall, key, look, machine, network, placement, preflight, subnet, volume,
};

/// Opens the site that the greeting names. Asks nobody but for credentials, and changes nothing.
pub(crate) async fn open(hello: Hello) -> Result<Place, Failure> {
    let settings = Settings::read(&hello.settings)?;
    let (ec2, elb) = client::connect(&settings).await?;
    Ok(Place::new((hello.cluster, hello.site), settings, ec2, elb))
}

impl Place {
    async fn make(&self, wanted: &Wanted) -> Result<(Change, ResourceSeen), Failure> {
        match &wanted.spec {
            ResourceSpec::Network(spec) => network::ensure(self, wanted, spec).await,
            ResourceSpec::Address(spec) => address::ensure(self, wanted, spec).await,
            ResourceSpec::Subnet(spec) => subnet::ensure(self, wanted, spec).await,
            ResourceSpec::Firewall(spec) => firewall::ensure(self, wanted, spec).await,
            ResourceSpec::Key(spec) => key::ensure(self, wanted, spec).await,
            ResourceSpec::Placement(spec) => placement::ensure(self, wanted, spec).await,
            ResourceSpec::Volume(spec) => volume::ensure(self, wanted, spec).await,
            ResourceSpec::LoadBalancer(spec) => balancer::ensure(self, wanted, spec).await,
            ResourceSpec::Machine(spec) => Box::pin(machine::ensure(self, wanted, spec)).await,
            ResourceSpec::Image(_) => {
                let text = format!("`{}`: images are looked up here, and not made", wanted.path);
                Err(Failure::new(FailureClass::Unsupported, text))
            }
        }
    }
}

#[async_trait]
impl Provider for Place {
    fn abilities(&self) -> Abilities {
        Abilities {
            provider: "aws".to_owned(),
            kinds: look::KINDS.to_vec(),
            boot_data: true,
            power: true,
            stale_ms: self.settings.stale_ms,
            image_names: true,
        }
    }

    async fn observe(&self) -> Observation {
        Box::pin(look::observe(self)).await
    }

    async fn ensure(&self, wanted: &Wanted) -> Result<Ensured, Failure> {
        if wanted.path.kind != wanted.spec.kind() {
            return Err(invalid(format!("`{}` cannot be a {}", wanted.path, wanted.spec.kind())));
        }
        let lock = self.lock_of(&wanted.path);
        let _held = lock.lock().await;
        match self.make(wanted).await {
            // The tags were written; a listing may still show the ones before.
            Ok((change, seen)) => {
                Ok(Ensured { change, seen: ResourceSeen { spec: Some(wanted.spec.digest()), ..seen } })
            }
            Err(failure) => {
                // An id that was learnt may be of something that is gone: then the next call looks anew.
                if !matches!(failure.class, FailureClass::Throttled | FailureClass::Transient) {
                    for (kind, name) in wanted.spec.needs() {
                        self.forget(&self.path(kind, name));
                    }
                }
                Err(failure)
            }
        }
    }

    async fn remove(&self, path: &ResourcePath) -> Result<Removed, Failure> {
        let lock = self.lock_of(path);
        let _held = lock.lock().await;
        match path.kind {
            ResourceKind::Network => network::remove(self, path).await,
            ResourceKind::Address => address::remove(self, path).await,
            ResourceKind::Subnet => subnet::remove(self, path).await,
            ResourceKind::Firewall => firewall::remove(self, path).await,
            ResourceKind::Key => key::remove(self, path).await,
            ResourceKind::Placement => placement::remove(self, path).await,
            ResourceKind::Volume => volume::remove(self, path).await,
            ResourceKind::LoadBalancer => balancer::remove(self, path).await,
            ResourceKind::Machine => machine::remove(self, path).await,
            ResourceKind::Image => Ok(Removed::Absent),
        }
    }

    fn power(&self) -> Option<&dyn Power> {
        Some(self)
    }

    fn images(&self) -> Option<&dyn Images> {
        Some(self)
    }

    async fn preflight(&self) -> Vec<Failure> {
        Box::pin(preflight::check(self)).await
    }
}
