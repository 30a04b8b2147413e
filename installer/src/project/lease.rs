//! The lease, computed: who may change a cluster whose state lies in an object store. No clock, no network.
//!
//! One object, `lease.json`, says who holds the cluster, and which lock file and keyring count (by digest; their bytes lie
//! in objects of their own that never change). Each write replaces it if it is still the version that the writer saw last
//! (compare-and-swap), so all that is written to a place is one chain, and a holder's pin is in the same link as its
//! claim to be the holder. Whoever was passed over can write nothing more: the version that it saw is gone.
//!
//! ```text
//!            create · swap, token + 1                     swap: renew, every third of the lease
//!   free ─────────────────────────────▶ held by A ◀────┐
//!    ▲                                   │  │  └───────┘
//!    └──── swap: release · `unlock` ─────┘  │ B sees one version for a whole lease
//!                                           └───────▶ held by B, token + 1     (A's next swap is refused)
//! ```
//!
//! **No two clocks are compared.** Times in the object are for people. Whoever waits measures by its own clock how long it
//! sees one version, beginning when the first answer is *in*, and takes over after a whole lease. Who holds measures by its
//! own clock from when its last write that went through was *sent*, and stops a sixth of the lease early. The version was
//! not there before it was sent, and was there before the answer came: so the holder has stopped before anybody takes
//! over, as long as no clock runs a tenth faster than another. Store clocks and time zones do not matter; the price is
//! that a lease whose holder is dead is watched for its whole length. [`Moment`] counts while a machine sleeps, too.

use castrum_blueprints::names::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

use super::Holder;

/// The version of the form of [`Head`].
pub const HEAD_FORMAT: u32 = 1;

/// A time by this machine's own clock, in milliseconds. It says nothing to other machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// So much later.
    #[must_use]
    pub fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// What `lease.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// [`HEAD_FORMAT`].
    pub format_version: u32,
    /// Grows by one whenever the lease changes hands, and never falls: a later holder has a greater one.
    pub token: u64,
    /// Grows by one with each write, so that no content ever comes back.
    pub count: u64,
    /// Who holds it; `None`: nobody.
    pub lease: Option<Lease>,
    /// How the lease before ended, if it did not run out. For people.
    pub ended: Option<Ended>,
    /// The lock file that counts.
    pub lock: Option<Digest>,
    /// The keyring that counts.
    pub keyring: Option<Digest>,
}

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// What `unlock` asks for.
    pub id: String,
    /// User and machine.
    pub who: String,
    /// Run, process and command.
    pub holder: Holder,
    /// How long it lasts unless it is renewed, in milliseconds.
    pub length_ms: u64,
    /// When it was taken, by the holder's clock. For people.
    pub taken_at: Timestamp,
    /// When it was last renewed, by the holder's clock. For people.
    pub renewed_at: Timestamp,
    /// When it is over unless it is renewed, by the holder's clock. For people.
    pub expires_at: Timestamp,
}

/// How a lease ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Who ended it.
    pub who: String,
    /// Whether it was broken, and not given back.
    pub broken: bool,
}

/// One of the two things that a head points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pinned {
    /// `castrum.lock`.
    Lock,
    /// The sealed keyring.
    Keyring,
}

impl Pinned {
    /// The folder of its objects.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Keyring => "keyring",
        }
    }

    /// The object with these bytes.
    pub fn object(self, digest: &Digest) -> String {
        format!("{}/{}", self.folder(), digest.as_str())
    }
}

impl Head {
    /// The head of a place that nobody has used.
    pub fn new() -> Self {
        Self {
            format_version: HEAD_FORMAT,
            token: 0,
            count: 0,
            lease: None,
            ended: None,
            lock: None,
            keyring: None,
        }
    }

    /// The same, held by whoever `lease` makes it from the new token.
    #[must_use]
    pub fn taken(&self, lease: impl FnOnce(u64) -> Lease) -> Self {
        let token = self.token + 1;
        Self { token, count: self.count + 1, lease: Some(lease(token)), ..self.clone() }
    }

    /// The same, renewed at `now`.
    #[must_use]
    pub fn renewed(&self, now: Timestamp) -> Self {
        let lease = self.lease.clone().map(|lease| Lease {
            renewed_at: now,
            expires_at: now.plus(lease.length_ms),
            ..lease
        });
        Self { count: self.count + 1, lease, ..self.clone() }
    }

    /// The same, held by nobody. The token grows when the lease is broken: it changed hands.
    #[must_use]
    pub fn free(&self, ended: Ended) -> Self {
        let token = self.token + u64::from(ended.broken);
        Self { token, count: self.count + 1, lease: None, ended: Some(ended), ..self.clone() }
    }

    /// What it points to.
    pub fn pin(&self, what: Pinned) -> Option<&Digest> {
        match what {
            Pinned::Lock => self.lock.as_ref(),
            Pinned::Keyring => self.keyring.as_ref(),
        }
    }

    /// The same, pointing to something else.
    #[must_use]
    pub fn pinning(mut self, what: Pinned, digest: Digest) -> Self {
        match what {
            Pinned::Lock => self.lock = Some(digest),
            Pinned::Keyring => self.keyring = Some(digest),
        }
        self
    }
}

impl Default for Head {
    fn default() -> Self {
        Self::new()
    }
}

/// What somebody who wants a lease makes of what it sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody holds it: it may be taken from the version that was seen.
    Free,
    /// Whoever held it did not renew it for its whole length: it may be taken from the version that was seen.
    Over,
    /// It was seen to be renewed: its holder is at work.
    Alive,
    /// It cannot be told yet: look again, until then at the latest.
    Unsure(Moment),
}

/// What somebody who wants a lease has seen of it.
#[derive(Debug, Default)]
pub struct Watch {
    /// Which content, and when the answer that first showed it was in.
    first: Option<(u64, Moment)>,
}

impl Watch {
    /// Takes in what an answer showed that was in at `answered`.
    pub fn saw(&mut self, head: &Head, answered: Moment) -> Verdict {
        let Some(lease) = &head.lease else { return Verdict::Free };
        match self.first {
            Some((count, since)) if count == head.count => {
                let over = since.plus(lease.length_ms);
                if answered >= over { Verdict::Over } else { Verdict::Unsure(over) }
            }
            Some(_) => Verdict::Alive,
            None => {
                self.first = Some((head.count, answered));
                Verdict::Unsure(answered.plus(lease.length_ms))
            }
        }
    }
}

/// How long a holder may go on, by its own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    length_ms: u64,
    renewed: Moment,
}

impl Term {
    /// A term that begins with a write that went through and was sent at `sent`.
    pub fn new(length_ms: u64, sent: Moment) -> Self {
        Self { length_ms, renewed: sent }
    }

    /// The term after one more write that went through; the first attempt to send it counts.
    #[must_use]
    pub fn renewed(self, sent: Moment) -> Self {
        Self { renewed: self.renewed.max(sent), ..self }
    }

    /// When it should be renewed.
    pub fn renews(&self) -> Moment {
        self.renewed.plus(self.length_ms / 3)
    }

    /// When nothing new may be begun any more.
    pub fn ends(&self) -> Moment {
        self.renewed.plus(self.length_ms - self.length_ms / 6)
    }

    /// Whether the holder holds.
    pub fn holds(&self, now: Moment) -> bool {
        now < self.ends()
    }
}

#[cfg(test)]
mod tests;
