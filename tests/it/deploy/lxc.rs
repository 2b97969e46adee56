//! Real systemd in real LXC: two replicas as an administrator installs them, and a nats-server beyond a veth pair.
//!
//! The first container is unprivileged, as Proxmox makes them, where LXC can do that; the second is privileged. Removal and the
//! Debian package are the second one's: in the first one the system's own files belong to nobody.
//!
//! The script `tests/lxc` makes the containers and starts this test again, alone, in the network namespace where the server
//! is to be. One boot serves all: what comes first leaves the containers as the next one expects them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::package::debian_package;
use super::{file, output_of, text};
use crate::daemon::client::{self, Client};
use crate::daemon::flood::{Flood, Flooded};
use crate::daemon::{create, somebody};
use crate::support::nats_server::NatsServer;
use crate::support::skip;

/// Folders that most services can write to, or that root can.
const READ_ONLY: [&str; 14] = [
    "",
    "/etc",
    "/etc/cim-domain-person",
    "/usr/local/bin",
    "/var",
    "/var/lib",
    "/var/tmp",
    "/tmp",
    "/run",
    "/run/lock",
    "/srv",
    "/root",
    "/home",
    "/dev/shm",
];
/// Mounts that are no place for files.
const KERNELS_OWN: [&str; 2] = ["/proc", "/dev/pts"];
const CHILD: &str = "PERSON_SERVICE_TEST_IN_LXC";
const UNIT: &str = "cim-domain-person";
/// What `tests/lxc` ends with where containers cannot be had.
const CANNOT: i32 = 77;
/// For what takes a manager a few seconds by its settings, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn two_replicas_under_systemd() {
    if std::env::var_os(CHILD).is_some() {
        return in_the_containers();
    }
    let this = std::env::current_exe().expect("this test");
    let command = Command::new(file("tests/lxc"))
        .args(["2", env!("CARGO_BIN_EXE_person-service")])
        .arg(this)
        .args(["--exact", "deploy::lxc::two_replicas_under_systemd", "--nocapture"])
        .env(CHILD, "1")
        .output();
    let output = match command {
        Ok(output) => output,
        Err(error) => return skip("two_replicas_under_systemd", &format!("tests/lxc does not run: {error}")),
    };
    let said = text(&output);
    if output.status.code() == Some(CANNOT) {
        return skip("two_replicas_under_systemd", said.lines().last().unwrap_or_default());
    }
    println!("{said}");
    assert!(output.status.success(), "{}", output.status);
}

fn in_the_containers() {
    let begun = Instant::now();
    let (one, two) = (Container::new(1), Container::new(2));
    let done = |what: &str| println!("{:5.1} s  {what}", begun.elapsed().as_secs_f64());

    for replica in [&one, &two] {
        replica.waits_for_nats();
    }
    done("booted while NATS is away: activating, and the status says for whom it waits");
    let server = NatsServer::configured("jetstream { store_dir: \"$DIR/store\" }\nlisten: \"0.0.0.0:4222\"");
    let mut client = Client::connect(server.port());
    for replica in [&one, &two] {
        replica.until("it is active", || replica.show("ActiveState") == "active");
        // Type=notify: systemd says so after READY=1 and not before.
        replica.until("it serves", || replica.show("StatusText").starts_with("serving"));
        let person = somebody();
        client.accepted(&person, &create(&person));
    }
    done("NATS is there: both active, and commands are answered over the veth pairs");
    one.filters_the_journal();
    done("the journal filters by priority");
    has_fields_in_the_journal(&[&one, &two], &client);
    done("a refusal that nobody waits for is found in the journal by its code and its command");
    one.is_in_a_sandbox();
    two.is_in_a_sandbox();
    if one.unprivileged {
        done("the first of them in a user namespace, as Proxmox makes its containers");
    }
    done("the sandbox: nothing is writable, no capabilities, no new privileges, no files of others");
    one.reloads_the_log_level();
    done("reload: the log level of the environment file");
    one.survives_a_cut();
    done("network cut: still active, the status says NATS is away; mended: serving");
    two.stops_while_nats_is_away();
    done("stopped while NATS is away, serving and starting: exit 0, not killed");
    one.is_killed_and_comes_back();
    done("kill -9: restarted");
    one.hangs_and_comes_back();
    done("SIGSTOP: the watchdog ends it, restarted");
    one.reads_its_credentials();
    done("credentials: the start fails without the file and works with it; only the service reads it");
    one.writes_its_figures();
    done("drop-ins of the documentation: the file for node_exporter, written and taken away");
    two.serves_its_figures();
    done("drop-ins of the documentation: figures and probes over HTTP, to those who are let in");
    one.is_not_restarted_in_vain();
    done("bad configuration: failed with 78, the journal says what is wrong, no restarts");
    one.has_several_replicas();
    done("two more replicas in the same container, as instances with files of their own");

    let flooded = flood_while(&mut client, 6_000, || one.start("stop"));
    flooded.all_accepted();
    assert!(flooded.failures.is_empty(), "{:?}", flooded.failures);
    one.has_drained();
    done("two replicas under load, one is stopped: 6000 commands sent once each, 6000 accepted");
    let flooded = flood_while(&mut client, 4_000, || two.start("stop"));
    assert_eq!(flooded.unanswered(), 0, "what was taken is answered");
    let accepted = flooded.answers.iter().flatten().filter(|answer| answer["status"] == "accepted").count();
    assert!((1..4_000).contains(&accepted), "{accepted} of 4000 before the end of the last replica");
    two.has_drained();
    done("the last replica is stopped under load: every command taken is answered, the others find nobody");
    two.removes_it();
    done("removed by the recipe");
    match debian_package() {
        Ok((_folder, package)) => {
            two.takes_the_package(&package, &mut client);
            done("Debian package: installed, configured, started, installed again, removed, purged");
        }
        Err(why) => skip("the Debian package", &why),
    }
}

