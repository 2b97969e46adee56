//! The systemd units, the environment file and the Debian package.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use cim_domain_person::exit::ExitStatus;
use tempfile::TempDir;

use super::{file, known_variables, output_of, read, text};
use crate::support::skip;

const UNIT: &str = "systemd/cim-domain-person.service";
const TEMPLATE: &str = "systemd/cim-domain-person@.service";
const NIGHTLY: &str = "systemd/cim-domain-person-verify.service";
const TIMER: &str = "systemd/cim-domain-person-verify.timer";
const ENVIRONMENT: &str = "systemd/environment.example";
const CREDENTIALS: &str = "systemd/credentials.conf.example";
/// The exposure that `systemd-analyze security` may find, in tenths.
const EXPOSURE_TENTHS_MAX: &str = "15";

/// The values that a unit gives a key, in order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let lines = unit.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).filter(|(found, _)| *found == key).map(|(_, value)| value).collect()
}

/// The unit as it is after the installation of this build, in a folder of its own: `verify` looks for the binary.
fn installed(unit: &str, more: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let command = format!("ExecStart={} run", env!("CARGO_BIN_EXE_person-service"));
    let body = read(unit);
    assert_eq!(values(&body, "ExecStart"), ["person-service run"], "{unit}");
    let path = folder.path().join(unit.trim_start_matches("systemd/").replace('@', "@a"));
    std::fs::write(&path, body.replace("ExecStart=person-service run", &format!("{command}\n{more}"))).unwrap();
    let path = path.display().to_string();
    (folder, path)
}

/// It warns about what it does not know with status 0, so that an empty stderr is part of the check.
#[test]
fn systemd_understands_every_line() {
    let drop_in = read(CREDENTIALS);
    let drop_in = drop_in.split_once("[Service]\n").expect("a section").1.replace("\n#", "\n");
    let sentences = |line: &&str| line.split_once('=').is_some_and(|(key, _)| !key.contains(' '));
    let all: String = drop_in.lines().filter(sentences).map(|line| format!("{line}\n")).collect();
    for (unit, more) in [(UNIT, ""), (TEMPLATE, ""), (UNIT, all.as_str())] {
        let (_folder, path) = installed(unit, more);
        let Some(verified) = output_of("systemd-analyze", &["verify", &path]) else {
            return skip("systemd_understands_every_line", "there is no systemd-analyze");
        };
        assert!(verified.status.success() && verified.stderr.is_empty(), "{unit}: {}", text(&verified));
    }
}

#[test]
fn the_sandbox_is_tight() {
    for unit in [UNIT, TEMPLATE] {
        let (_folder, path) = installed(unit, "");
        let threshold = format!("--threshold={EXPOSURE_TENTHS_MAX}");
        let analysis = output_of("systemd-analyze", &["security", "--offline=true", "--no-pager", &threshold, &path]);
        let Some(analysis) = analysis else { return skip("the_sandbox_is_tight", "there is no systemd-analyze") };
        let said = text(&analysis);
        if said.contains("unrecognized option") {
            return skip("the_sandbox_is_tight", "this systemd-analyze is older than 250 and has no --offline");
        }
        assert!(analysis.status.success(), "{unit}: {said}");
        println!("{unit}: {}", said.lines().find(|line| line.contains("exposure level")).unwrap_or_default());
    }
}

