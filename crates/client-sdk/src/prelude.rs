//! Names from `alloc` that the standard prelude would provide. The crate uses `core` and `alloc` only, because it also
//! runs in WebAssembly, where every kilobyte has to be downloaded.

pub(crate) use alloc::borrow::ToOwned;
pub(crate) use alloc::boxed::Box;
pub(crate) use alloc::string::String;
pub(crate) use alloc::vec;
pub(crate) use alloc::vec::Vec;
