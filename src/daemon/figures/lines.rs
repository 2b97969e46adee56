//! The figures in a line, for people: `STATUS=`, and the log's line of every minute.

use std::fmt::Write as _;

use super::{FIGURES, Figure, Kind, Reading, Times, Values};

/// What was done in the last minute, and how it stands.
pub fn minute(now: &Reading) -> String {
    let then = now.at_beginning();
    let parts = FIGURES.iter().filter_map(|figure| {
        let word = figure.minute?;
        match figure.kind {
            Kind::Counter => difference(word, figure, now, &then),
            Kind::Gauge => Some(format!("{word} {}", sum((figure.read)(now)))),
            Kind::Histogram => times(word, (figure.read)(now)),
        }
    });
    format!("{:.1} commands/s, {}", now.rate(), parts.collect::<Vec<_>>().join(", "))
}

/// What was done since the start, and how it stands.
pub fn status(now: &Reading) -> String {
    let parts = FIGURES.iter().filter_map(|figure| {
        let word = figure.status?;
        match (figure.read)(now) {
            Values::Times(times) if times.lately.count() == 0 => None,
            Values::Times(times) => Some(format!("{word} p99 {}", millis(&times, 0.99))),
            values => Some(format!("{word} {}", sum(values))),
        }
    });
    format!("{:.1} commands/s, {}", now.rate(), parts.collect::<Vec<_>>().join(", "))
}

impl Reading {
    /// Commands a second that came to an end, lately.
    fn rate(&self) -> f64 {
        let commands = self.tally.commands().saturating_sub(self.before.commands());
        f64::from(u32::try_from(commands).unwrap_or(u32::MAX)) / self.period.as_secs_f64().max(0.001)
    }
}

/// What was counted since; by label, only what was counted at all.
fn difference(word: &str, figure: &Figure, now: &Reading, then: &Reading) -> Option<String> {
    match ((figure.read)(now), (figure.read)(then)) {
        (Values::By(_, now), Values::By(_, then)) => {
            let grown = now.iter().filter_map(|(name, value)| {
                let before = then.iter().find(|(other, _)| other == name).map_or(0.0, |(_, before)| *before);
                (*value > before).then(|| format!("{name} {}", value - before))
            });
            let grown: Vec<String> = grown.collect();
            (!grown.is_empty()).then(|| format!("{word} ({})", grown.join(", ")))
        }
        (now, then) => Some(format!("{word} {}", sum(now) - sum(then))),
    }
}

fn sum(values: Values) -> f64 {
    match values {
        Values::One(value) => value,
        Values::By(_, values) => values.iter().map(|(_, value)| value).sum(),
        Values::Times(_) | Values::TimesBy(..) => 0.0,
    }
}

fn times(word: &str, values: Values) -> Option<String> {
    match values {
        Values::Times(times) => shown(&times).map(|shown| format!("{word} {shown}")),
        Values::TimesBy(_, all) => {
            let shown = all.iter().filter_map(|(name, times)| Some(format!("{name} {}", shown(times)?)));
            let shown: Vec<String> = shown.collect();
            (!shown.is_empty()).then(|| format!("{word} ({})", shown.join(", ")))
        }
        Values::One(_) | Values::By(..) => None,
    }
}

fn shown(times: &Times) -> Option<String> {
    let mut shown = String::new();
    for (name, share) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)] {
        let gap = if shown.is_empty() { "" } else { " " };
        // Writing to a string cannot fail.
        let _ = write!(shown, "{gap}{name} {}", millis(times, share));
    }
    (times.lately.count() > 0).then_some(shown)
}

fn millis(times: &Times, share: f64) -> String {
    format!("{:.2}", times.lately.quantile(share).as_secs_f64() * 1e3)
}
