//! What of a spec is not shown to those who ask what a job is: what opens doors elsewhere.

use toml::Value;
use url::Url;
use weir_connector::is_secret;
use weir_plan::JobSpec;

/// What stands where a secret was.
const HIDDEN: &str = "(hidden)";

/// The spec without the secrets among the options of its connectors.
pub(crate) fn hide(spec: &JobSpec) -> JobSpec {
    let mut shown = spec.clone();
    let bindings = shown.sources.values_mut().chain(shown.sinks.values_mut());
    bindings.flat_map(|binding| &mut binding.options).for_each(|(name, value)| hide_in(name, value));
    shown
}

fn hide_in(name: &str, value: &mut Value) {
    match value {
        Value::String(text) if is_secret(name) => HIDDEN.clone_into(text),
        Value::String(text) => {
            // A URL may have a password in it.
            if let Ok(mut url) = Url::parse(text)
                && url.password().is_some()
                && url.set_password(Some("hidden")).is_ok()
            {
                *text = url.into();
            }
        }
        Value::Table(options) => options.iter_mut().for_each(|(name, value)| hide_in(name, value)),
        Value::Array(values) => values.iter_mut().for_each(|value| hide_in(name, value)),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: neither passwords nor keys are in what is shown, wherever they stand; all else is as it was.
    #[test]
    fn secrets_stay_behind() {
        let text = r#"
            component = "sha256:00"
            [sources.in]
            connector = "kafka"
            brokers = "localhost:9092"
            topic = "t"
            properties = { "sasl.password" = "hunter2", "sasl.username" = "me", "ssl.key.pem" = "hunter2", "client.id" = "x" }
            [sinks.out]
            connector = "postgres"
            url = "postgres://me:hunter2@localhost:5432/there"
            table = "t"
            [sinks.parts]
            connector = "file"
            folder = "out"
            s3 = { secret_access_key = "hunter2", region = "x" }
        "#;
        let spec = JobSpec::from_toml(text, &[]).expect("a good spec");
        let shown = format!("{:?}", hide(&spec));
        assert!(format!("{spec:?}").contains("hunter2") && !shown.contains("hunter2"), "{shown}");
        for kept in ["localhost:9092", "\"me\"", "client.id", "postgres://me:hidden@localhost:5432/there", "region"] {
            assert!(shown.contains(kept), "{kept}: {shown}");
        }
    }
}
