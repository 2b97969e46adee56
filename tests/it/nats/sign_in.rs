//! The ways of signing in, each against a server that demands it.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cim_domain_person::config::{Nats, SignIn};
use cim_domain_person::nats::{Cause, Connection, OpenError, Store};
use nkeys::KeyPair;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::settled;
use crate::support::nats_server::NatsServer;
use crate::support::{config, eventually, skip};

fn nats(url: &str, sign_in: SignIn) -> Nats {
    Nats { sign_in, ..config(url).nats }
}

#[track_caller]
fn assert_welcome(nats: &Nats) -> Store {
    let store = Store::new(std::sync::Arc::new(Connection::open(nats, "store").unwrap()));
    settled(&store);
    store
}

#[track_caller]
fn assert_refused(nats: &Nats) {
    let error = Connection::open(nats, "store").unwrap_err();
    assert!(matches!(error, OpenError::SignInRefused(_)), "{error:?}");
}

#[track_caller]
fn assert_bad_file(nats: &Nats, bad: &Path) {
    let error = Connection::open(nats, "store").unwrap_err();
    assert!(matches!(&error, OpenError::BadFile { path, .. } if path == bad), "{error:?}");
}

#[test]
fn with_a_password_of_all_characters() {
    let server = NatsServer::with(r#"authorization { user: service, password: "p@s%#: /?" }"#);
    let with = |password: &str| {
        let (user, password) = ("service".to_owned(), password.to_owned());
        nats(&server.url(), SignIn::UserPassword { user, password })
    };
    assert_welcome(&with("p@s%#: /?"));
    assert_refused(&with("wrong"));
    assert_refused(&nats(&server.url(), SignIn::Nothing));
}

#[test]
fn with_a_token() {
    let server = NatsServer::with("authorization { token: \"s3cret/t0ken\" }");
    assert_welcome(&nats(&server.url(), SignIn::Token("s3cret/t0ken".to_owned())));
    assert_refused(&nats(&server.url(), SignIn::Token("wrong".to_owned())));
}

#[test]
fn with_an_nkey() {
    let (ours, other) = (KeyPair::new_user(), KeyPair::new_user());
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, pair: &KeyPair| {
        let path = directory.path().join(name);
        std::fs::write(&path, format!("{}\n", pair.seed().unwrap())).unwrap();
        path
    };
    let server = NatsServer::with(&format!("authorization {{ users: [{{ nkey: {} }}] }}", ours.public_key()));
    assert_welcome(&nats(&server.url(), SignIn::NKey(file("ours", &ours))));
    assert_refused(&nats(&server.url(), SignIn::NKey(file("other", &other))));
    let nowhere = directory.path().join("nowhere");
    assert_bad_file(&nats(&server.url(), SignIn::NKey(nowhere.clone())), &nowhere);
}

/// A JWT as NATS signs them.
fn jwt(issuer: &KeyPair, subject: &KeyPair, name: &str, claims: Value) -> String {
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let body = json!({
        "jti": name, "iat": 1_700_000_000, "iss": issuer.public_key(), "sub": subject.public_key(), "name": name,
        "nats": claims,
    });
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(header), part(body));
    let signature = URL_SAFE_NO_PAD.encode(issuer.sign(text.as_bytes()).unwrap());
    format!("{text}.{signature}")
}

fn credentials(account: &KeyPair) -> String {
    let user = KeyPair::new_user();
    let unlimited = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
    let (jwt, seed) = (jwt(account, &user, "service", unlimited), user.seed().unwrap());
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}

/// The file is read again at each reconnect: a renewed one needs no restart.
#[test]
fn with_a_credentials_file_also_when_it_is_renewed() {
    let (operator, old, new) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
    let operator_jwt = jwt(&operator, &operator, "operator", json!({ "type": "operator", "version": 2 }));
    let account = |pair: &KeyPair| {
        let limits = json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
            "conn": -1, "leaf": -1 });
        let claims = json!({ "type": "account", "version": 2, "limits": limits });
        format!("{}: {}", pair.public_key(), jwt(&operator, pair, "account", claims))
    };
    let accounts = format!("{}\n{}", account(&old), account(&new));
    let mut server = NatsServer::configured(&format!(
        "operator: {operator_jwt}\nresolver: MEMORY\nresolver_preload: {{\n{accounts}\n}}"
    ));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("service.creds");
    std::fs::write(&path, credentials(&old)).unwrap();
    let nats = nats(&server.url(), SignIn::Credentials(path.clone()));
    let store = assert_welcome(&nats);
    // As editors and secret stores leave it.
    let whole = credentials(&old);
    for text in [whole.trim_end().to_owned(), format!("\u{feff}{}", whole.replace('\n', " \r\n"))] {
        std::fs::write(&path, text).unwrap();
        assert_welcome(&nats);
    }

    std::fs::write(&path, credentials(&KeyPair::new_account())).unwrap();
    assert_refused(&nats);
    std::fs::write(&path, credentials(&new)).unwrap();
    server.restart();
    eventually("the loss is noticed", || store.connection().health().generation >= 1);
    settled(&store);

    std::fs::write(&path, "nothing of the kind\n").unwrap();
    assert_bad_file(&nats, &path);
}

