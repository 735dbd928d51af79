//! Push tasks: a task is one push of the composed channel to one address. Comes in: the wire's `Task`, or the same from
//! the app's server. Goes out: a checked [`Spec`], the [`Address`] that it claims, its composition at a moment
//! ([`layout::compose`]), and the orders to an executor ([`run`]).
//!
//! ```text
//!   wire Task -> Draft -> check -> Spec --+--> Address -> ClaimKey   (the right to push: claim)
//!                                         +--> compose(publishers)   (what is seen and heard: layout)
//!                                         `--> Job, RunOrder, RunReport    (a run of an executor: run)
//! ```
//!
//! Deliberately absent: the runs of a task, and the permission to change it (`channel/tasks`).

pub mod address;
pub mod admission;
mod change;
pub mod claim;
pub mod layout;
pub mod profile;
pub mod run;
pub mod spec;

pub use address::{Address, BadAddress};
pub use admission::{Admission, Refusal, RefusalReason, WantedTask};
pub use change::TaskChange;
pub use claim::{Claim, ClaimKey, Claimed, Holder};
pub use layout::{Adaption, Composition, LayoutSource, Pane, PaneSet, Publisher, Rect, Window};
pub use profile::{Encoding, Profile};
pub use run::{Job, RunFailure, RunId, RunOrder, RunReport};
pub use spec::{Canvas, Draft, Picture, Sound, Spec};
