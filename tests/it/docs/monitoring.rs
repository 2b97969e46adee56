//! `docs/monitoring.md` names every figure, every code in the log, and lines that are really logged.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use cim_domain_person::daemon::figures::{FIGURES, Kind, PREFIX, Reading, Values};
use cim_domain_person::daemon::reasons::Reason;
use cim_domain_person::wire::reply::Code;

use super::{cells, check_in, document, section};
use crate::tidy::files;

const FILE: &str = "docs/monitoring.md";

#[test]
fn every_figure_is_in_the_table() {
    let mut table =
        "\n| metric | kind | by | in the log | in `STATUS=` | meaning |\n|---|---|---|---|---|---|\n".to_owned();
    for figure in FIGURES {
        let kind = match figure.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let by = match (figure.read)(&Reading::default()) {
            Values::By(label, _) | Values::TimesBy(label, _) => format!("`{label}`"),
            Values::One(_) | Values::Times(_) => String::new(),
        };
        let word = |word: Option<&str>| word.map_or_else(String::new, |word| format!("`{word}`"));
        let (minute, status) = (word(figure.minute), word(figure.status));
        // Writing to a string cannot fail.
        let _ =
            writeln!(table, "| `{PREFIX}{}` | {kind} | {by} | {minute} | {status} | {} |", figure.name, figure.help);
    }
    check_in(FILE, "figures", &format!("{table}\n"));
}

#[test]
fn names_are_such_as_prometheus_wants_them() {
    let mut names = BTreeSet::new();
    for figure in FIGURES {
        assert!(names.insert(figure.name), "{} twice", figure.name);
        assert!(figure.name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{}", figure.name);
        assert_eq!(figure.name.ends_with("_total"), figure.kind == Kind::Counter, "{}", figure.name);
        assert_eq!(figure.name.ends_with("_duration_seconds"), figure.kind == Kind::Histogram, "{}", figure.name);
        assert!(figure.help.ends_with('.') && !figure.help.contains('|'), "{}", figure.name);
    }
}

/// The codes that a line of the log can bear: those of replies, and those of the daemon's own.
#[test]
fn every_code_in_the_log_is_explained() {
    let mut coded: BTreeSet<String> = BTreeSet::new();
    for (_, text) in files("src", ".rs") {
        let shipped = text.split("\n#[cfg(test)]\nmod tests").next().unwrap();
        let found = shipped.split("error_code = \"").skip(1).filter_map(|rest| rest.split('"').next());
        coded.extend(found.map(str::to_owned));
    }
    assert!(coded.len() > 5, "{coded:?}");
    coded.extend(Code::ALL.into_iter().filter(|code| code.is_failure()).map(|code| code.as_str().to_owned()));
    coded.extend(Reason::all().map(|reason| reason.name().to_owned()));
    let explained: BTreeSet<String> =
        cells(&section(FILE, "Codes")).into_iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(coded, explained, "{FILE}, Codes");
}

#[test]
fn lines_of_the_log_are_quoted_as_they_are() {
    let source: String = files("src", ".rs").into_iter().map(|(_, text)| text).collect();
    // A line break in the source of a message is none in the message.
    let source = source.split("\\\n").map(str::trim_start).collect::<String>();
    let rows = cells(&section(FILE, "Lines that matter"));
    assert!(rows.len() >= 8);
    for row in rows {
        for part in row[0].trim_matches('`').split("...").map(str::trim).filter(|part| !part.is_empty()) {
            assert!(source.contains(part), "{FILE} quotes a line that is not logged: {part}");
        }
    }
}

#[test]
fn every_alert_says_what_to_do() {
    let rules = document("docs/monitoring/prometheus-alerts.yml");
    let alerts: BTreeSet<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let rows = cells(&section(FILE, "Alerts"));
    let explained: BTreeSet<&str> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    assert_eq!(alerts, explained);
    assert!(rows.iter().all(|row| row[2].len() > 20));
}
