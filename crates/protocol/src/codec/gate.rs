//! Checks of size, UTF-8 and nesting that come before any JSON is read.

use crate::error::ErrorName;
use crate::limits::MAX_JSON_DEPTH;

/// A frame that is refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", .0, .0.meaning())]
pub struct FrameError(pub ErrorName);

impl From<ErrorName> for FrameError {
    fn from(name: ErrorName) -> Self {
        FrameError(name)
    }
}

/// Checks size, encoding and depth of a frame.
#[cfg(feature = "server")]
pub(super) fn check(frame: &[u8], max_bytes: usize) -> Result<&str, FrameError> {
    if frame.len() > max_bytes {
        return Err(ErrorName::FrameTooLarge.into());
    }
    let text = core::str::from_utf8(frame).map_err(|_| FrameError::from(ErrorName::ParseError))?;
    // Counting takes a tenth of the time, and few frames have so many brackets.
    let opened = frame.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
    if opened > MAX_JSON_DEPTH {
        check_text(text, max_bytes)?;
    }
    Ok(text)
}

/// Checks size and depth of a frame.
pub(super) fn check_text(text: &str, max_bytes: usize) -> Result<(), FrameError> {
    if text.len() > max_bytes {
        Err(ErrorName::FrameTooLarge.into())
    } else if nests_deeper_than(text, MAX_JSON_DEPTH) {
        Err(ErrorName::TooDeep.into())
    } else {
        Ok(())
    }
}

/// Whether arrays and objects of a JSON text nest deeper than `max`. Brackets inside strings do not count.
pub(crate) fn nests_deeper_than(json: &str, max: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}
