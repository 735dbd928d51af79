//! The body of an answer whose connection must not close first while the body is written. Comes in: a body, and the mark of
//! its connection. Goes out: the same body. The mark is held until the connection has written all bytes or is closed.
//! Deliberately absent: which connection closes, see `socket/idle_connections.rs`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};

use crate::socket::idle_connections::WaitingGuard;

/// The same body, which holds the mark.
pub(super) fn marked(body: Body, mark: WaitingGuard) -> Body {
    Body::new(MarkedBody { body, mark: Arc::new(mark) })
}

struct MarkedBody {
    body: Body,
    mark: Arc<WaitingGuard>,
}

impl HttpBody for MarkedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mark = self.mark.clone();
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        frame.map_ok(|frame| {
            // The connection drops the body when it has taken the last frame, and the bytes when it has written them.
            frame.map_data(|bytes| Bytes::from_owner(MarkedBytes { bytes, _mark: mark }))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Bytes that the connection has not written yet.
struct MarkedBytes {
    bytes: Bytes,
    _mark: Arc<WaitingGuard>,
}

impl AsRef<[u8]> for MarkedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
