//! A call whose stream ended before its answer: it is asked for again after its last event (WIRE, Upstream 6; MCP
//! 2025-03-26, transports §Resumability and Redelivery).
//!
//! The call itself is never sent again: it may have run. What is asked for is the rest of its stream, by GET.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::abortable;
use http::HeaderValue;
use tokio::time::{Instant, timeout};

use super::calls::{CallState, Serial};
use super::exchange::{Errand, Source};
use super::loss::session_lost;
use super::task::Task;
use crate::upstream::{Answer, End, Fault};

/// How long a server may take to say whether it resumes a stream.
const HEAD: Duration = Duration::from_secs(5);
/// How often a stream is asked for without anything new coming of it while the connection breaks or is refused. A stream that
/// ends in order, and without the answer, is asked for once; but a server that said how long to wait is asked until the
/// call's time is over: it is polled, and says so (MCP 2025-11-25, transports §Sending Messages 6).
const ATTEMPTS: u32 = 3;
/// The wait before the second attempt; it doubles.
const BACKOFF: Duration = Duration::from_millis(500);
/// No server is polled more often, whatever it says.
const LEAST_POLL: Duration = Duration::from_millis(200);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

impl Task {
    /// Notes that the stream of a call that ended without its answer is to be asked for again, if it can be. Returns whether
    /// it can.
    pub(super) fn resume_later(&mut self, serial: Serial, end: &End) -> bool {
        // Garbage in a stream says nothing about what is to come.
        let broke = matches!(end.fault, None | Some(Fault::Broken(_) | Fault::NotRpc { .. }));
        if !broke || !self.link.has_session() {
            return false;
        }
        let generation = self.generation;
        let Some(call) = self.calls.get_mut(serial) else { return false };
        if call.state != CallState::Owed || call.generation != generation {
            return false;
        }
        let thread = &mut call.thread;
        if end.last_id.is_some() && end.last_id != thread.last_id {
            thread.last_id.clone_from(&end.last_id);
            thread.attempts = 0;
        }
        thread.retry = end.retry.or(thread.retry);
        let is_polled = end.fault.is_none() && thread.retry.is_some();
        let attempts = match &end.fault {
            _ if is_polled => u32::MAX,
            Some(Fault::Broken(_)) => ATTEMPTS,
            _ => 1,
        };
        if thread.last_id.is_none() || thread.attempts >= attempts {
            return false;
        }
        let backoff = match thread.attempts {
            0 => Duration::ZERO,
            _ if is_polled => LEAST_POLL,
            more => BACKOFF.saturating_mul(1 << (more - 1).min(6)),
        };
        let wait = thread.retry.unwrap_or_default().max(backoff).min(LONGEST_BACKOFF);
        thread.attempts += 1;
        thread.at = Some(Instant::now() + wait);
        true
    }

    /// Asks for the rest of a call's stream.
    pub(super) fn resume(&mut self, serial: Serial, last_id: &HeaderValue) {
        let Some(call) = self.calls.get_mut(serial) else { return };
        if call.state != CallState::Owed {
            self.calls.remove(serial);
            return;
        }
        if call.generation != self.generation {
            // Its session was lost since, and another knows nothing of its events.
            return self.fail_call(serial, &session_lost());
        }
        self.context.books.metrics.upstream_streams_resumed.inc();
        let listening = timeout(HEAD, self.link.listen(&self.credentials.headers(), Some(last_id)));
        let (asking, exchange) = abortable(listening);
        call.reading = Some(exchange);
        let head = asking.map(move |answer| {
            let answer = match answer {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err(Fault::Silent(HEAD)),
                Err(_) => Err(Fault::GivenUp),
            };
            (Errand::Resume { serial }, answer)
        });
        self.heads.push(head.boxed());
    }

    pub(super) fn on_resume_head(&mut self, serial: Serial, answer: Result<Answer, Fault>) {
        let Some(call) = self.calls.get_mut(serial) else { return };
        let status = call.status.unwrap_or_default();
        let unanswered = Fault::Unanswered { status }.to_rpc();
        let (code, why) = match answer {
            Ok(answer) if answer.status.is_success() && answer.is_event_stream() => {
                let reading = self.read(Source::Call(serial), answer);
                if let Some(call) = self.calls.get_mut(serial) {
                    call.reading = Some(reading);
                }
                return;
            }
            Ok(answer) => (answer.status.as_u16(), answer.status.to_string()),
            Err(fault) => (0, fault.to_string()),
        };
        tracing::debug!(why, "a stream could not be resumed");
        // Not there, or failing: it may be back in a moment. Anything else is its word.
        let may_come = matches!(code, 0 | 502 | 503 | 504);
        let broken = End { fault: Some(Fault::Broken(why)), last_id: None, retry: None };
        if may_come && self.resume_later(serial, &broken) {
            return;
        }
        self.fail_call(serial, &unanswered);
        if matches!(code, 400 | 401 | 404) {
            self.suspect();
        }
    }
}