/// A wrong password after the start is no end: the client tries again.
#[test]
fn a_refusal_after_the_start_is_waited_out() {
    let mut server = NatsServer::with("authorization { token: right }");
    let store = assert_welcome(&nats(&server.url(), SignIn::Token("right".to_owned())));
    let file = server.directory().join("server.conf");
    let right = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, right.replace("right", "wrong")).unwrap();
    server.restart();
    eventually("the loss is noticed", || !store.connection().health().connected);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(!store.connection().health().connected);
    std::fs::write(&file, right).unwrap();
    server.restart();
    settled(&store);
}

/// An authority with a certificate for 127.0.0.1 and one for a client, made by `openssl`.
pub struct Certificates(TempDir);

impl Certificates {
    /// For this test; it is skipped where there is no `openssl`.
    pub fn make(test: &str) -> Option<Self> {
        if Command::new("openssl").arg("version").output().is_err() {
            skip(test, "there is no openssl to make certificates with");
            return None;
        }
        let made = Self(tempfile::tempdir().unwrap());
        made.renew();
        Some(made)
    }

    /// The same files, with everything in them made anew.
    pub fn renew(&self) {
        let authority =
            "-x509 -subj /CN=authority -keyout ca.key -out ca.pem -addext basicConstraints=critical,CA:true";
        self.request(authority);
        for (name, usage) in [("server", "serverAuth"), ("client", "clientAuth")] {
            self.request(&format!(
                "-x509 -subj /CN={name} -keyout {name}.key -out {name}.pem -CA ca.pem -CAkey ca.key \
                 -addext subjectAltName=IP:127.0.0.1 -addext extendedKeyUsage={usage} \
                 -addext basicConstraints=critical,CA:false"
            ));
        }
    }

    fn request(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        command
            .current_dir(self.0.path())
            .args("req -days 2 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256".split(' '));
        let output = command.args(arguments.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The server's certificate, as it is after it has expired.
    pub fn expire(&self) {
        let directory = self.0.path();
        let run = |arguments: &str| {
            let output = Command::new("openssl").current_dir(directory).args(arguments.split(' ')).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        std::fs::write(directory.join("san"), "subjectAltName=IP:127.0.0.1").unwrap();
        run("req -new -key server.key -subj /CN=server -out server.csr");
        run("x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days -1 -extfile san -out server.pem");
    }

    /// A server with TLS, and more inside its `tls` block.
    fn server(&self, extra: &str) -> NatsServer {
        self.server_with(extra, "")
    }

    /// The same, with more of its configuration.
    pub fn server_with(&self, extra: &str, more: &str) -> NatsServer {
        let path = |name| self.path(name).display().to_string();
        NatsServer::with(&format!(
            "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\"\n{extra} }}\n{more}",
            path("server.pem"),
            path("server.key"),
            path("ca.pem")
        ))
    }
}

#[test]
fn over_tls_with_an_authority_of_our_own() {
    let Some(certificates) = Certificates::make("over_tls_with_an_authority_of_our_own") else { return };
    let server = certificates.server("");
    let with = |url: String, ca: Option<&str>| Nats { ca: ca.map(|name| certificates.path(name)), ..config(&url).nats };
    let tls_url = server.url().replace("nats://", "tls://");
    assert_welcome(&with(tls_url.clone(), Some("ca.pem")));
    // The server demands TLS, so a plain URL gets it too, with the certificate checked all the same.
    assert_welcome(&with(server.url(), Some("ca.pem")));
    for url in [tls_url, server.url()] {
        let error = Connection::open(&with(url.clone(), None), "store").unwrap_err();
        assert!(error.cause() == Cause::Untrusted && error.to_string().contains("UnknownIssuer"), "{error:?}");
        let error = Connection::open(&with(url, Some("client.key")), "store").unwrap_err();
        assert!(matches!(&error, OpenError::BadFile { path, .. } if path.ends_with("client.key")), "{error:?}");
    }
}

#[test]
fn with_a_client_certificate() {
    let Some(certificates) = Certificates::make("with_a_client_certificate") else { return };
    let server = certificates.server("verify: true");
    let ca = Some(certificates.path("ca.pem"));
    let with = |certificate: Option<(&str, &str)>| Nats {
        ca: ca.clone(),
        client_certificate: certificate.map(|(pem, key)| (certificates.path(pem), certificates.path(key))),
        ..config(&server.url()).nats
    };
    assert_welcome(&with(Some(("client.pem", "client.key"))));
    assert_refused(&with(None));
    assert_bad_file(&with(Some(("client.pem", "nowhere.key"))), &certificates.path("nowhere.key"));
}

/// What the server says for itself does not matter when its URL demands TLS.
#[test]
fn a_tls_url_does_not_fall_back_to_plain_text() {
    let server = NatsServer::start();
    let url = server.url().replace("nats://", "tls://");
    let error = Connection::open(&config(&url).nats, "store").unwrap_err();
    assert_eq!(error.cause(), Cause::NoTls, "{error:?}");
}
