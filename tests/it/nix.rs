//! The flake and its modules: against the table of options that they promise, the binary, and the systemd unit.
//!
//! nixpkgs is neither here nor small, so the modules are evaluated with a stand-in for its `lib` (`tests/nix/lib.nix`).
//! Whatever needs `nix-instantiate` says loudly that it was skipped where there is none; `NIX_TESTS_REQUIRED=1` makes that a
//! failure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use cim_domain_person::cli;
use serde_json::{Value, json};

use crate::support::skip;
use crate::tidy;

/// What every way of deployment takes, with its type and default.
const OPTIONS: &[(&str, &str, &str)] = &[
    ("enable", "bool", "false"),
    ("natsUrl", "string", r#""nats://10.0.0.41:4222""#),
    ("streamName", "string", r#""PERSON_EVENTS""#),
    ("logLevel", "enum trace/debug/info/warn/error", r#""info""#),
    ("snapshotFrequency", "positive int", "100"),
    ("containerIp", "string or null", "null"),
    ("gateway", "string", r#""10.0.64.1""#),
    ("prefixLength", "int from 0 to 32", "19"),
    ("nameservers", "list of string", r#"["10.0.0.254","1.1.1.1"]"#),
    ("sshKeys", "list of string", "[]"),
    // Beyond them.
    ("package", "package", "null"),
    ("credentialsFile", "string matching /.* or null", "null"),
    ("environmentFile", "string matching /.* or null", "null"),
    ("subjectPrefix", "string", r#""person""#),
    ("jetstreamDomain", "string or null", "null"),
    ("workers", "int from 1 to 256 or null", "null"),
    ("streamReplicas", "enum 1/3/5", "1"),
    ("extraSettings", "attributes of string or int or bool", "{}"),
    ("verify.enable", "bool", "false"),
    ("verify.onCalendar", "string", r#""*-*-* 03:00""#),
];

/// The options that need systemd.
const NOT_ON_MACOS: &str = "verify.";

/// What others call by name.
const OUTPUTS: &[&str] = &[
    "person-service",
    "default",
    "person-lxc",
    "person-service-darwin",
    "nixosModules",
    "container = ./deployment/nix/container.nix",
    "default = ./deployment/nix/module.nix",
    "darwinModules.default = ./deployment/nix/darwin.nix",
    "checks",
    "formatter",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A nix of the machine's own, working in a folder of the test's own.
struct Nix {
    folder: tempfile::TempDir,
}

impl Nix {
    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let folder = |name: &str| self.folder.path().join(name);
        let mut command = Command::new(program);
        command.args(arguments).current_dir(root()).env("HOME", folder("home"));
        command.env("NIX_STORE_DIR", folder("store")).env("NIX_STATE_DIR", folder("state"));
        command.env("NIX_LOG_DIR", folder("log")).env("NIX_REMOTE", "").env_remove("NIX_PATH");
        command.output().unwrap_or_else(|error| panic!("{program}: {error}"))
    }

    #[track_caller]
    fn must(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.run(program, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {}:\n{said}", arguments.join(" "));
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

/// Nix, or a loud word about what is not tested without it.
fn nix(otherwise_unchecked: &str) -> Option<Nix> {
    let found = Command::new("nix-instantiate").arg("--version").output().is_ok_and(|output| output.status.success());
    if found {
        return Some(Nix { folder: tempfile::tempdir().expect("a folder") });
    }
    assert!(std::env::var_os("NIX_TESTS_REQUIRED").is_none(), "nix-instantiate is required and not installed");
    skip(otherwise_unchecked, "nix-instantiate is not installed (apt-get install nix-bin)");
    None
}

/// All that `tests/nix/modules.nix` says, evaluated once.
static EVALUATED: LazyLock<Option<Value>> = LazyLock::new(|| {
    let nix = nix("what the Nix modules amount to")?;
    let text = nix.must("nix-instantiate", &["--eval", "--strict", "--json", "tests/nix/modules.nix"]);
    Some(serde_json::from_str(&text).expect("JSON"))
});

fn nix_files() -> Vec<String> {
    let folders = ["deployment/nix", "tests/nix"];
    let mut files: Vec<String> =
        folders.iter().flat_map(|folder| tidy::files(folder, ".nix")).map(|(file, _)| file).collect();
    files.push("flake.nix".to_owned());
    files
}

/// The variables of the binary.
fn variables() -> BTreeSet<String> {
    let command = cli::command();
    command.get_arguments().filter_map(|arg| arg.get_env()?.to_str().map(str::to_owned)).collect()
}

#[test]
fn every_file_parses() {
    let Some(nix) = nix("whether the Nix files parse") else { return };
    for file in nix_files() {
        nix.must("nix-instantiate", &["--parse", &file]);
    }
}

#[test]
fn the_flake_has_what_is_called_by_name() {
    let flake = read("flake.nix");
    for output in OUTPUTS {
        assert!(flake.contains(output), "flake.nix does not have {output:?}");
    }
    for name in flake.split("./").skip(1).map(|rest| rest.split([' ', ';', ')', '\n']).next().expect("a path")) {
        let path = name.trim_end_matches('.');
        assert!(!path.starts_with("deployment") || root().join(path).exists(), "flake.nix names {path}");
    }
}

#[test]
fn the_lock_is_that_of_the_flake() {
    let lock: Value = serde_json::from_str(&read("flake.lock")).expect("flake.lock is JSON");
    let nixpkgs = &lock["nodes"]["nixpkgs"];
    let original = &nixpkgs["original"];
    let url = format!(
        "github:{}/{}/{}",
        original["owner"].as_str().unwrap(),
        original["repo"].as_str().unwrap(),
        original["ref"].as_str().unwrap()
    );
    assert!(read("flake.nix").contains(&format!("inputs.nixpkgs.url = \"{url}\";")), "flake.nix has another {url}");
    assert_eq!(lock["version"], 7);
    assert_eq!(nixpkgs["locked"]["rev"].as_str().map(str::len), Some(40));
    assert!(nixpkgs["locked"]["narHash"].as_str().is_some_and(|hash| hash.starts_with("sha256-")));

    let Some(nix) = nix("whether nix takes the lock") else { return };
    // Only what the flake consists of: a folder of build results beside it would be copied too.
    let copy = nix.folder.path().join("flake");
    std::fs::create_dir(&copy).unwrap();
    for file in ["flake.nix", "flake.lock"] {
        std::fs::copy(root().join(file), copy.join(file)).unwrap();
    }
    let flake = format!("path:{}", copy.display());
    let features = ["--extra-experimental-features", "nix-command flakes"];
    nix.must("nix", &[&features[..], &["flake", "metadata", "--no-update-lock-file", &flake]].concat());
}

#[test]
fn the_options_are_those_that_are_promised() {
    let Some(all) = EVALUATED.as_ref() else { return };
    let all_promised: BTreeMap<&str, Value> = OPTIONS
        .iter()
        .map(|(name, of, default)| {
            (*name, json!({"type": of, "default": serde_json::from_str::<Value>(default).unwrap()}))
        })
        .collect();
    for (module, options) in all["options"].as_object().unwrap() {
        let mut promised = all_promised.clone();
        promised.retain(|name, _| module != "darwin" || !name.starts_with(NOT_ON_MACOS));
        let options = options.as_object().unwrap().iter().filter(|(_, option)| option["internal"] == false);
        let found: BTreeMap<&str, Value> = options
            .map(|(name, option)| (name.as_str(), json!({"type": option["type"], "default": option["default"]})))
            .collect();
        assert_eq!(found, promised, "{module}.nix");
    }
}

#[test]
fn every_option_is_in_the_documentation() {
    let document = read("docs/deployment.md");
    for (name, _, default) in OPTIONS {
        let row = document.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/deployment.md has no row for {name}"));
        let default = default.trim_matches('"').replace("\",\"", "\" \"");
        assert!(*name == "package" || row.contains(&format!("| `{default}` |")), "{row}: the default is {default}");
    }
}

#[test]
fn an_import_alone_changes_nothing() {
    let Some(all) = EVALUATED.as_ref() else { return };
    assert_eq!(all["inert"], json!({"module": {}, "container": {}, "darwin": {}}));
    assert_eq!(all["brought"], json!(["container.nix"]), "a host's containers get the options");
    assert_eq!(all["classes"], json!({"module": ["nixos"], "container": ["nixos", "nixos"], "darwin": ["darwin"]}));
}

#[test]
fn the_environment_is_what_the_binary_reads() {
    let Some(all) = EVALUATED.as_ref() else { return };
    let known = variables();
    for part in ["unit", "fullUnit", "verify", "fullVerify", "darwin", "fullDarwin"] {
        let environment = all[part].get("service").unwrap_or(&all[part])["environment"].as_object().unwrap();
        let unknown: Vec<&String> = environment.keys().filter(|name| !known.contains(*name)).collect();
        assert!(unknown.is_empty(), "{part} sets {unknown:?}, which the binary does not read");
    }
    let full = json!({
        "COMMAND_TIMEOUT": "9s", "METRICS_ADDR": "127.0.0.1:9464", "ENVIRONMENT_FILE": "/etc/cim-domain-person/environment", "JETSTREAM_DOMAIN": "hub",
        "LOG_LEVEL": "info", "NATS_CREDS": "%d/nats.creds", "NATS_URL": "nats://u:p%%40@localhost:4222",
        "SNAPSHOT_FREQ": "100", "STREAM_CREATE": "false", "STREAM_NAME": "PERSON_EVENTS", "STREAM_REPLICAS": "3",
        "SUBJECT_PREFIX": "person.eu", "WORKERS": "4",
    });
    assert_eq!(all["fullUnit"]["environment"], full);
    assert_eq!(all["fullUnit"]["serviceConfig"]["LoadCredential"], json!(["nats.creds:/etc/nats.creds"]));
    // The nightly check signs in as the service does.
    let (service, check) = (&all["fullUnit"], &all["fullVerify"]["service"]);
    for name in ["LoadCredential", "EnvironmentFile"] {
        assert_eq!(service["serviceConfig"][name], check["serviceConfig"][name]);
    }
    let mut environment = service["environment"].clone();
    environment.as_object_mut().unwrap().remove("ENVIRONMENT_FILE");
    assert_eq!(check["environment"], environment);
    assert_eq!(all["fullVerify"]["timer"]["timerConfig"]["OnCalendar"], "Sun 04:00");
    assert_eq!(all["fullDarwin"]["environment"]["NATS_URL"], "nats://u:p%40@localhost:4222");
    assert!(all["fullDarwin"]["command"].as_str().unwrap().contains(". '/run/secrets/environment'"));
}

#[test]
fn what_the_binary_gets_without_settings_is_allowed() {
    let Some(all) = EVALUATED.as_ref() else { return };
    // With a name that is not allowed, so that the start ends right there, after all that stands before it was taken.
    for part in ["unit", "fullDarwin"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_person-service"));
        command.env_clear();
        for (name, value) in all[part]["environment"].as_object().unwrap() {
            if name != "NATS_CREDS" {
                command.env(name, value.as_str().unwrap());
            }
        }
        let output = command.args(["--drain-timeout", "never"]).output().expect("the binary");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{part}: {said}");
        assert!(said.contains("DRAIN_TIMEOUT"), "{part} is refused for something else: {said}");
    }
}

/// The source of a build in nixpkgs is what the package names and nothing else. Cargo is asked in a folder like that.
#[test]
fn the_package_has_the_files_that_cargo_wants() {
    let Some(all) = EVALUATED.as_ref() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    for path in all["package"]["src"].as_array().unwrap() {
        let path = Path::new(path.as_str().unwrap());
        std::os::unix::fs::symlink(path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    assert_eq!(all["package"]["cargoLock"], "Cargo.lock");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--locked", "--format-version", "1"])
        .current_dir(folder.path())
        .output()
        .expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for target in found["packages"][0]["targets"].as_array().unwrap() {
        let path = Path::new(target["src_path"].as_str().unwrap());
        assert!(path.exists(), "{path:?} is not among the files of deployment/nix/package.nix");
    }
    assert_eq!(all["package"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(all["package"]["cargoBuildFlags"], json!(["--bin", "person-service"]));
}

/// The phase after the installation, by the shell that nixpkgs would run it with; its two helpers are stand-ins that put files
/// where nixpkgs' own put them.
#[test]
fn the_package_installs_man_pages_and_completions() {
    const HELPERS: &str = r#"
        set -euo pipefail
        installManPage() {
            for page; do install -D -m 0644 "$page" "$out/share/man/man${page##*.}/${page##*/}"; done
        }
        installShellCompletion() {
            test "$1" = --cmd; name=$2; shift 2
            while test $# -gt 0; do
                case $1 in
                    --bash) file=bash-completion/completions/$name.bash ;;
                    --fish) file=fish/vendor_completions.d/$name.fish ;;
                    --zsh) file=zsh/site-functions/_$name ;;
                esac
                mkdir -p "$(dirname "$out/share/$file")"; cat "$2" >"$out/share/$file"; shift 2
            done
        }
    "#;
    let Some(all) = EVALUATED.as_ref() else { return };
    assert_eq!(all["package"]["nativeBuildInputs"], json!(["installShellFiles"]));
    assert_eq!(all["packageForAnother"]["postInstall"], "", "what cannot run here is not run");
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    std::fs::create_dir_all(out.join("bin")).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_person-service"), out.join("bin/person-service")).unwrap();
    let phase = all["package"]["postInstall"].as_str().unwrap();
    let output = Command::new("bash")
        .args(["--norc", "-c", &format!("{HELPERS}\n{phase}")])
        .env("out", &out)
        .current_dir(folder.path())
        .output();
    let output = output.expect("bash");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (file, words) in [
        ("man/man1/person-service.1", ".TH person-service"),
        ("man/man1/person-service-send-create.1", ".TH person-service-send-create"),
        ("bash-completion/completions/person-service.bash", "complete -F _person_service"),
        ("fish/vendor_completions.d/person-service.fish", "complete -c person-service"),
        ("zsh/site-functions/_person-service", "#compdef person-service"),
    ] {
        let text =
            std::fs::read_to_string(out.join("share").join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(text.contains(words), "{file} has no {words:?}: {}", text.lines().take(5).collect::<String>());
    }
}

#[test]
fn a_container_lets_root_in_by_key_and_nobody_else() {
    let Some(all) = EVALUATED.as_ref() else { return };
    let container = &all["container"];
    let ssh = json!({"enable": true, "openFirewall": true, "settings": {
        "PermitRootLogin": "prohibit-password", "PasswordAuthentication": false, "KbdInteractiveAuthentication": false,
    }});
    assert_eq!(container["ssh"], ssh);
    assert_eq!(
        container["users"],
        json!({"users": {"root": {"openssh": {"authorizedKeys": {"keys": ["ssh-ed25519 AAAA user@host"]}}}}})
    );
    assert_eq!(container["tools"], json!(["htop", "natscli", "netcat"]));
    // No port of the firewall, which is on by default: SSH opens its own.
    let network = json!({
        "useDHCP": false, "useHostResolvConf": false, "nameservers": ["10.0.0.254", "1.1.1.1"],
        "defaultGateway": {"address": "10.0.64.1", "interface": "eth0"},
        "interfaces": {"eth0": {"ipv4": {"addresses": [{"address": "10.0.64.140", "prefixLength": 19}]}}},
    });
    assert_eq!(container["networking"], network);

    let silent = &all["containerByDefault"];
    assert_eq!(silent["services"]["openssh"].get("enable"), None, "without keys SSH is not switched on");
    assert_eq!(silent["networking"], json!({"useHostResolvConf": false, "nameservers": ["10.0.0.254", "1.1.1.1"]}));
    for elsewhere in ["module", "darwin"] {
        let warned = all["warned"][elsewhere][0].as_str().unwrap_or_default();
        assert!(warned.contains("have no effect here"), "{elsewhere} takes sshKeys without a word");
    }
}

/// A unit file as section.key to its values, those of the environment left out.
fn unit_file(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut section = "";
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        match line.strip_prefix('[') {
            Some(name) => section = name.trim_end_matches(']'),
            None => {
                let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("no assignment: {line}"));
                found.entry(format!("{section}.{key}")).or_default().push(value.to_owned());
            }
        }
    }
    found
}

/// The values of a setting as a unit file would have them.
fn written(value: &Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.iter().flat_map(written).collect(),
        Value::Bool(value) => vec![if *value { "yes" } else { "no" }.to_owned()],
        Value::String(text) => vec![text.clone()],
        other => vec![other.to_string()],
    }
}

#[test]
fn the_nixos_units_say_what_the_shipped_units_say() {
    let Some(all) = EVALUATED.as_ref() else { return };
    check_unit("cim-domain-person.service", "Service", &all["unit"]);
    check_unit("cim-domain-person-verify.service", "Service", &all["verify"]["service"]);
    check_unit("cim-domain-person-verify.timer", "Timer", &all["verify"]["timer"]);
}

#[track_caller]
fn check_unit(file: &str, section: &str, unit: &Value) {
    let mut shipped = unit_file(&read(&format!("systemd/{file}")));
    let mut ours: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in unit[format!("{}Config", section.to_lowercase())].as_object().unwrap() {
        ours.insert(format!("{section}.{key}"), written(value));
    }
    for (key, name) in [
        ("Unit.Description", "description"),
        ("Unit.Documentation", "documentation"),
        ("Unit.StartLimitIntervalSec", "startLimitIntervalSec"),
        ("Install.WantedBy", "wantedBy"),
    ] {
        ours.extend(unit.get(name).map(|value| (key.to_owned(), written(value))));
    }
    for (key, name) in [("Unit.After", "after"), ("Unit.Wants", "wants")] {
        ours.extend(unit.get(name).map(|value| (key.to_owned(), vec![written(value).join(" ")])));
    }
    let environment_file = unit["environment"]["ENVIRONMENT_FILE"].as_str();
    ours.extend(
        environment_file.map(|file| ("Service.Environment".to_owned(), vec![format!("ENVIRONMENT_FILE={file}")])),
    );

    // The same program with the same arguments, in another place.
    for side in [&mut shipped, &mut ours] {
        let Some(start) = side.get_mut("Service.ExecStart") else { continue };
        let (program, arguments) = start[0].split_once(' ').unwrap_or((&start[0], ""));
        let name = PathBuf::from(program).file_name().unwrap().to_string_lossy().into_owned();
        *start = vec![format!("{name} {arguments}")];
    }
    let keys: BTreeSet<&String> = ours.keys().chain(shipped.keys()).collect();
    let differing = keys.into_iter().filter(|key| ours.get(*key) != shipped.get(*key));
    let differing: Vec<String> = differing
        .map(|key| format!("{key}: module.nix {:?}, systemd/ {:?}", ours.get(key), shipped.get(key)))
        .collect();
    assert!(differing.is_empty(), "{file} differs:\n{}", differing.join("\n"));
}
