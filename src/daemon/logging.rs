//! The log: one line an event, on stderr, for the journal or for a person.
//!
//! Under systemd stderr is the journal's socket and `JOURNAL_STREAM` names it: then a line begins with its priority,
//! `<4>`, which the journal takes off, and has no time, since the journal has its own. Elsewhere a line begins with the
//! time and the level, in colour on a terminal. Control characters are escaped, so that nobody can begin a line.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use log::{Level, LevelFilter, Record};

use crate::config::LevelSource;

/// The longest message that is logged whole, in bytes; the journal would cut it into several events at 48 KiB.
const MESSAGE_BYTES_MAX: usize = 8 * 1024;

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `<6>message`
    Journal,
    /// `2026-01-31T12:00:00.000Z INFO  message`
    Plain,
    /// The same, in colour.
    Colour,
}

/// Starts the log, for the rest of the process, and lets panics be logged as events, too. The second call only sets the
/// level.
pub fn start(level: LevelFilter) {
    let form = form();
    let logger = env_logger::Builder::new()
        // Others (the NATS client, TLS) speak up only when something is wrong. Of the service's own lines the global
        // level decides, which can be changed while it runs; env_logger's cannot.
        .filter_level(LevelFilter::Warn)
        .filter_module(env!("CARGO_CRATE_NAME"), LevelFilter::Trace)
        .format(move |out, record| writeln!(out, "{}", Line { form, record }))
        .build();
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
    log::set_max_level(level);
}

/// Reads the level again, at SIGHUP, and says what came of it.
pub fn reload_level(source: &LevelSource) {
    let old = log::max_level();
    match source.read() {
        Ok(new) => {
            // Said while the more talkative of the two is in force, or nobody would see it.
            log::set_max_level(old.max(new));
            log::info!("LOG_LEVEL is now {}, it was {}", name(new), name(old));
            log::set_max_level(new);
        }
        Err(reason) => log::warn!("LOG_LEVEL stays {}: {reason}", name(old)),
    }
}

/// The last line of a process that ends before its log has started.
pub fn last_words(message: &str) {
    let line = match form() {
        Form::Journal => format!("<{}>{}\n", priority(Level::Error), Escaped(message)),
        Form::Plain | Form::Colour => format!("person-service: {}\n", Escaped(message)),
    };
    // Where stderr is gone there is nobody to tell.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// One event.
struct Line<'a> {
    form: Form,
    record: &'a Record<'a>,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = self.record.level();
        match self.form {
            Form::Journal => write!(f, "<{}>", priority(level))?,
            Form::Plain => write!(f, "{:.3} {level:<5} ", jiff::Timestamp::now())?,
            Form::Colour => {
                let (dim, bright) = (Style::new().dimmed(), style(level));
                write!(f, "{dim}{:.3}{dim:#} {bright}{level:<5}{bright:#} ", jiff::Timestamp::now())?;
            }
        }
        let target = self.record.target();
        if !target.starts_with(env!("CARGO_CRATE_NAME")) {
            write!(f, "{}: ", Escaped(target))?;
        }
        write!(f, "{}", Escaped(&self.record.args().to_string()))
    }
}

/// Text without anything that a terminal or a reader of lines would obey, and of bounded length.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, character) in self.0.char_indices() {
            if position >= MESSAGE_BYTES_MAX {
                return write!(f, "... ({} bytes in all)", self.0.len());
            }
            // The two separators end a line as well, for some readers.
            if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') {
                write!(f, "{}", character.escape_default())?;
            } else {
                f.write_char(character)?;
            }
        }
        Ok(())
    }
}

/// Logs a panic as one event. A message made at run time is left out, since it may quote the value that it stumbled over,
/// and no personal data goes into the log; the place says enough to find it.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("without a name");
    let message = panic.payload().downcast_ref::<&'static str>().unwrap_or(&"(message left out: it may quote data)");
    match panic.location() {
        Some(place) => log::error!("a bug: thread {thread} panicked at {place}: {message}"),
        None => log::error!("a bug: thread {thread} panicked: {message}"),
    }
}

