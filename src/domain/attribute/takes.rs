//! The table of which kinds of value each attribute type takes. `docs/attributes.md` shows it to users; a test holds the
//! two together.
//!
//! A kind may be added to a row, never taken away: histories hold what was accepted once.

use super::kind::{AttributeType, DemographicType, HealthcareType, IdentifyingType, PhysicalType};
use super::value::ValueKind;
use crate::domain::invalid::Invalid;

impl AttributeType {
    /// The kinds of value that an attribute of this type may have, the most usual one first.
    pub fn value_kinds(&self) -> &'static [ValueKind] {
        match self {
            Self::Identifying(one) => identifying(*one),
            Self::Physical(one) => physical(*one),
            Self::Healthcare(one) => healthcare(*one),
            Self::Demographic(one) => demographic(*one),
            Self::Custom { .. } => ValueKind::ALL,
        }
    }

    pub(super) fn check_takes(&self, kind: ValueKind) -> Result<(), Invalid> {
        let taken = self.value_kinds();
        if taken.contains(&kind) {
            return Ok(());
        }
        let taken: Vec<_> = taken.iter().map(|kind| kind.as_str()).collect();
        Err(Invalid::here(format!("{self} takes {}, not {}", taken.join(" or "), kind.as_str())))
    }
}

fn identifying(one: IdentifyingType) -> &'static [ValueKind] {
    match one {
        IdentifyingType::BirthDateTime => &[ValueKind::DateTime],
        IdentifyingType::BirthDate => &[ValueKind::Date],
        IdentifyingType::BirthYear => &[ValueKind::Year],
        IdentifyingType::ApproximateBirthDate => &[ValueKind::ApproximateDate, ValueKind::YearMonth, ValueKind::Year],
        IdentifyingType::BirthPlace => &[ValueKind::Text, ValueKind::LocationReference],
        IdentifyingType::EyeColor => &[ValueKind::EyeColor],
        IdentifyingType::BiologicalSex => &[ValueKind::BiologicalSex],
        IdentifyingType::BloodType => &[ValueKind::BloodType],
        IdentifyingType::MotherId | IdentifyingType::FatherId => &[ValueKind::PersonReference],
        IdentifyingType::NationalId => &[ValueKind::Text],
    }
}

fn physical(one: PhysicalType) -> &'static [ValueKind] {
    match one {
        PhysicalType::Height => &[ValueKind::Length],
        PhysicalType::Weight => &[ValueKind::Mass],
        PhysicalType::HairColor => &[ValueKind::HairColor],
        PhysicalType::HairStyle | PhysicalType::FacialHair => &[ValueKind::Text],
        PhysicalType::Scars | PhysicalType::Birthmarks | PhysicalType::Tattoos | PhysicalType::Piercings => {
            &[ValueKind::TextList, ValueKind::Text]
        }
        PhysicalType::Handedness => &[ValueKind::Handedness],
    }
}

fn healthcare(one: HealthcareType) -> &'static [ValueKind] {
    match one {
        HealthcareType::BloodType => &[ValueKind::BloodType],
        HealthcareType::Allergies
        | HealthcareType::ChronicConditions
        | HealthcareType::Medications
        | HealthcareType::Disabilities => &[ValueKind::TextList, ValueKind::Text, ValueKind::Json],
        HealthcareType::VisionCorrection => &[ValueKind::Text, ValueKind::Boolean, ValueKind::Json],
        HealthcareType::HearingAids => &[ValueKind::Boolean, ValueKind::Text],
        HealthcareType::MedicalRecordNumber | HealthcareType::InsuranceId => &[ValueKind::Text],
        HealthcareType::OrganDonor => &[ValueKind::Boolean],
    }
}

fn demographic(one: DemographicType) -> &'static [ValueKind] {
    match one {
        DemographicType::PreferredLanguage | DemographicType::PrimaryLanguage => &[ValueKind::Text],
        DemographicType::SpokenLanguages
        | DemographicType::Citizenship
        | DemographicType::Nationality
        | DemographicType::Ethnicity => &[ValueKind::TextList, ValueKind::Text],
        DemographicType::Religion => &[ValueKind::Text],
    }
}
