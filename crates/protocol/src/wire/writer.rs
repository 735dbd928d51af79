//! Writes JSON text, spelled as `serde_json` spells it. Comes in: values. Goes out: their text. Deliberately absent:
//! the choice of fields, which the derived code makes.

use super::{Write, WriteFields, part};
use crate::prelude::*;

/// A text that grows.
#[derive(Default)]
pub struct Writer {
    text: String,
    /// No comma is needed before the next field or element.
    first: bool,
}

impl Writer {
    /// The text that was written.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }

    /// Writes `json`, which is a JSON value.
    pub fn raw(&mut self, json: &str) {
        self.text.push_str(json);
    }

    /// Writes a number.
    pub fn number(&mut self, number: u64) {
        push_decimal(&mut self.text, number);
    }

    /// Writes a string.
    pub fn string(&mut self, text: &str) {
        self.text.push('"');
        let mut written = 0;
        for (at, byte) in text.bytes().enumerate() {
            let short = match byte {
                b'"' | b'\\' => byte,
                0x08 => b'b',
                0x0c => b'f',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                0..=0x1f => b'u',
                _ => continue,
            };
            self.text.push_str(part(text, written, at));
            written = at + 1;
            self.text.push('\\');
            self.text.push(char::from(short));
            if short == b'u' {
                let hex = |digit: u8| char::from(b"0123456789abcdef"[usize::from(digit)]);
                self.text.push_str("00");
                self.text.push(hex(byte >> 4));
                self.text.push(hex(byte & 0xf));
            }
        }
        self.text.push_str(part(text, written, text.len()));
        self.text.push('"');
    }

    /// Writes an object with known fields.
    pub fn object(&mut self, object: &dyn WriteFields) {
        self.begin('{');
        object.write_fields(self);
        self.end('}');
    }

    /// Begins an object or array.
    pub fn begin(&mut self, bracket: char) {
        self.text.push(bracket);
        self.first = true;
    }

    /// Ends an object or array.
    pub fn end(&mut self, bracket: char) {
        self.text.push(bracket);
        self.first = false;
    }

    /// Writes a field of an object.
    pub fn field(&mut self, name: &str, value: &dyn Write) {
        self.name(name);
        value.write(self);
    }

    /// Writes the name of a field; its value comes next.
    pub fn name(&mut self, name: &str) {
        self.separate();
        self.string(name);
        self.text.push(':');
    }

    /// Begins an element of an array; its value comes next.
    pub fn next(&mut self) {
        self.separate();
    }

    /// Writes an element of an array.
    pub fn element(&mut self, value: &dyn Write) {
        self.separate();
        value.write(self);
    }

    fn separate(&mut self) {
        if !core::mem::take(&mut self.first) {
            self.text.push(',');
        }
    }
}

/// Appends a number in decimal. `core::fmt` would add much code.
pub(crate) fn push_decimal(text: &mut String, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    text.extend(digits[at..].iter().map(|&digit| char::from(digit)));
}
