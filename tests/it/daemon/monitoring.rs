//! What people see of a running service: `$SRV`, `STATUS=`, HTTP, the file for node_exporter. The same figures everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use cim_domain_person::daemon::figures::FIGURES;
use serde_json::{Value, json};

use super::client::{Client, Command};
use super::process::Service;
use super::{create, rename, somebody};
use crate::support::nats_server::NatsServer;
use crate::support::ports::free_ports;
use crate::support::{PATIENCE, eventually, skip};

/// For the service to listen at.
pub fn free_address() -> String {
    let [port] = free_ports();
    format!("127.0.0.1:{port}")
}

/// The status and the body of an answer; `None` while nobody listens.
pub fn get(address: &str, path: &str) -> Option<(u16, String)> {
    ask(address, format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())
}

fn ask(address: &str, request: &[u8]) -> Option<(u16, String)> {
    let mut connection = TcpStream::connect(address).ok()?;
    connection.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    connection.write_all(request).ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "))?;
    assert!(request.starts_with(b"HEAD") || length == body.len().to_string(), "{head}");
    Some((status, body.to_owned()))
}

/// The samples of a text: name with labels to value.
pub fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("no number: {line}")))
    };
    lines.map(sample).collect()
}

/// A service that has done something of each kind: two accepted, one of them twice, one rejected, one query each way.
struct Busy {
    service: Service,
    client: Client,
    address: String,
    _server: NatsServer,
}

fn busy(environment: &[(&str, &str)]) -> Busy {
    let server = NatsServer::start();
    let address = free_address();
    let all: Vec<_> = environment.iter().copied().chain([("METRICS_ADDR", address.as_str())]).collect();
    let service = Service::start(&server.url(), &all);
    let mut client = Client::connect(server.port());
    let person = somebody();
    client.accepted(&person, &create(&person));
    let rename = Command::new(&person, &rename(&person, "Augusta"));
    assert_eq!(client.command(&rename).json()["duplicate"], false);
    assert_eq!(client.command(&rename).json()["duplicate"], true);
    assert_eq!(client.tell(&person, &create(&person))["error"]["code"], "already_exists");
    for asked in [person, somebody()] {
        let question = json!({ "person_id": asked }).to_string();
        client.ask("person.queries.get", &[], question.as_bytes(), PATIENCE).expect("an answer");
    }
    Busy { service, client, address, _server: server }
}

fn stats(client: &mut Client, subject: &str) -> Value {
    client.ask(subject, &[], b"", PATIENCE).unwrap_or_else(|| panic!("no answer on {subject}")).json()
}

#[test]
fn the_services_protocol_has_what_nats_micro_reads() {
    let Busy { mut client, service: _service, _server, .. } = busy(&[]);
    let ping = stats(&mut client, "$SRV.PING");
    let id = ping["id"].as_str().expect("an id").to_owned();
    for verb in ["PING", "INFO", "STATS"] {
        for subject in
            [format!("$SRV.{verb}"), format!("$SRV.{verb}.person-service"), format!("$SRV.{verb}.person-service.{id}")]
        {
            let answer = stats(&mut client, &subject);
            assert_eq!(answer["type"], format!("io.nats.micro.v1.{}_response", verb.to_lowercase()));
            assert_eq!(answer["id"], id);
        }
    }
    let other = client.ask("$SRV.STATS.person-service.somebodyelse", &[], b"", Duration::from_millis(100));
    assert!(other.is_none_or(|message| message.is_no_responders()));

    let info = stats(&mut client, "$SRV.INFO");
    semver::Version::parse(info["version"].as_str().expect("a version")).expect("a semantic version");
    assert!(info["description"].is_string() && info["metadata"].is_object());
    for endpoint in info["endpoints"].as_array().expect("endpoints") {
        for text in ["name", "subject", "queue_group"] {
            assert!(endpoint[text].is_string(), "{endpoint}");
        }
        assert!(endpoint["metadata"].is_object(), "{endpoint}");
    }

    let stats = stats(&mut client, "$SRV.STATS");
    stats["started"].as_str().expect("a time").parse::<jiff::Timestamp>().expect("RFC 3339");
    let [commands, queries] = [&stats["endpoints"][0], &stats["endpoints"][1]];
    let counts =
        |endpoint: &Value| ["name", "num_requests", "num_errors", "last_error"].map(|key| endpoint[key].clone());
    assert_eq!(counts(commands), [json!("commands"), json!(4), json!(1), json!("already_exists")]);
    assert_eq!(counts(queries), [json!("queries"), json!(2), json!(1), json!("person_not_found")]);
    for endpoint in [commands, queries] {
        let number = |key: &str| endpoint[key].as_u64().unwrap_or_else(|| panic!("{key} of {endpoint}"));
        assert_eq!(number("average_processing_time"), number("processing_time") / number("num_requests"));
        assert!(number("processing_time") > 0);
    }
}

