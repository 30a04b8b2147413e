//! A project's state in an object store: lease, lock file, keyring and journal, as commands need them.
//!
//! ```text
//! lease.json           who holds the cluster, and which lock file and keyring count
//! lock/DIGEST          every lock file that ever counted, or was about to
//! keyring/DIGEST       the sealed keyring
//! journal/TOKEN-RUN/   every event of a run, in pieces
//! probe                what the place shows by that it refuses
//! ```
//!
//! The network has a thread of its own, in real time: a simulated cluster lives in virtual time, and a lease must not.
//! Commands wait for it as they wait for a disk. Nothing is written without the lease. What is pinned is written to the
//! place, and counts there, before it is written beside the blueprint and before anybody acts on it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use castrum_blueprints::names::Digest;
use castrum_provider::Clock as _;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};

use super::chronicle::{self, Chronicle, Entry, Pieces};
use super::keeper::{self, Ask, TakeError};
use super::lease::{Head, Lease, Pinned};
use super::place::{Place, PlaceError, When};
use super::tenure::{Gone, Tenure};
use super::{Holder, StateError};
use crate::clock::SystemClock;

/// How long the end of a run waits for its journal and its lease: less than people do.
const FAREWELL: Duration = Duration::from_secs(15);

/// The state of one cluster in a place.
pub struct Shared {
    place: Arc<dyn Place>,
    length_ms: u64,
    runtime: Option<Runtime>,
    held: Mutex<Option<Held>>,
    /// Objects that never change, by name.
    known: Mutex<BTreeMap<String, Bytes>>,
    pieces: tokio::sync::Mutex<Pieces>,
    /// Held while the keyring is read, changed and pinned.
    pub(super) changing: Arc<tokio::sync::Mutex<()>>,
}

/// What a command that holds the lease has.
struct Held {
    tenure: Arc<Tenure>,
    asks: mpsc::Sender<Ask>,
    entries: mpsc::UnboundedSender<Entry>,
    /// What counts, which only this command changes.
    head: Head,
}

