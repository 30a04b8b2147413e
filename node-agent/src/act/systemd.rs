//! The service manager, over its own D-Bus API. States come by signal; nothing is polled.
//!
//! ```text
//! signals ──▶ drain (never waits for anything) ──▶ dirty units ──▶ refresher ──▶ snapshots ──▶ `changed`
//! ```
//! Signals are drained by a task of their own: while an answer is awaited they keep coming, and a full queue would hold
//! the answer back. When the bus goes away and does not come back soon, every unit is
//! `Unknown` until it was asked for again.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use castrum_blueprints::names::{ComponentName, Timestamp};
use castrum_blueprints::node::UnitState;
use futures_util::StreamExt as _;
use futures_util::stream::select;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use zbus::message::Type as MessageType;
use zbus::{Connection, DynamicType, MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant, Type};

const NAME: &str = "org.freedesktop.systemd1";
const ROOT: &str = "/org/freedesktop/systemd1";
const UNITS: &str = "/org/freedesktop/systemd1/unit";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// A job that takes longer is left to itself; the unit's state tells the rest.
const JOB_PATIENCE: Duration = Duration::from_secs(20);
const RECONNECT: Duration = Duration::from_millis(500);
/// A bus that only restarts is no reason to know less of units that run on meanwhile.
const GRACE: Duration = Duration::from_secs(10);
/// Ended jobs that are remembered, because a job can end before its start is answered.
const ENDED_JOBS: usize = 64;

/// What the service manager did not do.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// There is no connection to it.
    #[error("the service manager does not answer")]
    Silent,
    /// A call failed.
    #[error("ask the service manager to {what}")]
    Call {
        /// What was asked for.
        what: &'static str,
        /// What it said.
        source: zbus::Error,
    },
    /// A job ended otherwise than it should.
    #[error("`{unit}`: the job ended as `{result}`{detail}")]
    Job {
        /// The unit.
        unit: String,
        /// The job's result.
        result: String,
        /// What became of its process.
        detail: String,
    },
    /// A job did not end.
    #[error("`{unit}`: the job has not ended after {} s", JOB_PATIENCE.as_secs())]
    Endless {
        /// The unit.
        unit: String,
    },
}

/// What the service manager says of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitSnapshot {
    /// Its state.
    pub state: UnitState,
    /// The state in the service manager's own words.
    pub words: String,
    /// How often it was restarted.
    pub restarts: u32,
    /// Which start of it this is; `None` if it was not started since boot.
    pub invocation: Option<String>,
    /// Since when it is in this state, by the machine's clock.
    pub since: Timestamp,
    /// The same in milliseconds since boot, which nobody can set.
    pub since_boot: Timestamp,
}

impl Default for UnitSnapshot {
    fn default() -> Self {
        Self {
            state: UnitState::Unknown,
            words: "not known".to_owned(),
            restarts: 0,
            invocation: None,
            since: Timestamp(0),
            since_boot: Timestamp(0),
        }
    }
}

/// A handle to the service manager.
#[derive(Debug, Clone, Default)]
pub struct Systemd {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    bus: Mutex<Option<Connection>>,
    units: Mutex<BTreeMap<ComponentName, UnitSnapshot>>,
    dirty: Mutex<BTreeSet<ComponentName>>,
    stale: Mutex<BTreeSet<ComponentName>>,
    ended: Mutex<VecDeque<(String, String)>>,
    to_refresh: Notify,
    job_ended: Notify,
    changed: Notify,
    turn: tokio::sync::Mutex<()>,
}

impl Systemd {
    /// Keeps the connection, until dropped.
    pub async fn run(self) {
        tokio::join!(self.keep_connected(), self.keep_fresh());
    }

    /// Returns when the state of a watched unit has changed since the last call.
    pub async fn changed(&self) {
        self.inner.changed.notified().await;
    }

