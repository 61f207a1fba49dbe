//! What is published for this process, heard for ever.
//!
//! The trap: a subscription may die without a word, while commands go on: the process would look alive and answer nobody.
//! So it calls itself through Redis ([`PROBE`]), and a call that does not come back makes it subscribe anew.
//!
//! The library hands messages on through a queue without a bound. It stays short because nothing here waits: what cannot be
//! taken at once is dropped, and its caller asks again or gives up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use redis::Client;
use redis::aio::PubSubStream;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::envelope::{self, CallId};
use super::link::{Down, Link, Pauses, Trouble, in_time};

/// How often the process calls itself.
const PROBE: Duration = Duration::from_secs(5);
/// How long that may take.
const ECHO: Duration = Duration::from_secs(2);
/// Between two attempts while there is no way to Redis.
const AGAIN: Duration = Duration::from_millis(100);
/// What a probe begins with; a sealed call begins otherwise.
const MARK: u8 = 0;

/// The subscription of a process.
#[derive(Debug)]
pub(super) struct Subscription {
    client: Client,
    /// Where calls, and its own probes, come in.
    calls: String,
    /// All channels.
    channels: Vec<String>,
    /// Which subscription it is; none while there is none that is known to work.
    number: watch::Sender<Option<u64>>,
    last: AtomicU64,
    trouble: Trouble,
}

/// The call of this process to itself that is awaited.
#[derive(Debug, Default)]
struct Echo {
    awaited: Mutex<Option<CallId>>,
    heard: Notify,
}

impl Echo {
    fn expect(&self, probe: CallId) {
        *self.awaited.lock().unwrap_or_else(PoisonError::into_inner) = Some(probe);
    }

    /// Whether it is the one; it is no more awaited then.
    fn is(&self, probe: &[u8]) -> bool {
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        let is = awaited.is_some_and(|awaited| awaited == *probe);
        if is {
            *awaited = None;
            self.heard.notify_one();
        }
        is
    }
}

impl Subscription {
    /// One of all `channels`, of which the first is for calls.
    pub(super) fn new(client: Client, channels: [String; 3]) -> Self {
        Subscription {
            client,
            calls: channels[0].clone(),
            channels: channels.into(),
            number: watch::channel(None).0,
            last: AtomicU64::new(0),
            trouble: Trouble::with("hearing other replicas through Redis"),
        }
    }

    /// Hears for ever; `take` gets the channel and what was published.
    pub(super) async fn keep(&self, link: &Link, take: impl Fn(&str, &[u8])) {
        let mut pauses = Pauses::default();
        loop {
            match self.subscribe().await {
                Ok(stream) => {
                    let heard = self.hear(stream, link, &take).await;
                    self.number.send_replace(None);
                    if heard {
                        pauses = Pauses::default();
                    }
                }
                Err(error) => self.trouble.begin(&error),
            }
            pauses.next().await;
        }
    }

    async fn subscribe(&self) -> Result<PubSubStream, String> {
        let mut subscribed = in_time(self.client.get_async_pubsub()).await?;
        in_time(subscribed.subscribe(&self.channels)).await?;
        Ok(subscribed.into_on_message())
    }

    /// Hears until the subscription is of no more use; says whether it ever was.
    async fn hear(&self, mut stream: PubSubStream, link: &Link, take: &impl Fn(&str, &[u8])) -> bool {
        let echo = Echo::default();
        let hearing = async {
            while let Some(message) = stream.next().await {
                let (channel, bytes) = (message.get_channel_name(), message.get_payload_bytes());
                match bytes.strip_prefix(&[MARK]).filter(|_| *channel == *self.calls) {
                    Some(probe) if echo.is(probe) => self.works(),
                    Some(_) => {}
                    None => take(channel, bytes),
                }
            }
            "Redis ended the subscription"
        };
        // Beside the hearing, which must not wait for anything.
        let why = tokio::select! {
            why = hearing => why,
            why = self.probe(link, &echo) => why,
        };
        self.trouble.begin(why);
        self.number().is_some()
    }

    /// Calls this process again and again; ends with what is wrong.
    async fn probe(&self, link: &Link, echo: &Echo) -> &'static str {
        loop {
            let probe = envelope::new_id();
            echo.expect(probe);
            match self.send(link, probe).await {
                Ok(0) => return "Redis does not know the subscription any more",
                Ok(_) if timeout(ECHO, echo.heard.notified()).await.is_err() => {
                    return "what this process publishes to itself does not come back";
                }
                Ok(_) => sleep(PROBE).await,
                // The way to Redis is being mended; whether one is heard shows then.
                Err(Down) => sleep(AGAIN).await,
            }
        }
    }

    async fn send(&self, link: &Link, probe: CallId) -> Result<u64, Down> {
        let text = [&[MARK][..], &probe].concat();
        let (receivers,) = link.query(redis::pipe().publish(&self.calls, text)).await?;
        Ok(receivers)
    }

    fn works(&self) {
        if self.number.borrow().is_none() {
            self.trouble.end();
            let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
            self.number.send_replace(Some(number));
        }
    }

    /// Which subscription it is that works, if one does.
    pub(super) fn number(&self) -> Option<u64> {
        *self.number.borrow()
    }

    /// Waits until there is one that works other than `number`; gives its number.
    pub(super) async fn other_than(&self, number: Option<u64>) -> u64 {
        let mut seen = self.number.subscribe();
        let found = seen.wait_for(|now| now.is_some() && *now != number).await.ok().and_then(|now| *now);
        match found {
            Some(number) => number,
            None => std::future::pending().await,
        }
    }

    /// Why nothing is heard, if so.
    pub(super) fn why(&self) -> Option<String> {
        match self.number() {
            Some(_) => None,
            None => Some(self.trouble.why().unwrap_or_else(|| "subscribing".to_owned())),
        }
    }
}
