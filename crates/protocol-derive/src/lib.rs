//! `#[derive(Wire)]`: the reader and writer of one message type for the small codec of `lianmai-protocol`.
//!
//! Comes in: a struct and its `#[serde(..)]` attributes, so that names and defaults are written once for both codecs.
//! Goes out: implementations of `crate::wire::Wire`, and of `crate::schema::Describe` with feature `schema`.
//! Deliberately absent: attributes that no message uses. Such an attribute is a compile error, so the two codecs cannot
//! differ unnoticed.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as TokenStream2;
use quote::{format_ident, quote};
use syn::meta::ParseNestedMeta;
use syn::{
    Attribute, Data, DeriveInput, Error, Expr, ExprLit, Fields, Ident, Lit, LitStr, Meta, Path,
    Result, Type,
};

/// Derives `Wire` for a struct with named fields, or for a newtype that is `#[serde(transparent)]`.
#[proc_macro_derive(Wire, attributes(serde))]
pub fn wire(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(Error::into_compile_error).into()
}

/// The `#[serde(..)]` attributes of a struct.
#[derive(Default)]
struct Container {
    camel_case: bool,
    transparent: bool,
    /// An absent field gets the value that it has in `Default::default()` of the struct.
    default: bool,
}

/// One field of a struct.
struct Field {
    ident: Ident,
    /// Its doc comment.
    text: String,
    ty: Type,
    /// Its name on the wire.
    name: String,
    /// The value of the field when it is absent; `None` if the field is required, unless its type is optional.
    default: Option<AbsentValue>,
    /// The field is not written when this function returns true for it.
    skip_if: Option<Path>,
}

/// The value of an absent field.
enum AbsentValue {
    /// `Default::default()` of its type.
    Default,
    /// The result of this function.
    Call(Path),
}

fn expand(input: &DeriveInput) -> Result<TokenStream2> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(input, "`Wire` is for structs"));
    };
    let container = read_container(&input.attrs)?;
    match &data.fields {
        Fields::Unnamed(fields) if container.transparent && fields.unnamed.len() == 1 => {
            Ok(impl_transparent(&input.ident, &fields.unnamed[0].ty))
        }
        Fields::Named(named) if !container.transparent => {
            let fields: Result<Vec<Field>> =
                named.named.iter().map(|field| read_field(field, &container)).collect();
            let fields = fields?;
            let described = impl_describe(&input.ident, &comment(&input.attrs), &fields);
            Ok([impl_object(&input.ident, &container, &fields)?, described].into_iter().collect())
        }
        other => {
            Err(Error::new_spanned(other, "`Wire` is for named fields or a transparent newtype"))
        }
    }
}

fn read_container(attributes: &[Attribute]) -> Result<Container> {
    let mut container = Container::default();
    for_each_item(attributes, |meta| {
        if meta.path.is_ident("rename_all") {
            let case: LitStr = meta.value()?.parse()?;
            if case.value() != "camelCase" {
                return Err(meta.error("names on the wire are camelCase"));
            }
            container.camel_case = true;
        } else if meta.path.is_ident("transparent") {
            container.transparent = true;
        } else if meta.path.is_ident("default") && !meta.input.peek(syn::Token![=]) {
            container.default = true;
        } else {
            return Err(meta.error("`Wire` does not know this attribute"));
        }
        Ok(())
    })?;
    Ok(container)
}

