//! The stream goes away, or another one takes its place, under a service that runs.

use serde_json::{Value, json};

use super::client::{Client, Command};
use super::process::Service;
use super::{STREAM, create, rename, somebody};
use crate::support::eventually;
use crate::support::nats_server::NatsServer;

/// What a client hears while it is gone, at once; and that what was known of it is not believed of the next one: the
/// service had answered "already exists" for good, for everybody whom it had in memory.
#[test]
fn a_stream_that_is_deleted_and_made_anew() {
    let server = NatsServer::start();
    let service = Service::start(&server.url(), &[]);
    let mut client = Client::connect(server.port());
    let person = somebody();
    client.accepted(&person, &create(&person));
    let config = client.api(&format!("STREAM.INFO.{STREAM}"), &Value::Null)["config"].clone();
    let mut failed = Value::Null;
    // The service may notice first: then nobody takes the command.
    eventually("a command comes before the service has noticed", || {
        assert_eq!(client.api(&format!("STREAM.DELETE.{STREAM}"), &Value::Null)["success"], true);
        failed = client.tell(&person, &rename(&person, "Grace"));
        if failed.is_null() {
            assert!(client.api(&format!("STREAM.CREATE.{STREAM}"), &config)["error"].is_null());
            let again = Command::new(&person, &create(&person));
            eventually("it serves again", || client.command(&again).json()["version"] == 1);
        }
        !failed.is_null()
    });
    assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &json!("unavailable")), "{failed}");
    service.wait_for_log("the stream cannot be looked at: stream not found");

    assert!(client.api(&format!("STREAM.CREATE.{STREAM}"), &config)["error"].is_null());
    service.wait_for_log("the stream is not the one that it was");
    let again = Command::new(&person, &create(&person));
    eventually("the person is created in the new stream", || client.command(&again).json()["version"] == 1);
    client.accepted(&person, &rename(&person, "Grace"));
}

/// The service makes what is missing when it starts, and only then: a stream that vanished is not quietly replaced.
#[test]
fn a_stream_that_is_gone_is_made_by_the_next_start() {
    let server = NatsServer::start();
    let mut service = Service::start(&server.url(), &[]);
    let mut client = Client::connect(server.port());
    assert_eq!(client.api(&format!("STREAM.DELETE.{STREAM}"), &Value::Null)["success"], true);
    service.wait_for_log("the stream cannot be looked at: stream not found");
    assert_eq!(client.api(&format!("STREAM.INFO.{STREAM}"), &Value::Null)["error"]["err_code"], 10059);
    service.stop();
    let _service = Service::start(&server.url(), &[]);
    let person = somebody();
    client.accepted(&person, &create(&person));
}
