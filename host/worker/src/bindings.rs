//! What becomes of the positions of sources, and of sinks, when a job starts from a checkpoint. They go by the names that the graph gives them.

use std::collections::{BTreeMap, BTreeSet};

use weir_checkpoint::{Kind, Manifest, SplitState};
use weir_connector::error::ErrorKind;
use weir_connector::{Error, Source, Split, Transaction};
use weir_plan::JobPlan;

use crate::deploy::connector_failure;
use crate::error::Failure;

/// What to do about positions of a source that the job has not.
pub const LOST_SOURCE_ADVICE: &str = "give the source its name back, or leave its positions behind by --allow-non-restored-state";

/// What to do about splits that a source's options do not name any more.
pub const EXCLUDED_ADVICE: &str =
    "set the options back until all of it has been read, or leave the rest of it unread by --allow-non-restored-state";

/// What to do about rows that only a sink can commit which the job has not.
pub const LOST_SINK_ADVICE: &str = "start the job once with its sinks as they were, which commits these rows, and stop it; or give the rows up by \
                                    --allow-non-restored-state";

/// What to do where a sink cannot commit what a checkpoint says that it has prepared.
const CHANGED_SINK_ADVICE: &str = "if it was another sink then, or wrote to another place, start the job once with its sinks as they were, which commits these \
                                   rows, and stop it; after that they may change";

/// What becomes of a source or a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindingFit {
    /// the checkpoint knows it
    Kept,
    /// it does not
    New,
    /// the job has not what the checkpoint knows
    Lost,
}

/// The splits of a source.
#[derive(Debug, PartialEq)]
pub(crate) struct Splits {
    /// those that are to be read
    pub open: Vec<Split>,
    /// those that were read to their end
    pub done: Vec<String>,
}

/// What becomes of the sources: the job's in their order, then those of which positions are lost.
pub fn compare_sources(plan: &JobPlan, manifest: &Manifest) -> Vec<(String, BindingFit)> {
    let sources = || manifest.tasks.iter().filter_map(|task| task.source.as_ref());
    let known = sources().map(|source| source.name.as_str()).collect();
    let with_positions = sources().filter(|source| !source.splits.is_empty()).map(|source| source.name.as_str()).collect();
    compare(plan.sources.iter().map(|source| source.name.as_str()), &known, with_positions)
}

/// What becomes of the sinks: the job's in their order, then those that it has not any more.
pub fn compare_sinks(plan: &JobPlan, manifest: &Manifest) -> Vec<(String, BindingFit)> {
    let known: BTreeSet<_> = manifest.tasks.iter().flat_map(|task| &task.sinks).map(|sink| sink.name.as_str()).collect();
    compare(plan.sinks.iter().map(|sink| sink.name.as_str()), &known, known.clone())
}

fn compare<'a>(
    own: impl Iterator<Item = &'a str>,
    known: &BTreeSet<&'a str>,
    mut losable: BTreeSet<&'a str>,
) -> Vec<(String, BindingFit)> {
    let mut fits = vec![];
    for name in own {
        losable.remove(name);
        fits.push((name.to_owned(), if known.contains(name) { BindingFit::Kept } else { BindingFit::New }));
    }
    fits.extend(losable.into_iter().map(|name| (name.to_owned(), BindingFit::Lost)));
    fits
}

/// The splits of a source that a checkpoint knows; none if it does not know the source. Of a job that has ended all are done.
pub(crate) fn splits(manifest: &Manifest, source: &str) -> Option<Splits> {
    let snapshots = manifest.tasks.iter().filter_map(|task| task.source.as_ref()).filter(|s| s.name == source);
    let mut states = BTreeMap::new();
    let mut is_known = false;
    for snapshot in snapshots {
        is_known = true;
        states.extend(snapshot.splits.iter());
    }
    let mut splits = Splits { open: vec![], done: vec![] };
    for (id, state) in states {
        match state {
            SplitState::At { spec, position } if manifest.kind != Kind::Final => {
                splits.open.push(Split { id: id.clone(), spec: spec.clone(), position: position.clone() });
            }
            SplitState::At { .. } | SplitState::Done => splits.done.push(id.clone()),
        }
    }
    is_known.then_some(splits)
}

/// The splits of a source that a checkpoint has not read to their end and that its options do not name any more, with the reason.
pub fn excluded(source: &dyn Source, name: &str, manifest: &Manifest) -> Vec<(String, String)> {
    let open = splits(manifest, name).map_or_else(Vec::new, |splits| splits.open);
    open.into_iter().filter_map(|split| source.excludes(&split).map(|why| (split.id, why))).collect()
}

/// What goes on of the splits that a checkpoint has: with what the options say anew, and without those that they do not name any more or whose positions
/// stand for nothing any more, whose ids come besides. There are such only if they are to be left behind.
pub(crate) fn go_on(
    source: &dyn Source,
    known: Splits,
    checkpoint: u64,
    leaves_behind: bool,
) -> Result<(Splits, Vec<String>), Error> {
    let (mut open, mut left) = (vec![], vec![]);
    for mut split in known.open {
        match source.excludes(&split) {
            None => match source.renew(&mut split) {
                Ok(()) => open.push(split),
                Err(error) if error.kind == ErrorKind::Gone && leaves_behind => left.push(split.id),
                Err(error) => return Err(error),
            },
            Some(_) if leaves_behind => left.push(split.id),
            Some(why) => {
                return Err(Error::options(format!(
                    "checkpoint {checkpoint} has not read \"{}\" to its end, and {why}; {EXCLUDED_ADVICE}",
                    split.id
                )));
            }
        }
    }
    Ok((Splits { open, done: known.done }, left))
}

