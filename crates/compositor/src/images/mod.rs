//! Images from the web, fetched with care.
//!
//! In: a URL that a stranger chose. Out: a picture, or why there is none. Absent: where it is shown; a cache over runs.
//!
//! Everything is bounded: the time of it all, bytes, redirects, pixels, and the memory of decoding. Only addresses that are
//! allowed are connected to, which are public ones as a rule, and it is the address that was looked at that is connected to. So
//! neither a redirect nor a name that changes its mind leads inside. An error says nothing of the URL and nothing of what an
//! inside server answered.

mod decode;
mod fetch;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::picture::Picture;

/// One image is decoded at a time, so the memory of decoding is that of one.
static DECODING: Semaphore = Semaphore::const_new(1);
/// From the beginning until the picture is there.
const LIMIT: Duration = Duration::from_secs(15);

/// How images are fetched.
#[derive(Clone, Debug)]
pub struct ImageOptions {
    /// Whom `https` trusts.
    pub tls: Arc<rustls::ClientConfig>,
    /// Which addresses may be connected to.
    pub may_reach: fn(IpAddr) -> bool,
    /// Longest side of the picture; larger ones are made smaller.
    pub longest_side: u32,
    /// What is behind a picture that can be looked through.
    pub behind: u32,
}

/// Why there is no picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ImageError {
    /// The URL is none, is neither `http` nor `https`, or holds a user.
    #[error("the URL is no address of an image")]
    Url,
    /// The name leads to no address, or to one that is not public.
    #[error("the address is not public, or there is none")]
    Address,
    /// No connection, no TLS, or it broke.
    #[error("the connection failed")]
    Connection,
    /// The answer is neither the image nor a redirect, or there are too many of those.
    #[error("the answer is not the image")]
    Answer,
    /// Too many bytes or pixels.
    #[error("the image is too large")]
    Size,
    /// Neither PNG nor JPEG, or broken.
    #[error("the image is neither PNG nor JPEG, or broken")]
    Format,
    /// It took too long.
    #[error("the image took too long")]
    Timeout,
}

/// Fetches an image.
///
/// # Errors
/// [`ImageError`].
pub async fn image(url: &str, options: &ImageOptions) -> Result<Picture, ImageError> {
    let whole = async {
        let bytes = fetch::fetch(url, options).await?;
        let (side, behind) = (options.longest_side, options.behind);
        alone(&DECODING, move || decode::decode(&bytes, side, behind)).await
    };
    timeout(LIMIT, whole).await.unwrap_or(Err(ImageError::Timeout))
}

/// Works when it is its turn. The turn is that of the work: it does not end before the work does, although nobody may wait
/// for it any more.
async fn alone<T: Send + 'static>(
    turns: &'static Semaphore,
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    let turn = turns.acquire().await;
    let working = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    working.await.unwrap_or(Err(ImageError::Format))
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: what is decoded at once.

    use std::sync::mpsc;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_that_nobody_waits_for_keeps_its_turn() {
        static TURNS: Semaphore = Semaphore::const_new(1);
        let (begin, begun) = oneshot::channel();
        let (go_on, may_end) = mpsc::channel::<()>();
        let first = tokio::spawn(alone(&TURNS, move || {
            begin.send(()).unwrap();
            may_end.recv().unwrap();
            Ok(())
        }));
        begun.await.unwrap();
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        assert_eq!(TURNS.available_permits(), 0, "it works on");
        go_on.send(()).unwrap();
        assert_eq!(alone(&TURNS, || Ok(7)).await, Ok(7));
    }
}