/// Whichever of them got the command.
fn has_fields_in_the_journal(replicas: &[&Container], client: &Client) {
    let (person, id) = (somebody(), somebody());
    let headers = [("Nats-Msg-Id".to_owned(), id.clone())];
    client.publish(&format!("person.commands.{person}"), "", &headers, b"{}");
    let fields = ["ERROR_CODE=malformed".to_owned(), format!("COMMAND_ID={id}")];
    let deadline = Instant::now() + PATIENCE;
    while !replicas.iter().any(|replica| !replica.journal(&[&fields[0], &fields[1]]).is_empty()) {
        assert!(Instant::now() < deadline, "{fields:?}: {}", replicas[0].journal(&["-n", "20"]));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Sends commands once each; after a third of them, something happens at the side.
fn flood_while(client: &mut Client, count: usize, happens: impl FnOnce() + Send) -> Flooded {
    let persons: Vec<String> = (0..count).map(|_| somebody()).collect();
    let commands: Vec<_> = persons.iter().map(|person| client::Command::new(person, &create(person))).collect();
    let (now, told) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || told.recv().map(|()| happens()));
        client.flood(&commands, Flood::careless(64), |done| {
            if done == count / 3 {
                now.send(()).expect("somebody waits for it");
            }
        })
    })
}

/// `ip`, in the namespace of the server and of this test.
#[track_caller]
fn ip(arguments: &[&str]) {
    let done = output_of("ip", arguments).expect("ip");
    assert!(done.status.success(), "{arguments:?}: {}", text(&done));
}

/// The answer to an HTTP request, its head included.
fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: replica\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A container, by the process id of its init.
struct Container {
    number: u32,
    init: String,
    unprivileged: bool,
}

impl Container {
    fn new(number: u32) -> Self {
        let init = std::env::var(format!("LXC_INIT_{number}")).expect("tests/lxc sets it");
        let users = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/user")).expect("a namespace");
        let unprivileged = users(&init) != users("self");
        Self { number, init, unprivileged }
    }

    /// Runs a command in it, and says whether it succeeded and what it said.
    fn try_run(&self, words: &[&str]) -> (bool, String) {
        let enter = ["-t", &self.init, "-m", "-u", "-i", "-n", "-p", "-C"];
        // As the container's own root.
        let users: &[&str] = if self.unprivileged { &["-U"] } else { &[] };
        let output = output_of("nsenter", &[&enter[..], users, &["--"], words].concat()).expect("nsenter");
        (output.status.success(), text(&output).trim_end().to_owned())
    }

    #[track_caller]
    fn run(&self, words: &[&str]) -> String {
        let (success, said) = self.try_run(words);
        assert!(success, "{words:?} in container {}: {said}\n{}", self.number, self.journal(&["-n", "40"]));
        said
    }

