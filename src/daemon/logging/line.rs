//! The forms of one event: for the journal, for a person, as JSON.

use std::fmt::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use log::kv::{self, Key, Value, VisitSource};
use log::{Level, Record};
use serde_json::json;

use crate::config::LogFormat;
use crate::daemon::journal;

/// The longest message that is logged whole, in bytes; the journal would cut it into several events at 48 KiB.
const MESSAGE_BYTES_MAX: usize = 8 * 1024;

/// How a line is written on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `<6>message`
    Journal,
    /// `2026-01-31T12:00:00.000Z INFO  message`
    Plain,
    /// The same, in colour.
    Colour,
    /// `{"time":"2026-01-31T12:00:00.000Z","level":"info",...}`
    Json,
    /// The same, after `<6>`.
    JsonForJournal,
}

/// What an event has besides its message, in order.
#[derive(Default)]
struct Fields(Vec<(String, String)>);

impl Fields {
    fn of(record: &Record<'_>) -> Self {
        let mut fields = Self::default();
        // Taking them down cannot fail.
        let _ = record.key_values().visit(&mut fields);
        fields
    }
}

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        self.0.push((key.to_string(), Escaped(&value.to_string()).to_string()));
        Ok(())
    }
}

/// An event in words: who speaks, if it is not the service itself, the message, and the fields.
struct Message<'a>(&'a Record<'a>);

impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.0.target();
        if !target.starts_with(env!("CARGO_CRATE_NAME")) {
            write!(f, "{}: ", Escaped(target))?;
        }
        write!(f, "{}", Escaped(&self.0.args().to_string()))?;
        Fields::of(self.0).0.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

/// The event in the journal's own protocol.
pub fn datagram(record: &Record<'_>) -> Vec<u8> {
    let (message, priority) = (Message(record).to_string(), priority(record.level()).to_string());
    let line = record.line().unwrap_or_default().to_string();
    let own = [
        ("MESSAGE", message.as_str()),
        ("PRIORITY", &priority),
        ("SYSLOG_IDENTIFIER", "person-service"),
        ("TARGET", record.target()),
        ("CODE_FILE", record.file().unwrap_or_default()),
        ("CODE_LINE", &line),
    ];
    let fields = Fields::of(record);
    journal::entry(own.into_iter().chain(fields.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))))
}

/// One event.
pub struct Line<'a> {
    /// How it is written.
    pub form: Form,
    /// What happened.
    pub record: &'a Record<'a>,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = self.record.level();
        match self.form {
            Form::Journal => write!(f, "<{}>", priority(level))?,
            Form::JsonForJournal => return write!(f, "<{}>{}", priority(level), as_json(self.record)),
            Form::Json => return write!(f, "{}", as_json(self.record)),
            Form::Plain => write!(f, "{:.3} {level:<5} ", jiff::Timestamp::now())?,
            Form::Colour => {
                let (dim, bright) = (Style::new().dimmed(), style(level));
                write!(f, "{dim}{:.3}{dim:#} {bright}{level:<5}{bright:#} ", jiff::Timestamp::now())?;
            }
        }
        write!(f, "{}", Message(self.record))
    }
}

fn as_json(record: &Record<'_>) -> serde_json::Value {
    let fields = Fields::of(record).0.into_iter().map(|(name, value)| (name, json!(value)));
    json!({
        "time": format!("{:.3}", jiff::Timestamp::now()),
        "level": record.level().as_str().to_ascii_lowercase(),
        "target": record.target(),
        "message": Escaped(&record.args().to_string()).to_string(),
        "fields": fields.collect::<serde_json::Map<_, _>>(),
    })
}

/// Text without anything that a terminal or a reader of lines would obey, and of bounded length.
pub struct Escaped<'a>(pub &'a str);

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

/// How this process's stderr is to be written to.
pub fn form(format: LogFormat) -> Form {
    /// What stderr is does not change while the process lives.
    static IS_JOURNAL: OnceLock<bool> = OnceLock::new();
    match (*IS_JOURNAL.get_or_init(stderr_is_journal), format) {
        (true, LogFormat::Json) => Form::JsonForJournal,
        (true, LogFormat::Auto | LogFormat::Text) => Form::Journal,
        (false, LogFormat::Json) => Form::Json,
        (false, LogFormat::Auto | LogFormat::Text) => match AutoStream::choice(&std::io::stderr()) {
            ColorChoice::Never => Form::Plain,
            ColorChoice::Auto | ColorChoice::AlwaysAnsi | ColorChoice::Always => Form::Colour,
        },
    }
}

/// Whether `JOURNAL_STREAM` names stderr. A child of a service inherits the variable, and perhaps not stderr, so that the
/// variable alone proves nothing.
fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let stderr = std::io::stderr().as_fd().try_clone_to_owned().map(std::fs::File::from);
    stderr.and_then(|file| file.metadata()).is_ok_and(|file| stream == format!("{}:{}", file.dev(), file.ino()))
}

/// The level as a priority of syslog, which has no two below debug.
pub fn priority(level: Level) -> u8 {
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
    fn fields_follow_the_message_and_are_members_in_json() {
        let fields: &[(&str, &str)] = &[("person_id", "p1"), ("error_code", "history_damaged")];
        let args = format_args!("the stored history is damaged");
        let target = "cim_domain_person::daemon";
        let record = Record::builder().level(Level::Error).target(target).args(args).key_values(&fields).build();
        let text = |form| Line { form, record: &record }.to_string();
        let expected = "the stored history is damaged person_id=p1 error_code=history_damaged";
        assert_eq!(text(Form::Journal), format!("<3>{expected}"));
        assert!(text(Form::Plain).ends_with(&format!(" ERROR {expected}")));
        let json: serde_json::Value = serde_json::from_str(&text(Form::Json)).expect("JSON");
        assert_eq!(json["level"], "error");
        assert_eq!(json["message"], "the stored history is damaged");
        assert_eq!(json["fields"], json!({"person_id": "p1", "error_code": "history_damaged"}));
        assert!(json["time"].as_str().is_some_and(|time| time.parse::<jiff::Timestamp>().is_ok()));
        assert!(text(Form::JsonForJournal).starts_with("<3>{"));
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
