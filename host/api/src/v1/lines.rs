//! `/v1/jobs/{id}/output` and `/v1/jobs/{id}/logs`: a job's last lines, and those to come.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream};
use serde::Deserialize;
use utoipa::IntoParams;
use weir_coordinator::ring::{Page, Ring};

use super::id::Id;
use crate::App;
use crate::problem::Problem;

/// How many lines one answer has, and how many are taken from the ring at once for a stream.
const LINES_MAX: usize = 1000;

/// Which lines.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// lines after this number; 0 is from the beginning
    #[serde(default)]
    after: u64,
    /// also the lines to come, as server-sent events. An event's id is the line's number: a reader that comes back with
    /// `Last-Event-ID` misses nothing that is still kept
    #[serde(default)]
    follow: bool,
}

/// Show what a job's `stdout` sinks wrote
#[utoipa::path(
    get, path = "/v1/jobs/{id}/output", tag = "jobs",
    params(("id" = String, Path, description = "`job_…`"), Which),
    responses(
        (
            status = 200, description = "at most 1000 lines, or a stream of events `line`, `missed` and `end`",
            content((Page = "application/json"), (String = "text/event-stream"))
        ),
        (status = 400, description = "the id is not UTF-8, or the query is malformed", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "there is no such job", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn output(
    State(app): State<App>,
    Id(id): Id,
    which: Result<Query<Which>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    answer(app.coordinator.output(id.parse()?).await?, which, &headers)
}

/// Show what a job's components logged
#[utoipa::path(
    get, path = "/v1/jobs/{id}/logs", tag = "jobs",
    params(("id" = String, Path, description = "`job_…`"), Which),
    responses(
        (
            status = 200, description = "at most 1000 lines, or a stream of events `line`, `missed` and `end`",
            content((Page = "application/json"), (String = "text/event-stream"))
        ),
        (status = 400, description = "the id is not UTF-8, or the query is malformed", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "there is no such job", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn logs(
    State(app): State<App>,
    Id(id): Id,
    which: Result<Query<Which>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    answer(app.coordinator.logs(id.parse()?).await?, which, &headers)
}

fn answer(ring: Ring, which: Result<Query<Which>, QueryRejection>, headers: &HeaderMap) -> Result<Response, Problem> {
    let Query(Which { after, follow }) = which.map_err(|rejection| Problem::malformed(rejection.body_text()))?;
    if !follow {
        return Ok(Json(ring.after(after, LINES_MAX)).into_response());
    }
    let last_seen = headers.get("last-event-id").and_then(|v| v.to_str().ok()?.parse().ok());
    let events = events(ring, last_seen.unwrap_or(after));
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

/// A follower of a ring.
struct Follower {
    ring: Ring,
    /// the number of the last line that was taken from the ring
    after: u64,
    /// taken, and not sent yet
    events: VecDeque<Event>,
    ended: bool,
}

fn events(ring: Ring, after: u64) -> impl Stream<Item = Result<Event, Infallible>> {
    let follower = Follower { ring, after, events: VecDeque::new(), ended: false };
    stream::unfold(follower, |mut follower| async move {
        loop {
            if let Some(event) = follower.events.pop_front() {
                return Some((Ok(event), follower));
            }
            if follower.ended {
                return None;
            }
            follower.ring.wait_after(follower.after).await;
            follower.take();
        }
    })
}

impl Follower {
    /// Takes the next lines from the ring.
    fn take(&mut self) {
        let page = self.ring.after(self.after, LINES_MAX);
        if page.missed > 0 {
            self.events.push_back(Event::default().event("missed").data(page.missed.to_string()));
        }
        for line in &page.lines {
            let json = serde_json::to_string(line).expect("a line is numbers and text");
            self.events.push_back(Event::default().event("line").id(line.seq.to_string()).data(json));
            self.after = line.seq;
        }
        if page.ended {
            self.events.push_back(Event::default().event("end").data(""));
            self.ended = true;
        }
    }
}
