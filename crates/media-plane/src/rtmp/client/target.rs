//! The target of a client: an app and a stream of an upstream.
//!
//! In: the parts of an RTMP URL. Out: the same parts, and texts from which the keys are removed. Absent: parsing of
//! URLs, see `crate::upstream`.

use std::fmt;

use crate::rtmp::RtmpError;
use crate::rtmp::command::split_query;
use crate::rtmp::limits::MAX_NAME_BYTES;

/// Shorter texts do not count as keys: removing them would make every sentence unreadable.
const MIN_KEY_BYTES: usize = 4;

/// The app and stream that a client publishes to or plays. `Debug` omits the stream, because its name and query are
/// keys.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    app: String,
    tc_url: String,
    stream: String,
    /// The texts that must not be shown, longest first.
    keys: Vec<String>,
}

impl Target {
    /// A stream with its query, the app that it belongs to, and the URL of that app.
    ///
    /// # Errors
    /// [`RtmpError::NameSize`] if one of them is longer than [`MAX_NAME_BYTES`].
    pub fn new(app: &str, tc_url: &str, stream: &str) -> Result<Self, RtmpError> {
        if [app, tc_url, stream].iter().any(|text| text.len() > MAX_NAME_BYTES) {
            return Err(RtmpError::NameSize);
        }
        let (name, query) = split_query(stream);
        let mut keys: Vec<String> = Vec::new();
        let values = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(_, v)| v));
        for key in [stream, name, query].into_iter().chain(values) {
            keys.push(key.to_owned());
            // The upstream may decode the stream before it shows it.
            keys.push(percent_decoded(key));
        }
        keys.retain(|key| key.len() >= MIN_KEY_BYTES);
        keys.sort_by_key(|key| std::cmp::Reverse(key.len()));
        keys.dedup();
        Ok(Self { app: app.into(), tc_url: tc_url.into(), stream: stream.into(), keys })
    }

    /// The app.
    #[must_use]
    pub fn app(&self) -> &str {
        &self.app
    }

    /// The URL of the app.
    #[must_use]
    pub fn tc_url(&self) -> &str {
        &self.tc_url
    }

    /// The stream with its query. A secret.
    #[must_use]
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// A text of the upstream with the keys replaced by `***`.
    pub(super) fn cleared(&self, text: &str) -> String {
        self.keys.iter().fold(text.to_owned(), |text, key| text.replace(key.as_str(), "***"))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("tc_url", &self.tc_url).finish_non_exhaustive()
    }
}

/// Decodes `%41` to `A`. Invalid escapes stay as they are.
fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.first_chunk::<2>().and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 16).ok()
        });
        match (first, digits) {
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = &tail[2..];
            }
            (&byte, _) => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
