//! Taking a lease and keeping it: the one task that writes `lease.json`, so that a holder's own writes follow one another.
//!
//! An answer that is lost says nothing. So after every write that was not confirmed the object is read: if it holds what
//! was sent, the write went through (no content ever comes back); if it is still the version before, it did not, and is
//! sent again; else somebody else has the lease, and this holder is done.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use castrum_blueprints::names::Digest;
use castrum_provider::Clock as _;
use tokio::sync::{mpsc, oneshot};

use super::lease::{Ended, HEAD_FORMAT, Head, Lease, Moment, Pinned, Term, Verdict, Watch};
use super::place::{Kept, Place, PlaceError, Version, When};
use super::tenure::{Gone, Tenure, moment};
use crate::clock::SystemClock;
use crate::view::style::{clean, utc};

/// The object that everything hangs on.
pub const HEAD: &str = "lease.json";
/// The object by which a place shows that it refuses.
const PROBE: &str = "probe";
/// Whether a lease must be renewed is looked at this often, and after a failure it is tried again.
const TICK: Duration = Duration::from_millis(200);

/// What a keeper is asked for.
pub enum Ask {
    /// Let this count from now on.
    Pin(Pinned, Digest, oneshot::Sender<Result<(), Gone>>),
    /// Give the lease back.
    Release(oneshot::Sender<()>),
}

/// Why a lease was not had.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// Somebody has it and is at work.
    #[error("another command is at work on this cluster: {}", told(.0))]
    Held(Box<Lease>),
    /// The place does not do what it must.
    #[error("`{0}` writes although it was asked not to: it cannot keep two commands apart")]
    Careless(String),
    /// The place cannot be used.
    #[error(transparent)]
    Place(#[from] PlaceError),
}

/// Who holds a lease, for people.
pub fn told(lease: &Lease) -> String {
    let Lease { holder, who, taken_at, expires_at, id, .. } = lease;
    let text = format!(
        "`castrum {}` of {who}, process {}, since {}, until {} unless it is renewed (lease `{id}`)",
        holder.verb,
        holder.pid,
        utc(*taken_at),
        utc(*expires_at),
    );
    clean(&text)
}

/// Reads the head of a place; a new one if there is none.
pub async fn head(place: &dyn Place) -> Result<(Head, Option<Version>), PlaceError> {
    match place.read(HEAD).await? {
        None => Ok((Head::new(), None)),
        Some(Kept { bytes, version }) => Ok((parse(place, &bytes)?, Some(version))),
    }
}

fn parse(place: &dyn Place, bytes: &[u8]) -> Result<Head, PlaceError> {
    let spoilt = |cause: &str| PlaceError::Spoilt {
        place: place.name(),
        name: HEAD.to_owned(),
        cause: cause.to_owned(),
    };
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|_| spoilt("it is not JSON"))?;
    if value["format_version"] != HEAD_FORMAT {
        return Err(spoilt("another version of Castrum wrote it"));
    }
    serde_json::from_value(value).map_err(|_| spoilt("it is not what a lease looks like"))
}

fn text(head: &Head) -> Bytes {
    Bytes::from(serde_json::to_vec_pretty(head).unwrap_or_default())
}

/// How a write ended.
enum Written {
    /// It is there.
    Done(Version),
    /// It is not there, and something else is.
    Passed(Head),
    /// It was not there when last looked, and nothing else was.
    Unknown(PlaceError),
}

/// Writes a head once, and finds out what came of it.
async fn write(place: &dyn Place, next: &Head, seen: Option<&Version>) -> Written {
    let bytes = text(next);
    let when = seen.map_or(When::Absent, |version| When::Is(version.clone()));
    let error = match place.write(HEAD, bytes.clone(), when).await {
        Ok(version) => return Written::Done(version),
        Err(error) => error,
    };
    match place.read(HEAD).await {
        Ok(Some(kept)) if kept.bytes == bytes => Written::Done(kept.version),
        Ok(kept) if kept.as_ref().map(|kept| &kept.version) == seen => Written::Unknown(error),
        Ok(Some(kept)) => match parse(place, &kept.bytes) {
            Ok(head) => Written::Passed(head),
            Err(error) => Written::Unknown(error),
        },
        Ok(None) => Written::Passed(Head::new()),
        Err(error) => Written::Unknown(error),
    }
}

/// Makes sure that a place refuses what it must refuse.
async fn probe(place: &dyn Place) -> Result<(), TakeError> {
    let careless = || TakeError::Careless(place.name());
    let create = || place.write(PROBE, Bytes::from_static(b"castrum\n"), When::Absent);
    match create().await {
        Err(PlaceError::Conflict { .. }) => {}
        Ok(_) => match create().await {
            Err(PlaceError::Conflict { .. }) => {}
            Ok(_) => return Err(careless()),
            Err(error) => return Err(error.into()),
        },
        Err(error) => return Err(error.into()),
    }
    let never =
        Version { tag: Some("\"00000000000000000000000000000000\"".into()), number: Some("1".into()) };
    match place.write(PROBE, Bytes::from_static(b"careless\n"), When::Is(never)).await {
        Err(PlaceError::Conflict { .. }) => Ok(()),
        Ok(_) => Err(careless()),
        Err(error) => Err(error.into()),
    }
}

