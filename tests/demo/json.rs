//! JSON laid out for the eye: members in the order that they came in, as much on a line as fits, names in colour.

use std::fmt;

use anstyle::{AnsiColor, Style};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// The width of a line that is still one line.
const COLUMNS: usize = 116;
const NAME: Style = AnsiColor::Magenta.on_default();

/// The text laid out, each line with this many spaces before it.
pub fn laid_out(text: &str, indent: usize) -> String {
    let mut out = " ".repeat(indent);
    match serde_json::from_str::<Ordered>(text) {
        Ok(value) => value.write(&mut out, indent),
        Err(_) => out.push_str(text),
    }
    out
}

/// JSON that has kept the order of its members.
enum Ordered {
    Object(Vec<(String, Ordered)>),
    List(Vec<Ordered>),
    Other(Value),
}

impl Ordered {
    /// Writes the value, filling each line with what fits; what is wider than a line gets lines of its own.
    fn write(&self, out: &mut String, indent: usize) {
        let (open, close, parts): (char, char, Vec<(Option<&str>, &Ordered)>) = match self {
            Self::Object(members) => {
                ('{', '}', members.iter().map(|(name, value)| (Some(name.as_str()), value)).collect())
            }
            Self::List(items) => ('[', ']', items.iter().map(|item| (None, item)).collect()),
            Self::Other(value) => return out.push_str(&value.to_string()),
        };
        let whole = indent + self.width() <= COLUMNS;
        let line = |indent: usize| format!("\n{}", " ".repeat(indent));
        let mut column = if whole { indent } else { COLUMNS };
        out.push(open);
        for (at, (name, value)) in parts.into_iter().enumerate() {
            let width = name.map_or(0, |name| name.len() + 4) + value.width() + 2;
            let fits = column + width <= COLUMNS || whole;
            column = if fits { column + width } else { indent + 2 + width };
            out.push_str(if at > 0 { "," } else { "" });
            out.push_str(&if !fits {
                line(indent + 2)
            } else if at > 0 {
                " ".to_owned()
            } else {
                String::new()
            });
            out.push_str(&name.map(|name| format!("{NAME}{}{NAME:#}: ", Value::from(name))).unwrap_or_default());
            value.write(out, indent + 2);
        }
        if !whole {
            out.push_str(&line(indent));
        }
        out.push(close);
    }

    /// Columns of the value on one line.
    fn width(&self) -> usize {
        match self {
            Self::Object(members) => {
                members.iter().map(|(name, value)| name.len() + 6 + value.width()).sum::<usize>() + 2
            }
            Self::List(items) => items.iter().map(|item| item.width() + 2).sum::<usize>() + 2,
            Self::Other(value) => value.to_string().chars().count(),
        }
    }
}

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Keep)
    }
}

struct Keep;

impl<'de> Visitor<'de> for Keep {
    type Value = Ordered;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Ordered::Object(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Ordered, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Ordered::List(items))
    }

    fn visit_str<E>(self, text: &str) -> Result<Ordered, E> {
        Ok(Ordered::Other(text.into()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Ordered, E> {
        Ok(Ordered::Other(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Ordered, E> {
        Ok(Ordered::Other(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Ordered, E> {
        Ok(Ordered::Other(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Ordered, E> {
        Ok(Ordered::Other(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Ordered, E> {
        Ok(Ordered::Other(Value::Null))
    }
}
