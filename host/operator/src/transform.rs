//! A stateless chain: rows in, rows out.

use std::ops::Range;
use std::time::Instant;

use arrow_array::ArrayRef;
use weir_base::sleep_until;
use weir_plan::spec::ErrorPolicy;
use weir_sandbox::{GuestError, GuestErrorKind};
use weir_types::Batch;
use weir_types::graph;

use crate::body::Body;
use crate::context::{Context, GivenUp};
use crate::emission::{Emission, Emitted, Source};
use crate::row_text::describe_row;
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
    /// If the guest fails, also when it is called again, and the policy is to fail then; or if a new instance does not start.
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
        let mut error = match self.process(port, batch, context, out).await {
            Err(Error::Guest(error)) => error,
            result => return result,
        };
        context.failures.errors += 1;
        for _ in 0..context.on_error.retries {
            sleep_until(Instant::now() + context.on_error.pause).await;
            // Whatever state the failed instance is in, it may be the reason.
            self.body.renew().await?;
            context.failures.retries += 1;
            error = match self.process(port, batch, context, out).await {
                Err(Error::Guest(error)) => error,
                result => return result,
            };
        }
        match context.on_error.policy {
            ErrorPolicy::Fail => Err(self.blame(port, batch, context, error).await),
            ErrorPolicy::Skip | ErrorPolicy::DeadLetter => self.pass_over(port, batch, context, out, error).await,
        }
    }

    async fn process(&mut self, port: usize, batch: &Batch, context: &mut Context, out: &mut Vec<Emitted>) -> Result<(), Error> {
        let input = &self.inputs[port];
        let columns: Vec<ArrayRef> = input.columns.iter().map(|&c| batch.column(c).clone()).collect();
        let reply = self.body.process(context.input(port, input, batch, &columns, None)).await?;
        context.note_progress(reply.progress);
        self.emission.assemble(&Source::Rows(batch), reply.outputs, out)
    }

    /// The error to report after the guest failed on rows: with the row that it fails on, if one does by itself.
    async fn blame(&mut self, port: usize, batch: &Batch, context: &Context, error: GuestError) -> Error {
        let Some(start) = self.body.guest_start() else { return context.failure(error, None) };
        let input = &self.inputs[port];
        let columns: Vec<ArrayRef> = input.columns.iter().map(|&c| batch.column(c).clone()).collect();
        let input = context.input(port, input, batch, &columns, None);
        let attempt = narrow::Attempt { start, kind: error.kind, input, accumulates: false, assigned: None };
        match narrow::failing_row(&attempt).await {
            Some((row, error)) => context.failure(error, Some((row, describe_row(batch, &context.schemas[port], row)))),
            None => context.failure(error, None),
        }
    }

    /// The guest failed on `batch`: passes the other rows through the chain, piece by piece. A piece that fails is halved, until a single row is left,
    /// which is passed over if it fails with all the time of a call, and in a new instance if it ends that. A stateless chain has nothing to lose,
    /// so that it goes on with a new instance at once.
    ///
    /// # Errors
    /// If a new instance does not start: then no row is to blame.
    async fn pass_over(
        &mut self,
        port: usize,
        batch: &Batch,
        context: &mut Context,
        out: &mut Vec<Emitted>,
        error: GuestError,
    ) -> Result<(), Error> {
        let mut hurries = error.kind == GuestErrorKind::Deadline;
        let mut ended = error.kind.ends_instance();
        // The next piece is last.
        let mut pieces = vec![];
        halve(0..batch.rows(), &mut pieces);
        while let Some(piece) = pieces.pop() {
            let fresh = std::mem::take(&mut ended);
            if fresh {
                self.body.renew().await?;
            }
            self.body.hurry(hurries && piece.len() > 1);
            let error = match self.process(port, &batch.slice(piece.start, piece.len()), context, out).await {
                Err(Error::Guest(error)) => error,
                Err(other) => return Err(other),
                Ok(()) => continue,
            };
            hurries |= error.kind == GuestErrorKind::Deadline;
            ended = error.kind.ends_instance();
            if piece.len() > 1 || ended && !fresh {
                halve(piece, &mut pieces);
                continue;
            }
            tracing::debug!(operator = context.operator, row = piece.start, %error, "gave up a row");
            context.give_up(GivenUp { port, at: piece.start, row: batch.slice(piece.start, 1), error });
        }
        if ended {
            self.body.renew().await?;
        }
        self.body.hurry(false);
        Ok(())
    }

    /// The user's part.
    pub fn body(&self) -> &Body {
        &self.body
    }
}

/// Adds the halves of some rows, the first one last; a single row as it is.
fn halve(rows: Range<usize>, pieces: &mut Vec<Range<usize>>) {
    let middle = rows.start + rows.len() / 2;
    pieces.push(middle..rows.end);
    if middle > rows.start {
        pieces.push(rows.start..middle);
    }
}