/// The check of the whole store: the timer starts it, it is as tight as the service, and what it runs is understood.
#[test]
fn the_nightly_check_is_a_unit_like_the_service() {
    let body = read(NIGHTLY);
    let starts = values(&body, "ExecStart");
    let [start] = starts.as_slice() else { panic!("{starts:?}") };
    let words: Vec<&str> = start.split_whitespace().collect();
    assert_eq!(words[..3], ["person-service", "verify", "--state"]);
    assert!(cim_domain_person::cli::command().try_get_matches_from(&words).is_ok(), "{start}");
    let folder = values(&body, "StateDirectory")[0].to_owned();
    assert!(words[3].starts_with(&format!("%S/{folder}/")), "{start}");
    let service = read(UNIT);
    let sandbox = service.split_once("DynamicUser=").expect("a sandbox").1.split_once("[Install]").expect("its end").0;
    for line in sandbox.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        assert!(body.contains(line), "{NIGHTLY} lacks {line}");
    }

    let folder = tempfile::tempdir().expect("a folder");
    let [unit, timer] = [NIGHTLY, TIMER].map(|name| folder.path().join(name.trim_start_matches("systemd/")));
    let here = start.replacen("person-service", env!("CARGO_BIN_EXE_person-service"), 1);
    std::fs::write(&unit, body.replace(start, &here)).unwrap();
    std::fs::write(&timer, read(TIMER)).unwrap();
    let [unit, timer] = [unit, timer].map(|path| path.display().to_string());
    let Some(verified) = output_of("systemd-analyze", &["verify", &unit, &timer]) else {
        return skip("the_nightly_check_is_a_unit_like_the_service", "there is no systemd-analyze");
    };
    assert!(verified.status.success() && verified.stderr.is_empty(), "{}", text(&verified));
    let threshold = format!("--threshold={EXPOSURE_TENTHS_MAX}");
    let analysis = output_of("systemd-analyze", &["security", "--offline=true", "--no-pager", &threshold, &unit]);
    let said = text(&analysis.expect("it was there"));
    assert!(said.contains("unrecognized option") || said.contains("OK"), "{said}");
}

/// The two differ in nothing but what makes a replica one of several.
#[test]
fn the_template_is_the_unit_with_an_instance() {
    let lines = |unit: &str| -> Vec<String> {
        let body = read(unit);
        body.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
    };
    let (unit, template) = (lines(UNIT), lines(TEMPLATE));
    let only = |these: &[String], others: &[String]| -> Vec<String> {
        these.iter().filter(|line| !others.contains(line)).cloned().collect()
    };
    let own = ["Description=", "EnvironmentFile=", "Environment=ENVIRONMENT_FILE="];
    for line in only(&unit, &template).iter().chain(&only(&template, &unit)) {
        assert!(own.iter().any(|key| line.starts_with(key)), "only one of the two says {line}");
    }
}

#[test]
fn what_a_restart_cannot_mend_is_not_restarted() {
    let hopeless = [ExitStatus::Usage, ExitStatus::SignInRefused, ExitStatus::BadConfiguration];
    let hopeless: Vec<String> = hopeless.iter().map(|status| status.code().to_string()).collect();
    let unit = read(UNIT);
    assert_eq!(values(&unit, "RestartPreventExitStatus"), [hopeless.join(" ")]);
    assert_eq!(values(&unit, "Restart"), ["always"]);
    assert_eq!(values(&unit, "StartLimitIntervalSec"), ["0"], "it is never given up");
}

/// What leaving takes beyond `DRAIN_TIMEOUT` while NATS is away.
pub const LEAVING: Duration = Duration::from_secs(3);

/// The time to drain by default.
pub fn drain_timeout() -> Duration {
    let command = cim_domain_person::cli::command();
    let option = command.get_arguments().find(|arg| arg.get_id() == "drain_timeout").expect("the option");
    let default = option.get_default_values()[0].to_str().and_then(|text| text.strip_suffix('s'));
    Duration::from_secs(default.and_then(|seconds| seconds.parse().ok()).expect("seconds"))
}

#[test]
fn the_drain_is_shorter_than_the_patience_of_the_manager() {
    let unit = read(UNIT);
    let patience = values(&unit, "TimeoutStopSec")[0].strip_suffix('s').and_then(|seconds| seconds.parse().ok());
    let patience = Duration::from_secs(patience.expect("seconds"));
    assert!(patience > drain_timeout() + LEAVING, "{patience:?}");
}

