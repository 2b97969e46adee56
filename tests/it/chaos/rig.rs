//! What the chaos happens to: one nats-server or a cluster of three, three replicas, and a proxy on each way between
//! them. Every harm that the nemesis does is a method here, and so is its mending.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::diary::Diary;
use crate::daemon::client::Client;
use crate::daemon::process::Service;
use crate::support::nats_server::NatsServer;
use crate::support::ports::free_ports;
use crate::support::proxy::Proxy;
use crate::support::{PATIENCE, eventually};

pub const REPLICAS: usize = 3;
pub const STREAM: &str = "PERSON_EVENTS";
pub const BUCKET: &str = "KV_PERSON_EVENTS_SNAPSHOTS";

/// How the nemesis and the clients sign in; only the service's password is ever wrong.
const CLIENT: &str = r#""user":"client","pass":"client","#;
const PASSWORD: &str = "right";

/// Nodes advertise this to each other, so that they find each other by their proxies alone.
const NOWHERE: &str = "127.0.0.1:9";

/// How long the nemesis waits for an answer of JetStream: what it asks may well be unanswerable just then.
const API_WAIT: Duration = Duration::from_secs(2);

/// Which servers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Single,
    Cluster,
}

pub struct Rig {
    pub diary: Diary,
    command_timeout: Duration,
    nodes: Vec<Node>,
    replicas: Vec<Replica>,
    password: &'static str,
    folder: PathBuf,
}

struct Node {
    server: NatsServer,
    is_up: bool,
    configuration: String,
    /// The ways from this node to each of the others.
    routes: Vec<(usize, Proxy)>,
}

struct Replica {
    /// Its way to each node.
    ways: Vec<Proxy>,
    service: Option<Service>,
    is_frozen: bool,
    /// It ended by itself and is to be started again.
    is_to_start: bool,
    /// What the processes wrote that are no more.
    logs: Vec<String>,
}

impl Rig {
    pub fn start(form: Form, command_timeout: Duration, diary: Diary, folder: PathBuf) -> Self {
        let nodes = match form {
            Form::Single => vec![Node::start(0, "", Vec::new())],
            Form::Cluster => cluster(),
        };
        let mut rig = Self { diary, command_timeout, nodes, replicas: Vec::new(), password: PASSWORD, folder };
        for _ in 0..REPLICAS {
            let ways = rig.nodes.iter().map(|node| Proxy::before(node.server.port())).collect();
            rig.replicas.push(Replica { ways, service: None, is_frozen: false, is_to_start: false, logs: Vec::new() });
        }
        rig.wait_for_peers();
        (0..REPLICAS).for_each(|replica| rig.launch(replica));
        rig.wait_until_serving();
        rig
    }

    /// A service that starts while a new cluster is still finding together cannot make its stream, and says so.
    fn wait_for_peers(&self) {
        let copies = self.nodes.len();
        eventually("the servers keep as many copies as there are of them", || {
            let probe = json!({"name": "PROBE", "subjects": ["probe"], "num_replicas": copies});
            self.api("STREAM.CREATE.PROBE", &probe).is_some_and(|answer| answer["error"].is_null())
        });
        assert!(self.api("STREAM.DELETE.PROBE", &Value::Null).is_some_and(|answer| answer["success"] == true));
    }

    /// Where clients connect.
    pub fn ports(&self) -> Vec<u16> {
        self.nodes.iter().map(|node| node.server.port()).collect()
    }

    // Replicas.

    fn launch(&mut self, replica: usize) {
        let ways: Vec<String> = self.replicas[replica].ways.iter().map(Proxy::url).collect();
        // Each begins with another node, as a list of servers in random order would.
        let urls: Vec<String> = (0..ways.len()).map(|at| ways[(at + replica) % ways.len()].clone()).collect();
        let timeout = format!("{}ms", self.command_timeout.as_millis());
        let copies = self.nodes.len().to_string();
        let environment = [
            ("NATS_USER", "service"),
            ("NATS_PASSWORD", PASSWORD),
            ("STREAM_REPLICAS", &copies),
            ("COMMAND_TIMEOUT", &timeout),
            ("SNAPSHOT_FREQ", "5"),
            ("LOG_LEVEL", "info"),
            ("WORKERS", "2"),
        ];
        let one = &mut self.replicas[replica];
        one.service = Some(Service::launch(&urls.join(","), &environment));
    }

