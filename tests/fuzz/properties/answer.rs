//! What JetStream answers: acknowledgements, shown messages, and the headers of a direct reading.
//!
//! The input: the header block as it comes over the wire, an empty line, the payload.

use cim_domain_person::engine::ports::Appended;
use cim_domain_person::nats::Incoming;
use cim_domain_person::nats::api::{Ack, read_ack, read_shown};
use cim_domain_person::wire::request::Header;

const STREAM: &str = "PERSON_EVENTS";

/// What holds of every answer.
pub fn hold(input: &[u8]) {
    let end = input.windows(2).position(|pair| pair == b"\n\n").unwrap_or(0);
    let (block, payload) = (&input[..end], input.get(end + 2..).unwrap_or_default());
    assert_acknowledges(payload);
    // What the leader shows is not checked for sense here: its bytes go to the reader of commits.
    let _ = read_shown(payload);
    if let Ok(message) = Incoming::parse("_INBOX.x", None, (!block.is_empty()).then_some(block), payload) {
        assert_eq!(message.payload(), payload);
        for name in ["Status", "Description", "Nats-Sequence", "Nats-Last-Sequence", "Nats-Num-Pending", ""] {
            if let Header::One(value) = message.header(name) {
                // The client joins the lines of a value by spaces, also those that are blank: it may end in one.
                assert!(!value.contains('\n'), "{name}");
            }
        }
        assert!(!format!("{message:?}").contains("_INBOX"), "it may be anybody's subject");
    }
}

/// An append counts as stored only if the answer says so itself, of our stream, with a place in it.
fn assert_acknowledges(payload: &[u8]) {
    for ours in [true, false] {
        let Ack::Ours(Appended::Stored(sequence)) = read_ack(payload, STREAM, |_| ours) else { continue };
        assert!(ours && sequence > 0);
        // Members that nobody reads are skipped without being looked at, so it may be no JSON for a stricter reader.
        let Ok(said) = serde_json::from_slice::<serde_json::Value>(payload) else { continue };
        // In place of an object the members may stand in an array, in their order: no server writes that.
        if said.is_object() {
            assert_eq!(said["stream"], STREAM);
            assert_eq!(said["seq"], sequence);
            assert!(said["error"].is_null());
        }
    }
}
