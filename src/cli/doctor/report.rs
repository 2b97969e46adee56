//! What was found, line by line, each with a verdict: for people or for programs.

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use serde_json::Value;

use crate::cli::output::{DIM, Out, STRONG, harmless, styled};
use crate::exit::ExitStatus;
use crate::nats::Obstacle;

/// How good it is, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Nothing is wrong; worth knowing.
    Note,
    /// The service works, and somebody should look at it.
    Warning,
    /// The service does not start or does not work.
    Wrong,
}

/// One line.
#[derive(Debug, Serialize)]
pub struct Finding {
    verdict: Verdict,
    /// What it is about, in one or two words that stay the same.
    about: &'static str,
    /// What was found.
    says: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
    /// What mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    repair: Option<Repair>,
}

/// A call of the JetStream API that mends something. It is shown and never made.
#[derive(Debug, Serialize)]
pub struct Repair {
    /// The subject of the call.
    pub subject: String,
    /// The command that makes the same call, with the configuration in a file.
    pub command: String,
    /// The configuration.
    pub config: Value,
}

impl Finding {
    /// Says what to do about it.
    pub fn advise(&mut self, advice: impl Into<String>) -> &mut Self {
        self.advice = Some(advice.into());
        self
    }

    /// Says what mends it.
    pub fn repair(&mut self, repair: Repair) -> &mut Self {
        self.repair = Some(repair);
        self
    }
}

/// All of it.
#[derive(Debug)]
pub struct Report {
    findings: Vec<Finding>,
    /// How a start would end, where something is wrong.
    ends: Option<ExitStatus>,
}

#[derive(Serialize)]
struct Summary<'a> {
    version: &'static str,
    verdict: Verdict,
    status: u8,
    findings: &'a [Finding],
}

impl Report {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { findings: Vec::new(), ends: None }
    }

    /// Adds a line.
    pub fn add(&mut self, verdict: Verdict, about: &'static str, says: impl Into<String>) -> &mut Finding {
        let at = self.findings.len();
        self.findings.push(Finding { verdict, about, says: says.into(), advice: None, repair: None });
        // It was put there.
        self.findings.get_mut(at).expect("the line that was just added")
    }

    /// As it should be.
    pub fn ok(&mut self, about: &'static str, says: impl Into<String>) -> &mut Finding {
        self.add(Verdict::Ok, about, says)
    }

    /// Worth knowing.
    pub fn note(&mut self, about: &'static str, says: impl Into<String>) -> &mut Finding {
        self.add(Verdict::Note, about, says)
    }

    /// Somebody should look at it.
    pub fn warning(&mut self, about: &'static str, says: impl Into<String>) -> &mut Finding {
        self.add(Verdict::Warning, about, says)
    }

    /// The service does not work so.
    pub fn wrong(&mut self, about: &'static str, says: impl Into<String>) -> &mut Finding {
        self.add(Verdict::Wrong, about, says)
    }

    /// What keeps the service from starting, or from its work.
    pub fn obstacle(&mut self, about: &'static str, obstacle: &Obstacle) -> &mut Finding {
        self.ends_with(obstacle.cause.status());
        self.wrong(about, obstacle.says.as_str()).advise(obstacle.cause.advice())
    }

    /// The status with which the service would not start; the first that is given counts.
    pub fn ends_with(&mut self, status: ExitStatus) {
        self.ends.get_or_insert(status);
    }

    /// The worst of all verdicts.
    pub fn verdict(&self) -> Verdict {
        self.findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok)
    }

    /// What to end with.
    pub fn status(&self) -> ExitStatus {
        match self.verdict() {
            Verdict::Ok | Verdict::Note => ExitStatus::Clean,
            Verdict::Warning => ExitStatus::Refused,
            Verdict::Wrong => self.ends.unwrap_or(ExitStatus::Unavailable),
        }
    }

    /// For programs.
    pub fn json(&self) -> Vec<u8> {
        let (verdict, status) = (self.verdict(), self.status().code());
        let summary = Summary { version: env!("CARGO_PKG_VERSION"), verdict, status, findings: &self.findings };
        // Text, numbers and JSON: there is nothing in it that JSON cannot say.
        serde_json::to_vec_pretty(&summary).unwrap_or_default()
    }

    /// For people.
    pub fn show(&self, out: &mut Out) {
        let width = self.findings.iter().map(|finding| finding.about.len()).max().unwrap_or_default();
        for finding in &self.findings {
            let word = styled(finding.verdict.style(), format_args!("{:<7}", finding.verdict.word()));
            out.line(format_args!("{word}  {:<width$}  {}", finding.about, harmless(&finding.says)));
            let indent = " ".repeat(7 + 2 + width + 2);
            if let Some(advice) = &finding.advice {
                out.line(format_args!("{indent}{}", styled(DIM, harmless(advice))));
            }
            if let Some(repair) = &finding.repair {
                out.line(format_args!("{indent}to repair it: {}, with in FILE", repair.command));
                out.line(format_args!("{indent}{}", repair.config));
            }
        }
        let counts: Vec<String> = [Verdict::Wrong, Verdict::Warning, Verdict::Note, Verdict::Ok]
            .into_iter()
            .map(|verdict| (verdict, self.findings.iter().filter(|finding| finding.verdict == verdict).count()))
            .filter(|(_, count)| *count > 0)
            .map(|(verdict, count)| format!("{count} {}", verdict.counted(count)))
            .collect();
        let says = match self.verdict() {
            Verdict::Ok | Verdict::Note => "healthy",
            Verdict::Warning => "it works, with warnings",
            Verdict::Wrong => "the service does not work so",
        };
        out.line(format_args!("\n{}: {}", styled(STRONG, says), counts.join(", ")));
    }
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Wrong => "wrong",
        }
    }

    fn counted(self, count: usize) -> &'static str {
        match self {
            Self::Note if count != 1 => "notes",
            Self::Warning if count != 1 => "warnings",
            other => other.word(),
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Ok => AnsiColor::Green.on_default(),
            Self::Note => AnsiColor::Cyan.on_default(),
            Self::Warning => AnsiColor::Yellow.on_default().bold(),
            Self::Wrong => AnsiColor::Red.on_default().bold(),
        }
    }
}