    pub fn kill_replica(&mut self, replica: usize) {
        let one = &mut self.replicas[replica];
        one.is_frozen = false;
        one.is_to_start = false;
        if let Some(mut service) = one.service.take() {
            service.kill();
            one.logs.push(service.log());
            self.diary.note(format!("replica {replica} is killed"));
        }
    }

    pub fn revive_replica(&mut self, replica: usize) {
        if self.replicas[replica].service.is_none() {
            self.replicas[replica].is_to_start = false;
            self.launch(replica);
            self.diary.note(format!("replica {replica} is started"));
        }
    }

    pub fn freeze_replica(&mut self, replica: usize) {
        let one = &mut self.replicas[replica];
        if let Some(service) = &one.service {
            service.signal("STOP");
            one.is_frozen = true;
            self.diary.note(format!("replica {replica} is frozen"));
        }
    }

    pub fn thaw_replica(&mut self, replica: usize) {
        let one = &mut self.replicas[replica];
        if let Some(service) = one.service.as_ref().filter(|_| one.is_frozen) {
            service.signal("CONT");
            one.is_frozen = false;
            self.diary.note(format!("replica {replica} goes on"));
        }
    }

    /// Asks a replica to stop, waits for its end and starts it again.
    pub fn roll_replica(&mut self, replica: usize) {
        self.thaw_replica(replica);
        let Some(mut service) = self.replicas[replica].service.take() else { return };
        service.signal("TERM");
        let (status, took) = service.wait(PATIENCE);
        self.replicas[replica].logs.push(service.log());
        self.diary.note(format!("replica {replica} was asked to stop and ended with {status} after {took:.1?}"));
        // With NATS away what is in flight may have to be left, and that is what 70 says then. 77: it had ended already.
        assert!([0, 70, 77].contains(&status), "replica {replica} ended with {status}:\n{}", service.log());
        self.launch(replica);
    }

    /// What a service manager does: starts again what has ended. Only a refused sign-in is a reason to end by itself.
    pub fn supervise(&mut self) {
        for replica in 0..REPLICAS {
            let one = &mut self.replicas[replica];
            let Some(status) = one.service.as_mut().and_then(Service::end) else { continue };
            let log = one.service.take().map(|service| service.log()).unwrap_or_default();
            one.is_frozen = false;
            self.diary.note(format!("replica {replica} ended by itself: {status}"));
            assert!(is_no_surprise(status), "replica {replica} ended by itself, {status}:\n{log}");
            one.logs.push(log);
            one.is_to_start = true;
        }
        // Before the password is right again there is no use in it.
        for replica in 0..REPLICAS {
            if self.password == PASSWORD && std::mem::take(&mut self.replicas[replica].is_to_start) {
                self.launch(replica);
            }
        }
    }

    // Servers.

    pub fn kill_node(&mut self, node: usize) {
        if std::mem::replace(&mut self.nodes[node].is_up, false) {
            self.nodes[node].server.kill();
            self.diary.note(format!("server {node} is killed"));
        }
    }

    pub fn revive_node(&mut self, node: usize) {
        if !std::mem::replace(&mut self.nodes[node].is_up, true) {
            self.nodes[node].server.restart();
            self.diary.note(format!("server {node} is started"));
        }
    }

    pub fn freeze_node(&mut self, node: usize) {
        if self.nodes[node].is_up {
            self.nodes[node].server.freeze();
            self.diary.note(format!("server {node} is frozen"));
        }
    }

    pub fn thaw_node(&mut self, node: usize) {
        if self.nodes[node].is_up {
            self.nodes[node].server.thaw();
            self.diary.note(format!("server {node} goes on"));
        }
    }

