//! Calls: a request to the process that owns a session, its answer, and both sides of that.
//!
//! ```text
//! asker: seal -> publish -> (nobody hears: is it gone? again) -> wait for the answer, PATIENCE at most
//! owner: open -> once? -> handler -> seal -> publish to the asker
//! ```
//!
//! Promise: a call is done once at most, however often it is sent; its answer is the owner's; and the asker hears within
//! [`PATIENCE`] what became of it, or that this is not known.
//!
//! The trap: Redis ends the connection of a subscriber for whom more than 32 MB wait (its default), and what waited is
//! lost. So an asker has no more under way than its part of that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::super::keys::Unsealed;
use super::super::{Boot, Called, Fault, PATIENCE};
use super::Inner;
use super::envelope::{self, Arrival, CallId, Head, TOLERANCE};
use super::link::Down;

const CALL: &[u8] = b"call";
const ANSWER: &[u8] = b"answer";
const WORD: &[u8] = b"word";
/// Between two attempts at an owner that nobody hears for.
const AGAIN: Duration = Duration::from_millis(100);
/// After so much silence a small call is sent a second time: the owner may have been subscribing anew.
const REPEATED: Duration = Duration::from_secs(1);
/// Calls up to this size are.
const SMALL: usize = 64 << 10;
/// KiB that all askers of one owner may have under way.
const UNDER_WAY: u32 = 24 << 10;
/// Calls that are answered at once, at most.
const SEATS: usize = 1_024;
/// Most attempts at one call.
const MOST_ATTEMPTS: u8 = 100;

/// Calls of this process, and of others to it.
#[derive(Debug)]
pub(super) struct Calls {
    waiting: Mutex<HashMap<CallId, oneshot::Sender<Bytes>>>,
    /// KiB under way, by owner: one that hangs takes no room from others.
    weights: Mutex<HashMap<Boot, Arc<Semaphore>>>,
    seats: Arc<Semaphore>,
}

impl Default for Calls {
    fn default() -> Self {
        Calls { waiting: Mutex::default(), weights: Mutex::default(), seats: Arc::new(Semaphore::new(SEATS)) }
    }
}

/// A call whose answer is waited for, until it is dropped.
struct Waiting<'a> {
    calls: &'a Calls,
    id: CallId,
    answer: oneshot::Receiver<Bytes>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.calls.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl Calls {
    fn begin(&self) -> Waiting<'_> {
        let (id, (tell, answer)) = (envelope::new_id(), oneshot::channel());
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, tell);
        Waiting { calls: self, id, answer }
    }

    /// Room for `len` bytes on the way to `owner`, of which each of `replicas` has its part.
    async fn room(&self, owner: Boot, len: usize, replicas: usize) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(len / 1024 + 1).unwrap_or(u32::MAX);
        let part = kib.saturating_mul(u32::try_from(replicas.max(1)).unwrap_or(u32::MAX));
        let weight = {
            let mut weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
            // Those of processes that are gone have nobody in them.
            if weights.len() > replicas.max(8) * 2 {
                weights.retain(|_, weight| Arc::strong_count(weight) > 1);
            }
            Arc::clone(weights.entry(owner).or_insert_with(|| Arc::new(Semaphore::new(UNDER_WAY as usize))))
        };
        weight.acquire_many_owned(part.min(UNDER_WAY)).await.ok()
    }

    fn answered(&self, id: CallId, answer: Bytes) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(waiting) = waiting {
            let _ = waiting.send(answer);
        }
    }
}

