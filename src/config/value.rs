//! Values that mean the same for every option: text, numbers, durations, sizes, files.

use std::ffi::OsStr;
use std::io::Read;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use jiff::SignedDuration;

use super::{ConfigError, LogFormat};

/// The value as text.
pub(super) fn text<'a>(option: &'static str, given: &'a OsStr, allowed: &str) -> Result<&'a str, ConfigError> {
    match given.to_str() {
        Some(text) if !text.is_empty() => Ok(text),
        _ => Err(ConfigError::value(option, given, allowed)),
    }
}

/// Text that errors must not show.
pub(super) fn secret(option: &'static str, given: &OsStr) -> Result<String, ConfigError> {
    match given.to_str() {
        Some(text) if !text.is_empty() && !text.chars().any(char::is_control) => Ok(text.to_owned()),
        _ => Err(ConfigError::secret(
            option,
            "is empty, not UTF-8 or has control characters in it",
            "one line of UTF-8 text",
        )),
    }
}

/// A whole number in decimal, without sign.
pub(super) fn number(option: &'static str, given: &OsStr, range: RangeInclusive<u64>) -> Result<u64, ConfigError> {
    let allowed = format!("a whole number from {} to {}", range.start(), range.end());
    // `parse` would take a leading plus.
    let digits = text(option, given, &allowed)?.bytes().all(|byte| byte.is_ascii_digit());
    let number = given.to_str().filter(|_| digits).and_then(|text| text.parse().ok());
    number.filter(|number| range.contains(number)).ok_or_else(|| ConfigError::value(option, given, allowed))
}

/// The same, as a length in memory.
pub(super) fn count(option: &'static str, given: &OsStr, range: RangeInclusive<u64>) -> Result<usize, ConfigError> {
    let number = number(option, given, range)?;
    usize::try_from(number).map_err(|_| ConfigError::value(option, given, format!("at most {}", usize::MAX)))
}

/// `true` or `false`, in lower case as in JSON and Nix.
pub(super) fn boolean(option: &'static str, given: &OsStr) -> Result<bool, ConfigError> {
    match given.to_str() {
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        _ => Err(ConfigError::value(option, given, "true or false")),
    }
}

/// A duration with its unit, such as `500ms`, `10s` or `2m`.
pub(super) fn duration(
    option: &'static str,
    given: &OsStr,
    range: RangeInclusive<Duration>,
) -> Result<Duration, ConfigError> {
    let parsed = given.to_str().and_then(|text| text.parse::<SignedDuration>().ok());
    let unsigned = parsed.and_then(|duration| Duration::try_from(duration).ok());
    unsigned.filter(|duration| range.contains(duration)).ok_or_else(|| {
        let (least, most) = (friendly(*range.start()), friendly(*range.end()));
        ConfigError::value(
            option,
            given,
            format!("a duration with its unit from {least} to {most}, such as 500ms or 10s"),
        )
    })
}

/// The way durations are written in the options.
fn friendly(duration: Duration) -> String {
    SignedDuration::try_from(duration).map_or_else(|_| format!("{duration:?}"), |signed| format!("{signed:#}"))
}

/// A size in bytes, such as `64MiB`; a bare number is bytes.
pub(super) fn size(option: &'static str, given: &OsStr, range: RangeInclusive<ByteSize>) -> Result<u64, ConfigError> {
    let parsed = given.to_str().and_then(|text| text.parse::<ByteSize>().ok());
    let size = parsed.filter(|size| range.contains(size));
    size.map(|size| size.as_u64()).ok_or_else(|| {
        let (least, most) = (range.start(), range.end());
        ConfigError::value(option, given, format!("a size from {least} to {most}, such as 64MiB"))
    })
}

/// The least severe level to log. `off` is not one: a service that says nothing cannot be operated.
pub(super) fn level(option: &'static str, given: &OsStr) -> Result<log::LevelFilter, ConfigError> {
    let level = given.to_str().and_then(|text| text.parse::<log::Level>().ok());
    level
        .map(|level| level.to_level_filter())
        .ok_or_else(|| ConfigError::value(option, given, "trace, debug, info, warn or error"))
}

/// How log lines are written.
pub(super) fn format(option: &'static str, given: &OsStr) -> Result<LogFormat, ConfigError> {
    match given.to_str() {
        Some("auto") => Ok(LogFormat::Auto),
        Some("text") => Ok(LogFormat::Text),
        Some("json") => Ok(LogFormat::Json),
        _ => Err(ConfigError::value(option, given, "auto, text or json")),
    }
}

/// An IP address and a port. No host name: what it means could change, and more than was meant be open.
pub(super) fn address(option: &'static str, given: &OsStr) -> Result<SocketAddr, ConfigError> {
    let parsed = given.to_str().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| {
        ConfigError::value(option, given, "an IP address and a port, such as 127.0.0.1:9464 or [::1]:9464")
    })
}

/// A file that can be read now. What is in it is the business of whoever uses it.
pub(super) fn file(option: &'static str, given: &OsStr) -> Result<PathBuf, ConfigError> {
    let path = PathBuf::from(given);
    readable(&path).map_err(|reason| ConfigError::file(option, given, &reason))?;
    Ok(path)
}

fn readable(path: &std::path::Path) -> Result<(), String> {
    let metadata = std::fs::metadata(path).map_err(|error| format!("which cannot be read ({error})"))?;
    // A pipe would be emptied by this very check, and a client that reconnects reads its credentials again and again.
    if !metadata.is_file() {
        return Err("which is not a regular file".to_owned());
    }
    let mut byte = [0];
    let read = std::fs::File::open(path).and_then(|mut file| file.read(&mut byte));
    match read {
        Ok(0) => Err("which is empty".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("which cannot be read ({error})")),
    }
}
