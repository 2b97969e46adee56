//! What reaches the service manager's socket.
//!
//! The socket's name comes by the environment, which a test must not change under other tests. So the test starts itself
//! again, alone and with the variables set, as the process that notifies.

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use cim_domain_person::daemon::notify::{Notifier, watchdog_interval};

use crate::support::PATIENCE;

const CHILD: &str = "PERSON_SERVICE_TEST_NOTIFIES";

#[test]
fn the_manager_is_told_in_its_own_words() {
    if std::env::var_os(CHILD).is_some() {
        return notify();
    }
    let directory = tempfile::tempdir().expect("a temporary folder");
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");

    let child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "notify::the_manager_is_told_in_its_own_words"])
        .envs([(CHILD, "1"), ("WATCHDOG_USEC", "3000000")])
        .env("NOTIFY_SOCKET", &path)
        .env_remove("WATCHDOG_PID")
        .output()
        .expect("it runs");
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));

    for expected in ["STATUS=waiting for NATS READY=1\n", "READY=1\n", "WATCHDOG=1\n", "STOPPING=1\n"] {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).expect("a message");
        assert_eq!(String::from_utf8_lossy(&buffer[..length]), expected);
    }
}

fn notify() {
    let notifier = Notifier::start().expect("a thread");
    notifier.status("waiting for NATS\nREADY=1");
    notifier.ready();
    notifier.watchdog();
    notifier.stopping();
    notifier.end(Instant::now() + Duration::from_secs(10));
    assert_eq!(watchdog_interval(), Some(Duration::from_millis(1_500)));
}
