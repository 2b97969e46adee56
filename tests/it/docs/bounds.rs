//! `docs/ARCHITECTURE.md` lists every bound with the value that it has in the code.

use super::{cells, document, in_bytes, in_thousands, section};
use crate::tidy::files;

const FILE: &str = "docs/ARCHITECTURE.md";

/// Where limits stand that the table does not repeat: `docs/protocol.md` lists them, and its own test compares them. The
/// options' limits are those of `docs/configuration.md`.
const LISTED_ELSEWHERE: &[&str] =
    &["src/domain/", "src/wire/request.rs", "src/wire/query.rs", "src/config", "src/cli", "src/nats/provision.rs"];

/// The constants of a source file without its tests: name and expression.
fn constants(text: &str) -> Vec<(String, String)> {
    let shipped = text.split("\n#[cfg(test)]\nmod tests").next().unwrap();
    let constant = |line: &str| {
        let (name, rest) = line.trim_start().split_once("const ")?.1.split_once(": ")?;
        let (_, expression) = rest.strip_suffix(';')?.split_once(" = ")?;
        Some((name.to_owned(), expression.to_owned()))
    };
    shipped.lines().filter(|line| !line.trim_start().starts_with("//")).filter_map(constant).collect()
}

fn number(text: &str) -> Option<usize> {
    text.trim().replace('_', "").parse().ok()
}

/// Sums of products, which is all that stands in constants.
fn evaluated(expression: &str) -> Option<usize> {
    let product = |text: &str| text.split('*').map(number).product::<Option<usize>>();
    expression.split('+').map(product).sum()
}

/// A time in the largest unit that leaves no fraction, seconds below a minute.
fn in_time(micros: usize) -> String {
    let (count, unit) = match micros {
        _ if micros.is_multiple_of(60_000_000) => (micros / 60_000_000, "min"),
        _ if micros.is_multiple_of(1_000_000) => (micros / 1_000_000, "s"),
        _ if micros.is_multiple_of(1_000) => (micros / 1_000, "ms"),
        _ => (micros, "µs"),
    };
    format!("{} {unit}", in_thousands(count))
}

/// The value as the table has it; the name ends in the unit.
fn shown(name: &str, expression: &str) -> Option<String> {
    let argument = |call: &str| evaluated(expression.strip_prefix(call)?.strip_suffix(')')?);
    let micros =
        [("Duration::from_secs(", 1_000_000), ("Duration::from_millis(", 1_000), ("Duration::from_micros(", 1)];
    if let Some(micros) = micros.into_iter().find_map(|(call, unit)| Some(argument(call)? * unit)) {
        return Some(in_time(micros));
    }
    let number =
        argument("NonZeroUsize::MIN.saturating_add(").map(|more| more + 1).or_else(|| evaluated(expression))?;
    Some(match name {
        _ if name.contains("BYTES") => in_bytes(number),
        _ if name.contains("MICROS") => in_time(number),
        _ => in_thousands(number),
    })
}

/// The rows: name, value, file.
fn rows() -> Vec<[String; 3]> {
    let plain = |cell: &str| cell.trim_matches('`').to_owned();
    cells(&section(FILE, "Bounds")).iter().map(|row| [plain(&row[0]), row[1].clone(), plain(&row[2])]).collect()
}

#[test]
fn every_bound_has_the_value_of_its_constant() {
    for [name, value, file] in rows() {
        let constants = constants(&document(&file));
        let (_, expression) = constants
            .iter()
            .find(|(constant, _)| *constant == name)
            .unwrap_or_else(|| panic!("{FILE}: there is no {name} in {file}"));
        let coded = shown(&name, expression).unwrap_or_else(|| panic!("{file}: {name} = {expression} cannot be read"));
        assert_eq!(value, coded, "{FILE}: {name} of {file}");
    }
}

#[test]
fn every_limit_of_the_code_has_a_row() {
    let rows = rows();
    let mut missing = Vec::new();
    for (file, text) in files("src", ".rs") {
        if LISTED_ELSEWHERE.iter().any(|listed| file.starts_with(listed)) {
            continue;
        }
        let limits = constants(&text).into_iter().filter(|(name, _)| name.ends_with("_MAX"));
        let unlisted = limits.filter(|(name, _)| !rows.iter().any(|[row, _, place]| row == name && *place == file));
        missing.extend(unlisted.map(|(name, expression)| {
            format!("| `{name}` | {} | `{file}` | what happens then? |", shown(&name, &expression).unwrap_or_default())
        }));
    }
    assert!(missing.is_empty(), "{FILE} lacks in its table of bounds:\n{}", missing.join("\n"));
}
