//! The options of a connector, as a job spec gives them.

use serde::de::DeserializeOwned;

use crate::registry::Stream;
use crate::{Context, Error};

/// Reads the options into `T`, a struct with `#[serde(deny_unknown_fields)]`, so that a misspelt option is an error that names the
/// known ones.
pub(crate) fn parse<T: DeserializeOwned>(options: &toml::Table, context: &Context) -> Result<T, Error> {
    options.clone().try_into().map_err(|e: toml::de::Error| {
        // To serde they are fields.
        let why =
            weir_plan::wording::of_toml(&e).replace("unknown field", "unknown option").replace("missing field", "missing option");
        Error::options(format!("options of \"{}\": {why}", context.name))
    })
}

/// Whether the value of an option opens doors: it is not shown to those who ask what a job is, and no message quotes it.
pub fn is_secret(option: &str) -> bool {
    ["password", "secret", "token", "pem", "oauth", "jaas"].iter().any(|word| option.contains(word))
}

/// The error of a connector that cannot be a source.
pub(crate) fn not_a_source(name: &str) -> Error {
    Error::options(format!("the connector \"{name}\" can be written to, but not read from"))
}

/// The error of a connector that cannot be a sink.
pub(crate) fn not_a_sink(name: &str) -> Error {
    Error::options(format!("the connector \"{name}\" can be read from, but not written to"))
}

/// The stream that a job wants of a source that has only one. Its name does not matter, so that a job whose streams have names can be
/// bound to a file of each.
pub(crate) fn only_stream<'a>(streams: &'a [Stream], context: &Context) -> Result<&'a Stream, Error> {
    match streams {
        [stream] => Ok(stream),
        _ => {
            let names: Vec<_> = streams.iter().map(|s| s.name.as_str()).collect();
            Err(Error::options(format!(
                "\"{}\" has one stream, and the job reads these of it: {}",
                context.name,
                names.join(", ")
            )))
        }
    }
}