    #[track_caller]
    fn shell(&self, script: &str) -> String {
        self.run(&["sh", "-ec", script])
    }

    /// `systemctl VERB` for the unit.
    #[track_caller]
    fn start(&self, verb: &str) {
        self.run(&["systemctl", verb, UNIT]);
    }

    fn show(&self, property: &str) -> String {
        self.try_run(&["systemctl", "show", "--value", "-p", property, UNIT]).1
    }

    fn journal(&self, arguments: &[&str]) -> String {
        self.try_run(&[&["journalctl", "--no-pager", "-q", "-o", "cat", "-u", UNIT], arguments].concat()).1
    }

    /// Waits until the unit's journal has these words: it takes them in a moment later.
    #[track_caller]
    fn logs(&self, arguments: &[&str], words: &str) {
        self.until(words, || self.journal(arguments).contains(words));
    }

    #[track_caller]
    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            let state = || self.try_run(&["systemctl", "--no-pager", "status", UNIT]).1;
            assert!(Instant::now() < deadline, "container {}, did not come about: {what}\n{}", self.number, state());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    #[track_caller]
    fn serves(&self) {
        self.until("it is active and serves", || {
            self.show("ActiveState") == "active" && self.show("StatusText").starts_with("serving")
        });
        // The sandbox lets it reach the journal itself, so that there are fields to search by.
        let fields = ["_TRANSPORT=journal", "SYSLOG_IDENTIFIER=person-service", "TARGET=cim_domain_person::daemon"];
        self.until("the journal has fields", || !self.journal(&fields).is_empty());
    }

    fn waits_for_nats(&self) {
        let waiting = format!("waiting for NATS at nats://10.99.{}.1:4222", self.number);
        self.until("it waits for NATS", || self.show("StatusText").starts_with(&waiting));
        assert_eq!(self.show("ActiveState"), "activating");
        self.logs(&["-p", "warning"], &waiting);
    }

    fn filters_the_journal(&self) {
        let serving = "serving person.commands.>";
        self.logs(&["-p", "info"], serving);
        let (warnings, all) = (self.journal(&["-p", "warning"]), self.journal(&["-p", "info"]));
        assert!(warnings.contains("waiting for NATS") && !warnings.contains(serving), "{warnings}");
        assert!(!all.contains("<6>") && !all.contains("<4>"), "{all}");
    }

    fn is_in_a_sandbox(&self) {
        let process = self.show("MainPID");
        let status = self.shell(&format!("cat /proc/{process}/status"));
        let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(value(set).map(|set| u64::from_str_radix(set, 16)), Some(Ok(0)), "{set}");
        }
        assert_eq!((value("NoNewPrivs:"), value("Seccomp:")), (Some("1"), Some("2")));
        assert!(value("Uid:").is_some_and(|ids| !ids.split_whitespace().any(|id| id == "0")), "{status}");

