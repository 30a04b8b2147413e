//! SSH to machines, as the provider and the installer use it: one session per machine, many channels on it.
//!
//! What is stricter here than in a general SSH client: only public keys authenticate, a host key is never accepted
//! because a person shrugged, everything has a deadline, and a session that dies wakes whoever waits on it.
//!
//! ```text
//! ClientConfig ──route──▶ Route ──Session::open──▶ Session ──exec · exec_streaming · upload · tunnel · shell
//!  ~/.ssh/config          hops                     one TCP connection (or a tunnel of the hop before)
//! ```

mod auth;
mod channel;
mod config;
mod connect;
mod error;
mod exec;
mod fan_out;
mod hostkey;
mod known_hosts;
mod line;
mod pattern;
mod quote;
mod route;
mod session;
mod shell;
mod tunnel;

pub use auth::{Auth, parse_private_key};
pub use config::{ClientConfig, HostSettings};
pub use error::{SshError, SshErrorKind, fingerprint};
pub use exec::{Chunk, ExitStatus, Limits, Output, Stdin, Streaming};
pub use fan_out::{FanOut, Receiver, fan_out};
pub use hostkey::{HostKeyPolicy, HostKeyProof, KnownHosts, parse_public_key};
pub use quote::{command_line, quote};
pub use route::{Hop, Route, RouteRequest, Target};
pub use russh::keys::{PrivateKey, PublicKey};
pub use session::Session;
pub use shell::{ShellInput, TerminalSize};
pub use tunnel::Tunnel;
