//! Images from the web, fetched with limits.
//!
//! In: a URL that an untrusted user chose. Out: a picture, or an error. Deliberately absent: the place of the picture;
//! a cache across runs.
//!
//! Everything is bounded: the total time, bytes, redirects, pixels, and the memory for decoding. Only allowed addresses
//! are connected to, normally the public ones, and the address that was checked is the one that is used. Therefore
//! neither a redirect nor a changing DNS record leads into the internal network. Errors contain nothing of the URL and
//! nothing of what an internal server answered.

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
const TIME_LIMIT: Duration = Duration::from_secs(15);

/// Options for fetching images.
#[derive(Clone, Debug)]
pub struct ImageOptions {
    /// The TLS configuration for `https`.
    pub tls: Arc<rustls::ClientConfig>,
    /// Returns whether an address may be connected to.
    pub may_reach: fn(IpAddr) -> bool,
    /// Maximum side of the picture in pixels; larger images are scaled down.
    pub longest_side: u32,
    /// The colour behind transparent images, as 65536 R + 256 G + B.
    pub background: u32,
}

/// Why an image could not be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ImageError {
    /// The URL is invalid, is neither `http` nor `https`, or contains a user name.
    #[error("the URL is no address of an image")]
    Url,
    /// The name has no address, or one that is not public.
    #[error("the address is not public, or there is none")]
    Address,
    /// The connection or its TLS handshake failed, or the connection broke.
    #[error("the connection failed")]
    Connection,
    /// The response is neither an image nor a redirect, or there are too many redirects.
    #[error("the answer is not the image")]
    Answer,
    /// The image has too many bytes or pixels.
    #[error("the image is too large")]
    Size,
    /// The image is neither PNG nor JPEG, or it is damaged.
    #[error("the image is neither PNG nor JPEG, or broken")]
    Format,
    /// Fetching took too long.
    #[error("the image took too long")]
    Timeout,
}

/// Fetches an image.
///
/// # Errors
/// [`ImageError`] says why it failed.
pub async fn image(url: &str, options: &ImageOptions) -> Result<Picture, ImageError> {
    let whole = async {
        let bytes = fetch::fetch(url, options).await?;
        let (side, background) = (options.longest_side, options.background);
        run_exclusively(&DECODING, move || decode::decode(&bytes, side, background)).await
    };
    timeout(TIME_LIMIT, whole).await.unwrap_or(Err(ImageError::Timeout))
}

/// Runs the work once a permit is free. The work keeps its permit until its end, even if nobody waits for it any more.
async fn run_exclusively<T: Send + 'static>(
    permits: &'static Semaphore,
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    let permit = permits.acquire().await;
    let working = tokio::task::spawn_blocking(move || {
        let _permit = permit;
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
    async fn abandoned_work_keeps_its_permit() {
        static PERMITS: Semaphore = Semaphore::const_new(1);
        let (begin, begun) = oneshot::channel();
        let (go_on, may_end) = mpsc::channel::<()>();
        let first = tokio::spawn(run_exclusively(&PERMITS, move || {
            begin.send(()).unwrap();
            may_end.recv().unwrap();
            Ok(())
        }));
        begun.await.unwrap();
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        assert_eq!(PERMITS.available_permits(), 0, "the aborted work still runs");
        go_on.send(()).unwrap();
        assert_eq!(run_exclusively(&PERMITS, || Ok(7)).await, Ok(7));
    }
}