#[test]
fn the_same_figures_stand_in_the_services_protocol_and_in_prometheus_text() {
    let Busy { mut client, address, service: _service, _server } = busy(&[]);
    let stats = stats(&mut client, "$SRV.STATS");
    let data = &stats["endpoints"][0]["data"];
    for (key, expected) in [
        ("commands_accepted", json!(3)),
        ("commands_duplicate", json!(1)),
        ("commits", json!(2)),
        ("conflicts", json!(0)),
        ("cached_persons", json!(1)),
        ("queue_commands", json!(0)),
        ("commands_in_flight", json!(0)),
        ("ready", json!(1)),
    ] {
        assert_eq!(data[key], expected, "{key} in {data:#}");
    }
    assert_eq!(data["commands_rejected"]["already_exists"], 1);
    assert_eq!(data["commands_rejected"]["invalid"], 0);
    assert_eq!(data["commands_failed"]["unavailable"], 0);
    assert_eq!(data["command_duration_seconds"]["count"], 4);
    assert!(data["command_duration_seconds"]["p99"].as_f64().is_some_and(|seconds| seconds > 0.0));
    assert!(data["stage_duration_seconds"]["append"]["count"].as_u64().is_some_and(|count| count >= 2));
    assert_eq!(stats["endpoints"][1]["data"]["queries_refused"]["person_not_found"], 1);

    let (status, text) = get(&address, "/metrics").expect("an answer");
    assert_eq!(status, 200);
    let samples = samples(&text);
    for (name, expected) in [
        ("person_service_commands_accepted_total", 3.0),
        ("person_service_commands_duplicate_total", 1.0),
        ("person_service_commands_rejected_total{code=\"already_exists\"}", 1.0),
        ("person_service_command_duration_seconds_count", 4.0),
        ("person_service_command_duration_seconds_bucket{le=\"+Inf\"}", 4.0),
        ("person_service_queries_answered_total", 1.0),
        ("person_service_nats_connected{connection=\"store\"}", 1.0),
        ("person_service_ready", 1.0),
    ] {
        assert_eq!(samples.get(name), Some(&expected), "{name} in\n{text}");
    }
    // Each member of the data is a figure of the text, and each of the text is in the data.
    let in_data: BTreeSet<String> = stats["endpoints"]
        .as_array()
        .expect("endpoints")
        .iter()
        .flat_map(|endpoint| endpoint["data"].as_object().expect("data").keys().cloned())
        .collect();
    let in_text: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE person_service_")?.split(' ').next())
        .map(|name| name.trim_end_matches("_total").to_owned())
        .collect();
    assert_eq!(in_data, in_text);
}