fn read_field(field: &syn::Field, container: &Container) -> Result<Field> {
    let ident =
        field.ident.clone().ok_or_else(|| Error::new_spanned(field, "a field has a name"))?;
    let mut name = ident.to_string();
    if container.camel_case {
        name = camel_case(&name);
    }
    let (mut default, mut skip_if) = (container.default.then_some(AbsentValue::Default), None);
    for_each_item(&field.attrs, |meta| {
        if meta.path.is_ident("rename") {
            name = meta.value()?.parse::<LitStr>()?.value();
        } else if meta.path.is_ident("default") {
            default = Some(if meta.input.peek(syn::Token![=]) {
                AbsentValue::Call(meta.value()?.parse::<LitStr>()?.parse()?)
            } else {
                AbsentValue::Default
            });
        } else if meta.path.is_ident("skip_serializing_if") {
            skip_if = Some(meta.value()?.parse::<LitStr>()?.parse()?);
        } else if meta.path.is_ident("with") {
            // Maps with unique keys are the only maps that `Wire` reads.
            let with: LitStr = meta.value()?.parse()?;
            if !with.value().ends_with("unique_keys") {
                return Err(meta.error("`Wire` does not know this function"));
            }
        } else if meta.path.is_ident("deserialize_with") {
            // Serde saturates numbers that are too great. `Wire` refuses them, because no client of this library sends
            // them.
            let with: LitStr = meta.value()?.parse()?;
            if !with.value().ends_with("saturated") {
                return Err(meta.error("`Wire` does not know this function"));
            }
        } else {
            return Err(meta.error("`Wire` does not know this attribute"));
        }
        Ok(())
    })?;
    let text = comment(&field.attrs);
    Ok(Field { ident, text, ty: field.ty.clone(), name, default, skip_if })
}

/// The doc comment of an item, in one line.
fn comment(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| {
        let Meta::NameValue(doc) = &attribute.meta else { return None };
        let Expr::Lit(ExprLit { lit: Lit::Str(line), .. }) = &doc.value else { return None };
        doc.path.is_ident("doc").then(|| line.value().trim().to_owned())
    });
    lines.collect::<Vec<_>>().join(" ")
}

/// Calls `read` for each item of each `#[serde(..)]`.
fn for_each_item(
    attributes: &[Attribute],
    mut read: impl FnMut(ParseNestedMeta<'_>) -> Result<()>,
) -> Result<()> {
    let ours = attributes.iter().filter(|attribute| attribute.path().is_ident("serde"));
    ours.into_iter().try_for_each(|attribute| attribute.parse_nested_meta(&mut read))
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let (first, rest) = word.split_at(word.len().min(1));
        camel.push_str(&first.to_uppercase());
        camel.push_str(rest);
    }
    camel
}

/// A newtype is written as the value that it holds.
fn impl_transparent(ident: &Ident, ty: &Type) -> TokenStream2 {
    quote! {
        impl crate::wire::Wire for #ident {
            const OPTIONAL: bool = <#ty as crate::wire::Wire>::OPTIONAL;
            fn blank() -> Self {
                #ident(<#ty as crate::wire::Wire>::blank())
            }
        }
        impl crate::wire::Read for #ident {
            fn read(
                &mut self,
                reader: &mut crate::wire::Reader<'_>,
            ) -> ::core::result::Result<(), crate::wire::Refused> {
                crate::wire::Read::read(&mut self.0, reader)
            }
        }

        #[cfg(feature = "schema")]
        impl crate::schema::Describe for #ident {
            fn describe(
                definitions: &mut crate::schema::Definitions,
            ) -> crate::schema::Value {
                <#ty as crate::schema::Describe>::describe(definitions)
            }
        }

        impl crate::wire::Write for #ident {
            fn write(&self, writer: &mut crate::wire::Writer) {
                crate::wire::Write::write(&self.0, writer);
            }
        }
    }
}

