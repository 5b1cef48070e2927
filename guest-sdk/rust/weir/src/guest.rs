//! The component: the exports of `wit/world.wit`, on top of a job.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Once;

use crate::bindings::exports::weir::dataflow::{chains, definition};
use crate::bindings::weir::dataflow::host;
use crate::bindings::weir::dataflow::types::Batch;
use crate::chain::Chain;
use crate::job::{Job, Outcome};

/// A job function, as `#[weir::job]` hands it over.
pub trait Entry: 'static {
    /// the job's name
    const NAME: &'static str;

    /// Builds the job.
    fn build(job: &Job) -> Result<(), String>;
}

/// What a job function returned.
pub fn outcome(returned: impl Outcome) -> Result<(), String> {
    returned.outcome()
}

/// The exports of the component with the job `E`.
#[derive(Debug)]
pub struct Component<E>(PhantomData<E>);

/// The chains of this instance.
#[derive(Default)]
struct Instance {
    /// those that `describe` made
    described: Vec<Option<Box<dyn Chain>>>,
    /// those that are open
    open: Vec<Option<Box<dyn Chain>>>,
}

thread_local! {
    // A component has one thread, so this is the instance's own.
    static INSTANCE: RefCell<Instance> = RefCell::default();
}

/// Runs `call` on an open chain.
fn with<R>(chain: u32, call: impl FnOnce(&mut dyn Chain) -> Result<R, String>) -> Result<R, String> {
    INSTANCE.with_borrow_mut(|instance| match instance.open.get_mut(chain as usize) {
        Some(Some(running)) => call(&mut **running),
        _ => Err(format!("chain {chain} is not open")),
    })
}

/// Sends panics to the job's log: the trap that follows does not say what went wrong.
fn log_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|panic| host::log(host::Level::Error, &panic.to_string()))));
}

impl<E: Entry> definition::Guest for Component<E> {
    fn describe(arguments: Vec<definition::Argument>) -> Result<definition::Graph, String> {
        log_panics();
        let job = Job::new(E::NAME, arguments.into_iter().map(|a| (a.name, a.value)).collect());
        let outcome = E::build(&job);
        let built = job.finish(outcome)?;
        INSTANCE.with_borrow_mut(|instance| {
            instance.open = built.chains.iter().map(|_| None).collect();
            instance.described = built.chains;
        });
        Ok(built.graph)
    }
}

impl<E: Entry> chains::Guest for Component<E> {
    fn open(chain: u32, _subtask: chains::Subtask, schemas: Vec<String>) -> Result<(), String> {
        INSTANCE.with_borrow_mut(|instance| {
            let described = instance.described.get_mut(chain as usize).and_then(Option::take);
            let mut running =
                described.ok_or_else(|| format!("chain {chain} cannot be opened: it has no code, or is open already"))?;
            running.open(&schemas)?;
            instance.open[chain as usize] = Some(running);
            Ok(())
        })
    }
    fn process(chain: u32, input: chains::Input) -> Result<chains::Reply, String> {
        with(chain, |c| c.process(input))
    }
    fn assign_slots(chain: u32, slots: Vec<u8>, keys: Batch) -> Result<(), String> {
        with(chain, |c| c.assign_slots(&slots, keys))
    }
    fn accumulate(chain: u32, input: chains::Input) -> Result<(), String> {
        with(chain, |c| c.accumulate(input))
    }
    fn emit(chain: u32, panes: chains::Panes) -> Result<chains::Reply, String> {
        with(chain, |c| c.emit(&panes))
    }
    fn merge_slots(chain: u32, targets: Vec<u8>, sources: Vec<u8>) -> Result<(), String> {
        with(chain, |c| c.merge_slots(&targets, &sources))
    }
    fn clear_slots(chain: u32, slots: Vec<u8>) -> Result<(), String> {
        with(chain, |c| c.clear_slots(&slots))
    }
    fn export_slots(chain: u32, slots: Vec<u8>) -> Result<chains::States, String> {
        with(chain, |c| c.export_slots(&slots))
    }
    fn import_slots(chain: u32, slots: Vec<u8>, states: chains::States) -> Result<(), String> {
        with(chain, |c| c.import_slots(&slots, &states))
    }
    fn timers_fired(chain: u32, timers: chains::DueTimers) -> Result<chains::Reply, String> {
        with(chain, |c| c.timers_fired(&timers))
    }
}
