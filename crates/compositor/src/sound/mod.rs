//! Sound in samples.
//!
//! In: decoded samples with their times. Out: the samples of a time span, and a mix. Deliberately absent: resampling;
//! decoders deliver everything at the sample rate of the output.

mod mix;
mod queue;

pub use mix::Mix;
pub use queue::SampleQueue;
