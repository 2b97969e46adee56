//! The Debian package, built by cargo-deb of the binary under test.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{file, output_of, text};
use crate::support::skip;

/// Builds it in a folder that goes away; or says why that cannot be done here.
pub fn debian_package() -> Result<(TempDir, PathBuf), String> {
    let has = |program: &str, args: &[&str]| output_of(program, args).is_some_and(|output| output.status.success());
    if !has("dpkg-deb", &["--version"]) {
        return Err("there is no dpkg-deb".to_owned());
    }
    if !has("cargo", &["deb", "--version"]) {
        return Err("there is no cargo-deb (cargo install --locked cargo-deb)".to_owned());
    }
    let folder = tempfile::tempdir().expect("a folder");
    // cargo-deb packs what lies where a release build would lie.
    std::fs::create_dir(folder.path().join("release")).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_person-service"), folder.path().join("release/person-service")).unwrap();
    let package = folder.path().join("package.deb");
    let built = Command::new(file("systemd/package"))
        .args(["--no-build", "--offline", "--fast", "--strip", "--output"])
        .arg(&package)
        .env("CARGO_TARGET_DIR", folder.path())
        .current_dir(file("."))
        .output()
        .expect("it runs");
    assert!(built.status.success(), "{}", text(&built));
    Ok((folder, package))
}

/// `dpkg-deb OPTION PACKAGE`
fn says(option: &str, package: &Path) -> String {
    let output = output_of("dpkg-deb", &[option, &package.display().to_string()]).expect("dpkg-deb");
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

#[test]
fn the_package_has_what_belongs_into_it() {
    let (_folder, package) = match debian_package() {
        Ok(built) => built,
        Err(why) => return skip("the_package_has_what_belongs_into_it", &why),
    };
    let contents = says("--contents", &package);
    for (mode, name) in [
        ("-rwxr-xr-x", "./usr/bin/person-service"),
        ("-rw-r--r--", "./usr/lib/systemd/system/cim-domain-person.service"),
        ("-rw-r--r--", "./usr/lib/systemd/system/cim-domain-person@.service"),
        ("-rw-r--r--", "./usr/lib/systemd/system/cim-domain-person-verify.service"),
        ("-rw-r--r--", "./usr/lib/systemd/system/cim-domain-person-verify.timer"),
        ("-rw-r--r--", "./etc/cim-domain-person/environment"),
        ("-rw-r--r--", "./usr/share/doc/cim-domain-person/copyright"),
        ("-rw-r--r--", "./usr/share/doc/cim-domain-person/changelog.Debian.gz"),
        ("-rw-r--r--", "./usr/share/doc/cim-domain-person/README.md"),
        ("-rw-r--r--", "./usr/share/man/man1/person-service.1.gz"),
        ("-rw-r--r--", "./usr/share/man/man1/person-service-check.1.gz"),
        ("-rw-r--r--", "./usr/share/man/man1/person-service-send-create.1.gz"),
        ("-rw-r--r--", "./usr/share/bash-completion/completions/person-service"),
        ("-rw-r--r--", "./usr/share/zsh/vendor-completions/_person-service"),
        ("-rw-r--r--", "./usr/share/fish/vendor_completions.d/person-service.fish"),
        ("-rw-r--r--", "./usr/share/doc/cim-domain-person/examples/credentials.conf.example"),
    ] {
        let found = contents.lines().find(|line| line.ends_with(&format!(" {name}")));
        let found = found.unwrap_or_else(|| panic!("no {name} in\n{contents}"));
        assert!(found.starts_with(&format!("{mode} 0/0 ")), "{found}");
    }
    let changelog = std::fs::read_to_string(file("systemd/debian/changelog")).expect("it is there");
    let newest = format!("cim-domain-person ({}-1) unstable", env!("CARGO_PKG_VERSION"));
    assert!(changelog.starts_with(&newest), "the Debian changelog begins with this version");
    let control = says("--info", &package);
    for line in ["Package: cim-domain-person", &format!("Version: {}-1", env!("CARGO_PKG_VERSION")), "Section: net"] {
        assert!(control.contains(line), "no {line} in\n{control}");
    }
    let settings = output_of("dpkg-deb", &["--ctrl-tarfile", &package.display().to_string()]).expect("dpkg-deb");
    let settings = text(&settings);
    assert!(settings.contains("/etc/cim-domain-person/environment\n"), "a conffile");
    for script in ["postinst", "prerm", "postrm"] {
        let path = file("systemd/debian").join(script);
        let checked = output_of("sh", &["-n", &path.display().to_string()]).expect("sh");
        assert!(checked.status.success(), "{}", text(&checked));
    }
}
