//! Streams that stay open: whether the way cuts them when they are silent, or when they are old.
//!
//! Two are watched side by side. One is silent (the proxy leaves its keep-alive comments out, for a signed stream), the other
//! has a comment every second: a cut of the first alone is a timeout of silence, and the shortest on the way, because that
//! one strikes first; a cut of both is a limit of age.
//!
//! The trap: without the key the proxy's own comments, every 15 s, hide every timeout that is longer. What is not seen is
//! not claimed.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::super::finding::{Advice, On};
use super::super::text::milliseconds;
use super::Way;
use crate::auth::KeepAlive;
use crate::probe::{Fault, SseStream};

/// What the proxy sends a comment after, unless told otherwise.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The interval of comments of the stream that is not silent.
const BUSY: Duration = Duration::from_secs(1);
const NAMES: &[&str] = &["idle-timeout", "stream-limit"];

/// What became of a stream.
#[derive(Debug, Clone)]
struct Fate {
    /// How it was cut, and its age then; `None` while it lives.
    cut: Option<(String, Duration)>,
    /// The silence before its end, or before the end of the watch.
    last_silence: Duration,
    /// The longest silence that it lived through, that before its end left out.
    survived: Duration,
}

/// Watches both streams, if there is time for it.
pub(super) async fn look(on: &mut On<'_, '_>, way: &Way<'_>, is_known: bool) {
    if way.options.watch.is_zero() {
        return on.skipped(NAMES, "--watch 0s");
    }
    // Without a signature one stream is as good as two.
    let busy = async { if is_known { follow(way, KeepAlive::Every(BUSY)).await.map(Some) } else { Ok(None) } };
    let (silent, busy) = match futures_util::join!(follow(way, KeepAlive::Off), busy) {
        (Ok(silent), Ok(busy)) => (silent, busy),
        (Err(fault), _) | (_, Err(fault)) => {
            let remedy = "run the check again; if it stays so, whoever runs the balancer: its log should show why";
            let meaning = "what works once does not work always";
            on.failure("stream-limit", format!("a further GET: {fault}"), Advice::new(meaning, remedy));
            return on.skipped(NAMES, "no stream");
        }
    };
    let watched = milliseconds(way.options.watch);
    match busy {
        Some(busy) => {
            limit(on, way, busy.cut.as_ref(), &watched);
            idle(on, way, &silent, busy.cut.as_ref());
        }
        None => masked(on, way, &silent, &watched),
    }
}

/// Reads a stream until it is cut or the time is over.
async fn follow(way: &Way<'_>, keep_alive: KeepAlive) -> Result<Fate, Fault> {
    let mut stream: SseStream = way.client.open(&way.signature(Some(keep_alive)), way.options.patience).await?;
    if !stream.head().is_event_stream() {
        return Err(Fault::Unreadable(format!("HTTP {}", stream.head().status.as_u16())));
    }
    let deadline = Instant::now() + way.options.watch;
    let (mut last, mut survived) = (stream.age(), Duration::ZERO);
    let cut = loop {
        let how = match timeout_at(deadline, stream.next()).await {
            Err(_) => break None,
            Ok(Ok(Some(arrival))) => {
                survived = survived.max(arrival.at.saturating_sub(last));
                last = arrival.at;
                continue;
            }
            Ok(Ok(None)) => "closed".to_owned(),
            Ok(Err(fault)) => fault.to_string(),
        };
        break Some((how, stream.age()));
    };
    let last_silence = stream.age().saturating_sub(last);
    if cut.is_none() {
        survived = survived.max(last_silence);
    }
    Ok(Fate { cut, last_silence, survived })
}

/// Streams on which something comes all the time: only their age can be the reason.
fn limit(on: &mut On<'_, '_>, way: &Way<'_>, cut: Option<&(String, Duration)>, watched: &str) {
    match cut {
        None => on.ok("stream-limit", format!("a stream was not cut within {watched}")),
        Some((how, age)) => {
            let seen = format!("a busy stream was cut after {} ({how})", milliseconds(*age));
            let meaning = "streams have a limit of age: clients lose their session each time it is reached, and only \
                           some come back by themselves";
            on.failure("stream-limit", seen, Advice::new(meaning, way.gateway.lasting()));
        }
    }
}

/// The silent stream.
fn idle(on: &mut On<'_, '_>, way: &Way<'_>, silent: &Fate, busy: Option<&(String, Duration)>) {
    let Some((how, age)) = &silent.cut else {
        let seen = format!("a silent stream was not cut within {}", milliseconds(silent.survived));
        return on.ok("idle-timeout", seen);
    };
    if busy.is_some_and(|(_, busy)| *busy <= age.saturating_add(BUSY)) {
        return on.skipped(&["idle-timeout"], "the limit of age cuts streams before");
    }
    let silence = silent.last_silence;
    let seen =
        format!("the shortest timeout on the way cuts streams after {} of silence ({how})", milliseconds(silence));
    // A comment that comes late must not come too late.
    let most = silence / 2;
    if most >= KEEP_ALIVE {
        let most = most.as_secs();
        on.ok(
            "idle-timeout",
            format!("{seen}; the proxy's --keep-alive of 15 s is short enough (up to {most}s would be)"),
        );
        return;
    }
    let option =
        if most < Duration::from_secs(1) { format!("{}ms", most.as_millis()) } else { format!("{}s", most.as_secs()) };
    let remedy = format!("give serve --keep-alive {option} or less; or {}", way.gateway.patient());
    if silence > KEEP_ALIVE {
        let meaning = "the proxy's comments (every 15 s, unless told otherwise) come in time, with little to spare";
        on.warning("idle-timeout", seen, Advice::new(meaning, remedy));
    } else {
        let meaning = "with comments every 15 s, the proxy's default, every silent client is cut off";
        on.failure("idle-timeout", seen, Advice::new(meaning, remedy));
    }
}

/// A stream with the comments that the proxy likes.
fn masked(on: &mut On<'_, '_>, way: &Way<'_>, stream: &Fate, watched: &str) {
    let Some((how, age)) = &stream.cut else {
        on.ok("stream-limit", format!("a stream was not cut within {watched}"));
        if stream.survived > KEEP_ALIVE.saturating_mul(2) {
            let seen = format!("a silent stream was not cut within {}", milliseconds(stream.survived));
            return on.ok("idle-timeout", seen);
        }
        let why = "the proxy's keep-alive comments hide timeouts; with --probe-key-file it keeps them back";
        return on.skipped(&["idle-timeout"], why);
    };
    let silence = stream.last_silence;
    // It has lived through a longer silence before.
    let name = if silence < stream.survived { "stream-limit" } else { "idle-timeout" };
    let seen = format!(
        "a stream was cut at the age of {}, after {} of silence ({how})",
        milliseconds(*age),
        milliseconds(silence)
    );
    let meaning =
        "clients lose their streams on the way; with --probe-key-file this check can tell whether by silence or by age";
    let remedy = format!("{}. {}", way.gateway.patient(), way.gateway.lasting());
    on.failure(name, seen, Advice::new(meaning, remedy));
    on.skipped(NAMES, "a stream was cut before that could be seen");
}
