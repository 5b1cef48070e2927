//! What jobs of the API may read and write.
//!
//! Whoever may send a job must not thereby read or write the server's disk, or reach what only the server can reach. So the paths of such jobs are
//! relative to one folder (`<data dir>/files/<tenant>`) and stay inside it, they have no standard input, and connectors that go to other machines are there
//! only if the server's operator says so. Jobs of `weir run` are the user's own: none of this holds for them.
//!
//! What keeps a job inside is [`weir_connector::Files`], through which connectors open everything. Here, paths that plainly lead out are
//! refused before the job is accepted.

use std::path::{Component, Path};

use weir_plan::JobSpec;
use weir_plan::spec::Binding;

use crate::error::{self, Error, ErrorKind};

/// The connectors that every job of the API may use.
const OFFERED: [&str; 4] = ["nexmark", "blackhole", "stdout", "file"];

/// The connectors that a server offers if its operator says so: a job that uses one reaches whatever address the server reaches.
pub const OFFERABLE: [&str; 2] = ["kafka", "postgres"];

/// Checks every binding of a spec. `allowed` are those of [`OFFERABLE`] that the server offers.
///
/// # Errors
/// If a connector is not offered to jobs of the API, or a path leaves the folder.
pub fn check(spec: &JobSpec, allowed: &[String]) -> Result<(), Error> {
    spec.sources.iter().chain(&spec.sinks).try_for_each(|(name, binding)| check_binding(name, binding, allowed))
}

fn check_binding(name: &str, binding: &Binding, allowed: &[String]) -> Result<(), Error> {
    let refuse = |message| Err(Error::new(ErrorKind::Invalid, error::NOT_ALLOWED, message));
    let connector = binding.connector.as_str();
    if !OFFERED.contains(&connector) && !allowed.iter().any(|allowed| allowed == connector) {
        let way_out = match OFFERABLE.contains(&connector) {
            true => format!("; its operator can offer it: `weir server --allow-connector {connector}`"),
            false => String::new(),
        };
        let mut offered: Vec<&str> = OFFERED.to_vec();
        offered.extend(allowed.iter().map(String::as_str));
        return refuse(format!(
            "\"{name}\" uses the connector \"{connector}\", which this server does not offer{way_out}; it offers: {}",
            offered.join(", ")
        ));
    }
    for (_, value) in binding.options.iter().filter(|(option, _)| is_path(option)) {
        let values = match value {
            toml::Value::Array(values) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        for path in values.iter().filter_map(toml::Value::as_str) {
            if !stays_inside(Path::new(path)) {
                return refuse(format!(
                    "\"{name}\": the path \"{path}\" leaves the server's folder for files; write it relative to that folder, without `..`"
                ));
            }
        }
    }
    Ok(())
}

/// Whether an option is a path, as the names of options go: `path`, `folder`, `rejects_path`, `sslrootcert`.
fn is_path(option: &str) -> bool {
    matches!(option, "path" | "folder" | "sslrootcert") || option.ends_with("_path")
}

/// Whether a path, taken relative to a folder, cannot lead out of it.
fn stays_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(connector: &str, path: &str) -> Result<(), Error> {
        checked_option(connector, "path", path)
    }

    fn checked_option(connector: &str, option: &str, path: &str) -> Result<(), Error> {
        let options = toml::Table::from_iter([(option.to_owned(), toml::Value::String(path.to_owned()))]);
        check_binding("in", &Binding { connector: connector.to_owned(), idle_after: None, options }, &["postgres".to_owned()])
    }

    /// Only relative paths that go down are let through, of known connectors.
    #[test]
    fn paths_stay_inside() {
        for good in ["a.csv", "a/b/*.csv.gz", "./a", "..a"] {
            assert_eq!(checked("file", good), Ok(()), "{good}");
        }
        for bad in ["/etc/passwd", "..", "../a", "a/../../b", "a/.."] {
            assert!(checked("file", bad).is_err(), "{bad}");
            assert!(checked_option("file", "rejects_path", bad).is_err(), "{bad}");
            assert!(checked_option("file", "folder", bad).is_err(), "{bad}");
            assert!(checked_option("postgres", "sslrootcert", bad).is_err(), "{bad}");
        }
        assert!(checked("stdin", "x").is_err());
        assert!(checked("cable", "x").expect_err("no such connector").message.contains("nexmark, blackhole"));
    }

    /// Connectors that go to other machines are offered if the operator says so; whoever asks for another one learns how that is said.
    #[test]
    fn connectors_are_offered() {
        assert_eq!(checked_option("postgres", "table", "t"), Ok(()));
        let error = checked_option("kafka", "topic", "t").expect_err("it is not offered");
        assert_eq!(error.code, error::NOT_ALLOWED);
        for part in ["`weir server --allow-connector kafka`", "it offers: nexmark, blackhole, stdout, file, postgres"] {
            assert!(error.message.contains(part), "{error}");
        }
        assert!(!checked("stdin", "x").expect_err("it is never offered").message.contains("--allow-connector"));
    }
}
