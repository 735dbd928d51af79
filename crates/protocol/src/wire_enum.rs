//! Macros of the wire types. `wire_enum` defines each enum that is sent: a list of lower-camel names plus `Unknown`, so
//! that a value of a newer peer is no error for an older one (FWD-3).

/// Defines an enum with one wire name per variant and an `Unknown` slot.
macro_rules! wire_enum {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$vmeta:meta])* $variant:ident = $wire:literal, )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum $name {
            $( $(#[$vmeta])* $variant, )+
            /// A name that this version does not know. Kept as received.
            Unknown(alloc::boxed::Box<str>),
        }

        impl $name {
            /// Every value that this version knows, in declaration order.
            pub const ALL: &'static [$name] = &[$( $name::$variant, )+];

            /// The name on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                // A table, because a `match` would produce code for each name.
                enum Known {
                    $( $variant, )+
                }
                let known = match self {
                    $( $name::$variant => Known::$variant, )+
                    $name::Unknown(name) => return name,
                };
                Self::NAMES[known as usize]
            }

            const NAMES: &'static [&'static str] = &[$( $wire, )+];
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                match crate::wire::position(Self::NAMES, name) {
                    Some(known) => Self::ALL[known].clone(),
                    None => $name::Unknown(name.into()),
                }
            }
        }

        #[cfg(feature = "schema")]
        impl crate::schema::Describe for $name {
            fn describe(definitions: &mut crate::schema::Definitions) -> crate::schema::Value {
                let of = core::any::type_name::<Self>();
                definitions.define(stringify!($name), of, "", |_| crate::schema::open(Self::NAMES))
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        crate::wire::text_codec!(
            $name,
            $name::Unknown(alloc::boxed::Box::default()),
            |text| Ok::<_, &str>($name::from(text)),
            |value, writer| writer.string(value.as_str())
        );

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = alloc::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Ok($name::from(name.as_ref()))
            }
        }
    };
}

/// Implements `Debug` for a message with secrets: it shows only the named fields.
macro_rules! shows {
    ($name:ident { $( $field:ident ),+ $(,)? }) => {
        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.debug_struct(stringify!($name))
                    $( .field(stringify!($field), &self.$field) )+
                    .finish_non_exhaustive()
            }
        }
    };
}

pub(crate) use {shows, wire_enum};
