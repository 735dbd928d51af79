//! What programs with the standard library have without asking: the crate has `core` and `alloc` only, as it runs
//! in WebAssembly where every kilobyte is downloaded.

pub(crate) use alloc::borrow::ToOwned;
pub(crate) use alloc::boxed::Box;
pub(crate) use alloc::string::String;
pub(crate) use alloc::vec::Vec;