impl Shared {
    /// The state in `place`, with leases of so many milliseconds. Nothing is asked yet.
    pub fn new(place: Arc<dyn Place>, length_ms: u64) -> std::io::Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("state").enable_all().build()?;
        Ok(Self {
            place,
            length_ms,
            runtime: Some(runtime),
            held: Mutex::default(),
            known: Mutex::default(),
            pieces: tokio::sync::Mutex::default(),
            changing: Arc::default(),
        })
    }

    /// What people call the place.
    pub fn name(&self) -> String {
        self.place.name()
    }

    /// Takes the lease for `holder`; `wait` is told whose silence is waited for.
    pub fn take(&self, holder: &Holder, wait: &(dyn Fn(&Lease) + Sync)) -> Result<(), TakeError> {
        let (who, chance) = (who(), drawn());
        let lease = |token| {
            let now = SystemClock.now();
            Lease {
                id: format!("{token}-{chance}"),
                who: who.clone(),
                holder: holder.clone(),
                length_ms: self.length_ms,
                taken_at: now,
                renewed_at: now,
                expires_at: now.plus(self.length_ms),
            }
        };
        let keeper = self.block(keeper::take(Arc::clone(&self.place), lease, wait))?;
        let (tenure, head) = (keeper.tenure(), keeper.head().clone());
        let (asks, asked) = mpsc::channel(1);
        let (entries, written) = mpsc::unbounded_channel();
        let name = format!("{:08}-{}", head.token, holder.run);
        if let Some(runtime) = &self.runtime {
            runtime.spawn(keeper.keep(asked));
            runtime.spawn(chronicle::write((Arc::clone(&self.place), Arc::clone(&tenure)), name, written));
        }
        *lock(&self.held) = Some(Held { tenure, asks, entries, head });
        Ok(())
    }

    /// Writes the rest of the journal and gives the lease back. Without a lease nothing is done.
    pub fn release(&self) {
        let Some(Held { asks, entries, .. }) = lock(&self.held).take() else { return };
        self.block(async {
            let farewell = async {
                let (end, ended) = oneshot::channel();
                let _ = entries.send(Entry::End(end));
                let _ = ended.await;
                let (answer, released) = oneshot::channel();
                let _ = asks.send(Ask::Release(answer)).await;
                let _ = released.await;
            };
            let _ = tokio::time::timeout(FAREWELL, farewell).await;
        });
    }

    /// Breaks the lease `id`; `None` if there is no such lease.
    pub fn unlock(&self, id: &str) -> Result<Option<Lease>, StateError> {
        Ok(self.block(keeper::unlock(&*self.place, id, &who()))?)
    }

    /// Who holds the lease, as the place says.
    pub fn lease(&self) -> Result<Option<Lease>, StateError> {
        Ok(self.block(keeper::head(&*self.place))?.0.lease)
    }

    /// The tenure of the lease that this process has taken.
    pub fn tenure(&self) -> Option<Arc<Tenure>> {
        lock(&self.held).as_ref().map(|held| Arc::clone(&held.tenure))
    }

    /// A listener that writes the journal of this run.
    pub fn chronicle(&self) -> Option<Chronicle> {
        lock(&self.held).as_ref().map(|held| Chronicle(held.entries.clone()))
    }

    /// The lines of all runs' journals, oldest first.
    pub fn journal(&self) -> Result<Vec<Vec<u8>>, StateError> {
        Ok(self.block(async {
            let mut pieces = self.pieces.lock().await;
            pieces.refresh(&*self.place).await?;
            Ok::<_, PlaceError>(pieces.lines().map(<[u8]>::to_vec).collect())
        })?)
    }

    /// What counts, and its digest; `None` if nothing was ever pinned.
    pub fn pinned(&self, what: Pinned) -> Result<Option<Bytes>, StateError> {
        let held = lock(&self.held).as_ref().map(|held| held.head.pin(what).cloned());
        if let Some(pin) = held {
            return pin.map(|digest| self.object(what, &digest)).transpose();
        }
        let pin = || -> Result<Option<Digest>, StateError> {
            Ok(self.block(keeper::head(&*self.place))?.0.pin(what).cloned())
        };
        match pin()?.map(|digest| self.object(what, &digest)).transpose() {
            // It was replaced in between.
            Err(StateError::Place(PlaceError::Spoilt { .. })) => {
                pin()?.map(|digest| self.object(what, &digest)).transpose()
            }
            read => read,
        }
    }

    /// Whether this very content ever counted, or was about to.
    pub fn was_pinned(&self, what: Pinned, digest: &Digest) -> Result<bool, StateError> {
        let name = what.object(digest);
        Ok(lock(&self.known).contains_key(&name) || self.block(self.place.read(&name))?.is_some())
    }

    /// Lets `bytes` count from now on. When this returns, every command of everybody sees them.
    pub fn pin(&self, what: Pinned, bytes: &[u8]) -> Result<(), StateError> {
        let digest = Digest::of(bytes);
        let (tenure, asks, before) = match &*lock(&self.held) {
            Some(held) => (Arc::clone(&held.tenure), held.asks.clone(), held.head.pin(what).cloned()),
            None => return Err(StateError::NoLease { place: self.name() }),
        };
        if before.as_ref() == Some(&digest) {
            return Ok(());
        }
        if !tenure.holds() {
            return Err(StateError::Gone(self.gone(&tenure)));
        }
        let bytes = Bytes::copy_from_slice(bytes);
        self.block(self.put(what, &digest, bytes, &asks))?;
        if let Some(held) = &mut *lock(&self.held) {
            held.head = held.head.clone().pinning(what, digest);
        }
        if let (Pinned::Keyring, Some(before)) = (what, before) {
            // Old lock files are history; an old keyring is only one more thing to guard.
            let name = what.object(&before);
            lock(&self.known).remove(&name);
            if let Err(error) = self.block(self.place.remove(&name)) {
                tracing::warn!(%error, "an old keyring is left in the place of the state");
            }
        }
        Ok(())
    }

    async fn put(
        &self,
        what: Pinned,
        digest: &Digest,
        bytes: Bytes,
        asks: &mpsc::Sender<Ask>,
    ) -> Result<(), StateError> {
        let name = what.object(digest);
        match self.place.write(&name, bytes.clone(), When::Absent).await {
            // The same bytes, since they have the same digest.
            Ok(_) | Err(PlaceError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        lock(&self.known).insert(name, bytes);
        let (answer, answered) = oneshot::channel();
        let _ = asks.send(Ask::Pin(what, digest.clone(), answer)).await;
        match answered.await {
            Ok(ended) => Ok(ended?),
            Err(_) => Err(StateError::NoLease { place: self.name() }),
        }
    }

    fn object(&self, what: Pinned, digest: &Digest) -> Result<Bytes, StateError> {
        let name = what.object(digest);
        if let Some(bytes) = lock(&self.known).get(&name) {
            return Ok(bytes.clone());
        }
        let spoilt = |cause: &str| PlaceError::Spoilt {
            place: self.name(),
            name: name.clone(),
            cause: cause.to_owned(),
        };
        let kept = self.block(self.place.read(&name))?.ok_or_else(|| spoilt("it is not there"))?;
        if Digest::of(&kept.bytes) != *digest {
            return Err(spoilt("it was altered").into());
        }
        lock(&self.known).insert(name, kept.bytes.clone());
        Ok(kept.bytes)
    }

    /// Why the lease is gone; the keeper finds out within seconds.
    pub fn gone(&self, tenure: &Tenure) -> Gone {
        let late = || Gone::Late { place: self.name(), cause: "no answer in time".to_owned() };
        self.block(async {
            let _ = tokio::time::timeout(FAREWELL, tenure.wait()).await;
            tenure.gone().unwrap_or_else(late)
        })
    }

    /// Waits for what the thread of the network does.
    fn block<T: Send>(&self, work: impl Future<Output = T> + Send) -> T {
        let handle = self.runtime.as_ref().map(Runtime::handle).expect("it is there until this is dropped");
        // A thread that drives another runtime may not wait inside that one.
        std::thread::scope(|scope| match scope.spawn(|| handle.block_on(work)).join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.release();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("place", &self.name()).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// This user on this machine, for people.
fn who() -> String {
    let user = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let user = user.unwrap_or_else(|| format!("user {}", rustix::process::getuid().as_raw()));
    let host = rustix::system::uname();
    format!("{user}@{}", host.nodename().to_string_lossy())
}

/// Six digits that tell two leases of one token apart.
fn drawn() -> String {
    let mut bytes = [0; 4];
    // Without chance, time does: it is the place that keeps two holders apart, and not this.
    if ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).is_err() {
        bytes.copy_from_slice(&SystemClock.now().0.to_le_bytes()[..4]);
    }
    format!("{:06x}", u32::from_le_bytes(bytes) & 0x00ff_ffff)
}
