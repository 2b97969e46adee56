//! Subjects under a prefix of one token and of several.

use cim_domain_person::wire::subject::Subjects;

use crate::domain::{ANN, id};

#[test]
fn all_are_made_from_the_prefix() {
    for prefix in ["person", "person.eu", "a.b.c"] {
        let subjects = Subjects::new(prefix);
        assert_eq!(subjects.all_commands(), format!("{prefix}.commands.>"));
        assert_eq!(subjects.all_queries(), format!("{prefix}.queries.>"));
        assert_eq!(subjects.all_events(), format!("{prefix}.events.>"));
        assert_eq!(subjects.events(id(ANN)), format!("{prefix}.events.{ANN}"));
        assert_eq!(subjects.commands(id(ANN)), format!("{prefix}.commands.{ANN}"));
        assert_eq!(subjects.query("get"), format!("{prefix}.queries.get"));
        assert_eq!(subjects.query_name(&format!("{prefix}.queries.get")), Some("get"));
        assert_eq!(subjects.query_name(&format!("{prefix}.commands.get")), None);
        assert_eq!(subjects.query_name("other.queries.get"), None);
    }
}

#[test]
fn the_token_after_the_prefix_may_name_a_person() {
    let subjects = Subjects::new("person.eu");
    let named = |tail: &str| subjects.person_named_by(&format!("person.eu.commands.{tail}"));
    assert_eq!(named(ANN), Some(id(ANN)));
    assert_eq!(named(&ANN.to_uppercase()), Some(id(ANN)));
    assert_eq!(named(&format!("{ANN}.create")), Some(id(ANN)));
    assert_eq!(named(&format!("create.{ANN}")), None);
    assert_eq!(named("create"), None);
    assert_eq!(named(""), None);
    assert_eq!(named(&ANN.replace('-', "")), None);
    assert_eq!(subjects.person_named_by(&format!("person.commands.{ANN}")), None);
    assert_eq!(subjects.person_named_by(&format!("person.eu.events.{ANN}")), None);
    assert_eq!(subjects.person_named_by(ANN), None);
}
