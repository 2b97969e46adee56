//! The servers, and how we are connected to one of them.

use std::collections::BTreeSet;

use semver::Version;
use serde_json::Value;

use super::Place;
use super::report::{Report, Verdict};
use crate::cli::shown::{at, text};
use crate::config::{Config, SignIn};
use crate::nats::{Cause, Obstacle, SERVER_MIN, greetings};
use crate::wire::commit::COMMIT_BYTES_MAX;

/// Older ones, from [`SERVER_MIN`] on, work, and have had fewer of their faults found.
const VERSION_ADVISED: (u64, u64) = (2, 14);

/// Servers beyond those that are configured that are looked at.
const OTHERS_MAX: usize = 32;

/// The length of a server's id, and of what is shown of it.
const ID_BYTES: usize = 56;
const SHORT_BYTES: usize = 8;

/// Looks at every server that is configured, and at those that they tell of.
pub fn servers(config: &Config, report: &mut Report) -> Vec<Value> {
    let configured = greetings(&config.nats.urls);
    let answered = configured.iter().any(|(_, said)| said.is_ok());
    let mut found: Vec<Value> = Vec::new();
    for (url, said) in configured {
        match said {
            Ok(info) => {
                introduce(&url, &info, report);
                found.push(info);
            }
            // The others do its work; without any it does not matter which of them is away.
            Err(why) => {
                let verdict = if answered { Verdict::Warning } else { Verdict::Wrong };
                report.add(verdict, "server", format!("{url} does not answer: {why}"));
            }
        }
    }
    for (url, said) in greetings(&others(&found)) {
        match said {
            Ok(info) if found.iter().any(|known| at(known, "server_id") == at(&info, "server_id")) => {}
            Ok(info) => {
                introduce(&url, &info, report);
                found.push(info);
            }
            Err(why) => {
                report.note("server", format!("{url}, which others tell of, cannot be reached from here: {why}"));
            }
        }
    }
    let versions: BTreeSet<String> = found.iter().map(|info| text(at(info, "version"))).collect();
    if versions.len() > 1 {
        let versions: Vec<String> = versions.into_iter().collect();
        report.note("server", format!("the servers are of different versions: {}", versions.join(", ")));
    }
    found
}

fn others(found: &[Value]) -> Vec<String> {
    let known: BTreeSet<String> =
        found.iter().map(|info| format!("{}:{}", text(at(info, "host")), at(info, "port"))).collect();
    let told = found.iter().filter_map(|info| at(info, "connect_urls").as_array()).flatten().filter_map(Value::as_str);
    let told: BTreeSet<&str> = told.filter(|address| !known.contains(*address)).collect();
    told.into_iter().take(OTHERS_MAX).map(|address| format!("nats://{address}")).collect()
}

/// Whether it is one server with JetStream of its own, and of no cluster.
pub fn is_one_alone(servers: &[Value]) -> bool {
    matches!(servers, [info] if at(info, "jetstream") == true && at(info, "cluster").is_null())
}

/// One server: which it is, and whether it is new enough.
fn introduce(url: &str, info: &Value, report: &mut Report) {
    let (name, version) = (short(&text(at(info, "server_name"))), text(at(info, "version")));
    let cluster = match text(at(info, "cluster")) {
        cluster if cluster.is_empty() => "no cluster".to_owned(),
        cluster => format!("cluster {cluster}"),
    };
    let says = format!("{url} is {name}, nats-server {version}, {cluster}");
    let parsed = Version::parse(&version).map(|version| (version.major, version.minor)).unwrap_or_default();
    if parsed < (SERVER_MIN.major, SERVER_MIN.minor) {
        let says = format!("{says}, which is too old: {SERVER_MIN} or newer is needed");
        report.obstacle("server", &Obstacle::new(Cause::ServerTooOld, says));
    } else if parsed < VERSION_ADVISED {
        let (major, minor) = VERSION_ADVISED;
        report.note("server", says).advise(format!("new enough; {major}.{minor} or newer is advised"));
    } else {
        report.ok("server", says);
    }
    if at(info, "jetstream") != true {
        report.note("server", format!("{name} has no JetStream itself; others of its cluster or its hub may"));
    }
    if at(info, "ldm") == true {
        report.warning("server", format!("{name} is about to stop (lame duck mode)"));
    }
}

/// A server without a name of its own is called by its id, of which the beginning is enough.
pub fn short(name: &str) -> String {
    match name.get(..SHORT_BYTES) {
        Some(begin) if name.len() >= ID_BYTES => format!("{begin}..."),
        _ => name.to_owned(),
    }
}

/// Who we are to the servers, and who can listen.
pub fn sign_in(place: &Place<'_>, servers: &[Value], report: &mut Report) {
    let nats = &place.config.nats;
    let way = match &nats.sign_in {
        SignIn::Nothing => None,
        SignIn::Credentials(path) => Some(format!("credentials file {}", path.display())),
        SignIn::NKey(path) => Some(format!("nkey file {}", path.display())),
        SignIn::UserPassword { user, .. } => Some(format!("user {user} with a password")),
        SignIn::Token(_) => Some("a token".to_owned()),
    };
    let certificate = nats.client_certificate.as_ref().map(|(path, _)| format!("certificate {}", path.display()));
    let ways: Vec<String> = way.into_iter().chain(certificate).collect();
    if ways.is_empty() {
        report.note("sign-in", "none: the server lets everybody in who reaches it");
    } else {
        report.ok("sign-in", ways.join(", "));
    }
    let demanded = servers.iter().any(|info| at(info, "tls_required") == true);
    let local = |url: &String| ["//localhost", "//127.", "//[::1]"].iter().any(|host| url.contains(host));
    if demanded || nats.urls.iter().all(|url| url.starts_with("tls://")) {
        report.ok("tls", "what goes over the connection is encrypted");
    } else if nats.urls.iter().all(local) {
        report.note("tls", "none, on this machine alone");
    } else if matches!(nats.sign_in, SignIn::UserPassword { .. } | SignIn::Token(_)) {
        report
            .warning("tls", "none: the password or token and all personal data can be read on the way")
            .advise("use tls:// addresses, or credentials or an nkey, which are not sent");
    } else {
        report.note("tls", "none: personal data can be read on the way").advise("use tls:// addresses");
    }
}

/// What the server takes, and where replies may go.
pub fn limits(place: &Place<'_>, report: &mut Report) {
    let (message, commit) = place.examiner.bytes_max();
    let says = format!("max_payload is {message} bytes");
    if commit < COMMIT_BYTES_MAX {
        let says = format!("{says}: a commit may have {commit} bytes, less than the {COMMIT_BYTES_MAX} that it could");
        report.warning("max_payload", says).advise("set max_payload to 1MB, its default, on all servers");
    } else {
        report.ok("max_payload", format!("{says}, enough for the largest commit"));
    }
    let patterns = place.config.reply_subjects.join(", ");
    report.ok("replies", format!("requests are answered on {patterns}; others are dropped"));
}
