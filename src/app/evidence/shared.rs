//! The evidence among replicas: what this one knows goes to the fleet's board as it comes in, what the others know is taken
//! from there, and all write the same pseudonyms.
//!
//! Promise: nothing here holds up a session or a report; at most a twentieth of all time goes into it. What fails is tried
//! again until it works.
//!
//! The trap: the board may hold what this very replica knew before it started. That is read before anything is put in its
//! place.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use super::{LAST_SAVE, LONGEST_PAUSE, restore_times, show};
use crate::fleet::{Board, Boot, Fleet, Peer, Unshared};
use crate::metrics::Metrics;
use crate::report::live::{Live, SAVE_EVERY};
use crate::traffic::Pseudonyms;

/// Each replica's evidence stands on the board under this and its name.
const EVIDENCE: &str = "evidence/";
/// The key of pseudonyms stands under this.
const PSEUDONYMS: &str = "pseudonyms";
/// How often it is looked who is there, and tried again what failed.
const LOOK: Duration = Duration::from_secs(1);
/// How long a replica that finds no key leaves it to those who were there before to put theirs: after Redis lost everything,
/// a newcomer's key would make all clients new ones.
const ELDERS_FIRST: Duration = Duration::from_secs(2);

/// A process of this replica's own name that was killed is taken for alive until its last word expires and somebody looks:
/// 15 s and 5 s. Whoever is there for longer than this is a namesake.
const OUTLIVED: Duration = Duration::from_secs(25);

