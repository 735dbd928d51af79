//! The small JSON codec of the client direction: clients use it to read and write on every platform.
//!
//! Comes in: the text of one JSON value. Goes out: a message, or its text. `#[derive(Wire)]` generates the code from
//! the same attributes that serde reads, so a name or default is written once. The server and HTTP use serde;
//! `tests/it/wire.rs` checks that both codecs agree.
//!
//! Its purpose is size: serde's generated code is two thirds of a client in WebAssembly (ADR 0027). Therefore all
//! objects share one loop, and a value is read in place into a blank one.
//!
//! It differs from serde in one thing: an array is never read as the fields of a struct in order.
//!
//! Deliberately absent: frames, and the meaning of a message.

use crate::prelude::*;
mod reader;
mod values;
mod writer;

pub use lianmai_protocol_derive::Wire;
pub use reader::{Reader, Refusal, Refused};
pub use writer::Writer;

pub(crate) use values::text_codec;

/// A value that can be read in place. Reading and writing are separate traits, because a program need not write what it
/// only reads.
pub trait Read {
    /// Reads one JSON value into `self`. After an error the value of `self` is unspecified.
    ///
    /// # Errors
    /// The text is not JSON, or of another type; the reader holds the reason.
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

    /// A value to read into. Fields with a default have it already; every other value is overwritten or never used.
    fn blank() -> Self;
}

/// A JSON object with known fields, to be read.
pub trait ReadFields {
    /// Names of the fields, at most 32.
    fn names(&self) -> &'static [&'static str];

    /// Bit `i` is set if field `i` is required.
    fn required(&self) -> u32;

    /// Reads the value of field `index`.
    ///
    /// # Errors
    /// See [`Read::read`].
    fn read_field(&mut self, index: usize, reader: &mut Reader<'_>) -> Result<(), Refused>;
}

/// A JSON object with known fields, to be written.
pub trait WriteFields {
    /// Writes all fields except those that are left out.
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

/// A part of a text between two character boundaries. Indexing would add the text and tables of its panic: a kilobyte
/// in WebAssembly.
fn part(text: &str, from: usize, to: usize) -> &str {
    text.get(from..to).unwrap_or_default()
}

/// The position of a name in a table of names.
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
