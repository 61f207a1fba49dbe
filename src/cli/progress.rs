//! How far a long read is: a bar on standard error, if that is a terminal and the read lasts.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::input::Progress;

/// A read that is over by then shows no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// The bar; gone when it is dropped.
#[derive(Debug)]
pub(super) struct Bar {
    begun: Instant,
    is_wanted: bool,
    drawn: Option<ProgressBar>,
}

impl Default for Bar {
    fn default() -> Self {
        Bar { begun: Instant::now(), is_wanted: std::io::stderr().is_terminal(), drawn: None }
    }
}

impl Bar {
    /// Shows `progress`.
    pub(super) fn show(&mut self, progress: Progress) {
        if !self.is_wanted || self.begun.elapsed() < PATIENCE {
            return;
        }
        let bar = self.drawn.get_or_insert_with(|| draw(progress.total));
        bar.set_position(progress.read);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.drawn {
            bar.finish_and_clear();
        }
    }
}

fn draw(total: Option<u64>) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10));
    let template = if total.is_some() {
        "reading {bytes} of {total_bytes} [{bar:30}] {binary_bytes_per_sec}, {eta} left"
    } else {
        "reading {bytes}, {binary_bytes_per_sec}"
    };
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}
