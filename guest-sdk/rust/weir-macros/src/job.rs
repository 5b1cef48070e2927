//! `#[weir::job]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, ItemFn};

/// The function, and in a component also the exports that run it.
pub fn expand(attributes: &TokenStream, function: &ItemFn) -> Result<TokenStream, Error> {
    if !attributes.is_empty() {
        return Err(Error::new_spanned(attributes, "#[weir::job] takes no arguments"));
    }
    if function.sig.inputs.len() != 1 {
        return Err(Error::new_spanned(&function.sig, "a job is a function of one argument, `&Job`"));
    }
    let name = &function.sig.ident;
    let text = name.to_string();
    Ok(quote! {
        // Outside of a component only tests call it, if any.
        #[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
        #function

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Entry;

            impl ::weir::guest::Entry for Entry {
                const NAME: &'static str = #text;

                fn build(job: &::weir::Job) -> ::core::result::Result<(), ::std::string::String> {
                    ::weir::guest::outcome(#name(job))
                }
            }

            type Component = ::weir::guest::Component<Entry>;
            ::weir::bindings::export!(Component with_types_in ::weir::bindings);
        };
    })
}
