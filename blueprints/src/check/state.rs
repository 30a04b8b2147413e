//! The place of working state: what its fields say together.

use super::Check;
use crate::blueprint::Store;
use crate::document::Code;
use crate::document::path::steps;
use crate::document::written::Given;

/// A shorter lease would be lost to any pause, and asked for all the time.
const LEAST_LEASE: u32 = 3;
/// Whoever finds a command that was killed waits for as long as this.
const MOST_LEASE: u32 = 600;

impl Check<'_> {
    pub(super) fn state(&mut self) {
        let Given::Yes(state) = &self.written.state else { return };
        if state.region.is_some() && state.store != Store::S3 {
            let message = format!("`{}://` has no regions", state.store.scheme());
            self.error(Code::Conflict, steps!["state", "region"], message, "remove it".to_owned());
        }
        if !(LEAST_LEASE..=MOST_LEASE).contains(&state.lease_seconds) {
            let message = format!("a lease of {} seconds is too {}", state.lease_seconds, {
                if state.lease_seconds < LEAST_LEASE { "short" } else { "long" }
            });
            let hint = format!("use {LEAST_LEASE}s to {}m; 30s is usual", MOST_LEASE / 60);
            self.error(Code::BadValue, steps!["state", "lease"], message, hint);
        }
        let in_the_clear = state.endpoint.as_deref().and_then(|endpoint| endpoint.strip_prefix("http://"));
        if in_the_clear.is_some_and(|host| !host.starts_with("127.") && !host.starts_with("localhost")) {
            let message = "the journal and the lock file are readable on their way to this endpoint";
            self.advise(steps!["state", "endpoint"], message, "use `https://`");
        }
    }
}