    /// Says which components' units are of interest.
    pub fn watch(&self, components: BTreeSet<ComponentName>) {
        let mut units = lock(&self.inner.units);
        units.retain(|name, _| components.contains(name));
        let new: Vec<_> = components.into_iter().filter(|name| !units.contains_key(name)).collect();
        if new.is_empty() {
            return;
        }
        units.extend(new.iter().map(|name| (name.clone(), UnitSnapshot::default())));
        lock(&self.inner.dirty).extend(new);
        self.inner.to_refresh.notify_one();
    }

    /// What is known of a component's unit.
    pub fn snapshot(&self, component: &ComponentName) -> UnitSnapshot {
        lock(&self.inner.units).get(component).cloned().unwrap_or_default()
    }

    /// Whether what is known of a component's unit was asked for since the connection was made.
    pub fn is_fresh(&self, component: &ComponentName) -> bool {
        self.is_connected()
            && !lock(&self.inner.stale).contains(component)
            && self.snapshot(component).state != UnitState::Unknown
    }

    /// Whether the service manager answers.
    pub fn is_connected(&self) -> bool {
        lock(&self.inner.bus).is_some()
    }

    /// Starts a unit; also one that the service manager has given up on.
    pub async fn start(&self, component: &ComponentName) -> Result<(), SystemdError> {
        let unit = unit_name(component);
        // It fails if there is nothing to reset, which is the usual case.
        let _: Result<(), SystemdError> = self.call("reset a unit", "ResetFailedUnit", &(&unit,)).await;
        self.job(component, "StartUnit").await
    }

    /// Restarts a unit.
    pub async fn restart(&self, component: &ComponentName) -> Result<(), SystemdError> {
        self.job(component, "RestartUnit").await
    }

    /// Stops a unit.
    pub async fn stop(&self, component: &ComponentName) -> Result<(), SystemdError> {
        self.job(component, "StopUnit").await
    }

    /// Lets the service manager read all unit files again.
    pub async fn reload(&self) -> Result<(), SystemdError> {
        self.call("read its units again", "Reload", &()).await
    }

    async fn job(&self, component: &ComponentName, method: &'static str) -> Result<(), SystemdError> {
        let unit = unit_name(component);
        let job: OwnedObjectPath =
            self.call("start, restart or stop a unit", method, &(&unit, "replace")).await?;
        let ended = tokio::time::timeout(JOB_PATIENCE, self.end_of(job.as_str())).await;
        self.refresh(component).await;
        match ended.map_err(|_| SystemdError::Endless { unit: unit.clone() })??.as_str() {
            "done" | "skipped" => Ok(()),
            result => {
                let detail = self.process_result(component).await.unwrap_or_default();
                Err(SystemdError::Job { unit, result: result.to_owned(), detail })
            }
        }
    }

    async fn end_of(&self, job: &str) -> Result<String, SystemdError> {
        loop {
            let notified = self.inner.job_ended.notified();
            if let Some((_, result)) = lock(&self.inner.ended).iter().find(|(path, _)| path == job) {
                return Ok(result.clone());
            }
            if !self.is_connected() {
                return Err(SystemdError::Silent);
            }
            notified.await;
        }
    }

    async fn process_result(&self, component: &ComponentName) -> Option<String> {
        let path = unit_path(component);
        let result = self.property(&path, SERVICE, "Result").await.ok()?;
        let status = self.property(&path, SERVICE, "ExecMainStatus").await.ok()?;
        let (result, status) = (String::try_from(result).ok()?, i32::try_from(status).ok()?);
        Some(format!(": {result}, status {status}; see `journalctl -u {}`", unit_name(component)))
    }

    async fn property(&self, path: &str, interface: &str, name: &str) -> Result<OwnedVariant, SystemdError> {
        let bus = self.bus()?;
        let failed = |source| SystemdError::Call { what: "tell a property", source };
        let call = bus.call_method(Some(NAME), path, Some(PROPERTIES), "Get", &(interface, name)).await;
        call.map_err(failed)?.body().deserialize().map_err(failed)
    }

