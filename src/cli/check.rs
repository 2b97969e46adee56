//! `person-service check`: the configuration as the service would take it, with where each value came from.

use std::fmt::Display;

use clap::Args;
use comfy_table::{Table, presets};
use serde::Serialize;

use crate::cli::failure::Failure;
use crate::cli::output::{DIM, Out, STRONG, harmless, styled};
use crate::config::{Config, Origin, Typed};
use crate::exit::ExitStatus;
use crate::nats::check_files;

const EXAMPLES: &str = "\
Examples:
  person-service check
          With the flags and the environment that it is given itself
  sh -c 'set -a; . /etc/cim-domain-person/environment; exec person-service check'
          With the environment file of the systemd unit
  person-service check --json | jq -r '.options[] | select(.from != \"default\").name'
          What somebody has set

Exit status: 0, or 78 where the service would not start with it, with the same line on stderr.";

/// What `check` is told.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Check {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was found, for programs.
#[derive(Serialize)]
struct Checked<'a> {
    ok: bool,
    error: Option<&'a str>,
    options: &'a [Setting],
}

/// One option as it was given.
#[derive(Debug, Serialize)]
struct Setting {
    /// The variable.
    name: String,
    /// The flag.
    flag: String,
    #[serde(skip)]
    heading: String,
    /// Whether it has a value.
    set: bool,
    /// Whether the value is a secret, or has one in it.
    secret: bool,
    /// The value, unless it is a secret.
    value: Option<String>,
    /// What the value comes to, where that is not the same.
    means: Option<String>,
    /// "flag", "environment" or "default".
    from: &'static str,
    /// The environment file that gives the same value.
    file: Option<String>,
}

impl Check {
    /// Checks, without connecting to anything.
    pub fn run(&self, typed: &Typed) -> Result<ExitStatus, Failure> {
        let resolved = Config::resolve(typed).map_err(Failure::from);
        let resolved = resolved.and_then(|config| check_files(&config.nats).map(|()| config).map_err(Failure::from));
        let settings = settings(typed, resolved.as_ref().ok());
        let mut out = Out::new();
        if self.json {
            let error = resolved.as_ref().err().map(|failure| failure.message.as_str());
            let checked = Checked { ok: error.is_none(), error, options: &settings };
            // Text and truth values: there is nothing in it that JSON cannot say.
            out.json(&serde_json::to_vec(&checked).unwrap_or_default());
        } else {
            show(&settings, &mut out);
        }
        out.finish()?;
        resolved.map(|_| ExitStatus::Clean)
    }
}

/// Every option, in the order of the help.
fn settings(typed: &Typed, config: Option<&Config>) -> Vec<Setting> {
    let command = crate::cli::command();
    command.get_arguments().filter_map(|arg| setting(arg, typed, config)).collect()
}

fn setting(arg: &clap::Arg, typed: &Typed, config: Option<&Config>) -> Option<Setting> {
    let (id, name) = (arg.get_id().as_str(), arg.get_env()?.to_string_lossy());
    let raw = typed.raw(id).map(|raw| raw.to_string_lossy().into_owned());
    // The addresses without the user and the password that may stand in them; where they cannot be told apart, nothing.
    let has_user = id == "nats_url" && raw.as_ref().is_some_and(|raw| raw.contains('@'));
    let secret = has_user || arg.get_value_names().is_some_and(|names| names.iter().any(|name| name == "SECRET"));
    let value = match config {
        Some(config) if has_user => Some(config.nats.urls.join(",")),
        _ => raw.clone().filter(|_| !secret),
    };
    let means = config.filter(|_| id == "workers").map(|config| config.workers.to_string());
    let from = match typed.origin(id) {
        Origin::Flag => "flag",
        Origin::Environment => "environment",
        Origin::Default => "default",
    };
    let file = typed.environment_file.as_ref().filter(|_| typed.is_of_the_file(id, &name));
    Some(Setting {
        flag: format!("--{}", arg.get_long().unwrap_or_default()),
        heading: arg.get_help_heading().unwrap_or_default().to_owned(),
        set: raw.is_some(),
        secret,
        means: means.filter(|means| value.as_ref() != Some(means)),
        value,
        from,
        file: file.map(|file| file.to_string_lossy().into_owned()),
        name: name.into_owned(),
    })
}

/// By heading; what was not given stands back.
fn show(settings: &[Setting], out: &mut Out) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for setting in settings {
        let value = match &setting.means {
            Some(means) => format!("{} ({means})", setting.shown()),
            None => setting.shown(),
        };
        table.add_row([setting.name.clone(), harmless(&value).into_owned(), setting.source()]);
    }
    let mut heading = "";
    for (setting, line) in settings.iter().zip(table.trim_fmt().lines()) {
        if setting.heading != heading {
            let gap = if heading.is_empty() { "" } else { "\n" };
            heading = &setting.heading;
            out.line(format_args!("{gap}{}", styled(STRONG, heading)));
        }
        let line: &dyn Display = if setting.from == "default" { &styled(DIM, line) } else { &line };
        out.line(line);
    }
}

impl Setting {
    fn shown(&self) -> String {
        match &self.value {
            _ if !self.set => "not set".to_owned(),
            Some(value) if self.secret => format!("{value} (and a user or token, not shown)"),
            Some(value) => value.clone(),
            None => "set (not shown)".to_owned(),
        }
    }

    fn source(&self) -> String {
        match &self.file {
            Some(file) => format!("{}, as in {}", self.from, harmless(file)),
            None if !self.set => String::new(),
            None => self.from.to_owned(),
        }
    }
}
