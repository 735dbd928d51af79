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

/// A value that can be read in place. Reading and writing are apart, as a program does not write what it only reads.
pub trait Read {
    /// Reads one JSON value into `self`. After a refusal `self` holds any value.
    ///
    /// # Errors
    /// The text is not JSON, or is of another type; the reader knows why.
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Refused>;
}

/// A value that can be written.
pub trait Write {
    /// Writes the value as JSON.
    fn write(&self, writer: &mut Writer);
}

/// A value that is part of a message.
pub trait Wire: Read + Write + Sized {
    /// A field of this type may be absent: it keeps its blank value.
    const OPTIONAL: bool = false;

    /// A value to read into. Fields with a default have it already; nothing else of it is ever seen.
    fn blank() -> Self;
}

/// A JSON object with known fields, to be read.
pub trait ReadFields {
    /// Names of the fields, at most 32.
    fn names(&self) -> &'static [&'static str];

    /// Bit `i` is set when field `i` must be there.
    fn required(&self) -> u32;

    /// Reads the value of field `index`.
    ///
    /// # Errors
    /// As [`Read::read`].
    fn read_field(&mut self, index: usize, reader: &mut Reader<'_>) -> Result<(), Refused>;
}

/// A JSON object with known fields, to be written.
pub trait WriteFields {
    /// Writes every field that is to be written.
    fn write_fields(&self, writer: &mut Writer);
}

/// Reads one value from a whole text.
///
/// # Errors
/// The text is not one JSON value of this type.
pub fn from_text<T: Wire>(text: &str) -> Result<T, Refusal> {
    let mut value = T::blank();
    read_into(&mut value, text)?;
    Ok(value)
}

/// A part of a text, between two characters of it. An index would do, but for the text of its panic and the tables that
/// print it, which are a kilobyte in WebAssembly.
fn part(text: &str, from: usize, to: usize) -> &str {
    text.get(from..to).unwrap_or_default()
}

/// Where a name is in a table of names.
pub(crate) fn position(names: &[&str], name: &str) -> Option<usize> {
    names.iter().position(|known| *known == name)
}

/// Reads one value from a whole text into a blank one.
pub(crate) fn read_into(value: &mut dyn Read, text: &str) -> Result<(), Refusal> {
    let mut reader = Reader::new(text);
    match value.read(&mut reader).and_then(|()| reader.finish()) {
        Ok(()) => Ok(()),
        Err(Refused) => Err(reader.into_refusal()),
    }
}

/// Writes one value as JSON.
#[must_use]
pub fn to_text(value: &dyn Write) -> String {
    let mut writer = Writer::default();
    value.write(&mut writer);
    writer.into_text()
}
