//! Power control, from outside the node as a machine's is.

use std::path::Path;
use std::time::Duration;

use castrum_provider::PowerState;

use crate::cgroup::Cgroup;
use crate::error::LocalError;
use crate::machine::init;
use crate::process::wait_end;
use crate::sys::poweroff_signal;

/// How long a node may take to shut down by itself.
const SHUTDOWN: Duration = Duration::from_secs(20);

/// The power state of the node with this cgroup and this folder.
pub(crate) fn state(cgroup: &Cgroup, dir: &Path) -> PowerState {
    if init(cgroup, dir).is_none() {
        PowerState::Off
    } else if cgroup.is_frozen() {
        PowerState::Paused
    } else {
        PowerState::On
    }
}

/// Asks systemd to shut down, and takes the power away if it does not in time.
pub(crate) fn stop(cgroup: &Cgroup, dir: &Path) -> Result<(), LocalError> {
    if cgroup.is_frozen() {
        cgroup.freeze(false)?;
    }
    if let Some(process) = init(cgroup, dir).and_then(crate::process::Process::open) {
        let asked = rustix::process::pidfd_send_signal(&process, poweroff_signal());
        if asked.is_ok() && wait_end(&process, SHUTDOWN) {
            return cgroup.wait_empty();
        }
        tracing::warn!(node = %dir.display(), "the node did not shut down in time; its power is cut");
    }
    kill(cgroup)
}

/// Takes the power away at once.
pub(crate) fn kill(cgroup: &Cgroup) -> Result<(), LocalError> {
    cgroup.kill()
}

/// Freezes the node in the middle of what it does, or lets it go on.
pub(crate) fn pause(cgroup: &Cgroup, paused: bool) -> Result<(), LocalError> {
    cgroup.freeze(paused)
}
