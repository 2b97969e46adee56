//! The tables: medians over the rounds, and the service's share of each other, as the median of the rounds' ratios.

use std::fmt::Write as _;

use super::measure::Sample;
use super::{Found, Run, median};

/// Whom the others are compared with.
const SERVICE: &str = "person-service";

/// All suites as Markdown.
pub fn markdown(found: &Found) -> String {
    let mut text = String::new();
    for run in &found.runs {
        let samples: Vec<&Sample> = found.samples.iter().filter(|sample| sample.suite == run.suite).collect();
        heading(&mut text, run);
        if samples.iter().all(|sample| sample.figures.contains_key("per_second")) {
            rates(&mut text, &samples);
        } else {
            plain(&mut text, &samples);
        }
    }
    text
}

fn heading(text: &mut String, run: &Run) {
    let machine = &run.machine;
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "### {}\n\n{}, {} rounds of {} s. {}, {} cores, {} MiB, {}. {}; {}; {}. A write of 4 KiB and fdatasync: {:.2} ms. \
         Load average at the beginning: {}.\n\n",
        run.suite,
        machine.date,
        run.rounds,
        run.seconds,
        machine.cpu,
        machine.cores,
        machine.memory_mib,
        machine.kernel,
        machine.service,
        machine.nats_server,
        machine.postgres,
        run.fsync_ms,
        machine.load_average,
    );
}

fn rates(text: &mut String, samples: &[&Sample]) {
    text.push_str(
        "| load | who | a second | service ÷ this | p50 ms | p99 ms | CPU µs | server CPU µs | peak MiB | commits | conflicts | not accepted |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for load in in_order(samples.iter().map(|sample| sample.load.as_str())) {
        for who in in_order(samples.iter().filter(|s| s.load == load).map(|sample| sample.who.as_str())) {
            let figure = |name: &str| {
                let of = samples.iter().filter(|sample| sample.load == load && sample.who == who);
                median(of.filter_map(|sample| sample.figures.get(name).copied()).collect())
            };
            let shown = |name: &str, digits: usize| {
                figure(name).map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
            };
            let ratio = ratio(samples, load, who, "per_second");
            let ratio = ratio.filter(|_| who != SERVICE).map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            let _ = writeln!(
                text,
                "| {load} | {who} | {} | {ratio} | {} | {} | {} | {} | {} | {} | {} | {} |",
                shown("per_second", 0),
                shown("p50_ms", 2),
                shown("p99_ms", 2),
                shown("cpu_us", 1),
                shown("server_cpu_us", 1),
                shown("peak_mib", 0),
                shown("commits_each", 2),
                shown("conflicts_each", 3),
                shown("not_accepted", 0),
            );
        }
    }
    text.push('\n');
}

fn plain(text: &mut String, samples: &[&Sample]) {
    text.push_str("| figure | median |\n|---|---|\n");
    for name in in_order(samples.iter().flat_map(|sample| sample.figures.keys().map(String::as_str))) {
        let values = samples.iter().filter_map(|sample| sample.figures.get(name).copied()).collect();
        let _ = writeln!(text, "| {name} | {:.2} |", median(values).unwrap_or(0.0));
    }
    text.push('\n');
}

/// The service's figure divided by that of `who` in the same round, the median over the rounds.
fn ratio(samples: &[&Sample], load: &str, who: &str, name: &str) -> Option<f64> {
    let of = |who: &str, round: usize| {
        let found = samples.iter().find(|s| s.load == load && s.who == who && s.round == round);
        found.and_then(|sample| sample.figures.get(name).copied())
    };
    let rounds = samples.iter().map(|sample| sample.round).max()? + 1;
    let ratios = (0..rounds).filter_map(|round| Some(of(SERVICE, round)? / of(who, round).filter(|v| *v > 0.0)?));
    median(ratios.collect())
}

/// Each once, in the order in which they come.
pub fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}