    /// Nothing passes between this node and the others, until it does again; clients reach all of them.
    pub fn part(&mut self, node: usize, is_parted: bool) {
        for (from, one) in self.nodes.iter().enumerate() {
            let concerned = one.routes.iter().filter(|(to, _)| from == node || *to == node);
            concerned.for_each(|(_, way)| way.stall(is_parted));
        }
        let words = if is_parted { "is parted from the others" } else { "is with the others again" };
        self.diary.note(format!("server {node} {words}"));
    }

    /// From now on the service's password is this one; who signed in with another is thrown out.
    pub fn set_password(&mut self, is_right: bool) {
        self.password = if is_right { PASSWORD } else { "another" };
        for node in self.nodes.iter().filter(|node| node.is_up) {
            node.server.reconfigure(&with_users(&node.configuration, self.password));
        }
        self.diary.note(format!("the service's password is {}", if is_right { "right again" } else { "wrong" }));
    }

    // The ways between them.

    pub fn ways(&self, replica: usize) -> &[Proxy] {
        &self.replicas[replica].ways
    }

    // JetStream.

    /// The stream's configuration changed so.
    pub fn update_stream(&self, change: impl Fn(&Value, &mut Value)) -> bool {
        let Some(info) = self.api(&format!("STREAM.INFO.{STREAM}"), &Value::Null) else { return false };
        let mut config = info["config"].clone();
        if !config.is_object() {
            return false;
        }
        change(&info["state"], &mut config);
        let answer = self.api(&format!("STREAM.UPDATE.{STREAM}"), &config);
        answer.is_some_and(|answer| answer["error"].is_null())
    }

    /// What the stream's leader is, by its place.
    pub fn leader(&self) -> Option<usize> {
        let info = self.api(&format!("STREAM.INFO.{STREAM}"), &Value::Null)?;
        let name = info["cluster"]["leader"].as_str()?.to_owned();
        (0..self.nodes.len()).find(|node| node_name(*node) == name)
    }

