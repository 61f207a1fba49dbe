//! A client's connection: it takes the stream as hyper does, and loses what is on the way when it is cut.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use sse_sunset::session::EventStream;
use sse_sunset::sse::Decoder;
use tokio::sync::watch;
use tokio::time::sleep;

use super::client::Client;

/// Larger than anything said here.
const CAP: usize = 1 << 22;
/// How long what was taken may be on its way.
const WAY: Duration = Duration::from_millis(5);

/// How a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Flowing,
    /// The client reads nothing; so much more fits into the buffers on the way.
    Blocked(u32),
    /// The client is gone, and the proxy does not know; so much more goes nowhere.
    Frozen(u32),
    Cut,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Line {
    flow: watch::Sender<Flow>,
    pub(super) number: u64,
}

impl Line {
    pub(super) fn new(number: u64) -> Arc<Self> {
        Arc::new(Line { flow: watch::Sender::new(Flow::Flowing), number })
    }

    /// Changes how it does; what is cut stays so, and what is frozen flows no more.
    pub(super) fn set(&self, flow: Flow) {
        self.flow.send_if_modified(|now| {
            let may = match *now {
                Flow::Cut => false,
                Flow::Frozen(_) => flow == Flow::Cut,
                Flow::Flowing | Flow::Blocked(_) => true,
            };
            if may {
                *now = flow;
            }
            may
        });
    }

    pub(super) fn flow(&self) -> Flow {
        *self.flow.borrow()
    }
}

/// Takes the stream to its end, or until the connection is cut.
pub(super) async fn read(client: Arc<Client>, mut stream: EventStream, line: Arc<Line>) {
    let mut changes = line.flow.subscribe();
    let mut decoder = Decoder::new(CAP);
    let mut pipe: VecDeque<Bytes> = VecDeque::new();
    let mut was_frozen = false;
    let is_cut = loop {
        let flow = *changes.borrow_and_update();
        // Those that are there before the stream was found empty.
        let waited = client.fences();
        was_frozen |= matches!(flow, Flow::Frozen(_));
        match flow {
            Flow::Cut => break true,
            Flow::Blocked(0) | Flow::Frozen(0) => {
                let _ = changes.changed().await;
                continue;
            }
            _ => {}
        }
        tokio::select! {
            biased;
            _ = changes.changed() => {}
            frame = stream.frame() => match frame {
                None => break false,
                Some(Ok(frame)) => {
                    pipe.push_back(frame.into_data().unwrap_or_default());
                    match flow {
                        Flow::Flowing => {}
                        Flow::Blocked(more) => line.set(Flow::Blocked(more.saturating_sub(1))),
                        Flow::Frozen(more) => {
                            line.flow.send_if_modified(|now| {
                                let is_it = *now == flow;
                                if is_it {
                                    *now = Flow::Frozen(more.saturating_sub(1));
                                }
                                is_it
                            });
                        }
                        Flow::Cut => {}
                    }
                    if flow == Flow::Flowing {
                        let keep = client.lag();
                        while pipe.len() > keep {
                            take(&client, &line, &mut decoder, &mut pipe, true);
                        }
                    }
                }
                Some(Err(never)) => match never {},
            },
            () = sleep(WAY), if (!pipe.is_empty() || client.fences() > 0) && flow == Flow::Flowing => {
                // What was cancelled longer ago than that would have been taken by now.
                let fences = if pipe.is_empty() { client.fences() } else { 0 };
                client.on_quiet(fences.min(waited));
                while !pipe.is_empty() {
                    take(&client, &line, &mut decoder, &mut pipe, true);
                }
            }
        }
    };
    let arrives = !was_frozen && (!is_cut || client.lag() == 0);
    while !pipe.is_empty() {
        take(&client, &line, &mut decoder, &mut pipe, arrives);
    }
    drop(stream);
    client.on_end(&line);
}

/// One chunk arrives, or is lost with the connection.
fn take(client: &Arc<Client>, line: &Arc<Line>, decoder: &mut Decoder, pipe: &mut VecDeque<Bytes>, arrives: bool) {
    let Some(chunk) = pipe.pop_front() else { return };
    decoder.feed(&chunk);
    while let Some(event) = decoder.next_event().expect("no event is that large") {
        let id = decoder.last_id().cloned();
        if arrives { client.on_event(line, &event, id) } else { client.on_lost(&event) }
    }
}
