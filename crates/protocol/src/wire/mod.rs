//! The small JSON codec of the client direction: what a client reads and writes on every platform.
//!
//! Comes in: the text of one JSON value. Goes out: a message, or its text. `#[derive(Wire)]` makes the
//! code from the same attributes that serde reads, so a name or default is written once. serde serves the
//! server and HTTP; `tests/it/wire.rs` holds both codecs together.
//!
//! It exists for its size: serde's generated code is two thirds of a client in WebAssembly (ADR 0027). So
//! there is one loop for all objects, and a value is read in place into one that is blank.
//!
//! It differs from serde in one thing: an array is never read as the fields of a struct in order.
//!
//! Deliberately absent: frames, and what a message means.

use crate::prelude::*;
mod reader;
mod values;
mod writer;

pub use lianmai_protocol_derive::Wire;
pub use reader::{Reader, Refusal, Refused};
pub use writer::Writer;

pub(crate) use values::text_codec;

/// A value that can be read in place and written.
pub trait Codec {
    /// Reads one JSON value into `self`. After a refusal `self` holds any value.
    ///
    /// # Errors
    /// The text is not JSON, or is of another type; the reader knows why.
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Refused>;

    /// Writes the value as JSON.
    fn write(&self, writer: &mut Writer);
}

/// A value that is part of a message.
pub trait Wire: Codec + Sized {
    /// A field of this type may be absent: it keeps its blank value.
    const OPTIONAL: bool = false;

    /// A value to read into. Fields with a default have it already; nothing else of it is ever seen.
    fn blank() -> Self;
}

/// A JSON object with known fields.
pub trait Object {
    /// Names of the fields, at most 32.
    fn names(&self) -> &'static [&'static str];

    /// Bit `i` is set when field `i` must be there.
    fn required(&self) -> u32;

    /// Reads the value of field `index`.
    ///
    /// # Errors
    /// As [`Codec::read`].
    fn read_field(&mut self, index: usize, reader: &mut Reader<'_>) -> Result<(), Refused>;

    /// Writes every field that is to be written.
    fn write_fields(&self, writer: &mut Writer);
}

/// Reads one value from a whole text.
///
/// # Errors
/// The text is not one JSON value of this type.
pub fn from_text<T: Wire>(text: &str) -> Result<T, Refusal> {
    let mut value = T::blank();
    read_whole(&mut value, text)?;
    Ok(value)
}

/// Where a name is in a table of names.
pub(crate) fn position(names: &[&str], name: &str) -> Option<usize> {
    names.iter().position(|known| *known == name)
}

fn read_whole(value: &mut dyn Codec, text: &str) -> Result<(), Refusal> {
    let mut reader = Reader::new(text);
    match value.read(&mut reader).and_then(|()| reader.finish()) {
        Ok(()) => Ok(()),
        Err(Refused) => Err(reader.into_refusal()),
    }
}

/// Writes one value as JSON.
#[must_use]
pub fn to_text(value: &dyn Codec) -> String {
    let mut writer = Writer::default();
    value.write(&mut writer);
    writer.into_text()
}