/// Implements `Describe`, which gives the JSON Schema of the struct.
fn impl_describe(ident: &Ident, text: &str, fields: &[Field]) -> TokenStream2 {
    let adds = fields.iter().map(|Field { ty, name, text, default, skip_if, .. }| {
        let required = match default {
            Some(_) => quote! { false },
            None => quote! { !<#ty as crate::wire::Wire>::OPTIONAL },
        };
        // A field with `skip_serializing_if` is left out instead of being `null`.
        let describe = match skip_if {
            Some(_) => quote! { describe_present },
            None => quote! { describe },
        };
        quote! {
            let schema = <#ty as crate::schema::Describe>::#describe(definitions);
            fields.add(#name, #text, #required, schema);
        }
    });
    let make = if fields.is_empty() {
        quote! { |_| crate::schema::Fields::default().object() }
    } else {
        quote! {
            |definitions| {
                let mut fields = crate::schema::Fields::default();
                #( #adds )*
                fields.object()
            }
        }
    };
    quote! {
        #[cfg(feature = "schema")]
        impl crate::schema::Describe for #ident {
            fn describe(
                definitions: &mut crate::schema::Definitions,
            ) -> crate::schema::Value {
                let of = ::core::any::type_name::<Self>();
                definitions.define(stringify!(#ident), of, #text, #make)
            }
        }
    }
}

/// A mask of 32 bits holds which fields are required and which were read.
const MAX_FIELDS: usize = 32;

fn impl_object(ident: &Ident, container: &Container, fields: &[Field]) -> Result<TokenStream2> {
    if fields.len() > MAX_FIELDS {
        return Err(Error::new_spanned(ident, "`Wire` counts 32 fields"));
    }
    let names = fields.iter().map(|field| &field.name);
    let blank = if container.default {
        quote! { <Self as ::core::default::Default>::default() }
    } else {
        let values = fields.iter().map(|Field { ident, ty, default, .. }| match default {
            None => quote! { #ident: <#ty as crate::wire::Wire>::blank() },
            Some(AbsentValue::Default) => {
                quote! { #ident: <#ty as ::core::default::Default>::default() }
            }
            Some(AbsentValue::Call(path)) => quote! { #ident: #path() },
        });
        quote! { #ident { #( #values, )* } }
    };
    let required = fields.iter().enumerate().map(|(at, Field { ty, default, .. })| match default {
        Some(_) => quote! { 0u32 },
        None => quote! {
            if <#ty as crate::wire::Wire>::OPTIONAL { 0u32 } else { 1u32 << #at }
        },
    });
    let reads = fields.iter().enumerate().map(|(at, Field { ident, .. })| {
        quote! { #at => crate::wire::Read::read(&mut self.#ident, reader) }
    });
    let writes = fields.iter().map(|Field { ident, name, skip_if, .. }| {
        let write = quote! { writer.field(#name, &self.#ident); };
        match skip_if {
            None => write,
            Some(path) => quote! { if !#path(&self.#ident) { #write } },
        }
    });
    let (reader, writer) = if fields.is_empty() {
        (format_ident!("_reader"), format_ident!("_writer"))
    } else {
        (format_ident!("reader"), format_ident!("writer"))
    };
    Ok(quote! {
        impl crate::wire::ReadFields for #ident {
            fn names(&self) -> &'static [&'static str] {
                &[ #( #names, )* ]
            }
            fn required(&self) -> u32 {
                const { 0u32 #( | (#required) )* }
            }
            fn read_field(
                &mut self,
                index: usize,
                #reader: &mut crate::wire::Reader<'_>,
            ) -> ::core::result::Result<(), crate::wire::Refused> {
                match index {
                    #( #reads, )*
                    _ => ::core::result::Result::Ok(()),
                }
            }
        }
        impl crate::wire::WriteFields for #ident {
            fn write_fields(&self, #writer: &mut crate::wire::Writer) {
                #( #writes )*
            }
        }
        impl crate::wire::Wire for #ident {
            fn blank() -> Self {
                #blank
            }
        }
        impl crate::wire::Read for #ident {
            fn read(
                &mut self,
                reader: &mut crate::wire::Reader<'_>,
            ) -> ::core::result::Result<(), crate::wire::Refused> {
                reader.object(self)
            }
        }

        impl crate::wire::Write for #ident {
            fn write(&self, writer: &mut crate::wire::Writer) {
                writer.object(self);
            }
        }
    })
}