/// Why what this replica knows is not on the board.
#[derive(Debug, thiserror::Error)]
enum TellError {
    #[error("it cannot be put into a document: {0}")]
    Document(std::io::Error),
    #[error(transparent)]
    Unshared(#[from] Unshared),
}

/// Shares the evidence with the other replicas for as long as the process serves, if there may be any.
pub(in crate::app) async fn share(
    live: &Arc<Live>,
    fleet: &Fleet,
    pseudonyms: &Pseudonyms,
    agreed: &Notify,
    metrics: &Arc<Metrics>,
) {
    if fleet.is_shared() {
        // Boxed: most processes are alone, and need no room for it.
        Box::pin(take_part(live, fleet, pseudonyms, agreed, metrics)).await;
    }
    std::future::pending::<()>().await;
}

async fn take_part(live: &Arc<Live>, fleet: &Fleet, pseudonyms: &Pseudonyms, agreed: &Notify, metrics: &Arc<Metrics>) {
    tokio::join!(tell(live, fleet), listen(live, fleet, metrics), agree(fleet, pseudonyms, agreed));
}

/// Waits until this replica writes the pseudonyms that all write, for as long as that can be expected: a client that comes
/// before would be another one in the log of each replica. Without Redis it does not wait long.
pub(in crate::app) async fn one_key(fleet: &Fleet, agreed: &Notify) {
    if !fleet.is_shared() {
        return;
    }
    let mut board = fleet.board();
    let is_read = timeout(LOOK, board.wait_for(|board| board.is_read())).await.is_ok_and(|read| read.is_ok());
    if is_read {
        let _ = timeout(ELDERS_FIRST * 2, agreed.notified()).await;
    }
}

/// Tells the last of it, before the process ends.
pub(in crate::app) async fn share_last(live: &Arc<Live>, fleet: &Fleet) {
    // What was not taken up must not be replaced: see above. What was seen since the start stands in the log.
    if !fleet.is_shared() || !live.is_whole() {
        return;
    }
    let put = async { put(live, fleet).await.1 };
    let told = timeout(LAST_SAVE, put).await.unwrap_or(Err(TellError::Unshared(Unshared::Unreachable)));
    if let Err(error) = told {
        tracing::error!(%error, "the last of the evidence could not be told to the other replicas");
    }
}

/// Puts what this replica knows on the board whenever it changed.
async fn tell(live: &Arc<Live>, fleet: &Fleet) {
    take_up(live, fleet).await;
    live.set_whole();
    let mut is_failing = false;
    loop {
        let (work, told) = put(live, fleet).await;
        match told {
            Ok(()) if is_failing => tracing::info!("the other replicas are told what this one knows again"),
            Err(ref error) if !is_failing => {
                tracing::warn!(%error, "the other replicas cannot be told what this one knows; trying on");
            }
            Ok(()) | Err(_) => {}
        }
        is_failing = told.is_err();
        live.set_cut_off(is_failing);
        tokio::time::sleep((work * 20).clamp(SAVE_EVERY, LONGEST_PAUSE)).await;
    }
}

/// Takes up what the board holds of this replica's past.
async fn take_up(live: &Arc<Live>, fleet: &Fleet) {
    let mut board = fleet.board();
    let past = match board.wait_for(|board| board.is_read()).await {
        Ok(board) => board.get(&name_of(live)).map(|entry| entry.bytes.clone()),
        Err(_) => return,
    };
    let Some(past) = past else { return };
    let adopting = Arc::clone(live);
    let adopted = tokio::task::spawn_blocking(move || adopting.adopt(&past)).await;
    match adopted.unwrap_or_else(|panic| Err(std::io::Error::other(panic))) {
        Ok(true) => tracing::info!("what this replica knew before is taken up from the fleet"),
        Ok(false) => {}
        Err(error) => {
            tracing::error!(%error, "what the fleet keeps of this replica makes no sense; sse-sunset report on the log still knows everything");
        }
    }
}

/// Puts what changed on the board. Gives the time that it took by itself, and how it went.
async fn put(live: &Arc<Live>, fleet: &Fleet) -> (Duration, Result<(), TellError>) {
    let begun = Instant::now();
    let making = Arc::clone(live);
    let made = tokio::task::spawn_blocking(move || making.document()).await;
    let document = match made.unwrap_or_else(|panic| Err(std::io::Error::other(panic))) {
        Ok(Some(document)) => document,
        Ok(None) => return (Duration::ZERO, Ok(())),
        Err(error) => return (begun.elapsed(), Err(TellError::Document(error))),
    };
    let made = begun.elapsed();
    match fleet.put(&name_of(live), Bytes::from(document.bytes)).await {
        Ok(()) => {
            live.told(document.change);
            (begun.elapsed(), Ok(()))
        }
        // Waiting for Redis is no work: once it is back, the others are told at once.
        Err(error) => (made, Err(error.into())),
    }
}

fn name_of(live: &Live) -> String {
    format!("{EVIDENCE}{}", live.instance())
}

/// Takes what the others know from the board whenever it changes, and who is there; shows it in the metrics.
async fn listen(live: &Arc<Live>, fleet: &Fleet, metrics: &Arc<Metrics>) {
    let mut board = fleet.board();
    let mut heard = BTreeMap::new();
    let mut namesakes = BTreeMap::new();
    loop {
        let now = Arc::clone(&board.borrow_and_update());
        let begun = Instant::now();
        if now.is_read() {
            let news = news(&now, &mut heard);
            if !news.is_empty() {
                hear(live, news, metrics).await;
                show(live, metrics).await;
            }
            live.set_peers(present(fleet.peers(), live.instance(), &mut namesakes));
        }
        tokio::time::sleep((begun.elapsed() * 20).min(LONGEST_PAUSE)).await;
        changed(&mut board).await;
    }
}

/// The names of `peers`. One that is called `own` counts once it has been there for longer than this process's predecessor
/// could seem to be; `namesakes` keeps since when.
fn present(peers: Vec<Peer>, own: &str, namesakes: &mut BTreeMap<Boot, Instant>) -> Vec<String> {
    namesakes.retain(|boot, _| peers.iter().any(|peer| peer.boot == *boot));
    let mut outlives = |peer: &Peer| {
        peer.instance != own || namesakes.entry(peer.boot).or_insert_with(Instant::now).elapsed() > OUTLIVED
    };
    peers.into_iter().filter(|peer| outlives(peer)).map(|peer| peer.instance).collect()
}

/// The evidence on the board that is not `heard` yet, and names of what is gone from it; takes it for heard.
fn news(board: &Board, heard: &mut BTreeMap<String, u64>) -> Vec<(String, Option<Bytes>)> {
    let gone: Vec<String> =
        heard.keys().filter(|name| board.get(&format!("{EVIDENCE}{name}")).is_none()).cloned().collect();
    let mut news: Vec<(String, Option<Bytes>)> = Vec::new();
    for name in gone {
        heard.remove(&name);
        news.push((name, None));
    }
    for (name, entry) in board.below(EVIDENCE) {
        if heard.insert(name.to_owned(), entry.version) != Some(entry.version) {
            news.push((name.to_owned(), Some(entry.bytes.clone())));
        }
    }
    news
}

async fn hear(live: &Arc<Live>, news: Vec<(String, Option<Bytes>)>, metrics: &Arc<Metrics>) {
    let (live, metrics) = (Arc::clone(live), Arc::clone(metrics));
    let heard = tokio::task::spawn_blocking(move || {
        for (instance, document) in news {
            if let Err(error) = live.hear(&instance, document.as_deref()) {
                tracing::warn!(instance, %error, "what another replica knows cannot be read, and the live page shows it as it was before");
            }
        }
        restore_times(&live, &metrics);
    });
    if heard.await.is_err() {
        tracing::error!("what other replicas know could not be taken up: a bug in sse-sunset, please report it");
    }
}

/// Sees to it that this replica writes the pseudonyms that all write.
async fn agree(fleet: &Fleet, pseudonyms: &Pseudonyms, agreed: &Notify) {
    let mut board = fleet.board();
    let mut read = None;
    let mut missing = None;
    loop {
        let now = Arc::clone(&board.borrow_and_update());
        match now.get(PSEUDONYMS) {
            Some(entry) => {
                missing = None;
                if read.replace(entry.version) != Some(entry.version) {
                    take_over(pseudonyms, entry.bytes.clone()).await;
                }
                agreed.notify_one();
            }
            None if now.is_read() => {
                let since = *missing.get_or_insert_with(Instant::now);
                let is_elder = read.is_some() || fleet.peers().is_empty();
                if is_elder || since.elapsed() >= ELDERS_FIRST {
                    // Who is later finds out by the board; who cannot be reached is tried again.
                    let _ = fleet.replace(PSEUDONYMS, None, Bytes::from(pseudonyms.secret())).await;
                }
            }
            None => {}
        }
        changed(&mut board).await;
    }
}

async fn take_over(pseudonyms: &Pseudonyms, secret: Bytes) {
    let pseudonyms = pseudonyms.clone();
    let taken = tokio::task::spawn_blocking(move || pseudonyms.take_over(&secret)).await;
    match taken.unwrap_or_else(|panic| Err(std::io::Error::other(panic))) {
        Ok(true) => tracing::warn!(
            "pseudonyms are made under the key of the fleet from now on; clients that were seen under the key before count as \
             others. That one is kept as pseudonym.key.before-fleet, if there is a state directory"
        ),
        Ok(false) => {}
        Err(error) => {
            tracing::error!(%error, "the fleet's key of pseudonyms cannot be kept; the next start has another one until it finds the fleet");
        }
    }
}

/// Waits until the board changes, and no longer than until the next look.
async fn changed(board: &mut watch::Receiver<Arc<Board>>) {
    if let Ok(Err(_)) = timeout(LOOK, board.changed()).await {
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests;
