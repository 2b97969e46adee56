//! The examples of docs/cli.md are run, in the order in which they stand there, as one shell would.

use super::*;

#[test]
fn the_examples_of_the_documentation_do_what_it_says() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md")).expect("docs/cli.md");
    let script: String = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(script.lines().filter(|line| line.contains("person-service ")).count() >= 10, "{script}");

    let place = Place::start();
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", binary_folder().display());
    let mut shell = Command::new("sh");
    shell.args(["-eu", "-c", &script]).env_clear().env("PATH", path).env("NATS_URL", place.server.url());
    let output = shell.current_dir(place.folder.path()).output().expect("sh runs");
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.success(), "{stdout}\n{stderr}");
    for said in ["Ada King", "accepted (NameUpdated)", "duplicates: carried out before", "status 1"] {
        assert!(stdout.contains(said), "{said} is not in\n{stdout}\n{stderr}");
    }
}
