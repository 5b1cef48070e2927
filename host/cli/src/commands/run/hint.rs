//! What may help a job that has failed.

use weir_sandbox::Inspection;
use weir_worker::{Failure, FailureKind};

/// Whether a component has the bindings that the SDK gives what `weir build` makes. That there is Rust in it says nothing: there is some in the runtimes of
/// other languages.
pub fn is_built(inspection: &Inspection) -> bool {
    inspection.producers.iter().any(|producer| producer.name == "wit-bindgen-rust")
}

/// What may help, where the message does not say it. `is_built` says whether `weir build` has made the job's components.
pub fn hint(failure: &Failure, is_built: bool) -> Option<String> {
    match failure.kind {
        FailureKind::Guest if failure.backtrace.is_empty() => None,
        FailureKind::Guest => {
            let lines = is_built.then_some("`weir build --debug` keeps the guest's line numbers");
            let rows = "`on_error` lets a job go on without such a row; where there is state, that needs checkpoints";
            let hints: Vec<_> = lines.into_iter().chain(failure.is_of_row.then_some(rows)).collect();
            (!hints.is_empty()).then(|| hints.join("; "))
        }
        FailureKind::Internal => Some("this is a bug in Weir; please report it with the output of `weir explain`".to_owned()),
        FailureKind::Connector | FailureKind::Resources | FailureKind::Checkpoint | FailureKind::Damaged => None,
    }
}

#[cfg(test)]
mod tests {
    use weir_sandbox::Producer;

    use super::*;

    /// Goal: a hint names only what can help: line numbers of a guest that `weir build` has made, and `on_error` where a row is to blame.
    #[test]
    fn hints_help() {
        let hint = |is_of_row, is_built| {
            let failure = Failure { backtrace: vec!["f".into()], is_of_row, ..Failure::new(FailureKind::Guest, "ouch") };
            super::hint(&failure, is_built).unwrap_or_default()
        };
        for (is_of_row, is_built) in [(false, false), (false, true), (true, false), (true, true)] {
            let hint = hint(is_of_row, is_built);
            assert_eq!((hint.contains("`on_error`"), hint.contains("--debug")), (is_of_row, is_built), "{hint}");
        }
        let returned = Failure { is_of_row: true, ..Failure::new(FailureKind::Guest, "no price") };
        assert_eq!(super::hint(&returned, true), None);
    }

    /// Goal: a guest is known by its bindings, not by Rust in the runtime of its language.
    #[test]
    fn rust_in_a_runtime_is_no_rust_guest() {
        let made_by = |tools: &[(&str, &str)]| {
            let producer =
                |&(role, name): &(&str, &str)| Producer { role: role.into(), name: name.into(), version: String::new() };
            is_built(&Inspection { size: 0, imports: vec![], exports: vec![], producers: tools.iter().map(producer).collect() })
        };
        assert!(made_by(&[("processed-by", "wit-component"), ("processed-by", "wit-bindgen-rust")]));
        assert!(!made_by(&[("language", "Rust"), ("processed-by", "rustc"), ("processed-by", "wit-bindgen-c")]));
    }
}
