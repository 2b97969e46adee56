//! `person-service show`: what is recorded about a person, now or as it was recorded, for people or as JSON.

use clap::Args;
use comfy_table::{LineStyle, Table, TableStyle, presets};
use serde_json::{Value, json};

use crate::cli::answer::{Answer, Status};
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::output::{Out, STRONG, styled};
use crate::cli::shown::{self, at};
use crate::config;
use crate::domain::{Date, PersonId, Timestamp};
use crate::exit::ExitStatus;

const EXAMPLES: &str = "\
Examples:
  person-service show 0197c5a0-5b3c-7d3e-9a52-6f7d0c1b2a30
          The person as recorded now
  person-service show 0197c5a0-5b3c-7d3e-9a52-6f7d0c1b2a30 --at-version 3
          As recorded after the third event
  person-service show 0197c5a0-5b3c-7d3e-9a52-6f7d0c1b2a30 --as-of 2026-01-31T12:00:00Z --valid-on 2020-05-01
          What we knew at that time of how it was on that day
  person-service show 0197c5a0-5b3c-7d3e-9a52-6f7d0c1b2a30 --json
          The reply of the service, for programs

Exit status: 0, or 1 where there is no such person (or version), 69 where NATS is away or no service answers; \
'person-service --help' lists all.";

/// A line under the header and no other.
const UNDER_THE_HEADER: TableStyle = TableStyle::new().header_separator(LineStyle::new('─', '─', '─', '─'));

/// What `show` is told.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Show {
    /// Who: the person's UUID
    #[arg(value_name = "ID")]
    person: PersonId,

    /// As recorded after this many events
    #[arg(long, value_name = "N", conflicts_with = "as_of")]
    at_version: Option<u64>,

    /// As recorded at this time, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    as_of: Option<Timestamp>,

    /// Only the attributes that hold on this day, such as 2020-05-01
    #[arg(long, value_name = "DATE")]
    valid_on: Option<Date>,

    /// Print the reply's JSON
    #[arg(long)]
    json: bool,
}

impl Show {
    /// Asks and shows.
    pub fn run(&self, config: &config::Client) -> Result<ExitStatus, Failure> {
        let answer = Client::open(config, "show")?.query("get", &self.question())?;
        let mut out = Out::new();
        match &answer.status {
            _ if self.json => out.json(&answer.json),
            Status::Yes => person(&answer, self.valid_on).iter().for_each(|part| out.line(part)),
            Status::No(_) => {}
        }
        out.finish()?;
        match &answer.status {
            Status::Yes => Ok(ExitStatus::Clean),
            Status::No(problem) => Err(Failure::problem(problem)),
        }
    }

    fn question(&self) -> Value {
        let mut question = json!({"person_id": self.person});
        let options = [
            ("at_version", self.at_version.map(Value::from)),
            ("as_of", self.as_of.map(|time| time.to_string().into())),
            ("valid_on", self.valid_on.map(|day| day.to_string().into())),
        ];
        for (name, value) in options {
            if let (Some(value), Some(members)) = (value, question.as_object_mut()) {
                members.insert(name.to_owned(), value);
            }
        }
        question
    }
}

/// The person's name, record and attributes, each a text of several lines.
fn person(answer: &Answer, valid_on: Option<Date>) -> Vec<String> {
    let person = at(&answer.value, "person");
    let mut parts = vec![styled(STRONG, shown::text(at(person, "display.formal"))), record(person, answer)];
    let attributes = at(person, "attributes").as_array().map(Vec::as_slice).unwrap_or_default();
    let day = valid_on.map(|day| format!(" that hold on {day}")).unwrap_or_default();
    match attributes {
        [] => parts.push(format!("\nNo attributes{day}.")),
        _ => {
            parts.push(styled(STRONG, format!("\nAttributes{day}, the latest recorded last")));
            parts.push(attribute_table(attributes));
        }
    }
    parts
}

fn record(person: &Value, answer: &Answer) -> String {
    let display = at(person, "display");
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            table.add_row([name.to_owned(), value]);
        }
    };
    row("id", shown::text(at(person, "id")));
    row("state", lifecycle(at(person, "lifecycle")));
    for form in ["informal", "legal", "alphabetical", "cultural"] {
        row(form, shown::text(at(display, form)));
    }
    row("born", shown::text(at(person, "birth_date")));
    row("died", shown::text(at(person, "death_date")));
    row("version", version(person, answer));
    row("created", shown::time(at(person, "created_at")));
    row("updated", shown::time(at(person, "updated_at")));
    table.trim_fmt()
}

/// The version shown, and the current one where that is another.
fn version(person: &Value, answer: &Answer) -> String {
    let shown = at(person, "version").as_u64();
    match (shown, answer.number("version")) {
        (Some(shown), Some(current)) if shown != current => format!("{shown} (now it is {current})"),
        (shown, current) => shown.or(current).map(|version| version.to_string()).unwrap_or_default(),
    }
}

fn lifecycle(lifecycle: &Value) -> String {
    let member = |name: &str| shown::text(at(lifecycle, name));
    let state = member("state");
    match state.as_str() {
        "Deactivated" | "Archived" => {
            format!("{state} since {}: {}", shown::time(at(lifecycle, "since")), member("reason"))
        }
        "Deceased" => format!("{state} on {}", member("date_of_death")),
        "MergedInto" => format!("{state} {} at {}", member("target_id"), shown::time(at(lifecycle, "merged_at"))),
        _ => state,
    }
}

fn attribute_table(attributes: &[Value]) -> String {
    let mut table = Table::new();
    table.load_style(UNDER_THE_HEADER);
    table.set_header(["attribute", "value", "valid", "recorded", "source", "confidence", "by"]);
    for attribute in attributes {
        let (temporal, provenance) = (at(attribute, "temporal"), at(attribute, "provenance"));
        table.add_row([
            shown::attribute_type(at(attribute, "attribute_type")),
            shown::attribute_value(at(attribute, "value")),
            shown::validity(temporal),
            shown::time(at(temporal, "recorded_at")),
            shown::source(at(provenance, "source")),
            shown::text(at(provenance, "confidence")),
            shown::text(at(provenance, "recorded_by")),
        ]);
    }
    table.trim_fmt()
}
