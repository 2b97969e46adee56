//! `person-service man`: the manual, a page for the program and one for each subcommand, from the definitions that parse
//! the command line.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Args, Command};
use clap_mangen::Man as Page;
use clap_mangen::roff::{Roff, bold, roman};

use crate::cli::failure::Failure;
use crate::cli::output::Out;
use crate::exit::ExitStatus;

const EXAMPLES: &str = "\
Examples:
  person-service man send create | man -l -
          The page of a subcommand, to be read
  person-service man --out /usr/local/share/man/man1
          All pages, as files

The Debian package, the Nix package and systemd/install bring the pages along.";

/// The program.
const NAME: &str = "person-service";

/// What `man` is told.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Man {
    /// The subcommand whose page is meant, such as: send create; without it the program's
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    command: Vec<String>,

    /// Write all pages into this folder, which is made if it is not there
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Man {
    /// Prints a page, or writes all.
    pub fn run(&self) -> Result<ExitStatus, Failure> {
        let mut command = crate::cli::command().disable_help_subcommand(true);
        command.build();
        match &self.out {
            Some(folder) => write_all(&command, folder)?,
            None => self.print(&command)?,
        }
        Ok(ExitStatus::Clean)
    }

    fn print(&self, command: &Command) -> Result<(), Failure> {
        let mut meant = command;
        for name in &self.command {
            let unknown = || {
                let error = crate::cli::command().error(ErrorKind::InvalidSubcommand, "there is no such subcommand");
                Failure::new(ExitStatus::Usage, format!("bad usage: {}", crate::cli::usage::in_one_line(&error, None)))
            };
            meant = meant.get_subcommands().find(|command| command.get_name() == name).ok_or_else(unknown)?;
        }
        let mut out = Out::new();
        out.json(page(meant.clone()).text.trim_end().as_bytes());
        out.finish()
    }
}

fn write_all(command: &Command, folder: &Path) -> Result<(), Failure> {
    let unwritable = |path: &Path, error: std::io::Error| {
        Failure::new(ExitStatus::BadConfiguration, format!("{} cannot be written: {error}", path.display()))
    };
    std::fs::create_dir_all(folder).map_err(|error| unwritable(folder, error))?;
    let mut commands = vec![command];
    while let Some(command) = commands.pop() {
        let written = page(command.clone());
        let path = folder.join(written.file);
        std::fs::write(&path, written.text).map_err(|error| unwritable(&path, error))?;
        commands.extend(command.get_subcommands().filter(|command| !command.is_hide_set()));
    }
    Ok(())
}

/// A page, and the name of its file.
struct Written {
    file: String,
    text: String,
}

/// One page. What clap knows it renders itself; its free text below the help becomes sections with the usual names.
fn page(command: Command) -> Written {
    let after = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    let is_program = command.get_name() == NAME;
    let short = command.get_bin_name().unwrap_or(NAME).to_owned();
    // A list of all options would hide what the synopsis is for; and one that the short help leaves out is one.
    let usage = synopsis(&command, &short);
    let command = command.override_usage(usage).mut_args(|arg| arg.hide_short_help(false)).version(None::<&str>);
    let title = command.get_display_name().unwrap_or(NAME).to_owned();
    let page = Page::new(command.clone()).title(&title).source(format!("{NAME} {}", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    // Memory takes whatever is written.
    let _ = page.render_title(&mut text);
    let _ = page.render_name_section(&mut text);
    let _ = page.render_synopsis_section(&mut text);
    let _ = page.render_description_section(&mut text);
    if command.has_subcommands() {
        let _ = page.render_subcommands_section(&mut text);
    }
    text.extend(options(&page).bytes());
    let mut sections = Roff::new();
    if is_program {
        exit_statuses(&mut sections);
    }
    free_text(&after, is_program, &mut sections);
    see_also(&command, &title, &mut sections);
    let _ = sections.to_writer(&mut text);
    // An empty line is a blank one for most readers of man pages, and an error for some.
    let text = String::from_utf8_lossy(&text).replace("\n\n", "\n.sp\n");
    Written { file: format!("{title}.1"), text }
}

/// The options, each group under a heading that says so: one is called NAME, and there is that section already.
fn options(page: &Page) -> String {
    let mut text = Vec::new();
    // Memory takes whatever is written.
    let _ = page.render_options_section(&mut text);
    let headed = |line: &str| match line.strip_prefix(".SH ").map(|heading| heading.trim_matches('"')) {
        Some(heading) if heading != "OPTIONS" => format!(".SH \"{heading} OPTIONS\"\n"),
        _ => format!("{line}\n"),
    };
    String::from_utf8_lossy(&text).lines().map(headed).collect()
}

fn synopsis(command: &Command, name: &str) -> String {
    let mut usage = format!("{name} [OPTIONS]");
    for argument in command.get_positionals().filter(|argument| !argument.is_hide_set()) {
        let value = argument.get_value_names().map(|names| names.join(" ")).unwrap_or_default();
        let many = argument.get_num_args().is_some_and(|range| range.max_values() > 1);
        let dots = if many { "..." } else { "" };
        // Writing to a string cannot fail.
        let _ = if argument.is_required_set() {
            write!(usage, " <{value}>{dots}")
        } else {
            write!(usage, " [{value}]{dots}")
        };
    }
    if command.has_subcommands() {
        usage.push_str(" [COMMAND]");
    }
    usage
}

fn exit_statuses(roff: &mut Roff) {
    roff.control("SH", ["EXIT STATUS"]);
    for status in ExitStatus::ALL {
        roff.control("TP", []);
        roff.text([bold(status.code().to_string())]);
        roff.text([roman(status.meaning())]);
    }
}

/// `Examples:` with a command and its explanation by indentation, and paragraphs. Of the program the exit statuses stand
/// there already.
fn free_text(text: &str, without_statuses: bool, roff: &mut Roff) {
    let statuses = |paragraph: &&str| paragraph.starts_with("Exit status:") && without_statuses;
    let mut is_notes = false;
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.is_empty() && !statuses(paragraph)) {
        if let Some(examples) = paragraph.strip_prefix("Examples:\n") {
            roff.control("SH", ["EXAMPLES"]);
            examples.lines().for_each(|line| example(line, roff));
        } else if let Some(statuses) = paragraph.strip_prefix("Exit status:") {
            roff.control("SH", ["EXIT STATUS"]);
            roff.text([roman(statuses.trim())]);
        } else {
            let heading = if is_notes { roff.control("PP", []) } else { roff.control("SH", ["NOTES"]) };
            heading.text([roman(paragraph)]);
            is_notes = true;
        }
    }
}

fn example(line: &str, roff: &mut Roff) {
    if line.starts_with("    ") {
        roff.control("RS", []).text([roman(line.trim())]).control("RE", []);
    } else {
        // As long as it is: a command is not to be broken.
        roff.control("PP", []).control("nf", []).text([bold(line.trim())]).control("fi", []);
    }
}

fn see_also(command: &Command, title: &str, roff: &mut Roff) {
    roff.control("SH", ["SEE ALSO"]);
    let mut others: Vec<String> =
        command.get_subcommands().map(|other| format!("{title}-{}(1)", other.get_name())).collect();
    if title != NAME {
        others.insert(0, format!("{NAME}(1)"));
    }
    roff.text([roman(others.join(", "))]);
}
