//! What can be told about a component without running it, and whether it is one at all.

use wasmparser::{KnownCustom, Parser, Payload, ProducersFieldValue, ProducersSectionReader};
use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;

use crate::error::Error;
use crate::options::Options;
use crate::wit;

/// A component, from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// its size in bytes
    pub size: usize,
    /// the interfaces that it imports
    pub imports: Vec<String>,
    /// the interfaces that it exports
    pub exports: Vec<String>,
    /// what it was written in and made with, as its tools say: (`language`, `Rust`, ``), (`processed-by`, `rustc`, `1.95`)
    pub producers: Vec<Producer>,
}

/// A tool or a language that took part in the making of a component.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Producer {
    /// its part: `language`, `processed-by` or `sdk`
    pub role: String,
    /// its name
    pub name: String,
    /// its version, if it says
    pub version: String,
}

/// What guests can import: Weir's interface, the types that it speaks of, and an empty WASI 0.2 (see [`crate::wasi`]).
const ALLOWED: [&str; 12] = [
    wit::HOST,
    wit::TYPES,
    "wasi:io/",
    "wasi:clocks/",
    "wasi:random/",
    "wasi:filesystem/types",
    "wasi:filesystem/preopens",
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/std",
    "wasi:cli/terminal-",
    "wasi:sockets/",
];

/// Checks that these bytes look like a component, before a compiler reads them.
pub(crate) fn check_bytes(wasm: &[u8], options: &Options) -> Result<(), Error> {
    if wasm.len() > options.max_component_bytes {
        return Err(Error::invalid(format!("the component has {} bytes, but {}", wasm.len(), options.component_limit())));
    }
    if Engine::detect_precompiled(wasm).is_some() {
        return Err(Error::invalid("this is compiled machine code; only WebAssembly is accepted"));
    }
    if wasm.starts_with(b"\0asm\x01\0\0\0") {
        return Err(Error::invalid("this is a core module, not a component; build it with `weir build`"));
    }
    let text = || std::str::from_utf8(wasm).is_ok_and(|text| text.trim_start().starts_with(['(', ';']));
    if wasm.starts_with(b"\0asm") || text() {
        return Ok(());
    }
    Err(Error::invalid("this is not WebAssembly; build a component with `weir build`"))
}

impl Inspection {
    /// Reads a component's own sections, without compiling or even validating it: what a compiler would find fault with, it will.
    ///
    /// # Errors
    /// If the bytes break off or are no component.
    pub(crate) fn new(wasm: &[u8], size: usize) -> Result<Self, wasmparser::BinaryReaderError> {
        let (mut imports, mut exports, mut producers) = (vec![], vec![], vec![]);
        // How many modules and components are open around what is read: the component itself is the first.
        let mut depth = 0;
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::Version { .. } => depth += 1,
                Payload::End(_) => depth -= 1,
                Payload::ComponentImportSection(section) if depth == 1 => {
                    for import in section {
                        imports.push(import?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 1 => {
                    for export in section {
                        exports.push(export?.name.name.to_owned());
                    }
                }
                Payload::CustomSection(section) => {
                    if let KnownCustom::Producers(fields) = section.as_known() {
                        add_producers(fields, &mut producers);
                    }
                }
                _ => {}
            }
        }
        producers.sort();
        producers.dedup();
        Ok(Self { size, imports, exports, producers })
    }

    /// Checks the imports against what there is, and the exports against what a job must have.
    pub(crate) fn check(&self) -> Result<(), Error> {
        for import in &self.imports {
            if !ALLOWED.iter().any(|prefix| import.starts_with(prefix)) {
                return Err(Error::invalid(refuse(import)));
            }
        }
        for export in [wit::DEFINITION, wit::CHAINS] {
            if !self.exports.iter().any(|e| e == export) {
                return Err(Error::invalid(format!(
                    "the component does not export `{export}`, so it is no Weir job; build it with `weir build`"
                )));
            }
        }
        Ok(())
    }
}

fn refuse(import: &str) -> String {
    if import.starts_with("wasi:http/") {
        format!(
            "the component imports `{import}`, but guests have no network: remove the code that uses it, or build without it \
             (JavaScript: `jco componentize … --disable http fetch-event`)"
        )
    } else if import.starts_with("weir:dataflow/") {
        format!(
            "the component imports `{import}`, but this version of Weir offers `{}`: build it anew with a matching SDK",
            wit::HOST
        )
    } else {
        format!("the component imports `{import}`, which is not allowed: guests have `{}` and an empty WASI 0.2", wit::HOST)
    }
}

/// Reads a `producers` section, of the component or of a module within. One that cannot be read is as good as none.
fn add_producers(fields: ProducersSectionReader<'_>, producers: &mut Vec<Producer>) {
    for field in fields.into_iter().map_while(Result::ok) {
        let producer = |v: ProducersFieldValue<'_>| Producer {
            role: field.name.to_owned(),
            name: v.name.to_owned(),
            version: v.version.to_owned(),
        };
        producers.extend(field.values.into_iter().map_while(Result::ok).map(producer));
    }
}

/// Whether an item of a component is a function; used to say what is missing.
pub(crate) fn is_function(item: &ComponentItem) -> bool {
    matches!(item, ComponentItem::ComponentFunc(_))
}