impl Inner {
    pub(super) async fn call(&self, owner: Boot, request: &[u8]) -> Called {
        let (deadline, expires) = (Instant::now() + PATIENCE, self.expires());
        // A process that is not known is new, or gone.
        if !self.presence.is_known(owner) && self.presence.is_gone(&self.link, owner).await == Ok(true) {
            return Called::Gone;
        }
        let replicas = self.presence.count();
        let Ok(Some(_room)) = timeout_at(deadline, self.calls.room(owner, request.len(), replicas)).await else {
            return Called::Unreachable;
        };
        let mut waiting = self.calls.begin();
        let (mut may_have_arrived, mut nobody_hears) = (false, false);
        for attempt in 1..MOST_ATTEMPTS {
            let Ok(ways) = timeout_at(deadline, self.ways()).await else {
                // Who could not ask again knows nothing of the owner.
                nobody_hears = false;
                break;
            };
            let head = Head { id: waiting.id, attempt, expires, from: self.me };
            let until = match self.publish_call(owner, &head, request).await {
                Ok(0) => {
                    // Nobody hears for it: it is gone, or is subscribing anew.
                    nobody_hears = true;
                    if self.presence.is_gone(&self.link, owner).await == Ok(true) {
                        return Called::Gone;
                    }
                    deadline.min(Instant::now() + AGAIN)
                }
                Ok(_) => {
                    (may_have_arrived, nobody_hears) = (true, false);
                    let is_repeated = attempt == 1 && request.len() <= SMALL;
                    if is_repeated { deadline.min(Instant::now() + REPEATED) } else { deadline }
                }
                Err(Down) => {
                    (may_have_arrived, nobody_hears) = (true, false);
                    // A refusal leaves the connection as it is.
                    sleep_until(deadline.min(Instant::now() + AGAIN)).await;
                    continue;
                }
            };
            tokio::select! {
                answer = &mut waiting.answer => return answer.map_or(Called::Unanswered, Called::Answered),
                () = sleep_until(until) => {}
                // The answer may have been lost with the way.
                () = self.other_ways(ways) => {}
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        // It could have come back by now.
        let is_gone = nobody_hears && self.presence.is_trusted();
        match may_have_arrived {
            _ if is_gone => Called::Gone,
            true => Called::Unanswered,
            false => Called::Unreachable,
        }
    }

    /// Waits until there is a way to Redis and one back; says which.
    async fn ways(&self) -> (u64, u64) {
        let link = match self.link.number() {
            Some(number) => number,
            None => self.link.other_than(None).await,
        };
        let subscription = match self.subscription.number() {
            Some(number) => number,
            None => self.subscription.other_than(None).await,
        };
        (link, subscription)
    }

    async fn other_ways(&self, (link, subscription): (u64, u64)) {
        tokio::select! {
            _ = self.link.other_than(Some(link)) => {}
            _ = self.subscription.other_than(Some(subscription)) => {}
        }
    }

    async fn publish_call(&self, owner: Boot, head: &Head, request: &[u8]) -> Result<u64, Down> {
        let channel = self.names.calls(owner);
        let text = head.write(request);
        let sealed = self.sealing().seal(&[CALL, self.names.fleet(), channel.as_bytes()], &text);
        let (receivers,) = self.link.query(redis::pipe().publish(channel, sealed)).await?;
        Ok(receivers)
    }

    /// When what is sent now is of no use any more, by the clock of Redis.
    fn expires(&self) -> i64 {
        self.presence.now() + i64::try_from((PATIENCE + TOLERANCE).as_millis()).unwrap_or(i64::MAX)
    }

    /// By when whoever sends what expires then gives up, by this process's clock.
    fn deadline(&self, expires: i64) -> Instant {
        let left = u64::try_from(expires - self.presence.now()).unwrap_or_default();
        Instant::now() + Duration::from_millis(left).saturating_sub(TOLERANCE).min(PATIENCE)
    }

    /// Tells all others, if they can be reached now.
    pub(super) async fn publish_word(&self, word: &[u8]) {
        let channel = self.names.words();
        let head = Head { id: envelope::new_id(), attempt: 0, expires: self.expires(), from: self.me };
        let text = head.write(word);
        let sealed = self.sealing().seal(&[WORD, self.names.fleet(), channel.as_bytes()], &text);
        let _ = self.link.query::<(u64,)>(redis::pipe().publish(channel, sealed)).await;
    }

    /// Takes what was published for this process. Does not block.
    pub(super) fn take(self: &Arc<Self>, channel: &str, sealed: &[u8]) {
        if *channel == self.names.answers(self.me) {
            if let Err(fault) = self.take_answer(channel, sealed) {
                self.fault(fault);
            }
        } else if *channel == self.names.words() {
            if let Err(fault) = self.take_word(channel, sealed) {
                self.fault(fault);
            }
        } else if let Ok(seat) = Arc::clone(&self.calls.seats).try_acquire_owned() {
            let (inner, channel, sealed) = (Arc::clone(self), channel.to_owned(), sealed.to_vec());
            self.tasks.spawn(async move {
                if let Err(fault) = inner.answer(&channel, &sealed).await {
                    inner.fault(fault);
                }
                drop(seat);
            });
        }
        // Without a seat the caller hears nothing, and says so to its client.
    }

    fn take_answer(&self, channel: &str, sealed: &[u8]) -> Result<(), Fault> {
        let purpose = [ANSWER, self.names.fleet(), channel.as_bytes()];
        let text = self.keys().open(&purpose, sealed).map_err(Unsealed::of_envelope)?;
        let (id, _) = text.split_first_chunk().ok_or(Fault::ForgedEnvelope)?;
        let id = *id;
        self.calls.answered(id, Bytes::from(text).slice(size_of::<CallId>()..));
        Ok(())
    }

    fn take_word(&self, channel: &str, sealed: &[u8]) -> Result<(), Fault> {
        let (head, word) = self.open(WORD, channel, sealed)?;
        if head.from == self.me {
            return Ok(());
        }
        match self.window.enter(&head) {
            Arrival::New => self.hear(word),
            Arrival::Again(_) | Arrival::Replay => return Err(Fault::ReplayedEnvelope),
            Arrival::Crowded => {}
        }
        Ok(())
    }

    fn open(&self, direction: &[u8], channel: &str, sealed: &[u8]) -> Result<(Head, Bytes), Fault> {
        let purpose = [direction, self.names.fleet(), channel.as_bytes()];
        let (head, text) = Head::read(self.keys().open(&purpose, sealed).map_err(Unsealed::of_envelope)?)?;
        if head.expires < self.presence.now() { Err(Fault::ExpiredEnvelope) } else { Ok((head, text)) }
    }

    async fn answer(&self, channel: &str, sealed: &[u8]) -> Result<(), Fault> {
        let (head, request) = self.open(CALL, channel, sealed)?;
        let answer = match self.window.enter(&head) {
            Arrival::New => {
                // Nobody answers before the process takes part.
                let Some(handler) = self.handler.get() else { return Ok(()) };
                self.metrics.fleet_answers.inc();
                let answer = handler.call(request, self.deadline(head.expires)).await;
                self.window.answered(&head.id, &answer);
                answer
            }
            Arrival::Again(Some(answer)) => answer,
            Arrival::Again(None) | Arrival::Crowded => return Ok(()),
            Arrival::Replay => return Err(Fault::ReplayedEnvelope),
        };
        self.publish_answer(&head, &answer).await;
        Ok(())
    }

    /// As long as anybody may wait for it, over however many connections.
    async fn publish_answer(&self, head: &Head, answer: &[u8]) {
        let channel = self.names.answers(head.from);
        let text = [&head.id[..], answer].concat();
        let sealed = self.sealing().seal(&[ANSWER, self.names.fleet(), channel.as_bytes()], &text);
        let deadline = Instant::now() + PATIENCE;
        let publish = async {
            let mut number = self.link.number();
            while self.link.query::<(u64,)>(redis::pipe().publish(&channel, &sealed)).await.is_err() {
                number = Some(self.link.other_than(number).await);
            }
        };
        let _ = timeout_at(deadline, publish).await;
    }
}
