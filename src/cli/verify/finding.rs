//! What is found wrong, how bad that is, and how it is told.

use std::collections::BTreeMap;

use anstyle::Style;
use bincode::{Decode, Encode};
use serde_json::{Value, json};

use crate::cli::output::{DIM, Out, STRONG, grouped, harmless, styled};
use crate::domain::PersonId;
use crate::engine::ports::Sequence;

/// Findings that are kept to be listed; what comes after is counted.
const LISTED_MAX: usize = 100_000;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something is lost or wrong.
    Damage,
    /// This release cannot tell.
    Unchecked,
    /// Worth knowing; the service copes with it.
    Remark,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Kind {
    /// A gap, a broken chain, time running backwards, or a commit that does not decode.
    HistoryDamaged,
    /// An event that was not possible in the state of the person.
    EventImpossible,
    /// The snapshot is of a version that the log does not have any more.
    SnapshotAhead,
    /// The snapshot holds something else than the log gives.
    SnapshotDiffers,
    /// Persons were merged into one another in a circle.
    MergeCircle,
    /// A person was merged into one who does not exist.
    MergeTargetMissing,
    /// A newer release wrote it.
    HistoryTooNew,
    /// The snapshot cannot be read.
    SnapshotUnreadable,
    /// The snapshot speaks of another commit than the log has.
    SnapshotStale,
    /// The headers of a commit say something else than the commit.
    HeaderDiffers,
    /// Something else lies there.
    ForeignMessage,
    /// A copy of the stream showed something else than its leader.
    CopyDiffers,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// With whom, where it is about a person.
    pub person: Option<PersonId>,
    /// Where in the stream or bucket.
    pub sequence: Option<Sequence>,
    /// The version up to which the history is whole, where it is damaged.
    pub whole_up_to: Option<u64>,
    /// In words, without personal data.
    pub what: String,
}

/// All that was found.
#[derive(Debug, Default, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Findings {
    listed: Vec<Finding>,
    counts: BTreeMap<Kind, u64>,
}

impl Kind {
    /// For programs.
    pub const fn code(self) -> &'static str {
        match self {
            Self::HistoryDamaged => "history_damaged",
            Self::EventImpossible => "event_impossible",
            Self::SnapshotAhead => "snapshot_ahead",
            Self::SnapshotDiffers => "snapshot_differs",
            Self::MergeCircle => "merge_circle",
            Self::MergeTargetMissing => "merge_target_missing",
            Self::HistoryTooNew => "history_too_new",
            Self::SnapshotUnreadable => "snapshot_unreadable",
            Self::SnapshotStale => "snapshot_stale",
            Self::HeaderDiffers => "header_differs",
            Self::ForeignMessage => "foreign_message",
            Self::CopyDiffers => "copy_differs",
        }
    }

    /// How bad it is.
    pub const fn severity(self) -> Severity {
        match self {
            Self::HistoryDamaged
            | Self::EventImpossible
            | Self::SnapshotAhead
            | Self::SnapshotDiffers
            | Self::MergeCircle
            | Self::MergeTargetMissing => Severity::Damage,
            Self::HistoryTooNew => Severity::Unchecked,
            Self::SnapshotUnreadable
            | Self::SnapshotStale
            | Self::HeaderDiffers
            | Self::ForeignMessage
            | Self::CopyDiffers => Severity::Remark,
        }
    }
}

impl Severity {
    const fn word(self) -> &'static str {
        match self {
            Self::Damage => "damage",
            Self::Unchecked => "unchecked",
            Self::Remark => "remark",
        }
    }

    const fn style(self) -> Style {
        match self {
            Self::Damage | Self::Unchecked => STRONG,
            Self::Remark => DIM,
        }
    }
}

impl Finding {
    /// About a person.
    pub fn of(kind: Kind, person: PersonId, sequence: Option<Sequence>, what: impl Into<String>) -> Self {
        Self { kind, person: Some(person), sequence, whole_up_to: None, what: what.into() }
    }

    fn json(&self) -> Value {
        let mut value = json!({
            "finding": self.kind.code(),
            "severity": self.kind.severity().word(),
            "what": self.what,
        });
        let members = [
            ("person_id", self.person.map(|person| json!(person))),
            ("sequence", self.sequence.map(Value::from)),
            ("whole_up_to", self.whole_up_to.map(Value::from)),
        ];
        if let Some(object) = value.as_object_mut() {
            object.extend(members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        }
        value
    }

    fn line(&self) -> String {
        let severity = self.kind.severity();
        let word = styled(severity.style(), format_args!("{:<9}", severity.word()));
        let person = self.person.map_or_else(|| "-".to_owned(), |person| person.to_string());
        let whole = self.whole_up_to.map_or_else(String::new, |version| format!("whole up to version {version}; "));
        let place = self.sequence.map_or_else(String::new, |sequence| format!("at sequence {sequence}: "));
        format!("{word}  {person:<36}  {}: {whole}{place}{}", self.kind.code(), harmless(&self.what))
    }
}

impl Findings {
    /// One more.
    pub fn add(&mut self, finding: Finding) {
        *self.counts.entry(finding.kind).or_default() += 1;
        if self.listed.len() < LISTED_MAX {
            self.listed.push(finding);
        }
    }

    /// One more that is counted alone.
    pub fn count_only(&mut self, kind: Kind) {
        *self.counts.entry(kind).or_default() += 1;
    }

    /// Forgets those that are listed of which this is true.
    pub fn forget(&mut self, is_past: impl Fn(&Finding) -> bool) {
        let Self { listed, counts } = self;
        listed.retain(|finding| {
            let goes = is_past(finding);
            if let (true, Some(count)) = (goes, counts.get_mut(&finding.kind)) {
                *count = count.saturating_sub(1);
            }
            !goes
        });
        counts.retain(|_, count| *count > 0);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// How many there are as bad as this.
    pub fn count(&self, severity: Severity) -> u64 {
        self.counts.iter().filter(|(kind, _)| kind.severity() == severity).map(|(_, count)| count).sum()
    }

    /// Lists them, the worst first.
    pub fn list(&mut self, out: &mut Out, json: bool) {
        self.listed.sort_by_key(|finding| (finding.kind.severity(), finding.person.map(|person| person.uuid())));
        for finding in &self.listed {
            match json {
                true => out.json(finding.json().to_string().as_bytes()),
                false => out.line(finding.line()),
            }
        }
    }

    /// What is not listed, for want of room.
    pub fn unlisted(&self) -> u64 {
        let all: u64 = self.counts.values().sum();
        all.saturating_sub(u64::try_from(self.listed.len()).unwrap_or(u64::MAX))
    }

    /// The numbers, for people.
    pub fn summary(&self) -> String {
        let parts: Vec<String> =
            self.counts.iter().map(|(kind, count)| format!("{} {}", kind.code(), grouped(*count))).collect();
        if parts.is_empty() { "nothing is wrong".to_owned() } else { parts.join(", ") }
    }

    /// The numbers, for programs.
    pub fn counts(&self) -> Value {
        self.counts.iter().map(|(kind, count)| (kind.code().to_owned(), Value::from(*count))).collect()
    }
}
