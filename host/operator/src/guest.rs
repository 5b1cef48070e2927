//! Starts guests.

use std::sync::Arc;
use std::time::Duration;

use weir_sandbox::{Component, GuestError, Instance, Limits, LogSink};

/// Everything that it takes to start the guest of one chain of one subtask, any number of times.
#[derive(Clone)]
pub struct GuestStart {
    /// the component
    pub component: Component,
    /// arguments of its `describe`
    pub args: Arc<Vec<(String, String)>>,
    /// what it may use
    pub limits: Limits,
    /// where its lines go
    pub log: LogSink,
    /// the chain's index in the graph
    pub chain: u32,
    /// the subtask's index
    pub subtask: u16,
    /// the number of subtasks
    pub parallelism: u16,
    /// the schemas of the states that it may have to import
    pub schemas: Arc<[String]>,
}

impl GuestStart {
    /// A new instance, with the chain open.
    ///
    /// # Errors
    /// If the guest does not start.
    pub async fn start(&self) -> Result<Box<Instance>, GuestError> {
        let mut instance = Box::new(self.component.instantiate(&self.args, &self.limits, &self.log).await?);
        instance.open(self.chain, self.subtask, self.parallelism, &self.schemas).await?;
        Ok(instance)
    }

    /// How long a call may run. One that `hurries` looks for the row on which a call ran into its deadline: a dozen of them together may take no
    /// longer than that one call.
    pub fn call_deadline(&self, hurries: bool) -> Duration {
        let deadline = self.limits.call_deadline;
        if hurries { (deadline / NARROWING_ATTEMPTS).max(Duration::from_millis(20)) } else { deadline }
    }
}

/// Attempts that halving a batch takes, about.
const NARROWING_ATTEMPTS: u32 = 16;
