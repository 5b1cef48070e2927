//! What `wit/*.wit` says, as Rust: generated when the crate is compiled.
//!
//! The types are used on every target; the exports exist only where `#[weir::job]` asks for them, in a component.
#![allow(missing_docs, unsafe_code, clippy::all)]

wit_bindgen::generate!({
    world: "job",
    path: "../../../wit",
    pub_export_macro: true,
    export_macro_name: "export",
    default_bindings_module: "weir::bindings",
    additional_derives: [PartialEq],
});
