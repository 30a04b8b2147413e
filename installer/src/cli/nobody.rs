//! Nobody to talk to: for looks at places only, and for removals, which need no node's consent.

use std::collections::BTreeMap;

use async_trait::async_trait;
use castrum_blueprints::desired::Desired;
use castrum_blueprints::manifest::Blob;
use castrum_blueprints::names::{ComponentName, NodeName};
use castrum_blueprints::observed::Observed;
use castrum_blueprints::plan::Step;
use castrum_provider::{Enrollment, Failure, FailureClass, Fleet, News, Publication, Reach};

use crate::engine::{ProjectPort, Tickets};

/// A fleet without nodes and a project that gives nothing away.
pub(super) struct Nobody;

fn unsupported() -> Failure {
    Failure::new(FailureClass::Unsupported, "this command talks to no nodes")
}

#[async_trait]
impl Fleet for Nobody {
    fn reach(&self, _: Vec<Reach>) {}

    async fn first_contact(&self) {}

    async fn enroll(&self, _: &Enrollment) -> Result<(), Failure> {
        Err(unsupported())
    }

    async fn fill(&self, _: &NodeName, _: &[Blob], _: &(dyn Fn(u64) + Send + Sync)) -> Result<(), Failure> {
        Err(unsupported())
    }

    async fn publish(&self, _: &[Publication]) -> Result<BTreeMap<NodeName, String>, Failure> {
        Err(unsupported())
    }

    async fn news(&self) -> Vec<News> {
        std::future::pending().await
    }
}

#[async_trait]
impl ProjectPort for Nobody {
    async fn tickets(&self, _: &Desired, _: &Observed, _: &[Step]) -> Result<Tickets, Failure> {
        Err(unsupported())
    }

    async fn pin_founder(&self, _: &ComponentName, _: &NodeName) -> Result<(), Failure> {
        Err(unsupported())
    }
}
