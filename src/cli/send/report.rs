//! What became of many lines: counted, shown while it goes on, and the refused ones written down.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::cli::answer::Problem;
use crate::cli::output::{Out, counted, grouped};
use crate::cli::send::courier::{Fate, Recipient};
use crate::cli::send::letter::Letter;
use crate::cli::shown::at;
use crate::daemon::logging::last_words;
use crate::domain::PersonId;
use crate::exit::ExitStatus;

/// Refused lines that are told on stderr; the others are only counted.
const TOLD_MAX: u64 = 10;
/// How many commands of a person the service remembers for good; what came before may be forgotten.
const REMEMBERED: u32 = 128;
const STYLE: &str = "{bar:30} {percent:>3}%  {msg}";
const STYLE_WITHOUT_LENGTH: &str = "{spinner} {msg}";

/// What became of many lines.
pub struct Report<'a> {
    out: &'a mut Out,
    /// Whether the replies go to stdout.
    json: bool,
    refused: Option<BufWriter<File>>,
    refused_broken: Option<io::Error>,
    bar: ProgressBar,
    began: Instant,
    accepted: u64,
    duplicates: u64,
    rejected: BTreeMap<String, u64>,
    failed: BTreeMap<String, u64>,
    /// Whether sending all again would help those that failed.
    worth_repeating: bool,
    told: u64,
    /// It grows with the persons, by some 30 bytes each.
    lines_of: HashMap<PersonId, u32>,
}

impl<'a> Report<'a> {
    /// Nothing has become of anything yet. `bytes` are those of the input, where known.
    pub fn new(out: &'a mut Out, json: bool, refused: Option<File>, bytes: Option<u64>) -> Self {
        let bar = bytes.map_or_else(ProgressBar::no_length, ProgressBar::new);
        let template = if bytes.is_some() { STYLE } else { STYLE_WITHOUT_LENGTH };
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self {
            out,
            json,
            refused: refused.map(BufWriter::new),
            refused_broken: None,
            bar,
            began: Instant::now(),
            accepted: 0,
            duplicates: 0,
            rejected: BTreeMap::new(),
            failed: BTreeMap::new(),
            worth_repeating: false,
            told: 0,
            lines_of: HashMap::new(),
        }
    }

    /// Says what became of all, and what that means for the exit status.
    pub fn finish(mut self) -> ExitStatus {
        self.bar.finish_and_clear();
        let summary = self.summary();
        match self.json {
            true => summary.lines().for_each(last_words),
            false => self.out.line(summary),
        }
        self.note_forgetfulness();
        if let Some(Err(error)) = self.refused.take().map(|mut file| file.flush()) {
            self.refused_broken.get_or_insert(error);
        }
        if let Some(error) = self.refused_broken {
            last_words(&format!("the file for refused lines could not be written: {error}"));
            return ExitStatus::Unavailable;
        }
        match (self.failed.is_empty(), self.rejected.is_empty()) {
            (false, _) if self.worth_repeating => ExitStatus::Unavailable,
            (true, true) => ExitStatus::Clean,
            _ => ExitStatus::Refused,
        }
    }

    fn summary(&self) -> String {
        let [rejected, failed] = [&self.rejected, &self.failed].map(|codes| codes.values().sum::<u64>());
        let all = self.accepted + rejected + failed;
        let seconds = self.began.elapsed().as_secs_f64();
        let mut text =
            format!("{} in {seconds:.1} s\n  accepted {}", counted(all, "line", "lines"), grouped(self.accepted));
        if self.duplicates > 0 {
            text.push_str(&format!(", {} of them duplicates: carried out before", grouped(self.duplicates)));
        }
        for (word, count, codes) in [("rejected", rejected, &self.rejected), ("failed", failed, &self.failed)] {
            if count > 0 {
                let codes: Vec<String> =
                    codes.iter().map(|(code, count)| format!("{code} {}", grouped(*count))).collect();
                text.push_str(&format!("\n  {word} {}: {}", grouped(count), codes.join(", ")));
            }
        }
        text
    }

    /// The service recognises the newest commands of each person: a file with more than those cannot be sent again later.
    fn note_forgetfulness(&self) {
        let persons = self.lines_of.values().filter(|lines| **lines > REMEMBERED).count();
        if persons > 0 {
            last_words(&format!(
                "note: {persons} of the persons had more than {REMEMBERED} lines. The service remembers that many commands \
                 of a person: were this input sent again later, earlier ones might be carried out a second time"
            ));
        }
    }

    fn not_done(&mut self, letter: &Letter, status: &str, problem: &Problem) {
        if self.told < TOLD_MAX {
            let more = if self.told + 1 == TOLD_MAX { " (further ones are only counted)" } else { "" };
            let line = format!("line {}: {status}: {problem}{more}", letter.origin);
            self.bar.suspend(|| last_words(&line));
        }
        self.told += 1;
        let Some(file) = &mut self.refused else { return };
        let mut entry = json!({
            "line": letter.origin,
            "command_id": letter.id,
            "status": status,
            "error": problem,
        });
        if let Some(members) = entry.as_object_mut() {
            match serde_json::from_slice::<Value>(&letter.payload) {
                Ok(command) => members.insert("command".to_owned(), command),
                Err(_) => members.insert("text".to_owned(), String::from_utf8_lossy(&letter.payload).into()),
            };
        }
        if let Err(error) = writeln!(file, "{entry}").and_then(|()| file.flush()) {
            self.refused_broken.get_or_insert(error);
        }
    }
}

impl Recipient for Report<'_> {
    fn settled(&mut self, letter: Letter, fate: Fate) {
        for person in &letter.persons {
            let lines = self.lines_of.entry(*person).or_default();
            *lines = lines.saturating_add(1);
        }
        let answer = match fate {
            Fate::Accepted(answer) => {
                self.accepted += 1;
                self.duplicates += u64::from(at(&answer.value, "duplicate") == true);
                Some(answer)
            }
            Fate::Rejected(problem, answer) => {
                *self.rejected.entry(problem.code.clone()).or_default() += 1;
                self.not_done(&letter, "rejected", &problem);
                answer
            }
            Fate::Failed(problem, answer) => {
                *self.failed.entry(problem.code.clone()).or_default() += 1;
                self.worth_repeating |= problem.retryable;
                self.not_done(&letter, "failed", &problem);
                answer
            }
        };
        if let Some(answer) = answer.filter(|_| self.json) {
            self.out.json(&answer.json);
        }
        self.bar.inc(letter.input_bytes);
    }

    fn waiting(&mut self, count: usize) {
        // A bar that is not shown costs nothing, but what it would say does.
        if !self.bar.is_hidden() {
            let not_done: u64 = self.rejected.values().chain(self.failed.values()).sum();
            let accepted = grouped(self.accepted);
            self.bar.set_message(format!("{accepted} accepted, {not_done} not, {count} waiting"));
        }
    }
}
