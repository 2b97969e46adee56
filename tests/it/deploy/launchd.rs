//! The jobs for launchd, key by key and type by type. No test runs them: that takes macOS.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::units::{LEAVING, drain_timeout};
use super::{file, known_variables, read};

const DAEMON: &str = "launchd/com.thecowboyai.cim-domain-person.plist";
const AGENT: &str = "launchd/com.thecowboyai.cim-domain-person.agent.plist";
const ROTATION: &str = "launchd/newsyslog.conf";
/// Connections, standard streams, and room; the default of macOS is 256.
const FILES_MIN: u64 = 1_024;

/// What launchd.plist(5) knows and these jobs may say. launchd itself passes over what it does not know.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Job {
    label: String,
    program_arguments: Vec<String>,
    environment_variables: BTreeMap<String, String>,
    user_name: Option<String>,
    group_name: Option<String>,
    limit_load_to_session_type: Option<Vec<String>>,
    working_directory: String,
    umask: u32,
    run_at_load: bool,
    keep_alive: KeepAlive,
    throttle_interval: u64,
    exit_time_out: u64,
    process_type: String,
    soft_resource_limits: Limits,
    hard_resource_limits: Limits,
    standard_out_path: String,
    standard_error_path: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct KeepAlive {
    successful_exit: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Limits {
    core: u64,
    number_of_files: u64,
}

fn job(name: &str) -> Job {
    plist::from_file(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn jobs_say_what_launchd_expects() {
    for name in [DAEMON, AGENT] {
        let job = job(name);
        assert_eq!(Path::new(name).file_stem().unwrap().to_str(), Some(job.label.as_str()), "label and file name");
        assert_eq!(job.program_arguments, ["/usr/local/bin/person-service", "run"], "absolute, in the foreground");
        assert!(job.run_at_load);
        assert!(!job.keep_alive.successful_exit, "only a clean end is an end");
        assert!(job.throttle_interval >= 1);
        assert!(job.exit_time_out > (drain_timeout() + LEAVING).as_secs(), "the drain fits in: {}", job.exit_time_out);
        assert!(["Standard", "Adaptive"].contains(&job.process_type.as_str()), "others are throttled");
        assert_eq!((job.soft_resource_limits.core, job.hard_resource_limits.core), (0, 0), "personal data");
        assert!(job.soft_resource_limits.number_of_files >= FILES_MIN);
        assert!(job.hard_resource_limits.number_of_files >= job.soft_resource_limits.number_of_files);
        assert_eq!(job.umask, 0o077);
        for path in [&job.working_directory, &job.standard_out_path, &job.standard_error_path] {
            assert!(path.starts_with('/') && !path.contains(['~', '$']), "launchd expands nothing: {path}");
        }
    }
}

#[test]
fn a_daemon_has_a_user_and_an_agent_a_session() {
    let (daemon, agent) = (job(DAEMON), job(AGENT));
    assert!(daemon.user_name.is_some_and(|user| user != "root") && daemon.group_name.is_some());
    assert_eq!(daemon.limit_load_to_session_type, None);
    assert_eq!((agent.user_name, agent.group_name), (None, None));
    assert!(agent.limit_load_to_session_type.is_some());
    assert_ne!(daemon.label, agent.label, "both can be loaded");
}

#[test]
fn variables_are_known_to_the_binary() {
    let known = known_variables();
    for name in [DAEMON, AGENT] {
        let variables = job(name).environment_variables;
        for variable in variables.keys() {
            assert!(known.contains(variable), "{name}: the binary knows no {variable}");
        }
    }
}

#[test]
fn the_log_of_the_daemon_is_turned_over() {
    let log = job(DAEMON).standard_error_path;
    let text = read(ROTATION);
    let entry = text.lines().find(|line| !line.starts_with('#')).expect("an entry");
    let fields: Vec<&str> = entry.split_whitespace().collect();
    let [path, owner, mode, count, size, when, flags] = fields[..] else { panic!("seven fields: {entry}") };
    assert_eq!(path, log);
    let daemon = job(DAEMON);
    assert_eq!(owner, format!("{}:{}", daemon.user_name.unwrap(), daemon.group_name.unwrap()));
    assert!(u32::from_str_radix(mode, 8).is_ok_and(|mode| mode & 0o007 == 0), "{mode}");
    assert!(count.parse::<u32>().is_ok() && size.parse::<u32>().is_ok(), "{entry}");
    assert_eq!((when, flags), ("*", "N"), "by size, and no signal: SIGHUP would be a reload");
}
