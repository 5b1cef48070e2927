//! A stateless chain: rows in, rows out.

use arrow_array::ArrayRef;
use weir_types::Batch;
use weir_types::graph;

use crate::body::Body;
use crate::context::Context;
use crate::emission::{Emission, Emitted, Source};
use crate::{Error, narrow};

/// Runs a `transform` head.
pub struct Transform {
    body: Body,
    inputs: Vec<graph::Input>,
    emission: Emission,
}

impl Transform {
    /// Runs the chain in `body`.
    pub fn new(body: Body, inputs: Vec<graph::Input>, emission: Emission) -> Self {
        Self { body, inputs, emission }
    }

    /// Passes rows through the chain.
    ///
    /// # Errors
    /// If the guest fails and the policy is not to skip the row on which it does.
    pub async fn on_batch(
        &mut self,
        port: usize,
        batch: &Batch,
        context: &mut Context,
        out: &mut Vec<Emitted>,
    ) -> Result<(), Error> {
        if self.body.wants_renewal() {
            self.body.renew().await?;
        }
        match self.process(port, batch, context, out).await {
            Err(Error::Guest(error)) if self.body.guest_start().is_some() => self.recover(port, batch, context, out, error).await,
            result => result,
        }
    }

    async fn process(&mut self, port: usize, batch: &Batch, context: &mut Context, out: &mut Vec<Emitted>) -> Result<(), Error> {
        let input = &self.inputs[port];
        let columns: Vec<ArrayRef> = input.columns.iter().map(|&c| batch.column(c).clone()).collect();
        let reply = self.body.process(context.input(port, input, batch, &columns, None)).await?;
        context.note_progress(reply.progress);
        self.emission.assemble(&Source::Rows(batch), reply.outputs, out)
    }

    /// The guest failed on `batch`: finds the row, then passes over it or fails with its name. A stateless chain has nothing to lose, so that it goes on with
    /// a new instance at once.
    async fn recover(
        &mut self,
        port: usize,
        batch: &Batch,
        context: &mut Context,
        out: &mut Vec<Emitted>,
        mut error: weir_sandbox::GuestError,
    ) -> Result<(), Error> {
        let mut rest = batch.clone();
        let mut passed = 0;
        loop {
            let Some(start) = self.body.guest_start().cloned() else { return Err(context.failure(error, None)) };
            let input = &self.inputs[port];
            let columns: Vec<ArrayRef> = input.columns.iter().map(|&c| rest.column(c).clone()).collect();
            let input = context.input(port, input, &rest, &columns, None);
            let attempt = narrow::Attempt { start: &start, input, accumulates: false, assigned: None };
            let Some((row, row_error)) = narrow::failing_row(&attempt, &error).await else {
                return Err(context.failure(error, None));
            };
            self.body.renew().await?;
            if !context.skips {
                return Err(
                    context.failure(row_error, Some((passed + row, narrow::describe_row(&rest, &context.schemas[port], row))))
                );
            }
            context.skipped += 1;
            tracing::debug!(operator = context.operator, row = passed + row, error = %row_error, "skipped a row");
            if row > 0 {
                self.process(port, &rest.slice(0, row), context, out).await?;
            }
            rest = rest.slice(row + 1, rest.rows() - row - 1);
            passed += row + 1;
            if rest.is_empty() {
                return Ok(());
            }
            match self.process(port, &rest, context, out).await {
                Err(Error::Guest(next)) => error = next,
                result => return result,
            }
        }
    }

    /// The user's part.
    pub fn body(&self) -> &Body {
        &self.body
    }
}
