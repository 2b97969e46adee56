//! A name written for each use, by the rules of its convention.
//!
//! What a convention orders is the *whole* name, all components but prefixes and suffixes:
//!
//! | convention | the whole name | example |
//! |---|---|---|
//! | Western, Mononymic, Other | given names, patronymic, matronymic, family names | Martin Luther King |
//! | Patronymic | the same | Лев Николаевич Толстой, Vigdís Finnbogadóttir |
//! | Spanish | given names, father's and mother's surname | Gabriel García Márquez |
//! | EastAsian | family names, given names, patronymic, matronymic | 山田太郎, Mao Zedong |
//!
//! A Spanish `y` stands where the name bears one, as a component or inside one, and is never added. The two surnames
//! are the family names; a patronymic or matronymic that is not among them stands before or after them. East Asian
//! components that are written in Han, Hangul or Kana stand together without a space.
//!
//! Blank and absent parts leave nothing behind, no space and no comma.

use serde::Serialize;

use super::name::{NameComponents, NamingConvention, PersonName};

/// A person's name, written for each use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DisplayNames {
    /// For addressing with respect: prefixes, the whole name, suffixes. A Western suffix follows a comma (`Jr.`, `PhD`),
    /// a Roman numeral does not (`III`); elsewhere it follows a space. An East Asian suffix in Han or Kana stands at the
    /// name itself (`山田太郎様`), as does one that brings its own hyphen (`-san`).
    pub formal: String,
    /// Among friends: the preferred form. Without one the first given name; with the East Asian convention all of them,
    /// for they are one name; with the mononymic one the one name. A person without a given name is called by the whole
    /// name.
    pub informal: String,
    /// For documents: the whole name, with the suffixes that tell generations apart (`Jr.`, `III`, `hijo`), without
    /// titles and degrees.
    pub legal: String,
    /// For sorted lists: the family name, a comma, the rest, and generations after another comma. Lower-case particles
    /// that begin a family name go to the end of the rest (`Beethoven, Ludwig van`; `Cruz, Juan de la`), capitalised
    /// ones are a part of the name (`Van Buren, Martin`), and those of the convention Other are left alone. A name that
    /// begins with what it is sorted by is not turned round: East Asian and mononymic names, and those without a family
    /// name.
    pub alphabetical: String,
    /// As people of that culture say it: the whole name; with the patronymic convention given name and patronymic
    /// (Лев Николаевич), without a family name; with the mononymic one the one name.
    pub cultural: String,
}

impl DisplayNames {
    /// All forms of one name.
    pub fn of(name: &PersonName) -> Self {
        let (parts, convention) = (&name.components, name.naming_convention);
        Self {
            formal: formal(parts, convention),
            informal: informal(name),
            legal: with_suffixes(whole(parts, convention), generations(parts), convention),
            alphabetical: alphabetical(parts, convention),
            cultural: cultural(parts, convention),
        }
    }
}

fn formal(parts: &NameComponents, convention: NamingConvention) -> String {
    let name = with_suffixes(whole(parts, convention), texts(&parts.suffixes), convention);
    spaced(texts(&parts.prefixes).chain([name.as_str()]))
}

fn informal(name: &PersonName) -> String {
    let (parts, convention) = (&name.components, name.naming_convention);
    let called = match convention {
        NamingConvention::EastAsian => close_up(texts(&parts.given_names)),
        NamingConvention::Mononymic => mononym(parts),
        _ => texts(&parts.given_names).next().unwrap_or_default().to_owned(),
    };
    let whole = whole(parts, convention);
    let choices = [name.preferred_form.as_deref().unwrap_or_default(), &called, &whole];
    texts(choices).next().unwrap_or_default().to_owned()
}

fn alphabetical(parts: &NameComponents, convention: NamingConvention) -> String {
    let (particles, family, rest) = match convention {
        NamingConvention::EastAsian => return whole(parts, convention),
        NamingConvention::Mononymic => return mononym(parts),
        NamingConvention::Other => (String::new(), spaced(texts(&parts.family_names)), before_family(parts)),
        NamingConvention::Western | NamingConvention::Patronymic => {
            let (particles, family) = without_particles(&spaced(texts(&parts.family_names)));
            (particles, family, before_family(parts))
        }
        NamingConvention::Spanish => {
            let (particles, family) = without_particles(&spaced(surnames(parts)));
            (particles, family, spaced(texts(&parts.given_names)))
        }
    };
    let rest = spaced([rest.as_str(), &particles]);
    let generations = spaced(generations(parts));
    texts([family.as_str(), &rest, &generations]).collect::<Vec<_>>().join(", ")
}

fn cultural(parts: &NameComponents, convention: NamingConvention) -> String {
    match convention {
        NamingConvention::Mononymic => mononym(parts),
        NamingConvention::Patronymic if has_parental_name(parts) => before_family(parts),
        _ => whole(parts, convention),
    }
}

