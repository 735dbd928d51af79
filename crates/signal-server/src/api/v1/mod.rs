//! First version of the API.

pub(crate) mod channels;
