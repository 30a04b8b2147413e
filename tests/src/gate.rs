//! A gate between an installer and all that it touches. Every call and every write is counted, and at any of them the
//! installer can die: before it, after its effect, or after its answer.
//!
//! ```text
//!   engine ──▶ Gate ──▶ provider, fleet      what was sent arrives, also when its sender is dead by then
//!                 ├───▶ project              keyring and lock file
//!                 └───▶ listeners            the journal
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use async_trait::async_trait;
use castrum::cancel::{Cancel, Canceller};
use castrum::engine::{Engine, ProjectPort, Sites, Tickets};
use castrum::events::{Events, Listener};
use castrum_blueprints::desired::Desired;
use castrum_blueprints::event::{Event, What};
use castrum_blueprints::manifest::Blob;
use castrum_blueprints::names::{ComponentName, NodeName, ResourcePath, Timestamp};
use castrum_blueprints::observed::Observed;
use castrum_blueprints::plan::Step;
use castrum_provider::{
    Abilities, Clock, Enrollment, Ensured, Failure, FailureClass, Fleet, News, Observation, Power,
    PowerState, Provider, Publication, Reach, Removed, Wanted,
};

use crate::cluster::site;
use crate::rig::Rig;

/// When an installer dies, seen from one thing that it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// Before the call is sent, or the write begun.
    Before,
    /// After its effect, before the answer.
    Effect,
    /// After the answer, before it is recorded anywhere.
    Answer,
}

/// One thing that an installer did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// What it was.
    pub what: String,
    /// Whether it is an entry of the journal, which has no effect on the world.
    pub journal: bool,
    /// The world at that moment: two entries of the journal with the same mark leave the same world behind.
    pub mark: Mark,
}

/// The time, how many calls had been sent, and how many had landed.
pub type Mark = (Timestamp, usize, usize);

/// The gate. Clones are the same gate.
#[derive(Clone)]
pub struct Gate {
    clock: Arc<dyn Clock>,
    book: Arc<Mutex<Book>>,
}

#[derive(Debug, Default)]
struct Book {
    touches: Vec<Touch>,
    deadly: Option<(usize, Moment)>,
    dead: bool,
    sent: usize,
    landed: usize,
    /// How many of a hundred answers are lost, and what chance begins with.
    losing: Option<(u64, u64)>,
}

impl Gate {
    /// A gate that loses the answers of so many of a hundred calls, after their effect. Looks are answered.
    pub fn losing(rig: &Rig, percent: u64, seed: u64) -> Self {
        let gate = Self::new(rig, None);
        gate.book().losing = Some((percent, seed));
        gate
    }

    /// A gate that counts, and kills whoever passes it at `deadly`: the number of a touch, and its moment.
    pub fn new(rig: &Rig, deadly: Option<(usize, Moment)>) -> Self {
        Self { clock: rig.world.clock(), book: Arc::new(Mutex::new(Book { deadly, ..Book::default() })) }
    }

    /// A fresh engine that touches the world only through this gate.
    pub fn engine(&self, rig: &Rig) -> (Engine, Canceller) {
        let (canceller, cancel) = Cancel::new();
        let provider = Gated { gate: self.clone(), inner: Arc::clone(&rig.sim) as Arc<dyn Provider> };
        let sites = Sites(BTreeMap::from([(site(), Arc::new(provider) as Arc<dyn Provider>)]));
        let listeners: Vec<Box<dyn Listener>> = vec![Box::new(self.clone())];
        let engine = Engine {
            sites,
            fleet: Arc::new(Gated { gate: self.clone(), inner: rig.world.fleet() }),
            events: Events::new("gate", Arc::clone(&self.clock), listeners),
            clock: Arc::clone(&self.clock),
            project: Arc::new(Gated {
                gate: self.clone(),
                inner: Arc::clone(&rig.project) as Arc<dyn ProjectPort>,
            }),
            cancel,
        };
        (engine, canceller)
    }

    /// All that passed.
    pub fn touches(&self) -> Vec<Touch> {
        self.book().touches.clone()
    }

    /// Runs until the installer dies, and drops it where it stands; `None` if it did.
    pub async fn until_dead<T>(&self, run: impl Future<Output = T>) -> Option<T> {
        let mut run = pin!(run);
        std::future::poll_fn(|cx| match run.as_mut().poll(cx) {
            _ if self.book().dead => Poll::Ready(None),
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of this touch; `None` if whoever comes is dead, or dies here.
    fn arrive(&self, what: String, journal: bool) -> Option<usize> {
        let now = self.clock.now();
        let mut book = self.book();
        if book.dead {
            return None;
        }
        let (nth, mark) = (book.touches.len(), (now, book.sent, book.landed));
        book.touches.push(Touch { what, journal, mark });
        if book.deadly == Some((nth, Moment::Before)) {
            book.dead = true;
            return None;
        }
        book.sent += usize::from(!journal);
        Some(nth)
    }

    /// It had its effect. False if whoever asked is dead and hears no answer.
    fn landed(&self, nth: usize) -> bool {
        let mut book = self.book();
        book.landed += 1;
        book.dead |= book.deadly == Some((nth, Moment::Effect));
        if book.dead {
            return false;
        }
        book.dead = book.deadly == Some((nth, Moment::Answer));
        true
    }

    /// A call to somebody else: once it is sent it lands, whatever becomes of the sender.
    async fn send<T: Send + 'static>(
        &self,
        what: String,
        call: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let Some(nth) = self.arrive(what, false) else { return pending().await };
        let answer = tokio::spawn(call).await.expect("a call does not panic");
        if self.landed(nth) { answer } else { pending().await }
    }

    /// The same for a call whose answer may be lost.
    async fn ask<T: Send + 'static>(
        &self,
        what: String,
        call: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let answer = self.send(what, call).await;
        if self.loses() {
            return Err(Failure::new(FailureClass::Transient, "the answer was lost at the gate"));
        }
        answer
    }

    fn loses(&self) -> bool {
        let mut book = self.book();
        let Some((percent, state)) = &mut book.losing else { return false };
        // Knuth's generator: the upper bits are as good as a test needs.
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) % 100 < *percent
    }

