//! Reading what older releases wrote: each step turns the JSON of a commit of one schema into that of the next.
//!
//! A stored commit never changes. When the schema becomes n + 1, its number in [`super::commit::SCHEMA`] grows and one
//! step is added at the end of [`STEPS`]; readers of schema n then refuse what newer replicas write, as too new, until
//! they are updated themselves.

use serde_json::{Map, Value};

use super::commit::SCHEMA;

/// Turns a commit of one schema into one of the next. `None` when it is not what that schema allows.
pub type Step = fn(Map<String, Value>) -> Option<Map<String, Value>>;

/// The steps from schema 1 to 2, 2 to 3 and so on; as many as there are schemas before the present one.
pub const STEPS: &[Step] = &[];

const _: () = assert!(STEPS.len() as u64 + 1 == SCHEMA, "a schema needs the step that leads to it");

/// A commit of an older schema in the present one, by these steps; `None` when it bears the number of no older schema, or
/// does not fit the one that it bears.
pub fn upcast(mut commit: Map<String, Value>, steps: &[Step]) -> Option<Value> {
    let schema = commit.get("schema")?.as_u64()?;
    let first = usize::try_from(schema.checked_sub(1)?).ok()?;
    let mut next = schema;
    for step in steps.get(first..).filter(|steps| !steps.is_empty())? {
        commit = step(commit)?;
        next += 1;
        commit.insert("schema".to_owned(), next.into());
    }
    Some(Value::Object(commit))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Schema 1 had the letter alone, schema 2 calls it a name, schema 3 has a list of names.
    const LETTERS: &[Step] = &[
        |mut commit| {
            let letter = commit.remove("letter")?;
            commit.insert("name".to_owned(), letter);
            Some(commit)
        },
        |mut commit| {
            let name = commit.remove("name")?;
            commit.insert("names".to_owned(), json!([name]));
            Some(commit)
        },
    ];

    fn upcast_json(commit: Value) -> Option<Value> {
        commit.as_object().cloned().and_then(|commit| upcast(commit, LETTERS))
    }

    #[test]
    fn every_older_schema_becomes_the_present_one() {
        let present = json!({"schema": 3, "names": ["a"]});
        assert_eq!(upcast_json(json!({"schema": 1, "letter": "a"})), Some(present.clone()));
        assert_eq!(upcast_json(json!({"schema": 2, "name": "a"})), Some(present));
    }

    #[test]
    fn what_no_older_release_wrote_stays_out() {
        for commit in [
            json!({"schema": 1, "name": "of schema 2"}),
            json!({"schema": 3, "names": []}),
            json!({"schema": 0, "letter": "a"}),
            json!({"schema": u64::MAX, "letter": "a"}),
            json!({"schema": "1", "letter": "a"}),
            json!({"letter": "a"}),
        ] {
            assert_eq!(upcast_json(commit.clone()), None, "{commit}");
        }
    }
}