/// `# words`, and `#NAME=value` for everything that can be set.
fn example_variables() -> BTreeSet<String> {
    let text = read(ENVIRONMENT);
    let unset = text.lines().filter_map(|line| line.strip_prefix('#')).filter(|line| !line.starts_with(' '));
    unset.filter_map(|line| line.split_once('=')).map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn the_environment_file_has_every_option_and_no_other() {
    assert_eq!(example_variables(), known_variables());
    let text = read(ENVIRONMENT);
    let set: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert_eq!(set, Vec::<&str>::new(), "nothing is set in what ships");
}

#[test]
fn the_environment_file_names_the_defaults() {
    let text = read(ENVIRONMENT);
    let command = cim_domain_person::cli::command();
    for option in command.get_arguments() {
        let (Some(name), Some(default)) = (option.get_env(), option.get_default_values().first()) else { continue };
        let line = format!("#{}={}", name.display(), default.display());
        assert!(text.lines().any(|found| found == line), "{ENVIRONMENT} has no {line}");
    }
}

#[test]
fn variables_of_units_and_drop_ins_are_known() {
    let known = known_variables();
    for name in [UNIT, TEMPLATE, NIGHTLY, CREDENTIALS] {
        let uncommented = read(name).replace("\n#", "\n");
        for assignment in values(&uncommented, "Environment") {
            let variable = assignment.split_once('=').expect("an assignment").0;
            assert!(known.contains(variable), "{name}: the binary knows no {variable}");
        }
    }
}

/// As an administrator runs it, into a folder instead of the machine.
#[test]
fn installed_and_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_person-service"), folder.path().join("built")).unwrap();
    // Names that begin where the administrator stands.
    let install = |argument: &str| {
        let mut script = Command::new(file("systemd/install"));
        script.arg(argument).current_dir(folder.path()).env("DESTDIR", "machine").env_remove("PREFIX");
        let done = script.output().expect("it runs");
        assert!(done.status.success(), "{}", text(&done));
    };
    let machine = folder.path().join("machine");
    let settings = machine.join("etc/cim-domain-person/environment");
    let binary = machine.join("usr/local/bin/person-service");
    let beside = [
        "lib/systemd/system/cim-domain-person@.service",
        "lib/systemd/system/cim-domain-person-verify.service",
        "lib/systemd/system/cim-domain-person-verify.timer",
        "share/man/man1/person-service.1",
        "share/man/man1/person-service-check.1",
        "share/bash-completion/completions/person-service",
        "share/zsh/site-functions/_person-service",
        "share/fish/vendor_completions.d/person-service.fish",
        "share/doc/cim-domain-person/operations.md",
        "share/doc/cim-domain-person/monitoring/prometheus-alerts.yml",
        "share/doc/cim-domain-person/nats/users.conf",
    ];
    let beside = beside.map(|name| machine.join("usr/local").join(name));
    install("built");
    assert!(binary.exists());
    for file in &beside {
        assert!(std::fs::metadata(file).is_ok_and(|file| file.len() > 0), "{file:?} is not installed");
    }
    std::fs::write(&settings, "LOG_LEVEL=warn\n").unwrap();
    install(env!("CARGO_BIN_EXE_person-service"));
    assert_eq!(std::fs::read_to_string(&settings).unwrap(), "LOG_LEVEL=warn\n", "an upgrade leaves the settings");
    install("--remove");
    assert!(!binary.exists() && settings.exists());
    assert!(!beside.iter().any(|file| file.exists()), "something is left");
}

/// What the documentation names is what there is.
#[test]
fn the_documentation_names_what_is_installed() {
    let document = read("docs/deployment.md");
    let names = [
        "cim-domain-person@.service",
        "/etc/cim-domain-person/environment",
        "/etc/cim-domain-person/a.environment",
        "/etc/systemd/system/cim-domain-person.service.d/credentials.conf",
        "systemd/install --remove",
    ];
    for name in names {
        assert!(document.contains(name), "docs/deployment.md does not name {name}");
    }
    for (index, _) in document.match_indices("install -") {
        let line = document[index..].lines().next().unwrap_or_default();
        let shipped =
            line.split_whitespace().filter(|word| word.starts_with("systemd/") || word.starts_with("launchd/"));
        for name in shipped {
            assert!(file(name).exists(), "docs/deployment.md installs {name}, which does not exist");
        }
    }
}
