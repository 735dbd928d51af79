//! What values look like, as JSON Schema (draft 2020-12, in words that draft 7 has as well). Comes in: types;
//! `#[derive(Wire)]` describes a struct by the attributes of its codecs. Goes out: JSON. Deliberately absent: the types of this
//! crate, which `described` has.

use crate::prelude::*;
use alloc::collections::BTreeMap;
use alloc::format;

use serde_json::json;
pub use serde_json::{Map as Object, Value};

use crate::limits;
use crate::map::Map;

/// Schemas by name, each defined once.
#[derive(Debug)]
pub struct Definitions {
    /// What stands before a name in a reference.
    base: &'static str,
    /// By name: the type that has it, and its schema.
    of: BTreeMap<String, (&'static str, Value)>,
}

impl Definitions {
    /// None yet; references begin with `base`, as `#/$defs/`.
    #[must_use]
    pub fn new(base: &'static str) -> Self {
        Definitions { base, of: BTreeMap::new() }
    }

    /// Defines a type where it is not yet, and refers to it.
    ///
    /// # Panics
    /// Two types have one name: the documents are made by a test as well.
    pub fn define(
        &mut self,
        name: &str,
        of: &'static str,
        text: &str,
        schema: impl FnOnce(&mut Self) -> Value,
    ) -> Value {
        match self.of.get(name) {
            Some((known, _)) => assert_eq!(*known, of, "two types are called {name}"),
            None => {
                // What refers to itself finds itself.
                self.of.insert(name.to_owned(), (of, Value::Null));
                let mut schema = schema(self);
                if let Value::Object(schema) = &mut schema
                    && !text.is_empty()
                {
                    schema.insert("description".to_owned(), text.into());
                }
                self.of.insert(name.to_owned(), (of, schema));
            }
        }
        self.reference(name)
    }

    /// A reference to what is or will be defined.
    #[must_use]
    pub fn reference(&self, name: &str) -> Value {
        json!({ "$ref": format!("{}{name}", self.base) })
    }

    /// All of them.
    #[must_use]
    pub fn into_object(self) -> Object<String, Value> {
        self.of.into_iter().map(|(name, (_, schema))| (name, schema)).collect()
    }
}

/// A type that can say what its values look like.
pub trait Describe {
    /// Its schema, or a reference to one that is defined then.
    fn describe(definitions: &mut Definitions) -> Value;

    /// The same of a field that is left out where there is no value.
    fn describe_present(definitions: &mut Definitions) -> Value {
        Self::describe(definitions)
    }
}

/// Fields of an object, one after the other.
#[derive(Debug, Default)]
pub struct Fields {
    properties: Object<String, Value>,
    required: Vec<Value>,
}

impl Fields {
    /// One more.
    pub fn add(&mut self, name: &str, text: &str, required: bool, mut schema: Value) {
        if schema.get("$ref").is_some() && !text.is_empty() {
            // Some readers look at nothing beside a reference.
            schema = json!({ "allOf": [schema] });
        }
        if let Value::Object(schema) = &mut schema
            && !text.is_empty()
        {
            schema.insert("description".to_owned(), text.into());
        }
        self.properties.insert(name.to_owned(), schema);
        if required {
            self.required.push(name.into());
        }
    }

    /// The object. It may have other fields, which nobody reads (FWD-2).
    #[must_use]
    pub fn object(self) -> Value {
        let Fields { properties, required } = self;
        match required.is_empty() {
            true => json!({ "type": "object", "properties": properties }),
            false => json!({ "type": "object", "properties": properties, "required": required }),
        }
    }
}

macro_rules! plain {
    ($( $name:ty => $schema:expr; )+) => {
        $( impl Describe for $name {
            fn describe(_: &mut Definitions) -> Value {
                $schema
            }
        } )+
    };
}

plain! {
    bool => json!({ "type": "boolean" });
    u8 => json!({ "type": "integer", "minimum": 0, "maximum": u8::MAX });
    u16 => json!({ "type": "integer", "minimum": 0, "maximum": u16::MAX });
    u32 => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX });
    u64 => json!({ "type": "integer", "minimum": 0, "maximum": limits::MAX_REQUEST_ID });
    i32 => json!({ "type": "integer", "minimum": i32::MIN, "maximum": i32::MAX });
    String => json!({ "type": "string" });
}

impl<T: Describe> Describe for Option<T> {
    fn describe(definitions: &mut Definitions) -> Value {
        json!({ "anyOf": [T::describe(definitions), { "type": "null" }] })
    }

    fn describe_present(definitions: &mut Definitions) -> Value {
        T::describe(definitions)
    }
}

impl<T: Describe> Describe for Box<T> {
    fn describe(definitions: &mut Definitions) -> Value {
        T::describe(definitions)
    }
}

impl<T: Describe> Describe for Vec<T> {
    fn describe(definitions: &mut Definitions) -> Value {
        json!({ "type": "array", "items": T::describe(definitions) })
    }
}

impl<V: Describe> Describe for Map<String, V> {
    fn describe(definitions: &mut Definitions) -> Value {
        json!({ "type": "object", "additionalProperties": V::describe(definitions) })
    }
}

/// A text that is one of these, or of a newer version (FWD-3).
#[must_use]
pub fn open(names: &[&str]) -> Value {
    json!({ "type": "string", "x-extensible-enum": names })
}

/// A method, event or notice.
#[derive(Clone, Debug)]
pub struct Described {
    /// Its name.
    pub method: &'static str,
    /// What it is for.
    pub text: &'static str,
    /// The schema of its parameters.
    pub params: Value,
    /// That of its result, of a method.
    pub result: Option<Value>,
}