        // In its view of the files not even root can write.
        let inside = |script: &str| self.try_run(&["nsenter", "-t", &process, "-m", "--", "sh", "-c", script]);
        for folder in READ_ONLY {
            let (written, said) = inside(&format!("touch {folder}/probe"));
            assert!(!written && said.contains("Read-only file system"), "{folder}: {said}");
        }
        // Of several mounts on one folder the last one is what a process sees.
        let mounts = format!(
            "awk '{{ all[$2] = $4 }} END {{ for (m in all) if (all[m] ~ /^rw/) print m }}' /proc/{process}/mounts"
        );
        let mounts = self.shell(&mounts);
        // In an unprivileged container /dev/null and its kin are mounts of their own, which hold no files.
        let holds_files = |mount: &&str| !KERNELS_OWN.contains(mount) && !inside(&format!("test -c {mount}")).0;
        let writable: Vec<&str> = mounts.lines().filter(holds_files).collect();
        assert_eq!(writable, Vec::<&str>::new(), "no file system is writable");
        assert_eq!(inside("ls -A /root /home").1, "/home:\n\n/root:");
        let (_, devices) = inside("ls /dev");
        assert!(!devices.contains("kmsg") && !devices.contains("mem\n"), "{devices}");
    }

    fn reloads_the_log_level(&self) {
        self.shell("echo LOG_LEVEL=debug >>/etc/cim-domain-person/environment");
        self.start("reload");
        self.logs(&[], "LOG_LEVEL is now debug, it was info");
        self.shell("sed -i /LOG_LEVEL=debug/d /etc/cim-domain-person/environment");
        self.start("reload");
        self.logs(&[], "LOG_LEVEL is now info, it was debug");
    }

    /// The other end of its veth pair, which is in this namespace.
    #[track_caller]
    fn link(&self, state: &str) {
        ip(&["link", "set", &format!("nats{}", self.number), state]);
    }

    /// Stopped while it serves, and stopped while it waits for its start.
    fn stops_while_nats_is_away(&self) {
        let ends_well = || {
            self.start("stop");
            let states = ["ActiveState", "Result", "ExecMainStatus"].map(|property| self.show(property));
            assert_eq!(states, ["inactive", "success", "0"], "{}", self.journal(&["-n", "40"]));
        };
        self.link("down");
        self.until("the status says so", || self.show("StatusText").starts_with("NATS is away"));
        ends_well();
        self.run(&["systemctl", "start", "--no-block", UNIT]);
        self.until("it waits", || self.show("StatusText").starts_with("waiting for NATS"));
        ends_well();
        self.link("up");
        self.start("start");
        self.serves();
    }

    fn survives_a_cut(&self) {
        let restarts = self.show("NRestarts");
        self.link("down");
        self.until("the status says so", || self.show("StatusText").starts_with("NATS is away at nats://10.99."));
        assert_eq!(self.show("ActiveState"), "active");
        self.logs(&["-p", "warning"], "commands are left to other replicas");
        self.link("up");
        self.serves();
        assert_eq!(self.show("NRestarts"), restarts, "it mends that by itself");
    }

    /// Does harm to the process and waits until another one serves.
    #[track_caller]
    fn comes_back_after(&self, harm: &[&str]) {
        let (process, restarts) = (self.show("MainPID"), self.restarts());
        self.run(harm);
        self.until("it is restarted", || self.restarts() > restarts);
        self.serves();
        assert_ne!(self.show("MainPID"), process);
    }

    fn restarts(&self) -> u32 {
        self.show("NRestarts").parse().expect("a number")
    }

    fn is_killed_and_comes_back(&self) {
        self.comes_back_after(&["systemctl", "kill", "--kill-whom=main", "-s", "KILL", UNIT]);
    }

    fn hangs_and_comes_back(&self) {
        self.drop_in("watchdog", "WatchdogSec=2s");
        self.start("restart");
        self.serves();
        self.comes_back_after(&["systemctl", "kill", "--kill-whom=main", "-s", "STOP", UNIT]);
        self.logs(&["-p", "err"], "Watchdog timeout (limit 2s)");
        self.shell("rm /run/systemd/system/cim-domain-person.service.d/watchdog.conf; systemctl daemon-reload");
    }

    fn drop_in(&self, name: &str, setting: &str) {
        let folder = format!("/run/systemd/system/{UNIT}.service.d");
        self.shell(&format!(
            "mkdir -p {folder}; printf '[Service]\\n%s\\n' '{setting}' >{folder}/{name}.conf; systemctl daemon-reload"
        ));
    }

    /// With the folder that the documentation's drop-in gives it.
    fn writes_its_figures(&self) {
        let path = "/run/cim-domain-person/person-1.prom";
        let settings = format!("RuntimeDirectory=cim-domain-person\nEnvironment=METRICS_FILE={path}");
        let documented = std::fs::read_to_string(file("docs/monitoring.md")).expect("the document");
        assert!(documented.contains(&settings), "the documentation has another drop-in");
        self.drop_in("metrics", &settings);
        self.start("restart");
        self.serves();
        let ready = format!("grep -q '^person_service_ready{{replica=\"person-1\"}} 1$' {path}");
        self.until("the figures are in the file", || self.try_run(&["sh", "-c", &ready]).0);
        let mode = self.shell(&format!("stat -c %a {path} /run/cim-domain-person"));
        assert_eq!(mode.split_whitespace().collect::<Vec<_>>(), ["644", "755"], "everybody can read it");
        self.start("stop");
        assert!(!self.try_run(&["test", "-e", path]).0, "it is taken away at the end");
        self.shell(&format!("rm /run/systemd/system/{UNIT}.service.d/metrics.conf; systemctl daemon-reload"));
        self.start("start");
        self.serves();
    }

    /// The unit may listen as it is; the documentation's drop-in says to whom. Not tried where containers are unprivileged:
    /// systemd cannot filter addresses there.
    fn serves_its_figures(&self) {
        let documented = std::fs::read_to_string(file("docs/monitoring.md")).expect("the document");
        let settings = "IPAddressDeny=any\nIPAddressAllow=localhost 10.0.0.0/24";
        assert!(documented.contains(settings), "the documentation has another drop-in");
        self.drop_in("metrics", "Environment=METRICS_ADDR=0.0.0.0:9464");
        self.start("restart");
        self.serves();
        let here: SocketAddr = format!("10.99.{}.2:9464", self.number).parse().expect("an address");
        // Two are at this end of the veth pair: NATS, and a stranger, whose address new connections get by the route.
        let nats = format!("10.99.{}.1", self.number);
        let stranger = format!("10.99.{}.9", self.number);
        let link = format!("nats{}", self.number);
        ip(&["address", "add", &format!("{stranger}/24"), "dev", &link]);
        let from = |source: &str| ip(&["route", "replace", &here.ip().to_string(), "dev", &link, "src", source]);
        for source in [&nats, &stranger] {
            from(source);
            let figures = get(here, "/metrics").expect("it answers everybody");
            assert!(figures.contains("person_service_ready 1\n"), "{figures}");
        }
        assert!(get(here, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")));

        self.drop_in("addresses", &settings.replace("10.0.0.0/24", &nats));
        self.start("restart");
        self.serves();
        from(&nats);
        get(here, "/metrics").expect("NATS' machine is let in");
        from(&stranger);
        let refused = get(here, "/metrics").expect_err("a stranger is not");
        assert_eq!(refused.kind(), std::io::ErrorKind::TimedOut);
        ip(&["route", "delete", &here.ip().to_string(), "dev", &link]);
        ip(&["address", "delete", &format!("{stranger}/24"), "dev", &link]);
        self.shell(&format!("rm /run/systemd/system/{UNIT}.service.d/*.conf; systemctl daemon-reload"));
        self.start("restart");
        self.serves();
    }

    /// With the drop-in of the examples as it ships. The server asks for no sign-in and does not look at what it gets.
    fn reads_its_credentials(&self) {
        let folder = format!("/etc/systemd/system/{UNIT}.service.d");
        let example = "/usr/local/share/doc/cim-domain-person/examples/credentials.conf.example";
        self.shell(&format!("install -D -m 0644 {example} {folder}/credentials.conf; systemctl daemon-reload"));
        assert!(!self.try_run(&["systemctl", "restart", UNIT]).0, "a start without the credential");
        assert_eq!(self.show("ExecMainStatus"), "243");

        let seed = nkeys::KeyPair::new_user().seed().expect("a seed");
        let credentials = format!(
            "-----BEGIN NATS USER JWT-----\ne30.e30.e30\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        let file = "/etc/cim-domain-person/nats.creds";
        self.shell(&format!("umask 077; printf %s '{credentials}' >{file}"));
        self.start("restart");
        self.serves();
        let process = self.show("MainPID");
        let user = self.shell(&format!("awk '/^Uid:/ {{ print $2 }}' /proc/{process}/status"));
        let read =
            |path: &str| self.try_run(&["nsenter", "-t", &process, "-m", "-S", &user, "-G", &user, "--", "cat", path]);
        assert!(read(&format!("/run/credentials/{UNIT}.service/nats.creds")).0, "the service can read it");
        assert!(read(file).1.contains("Permission denied"), "the file itself is root's");
        self.shell(&format!("rm {folder}/credentials.conf {file}; systemctl daemon-reload"));
    }

    fn is_not_restarted_in_vain(&self) {
        self.shell("echo STREAM_REPLICAS=2 >>/etc/cim-domain-person/environment");
        assert!(!self.try_run(&["systemctl", "restart", UNIT]).0, "a bad configuration");
        assert_eq!(["ActiveState", "ExecMainStatus"].map(|name| self.show(name)), ["failed", "78"]);
        self.logs(&["-p", "err"], "STREAM_REPLICAS (--stream-replicas) is \"2\"; allowed: 1, 3 or 5");
        self.shell("sed -i /STREAM_REPLICAS=2/d /etc/cim-domain-person/environment");
        self.start("start");
        self.serves();
    }

    /// Instances beside the unit, each with a file of its own.
    fn has_several_replicas(&self) {
        self.shell("echo LOG_LEVEL=debug >/etc/cim-domain-person/b.environment");
        self.run(&["systemctl", "--quiet", "start", "cim-domain-person@a", "cim-domain-person@b"]);
        let active = ["is-active", "cim-domain-person@a", "cim-domain-person@b", UNIT];
        assert_eq!(self.run(&[&["systemctl"], &active[..]].concat()), "active\nactive\nactive");
        let level = |instance: &str| {
            let process = self.run(&["systemctl", "show", "--value", "-p", "MainPID", instance]);
            self.shell(&format!("tr '\\0' '\\n' </proc/{process}/environ | grep -E '^(LOG_LEVEL|NATS_URL)=' | sort"))
        };
        let url = format!("NATS_URL=nats://10.99.{}.1:4222", self.number);
        assert_eq!(level("cim-domain-person@a"), url);
        assert_eq!(level("cim-domain-person@b"), format!("LOG_LEVEL=debug\n{url}"));
        self.run(&["systemctl", "stop", "cim-domain-person@*"]);
    }

    /// The package instead: it starts nothing, and removing it drains first.
    fn takes_the_package(&self, package: &Path, client: &mut Client) {
        let bytes = std::fs::File::open(package).expect("the package");
        let enter = ["-t", &self.init, "-m", "-p", "--", "sh", "-c", "cat >/root/package.deb"];
        assert!(Command::new("nsenter").args(enter).stdin(bytes).status().expect("nsenter").success());
        let settings = self.shell("cat /etc/cim-domain-person/environment; rm -r /etc/cim-domain-person");
        self.run(&["dpkg", "-i", "/root/package.deb"]);
        assert_eq!(self.show("ActiveState"), "inactive", "the settings come first");
        self.shell(&format!("echo '{settings}' >/etc/cim-domain-person/environment"));
        self.run(&["systemctl", "enable", "--quiet", "--now", UNIT]);
        self.serves();
        assert_eq!(self.shell(&format!("readlink /proc/{}/exe", self.show("MainPID"))), "/usr/bin/person-service");
        let (person, process) = (somebody(), self.show("MainPID"));
        client.accepted(&person, &create(&person));
        self.run(&["dpkg", "-i", "/root/package.deb"]);
        assert_eq!(self.show("MainPID"), process, "an upgrade leaves the restart to its administrator");
        self.run(&["dpkg", "-r", UNIT]);
        assert_eq!(self.show("ActiveState"), "inactive");
        self.logs(&["-n", "20"], "drained: every command that was taken is answered");
        assert!(self.try_run(&["test", "-e", "/etc/cim-domain-person/environment"]).0, "settings outlive a removal");
        self.run(&["dpkg", "--purge", UNIT]);
        assert!(!self.try_run(&["test", "-e", "/etc/cim-domain-person"]).0, "and not a purge");
    }

    fn has_drained(&self) {
        let states = ["ActiveState", "Result", "ExecMainStatus"].map(|property| self.show(property));
        assert_eq!(states, ["inactive", "success", "0"], "{}", self.journal(&["-n", "40"]));
        self.logs(&["-n", "20"], "drained: every command that was taken is answered");
        let journal = self.journal(&["-n", "20"]);
        let last_report = journal.lines().rfind(|line| line.contains("commands/s, accepted "));
        assert!(last_report.is_some_and(|report| !report.contains(" accepted 0,")), "it had its share: {journal}");
    }

    fn removes_it(&self) {
        self.run(&["systemctl", "--quiet", "disable", UNIT]);
        let script = std::fs::File::open(file("systemd/install")).expect("the script");
        let enter =
            ["-t", &self.init, "-m", "-p", "--", "sh", "-c", "mkdir -p /root/p/systemd; cat >/root/p/systemd/install"];
        assert!(Command::new("nsenter").args(enter).stdin(script).status().expect("nsenter").success());
        self.shell("sh /root/p/systemd/install --remove; systemctl daemon-reload");
        assert_eq!(self.show("LoadState"), "not-found");
    }
}