/// How this process's stderr is to be written to. It does not change while the process lives.
fn form() -> Form {
    static FORM: OnceLock<Form> = OnceLock::new();
    *FORM.get_or_init(|| {
        if stderr_is_journal() {
            return Form::Journal;
        }
        match AutoStream::choice(&std::io::stderr()) {
            ColorChoice::Never => Form::Plain,
            ColorChoice::Auto | ColorChoice::AlwaysAnsi | ColorChoice::Always => Form::Colour,
        }
    })
}

/// Whether `JOURNAL_STREAM` names stderr. A child of a service inherits the variable, and perhaps not stderr, so that the
/// variable alone proves nothing.
fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let stderr = std::io::stderr().as_fd().try_clone_to_owned().map(std::fs::File::from);
    stderr.and_then(|file| file.metadata()).is_ok_and(|file| stream == format!("{}:{}", file.dev(), file.ino()))
}

/// The level as a priority of syslog, which has no two below debug.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

fn style(level: Level) -> Style {
    match level {
        Level::Error => AnsiColor::Red.on_default().bold(),
        Level::Warn => AnsiColor::Yellow.on_default().bold(),
        Level::Info => AnsiColor::Green.on_default(),
        Level::Debug | Level::Trace => Style::new().dimmed(),
    }
}

/// The level as it is written in the configuration.
fn name(level: LevelFilter) -> String {
    level.as_str().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(form: Form, level: Level, target: &str, message: &str) -> String {
        let args = format_args!("{message}");
        Line { form, record: &Record::builder().level(level).target(target).args(args).build() }.to_string()
    }

    #[test]
    fn a_line_for_the_journal_is_priority_and_message() {
        let own = "cim_domain_person::daemon";
        let cases = [
            (Level::Error, own, "gone", "<3>gone"),
            (Level::Warn, own, "slow", "<4>slow"),
            (Level::Info, own, "ready", "<6>ready"),
            (Level::Debug, own, "turn", "<7>turn"),
            (Level::Trace, own, "turn", "<7>turn"),
            (Level::Warn, "nats::client", "lost", "<4>nats::client: lost"),
        ];
        for (level, target, message, expected) in cases {
            assert_eq!(line(Form::Journal, level, target, message), expected);
        }
    }

    #[test]
    fn a_line_for_a_person_begins_with_the_time_and_the_level() {
        let text = line(Form::Plain, Level::Info, "cim_domain_person", "ready");
        let (time, rest) = text.split_once(' ').expect("a time and the rest");
        assert_eq!((time.len(), rest), ("2026-01-31T12:00:00.000Z".len(), "INFO  ready"));
        time.parse::<jiff::Timestamp>().expect("RFC 3339");
        assert!(line(Form::Colour, Level::Warn, "cim_domain_person", "x").contains("\u{1b}[33m"), "yellow");
    }

    #[test]
    fn one_event_is_one_line_and_obeyed_by_no_terminal() {
        let cases = [
            ("a\nb\r\n", "a\\nb\\r\\n"),
            ("\u{1b}[2Jgone", "\\u{1b}[2Jgone"),
            ("tab\there", "tab\\there"),
            ("c1 \u{9b}31m", "c1 \\u{9b}31m"),
            ("a\u{2028}b", "a\\u{2028}b"),
            ("Jürgen 李 stays", "Jürgen 李 stays"),
        ];
        for (message, expected) in cases {
            assert_eq!(Escaped(message).to_string(), expected);
        }
    }

    #[test]
    fn a_message_has_a_longest_length() {
        let text = Escaped(&"ä".repeat(MESSAGE_BYTES_MAX)).to_string();
        assert!(text.ends_with("ä... (16384 bytes in all)"), "{}", &text[text.len() - 40..]);
        assert!(text.len() < MESSAGE_BYTES_MAX + 40);
    }
}
