//! The evidence of the running proxy: opened at the start, written to the state directory as it comes in, shown in the
//! metrics, shared with other replicas.

mod shared;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::config::Config;
use crate::metrics::Metrics;
use crate::report::live::{Live, SAVE_EVERY};
use crate::report::outcome::Report;
use crate::traffic::{Engagement, FAMILIES, OTHER, Target};

pub(super) use shared::{one_key, share, share_last};

/// How often the verdict in the metrics is made anew.
const JUDGE_EVERY: Duration = Duration::from_secs(30);

/// The longest time between two attempts to write it, however long they take.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long the end of the process waits for the last of it to be written.
const LAST_SAVE: Duration = Duration::from_secs(5);

/// The evidence that is kept, under the name by which the operator reads the log; what the process before could not write
/// any more is taken from that. Of a fleet, the other replicas remember it too.
pub(super) fn open(config: &Config) -> std::io::Result<Arc<Live>> {
    let log = match &config.traffic_log {
        Target::Stdout => "LOG".to_owned(),
        Target::File(path) => path.display().to_string(),
    };
    let live = Live::open(config.state_dir.as_deref(), &config.instance, log)?;
    if let Target::File(path) = &config.traffic_log
        && let Err(error) = live.catch_up(path)
    {
        tracing::warn!(%error, "the traffic log cannot be read; what the last process wrote in the end may be missing from the live page");
    }
    Ok(Arc::new(if config.fleet.is_some() { live.with_replicas() } else { live }))
}

/// Takes up in the metrics when each family last used the server and when the canary last came, so that a restart does not
/// look like a silence.
pub(super) fn restore_times(live: &Live, metrics: &Metrics) {
    for (family, seconds) in live.last_uses() {
        // Another version may have had families that this one does not.
        let family = if FAMILIES.contains(&family.as_str()) { family.as_str() } else { OTHER };
        metrics.last_use.of(family).note(seconds);
    }
    if let Some(seconds) = live.last_canary() {
        metrics.last_canary.note(seconds);
    }
}

/// Writes the evidence as it comes in, and shows the verdict and who it is about. A directory that hangs holds up the one and not the other.
pub(super) async fn keep(live: &Arc<Live>, metrics: &Arc<Metrics>) {
    tokio::join!(keep_saved(live), keep_shown(live, metrics));
}

async fn keep_saved(live: &Arc<Live>) {
    let mut pause = SAVE_EVERY;
    let mut is_failing = false;
    loop {
        tokio::time::sleep(pause).await;
        let begun = Instant::now();
        match save(live).await {
            Ok(()) if is_failing => {
                is_failing = false;
                tracing::info!("the evidence can be written to the state directory again");
            }
            Err(error) if !is_failing => {
                is_failing = true;
                tracing::error!(%error, "the evidence cannot be written to the state directory; trying on");
            }
            Ok(()) | Err(_) => {}
        }
        // Evidence of years takes its time; at most a twentieth of all goes into writing it.
        pause = (begun.elapsed() * 20).clamp(SAVE_EVERY, LONGEST_PAUSE);
    }
}

async fn keep_shown(live: &Arc<Live>, metrics: &Arc<Metrics>) {
    loop {
        show(live, metrics).await;
        tokio::time::sleep(JUDGE_EVERY).await;
    }
}

/// Has the last of the evidence written, before the process ends.
pub(super) async fn save_last(live: &Arc<Live>) {
    // A directory that hangs must not keep the process from ending.
    let saved = timeout(LAST_SAVE, save(live)).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    if let Err(error) = saved {
        tracing::error!(%error, "the last of the evidence could not be written to the state directory");
    }
}

/// Has the evidence written, where it may block.
async fn save(live: &Arc<Live>) -> std::io::Result<()> {
    let live = Arc::clone(live);
    tokio::task::spawn_blocking(move || live.save()).await.unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
}

async fn show(live: &Arc<Live>, metrics: &Arc<Metrics>) {
    let (live, metrics) = (Arc::clone(live), Arc::clone(metrics));
    let shown = tokio::task::spawn_blocking(move || show_report(&live.report(), &metrics)).await;
    if shown.is_err() {
        tracing::error!("the live verdict could not be made: a bug in sse-sunset, please report it");
    }
}

fn show_report(report: &Report, metrics: &Metrics) {
    metrics.verdict.set(report.verdict.name());
    let users = report.clients.iter().filter(|client| client.engagement == Engagement::Use);
    if let Some(first_seen) = users.map(|client| client.first_seen).max() {
        metrics.newest_client.note(first_seen.as_duration().as_secs_f64());
    }
    for (state, gauge) in metrics.clients.iter() {
        let count = report.clients.iter().filter(|client| client.state.name() == state).count();
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
