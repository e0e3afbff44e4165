//! How far the hashing and the fetching of the inputs is, on a terminal.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Ui;
use crate::inputs;

/// What is done sooner is not worth a bar.
const PATIENCE: Duration = Duration::from_millis(300);

/// A bar that appears when hashing or a fetch takes long. It has no thread: each hashed file, each part of what is
/// fetched moves it.
#[derive(Debug)]
pub struct Progress {
    ui: Ui,
    visible: bool,
    begun: Instant,
    found: AtomicU64,
    hashed: AtomicU64,
    bar: OnceLock<ProgressBar>,
    fetch: Mutex<Option<Fetch>>,
}

/// What is being fetched.
#[derive(Debug)]
struct Fetch {
    url: String,
    begun: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(super) fn new(ui: Ui, visible: bool) -> Self {
        Self {
            ui,
            visible,
            begun: Instant::now(),
            found: AtomicU64::new(0),
            hashed: AtomicU64::new(0),
            bar: OnceLock::new(),
            fetch: Mutex::new(None),
        }
    }

    /// Takes the bar of a fetch away, so that a line can be said.
    fn end_fetch(&self) {
        let Ok(mut fetch) = self.fetch.lock() else { return };
        if let Some(Fetch { bar: Some(bar), .. }) = fetch.take() {
            bar.finish_and_clear();
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

    fn fetching(&self, url: &str, done: u64, size: Option<u64>) {
        if !self.visible {
            return;
        }
        let Ok(mut now) = self.fetch.lock() else { return };
        if now.as_ref().is_none_or(|fetch| fetch.url != url) {
            *now = Some(Fetch { url: url.to_owned(), begun: Instant::now(), bar: None });
        }
        let Some(fetch) = now.as_mut().filter(|fetch| fetch.begun.elapsed() > PATIENCE) else { return };
        let bar = fetch.bar.get_or_insert_with(|| fetch_bar(url, size));
        bar.set_position(done);
    }

    fn fetched(&self, url: &str, size: u64) {
        self.end_fetch();
        self.ui.note(&format!("fetched {url} ({})", HumanBytes(size)));
    }

    fn told(&self, message: &str) {
        self.end_fetch();
        self.ui.warn(message);
    }
}

fn fetch_bar(url: &str, size: Option<u64>) -> ProgressBar {
    let template = match size {
        Some(_) => "sbx: fetching {msg} {bar:20} {bytes}/{total_bytes}",
        None => "sbx: fetching {msg} {bytes}",
    };
    let style = ProgressStyle::with_template(template).expect("a constant template");
    ProgressBar::with_draw_target(size, ProgressDrawTarget::stderr_with_hz(10))
        .with_style(style)
        .with_message(super::escape(url).into_owned())
}