    async fn call<B, R>(&self, what: &'static str, method: &'static str, body: &B) -> Result<R, SystemdError>
    where
        B: Serialize + DynamicType,
        R: DeserializeOwned + Type,
    {
        let failed = |source| SystemdError::Call { what, source };
        let answer = self.bus()?.call_method(Some(NAME), ROOT, Some(MANAGER), method, body).await;
        answer.map_err(failed)?.body().deserialize().map_err(failed)
    }

    fn bus(&self) -> Result<Connection, SystemdError> {
        lock(&self.inner.bus).clone().ok_or(SystemdError::Silent)
    }

    async fn keep_connected(&self) {
        let mut lost = Instant::now();
        loop {
            match self.connect().await {
                Ok(signals) => {
                    tracing::info!("the service manager answers");
                    self.drain(signals).await;
                    tracing::warn!("the service manager does not answer any more");
                    self.disconnected();
                    lost = Instant::now();
                }
                Err(error) => {
                    if lost.elapsed() > GRACE {
                        self.forget();
                    }
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "no connection to the service manager"
                    );
                }
            }
            tokio::time::sleep(RECONNECT).await;
        }
    }

    async fn connect(&self) -> zbus::Result<impl futures_util::Stream<Item = zbus::Result<Message>> + use<>> {
        let bus = Connection::system().await?;
        let rule = || MatchRule::builder().msg_type(MessageType::Signal).sender(NAME);
        let states = rule().interface(PROPERTIES).path_namespace(UNITS).build()?;
        let jobs = rule().interface(MANAGER).member("JobRemoved").build()?;
        let states = MessageStream::for_match_rule(states, &bus, None).await?;
        let jobs = MessageStream::for_match_rule(jobs, &bus, None).await?;
        bus.call_method(Some(NAME), ROOT, Some(MANAGER), "Subscribe", &()).await?;
        *lock(&self.inner.bus) = Some(bus);
        let watched: Vec<_> = lock(&self.inner.units).keys().cloned().collect();
        lock(&self.inner.dirty).extend(watched);
        self.inner.to_refresh.notify_one();
        self.inner.changed.notify_one();
        Ok(select(states, jobs))
    }

    /// Takes signals until the connection ends. It must not wait for anything else.
    async fn drain(&self, signals: impl futures_util::Stream<Item = zbus::Result<Message>>) {
        let mut signals = std::pin::pin!(signals);
        while let Some(Ok(signal)) = signals.next().await {
            let header = signal.header();
            if header.member().is_some_and(|member| member.as_str() == "JobRemoved") {
                self.note_job(&signal);
            } else if let Some(path) = header.path() {
                self.note_unit(path.as_str());
            }
        }
    }

    fn note_job(&self, signal: &Message) {
        let Ok((_, path, _, result)) = signal.body().deserialize::<(u32, OwnedObjectPath, String, String)>()
        else {
            return;
        };
        let mut ended = lock(&self.inner.ended);
        if ended.len() == ENDED_JOBS {
            ended.pop_front();
        }
        ended.push_back((path.as_str().to_owned(), result));
        drop(ended);
        self.inner.job_ended.notify_waiters();
    }

    fn note_unit(&self, path: &str) {
        let units = lock(&self.inner.units);
        let Some(component) = units.keys().find(|name| unit_path(name) == path) else { return };
        lock(&self.inner.dirty).insert(component.clone());
        self.inner.to_refresh.notify_one();
    }

    fn disconnected(&self) {
        *lock(&self.inner.bus) = None;
        lock(&self.inner.stale).extend(lock(&self.inner.units).keys().cloned());
        self.inner.job_ended.notify_waiters();
        self.inner.changed.notify_one();
    }

    /// What was last known of the units is too old.
    fn forget(&self) {
        let mut units = lock(&self.inner.units);
        if units.values().all(|unit| unit.state == UnitState::Unknown) {
            return;
        }
        for unit in units.values_mut() {
            *unit = UnitSnapshot::default();
        }
        self.inner.changed.notify_one();
    }

    async fn keep_fresh(&self) {
        loop {
            let dirty = std::mem::take(&mut *lock(&self.inner.dirty));
            for component in &dirty {
                self.refresh(component).await;
            }
            if dirty.is_empty() {
                self.inner.to_refresh.notified().await;
            }
        }
    }

    /// Asks for a unit's state. One at a time, so that a later answer is never replaced by an earlier one.
    async fn refresh(&self, component: &ComponentName) {
        let _turn = self.inner.turn.lock().await;
        let Ok(fresh) = self.ask(component).await else { return };
        if lock(&self.inner.stale).remove(component) {
            self.inner.changed.notify_one();
        }
        if let Some(unit) = lock(&self.inner.units).get_mut(component)
            && *unit != fresh
        {
            *unit = fresh;
            self.inner.changed.notify_one();
        }
    }

    async fn ask(&self, component: &ComponentName) -> Result<UnitSnapshot, SystemdError> {
        let path = unit_path(component);
        let failed = |source| SystemdError::Call { what: "tell a unit's state", source };
        let bus = self.bus()?;
        let answer = bus.call_method(Some(NAME), path.as_str(), Some(PROPERTIES), "GetAll", &(UNIT,)).await;
        let answer = answer.map_err(failed)?;
        let mut all: HashMap<String, OwnedVariant> = answer.body().deserialize().map_err(failed)?;
        let mut text =
            |name: &str| all.remove(name).and_then(|value| String::try_from(value).ok()).unwrap_or_default();
        let (active, sub) = (text("ActiveState"), text("SubState"));
        let mut time = |name: &str| {
            let micros = all.remove(name).and_then(|value| u64::try_from(value).ok());
            Timestamp(micros.unwrap_or_default() / 1000)
        };
        let (since, since_boot) = (time("StateChangeTimestamp"), time("StateChangeTimestampMonotonic"));
        let invocation = all.remove("InvocationID").and_then(|value| Vec::<u8>::try_from(value).ok());
        let restarts = self.property(&path, SERVICE, "NRestarts").await?;
        Ok(UnitSnapshot {
            state: state_of(&active),
            words: format!("{active} ({sub})"),
            restarts: u32::try_from(restarts).unwrap_or_default(),
            invocation: invocation.filter(|id| !id.is_empty()).map(|id| hex(&id)),
            since,
            since_boot,
        })
    }
}

