//! A stream of lines as server-sent events.

use std::collections::VecDeque;

use reqwest::Response;

use crate::error::{Error, innermost};
use crate::types::Line;

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// a line
    Line(Line),
    /// so many lines are gone, for the reader was too slow or came too late
    Missed(u64),
    /// there will be no more
    End,
}

/// Lines of a job as they come. A reader that is cut off goes on by asking for the lines after the last one that it saw.
#[derive(Debug)]
pub struct Follow {
    /// the server's address
    base: String,
    response: Response,
    parser: Parser,
}

impl Follow {
    pub(crate) fn new(base: &str, response: Response) -> Self {
        Self { base: base.to_owned(), response, parser: Parser::default() }
    }

    /// Waits for what comes next.
    ///
    /// # Errors
    /// If the connection breaks, or what comes makes no sense.
    pub async fn next(&mut self) -> Result<Next, Error> {
        loop {
            if let Some(next) = self.parser.ready.pop_front() {
                return next;
            }
            match self.response.chunk().await {
                Ok(Some(bytes)) => self.parser.take(&bytes),
                Ok(None) => return Err(Error::broken(&self.base, "the connection was closed")),
                Err(e) => return Err(Error::broken(&self.base, innermost(&e))),
            }
        }
    }
}

/// Takes a stream of events apart (the part of the format that a Weir server writes).
#[derive(Debug, Default)]
struct Parser {
    /// the bytes of a line whose end has not come
    partial: Vec<u8>,
    event: String,
    data: String,
    ready: VecDeque<Result<Next, Error>>,
}

impl Parser {
    fn take(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(length) = self.partial[start..].iter().position(|&b| b == b'\n') {
            let line = String::from_utf8_lossy(&self.partial[start..start + length]).into_owned();
            self.line(line.trim_end_matches('\r'));
            start += length + 1;
        }
        self.partial.drain(..start);
    }

    fn line(&mut self, line: &str) {
        if line.is_empty() {
            return self.dispatch();
        }
        // A line without a name before the colon is a comment: it keeps the connection alive.
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" => value.clone_into(&mut self.data),
            _ => {}
        }
    }

    fn dispatch(&mut self) {
        let (event, data) = (std::mem::take(&mut self.event), std::mem::take(&mut self.data));
        let next = match event.as_str() {
            "line" => serde_json::from_str(&data).map(Next::Line).map_err(|e| Error::Answer(e.to_string())),
            "missed" => data.parse().map(Next::Missed).map_err(|_| Error::Answer(format!("\"{data}\" is no number"))),
            "end" => Ok(Next::End),
            _ => return,
        };
        self.ready.push_back(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However the stream is cut into pieces, the same events come out; comments and unknown events are passed over.
    #[test]
    fn pieces_make_events() {
        let stream = ": hello\n\nevent: missed\ndata: 3\n\nevent: news\ndata: x\n\nid: 4\nevent: line\n\
                      data: {\"seq\":4,\"time_ms\":5,\"text\":\"ü\"}\n\nevent: end\ndata\n\n";
        let line = Line { seq: 4, time_ms: 5, level: None, text: "ü".into() };
        for size in [1, 2, 7, stream.len()] {
            let mut parser = Parser::default();
            stream.as_bytes().chunks(size).for_each(|piece| parser.take(piece));
            let events: Vec<_> = parser.ready.into_iter().map(|e| e.expect("a good event")).collect();
            assert_eq!(events, [Next::Missed(3), Next::Line(line.clone()), Next::End], "pieces of {size}");
        }
    }
}
