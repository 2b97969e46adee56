//! Where SIGHUP finds the log level.
//!
//! Nobody can change the environment of a running process, so "read `LOG_LEVEL` again" needs a file: the one that the
//! environment was made from, `EnvironmentFile=` of the systemd unit, whose path the unit gives in `ENVIRONMENT_FILE`.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::ConfigError;
use super::typed::{Origin, Typed};
use super::value::level;

/// Bytes of an environment file that are read; the rest is somebody else's file.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What a re-reading of the log level goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LevelSource {
    /// A flag fixed it: flags go before the environment, whatever a file says.
    Flag,
    /// The environment or the default: without a file it cannot change.
    Environment,
    /// The file that the environment was made from.
    File {
        /// The file, in the syntax of systemd's `EnvironmentFile=`. It need not exist.
        path: PathBuf,
        /// The level when the file does not name one: that of the start.
        otherwise: log::LevelFilter,
    },
}

/// Why the level stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum LevelKept {
    /// See [`LevelSource::Flag`].
    #[error("--log-level was given, and a flag goes before the environment")]
    Flag,
    /// See [`LevelSource::Environment`].
    #[error("the environment of a process cannot change; ENVIRONMENT_FILE names no file to read it from")]
    Environment,
    /// The file is there and cannot be read, often because it belongs to root alone.
    #[error("ENVIRONMENT_FILE {path:?} cannot be read: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// The file names a level that is none.
    #[error(transparent)]
    Bad(#[from] ConfigError),
}

impl LevelSource {
    pub(super) fn new(typed: &Typed, otherwise: log::LevelFilter) -> Self {
        match (typed.origin("log_level"), &typed.environment_file) {
            (Origin::Flag, _) => Self::Flag,
            (_, Some(path)) => Self::File { path: path.into(), otherwise },
            (_, None) => Self::Environment,
        }
    }

    /// Reads the level again.
    pub fn read(&self) -> Result<log::LevelFilter, LevelKept> {
        match self {
            Self::Flag => Err(LevelKept::Flag),
            Self::Environment => Err(LevelKept::Environment),
            Self::File { path, otherwise } => {
                let text = read(path).map_err(|error| LevelKept::Unreadable { path: path.clone(), error })?;
                let value = assigned(&text, "LOG_LEVEL");
                Ok(value.map(|value| level("LOG_LEVEL", value.as_ref())).transpose()?.unwrap_or(*otherwise))
            }
        }
    }
}

/// Whether this environment file gives the variable this value. What cannot be read says nothing.
pub(super) fn assigns(path: &Path, variable: &str, value: &OsStr) -> bool {
    read(path).is_ok_and(|text| assigned(&text, variable).is_some_and(|assigned| OsStr::new(assigned) == value))
}

/// The file's text; a file that is not there says nothing, as with `EnvironmentFile=-`.
fn read(path: &Path) -> std::io::Result<String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What the last assignment to the variable gives it; an empty value is none. Of systemd's syntax it leaves out what a
/// level cannot need: escapes and values of several lines.
fn assigned<'a>(text: &'a str, variable: &str) -> Option<&'a str> {
    let value = text.lines().rev().find_map(|line| line.trim().strip_prefix(variable)?.strip_prefix('='))?;
    let value = value.trim();
    let quoted = |quote| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    Some(quoted('"').or_else(|| quoted('\'')).unwrap_or(value)).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_file_is_read_as_systemd_reads_it() {
        let cases = [
            ("", None),
            ("LOG_LEVEL=debug", Some("debug")),
            ("  LOG_LEVEL=debug  \n", Some("debug")),
            ("LOG_LEVEL=\"debug\"\r\n", Some("debug")),
            ("LOG_LEVEL='warn'", Some("warn")),
            ("# LOG_LEVEL=debug\n;LOG_LEVEL=debug", None),
            ("MY_LOG_LEVEL=debug\nLOG_LEVELS=debug", None),
            ("LOG_LEVEL=", None),
            ("LOG_LEVEL=debug\nNATS_URL=x\nLOG_LEVEL=warn\n", Some("warn")),
        ];
        for (text, expected) in cases {
            assert_eq!(assigned(text, "LOG_LEVEL"), expected, "{text:?}");
        }
    }
}