fn state_of(word: &str) -> UnitState {
    match word {
        "active" | "reloading" | "refreshing" => UnitState::Active,
        "activating" => UnitState::Activating,
        "deactivating" => UnitState::Deactivating,
        "failed" => UnitState::Failed,
        "inactive" | "maintenance" => UnitState::Inactive,
        _ => UnitState::Unknown,
    }
}

fn unit_name(component: &ComponentName) -> String {
    format!("castrum-{component}.service")
}

/// The object path of a component's unit: all but letters and digits are written as `_` and two hexadecimal digits.
fn unit_path(component: &ComponentName) -> String {
    let escaped: String = unit_name(component)
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            other => format!("_{other:02x}"),
        })
        .collect();
    format!("{UNITS}/{escaped}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _: std::fmt::Result = write!(text, "{byte:02x}");
        text
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_paths_are_escaped_as_the_service_manager_does() {
        let path = unit_path(&"node-exporter".parse().unwrap());
        assert_eq!(path, "/org/freedesktop/systemd1/unit/castrum_2dnode_2dexporter_2eservice");
    }

    #[tokio::test]
    async fn without_a_bus_nothing_is_known_and_nothing_is_claimed() {
        let systemd = Systemd::default();
        let etcd: ComponentName = "etcd".parse().unwrap();
        systemd.watch(BTreeSet::from([etcd.clone()]));
        assert_eq!(systemd.snapshot(&etcd).state, UnitState::Unknown);
        assert!(matches!(systemd.start(&etcd).await, Err(SystemdError::Silent)));
        assert!(matches!(systemd.reload().await, Err(SystemdError::Silent)));
    }
}
