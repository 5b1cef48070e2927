//! `#[derive(Record)]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Data, DeriveInput, Error, Fields, Ident, LitStr, Type};

/// A field of the struct.
struct Field<'a> {
    ident: &'a Ident,
    ty: &'a Type,
    /// the column's name
    name: String,
    /// the input's column, for a `Pass`
    from: String,
}

/// The implementations of `Row` and `Record`, and a constant for each field.
pub fn derive(input: &DeriveInput) -> Result<TokenStream, Error> {
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(&input.generics, "a record cannot be generic: its columns are fixed"));
    }
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(input, "only a struct can be a record"));
    };
    let Fields::Named(named) = &data.fields else {
        return Err(Error::new_spanned(input, "a record needs named fields: they are its columns"));
    };
    let fields = named.named.iter().map(field).collect::<Result<Vec<_>, _>>()?;
    check_names(&fields)?;

    let (record, visibility) = (&input.ident, &input.vis);
    let reader = format_ident!("{record}Reader");
    let writer = format_ident!("{record}Writer");
    let ident: Vec<_> = fields.iter().map(|f| f.ident).collect();
    let ty: Vec<_> = fields.iter().map(|f| f.ty).collect();
    let name: Vec<_> = fields.iter().map(|f| &f.name).collect();
    let from: Vec<_> = fields.iter().map(|f| &f.from).collect();
    let index: Vec<_> = (0..fields.len() as u32).collect();
    let place: Vec<_> = (0..fields.len()).collect();
    let width = fields.len();
    let constant: Vec<_> =
        fields.iter().map(|f| Ident::new(&f.ident.to_string().trim_start_matches("r#").to_uppercase(), f.ident.span())).collect();

    Ok(quote! {
        #[allow(dead_code)]
        impl #record {
            #(
                #[doc = concat!("The field `", #name, "`.")]
                #visibility const #constant: ::weir::Field<Self, <#ty as ::weir::value::Value>::Logical> =
                    ::weir::Field::new(#index, #name);
            )*
        }

        const _: () = {
            use ::std::{string::String, vec::Vec, result::Result};
            use ::weir::serde::{Deserialize, Deserializer, Serializer, ser::SerializeStruct};
            use ::weir::value::{Buffers, Column, InState, NO_ORIGIN, Value, Writer};

            #[doc(hidden)]
            pub struct #reader { #( #ident: <#ty as Value>::Reader, )* }

            #[doc(hidden)]
            pub struct #writer { #( #ident: <#ty as Value>::Writer, )* }

            impl ::weir::Row for #record {
                type Reader = #reader;

                fn columns() -> Vec<Column> {
                    ::std::vec![ #( <#ty as Value>::column(#name).taken_from(#from), )* ]
                }
                #[inline(always)]
                fn open(buffers: &mut Buffers) -> Result<#reader, String> {
                    Ok(#reader { #( #ident: <#ty as Value>::open(buffers, #index)?, )* })
                }
                #[inline(always)]
                fn read(reader: &#reader, row: usize) -> Self {
                    Self { #( #ident: <#ty as Value>::read(&reader.#ident, row), )* }
                }
            }

            impl ::weir::Record for #record {
                type Writer = #writer;
                const WIDTH: usize = #width;
                const NARROW: bool = true #( && <#ty as Value>::NARROW )*;

                fn writer(sources: &[u32]) -> #writer {
                    #writer { #( #ident: <#ty as Value>::writer(sources.get(#place).copied().unwrap_or(NO_ORIGIN)), )* }
                }
                fn reserve(writer: &mut #writer, rows: usize) {
                    #( Writer::reserve(&mut writer.#ident, rows); )*
                }
                #[inline(always)]
                fn write(&self, writer: &mut #writer, origin: u32) {
                    #( Value::write(&self.#ident, &mut writer.#ident, origin); )*
                }
                fn write_all(rows: &[(u32, Self)], writer: &mut #writer) {
                    #( Value::write_all(rows, |row| &row.#ident, &mut writer.#ident); )*
                }
                fn write_empty(writer: &mut #writer) {
                    #( <#ty as Value>::write_missing(&mut writer.#ident); )*
                }
                fn finish(writer: &mut #writer, buffers: &mut Vec<Vec<u8>>) -> Result<(), String> {
                    #( Writer::finish(&mut writer.#ident, buffers)?; )*
                    Ok(())
                }
                fn encode<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    let mut row = serializer.serialize_struct(stringify!(#record), #width)?;
                    #( row.serialize_field(#name, &InState(&self.#ident))?; )*
                    row.end()
                }
                fn decode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    #[derive(::weir::serde::Deserialize)]
                    #[serde(crate = "::weir::serde", bound = "")]
                    struct Fields { #( #[serde(rename = #name)] #ident: InState<#ty>, )* }

                    let fields = <Fields as Deserialize>::deserialize(deserializer)?;
                    Ok(Self { #( #ident: fields.#ident.0, )* })
                }
                fn detach(&mut self) {
                    #( Value::detach(&mut self.#ident); )*
                }
            }
        };
    })
}

/// A field and its attributes.
fn field(field: &syn::Field) -> Result<Field<'_>, Error> {
    let ident = field.ident.as_ref().ok_or_else(|| Error::new_spanned(field, "a field of a record needs a name"))?;
    let mut name = ident.to_string().trim_start_matches("r#").to_owned();
    let mut from = None;
    for attribute in field.attrs.iter().filter(|a| a.path().is_ident("weir")) {
        attribute.parse_nested_meta(|meta| {
            let value: LitStr = meta.value()?.parse()?;
            if meta.path.is_ident("name") {
                name = value.value();
            } else if meta.path.is_ident("from") {
                from = Some(value.value());
            } else {
                return Err(meta.error("expected `name` or `from`"));
            }
            Ok(())
        })?;
    }
    Ok(Field { ident, ty: &field.ty, from: from.unwrap_or_else(|| name.clone()), name })
}

/// Two columns of one name cannot be told apart.
fn check_names(fields: &[Field]) -> Result<(), Error> {
    for (i, field) in fields.iter().enumerate() {
        if fields[..i].iter().any(|f| f.name == field.name) {
            return Err(Error::new_spanned(field.ident, format!("there is a column `{}` already", field.name)));
        }
    }
    Ok(())
}