/// The names of our metrics in an expression, each with the labels that it asks to be equal to something.
fn asked_for(expression: &str) -> Vec<(String, Vec<String>)> {
    let mut asked = Vec::new();
    for (at, _) in expression.match_indices("person_service_") {
        let rest = &expression[at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let labels =
            rest[end..].strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(labels, _)| labels);
        let equal = labels.split(',').filter(|label| label.contains("=\"")).map(str::to_owned).collect();
        asked.push((rest[..end].to_owned(), equal));
    }
    asked
}

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn dashboard_and_alerts_ask_for_nothing_that_a_running_service_does_not_tell() {
    let Busy { address, service: _service, _server, .. } = busy(&[]);
    let (_, text) = get(&address, "/metrics").expect("an answer");
    let told = samples(&text);
    let dashboard: Value = serde_json::from_str(&file("grafana-dashboard.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut expressions: Vec<String> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().expect("targets"))
        .map(|target| target["expr"].as_str().expect("an expression").to_owned())
        .collect();
    let of_dashboard = expressions.len();
    expressions.push(dashboard["templating"].to_string());
    let rules = file("prometheus-alerts.yml");
    expressions.extend(rules.lines().filter(|line| !line.trim_start().starts_with('#')).map(str::to_owned));
    let asked: Vec<_> = expressions.iter().flat_map(|expression| asked_for(expression)).collect();
    assert!(of_dashboard > 20 && asked.len() > 40, "{of_dashboard} expressions, {} metrics", asked.len());
    for (name, labels) in &asked {
        let is_told = told.keys().any(|sample| {
            let (found, of_sample) = sample.split_once('{').unwrap_or((sample, ""));
            found == name && labels.iter().all(|label| of_sample.contains(label))
        });
        assert!(is_told, "{name} with {labels:?} is not among\n{text}");
    }
    // And the other way round: what the service tells is on the dashboard, or is not for looking at.
    let not_shown = ["uptime_seconds", "nats_server_info"];
    for figure in FIGURES.iter().filter(|figure| !not_shown.contains(&figure.name)) {
        let name = format!("person_service_{}", figure.name);
        assert!(asked.iter().any(|(asked, _)| asked.starts_with(&name)), "{name} is on no panel");
    }
}

/// Prometheus' own tool reads what it would be given. It is no part of the project: where it is not installed, this is
/// said.
#[test]
fn prometheus_reads_the_figures_and_the_alerts() {
    let tool = std::env::var_os("PROMTOOL").unwrap_or_else(|| "promtool".into());
    let promtool = |args: &[&str], input: &str| {
        let mut child = std::process::Command::new(&tool)
            .args(args)
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring"))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()?;
        child.stdin.take().expect("a pipe").write_all(input.as_bytes())?;
        child.wait_with_output()
    };
    if promtool(&["--version"], "").is_err() {
        let why = "there is no promtool, neither on the PATH nor named by PROMTOOL";
        return skip("prometheus_reads_the_figures_and_the_alerts", why);
    }
    let Busy { address, service: _service, _server, .. } = busy(&[]);
    let (_, text) = get(&address, "/metrics").expect("an answer");
    let runs: [(&[&str], &str); 3] = [
        (&["check", "metrics"], &text),
        (&["check", "rules", "prometheus-alerts.yml"], ""),
        (&["test", "rules", "prometheus-alerts.test.yml"], ""),
    ];
    for (args, input) in runs {
        let output = promtool(args, input).expect("it runs");
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(output.status.success(), "{args:?}: {said}");
    }
}

#[test]
fn the_status_line_and_the_last_report_have_the_same_figures() {
    let Busy { mut service, _server, .. } = busy(&[]);
    eventually("the status line counts", || {
        let told = service.told();
        told.iter()
            .any(|line| line.starts_with("STATUS=serving: ") && line.contains("accepted 3, rejected 1, failed 0"))
    });
    service.stop();
    let log = service.log();
    let report = log.lines().rfind(|line| line.contains("commands/s, accepted ")).expect("a last report");
    for part in
        ["accepted 3, duplicates 1, rejected (already_exists 1), dropped 0", "commits 2, conflicts 0", "queries 1"]
    {
        assert!(report.contains(part), "{part} in {report}");
    }
    for part in ["command ms p50 ", "append p50 ", "query ms p50 "] {
        assert!(report.contains(part), "{part} in {report}");
    }
}

#[test]
fn probes_say_alive_from_the_start_and_ready_only_while_a_command_would_be_answered() {
    let mut server = NatsServer::start();
    let url = server.url();
    server.kill();
    let address = free_address();
    let mut service = Service::launch(&url, &[("METRICS_ADDR", &address)]);
    eventually("somebody listens", || get(&address, "/healthz").is_some());
    assert_eq!(get(&address, "/healthz"), Some((200, "alive\n".to_owned())));
    eventually("what is waited for is said", || {
        get(&address, "/readyz").is_some_and(|(status, body)| {
            status == 503 && body.starts_with("starting: waiting for NATS at") && body.contains("refused")
        })
    });
    let before = samples(&get(&address, "/metrics").expect("an answer").1);
    assert_eq!(before.get("person_service_ready"), Some(&0.0));

    server.restart();
    service.wait_for("READY=1");
    eventually("ready", || get(&address, "/readyz") == Some((200, "ready\n".to_owned())));

    server.kill();
    eventually("not ready", || {
        get(&address, "/readyz").is_some_and(|(status, body)| status == 503 && body.starts_with("NATS is away at"))
    });
    assert_eq!(get(&address, "/healthz").map(|(status, _)| status), Some(200), "a restart would not bring NATS back");
    let away = samples(&get(&address, "/metrics").expect("an answer").1);
    assert_eq!(away.get("person_service_nats_connected{connection=\"store\"}"), Some(&0.0));
    assert_eq!(away.get("person_service_nats_connections_lost_total{connection=\"store\"}"), Some(&1.0));
}

#[test]
fn whoever_asks_badly_or_not_at_all_keeps_nobody_else_from_asking() {
    let Busy { address, service: _service, _server, .. } = busy(&[]);
    assert_eq!(get(&address, "/nothing").map(|(status, _)| status), Some(404));
    assert_eq!(ask(&address, b"POST /metrics HTTP/1.1\r\n\r\n").map(|(status, _)| status), Some(405));
    assert_eq!(ask(&address, b"HEAD /metrics HTTP/1.1\r\n\r\n"), Some((200, String::new())));
    assert_eq!(ask(&address, b"\x16\x03\x01\r\n\r\n").map(|(status, _)| status), Some(400));
}

/// Two sockets that were opened and said nothing had both threads to themselves, two seconds at a time, and a probe waited
/// behind them; whoever opened one after the other starved it for good, and the service was restarted as dead.
#[test]
fn idle_sockets_keep_no_probe_waiting() {
    let Busy { address, service: _service, _server, .. } = busy(&[]);
    let is_alive = || get(&address, "/healthz").is_some_and(|(status, _)| status == 200);
    let idle = |count: usize| (0..count).map(|_| TcpStream::connect(&address).expect("it listens")).collect::<Vec<_>>();
    let is_open = |mut socket: &TcpStream| {
        socket.set_nonblocking(true).expect("it can be");
        socket.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    };
    // They are let go in the end, so that on a busy machine it may take some tries.
    eventually("a probe is answered while idle sockets stay open", || {
        let idle = idle(8);
        is_alive() && idle.iter().all(is_open)
    });
    // Many more than there is room for: the oldest make room.
    let many = idle(300);
    assert!(is_alive());
    eventually("idle sockets are let go", || !many.iter().any(is_open));
    // One that takes no answer holds nobody up either.
    let deaf: Vec<TcpStream> = idle(40);
    deaf.iter().for_each(|mut socket| drop(socket.write_all(b"GET /metrics HTTP/1.1\r\n\r\n")));
    assert!(is_alive());
}

#[test]
fn the_file_is_replaced_as_a_whole_labelled_by_its_name_and_taken_away_at_the_end() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().expect("a folder");
    let file = directory.path().join("person-1.prom");
    let server = NatsServer::start();
    let mut service = Service::start(&server.url(), &[("METRICS_FILE", file.to_str().expect("UTF-8"))]);
    let text = std::fs::read_to_string(&file).expect("it is there before the service is ready");
    assert!(text.contains("person_service_ready{replica=\"person-1\"} "), "{text}");
    assert!(samples(&text).keys().all(|name| name.contains("replica=\"person-1\"")), "{text}");
    assert_eq!(std::fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o644);
    service.stop();
    let left: Vec<_> = std::fs::read_dir(directory.path()).expect("the folder").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_place_for_metrics_that_cannot_be_had_ends_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    let cases = [
        (
            "METRICS_FILE",
            "/nowhere/at/all/person.prom",
            78,
            "METRICS_FILE (--metrics-file) is \"/nowhere/at/all/person.prom\", which cannot be written (",
        ),
        (
            "METRICS_FILE",
            "/tmp/person.txt",
            78,
            "METRICS_FILE (--metrics-file) is \"/tmp/person.txt\"; allowed: a file whose name ends in .prom",
        ),
        (
            "METRICS_ADDR",
            "localhost:9464",
            78,
            "METRICS_ADDR (--metrics-addr) is \"localhost:9464\"; allowed: an IP address and a port",
        ),
        ("METRICS_ADDR", &taken, 69, "cannot be listened on: Address already in use"),
    ];
    for (option, value, status, words) in cases {
        let mut service = Service::launch("nats://127.0.0.1:1", &[(option, value)]);
        assert_eq!(service.wait(PATIENCE).0, status, "{option}={value}");
        assert!(service.last_line().contains(words), "{}", service.last_line());
    }
    assert!(!Path::new("/tmp/person.txt").exists());
}
