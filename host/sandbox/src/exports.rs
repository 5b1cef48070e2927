//! The functions that a guest exports.

use wasmtime::Store;
use wasmtime::component::{Component, ComponentExportIndex, ComponentNamedList, Instance, Lift, Lower, TypedFunc};

use crate::error::Error;
use crate::host::Host;
use crate::inspect::is_function;
use crate::wit;

/// What a function of the guest returns: a value, or the user's error.
pub(crate) type Returned<T> = (Result<T, String>,);

/// The functions of one instance, with their types checked. Their borrowed parameters may be of any lifetime: a typed
/// function is covariant in them.
#[derive(Clone, Copy)]
pub(crate) struct Exports {
    pub describe: TypedFunc<(&'static [wit::Argument<'static>],), Returned<wit::Graph>>,
    pub open: TypedFunc<(u32, wit::Subtask, &'static [String]), Returned<()>>,
    pub process: TypedFunc<(u32, wit::Input<'static>), Returned<wit::Reply>>,
    pub assign_slots: TypedFunc<(u32, &'static [u8], wit::BatchIn<'static>), Returned<()>>,
    pub accumulate: TypedFunc<(u32, wit::Input<'static>), Returned<()>>,
    pub emit: TypedFunc<(u32, wit::Panes<'static>), Returned<wit::Reply>>,
    pub merge_slots: TypedFunc<(u32, &'static [u8], &'static [u8]), Returned<()>>,
    pub clear_slots: TypedFunc<(u32, &'static [u8]), Returned<()>>,
    pub export_slots: TypedFunc<(u32, &'static [u8]), Returned<wit::StatesOut>>,
    pub import_slots: TypedFunc<(u32, &'static [u8], wit::StatesIn<'static>), Returned<()>>,
    pub timers_fired: TypedFunc<(u32, wit::DueTimers<'static>), Returned<wit::Reply>>,
}

/// Where a component has these functions; looked up once, when it is loaded.
pub(crate) struct ExportIndices {
    describe: ComponentExportIndex,
    open: ComponentExportIndex,
    process: ComponentExportIndex,
    assign_slots: ComponentExportIndex,
    accumulate: ComponentExportIndex,
    emit: ComponentExportIndex,
    merge_slots: ComponentExportIndex,
    clear_slots: ComponentExportIndex,
    export_slots: ComponentExportIndex,
    import_slots: ComponentExportIndex,
    timers_fired: ComponentExportIndex,
}

impl ExportIndices {
    pub(crate) fn find(component: &Component) -> Result<Self, Error> {
        let find = |interface: &str, function: &str| {
            component
                .get_export_index(None, interface)
                .and_then(|i| component.get_export(Some(&i), function))
                .filter(|(item, _)| is_function(item))
                .map(|(_, index)| index)
                .ok_or_else(|| {
                    Error::invalid(format!("the component does not export `{interface}.{function}`; build it with `weir build`"))
                })
        };
        Ok(Self {
            describe: find(wit::DEFINITION, "describe")?,
            open: find(wit::CHAINS, "open")?,
            process: find(wit::CHAINS, "process")?,
            assign_slots: find(wit::CHAINS, "assign-slots")?,
            accumulate: find(wit::CHAINS, "accumulate")?,
            emit: find(wit::CHAINS, "emit")?,
            merge_slots: find(wit::CHAINS, "merge-slots")?,
            clear_slots: find(wit::CHAINS, "clear-slots")?,
            export_slots: find(wit::CHAINS, "export-slots")?,
            import_slots: find(wit::CHAINS, "import-slots")?,
            timers_fired: find(wit::CHAINS, "timers-fired")?,
        })
    }

    /// Gets the functions of an instance, and checks their types.
    pub(crate) fn of(&self, instance: &Instance, store: &mut Store<Host>) -> wasmtime::Result<Exports> {
        Ok(Exports {
            describe: typed(instance, store, &self.describe)?,
            open: typed(instance, store, &self.open)?,
            process: typed(instance, store, &self.process)?,
            assign_slots: typed(instance, store, &self.assign_slots)?,
            accumulate: typed(instance, store, &self.accumulate)?,
            emit: typed(instance, store, &self.emit)?,
            merge_slots: typed(instance, store, &self.merge_slots)?,
            clear_slots: typed(instance, store, &self.clear_slots)?,
            export_slots: typed(instance, store, &self.export_slots)?,
            import_slots: typed(instance, store, &self.import_slots)?,
            timers_fired: typed(instance, store, &self.timers_fired)?,
        })
    }
}

fn typed<P, R>(instance: &Instance, store: &mut Store<Host>, index: &ComponentExportIndex) -> wasmtime::Result<TypedFunc<P, R>>
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    instance.get_typed_func(store, index)
}
