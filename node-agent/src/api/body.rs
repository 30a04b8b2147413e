//! Bodies: taken with a bound in size and time, given from a file a slice at a time.

use std::fs::File;
use std::io::{self, Read as _};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::StatusCode;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use super::routes::Refused;

/// What is read of a file at a time; with the TLS buffer it is what one reader takes of memory.
const SLICE: u64 = 64 * 1024;

/// The body of every answer.
pub(super) type Reply = Either<Full<Bytes>, FileBody>;

/// Takes a whole body.
pub(super) async fn take(mut body: Incoming, cap: usize, time: Duration) -> Result<Bytes, Refused> {
    let too_large = || Refused::new(StatusCode::PAYLOAD_TOO_LARGE, format!("more than {cap} bytes"));
    if body.size_hint().lower() > cap as u64 {
        return Err(too_large());
    }
    let all = async {
        let mut taken = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Refused::new(StatusCode::BAD_REQUEST, "the body broke off"))?;
            let Some(data) = frame.data_ref() else { continue };
            if taken.len() + data.len() > cap {
                return Err(too_large());
            }
            taken.extend_from_slice(data);
        }
        Ok(taken.freeze())
    };
    let late = |_| Refused::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time");
    tokio::time::timeout(time, all).await.map_err(late)?
}

/// A file on its way out. Its slices are read here and now: they are small, and a pool of threads for them is not.
pub(super) struct FileBody {
    file: File,
    left: u64,
    _turn: OwnedSemaphorePermit,
}

impl FileBody {
    pub(super) fn new(file: File, turn: OwnedSemaphorePermit) -> io::Result<Self> {
        let left = file.metadata()?.len();
        Ok(Self { file, left, _turn: turn })
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let count = usize::try_from(self.left.min(SLICE)).unwrap_or_default();
        let mut slice = vec![0; count];
        if let Err(error) = self.file.read_exact(&mut slice) {
            return Poll::Ready(Some(Err(error)));
        }
        self.left -= count as u64;
        Poll::Ready(Some(Ok(Frame::data(slice.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
