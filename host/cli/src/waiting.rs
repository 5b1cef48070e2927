//! Waits that may be long: who sits before a terminal is shown how far it is.

use std::convert::Infallible;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget};

use crate::out;

/// What is done by then is not told of.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often is looked how far it is.
const INTERVAL: Duration = Duration::from_millis(500);

/// Waits for `work`. If that takes long and standard error is a terminal, a line there shows what `far` says meanwhile, and is wiped in the end.
pub async fn shown<T>(work: impl Future<Output = T>, far: impl AsyncFn() -> String) -> T {
    if !std::io::stderr().is_terminal() {
        return work.await;
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(out::spinner("{spinner} {msg}"));
    let done = tokio::select! {
        done = work => done,
        never = show(&bar, far) => match never {},
    };
    bar.finish_and_clear();
    done
}

async fn show(bar: &ProgressBar, far: impl AsyncFn() -> String) -> Infallible {
    tokio::time::sleep(PATIENCE).await;
    loop {
        bar.set_message(out::in_line(&far().await));
        bar.tick();
        tokio::time::sleep(INTERVAL).await;
    }
}
