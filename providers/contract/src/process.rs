//! A provider in a process of its own, as a [`Provider`] like any other.
//!
//! ```text
//!   start ──▶ greeted ──▶ calls ──▶ the process ends ──▶ what was asked fails as transient
//!                ▲                                                  │
//!                └────────── the next call starts it again, once ◀──┘
//! ```

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use castrum_blueprints::names::ResourcePath;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::connection::{Connection, Line, Told, greet};
use crate::veil::Veil;
use crate::wire::{Hello, Verb, WireObservation, WireWanted, place_of};
use crate::{
    Abilities, Blind, Ensured, Failure, FailureClass, Images, Observation, Power, PowerState, Provider,
    Removed, Wanted, now,
};

/// How a process that serves a provider is begun.
#[async_trait]
pub trait Launch: Send + Sync {
    /// The provider's name.
    fn name(&self) -> &str;
    /// Begins it anew.
    async fn launch(&self, told: &Told) -> Result<Line, Failure>;
}

/// How long a provider may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// To answer the greeting.
    pub greeting: Duration,
    /// To look, to switch, to check beforehand.
    pub look: Duration,
    /// To make or remove something.
    pub make: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            greeting: Duration::from_secs(20),
            look: Duration::from_mins(2),
            make: Duration::from_mins(30),
        }
    }
}

/// How long a process that was asked to end may take.
const LEAVING: Duration = Duration::from_secs(2);

/// A provider in a process of its own. It is killed when this value is dropped.
pub struct ProcessProvider {
    launch: Box<dyn Launch>,
    hello: Hello,
    deadlines: Deadlines,
    told: Told,
    abilities: Abilities,
    version: String,
    life: Mutex<Life>,
}

struct Life {
    connection: Option<Arc<Connection>>,
    /// The last start that failed; whoever asked before it did shares the answer.
    failed: Option<(Instant, Failure)>,
}

impl ProcessProvider {
    /// Starts the provider for one site of one cluster, and learns what it can do.
    pub async fn start(
        launch: impl Launch + 'static,
        hello: Hello,
        deadlines: Deadlines,
    ) -> Result<Self, Failure> {
        let told = Told { name: launch.name().into(), veil: Arc::new(Veil::default()) };
        let begun = launch.launch(&told).await?;
        let greeted = greet(begun, &hello, told.clone(), deadlines.greeting).await?;
        let abilities = greeted.welcome.abilities.read(&told.name);
        let life = Mutex::new(Life { connection: Some(Arc::new(greeted.connection)), failed: None });
        let launch: Box<dyn Launch> = Box::new(launch);
        Ok(Self { launch, hello, deadlines, told, abilities, version: greeted.welcome.version, life })
    }

    /// The provider's own version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether the process has said boot data: in a failure, a note, or its log. It was hidden.
    pub fn told_boot_data(&self) -> bool {
        self.told.veil.told()
    }

    /// Kills the process at once, whatever it does; the next call starts another.
    pub async fn kill_process(&self) {
        let connection = self.life.lock().await.connection.clone();
        if let Some(connection) = connection {
            connection.kill();
            connection.over(LEAVING).await;
        }
    }

    /// Asks the process to end, and kills it when it does not. The next call would start another.
    pub async fn shutdown(&self) {
        let connection = self.life.lock().await.connection.take();
        if let Some(connection) = connection {
            connection.shutdown(LEAVING).await;
        }
    }