    /// A write of the installer's own.
    async fn write<T>(&self, what: String, write: impl Future<Output = T>) -> T {
        let Some(nth) = self.arrive(what, false) else { return pending().await };
        let written = write.await;
        if self.landed(nth) { written } else { pending().await }
    }
}

impl Listener for Gate {
    fn hear(&mut self, event: &Event) {
        let Some(nth) = self.arrive(word(&event.what), true) else { return };
        let mut book = self.book();
        book.dead |= book.deadly.is_some_and(|(deadly, moment)| deadly == nth && moment != Moment::Before);
    }
}

fn word(what: &What) -> String {
    let text = serde_json::to_value(what).unwrap_or_default();
    let kind =
        text.as_object().and_then(|map| map.values().find_map(|value| value.as_str().map(str::to_owned)));
    format!("journal {}", kind.unwrap_or_default())
}

/// Something that is touched through the gate.
struct Gated<T: ?Sized> {
    gate: Gate,
    inner: Arc<T>,
}

#[async_trait]
impl Provider for Gated<dyn Provider> {
    fn abilities(&self) -> Abilities {
        self.inner.abilities()
    }

    async fn observe(&self) -> Observation {
        let inner = Arc::clone(&self.inner);
        self.gate.send("observe".to_owned(), async move { inner.observe().await }).await
    }

    async fn ensure(&self, wanted: &Wanted) -> Result<Ensured, Failure> {
        let (inner, wanted) = (Arc::clone(&self.inner), wanted.clone());
        self.gate.ask(format!("ensure {}", wanted.path), async move { inner.ensure(&wanted).await }).await
    }

    async fn remove(&self, path: &ResourcePath) -> Result<Removed, Failure> {
        let (inner, path) = (Arc::clone(&self.inner), path.clone());
        self.gate.ask(format!("remove {path}"), async move { inner.remove(&path).await }).await
    }

    fn power(&self) -> Option<&dyn Power> {
        self.inner.power().is_some().then_some(self)
    }
}

#[async_trait]
impl Power for Gated<dyn Provider> {
    async fn state(&self, machine: &ResourcePath) -> Result<PowerState, Failure> {
        let (inner, machine) = (Arc::clone(&self.inner), machine.clone());
        let call = async move { inner.power().expect("it has power control").state(&machine).await };
        self.gate.ask("power state".to_owned(), call).await
    }

    async fn set(&self, machine: &ResourcePath, wanted: PowerState) -> Result<(), Failure> {
        let (inner, machine) = (Arc::clone(&self.inner), machine.clone());
        let call = async move { inner.power().expect("it has power control").set(&machine, wanted).await };
        self.gate.ask("power set".to_owned(), call).await
    }

    async fn kill(&self, machine: &ResourcePath) -> Result<(), Failure> {
        let (inner, machine) = (Arc::clone(&self.inner), machine.clone());
        let call = async move { inner.power().expect("it has power control").kill(&machine).await };
        self.gate.ask("power kill".to_owned(), call).await
    }
}

#[async_trait]
impl Fleet for Gated<dyn Fleet> {
    fn reach(&self, nodes: Vec<Reach>) {
        self.inner.reach(nodes);
    }

    async fn first_contact(&self) {
        self.inner.first_contact().await;
    }

    async fn enroll(&self, enrollment: &Enrollment) -> Result<(), Failure> {
        let (inner, enrollment) = (Arc::clone(&self.inner), enrollment.clone());
        let what = format!("enroll {}", enrollment.reach.peer.name);
        self.gate.ask(what, async move { inner.enroll(&enrollment).await }).await
    }

    async fn fill(
        &self,
        node: &NodeName,
        blobs: &[Blob],
        sent: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), Failure> {
        let (inner, to, blobs) = (Arc::clone(&self.inner), node.clone(), blobs.to_vec());
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let call = async move { inner.fill(&to, &blobs, &move |bytes| tell.send(bytes).unwrap_or(())).await };
        let mut call = pin!(self.gate.ask(format!("fill {node}"), call));
        loop {
            tokio::select! {
                Some(bytes) = told.recv() => sent(bytes),
                answer = &mut call => return answer,
            }
        }
    }

    async fn publish(&self, manifests: &[Publication]) -> Result<BTreeMap<NodeName, String>, Failure> {
        let (inner, manifests) = (Arc::clone(&self.inner), manifests.to_vec());
        let nodes: BTreeSet<&str> = manifests.iter().map(|one| one.manifest.node.as_str()).collect();
        let what = format!("publish to {} nodes", nodes.len());
        self.gate.ask(what, async move { inner.publish(&manifests).await }).await
    }

    async fn news(&self) -> Vec<News> {
        let news = self.inner.news().await;
        let dead = self.gate.book().dead;
        if dead { pending().await } else { news }
    }
}

#[async_trait]
impl ProjectPort for Gated<dyn ProjectPort> {
    async fn tickets(
        &self,
        desired: &Desired,
        observed: &Observed,
        steps: &[Step],
    ) -> Result<Tickets, Failure> {
        self.gate.write("keyring".to_owned(), self.inner.tickets(desired, observed, steps)).await
    }

    async fn pin_founder(&self, component: &ComponentName, node: &NodeName) -> Result<(), Failure> {
        self.gate.write(format!("lock file {component}"), self.inner.pin_founder(component, node)).await
    }
}
