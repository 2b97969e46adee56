//! The whole process over TLS, with certificates of our own.

use super::client::Client;
use super::process::Service;
use super::{checked_history, create, somebody};
use crate::nats::sign_in::Certificates;
use crate::support::PATIENCE;

/// Clients of this test may do without TLS; the service was told to use it, both of its connections, and does.
#[test]
fn the_service_serves_over_tls_and_knows_the_server_by_its_authority() {
    let Some(certificates) = Certificates::make("the_service_serves_over_tls_and_knows_the_server_by_its_authority")
    else {
        return;
    };
    let server = certificates.server_with("verify: true", "allow_non_tls: true");
    let url = server.url().replace("nats://", "tls://");
    let path = |name: &str| certificates.path(name).display().to_string();
    let (ca, certificate, key) = (path("ca.pem"), path("client.pem"), path("client.key"));
    let environment = [("NATS_CA", ca.as_str()), ("NATS_CERT", certificate.as_str()), ("NATS_KEY", key.as_str())];
    let mut service = Service::start(&url, &environment);
    let mut client = Client::connect(server.port());
    let person = somebody();
    client.accepted(&person, &create(&person));
    assert_eq!(checked_history(&mut client).commands.len(), 1);
    service.stop();
    // Without the authority nobody vouches for the server: waiting does not mend that, so the service ends and says why.
    let mut wary = Service::launch(&url, &environment[1..]);
    assert_eq!(wary.wait(PATIENCE).0, 69, "{}", wary.log());
    assert!(!wary.is_ready());
    assert!(wary.last_line().contains("certificate is not accepted"), "{}", wary.last_line());
}