/// All components but prefixes and suffixes.
fn whole(parts: &NameComponents, convention: NamingConvention) -> String {
    match convention {
        NamingConvention::Spanish => spaced(texts(&parts.given_names).chain(surnames(parts))),
        NamingConvention::EastAsian => {
            let names = texts(&parts.family_names).chain(texts(&parts.given_names));
            close_up(names.chain(parental_names(parts)))
        }
        _ => spaced([before_family(parts).as_str()].into_iter().chain(texts(&parts.family_names))),
    }
}

fn before_family(parts: &NameComponents) -> String {
    spaced(texts(&parts.given_names).chain(parental_names(parts)))
}

fn parental_names(parts: &NameComponents) -> impl Iterator<Item = &str> {
    texts(&parts.patronymic).chain(texts(&parts.matronymic))
}

fn has_parental_name(parts: &NameComponents) -> bool {
    parental_names(parts).next().is_some()
}

/// The father's surname, then the mother's. They may be recorded as family names, by their roles, or both.
fn surnames(parts: &NameComponents) -> impl Iterator<Item = &str> {
    let is_new = |name: &&str| !texts(&parts.family_names).any(|family| family == *name);
    let first = texts(&parts.patronymic).filter(is_new);
    first.chain(texts(&parts.family_names)).chain(texts(&parts.matronymic).filter(is_new))
}

fn mononym(parts: &NameComponents) -> String {
    let given = spaced(texts(&parts.given_names));
    if given.is_empty() { spaced(texts(&parts.family_names)) } else { given }
}

fn with_suffixes<'a>(name: String, suffixes: impl Iterator<Item = &'a str>, convention: NamingConvention) -> String {
    suffixes.fold(name, |name, suffix| format!("{name}{}{suffix}", before_suffix(&name, suffix, convention)))
}

fn before_suffix(name: &str, suffix: &str, convention: NamingConvention) -> &'static str {
    let stands_at_the_name = || is_closed_up(name) && is_closed_up(suffix) && !suffix.chars().any(is_hangul);
    match convention {
        _ if name.is_empty() => "",
        NamingConvention::Western if !is_roman_numeral(suffix) => ", ",
        NamingConvention::EastAsian if suffix.starts_with('-') || stands_at_the_name() => "",
        _ => " ",
    }
}

fn generations(parts: &NameComponents) -> impl Iterator<Item = &str> {
    texts(&parts.suffixes).filter(|suffix| is_generation(suffix))
}

fn is_generation(suffix: &str) -> bool {
    const WORDS: [&str; 10] = ["jr", "sr", "jnr", "snr", "junior", "senior", "júnior", "hijo", "filho", "neto"];
    is_roman_numeral(suffix) || WORDS.contains(&suffix.trim_end_matches('.').to_lowercase().as_str())
}

fn is_roman_numeral(suffix: &str) -> bool {
    suffix.chars().all(|digit| matches!(digit, 'I' | 'V' | 'X'))
}

/// The particles that begin a family name, and what it is sorted by. What consists of particles alone keeps them.
fn without_particles(family: &str) -> (String, String) {
    const PARTICLES: [&str; 38] = [
        "'t", "af", "av", "d'", "da", "dal", "dalla", "das", "de", "degli", "dei", "del", "della", "den", "der", "des",
        "di", "do", "dos", "du", "e", "el", "het", "in", "la", "las", "lo", "los", "op", "ten", "ter", "van", "vom",
        "von", "y", "zu", "zum", "zur",
    ];
    let words = || family.split_whitespace();
    let leading = words().take_while(|word| PARTICLES.contains(word)).count();
    match words().nth(leading) {
        Some(_) => (spaced(words().take(leading)), spaced(words().skip(leading))),
        None => (String::new(), family.to_owned()),
    }
}

/// The parts that say something, without the space around them.
fn texts<'a>(parts: impl IntoIterator<Item = &'a (impl AsRef<str> + ?Sized + 'a)>) -> impl Iterator<Item = &'a str> {
    parts.into_iter().map(|part| part.as_ref().trim()).filter(|part| !part.is_empty())
}

fn spaced<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    texts(parts).collect::<Vec<_>>().join(" ")
}

/// Joins parts without a space where both are in a script that needs none.
fn close_up<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    let mut previous = "";
    let mut name = String::new();
    for part in parts {
        let apart = !is_closed_up(previous) || !is_closed_up(part);
        if apart && !name.is_empty() {
            name.push(' ');
        }
        name.push_str(part);
        previous = part;
    }
    name
}

fn is_closed_up(text: &str) -> bool {
    text.chars().all(|letter| is_han(letter) || is_kana(letter) || is_hangul(letter))
}

fn is_han(letter: char) -> bool {
    matches!(letter, '々' | '〇' | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}')
        || matches!(letter, '\u{20000}'..='\u{3FFFD}')
}

fn is_kana(letter: char) -> bool {
    matches!(letter, '\u{3041}'..='\u{30FF}' | '\u{31F0}'..='\u{31FF}' | '\u{FF66}'..='\u{FF9F}')
}

fn is_hangul(letter: char) -> bool {
    matches!(letter, '\u{1100}'..='\u{11FF}' | '\u{3131}'..='\u{318E}' | '\u{AC00}'..='\u{D7A3}')
}
