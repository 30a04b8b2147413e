//! Connections: TLS, deadlines and how many there may be. A caller that has not shown a certificate yet counts among the
//! strangers, of whom few are let in from one address, so that they cannot keep the members out.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::caller::Caller;
use super::{Context, chain, routes};

/// Buffers of one connection; with [`Context`]'s limits it bounds the memory of all.
const BUFFER: usize = 64 * 1024;
const HEADERS: usize = 32;
/// What to wait when the system has no more sockets for us.
const NO_SOCKETS: Duration = Duration::from_millis(100);

/// Serves the API on `listener`. It runs until it is dropped, and then ends all connections.
pub async fn serve(ctx: Arc<Context>, listener: TcpListener) {
    let members = Arc::new(Semaphore::new(ctx.limits.members));
    let strangers = Arc::new(Strangers::new(ctx.limits.strangers, ctx.limits.strangers_an_address));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, from)) => {
                // A socket for both families tells the old kind in the form of the new one.
                let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                let Some(place) = Strangers::enter(&strangers, from.ip()) else {
                    debug!(%from, "too many strangers");
                    continue;
                };
                connections.spawn(serve_one(Arc::clone(&ctx), Arc::clone(&members), place, (stream, from)));
            }
            Err(error) => {
                warn!(error = chain(&error), "cannot take a connection");
                tokio::time::sleep(NO_SOCKETS).await;
            }
        }
    }
}

async fn serve_one(
    ctx: Arc<Context>,
    members: Arc<Semaphore>,
    place: Place,
    (stream, from): (TcpStream, SocketAddr),
) {
    // Long polls are answered in one small piece, which must not wait for another.
    drop(stream.set_nodelay(true));
    let limited = |session: &mut rustls::ServerConnection| session.set_buffer_limit(Some(BUFFER));
    let handshake = TlsAcceptor::from(Arc::clone(&ctx.tls.server)).accept_with(stream, limited);
    let stream = match tokio::time::timeout(ctx.limits.handshake, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return debug!(%from, error = chain(&error), "no TLS"),
        Err(_) => return debug!(%from, "the TLS handshake did not end in time"),
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first().cloned());
    let caller = Caller {
        from: from.ip(),
        certificate: certificate.map(rustls_pki_types::CertificateDer::into_owned),
    };
    let mut place = Some(place);
    let _member = if caller.certificate.is_some() {
        let Ok(permit) = members.try_acquire() else { return warn!(%from, "too many connections") };
        place = None;
        Some(permit)
    } else {
        None
    };
    let service =
        service_fn(|request| async { Ok::<_, Infallible>(routes::answer(&ctx, &caller, request).await) });
    let ended = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ctx.limits.head)
        .max_buf_size(BUFFER)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = ended {
        debug!(%from, error = chain(&error), "a connection broke");
    }
    drop(place);
}

/// Callers without a certificate, counted by address.
#[derive(Debug)]
struct Strangers {
    most: usize,
    most_an_address: usize,
    counts: Mutex<(usize, BTreeMap<IpAddr, usize>)>,
}

impl Strangers {
    fn new(most: usize, most_an_address: usize) -> Self {
        Self { most, most_an_address, counts: Mutex::default() }
    }

    fn enter(this: &Arc<Self>, from: IpAddr) -> Option<Place> {
        let mut counts = this.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let here = counts.1.get(&from).copied().unwrap_or_default();
        if counts.0 >= this.most || here >= this.most_an_address {
            return None;
        }
        counts.0 += 1;
        counts.1.insert(from, here + 1);
        Some(Place { of: Arc::clone(this), from })
    }
}

/// A stranger's place, given back when dropped.
#[derive(Debug)]
struct Place {
    of: Arc<Strangers>,
    from: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.of.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.0 -= 1;
        if let Some(here) = counts.1.get_mut(&self.from) {
            *here -= 1;
            if *here == 0 {
                counts.1.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_all_places() {
        let strangers = Arc::new(Strangers::new(3, 2));
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = Strangers::enter(&strangers, one);
        let second = Strangers::enter(&strangers, one);
        assert!(first.is_some() && second.is_some());
        assert!(Strangers::enter(&strangers, one).is_none());
        let third = Strangers::enter(&strangers, other);
        assert!(third.is_some());
        assert!(Strangers::enter(&strangers, other).is_none(), "three in all");
        drop(first);
        assert!(Strangers::enter(&strangers, other).is_some());
        drop((second, third));
        assert!(strangers.counts.lock().unwrap().1.is_empty());
    }
}
