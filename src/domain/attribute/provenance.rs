//! Where an attribute comes from and how sure its source is.

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::domain::choices::choices;
use crate::domain::invalid::{Invalid, Within, check_length, check_text};
use crate::domain::limits::TRACE_ENTRIES_MAX;
use crate::domain::value::{Timestamp, null_as_default};

/// Who says so, and how it came to be known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Provenance {
    /// Where the value comes from.
    pub source: ValueSource,
    /// How sure the source is.
    pub confidence: Confidence,
    /// Who entered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_by: Option<String>,
    /// What was done to the value on its way here, oldest first; at most 32 entries.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub trace: Vec<Transformation>,
}

/// Where a value comes from.
///
/// Append only: the binary form is the index of the variant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub enum ValueSource {
    /// The person said so.
    SelfReported,
    /// Somebody measured it.
    Measured,
    /// A document shows it.
    DocumentVerified,
    /// It follows from other values.
    Computed,
    /// Another system had it.
    Imported {
        /// That system's name.
        system: String,
    },
}

choices! {
    /// How sure a source is of a value, the surest first.
    Confidence { Certain, Likely, Possible, Uncertain, }
}

/// One thing that was done to a value on its way here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Transformation {
    /// What was done.
    pub transformation: String,
    /// When.
    pub applied_at: Timestamp,
    /// By whom or by what.
    pub applied_by: String,
}

impl Provenance {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        if let ValueSource::Imported { system } = &self.source {
            check_text(system).within("source.system")?;
        }
        self.recorded_by.as_deref().map_or(Ok(()), check_text).within("recorded_by")?;
        check_length(&self.trace, TRACE_ENTRIES_MAX, "entries").within("trace")?;
        for (index, entry) in self.trace.iter().enumerate() {
            entry.check().within(format_args!("trace[{index}]"))?;
        }
        Ok(())
    }
}

impl Transformation {
    fn check(&self) -> Result<(), Invalid> {
        check_text(&self.transformation).within("transformation")?;
        check_text(&self.applied_by).within("applied_by")
    }
}
