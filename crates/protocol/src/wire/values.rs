//! Reads and writes the values of which messages consist: numbers, texts, lists, maps.

use super::{Read, Reader, Refused, Wire, Write, Writer};
use crate::Map;
use crate::map::MAX_KEPT;
use crate::prelude::*;

macro_rules! unsigned {
    ($($number:ty),+) => {$(
        impl Read for $number {
            fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Refused> {
                *self = reader.unsigned(u64::from(<$number>::MAX))? as $number;
                Ok(())
            }
        }

        impl Write for $number {
            fn write(&self, writer: &mut Writer) {
                writer.number(u64::from(*self));
            }
        }

        impl Wire for $number {
            fn blank() -> Self {
                0
            }
        }
    )+};
}

unsigned!(u8, u16, u32, u64);

impl Read for i32 {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Refused> {
        let text = reader.number()?;
        let (sign, digits) = match text.strip_prefix('-') {
            // serde reads `-0` as a float.
            Some("0") => return reader.wrong(),
            Some(digits) => (-1, digits),
            None => (1, text),
        };
        let number = digits.parse::<u64>().ok().and_then(|number| i64::try_from(number).ok());
        match number.map(|number| i32::try_from(sign * number)) {
            Some(Ok(number)) => *self = number,
            _ => return reader.wrong(),
        }
        Ok(())
    }
}

impl Write for i32 {
    fn write(&self, writer: &mut Writer) {
        if *self < 0 {
            writer.raw("-");
        }
        writer.number(u64::from(self.unsigned_abs()));
    }
}

impl Wire for i32 {
    fn blank() -> Self {
        0
    }
}

impl Read for bool {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Refused> {
        *self = reader.bool()?;
        Ok(())
    }
}

impl Write for bool {
    fn write(&self, writer: &mut Writer) {
        writer.raw(if *self { "true" } else { "false" });
    }
}

impl Wire for bool {
    fn blank() -> Self {
        false
    }
}

impl Read for String {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Refused> {
        *self = reader.string()?.into_owned();
        Ok(())
    }
}

impl Write for String {
    fn write(&self, writer: &mut Writer) {
        writer.string(self);
    }
}

impl Wire for String {
    fn blank() -> Self {
        String::new()
    }
}

impl<T: Wire> Read for Option<T> {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Refused> {
        if reader.null()? {
            *self = None;
            return Ok(());
        }
        self.insert(T::blank()).read(reader)
    }
}

impl<T: Wire> Write for Option<T> {
    fn write(&self, writer: &mut Writer) {
        match self {
            Some(value) => value.write(writer),
            None => writer.raw("null"),
        }
    }
}

impl<T: Wire> Wire for Option<T> {
    const OPTIONAL: bool = true;

    fn blank() -> Self {
        None
    }
}

impl<T: Wire> Read for Box<T> {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Refused> {
        T::read(self, reader)
    }
}

impl<T: Wire> Write for Box<T> {
    fn write(&self, writer: &mut Writer) {
        T::write(self, writer);
    }
}

impl<T: Wire> Wire for Box<T> {
    fn blank() -> Self {
        Box::new(T::blank())
    }
}

impl<T: Wire> Read for Vec<T> {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Refused> {
        self.clear();
        reader.array(&mut |reader| {
            self.push(T::blank());
            self.last_mut().map_or(Ok(()), |value| value.read(reader))
        })
    }
}

impl<T: Wire> Write for Vec<T> {
    fn write(&self, writer: &mut Writer) {
        writer.begin('[');
        for value in self {
            writer.element(value);
        }
        writer.end(']');
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn blank() -> Self {
        Vec::new()
    }
}

impl<V: Wire> Read for Map<String, V> {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Refused> {
        self.clear();
        reader.map(&mut |key, reader| {
            let mut value = V::blank();
            value.read(reader)?;
            Ok(self.len() >= MAX_KEPT || self.insert(key.into(), value).is_none())
        })
    }
}

impl<V: Wire> Write for Map<String, V> {
    fn write(&self, writer: &mut Writer) {
        writer.begin('{');
        for (key, value) in self.iter() {
            writer.field(key, value);
        }
        writer.end('}');
    }
}

impl<V: Wire> Wire for Map<String, V> {
    fn blank() -> Self {
        Map::new()
    }
}

/// Implements the codec of a type that is a string on the wire: its blank value, how to read it (`Ok`, or an error that
/// names the wire error), and how to write it.
macro_rules! text_codec {
    ($name:ident, $blank:expr, |$text:ident| $read:expr, |$value:ident, $writer:ident| $write:expr) => {
        impl crate::wire::Read for $name {
            fn read(
                &mut self,
                reader: &mut crate::wire::Reader<'_>,
            ) -> Result<(), crate::wire::Refused> {
                let $text: &str = &reader.string()?;
                match $read {
                    Ok(value) => *self = value,
                    Err(name) => {
                        let name: &str = name.as_ref();
                        return reader.refuse(alloc::string::String::from(name));
                    }
                }
                Ok(())
            }
        }

        impl crate::wire::Write for $name {
            fn write(&self, $writer: &mut crate::wire::Writer) {
                let $value = self;
                $write
            }
        }

        impl crate::wire::Wire for $name {
            fn blank() -> Self {
                $blank
            }
        }
    };
}

pub(crate) use text_codec;
