//! How far work on the store is, on a terminal.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::store::care::Watcher;

/// What is done sooner is not worth a bar.
const PATIENCE: Duration = Duration::from_millis(300);

/// A bar that appears when the work takes long. It has no thread: each step moves it.
#[derive(Debug)]
pub struct Work {
    visible: bool,
    begun: Instant,
    bar: OnceLock<ProgressBar>,
}

impl Work {
    pub(super) fn new(visible: bool) -> Self {
        Self { visible, begun: Instant::now(), bar: OnceLock::new() }
    }

    fn bar(&self) -> &ProgressBar {
        self.bar.get_or_init(|| {
            let style = ProgressStyle::with_template("sbx: {msg} {bar:30} {pos}/{len}").expect("a constant template");
            ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10)).with_style(style)
        })
    }
}

impl Watcher for Work {
    fn at(&self, what: &'static str, done: u64, all: u64) {
        // Waiting has no steps: it is said at once.
        if self.visible && (all == 0 || self.begun.elapsed() > PATIENCE) {
            let bar = self.bar();
            if bar.message() != what {
                bar.set_message(what);
            }
            bar.set_length(all.max(done));
            bar.set_position(done);
        }
    }

    fn finished(&self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}
