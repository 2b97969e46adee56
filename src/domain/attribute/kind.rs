//! What an attribute can be about.

use std::fmt;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::domain::choices::choices;
use crate::domain::invalid::{Invalid, Within, check_text};

/// What an attribute is about. Which kinds of value each type takes is a table of its own,
/// [`value_kinds`](Self::value_kinds).
///
/// Append only: the binary form is the index of the variant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode)]
pub enum AttributeType {
    /// What tells one person from another.
    Identifying(IdentifyingType),
    /// What can be seen or measured.
    Physical(PhysicalType),
    /// What those who treat the person need to know.
    Healthcare(HealthcareType),
    /// Languages, citizenship, belonging.
    Demographic(DemographicType),
    /// Whatever an organisation records beyond these.
    Custom {
        /// Whose type it is.
        organization: String,
        /// Its name there.
        attribute_name: String,
        /// The organisation's own grouping.
        category: String,
    },
}

choices! {
    /// Types of [`AttributeType::Identifying`].
    IdentifyingType {
        BirthDateTime, BirthDate, BirthYear, ApproximateBirthDate, BirthPlace, EyeColor, BiologicalSex, BloodType,
        MotherId, FatherId, NationalId,
    }

    /// Types of [`AttributeType::Physical`].
    PhysicalType {
        Height, Weight, HairColor, HairStyle, FacialHair, Scars, Birthmarks, Tattoos, Piercings, Handedness,
    }

    /// Types of [`AttributeType::Healthcare`].
    HealthcareType {
        BloodType, Allergies, ChronicConditions, Medications, Disabilities, VisionCorrection, HearingAids,
        MedicalRecordNumber, InsuranceId, OrganDonor,
    }

    /// Types of [`AttributeType::Demographic`].
    DemographicType {
        PreferredLanguage, PrimaryLanguage, SpokenLanguages, Citizenship, Nationality, Ethnicity, Religion,
    }
}

impl AttributeType {
    /// The types that the service itself knows: all but the custom ones.
    pub fn all_known() -> impl Iterator<Item = Self> {
        let identifying = IdentifyingType::ALL.iter().copied().map(Self::Identifying);
        let physical = PhysicalType::ALL.iter().copied().map(Self::Physical);
        let healthcare = HealthcareType::ALL.iter().copied().map(Self::Healthcare);
        let demographic = DemographicType::ALL.iter().copied().map(Self::Demographic);
        identifying.chain(physical).chain(healthcare).chain(demographic)
    }

    pub(in crate::domain) fn check(&self) -> Result<(), Invalid> {
        if let Self::Custom { organization, attribute_name, category } = self {
            check_text(organization).within("organization")?;
            check_text(attribute_name).within("attribute_name")?;
            check_text(category).within("category")?;
        }
        Ok(())
    }
}

/// The name for messages, such as `Physical.Height`. A custom type is `Custom` alone: its names are the client's.
impl fmt::Display for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identifying(one) => write!(f, "Identifying.{}", one.as_str()),
            Self::Physical(one) => write!(f, "Physical.{}", one.as_str()),
            Self::Healthcare(one) => write!(f, "Healthcare.{}", one.as_str()),
            Self::Demographic(one) => write!(f, "Demographic.{}", one.as_str()),
            Self::Custom { .. } => f.write_str("Custom"),
        }
    }
}
