//! Simulates the shipped client session and the shipped server engine in one virtual world that follows from one seed:
//! users, operators, networks, disks and pushers, with faults in each. A reference model predicts what should happen,
//! and checkers compare.
//!
//! Comes in: a seed, or a scenario file. Goes out: a hash of everything that happened, counters, and the first failure.
//! Deliberately absent: real sockets, real time, and the shell of `signal-server`, which only moves bytes; `server/`
//! contains its own version of what the shell does around the engine. Push tasks have a world of their own, in
//! `tasks/`.
//!
//! ```text
//!   seed -> generator -> scenario -> world: client (Session) ~ net ~ server (Engine, store, media)
//!                           ^                     |                    |
//!                         shrink <--- failure -- checkers <--------- model
//! ```

mod act;
mod adversary;
mod alloc;
mod check;
mod client;
mod coverage;
mod end;
mod generator;
mod log;
mod media;
mod model;
mod net;
mod raw;
mod rng;
mod run;
mod scenario;
mod scripts;
mod server;
mod shrink;
mod tasks;
mod tokens;
mod trace;
mod world;

pub use alloc::Counting;
pub use coverage::Coverage;
pub use run::{Report, record_seed, regressions, run_file, run_seed, run_tasks, shrink_seed};
pub use world::Failure;
