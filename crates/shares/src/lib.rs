//! Bounded amounts, places and rates that many share fairly.
//!
//! In: keys (an app, a user, an address), amounts, moments. Out: whether there is room, and guards that give back what
//! they hold when they are dropped. Absent: clocks, I/O, logging, and what a key means.
//!
//! - [`Pool`]: an amount, for instance of bytes. Whoever uses its share up is refused; others are not.
//! - [`Places`]: the same for things that are counted.
//! - [`Rates`]: how often each key may do something.
//!
//! A fixed share for each key does not protect a pool: enough greedy keys fill it together. Here a key may hold a part
//! of *what is left*, so it leaves room for whoever comes next, and the more is taken, the less a further key gets. See
//! [`Share`].

mod places;
mod pool;
mod rates;
mod share;

pub use places::{Place, Places};
pub use pool::{Account, Full, Held, Pool};
pub use rates::{Rate, Rates};
pub use share::Share;