    /// The conversation, begun anew if the process has ended.
    async fn connection(&self) -> Result<Arc<Connection>, Failure> {
        let asked = Instant::now();
        let mut life = self.life.lock().await;
        if let Some(connection) = life.connection.as_ref().filter(|connection| connection.ended().is_none()) {
            return Ok(Arc::clone(connection));
        }
        if let Some((at, failure)) = life.failed.as_ref().filter(|(at, _)| *at >= asked) {
            tracing::debug!(provider = &*self.told.name, ?at, "shares a start that failed");
            return Err(failure.clone());
        }
        match self.restart().await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                life.connection = Some(Arc::clone(&connection));
                Ok(connection)
            }
            Err(failure) => {
                life.failed = Some((Instant::now(), failure.clone()));
                Err(failure)
            }
        }
    }

    async fn restart(&self) -> Result<Connection, Failure> {
        let line = self.launch.launch(&self.told).await?;
        let greeted = greet(line, &self.hello, self.told.clone(), self.deadlines.greeting).await?;
        if greeted.welcome.abilities.read(&self.told.name) == self.abilities {
            return Ok(greeted.connection);
        }
        // What was planned was planned for the other one.
        Err(self.told.failure(FailureClass::Invalid, "came back with other abilities than it had"))
    }

    async fn call<T: DeserializeOwned>(
        &self,
        (verb, what): (Verb, &str),
        deadline: Duration,
    ) -> Result<T, Failure> {
        let connection = self.connection().await?;
        let answer = connection.call(&verb, deadline).await?;
        serde_json::from_value(answer).map_err(|error| {
            let text = format!("answered `{what}` with what cannot be read ({})", place_of(&error));
            self.told.failure(FailureClass::Invalid, &text)
        })
    }

    fn wrong(&self, what: &str) -> Failure {
        self.told.failure(FailureClass::Invalid, what)
    }

    async fn look(&self) -> Result<WireObservation, Failure> {
        let mut look: WireObservation = self.call((Verb::Observe, "observe"), self.deadlines.look).await?;
        for (path, seen) in &mut look.seen {
            if *path != seen.path || path.site != self.hello.site {
                return Err(self.wrong(&format!("lists `{}` under `{path}`", seen.path)));
            }
            seen.note = seen.note.take().map(|note| self.told.veil.clean(&note));
        }
        for blind in &mut look.blind {
            blind.site = self.hello.site.clone();
            blind.reason = self.told.veil.clean(&blind.reason);
        }
        Ok(look)
    }
}

#[async_trait]
impl Provider for ProcessProvider {
    fn abilities(&self) -> Abilities {
        self.abilities.clone()
    }

    async fn observe(&self) -> Observation {
        let taken_at = now();
        match self.look().await {
            Ok(look) => Observation { seen: look.seen, blind: look.blind, taken_at },
            Err(failure) => {
                let blind =
                    Blind { site: self.hello.site.clone(), kind: None, reason: failure.message.clone() };
                Observation { blind: vec![blind], taken_at, ..Observation::default() }
            }
        }
    }

    async fn ensure(&self, wanted: &Wanted) -> Result<Ensured, Failure> {
        if let Some(boot_data) = &wanted.boot_data {
            self.told.veil.learn(boot_data);
        }
        let wire = Box::new(WireWanted::of(wanted, &self.hello.cluster));
        let mut ensured: Ensured =
            self.call((Verb::Ensure { wanted: wire }, "ensure"), self.deadlines.make).await?;
        if ensured.seen.path != wanted.path {
            return Err(self.wrong(&format!("made `{}` for `{}`", ensured.seen.path, wanted.path)));
        }
        ensured.seen.note = ensured.seen.note.take().map(|note| self.told.veil.clean(&note));
        Ok(ensured)
    }

    async fn remove(&self, path: &ResourcePath) -> Result<Removed, Failure> {
        self.call((Verb::Remove { path: path.clone() }, "remove"), self.deadlines.make).await
    }

    fn power(&self) -> Option<&dyn Power> {
        self.abilities.power.then_some(self)
    }

    fn images(&self) -> Option<&dyn Images> {
        self.abilities.image_names.then_some(self)
    }

    async fn preflight(&self) -> Vec<Failure> {
        let found: Result<Vec<Failure>, Failure> =
            self.call((Verb::Preflight, "preflight"), self.deadlines.look).await;
        match found {
            Ok(found) => found.into_iter().map(|failure| self.told.cleaned(failure)).collect(),
            Err(failure) => vec![failure],
        }
    }
}

#[async_trait]
impl Images for ProcessProvider {
    async fn find(&self, release: &str) -> Result<String, Failure> {
        let verb = Verb::FindImage { release: release.to_owned() };
        self.call((verb, "find-image"), self.deadlines.look).await
    }
}

#[async_trait]
impl Power for ProcessProvider {
    async fn state(&self, machine: &ResourcePath) -> Result<PowerState, Failure> {
        let verb = Verb::PowerState { machine: machine.clone() };
        self.call((verb, "power-state"), self.deadlines.look).await
    }

    async fn set(&self, machine: &ResourcePath, wanted: PowerState) -> Result<(), Failure> {
        let verb = Verb::PowerSet { machine: machine.clone(), power: wanted };
        self.call((verb, "power-set"), self.deadlines.look).await
    }

    async fn kill(&self, machine: &ResourcePath) -> Result<(), Failure> {
        self.call((Verb::PowerKill { machine: machine.clone() }, "power-kill"), self.deadlines.look).await
    }
}
