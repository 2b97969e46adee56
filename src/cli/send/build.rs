//! Commands made from flags, so that the common ones need no JSON.
//!
//! Attributes are not among them: their types, values and provenance are a language of their own, and JSON is it.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};

use crate::domain::{Command, Date, Few, MergeReason, NameComponents, NamingConvention, PersonId, PersonName, Text};

/// A command made from flags.
#[derive(Debug, Subcommand)]
pub enum Build {
    /// Begin the record of a person
    Create {
        /// The person's UUID [default: made from the command's id]
        #[arg(long, value_name = "ID")]
        person: Option<PersonId>,
        #[command(flatten)]
        name: Name,
        /// Where the record comes from
        #[arg(long, value_name = "TEXT")]
        source: String,
    },
    /// Change the name
    Rename {
        /// Whose
        #[arg(value_name = "ID")]
        person: PersonId,
        #[command(flatten)]
        name: Name,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Record the date of birth, once
    SetBirthDate {
        /// Whose
        #[arg(value_name = "ID")]
        person: PersonId,
        /// The day, such as 1815-12-10
        #[arg(value_name = "DATE")]
        date: Date,
    },
    /// Record the death
    RecordDeath {
        /// Whose
        #[arg(value_name = "ID")]
        person: PersonId,
        /// The day, such as 1852-11-27
        #[arg(value_name = "DATE")]
        date: Date,
    },
    /// Take the record out of use for a while
    Deactivate(WithReason),
    /// Take a deactivated record into use again
    Reactivate(WithReason),
    /// Put the record away for good
    Archive(WithReason),
    /// End one record in favour of another one of the same person
    Merge {
        /// The record that ends
        #[arg(value_name = "ID")]
        person: PersonId,
        /// The record that survives
        #[arg(long, value_name = "ID")]
        into: PersonId,
        /// Why
        #[arg(long, value_name = "REASON", default_value = "DuplicateIdentity", value_parser = one_of(MergeReason::ALL, MergeReason::as_str))]
        reason: MergeReason,
    },
}

/// A person and a reason.
#[derive(Debug, Args)]
pub struct WithReason {
    /// Whose
    #[arg(value_name = "ID")]
    person: PersonId,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// A name in its parts.
#[derive(Debug, Args)]
#[command(next_help_heading = "Name")]
pub struct Name {
    /// A given name; once for each
    #[arg(long, value_name = "NAME")]
    given: Vec<String>,
    /// A family name; once for each
    #[arg(long, value_name = "NAME")]
    family: Vec<String>,
    /// The name made of the father's
    #[arg(long, value_name = "NAME")]
    patronymic: Option<String>,
    /// The name made of the mother's
    #[arg(long, value_name = "NAME")]
    matronymic: Option<String>,
    /// What stands before the name, such as Dr.; once for each
    #[arg(long, value_name = "TEXT")]
    title: Vec<String>,
    /// What stands after the name, such as Jr.; once for each
    #[arg(long, value_name = "TEXT")]
    suffix: Vec<String>,
    /// How the person likes to be called
    #[arg(long, value_name = "NAME")]
    preferred: Option<String>,
    /// How the parts are written together
    #[arg(long, value_name = "CONVENTION", default_value = "Western", value_parser = one_of(NamingConvention::ALL, NamingConvention::as_str))]
    convention: NamingConvention,
}

impl Build {
    /// The command; `new_person` is for a record without an id of its own.
    pub fn command(&self, new_person: impl FnOnce() -> PersonId) -> Command {
        match self {
            Self::Create { person, name, source } => Command::CreatePerson {
                person_id: person.unwrap_or_else(new_person),
                name: name.name().into(),
                source: source.clone(),
            },
            Self::Rename { person, name, reason } => {
                Command::UpdateName { person_id: *person, name: name.name().into(), reason: reason.clone() }
            }
            Self::SetBirthDate { person, date } => Command::SetBirthDate { person_id: *person, birth_date: *date },
            Self::RecordDeath { person, date } => Command::RecordDeath { person_id: *person, date_of_death: *date },
            Self::Deactivate(WithReason { person, reason }) => {
                Command::DeactivatePerson { person_id: *person, reason: reason.clone() }
            }
            Self::Reactivate(WithReason { person, reason }) => {
                Command::ReactivatePerson { person_id: *person, reason: reason.clone() }
            }
            Self::Archive(WithReason { person, reason }) => {
                Command::ArchivePerson { person_id: *person, reason: reason.clone() }
            }
            Self::Merge { person, into, reason } => {
                Command::MergePersons { source_person_id: *person, target_person_id: *into, merge_reason: *reason }
            }
        }
    }
}

impl Name {
    fn name(&self) -> PersonName {
        PersonName {
            components: NameComponents {
                given_names: texts(&self.given),
                family_names: texts(&self.family),
                patronymic: self.patronymic.as_deref().map(Text::from),
                matronymic: self.matronymic.as_deref().map(Text::from),
                prefixes: texts(&self.title),
                suffixes: texts(&self.suffix),
            },
            preferred_form: self.preferred.as_deref().map(Text::from),
            naming_convention: self.convention,
        }
    }
}

fn texts(parts: &[String]) -> Few<Text, 1> {
    parts.iter().map(Text::from).collect()
}

/// One of a closed list of names.
fn one_of<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    name: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    let names = PossibleValuesParser::new(all.iter().map(|choice| name(*choice)));
    names.try_map(move |text| all.iter().copied().find(|choice| name(*choice) == text).ok_or("no such choice"))
}
