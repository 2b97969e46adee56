//! What the demo shows: requests, replies and commits, in colour where there is a terminal.

use anstream::println;
use anstyle::{AnsiColor, Style};

use crate::children::Place;
use crate::json::laid_out;

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();
const BLUE: Style = AnsiColor::Blue.on_default();
const GREEN: Style = AnsiColor::Green.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
const CYAN: Style = AnsiColor::Cyan.on_default();

/// The screen.
pub struct Show;

impl Show {
    /// What is being done behind the scenes.
    pub fn progress(&self, words: &str) {
        println!("{DIM}... {words}{DIM:#}");
    }

    /// The title of a part.
    pub fn heading(&self, words: &str) {
        println!("\n{BOLD}{words}{BOLD:#}");
    }

    /// What is sent.
    pub fn request(&self, title: &str, subject: &str, command_id: Option<&str>, payload: &str) {
        self.heading(title);
        let header = command_id.map(|id| format!("   {DIM}Nats-Msg-Id: {id}{DIM:#}")).unwrap_or_default();
        println!("{BLUE}-> {subject}{BLUE:#}{header}\n{}", laid_out(payload, 3));
    }

    /// What comes back.
    pub fn reply(&self, payload: &str) {
        let style = if payload.contains(r#""status":"accepted""#) || payload.contains(r#""status":"ok""#) {
            GREEN
        } else {
            YELLOW
        };
        println!("{style}<-{style:#}\n{}", laid_out(payload, 3));
    }

    /// A commit in the stream.
    pub fn stored(&self, sequence: u64, subject: &str, payload: &str) {
        println!("{CYAN}#{sequence} {subject}{CYAN:#}\n{}", laid_out(payload, 3));
    }

    /// The commands to go on with.
    pub fn what_to_try(&self, place: &Place, person: uuid::Uuid) {
        let (url, service, log) = (&place.url, place.service.display(), place.log());
        let rename =
            format!(r#"{{"UpdateName":{{"person_id":"{person}","name":{{"components":{{"given_names":["Ada"]}}}}}}}}"#);
        self.heading("Both keep running until Ctrl-C. To try in another terminal:");
        println!("{DIM}the log of the service{DIM:#}\n   tail -f {}", log.display());
        println!("{DIM}a second replica, which shares the work{DIM:#}\n   NATS_URL={url} {service}");
        println!(
            "{DIM}with the nats command line: who serves, and how busy they are{DIM:#}\n   nats -s {url} micro stats person-service"
        );
        println!("{DIM}all events, as they come{DIM:#}\n   nats -s {url} sub 'person.events.>'");
        println!("{DIM}refused, since she has died; send it with a -H Nats-Msg-Id:... of your own{DIM:#}");
        println!("   nats -s {url} request person.commands.{person} '{rename}'");
    }
}
