//! Reads JSON text value by value. Comes in: valid UTF-8. Goes out: the parts of values, or the reason and place of an
//! error. Deliberately absent: the types of values, which `values` and the derived code know.

use crate::prelude::*;
use alloc::borrow::Cow;

use super::{ReadFields, part, position};

/// Most arrays and objects that may be open at once. Frames are limited to 32 before they are read here.
const MAX_OPEN: usize = 128;
/// Name of the error for a text that is not JSON.
const PARSE_ERROR: &str = "parseError";

/// Reading failed; the [`Reader`] holds the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// Why a text is not the requested value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The name of the error; `parseError` if the text is not JSON.
    pub name: Cow<'static, str>,
    /// Path of the wrong value; empty for the whole text.
    pub field: String,
}

/// Reads the value of an entry whose key was read.
type Entry<'f, 'a> = dyn FnMut(Cow<'a, str>, &mut Reader<'a>) -> Result<(), Refused> + 'f;

/// A position in a text.
pub struct Reader<'a> {
    text: &'a str,
    at: usize,
    open: usize,
    refusal: Refusal,
}

impl<'a> Reader<'a> {
    /// A reader at the beginning of `text`.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        let refusal = Refusal { name: Cow::Borrowed(PARSE_ERROR), field: String::new() };
        Reader { text, at: 0, open: 0, refusal }
    }

    /// The reason why reading failed.
    #[must_use]
    pub fn into_refusal(mut self) -> Refusal {
        // Each name of the path begins with a dot, the first one too.
        if self.refusal.field.starts_with('.') {
            self.refusal.field.remove(0);
        }
        self.refusal
    }

    /// Refuses the value that is being read.
    ///
    /// # Errors
    /// Always.
    pub fn refuse<T>(&mut self, name: impl Into<Cow<'static, str>>) -> Result<T, Refused> {
        self.refusal.name = name.into();
        Err(Refused)
    }

    /// Refuses a value that is JSON, but not of the requested type or range.
    ///
    /// # Errors
    /// Always.
    pub fn wrong<T>(&mut self) -> Result<T, Refused> {
        self.refuse("invalidParams")
    }

    fn malformed<T>(&mut self) -> Result<T, Refused> {
        self.refuse(PARSE_ERROR)
    }

    /// Puts the name of a field in front of the path of the refused value.
    fn within(&mut self, name: &str) {
        self.refusal.field.insert_str(0, name);
        self.refusal.field.insert(0, '.');
    }

    /// The next byte that is not white space. The position stays there.
    pub fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.as_bytes().get(self.at)?;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// Takes `byte` if it is next.
    fn take(&mut self, byte: u8) -> bool {
        let next = self.peek() == Some(byte);
        self.at += usize::from(next);
        next
    }

    /// Checks that only white space follows.
    ///
    /// # Errors
    /// Something else follows.
    pub fn finish(&mut self) -> Result<(), Refused> {
        if self.peek().is_some() { self.malformed() } else { Ok(()) }
    }

    fn literal(&mut self, word: &str) -> Result<(), Refused> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return self.malformed();
        }
        self.at += word.len();
        Ok(())
    }

    /// Takes `null` if it is next.
    ///
    /// # Errors
    /// Not JSON.
    pub fn null(&mut self) -> Result<bool, Refused> {
        if self.peek() != Some(b'n') {
            return Ok(false);
        }
        self.literal("null").map(|()| true)
    }

    /// Reads `true` or `false`.
    ///
    /// # Errors
    /// Something else is next.
    pub fn bool(&mut self) -> Result<bool, Refused> {
        match self.peek() {
            Some(b't') => self.literal("true").map(|()| true),
            Some(b'f') => self.literal("false").map(|()| false),
            _ => self.wrong(),
        }
    }

    /// Reads a number as it is written.
    ///
    /// # Errors
    /// Something else is next.
    pub fn number(&mut self) -> Result<&'a str, Refused> {
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => {}
            _ => return self.wrong(),
        }
        let start = self.at;
        self.at += usize::from(self.byte() == Some(b'-'));
        if self.byte() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), Some(b'+' | b'-')));
            self.digits()?;
        }
        // A digit here follows a leading zero.
        if self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            return self.malformed();
        }
        Ok(part(self.text, start, self.at))
    }

    /// Reads an integer up to `max`.
    ///
    /// # Errors
    /// Something else is next.
    pub fn unsigned(&mut self, max: u64) -> Result<u64, Refused> {
        match self.number()?.parse() {
            Ok(number) if number <= max => Ok(number),
            _ => self.wrong(),
        }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn digits(&mut self) -> Result<(), Refused> {
        let start = self.at;
        while self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { self.malformed() } else { Ok(()) }
    }

    /// Reads a string.
    ///
    /// # Errors
    /// Something else is next, or it holds half of a surrogate pair.
    pub fn string(&mut self) -> Result<Cow<'a, str>, Refused> {
        if self.peek() != Some(b'"') {
            return self.wrong();
        }
        self.at += 1;
        let plain = self.plain()?;
        if self.byte() == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(plain));
        }
        let mut text = String::from(plain);
        loop {
            // A backslash, or the closing quote.
            if self.byte() == Some(b'"') {
                self.at += 1;
                return Ok(Cow::Owned(text));
            }
            self.at += 1;
            let letter = self.escape()?;
            text.push(letter);
            text.push_str(self.plain()?);
        }
    }

    /// Takes everything before the next quote or backslash.
    fn plain(&mut self) -> Result<&'a str, Refused> {
        let start = self.at;
        loop {
            match self.byte() {
                Some(b'"' | b'\\') => return Ok(part(self.text, start, self.at)),
                Some(0..=0x1f) | None => return self.malformed(),
                Some(_) => self.at += 1,
            }
        }
    }

    /// Reads what follows a backslash.
    fn escape(&mut self) -> Result<char, Refused> {
        let letter = self.byte();
        self.at += 1;
        Ok(match letter {
            Some(letter @ (b'"' | b'\\' | b'/')) => char::from(letter),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let unit = self.hex4()?;
                let scalar = match unit {
                    0xd800..=0xdbff if self.literal("\\u").is_ok() => match self.hex4()? {
                        low @ 0xdc00..=0xdfff => {
                            0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
                        }
                        // This unpaired half is refused below.
                        _ => unit,
                    },
                    unit => unit,
                };
                match char::from_u32(scalar) {
                    Some(letter) => letter,
                    // Valid JSON, but not Unicode text.
                    None => return self.wrong(),
                }
            }
            _ => return self.malformed(),
        })
    }

    fn hex4(&mut self) -> Result<u32, Refused> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.byte().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else { return self.malformed() };
            unit = unit << 4 | digit;
            self.at += 1;
        }
        Ok(unit)
    }

    fn begin(&mut self, bracket: u8) -> Result<(), Refused> {
        if !self.take(bracket) {
            return self.wrong();
        }
        self.open += 1;
        if self.open > MAX_OPEN { self.malformed() } else { Ok(()) }
    }

    /// Whether another element follows. Takes the comma before it, or the closing bracket if there is none.
    fn another(&mut self, first: bool, bracket: u8) -> Result<bool, Refused> {
        if self.take(bracket) {
            self.open -= 1;
            return Ok(false);
        }
        if !first && !self.take(b',') {
            return self.malformed();
        }
        Ok(true)
    }

    /// Reads an object entry by entry; `entry` reads each value.
    ///
    /// # Errors
    /// Something else is next, or `entry` refuses.
    fn entries(&mut self, entry: &mut Entry<'_, 'a>) -> Result<(), Refused> {
        self.begin(b'{')?;
        let mut first = true;
        while self.another(first, b'}')? {
            first = false;
            if self.peek() != Some(b'"') {
                return self.malformed();
            }
            let key = self.string()?;
            if !self.take(b':') {
                return self.malformed();
            }
            entry(key, self)?;
        }
        Ok(())
    }

    /// Reads an object with known fields and skips unknown ones.
    ///
    /// # Errors
    /// Something else is next; a known field is wrong, occurs twice, or is missing although it is required.
    pub fn object(&mut self, target: &mut dyn ReadFields) -> Result<(), Refused> {
        let names = target.names();
        let mut seen = 0;
        self.entries(&mut |key, reader| {
            let Some(index) = position(names, &key) else {
                return reader.skip();
            };
            let read = if seen & (1 << index) == 0 {
                target.read_field(index, reader)
            } else {
                reader.wrong()
            };
            seen |= 1 << index;
            if read.is_err() {
                reader.within(names[index]);
            }
            read
        })?;
        let missing = target.required() & !seen;
        if missing == 0 {
            return Ok(());
        }
        self.within(names[missing.trailing_zeros() as usize]);
        self.wrong()
    }

    /// Reads an object with any keys.
    ///
    /// # Errors
    /// Something else is next, `entry` refuses, or it returns `Ok(false)` because the key occurred before.
    pub fn map(
        &mut self,
        entry: &mut dyn FnMut(&str, &mut Self) -> Result<bool, Refused>,
    ) -> Result<(), Refused> {
        self.entries(&mut |key, reader| match entry(&key, reader) {
            Ok(true) => Ok(()),
            // The path ends at the map.
            Ok(false) => reader.wrong(),
            Err(refused) => {
                reader.within(&key);
                Err(refused)
            }
        })
    }

    /// Reads an array; `element` reads each element.
    ///
    /// # Errors
    /// Something else is next, or `element` refuses.
    pub fn array(
        &mut self,
        element: &mut dyn FnMut(&mut Self) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        self.begin(b'[')?;
        let mut index = 0u64;
        while self.another(index == 0, b']')? {
            if element(self).is_err() {
                let mut step = String::from("[");
                super::writer::push_decimal(&mut step, index);
                step.push(']');
                self.refusal.field.insert_str(0, &step);
                return Err(Refused);
            }
            index += 1;
        }
        Ok(())
    }

    /// Reads a value of any type, as it is written.
    ///
    /// # Errors
    /// Not JSON.
    pub fn raw(&mut self) -> Result<&'a str, Refused> {
        self.peek();
        let start = self.at;
        self.skip()?;
        Ok(part(self.text, start, self.at))
    }

    /// Skips a value of any type.
    fn skip(&mut self) -> Result<(), Refused> {
        match self.peek() {
            Some(b'"') => self.skip_string(),
            Some(b'{') => {
                self.begin(b'{')?;
                let mut first = true;
                while self.another(first, b'}')? {
                    first = false;
                    self.skip_string()?;
                    if !self.take(b':') {
                        return self.malformed();
                    }
                    self.skip()?;
                }
                Ok(())
            }
            Some(b'[') => self.array(&mut Self::skip),
            Some(b't' | b'f') => self.bool().map(drop),
            Some(b'n') => self.null().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number().map(drop),
            _ => self.malformed(),
        }
    }

    /// An unpaired surrogate is no error in a skipped string.
    fn skip_string(&mut self) -> Result<(), Refused> {
        if !self.take(b'"') {
            return self.malformed();
        }
        loop {
            self.plain()?;
            if self.byte() == Some(b'"') {
                self.at += 1;
                return Ok(());
            }
            self.at += 1;
            let letter = self.byte();
            self.at += 1;
            match letter {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {}
                Some(b'u') => drop(self.hex4()?),
                _ => return self.malformed(),
            }
        }
    }
}
