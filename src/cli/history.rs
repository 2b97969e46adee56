//! `person-service history`: what happened to a person's record, one line an event.

use clap::Args;
use clap::builder::RangedU64ValueParser;
use serde_json::{Value, json};

use crate::cli::answer::Status;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::output::{DIM, Out, STRONG, styled};
use crate::cli::shown::{self, at};
use crate::config;
use crate::daemon::logging::last_words;
use crate::domain::PersonId;
use crate::exit::ExitStatus;
use crate::wire::query::{HISTORY_EVENTS_DEFAULT, HISTORY_EVENTS_MAX};

const EXAMPLES: &str = "\
Examples:
  person-service history 0197c5a0-5b3c-7d3e-9a52-6f7d0c1b2a30
          The first 100 events: version, time, type, what changed, who did it, and the command's id
  person-service history 0197c5a0-5b3c-7d3e-9a52-6f7d0c1b2a30 --from-version 101 --limit 20
          Twenty more
  person-service history 0197c5a0-5b3c-7d3e-9a52-6f7d0c1b2a30 --all --json
          All events as they are stored, one a line, for programs

Exit status: 0, or 1 where there is no such person, 69 where NATS is away or no service answers; \
'person-service --help' lists all.";

/// What `history` is told.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct History {
    /// Whose: the person's UUID
    #[arg(value_name = "ID")]
    person: PersonId,

    /// The first event to show
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    from_version: u64,

    /// How many events to show at most
    #[arg(
        long,
        value_name = "N",
        default_value_t = HISTORY_EVENTS_DEFAULT,
        value_parser = RangedU64ValueParser::<u64>::new().range(1..),
        conflicts_with = "all"
    )]
    limit: u64,

    /// Show all events
    #[arg(long)]
    all: bool,

    /// Print each event's JSON, one a line
    #[arg(long)]
    json: bool,
}

/// A part of a history.
struct Page {
    events: Vec<Value>,
    /// Where the next page begins, if there is one.
    next: Option<u64>,
}

impl History {
    /// Asks for page after page and shows them.
    pub fn run(&self, config: &config::Client) -> Result<ExitStatus, Failure> {
        let mut client = Client::open(config, "history")?;
        let mut out = Out::new();
        let mut rest = if self.all { u64::MAX } else { self.limit };
        let mut next = Some(self.from_version);
        while let Some(from) = next.filter(|_| rest > 0 && out.is_open()) {
            let page = self.page(&mut client, from, rest.min(HISTORY_EVENTS_MAX))?;
            page.events.iter().for_each(|event| self.show(event, &mut out));
            rest = rest.saturating_sub(u64::try_from(page.events.len()).unwrap_or(u64::MAX));
            next = page.next.filter(|next| *next > from);
        }
        let open = out.is_open();
        out.finish()?;
        if let Some(next) = next.filter(|_| open) {
            last_words(&format!("there are more events: --from-version {next}, or --all"));
        }
        Ok(ExitStatus::Clean)
    }

    fn page(&self, client: &mut Client, from: u64, limit: u64) -> Result<Page, Failure> {
        let question = json!({"person_id": self.person, "from_version": from, "limit": limit});
        let stopped = |failure: Failure| match from == self.from_version {
            true => failure,
            false => Failure::new(failure.status, format!("{failure}; to go on: --from-version {from}")),
        };
        let mut answer = client.query("history", &question).map_err(stopped)?;
        match &answer.status {
            Status::No(problem) => Err(stopped(Failure::problem(problem))),
            Status::Yes => {
                let next = answer.number("next_version");
                let events = match answer.value.get_mut("events").map(Value::take) {
                    Some(Value::Array(events)) => events,
                    _ => return Err(Failure::unreadable(&client.subjects.query("history"))),
                };
                Ok(Page { events, next })
            }
        }
    }

    fn show(&self, event: &Value, out: &mut Out) {
        if self.json {
            out.json(event.to_string().as_bytes());
        } else {
            out.line(line(event));
        }
    }
}