    /// A call by way of whichever node answers.
    pub fn api(&self, call: &str, body: &Value) -> Option<Value> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.nodes.iter().filter(|node| node.is_up).find_map(|node| {
            let mut client = Client::try_sign_in(node.server.port(), CLIENT, API_WAIT)?;
            let answer = client.ask(&format!("$JS.API.{call}"), &[], &body, API_WAIT)?;
            Some(answer.json()).filter(Value::is_object)
        })
    }

    // The end.

    /// Mends everything, and waits until everything serves.
    pub fn heal(&mut self) {
        self.diary.note("everything is mended".to_owned());
        for node in 0..self.nodes.len() {
            self.thaw_node(node);
            self.revive_node(node);
        }
        self.nodes.iter().flat_map(|node| &node.routes).for_each(|(_, way)| way.stall(false));
        for way in self.replicas.iter().flat_map(|replica| &replica.ways) {
            mend(way);
        }
        self.set_password(true);
        let begun = Instant::now();
        while !self.update_stream(|_, config| config["max_bytes"] = json!(-1)) {
            assert!(
                begun.elapsed() < 3 * PATIENCE,
                "the stream has no leader, {:?} after all was mended",
                begun.elapsed()
            );
        }
        for replica in 0..REPLICAS {
            self.thaw_replica(replica);
            self.revive_replica(replica);
        }
        // So long after it, a replica that cannot reach the servers would have said so.
        std::thread::sleep(Duration::from_millis(1_500));
        self.wait_until_serving();
        self.diary.note("all replicas serve".to_owned());
    }

    fn wait_until_serving(&mut self) {
        let deadline = Instant::now() + 3 * PATIENCE;
        while !(0..REPLICAS).all(|replica| self.is_serving(replica)) {
            self.supervise();
            assert!(
                Instant::now() < deadline,
                "not all serve:\n{}",
                (0..REPLICAS).map(|replica| self.log(replica)).collect::<Vec<_>>().join("\n---\n")
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_serving(&self, replica: usize) -> bool {
        let Some(service) = &self.replicas[replica].service else { return false };
        let told = service.told();
        service.is_ready()
            && told
                .iter()
                .rev()
                .find(|words| words.starts_with("STATUS="))
                .is_some_and(|words| words.starts_with("STATUS=serving"))
    }

    /// Asks all replicas to stop at once; they must end cleanly.
    pub fn drain(&mut self) {
        for replica in &self.replicas {
            replica.service.as_ref().expect("it runs").signal("TERM");
        }
        for (number, replica) in self.replicas.iter_mut().enumerate() {
            let service = replica.service.as_mut().expect("it runs");
            let (status, took) = service.wait(2 * PATIENCE);
            self.diary.note(format!("replica {number} drained with {status} after {took:.1?}"));
            assert_eq!(status, 0, "{}", service.log());
        }
    }

    pub fn client(&self) -> Client {
        sign_in(self.nodes[0].server.port()).expect("the server is there")
    }

    /// Where everything is kept when something is wrong.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes down what all processes wrote, and the diary.
    pub fn keep(&self) {
        std::fs::create_dir_all(&self.folder).unwrap();
        let keep = |name: String, text: String| std::fs::write(self.folder.join(name), text).unwrap();
        (0..self.replicas.len()).for_each(|replica| keep(format!("replica-{replica}.log"), self.log(replica)));
        let nodes = self.nodes.iter().enumerate();
        nodes.for_each(|(node, one)| keep(format!("server-{node}.log"), one.server.log()));
        let lines = self.diary.lines();
        keep(
            "nemesis.txt".to_owned(),
            lines.iter().map(|(at, words)| format!("{:9.3} s  {words}\n", at.as_secs_f64())).collect(),
        );
    }

    /// All that the processes of a replica wrote.
    pub fn log(&self, replica: usize) -> String {
        let one = &self.replicas[replica];
        let now = one.service.as_ref().map(Service::log);
        one.logs.iter().cloned().chain(now).collect::<Vec<_>>().join("\n--- started anew ---\n")
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep();
            eprintln!("everything in {}", self.folder.display());
        }
    }
}

/// A client's connection; `None` while there is none to be had.
pub fn sign_in(port: u16) -> Option<Client> {
    Client::try_sign_in(port, CLIENT, Duration::from_secs(1))
}

/// Nothing is wrong with this way any more.
pub fn mend(way: &Proxy) {
    way.stall(false);
    way.lose_answers(false);
    way.lose_acknowledgements(false);
    way.delay(Duration::ZERO);
}

/// A sign-in that is refused ends the start, as promised. Nothing else does.
fn is_no_surprise(status: ExitStatus) -> bool {
    status.code() == Some(77)
}

fn node_name(node: usize) -> String {
    format!("node-{node}")
}

fn with_users(configuration: &str, password: &str) -> String {
    let users = format!("{{user: service, password: {password}}}, {{user: client, password: client}}");
    format!("{configuration}\nauthorization {{ users = [ {users} ] }}\n")
}

impl Node {
    fn start(node: usize, more: &str, routes: Vec<(usize, Proxy)>) -> Self {
        let name = node_name(node);
        let configuration = format!("server_name: {name}\njetstream {{ store_dir: \"$DIR/store\" }}\n{more}");
        let server = NatsServer::configured(&with_users(&configuration, PASSWORD));
        Self { server, is_up: true, configuration, routes }
    }
}

fn cluster() -> Vec<Node> {
    let ports = free_ports::<3>();
    let node = |node: usize| {
        let others = (0..3).filter(|other| *other != node);
        let routes: Vec<(usize, Proxy)> = others.map(|other| (other, Proxy::before(ports[other]))).collect();
        let urls: Vec<String> = routes.iter().map(|(_, way)| way.url().replace("nats://", "nats-route://")).collect();
        let listen = ports[node];
        let cluster = format!(
            "cluster {{ name: trio, listen: \"127.0.0.1:{listen}\", advertise: \"{NOWHERE}\", no_advertise: true, \
             routes: {urls:?} }}"
        );
        Node::start(node, &cluster, routes)
    };
    (0..3).map(node).collect()
}
