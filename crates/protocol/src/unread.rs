//! Parameters that a client in WebAssembly hands on as its app wrote them. What reads them is at the server.

use core::marker::PhantomData;

use serde::{Deserialize, Serialize};

use crate::raw::JsonObject;
use crate::wire::{Read, Reader, Refused, Wire, Write, Writer};

/// An object that stands for a `T`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Unread<T>(JsonObject, #[serde(skip)] PhantomData<fn() -> T>);

impl<T> Read for Unread<T> {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Refused> {
        self.0.read(reader)
    }
}

impl<T> Write for Unread<T> {
    fn write(&self, writer: &mut Writer) {
        self.0.write(writer);
    }
}

impl<T> Wire for Unread<T> {
    fn blank() -> Self {
        Unread(JsonObject::blank(), PhantomData)
    }
}
