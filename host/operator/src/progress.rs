//! How far an operator got with a watermark or a tick of the clock.

/// What a step of an operator left to do.
///
/// A watermark may fire millions of panes or timers. An operator makes about a batch's worth of rows of them and then says that there is more, so that
/// the rows go on, and others get their turn, before it is called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// all is done
    Done,
    /// call again, before any other call
    More,
}

impl Progress {
    /// [`More`](Self::More) if something is left.
    pub(crate) fn more_if(left: bool) -> Self {
        if left { Self::More } else { Self::Done }
    }
}
