//! The table of attribute types: the document and the code say the same.

use cim_domain_person::domain::{AttributeType, ValueKind};

const DOCUMENT: &str = include_str!("../../../docs/attributes.md");

/// The cells of the table rows under a heading, without the head and the rule.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let section = DOCUMENT.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

#[test]
fn the_document_names_for_each_type_the_kinds_that_the_code_takes() {
    let coded = AttributeType::all_known().map(|of| {
        let kinds: Vec<_> = of.value_kinds().iter().map(|kind| kind.as_str()).collect();
        let (group, name) = of.to_string().split_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        vec![group, name, kinds.join(", ")]
    });
    assert_eq!(rows("Which type takes"), coded.collect::<Vec<_>>());
}

#[test]
fn the_document_describes_each_kind_of_value() {
    let kinds: Vec<_> = rows("Kinds of value").iter().map(|row| row[0]).collect();
    assert_eq!(kinds, ValueKind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>());
}

#[test]
fn a_custom_type_takes_every_kind() {
    let custom = AttributeType::Custom {
        organization: "Acme".to_owned(),
        attribute_name: "badge".to_owned(),
        category: "access".to_owned(),
    };
    assert_eq!(custom.value_kinds(), ValueKind::ALL);
}
