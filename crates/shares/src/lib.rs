//! Bounded amounts, slots and rates that many keys share fairly.
//!
//! In: keys (an app, a user, an address), amounts, moments. Out: whether there is room; guards that give back what
//! they hold when they are dropped. Absent: clocks, I/O, logging, and the meaning of a key.
//!
//! - [`Pool`]: an amount, for instance of bytes. A key that has used its share is refused; other keys are not.
//! - [`Slots`]: the same for things that are counted.
//! - [`RateLimiter`]: how often each key may do something.
//!
//! A fixed share for each key does not protect a pool: enough greedy keys fill it together. Here a key may hold a
//! part of *what is left*. So it leaves room for the next key, and the more is taken, the less a further key gets.
//! See [`Share`].

mod pool;
mod rate_limiter;
mod share;
mod slots;

pub use pool::{Full, Pool, PoolAccount, Reservation};
pub use rate_limiter::{Rate, RateLimiter};
pub use share::Share;
pub use slots::{Slot, Slots};
