//! How far a tool has come: a bar on a terminal, with the rate and the time that is left.

use indicatif::{ProgressBar, ProgressStyle};

const STYLE: &str = "{prefix} {bar:30} {percent:>3}%  {human_pos}/{human_len}  {per_sec}  {eta} left  {msg}";

/// A bar over positions from one to another. Nothing is shown where stderr is no terminal.
pub struct Progress {
    bar: ProgressBar,
    from: u64,
}

impl Progress {
    /// At its beginning; both ends included.
    pub fn new(title: &str, from: u64, to: u64) -> Self {
        let bar = ProgressBar::new((to + 1).saturating_sub(from)).with_prefix(title.to_owned());
        bar.set_style(ProgressStyle::with_template(STYLE).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, from }
    }

    /// All before this position is done.
    pub fn reached(&self, next: u64, words: &str) {
        self.bar.set_position(next.saturating_sub(self.from));
        if !self.bar.is_hidden() {
            self.bar.set_message(words.to_owned());
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
