//! The service: who this node is, then everything that runs beside each other on one thread.

use std::future::Future;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::act::files::FileError;
use crate::act::systemd::Systemd;
use crate::act::{Actor, probe};
use crate::api::{self, ApiError, Context};
use crate::converge::{Converger, Facts, first_status};
use crate::identity::join::until_admitted;
use crate::identity::{Identity, IdentityError, Tls};
use crate::ledger::{Book, LedgerError};
use crate::paths::Paths;

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// It does not know who it is.
    #[error("find out who this node is")]
    Identity(#[from] IdentityError),
    /// Half-done things could not be swept away.
    #[error("tidy up")]
    Tidy(#[from] FileError),
    /// What it remembers cannot be used.
    #[error("remember")]
    Ledger(#[from] LedgerError),
    /// Its API cannot be served.
    #[error("prepare the API")]
    Api(#[from] ApiError),
    /// The port of its API is taken.
    #[error("listen on port {port}")]
    Listen {
        /// The port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The system refuses what every program needs.
    #[error("start the runtime")]
    Runtime(#[source] io::Error),
}

/// Runs the agent until it is told to end. What it started goes on then.
pub fn run(paths: &Paths) -> Result<(), ServiceError> {
    let level = std::env::var("CASTRUM_LOG").ok().and_then(|level| level.parse().ok());
    tracing_subscriber::fmt()
        .with_max_level(level.unwrap_or(tracing::Level::INFO))
        .with_writer(io::stderr)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .thread_keep_alive(Duration::from_millis(100))
        .build()
        .map_err(ServiceError::Runtime)?;
    runtime.block_on(serve(paths))
}

async fn serve(paths: &Paths) -> Result<(), ServiceError> {
    let stop = ended_by_signal().map_err(ServiceError::Runtime)?;
    let mut stop = std::pin::pin!(stop);
    let identity = Identity::load(paths.root())?;
    tracing::info!(node = %identity.node, cluster = %identity.cluster, "this node");
    probe::tidy(paths)?;
    let tls = tokio::select! {
        tls = until_admitted(&identity) => tls?,
        () = &mut stop => return Ok(()),
    };
    converge(paths, identity, tls, stop).await
}

async fn converge(
    paths: &Paths,
    identity: Arc<Identity>,
    tls: Tls,
    stop: impl Future<Output = ()>,
) -> Result<(), ServiceError> {
    let book = Book::open(&paths.ledger(), &identity)?;
    let held = book.manifest().and(book.ledger().manifest.clone());
    let (say, said) = watch::channel(first_status(&identity, paths));
    let (offer, offered) = watch::channel(held);
    let (accept, accepted) = watch::channel(None);
    let facts = Arc::new(Facts::new(tls.clone(), accepted));
    let context = Context::new(Arc::clone(&identity), tls.clone(), facts, said)?;
    let listener = listen(identity.api_port).await?;
    let systemd = Systemd::default();
    let actor = Actor { paths: paths.clone(), context: Arc::clone(&context), tls, systemd: systemd.clone() };
    tokio::spawn(systemd.run());
    tokio::spawn(api::serve(Arc::clone(&context), listener));
    tokio::spawn(api::follow(Arc::clone(&context), offer));
    tokio::spawn(api::report(context));
    tell_ready();
    Converger::new(Arc::new(actor), book, say, accept).run(offered, stop).await;
    tracing::info!("ended; what runs on this node goes on");
    Ok(())
}

/// Listens on all addresses of both families; of the old one only where the new one is switched off.
async fn listen(port: u16) -> Result<TcpListener, ServiceError> {
    let both = TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await;
    match both {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(ServiceError::Listen { port, source: error })
        }
        Err(_) => TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port)))
            .await
            .map_err(|source| ServiceError::Listen { port, source }),
    }
}

fn ended_by_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Tells a service manager that waits for it (`Type=notify`) that the agent serves.
fn tell_ready() {
    let Ok(path) = std::env::var("NOTIFY_SOCKET") else { return };
    let told = UnixDatagram::unbound().and_then(|socket| match path.strip_prefix('@') {
        Some(name) => {
            use std::os::linux::net::SocketAddrExt as _;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            socket.send_to_addr(b"READY=1", &address)
        }
        None => socket.send_to(b"READY=1", &path),
    });
    if let Err(error) = told {
        tracing::warn!(%error, "cannot tell the service manager that the agent is ready");
    }
}
