//! Where snapshots lie, and that queries see what was just done, whoever did it.

use serde_json::{Value, json};

use super::{BUCKET, OFTEN, ask, check_shown, create, get, given, key, rename, snapshot_of, somebody};
use crate::daemon::client::Client;
use crate::daemon::process::Service;
use crate::support::nats_server::NatsServer;

#[test]
fn snapshots_lie_in_a_bucket_of_the_standard_layout() {
    let server = NatsServer::start();
    let _service = Service::start(&server.url(), &[OFTEN]);
    let mut client = Client::connect(server.port());
    let person = somebody();
    given(&mut client, &person, 25);
    let current = client.accepted(&person, &rename(&person, 26));
    client.accepted(&person, &json!((27..=34).map(|version| rename(&person, version)).collect::<Vec<_>>()));
    let snapshot = snapshot_of(&mut client, &person, 30);
    assert_eq!(snapshot.version, 34, "the version after the commit that passed 30");
    assert_eq!(snapshot.sequence, current["sequence"].as_u64().unwrap() + 1);
    assert_eq!(snapshot.body.person.name.components.given_names, ["Ada 34".into()].into());

    let info = client.api(&format!("STREAM.INFO.{BUCKET}"), &json!({ "subjects_filter": ">" }));
    let config = &info["config"];
    for (member, value) in [
        ("subjects", json!(["$KV.PERSON_EVENTS_SNAPSHOTS.>"])),
        ("max_msgs_per_subject", json!(1)),
        ("discard", json!("new")),
        ("retention", json!("limits")),
        ("storage", json!("file")),
        ("num_replicas", json!(1)),
        ("allow_rollup_hdrs", json!(true)),
        ("deny_delete", json!(true)),
        ("allow_direct", json!(true)),
    ] {
        assert_eq!(config[member], value, "{member} of {config}");
    }
    assert_eq!(config.get("deny_purge").unwrap_or(&Value::Bool(false)), &json!(false));
    assert_eq!(info["state"]["subjects"], json!({ key(&person): 1 }));
}

#[test]
fn whoever_got_a_reply_sees_its_effect_through_any_replica() {
    const PERSONS: usize = 25;
    const ROUNDS: u64 = 24;
    let server = NatsServer::start();
    let services: Vec<Service> = (0..3).map(|_| Service::start(&server.url(), &[OFTEN])).collect();
    let port = server.port();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(move || {
                let mut client = Client::connect(port);
                let persons: Vec<String> = (0..PERSONS).map(|_| somebody()).collect();
                for person in &persons {
                    client.accepted(person, &create(person));
                    check_shown(&get(&mut client, person), 1, 1);
                }
                for version in 2..ROUNDS {
                    for person in &persons {
                        let reply = client.accepted(person, &rename(person, version));
                        let shown = get(&mut client, person);
                        check_shown(&shown, version, version);
                        assert_eq!(shown["sequence"], reply["sequence"]);
                    }
                }
                for person in &persons {
                    let query = json!({ "person_id": person, "from_version": ROUNDS - 1 });
                    let newest = ask(&mut client, "history", &query);
                    assert_eq!(newest["events"].as_array().unwrap().len(), 1, "{newest}");
                    let then = ask(&mut client, "get", &json!({ "person_id": person, "at_version": 7 }));
                    check_shown(&then, ROUNDS - 1, 7);
                }
            });
        }
    });
    for mut service in services {
        service.stop();
        assert!(!service.log().contains("ERROR") && !service.log().contains("WARN"), "{}", service.log());
    }
}
