//! How far the hashing of the inputs is, on a terminal.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::inputs;

/// What is done sooner is not worth a bar.
const PATIENCE: Duration = Duration::from_millis(300);

/// A bar that appears when hashing takes long. It has no thread: each hashed file moves it.
#[derive(Debug)]
pub struct Progress {
    visible: bool,
    begun: Instant,
    found: AtomicU64,
    hashed: AtomicU64,
    bar: OnceLock<ProgressBar>,
}

impl Progress {
    pub(super) fn new(visible: bool) -> Self {
        Self {
            visible,
            begun: Instant::now(),
            found: AtomicU64::new(0),
            hashed: AtomicU64::new(0),
            bar: OnceLock::new(),
        }
    }

    fn bar(&self) -> &ProgressBar {
        self.bar.get_or_init(|| {
            let style =
                ProgressStyle::with_template("sbx: hashing {bar:30} {pos}/{len} inputs").expect("a constant template");
            ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10)).with_style(style)
        })
    }
}

impl inputs::Progress for Progress {
    fn found(&self, files: u64) {
        self.found.store(files, Ordering::Relaxed);
    }

    fn hashed(&self, _bytes: u64) {
        let hashed = self.hashed.fetch_add(1, Ordering::Relaxed) + 1;
        if self.visible && self.begun.elapsed() > PATIENCE {
            let bar = self.bar();
            bar.set_length(self.found.load(Ordering::Relaxed).max(hashed));
            bar.set_position(hashed);
        }
    }

    fn finished(&self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}
