//! What the engine ends, in the relay's words.

use lianmai_media_plane::{Hub, StreamName};
use lianmai_protocol::{Gen, Mid};

use crate::signing::MEDIA_APP;

/// The relay's name of a stream.
fn stream_name(generation: Gen) -> StreamName {
    StreamName::new(MEDIA_APP, &generation.to_string())
}

/// Ends a stream and everyone who plays it.
pub(crate) fn cut_stream(hub: &Hub, generation: Gen) {
    hub.cut_stream(&stream_name(generation));
}

/// Ends what one viewer plays of a stream.
pub(crate) fn cut_viewer(hub: &Hub, generation: Gen, viewer: Mid) {
    hub.cut_viewer_of(&viewer.to_string(), &stream_name(generation));
}
