//! The names that `std` would put into scope. The crate uses `core` and `alloc` only, because it runs in WebAssembly,
//! where every kilobyte is downloaded.

pub(crate) use alloc::borrow::ToOwned;
pub(crate) use alloc::boxed::Box;
pub(crate) use alloc::string::String;
pub(crate) use alloc::vec::Vec;
