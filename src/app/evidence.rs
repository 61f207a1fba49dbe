//! The evidence of the running proxy: opened at the start, written to the state directory as it comes in, shown in the
//! metrics.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::report::live::{Live, SAVE_EVERY};
use crate::traffic::Target;

/// How often the verdict in the metrics is made anew.
const JUDGE_EVERY: Duration = Duration::from_secs(30);

/// The evidence that is kept, under the name by which the operator reads the log.
pub(super) fn open(config: &Config) -> std::io::Result<Arc<Live>> {
    let log = match &config.traffic_log {
        Target::Stdout => "LOG".to_owned(),
        Target::File(path) => path.display().to_string(),
    };
    Live::open(config.state_dir.as_deref(), &config.instance, log).map(Arc::new)
}

/// Takes up in the metrics when each family last used the server, so that a restart does not look like a silence.
pub(super) fn restore_last_uses(live: &Live, metrics: &Metrics) {
    for (family, seconds) in live.last_uses() {
        metrics.last_use.of(&family).note(seconds);
    }
}

/// Writes the evidence as it comes in, and shows the verdict.
pub(super) async fn keep(live: &Arc<Live>, metrics: &Arc<Metrics>) {
    let mut pause = SAVE_EVERY;
    let mut is_failing = false;
    let mut judged = None;
    loop {
        if judged.is_none_or(|at: Instant| at.elapsed() >= JUDGE_EVERY) {
            judged = Some(Instant::now());
            show(live, metrics).await;
        }
        tokio::time::sleep(pause).await;
        let begun = Instant::now();
        match save(live).await {
            Ok(()) => is_failing = false,
            Err(error) if !is_failing => {
                is_failing = true;
                tracing::error!(%error, "the evidence cannot be written to the state directory; trying on");
            }
            Err(_) => {}
        }
        // Evidence of years takes its time; at most a twentieth of all goes into writing it.
        pause = SAVE_EVERY.max(begun.elapsed() * 20);
    }
}

/// Has the evidence written, where it may block.
pub(super) async fn save(live: &Arc<Live>) -> std::io::Result<()> {
    let live = Arc::clone(live);
    tokio::task::spawn_blocking(move || live.save()).await.unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
}

async fn show(live: &Arc<Live>, metrics: &Arc<Metrics>) {
    let (live, metrics) = (Arc::clone(live), Arc::clone(metrics));
    let shown = tokio::task::spawn_blocking(move || metrics.verdict.set(live.report().verdict.name())).await;
    if shown.is_err() {
        tracing::error!("the live verdict could not be made: a bug in sse-sunset, please report it");
    }
}