/// A sink cannot deal with what it has prepared for the checkpoint that the job starts from. It may have been another one then.
pub(crate) fn recovery_failure(name: &str, error: &Error, pending: &[Transaction]) -> Failure {
    let failure = connector_failure("sink", name, error);
    if pending.is_empty() { failure } else { advised(failure) }
}

/// The failure to commit what the checkpoint has that a job starts from. `may_have_changed`: the job has run in another process only, and its spec may have
/// changed since. What is missing then is looked for in the wrong place, and is not there at the next attempt either.
pub fn commit_failure(mut failure: Failure, may_have_changed: bool) -> Failure {
    failure.is_final |= failure.is_missing && may_have_changed;
    advised(failure)
}

/// With what to do if the sink was another one. It is the right one if it is its rows that are refused: then its own words are to be followed.
fn advised(mut failure: Failure) -> Failure {
    if failure.is_final && !failure.is_malformed {
        failure.message = format!("{}; {CHANGED_SINK_ADVICE}", failure.message);
    }
    failure
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use tokio::sync::Notify;
    use weir_connector::Reader;

    use super::*;

    /// A source whose options name these splits, and say where those end that have no end.
    struct Named(&'static [&'static str]);

    impl Source for Named {
        fn splits(&self, _: u16) -> Result<Vec<Split>, Error> {
            Ok(self.0.iter().map(|id| split(id)).collect())
        }

        fn excludes(&self, split: &Split) -> Option<String> {
            (!self.0.contains(&split.id.as_str())).then(|| "the option path = \"b\" does not name it".to_owned())
        }

        fn renew(&self, split: &mut Split) -> Result<(), Error> {
            split.spec = json!({ "end": 7 });
            Ok(())
        }

        fn reader(&self, _: &Split, _: &Arc<Notify>) -> Result<Box<dyn Reader>, Error> {
            Err(Error::missing("it is not read"))
        }
    }

    fn split(id: &str) -> Split {
        Split { id: id.to_owned(), spec: json!({}), position: Some(3.into()) }
    }

    /// Goal: what options do not name any more is refused, for good and with what to do, unless it is to be left behind; what they name gets what they say anew.
    /// What was read to its end is no matter of theirs.
    #[test]
    fn excluded_splits_are_refused() {
        let known = || Splits { open: vec![split("a"), split("b")], done: vec!["c".to_owned()] };
        let refused = go_on(&Named(&["b"]), known(), 5, false).unwrap_err();
        for part in ["checkpoint 5", "\"a\"", "the option path = \"b\"", "--allow-non-restored-state"] {
            assert!(refused.message.contains(part), "{refused}");
        }
        assert!(connector_failure("source", "in", &refused).is_final);
        let renewed = |id| Split { spec: json!({ "end": 7 }), ..split(id) };
        let (splits, left) = go_on(&Named(&["b"]), known(), 5, true).unwrap();
        assert_eq!((splits, left), (Splits { open: vec![renewed("b")], done: vec!["c".to_owned()] }, vec!["a".to_owned()]));
        let (splits, left) = go_on(&Named(&["a", "b"]), known(), 5, false).unwrap();
        assert_eq!((splits.open, left), (vec![renewed("a"), renewed("b")], vec![]));
    }

    /// A source that names everything, and whose split `a` is gone.
    struct MadeAnew;

    impl Source for MadeAnew {
        fn splits(&self, _: u16) -> Result<Vec<Split>, Error> {
            Ok(vec![split("a"), split("b")])
        }

        fn renew(&self, split: &mut Split) -> Result<(), Error> {
            if split.id == "a" { Err(Error::gone("it was made anew")) } else { Ok(()) }
        }

        fn reader(&self, _: &Split, _: &Arc<Notify>) -> Result<Box<dyn Reader>, Error> {
            Err(Error::missing("it is not read"))
        }
    }

    /// Goal: what stands for nothing any more is refused for good, unless it is to be left behind; then the rest goes on.
    #[test]
    fn splits_that_are_gone_are_refused() {
        let known = || Splits { open: vec![split("a"), split("b")], done: vec![] };
        let refused = go_on(&MadeAnew, known(), 5, false).unwrap_err();
        assert!(connector_failure("source", "in", &refused).is_final, "{refused}");
        let (splits, left) = go_on(&MadeAnew, known(), 5, true).unwrap();
        assert_eq!((splits.open, left), (vec![split("b")], vec!["a".to_owned()]));
    }

    /// Goal: a sink that is in another place than its rows fails for good, with what to do, where its spec may have changed; where it may not, what is missing may
    /// come back. One whose rows are refused is in the right place.
    #[test]
    fn sinks_that_have_moved_are_told() {
        let failed = |error: &Error, may_have_changed| commit_failure(connector_failure("sink", "out", error), may_have_changed);
        let moved = failed(&Error::missing("the rows are not there"), true);
        assert!(moved.is_final && moved.message.contains("with its sinks as they were"), "{moved}");
        let away = failed(&Error::missing("the rows are not there"), false);
        assert!(!away.is_final && !away.message.contains("as they were"), "{away}");
        let slow = failed(&Error::io("the disk", std::io::Error::other("fails")), true);
        assert!(!slow.is_final, "{slow}");
        let foreign = Error::options("it is no transaction of this sink");
        for told in [failed(&foreign, false), recovery_failure("out", &foreign, &[json!(1)])] {
            assert!(told.is_final && told.message.contains("with its sinks as they were"), "{told}");
        }
        assert!(!recovery_failure("out", &foreign, &[]).message.contains("as they were"));
        let unwanted = failed(&Error::malformed("the row is there already; change the table"), true);
        assert!(unwanted.is_final && unwanted.message.ends_with("change the table"), "{unwanted}");
    }
}
