//! No personal data in the log, at any level.

use std::time::Duration;

use serde_json::json;

use super::client::{Client, Command};
use super::process::Service;
use super::{name, somebody};
use crate::support::nats_server::NatsServer;
use crate::support::proxy::Proxy;

/// Stands in every value that a person could have sent.
const MARK: &str = "Xanthippe";

#[test]
fn nothing_of_a_person_reaches_the_log() {
    let server = NatsServer::start();
    let proxy = Proxy::before(server.port());
    let mut service = Service::start(&proxy.url(), &[("LOG_LEVEL", "trace"), ("SNAPSHOT_FREQ", "1")]);
    let mut client = Client::connect(server.port());
    let person = somebody();
    let marked = |extra: &str| format!("{MARK}{extra}");
    let bodies = [
        json!({"CreatePerson": {"person_id": person, "name": name(MARK, &marked("s")), "source": marked("-office")}}),
        json!({"UpdateName": {"person_id": person, "name": name(MARK, " "), "reason": MARK}}),
        json!({"UpdateName": {"person_id": person, "name": name(MARK, "x"), "reason": MARK}}),
        json!({"RecordAttribute": {"person_id": person, "attribute": {
            "attribute_type": {"Identifying": "NationalId"}, "value": {"Text": MARK},
            "provenance": {"source": {"Imported": {"system": MARK}}, "confidence": "Certain", "recorded_by": MARK}}}}),
        json!({"RecordAttribute": {"person_id": person, "attribute": {
            "attribute_type": {"Custom": {"organization": MARK, "attribute_name": MARK, "category": MARK}},
            "value": {"Integer": MARK}, "provenance": {"source": "Measured", "confidence": "Certain"}}}}),
        json!({"SetBirthDate": {"person_id": person, "birth_date": MARK}}),
        json!({"DeactivatePerson": {"person_id": person, "reason": MARK}}),
        json!({"ReactivatePerson": {"person_id": person, "reason": MARK}}),
        json!({"ReactivatePerson": {"person_id": person, "reason": MARK}}),
        json!({ MARK: {"person_id": person} }),
        json!({"ArchivePerson": {"person_id": person, "reason": MARK, MARK: MARK}}),
        json!(MARK),
    ];
    for (number, body) in bodies.iter().enumerate() {
        let command = Command::new(&person, body).header("Actor", MARK).header("Correlation-Id", MARK);
        client.command(&command);
        // Without anybody who waits for it a refusal is logged.
        let headers = [("Nats-Msg-Id".to_owned(), format!("{MARK}-{number}")), ("Actor".to_owned(), MARK.to_owned())];
        client.publish(&format!("person.commands.{MARK}"), "", &headers, body.to_string().as_bytes());
        client.publish(&format!("person.commands.{person}"), MARK, &headers, body.to_string().as_bytes());
        std::thread::sleep(Duration::from_millis(100));
    }
    // Of what breaks connections neither.
    let poison = format!("NATS/1.0\r\n{MARK}\r\n\r\n");
    let line = format!("HPUB person.commands.{MARK} {} {}\r\n{poison}\r\n", poison.len(), poison.len());
    client.send(line.as_bytes());
    client.publish(&format!("person.commands.{MARK}\u{3000}x"), "", &[], MARK.as_bytes());
    std::thread::sleep(Duration::from_millis(300));
    proxy.cut();
    std::thread::sleep(Duration::from_millis(300));
    service.stop();
    let log = service.log();
    assert!(log.lines().count() > 5, "{log}");
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(MARK)).collect();
    assert!(lines.is_empty(), "{lines:#?}");
    assert!(!service.told().join("\n").contains(MARK) && !service.stdout().contains(MARK));
}
