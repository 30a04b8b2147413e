//! The contract's verbs over this machine. Everything here blocks, so each call runs on a thread for blocking work.

use std::sync::Arc;

use async_trait::async_trait;
use castrum_blueprints::names::{ClusterId, ResourceKind, ResourcePath, SiteName};
use castrum_provider::{
    Abilities, Blind, Ensured, Failure, FailureClass, Observation, Power, PowerState, Provider, Removed,
    ResourceSpec, Wanted,
};

use crate::cgroup::Cgroup;
use crate::error::LocalError;
use crate::store::{DirLock, Record, Store};
use crate::{LocalOptions, host, image, ip, machine, network, observe, power};

/// This machine as the place of one site of one cluster.
#[derive(Debug, Clone)]
pub struct Local {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    options: LocalOptions,
}

impl Local {
    /// The place of `site` of `cluster`. Touches nothing.
    pub fn new(cluster: ClusterId, site: SiteName, options: LocalOptions) -> Self {
        let store = Store::new(options.state_root.clone(), cluster, site);
        Self { inner: Arc::new(Inner { store, options }) }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, LocalError> + Send + 'static,
    ) -> Result<T, Failure> {
        let inner = Arc::clone(&self.inner);
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(done) => done.map_err(Failure::from),
            Err(error) => {
                Err(Failure::new(FailureClass::Transient, format!("provider `local` broke off: {error}")))
            }
        }
    }
}

impl Inner {
    fn ensure(&self, wanted: &Wanted) -> Result<Ensured, LocalError> {
        let (change, record) = match &wanted.spec {
            ResourceSpec::Image(spec) => image::ensure_resource(&self.store, &self.options, wanted, spec)?,
            ResourceSpec::Network(spec) => network::ensure(&self.store, wanted, spec)?,
            ResourceSpec::Machine(spec) => machine::ensure(&self.store, &self.options, wanted, spec)?,
            other => return Err(LocalError::Unsupported { kind: other.kind() }),
        };
        let seen = observe::seen(&self.store, &self.options, &record, &ip::links()?)?;
        Ok(Ensured { change, seen })
    }

    fn remove(&self, path: &ResourcePath) -> Result<Removed, LocalError> {
        match path.kind {
            ResourceKind::Image => image::remove_resource(&self.store, path),
            ResourceKind::Network => network::remove(&self.store, path),
            ResourceKind::Machine => machine::remove(&self.store, path),
            _ => Ok(Removed::Absent),
        }
    }

    /// The record of a machine that exists in whole, with its folder locked.
    fn machine(&self, path: &ResourcePath) -> Result<(DirLock, Record, Cgroup), LocalError> {
        if path.kind != ResourceKind::Machine {
            return Err(machine::not_a_machine(path));
        }
        let lock = DirLock::existing(&self.store.dir(path)?)?.ok_or_else(|| no_machine(path))?;
        let record = self.store.read(path)?.ok_or_else(|| no_machine(path))?;
        if !record.complete {
            return Err(LocalError::NotReady { what: format!("machine `{path}` is not made in whole") });
        }
        Ok((lock, record, Cgroup::of(&self.store.cluster, path)?))
    }

    fn set_power(&self, path: &ResourcePath, wanted: PowerState) -> Result<(), LocalError> {
        let (_lock, record, cgroup) = self.machine(path)?;
        let dir = self.store.dir(path)?;
        let now = power::state(&cgroup, &dir);
        match (now, wanted) {
            (now, wanted) if now == wanted => Ok(()),
            (PowerState::Paused, PowerState::On) => power::pause(&cgroup, false),
            (_, PowerState::On) => machine::start(&self.store, &self.options, &record),
            (_, PowerState::Off) => power::stop(&cgroup, &dir),
            (PowerState::On, PowerState::Paused) => power::pause(&cgroup, true),
            _ => Err(LocalError::Invalid {
                what: format!("machine `{path}` is {now:?} and cannot become {wanted:?}").to_lowercase(),
                hint: "switch it on first".to_owned(),
            }),
        }
    }
}

fn no_machine(path: &ResourcePath) -> LocalError {
    LocalError::Invalid {
        what: format!("there is no machine `{path}`"),
        hint: "apply the blueprint first".to_owned(),
    }
}

#[async_trait]
impl Provider for Local {
    fn abilities(&self) -> Abilities {
        Abilities {
            provider: "local".to_owned(),
            kinds: observe::KINDS.to_vec(),
            boot_data: true,
            power: true,
            ..Abilities::default()
        }
    }

    async fn observe(&self) -> Observation {
        let looked = self.blocking(|inner| Ok(observe::observe(&inner.store, &inner.options))).await;
        looked.unwrap_or_else(|failure| Observation {
            blind: vec![Blind { site: self.inner.store.site.clone(), kind: None, reason: failure.message }],
            taken_at: castrum_provider::now(),
            ..Observation::default()
        })
    }

    async fn ensure(&self, wanted: &Wanted) -> Result<Ensured, Failure> {
        let wanted = wanted.clone();
        self.blocking(move |inner| inner.ensure(&wanted)).await
    }

    async fn remove(&self, path: &ResourcePath) -> Result<Removed, Failure> {
        let path = path.clone();
        self.blocking(move |inner| inner.remove(&path)).await
    }

    fn power(&self) -> Option<&dyn Power> {
        Some(self)
    }

    async fn preflight(&self) -> Vec<Failure> {
        let checked = self.blocking(|inner| Ok(host::check(&inner.options))).await;
        checked.unwrap_or_else(|failure| vec![failure])
    }
}

#[async_trait]
impl Power for Local {
    async fn state(&self, machine: &ResourcePath) -> Result<PowerState, Failure> {
        let path = machine.clone();
        self.blocking(move |inner| {
            if inner.store.read(&path)?.is_none() {
                return Err(no_machine(&path));
            }
            Ok(power::state(&Cgroup::of(&inner.store.cluster, &path)?, &inner.store.dir(&path)?))
        })
        .await
    }

    async fn set(&self, machine: &ResourcePath, wanted: PowerState) -> Result<(), Failure> {
        let path = machine.clone();
        self.blocking(move |inner| inner.set_power(&path, wanted)).await
    }

    async fn kill(&self, machine: &ResourcePath) -> Result<(), Failure> {
        let path = machine.clone();
        self.blocking(move |inner| {
            let (_lock, _, cgroup) = inner.machine(&path)?;
            power::kill(&cgroup)
        })
        .await
    }
}
