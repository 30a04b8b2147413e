//! What this node hands to peers: facts of its components, as the accepted manifest allows.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use castrum_blueprints::manifest::{FactManifest, Manifest};
use castrum_blueprints::names::{ComponentName, Role};
use serde_json::Value;
use tokio::sync::watch;

use crate::act::read_fact;
use crate::api::FactReader;
use crate::identity::Tls;

/// Reads facts for peers.
#[derive(Debug)]
pub struct Facts {
    tls: Tls,
    accepted: watch::Receiver<Option<Arc<Manifest>>>,
}

impl Facts {
    /// Facts of the components that the accepted manifest names.
    pub fn new(tls: Tls, accepted: watch::Receiver<Option<Arc<Manifest>>>) -> Self {
        Self { tls, accepted }
    }

    fn find(&self, component: &ComponentName, name: &str) -> Option<FactManifest> {
        let manifest = self.accepted.borrow().clone()?;
        manifest.components.iter().find(|c| c.name == *component)?.facts.get(name).cloned()
    }
}

impl FactReader for Facts {
    fn roles(&self, component: &ComponentName, name: &str) -> Option<BTreeSet<Role>> {
        self.find(component, name).map(|fact| fact.roles)
    }

    fn read(
        &self,
        component: ComponentName,
        name: String,
    ) -> Pin<Box<dyn Future<Output = Result<Value, String>> + Send + '_>> {
        Box::pin(async move {
            let fact = self.find(&component, &name).ok_or_else(|| "there is no such fact".to_owned())?;
            read_fact(&self.tls, &fact.call, &fact.pointer).await
        })
    }
}
