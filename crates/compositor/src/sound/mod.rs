//! Sound as samples.
//!
//! In: decoded samples with their times. Out: what is heard in a span of time, and a mix. Absent: rates other than the
//! one of the output, which decoders bring everything to.

mod mix;
mod queue;

pub use mix::Mix;
pub use queue::Queue;