/// Takes the lease: at once if it is free, after its whole length if its holder is silent. `wait` is told whom it waits for.
pub async fn take(
    place: Arc<dyn Place>,
    lease: impl Fn(u64) -> Lease,
    wait: &(dyn Fn(&Lease) + Sync),
) -> Result<Keeper, TakeError> {
    probe(&*place).await?;
    let (mut watch, mut told) = (Watch::default(), false);
    loop {
        let (head, version) = head(&*place).await?;
        let answered = moment();
        match (watch.saw(&head, answered), &head.lease) {
            (Verdict::Alive, Some(lease)) => return Err(TakeError::Held(Box::new(lease.clone()))),
            (Verdict::Unsure(until), Some(lease)) => {
                if !std::mem::replace(&mut told, true) {
                    wait(lease);
                }
                let left = until.0.saturating_sub(answered.0).clamp(1, lease.length_ms / 6);
                tokio::time::sleep(Duration::from_millis(left)).await;
                continue;
            }
            _ => {}
        }
        let next = head.taken(&lease);
        let sent = moment();
        match write(&*place, &next, version.as_ref()).await {
            Written::Done(version) => return Ok(Keeper::new(place, next, version, sent)),
            // Somebody was faster, and is watched from now on.
            Written::Passed(_) => {}
            Written::Unknown(error) => return Err(error.into()),
        }
    }
}

/// Breaks the lease with this id; `None` if there is no such lease.
pub async fn unlock(place: &dyn Place, id: &str, who: &str) -> Result<Option<Lease>, PlaceError> {
    let (head, version) = head(place).await?;
    let Some(lease) = head.lease.clone().filter(|lease| lease.id == id) else { return Ok(None) };
    let ended = Ended { who: who.to_owned(), broken: true };
    match write(place, &head.free(ended), version.as_ref()).await {
        Written::Done(_) => Ok(Some(lease)),
        // A holder that renews is faster than people; the id stays the same as long as it is the same holder.
        Written::Passed(head) if head.lease.as_ref().is_some_and(|lease| lease.id == id) => {
            Box::pin(unlock(place, id, who)).await
        }
        Written::Passed(_) => Ok(None),
        Written::Unknown(error) => Err(error),
    }
}

/// Holds a lease.
pub struct Keeper {
    place: Arc<dyn Place>,
    head: Head,
    version: Version,
    term: Term,
    tenure: Arc<Tenure>,
}

impl Keeper {
    fn new(place: Arc<dyn Place>, head: Head, version: Version, sent: Moment) -> Self {
        let length = head.lease.as_ref().map_or(0, |lease| lease.length_ms);
        let term = Term::new(length, sent);
        Self { place, head, version, term, tenure: Arc::new(Tenure::new(term)) }
    }

    /// Whether it still holds; for whoever begins things.
    pub fn tenure(&self) -> Arc<Tenure> {
        Arc::clone(&self.tenure)
    }

    /// What the place said when the lease was taken.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Keeps the lease until it is given back or gone.
    pub async fn keep(mut self, mut asks: mpsc::Receiver<Ask>) {
        let mut gone = None;
        loop {
            tokio::select! {
                ask = asks.recv() => match ask {
                    Some(Ask::Pin(what, digest, answer)) => {
                        let next = self.head.renewed(SystemClock.now()).pinning(what, digest);
                        let ended = match gone.clone() { None => self.swap(next).await, Some(gone) => Err(gone) };
                        gone = ended.clone().err();
                        let _ = answer.send(ended);
                    }
                    Some(Ask::Release(answer)) => {
                        if gone.is_none() {
                            // Whatever comes of it: a lease that is not given back ends by itself.
                            let who = self.head.lease.as_ref().map(|lease| lease.who.clone()).unwrap_or_default();
                            let _ = self.swap(self.head.free(Ended { who, broken: false })).await;
                        }
                        let _ = answer.send(());
                        return;
                    }
                    None => return,
                },
                () = tokio::time::sleep(TICK), if gone.is_none() => {
                    if moment() >= self.term.renews() {
                        let next = self.head.renewed(SystemClock.now());
                        gone = self.swap(next).await.err();
                    }
                }
            }
        }
    }

    /// Puts `next` in the place of the head, as long as the term lasts.
    async fn swap(&mut self, next: Head) -> Result<(), Gone> {
        let sent = moment();
        let mut cause = "this process stood still".to_owned();
        loop {
            let left = self.term.ends().0.saturating_sub(moment().0);
            if left == 0 {
                return Err(self.late(cause).await);
            }
            let write = write(&*self.place, &next, Some(&self.version));
            match tokio::time::timeout(Duration::from_millis(left), write).await {
                Ok(Written::Done(version)) => {
                    // The first time that it was sent: it may have been that one which went through.
                    self.term = self.term.renewed(sent);
                    self.tenure.renewed(self.term);
                    (self.head, self.version) = (next, version);
                    return Ok(());
                }
                Ok(Written::Passed(head)) => return Err(self.lose(self.successor(&head))),
                Ok(Written::Unknown(error)) => cause = error.to_string(),
                Err(_) => "no answer in time".clone_into(&mut cause),
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// The term is over, so nothing new is begun by now. Who has the lease is looked up only to be told.
    async fn late(&self, cause: String) -> Gone {
        let late = Gone::Late { place: self.place.name(), cause };
        let why = match tokio::time::timeout(Duration::from_secs(5), head(&*self.place)).await {
            Ok(Ok((head, _))) if head.token != self.head.token || head.lease.is_none() => {
                self.successor(&head)
            }
            _ => late,
        };
        self.lose(why)
    }

    fn successor(&self, head: &Head) -> Gone {
        let place = self.place.name();
        match (&head.lease, &head.ended) {
            (Some(lease), _) => Gone::TakenOver { place, by: told(lease) },
            (None, Some(Ended { who, broken: true })) => Gone::Broken { place, by: clean(who) },
            (None, ended) => {
                let who = ended.as_ref().map_or("somebody", |ended| &ended.who);
                Gone::TakenOver { place, by: format!("{}, who has given it back since", clean(who)) }
            }
        }
    }

    fn lose(&self, why: Gone) -> Gone {
        self.tenure.lose(why.clone());
        why
    }
}
