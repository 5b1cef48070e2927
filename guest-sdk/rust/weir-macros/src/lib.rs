//! Derive and attribute macros of the Weir SDK. They are used through the crate `weir`, which documents them.

mod job;
mod record;

use proc_macro::TokenStream;
use syn::{DeriveInput, ItemFn, parse_macro_input};

/// Makes a struct with named fields a row. `#[weir(name = "…")]` on a field gives its column another name, and
/// `#[weir(from = "…")]` on a `Pass` field names the input's column that it is taken from.
#[proc_macro_derive(Record, attributes(weir))]
pub fn derive_record(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    record::derive(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a function `fn(&Job)`, or `fn(&Job) -> Result<(), E>`, the job of this component.
#[proc_macro_attribute]
pub fn job(attributes: TokenStream, item: TokenStream) -> TokenStream {
    let function = parse_macro_input!(item as ItemFn);
    job::expand(&attributes.into(), &function).unwrap_or_else(syn::Error::into_compile_error).into()
}
