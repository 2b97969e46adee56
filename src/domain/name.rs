//! A person's name: its components, and the convention that says how they are written together.

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::choices::choices;
use super::few::{Few, Text};
use super::invalid::{Invalid, Within, check_length, check_not_blank};
use super::limits::{NAME_COMPONENT_CHARS_MAX, NAME_COMPONENTS_MAX, STRING_CHARS_MAX};
use super::value::null_as_default;

/// A name in any script. In an accepted command it is in Unicode's normal form C.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct PersonName {
    /// What the name is made of.
    pub components: NameComponents,
    /// How the person likes to be called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_form: Option<Text>,
    /// How the components are written together; Western when it was not given.
    #[serde(default, deserialize_with = "null_as_default")]
    pub naming_convention: NamingConvention,
}

/// The parts of a name. At least one given or family name; none is blank.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct NameComponents {
    /// Given names, in the order in which they are written.
    #[serde(default, deserialize_with = "null_as_default")]
    pub given_names: Few<Text, 1>,
    /// Family names, in the order in which they are written; particles (`van der`) belong to them.
    #[serde(default, deserialize_with = "null_as_default")]
    pub family_names: Few<Text, 1>,
    /// The name made of the father's, such as `Nikolayevich` or `Jónsson`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patronymic: Option<Text>,
    /// The name made of the mother's, such as `Helgudóttir`; with the Spanish convention the mother's surname.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matronymic: Option<Text>,
    /// What stands before the name, such as `Dr.`.
    #[serde(default, deserialize_with = "null_as_default")]
    pub prefixes: Few<Text, 1>,
    /// What stands after the name, such as `Jr.` or `PhD`.
    #[serde(default, deserialize_with = "null_as_default")]
    pub suffixes: Few<Text, 1>,
}

choices! {
    /// The customs by which a name is written and sorted.
    #[derive(Default)]
    NamingConvention {
        /// Given names, then family names.
        #[default]
        Western,
        /// Given names, then the father's and the mother's surname.
        Spanish,
        /// The family name first.
        EastAsian,
        /// Given names, then a name made of a parent's, and a family name only in some countries.
        Patronymic,
        /// One name alone.
        Mononymic,
        /// None of these: the components are written in the order of a Western name.
        Other,
    }
}

impl PersonName {
    /// Brings this name into normal form C.
    ///
    /// # Errors
    /// It has neither a given nor a family name, too many components, or one that is blank, too long or has control
    /// characters.
    pub(super) fn normalise(&mut self) -> Result<(), Invalid> {
        self.components.normalise().within("components")?;
        normalise_optional(&mut self.preferred_form, STRING_CHARS_MAX).within("preferred_form")
    }
}

impl NameComponents {
    fn normalise(&mut self) -> Result<(), Invalid> {
        if self.given_names.is_empty() && self.family_names.is_empty() {
            return Err(Invalid::here("must have at least one given or family name"));
        }
        normalise_list(&mut self.given_names).within("given_names")?;
        normalise_list(&mut self.family_names).within("family_names")?;
        normalise_optional(&mut self.patronymic, NAME_COMPONENT_CHARS_MAX).within("patronymic")?;
        normalise_optional(&mut self.matronymic, NAME_COMPONENT_CHARS_MAX).within("matronymic")?;
        normalise_list(&mut self.prefixes).within("prefixes")?;
        normalise_list(&mut self.suffixes).within("suffixes")
    }
}

fn normalise_list(parts: &mut [Text]) -> Result<(), Invalid> {
    check_length(parts, NAME_COMPONENTS_MAX, "components")?;
    let mut parts = parts.iter_mut().enumerate();
    parts.try_for_each(|(index, part)| normalise_part(part, NAME_COMPONENT_CHARS_MAX).within(format_args!("[{index}]")))
}

fn normalise_optional(part: &mut Option<Text>, chars_max: usize) -> Result<(), Invalid> {
    part.as_mut().map_or(Ok(()), |part| normalise_part(part, chars_max))
}

/// The limits hold for the normal form, for that is what will be stored.
fn normalise_part(part: &mut Text, chars_max: usize) -> Result<(), Invalid> {
    if is_nfc_quick(part.chars()) != IsNormalized::Yes {
        *part = part.nfc().collect();
    }
    check_not_blank(part, chars_max)
}
