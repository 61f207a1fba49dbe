//! The bar that shows on a terminal how far a long read is.
//!
//! Promise: nothing is drawn for a read that is over within a second, nor where stderr is no terminal, and nothing is
//! left behind: stdout holds the report and only that.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::input::Progress;

/// A read that takes less has no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// A bar that may be shown, and is taken away when it is dropped.
#[derive(Debug)]
pub(super) struct Bar {
    start: Instant,
    /// Where it would be drawn; `None` where nobody looks.
    target: Option<ProgressDrawTarget>,
    shown: Option<ProgressBar>,
}

impl Bar {
    /// A bar on stderr, if that is a terminal.
    #[must_use]
    pub(super) fn on_stderr() -> Self {
        Bar::on(std::io::stderr().is_terminal().then(ProgressDrawTarget::stderr))
    }

    fn on(target: Option<ProgressDrawTarget>) -> Self {
        Bar { start: Instant::now(), target, shown: None }
    }

    /// Shows how far the reading is, once it takes long.
    pub(super) fn advance(&mut self, progress: Progress) {
        self.advance_at(Instant::now(), progress);
    }

    fn advance_at(&mut self, now: Instant, progress: Progress) {
        if now.duration_since(self.start) < PATIENCE {
            return;
        }
        if let Some(target) = self.target.take() {
            self.shown = Some(bar(target, progress.total));
        }
        if let Some(bar) = &self.shown {
            bar.set_position(progress.read);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

fn bar(target: ProgressDrawTarget, total: Option<u64>) -> ProgressBar {
    let template = match total {
        Some(_) => "reading {wide_bar} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left",
        None => "reading {binary_bytes}, {binary_bytes_per_sec}",
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(total, target).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRESS: Progress = Progress { read: 7, total: Some(10) };

    #[test]
    fn bar_waits_until_the_read_takes_long() {
        let mut bar = Bar::on(Some(ProgressDrawTarget::hidden()));
        bar.advance_at(bar.start + Duration::from_millis(999), PROGRESS);
        assert!(bar.shown.is_none());
        bar.advance_at(bar.start + PATIENCE, PROGRESS);
        let shown = bar.shown.clone().expect("it takes long");
        assert_eq!((shown.position(), shown.length()), (7, Some(10)));
        drop(bar);
        assert!(shown.is_finished());
    }

    #[test]
    fn bar_is_not_shown_where_nobody_looks() {
        let mut bar = Bar::on(None);
        bar.advance_at(bar.start + PATIENCE, PROGRESS);
        assert!(bar.shown.is_none());
    }

    #[test]
    fn templates_are_valid_for_files_and_streams() {
        for total in [Some(10), None] {
            let shown = bar(ProgressDrawTarget::hidden(), total);
            assert_eq!(shown.length(), total);
        }
        for template in ["{wide_bar} {binary_total_bytes} {binary_bytes_per_sec} {eta}", "{binary_bytes}"] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }
}