/// Version, time, type, what changed, who did it, the command's id.
fn line(record: &Value) -> String {
    let (kind, event) = kind_and_event(record);
    let actor = match shown::text(at(record, "actor")) {
        actor if actor.is_empty() => String::new(),
        actor => format!("  by {actor}"),
    };
    let version = at(record, "sequence").as_u64().unwrap_or(0);
    let time = styled(DIM, shown::time(at(record, "timestamp")));
    let kind = styled(STRONG, format_args!("{kind:<20}"));
    let command = styled(DIM, shown::text(at(record, "causation_id")));
    format!("{version:>5}  {time}  {kind}  {}{actor}  {command}", what_changed(event))
}

/// The externally tagged event of a record.
fn kind_and_event(record: &Value) -> (String, Event<'_>) {
    let members = at(record, "event").as_object();
    let (kind, fields) = members.and_then(|members| members.iter().next()).map_or(("", &Value::Null), |(k, f)| (k, f));
    (shown::text(&Value::from(kind)), Event { kind, fields })
}

struct Event<'a> {
    kind: &'a str,
    fields: &'a Value,
}

fn what_changed(event: Event<'_>) -> String {
    let field = |name: &str| shown::text(at(event.fields, name));
    let about = || shown::attribute_type(at(event.fields, "attribute_type"));
    let value = |attribute: &str| shown::attribute_value(at(at(event.fields, attribute), "value"));
    match event.kind {
        "PersonCreated" => format!("{} (source: {})", shown::name(at(event.fields, "name")), field("source")),
        "NameUpdated" => {
            let [old, new] = ["old_name", "new_name"].map(|name| shown::name(at(event.fields, name)));
            format!("{old} → {new}{}", in_brackets(&field("reason")))
        }
        "BirthDateSet" => field("birth_date"),
        "DeathRecorded" => field("date_of_death"),
        "PersonDeactivated" | "PersonReactivated" | "PersonArchived" => field("reason"),
        "PersonMergedInto" => format!("into {}{}", field("merged_into_id"), in_brackets(&field("merge_reason"))),
        "AttributeRecorded" => {
            let about = shown::attribute_type(at(event.fields, "attribute.attribute_type"));
            format!("{about}: {}", value("attribute"))
        }
        "AttributeUpdated" => format!("{}: {} → {}", about(), value("old_attribute"), value("new_attribute")),
        "AttributeInvalidated" => format!("{}{}", about(), in_brackets(&field("reason"))),
        _ => shown::text(event.fields),
    }
}

fn in_brackets(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(event: Value) -> String {
        what_changed(kind_and_event(&json!({ "event": event })).1)
    }

    #[test]
    fn every_event_says_in_short_what_changed() {
        let name = |given: &str| json!({"components": {"given_names": [given], "family_names": ["King"]}});
        let height = |metres: f64| json!({"attribute_type": {"Physical": "Height"}, "value": {"Length": metres}});
        for (event, expected) in [
            (json!({"PersonCreated": {"name": name("Ada"), "source": "crm"}}), "Ada King (source: crm)"),
            (
                json!({"NameUpdated": {"old_name": name("A"), "new_name": name("Ada"), "reason": "typo"}}),
                "A King → Ada King (typo)",
            ),
            (json!({"BirthDateSet": {"birth_date": "1815-12-10"}}), "1815-12-10"),
            (json!({"DeathRecorded": {"date_of_death": "1852-11-27"}}), "1852-11-27"),
            (json!({"PersonArchived": {"reason": "long ago"}}), "long ago"),
            (
                json!({"PersonMergedInto": {"merged_into_id": "x", "merge_reason": "UserRequested"}}),
                "into x (UserRequested)",
            ),
            (json!({"AttributeRecorded": {"attribute": height(1.7)}}), "Physical.Height: 1.7 m"),
            (
                json!({"AttributeUpdated": {"attribute_type": {"Physical": "Height"},
                       "old_attribute": height(1.7), "new_attribute": height(1.71)}}),
                "Physical.Height: 1.7 m → 1.71 m",
            ),
            (json!({"AttributeInvalidated": {"attribute_type": {"Physical": "Height"}}}), "Physical.Height"),
            (json!({"FromALaterRelease": {"x": 1}}), "{\"x\":1}"),
        ] {
            assert_eq!(changed(event), expected);
        }
    }
}
