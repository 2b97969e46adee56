//! Whether a message repeats what was sent: values are put in that stand nowhere else.

use cim_domain_person::wire::reply::Problem;
use serde_json::{Value, json};

/// What no message of ours contains by chance. With its digit it is never taken for the name of a member, which may be told
/// back, even where the fuzzer, which learns the word, has put letters around it.
pub const MARKER: &str = "Zxq7marker";
/// The longest message of a refusal, in bytes.
const MESSAGE_BYTES_MAX: usize = 1024;

/// A JSON text with the marker in one place, chosen by the number; `None` when the text is not JSON.
pub fn marked(payload: &[u8], choice: usize) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(payload).ok()?;
    let places = count(&value);
    put(&mut value, &mut Some(choice % places), choice / places);
    serde_json::to_vec(&value).ok()
}

/// A refusal says what is wrong without saying what was sent.
pub fn assert_quotes_nothing(problem: &Problem) {
    assert!(!problem.message.contains(MARKER), "quoted: {}", problem.message);
    assert_short(problem);
}

/// The message of a refusal is for people.
pub fn assert_short(problem: &Problem) {
    assert!(problem.message.len() <= MESSAGE_BYTES_MAX, "{} bytes", problem.message.len());
    assert!(!problem.message.is_empty() && !problem.message.contains(char::is_control), "{:?}", problem.message);
}

/// How many values are in the value, itself included.
fn count(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(count).sum::<usize>(),
        Value::Object(members) => 1 + members.values().map(count).sum::<usize>(),
        _ => 1,
    }
}

/// Changes the value that has so many before it. Once it is done none is left to be met.
fn put(value: &mut Value, before: &mut Option<usize>, how: usize) {
    match before {
        None => return,
        Some(0) => {
            *before = None;
            return mark(value, how);
        }
        Some(count) => *count -= 1,
    }
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| put(item, before, how)),
        Value::Object(members) => members.values_mut().for_each(|member| put(member, before, how)),
        _ => {}
    }
}

fn mark(value: &mut Value, how: usize) {
    match (how % 5, value) {
        (0, value) => *value = json!(MARKER),
        (1, value) => *value = json!({ MARKER: [MARKER] }),
        (2, value) => *value = json!(MARKER.repeat(600)),
        (_, Value::Object(members)) => {
            members.insert(MARKER.to_owned(), json!(1));
        }
        (_, Value::Array(items)) => items.push(json!(MARKER)),
        (3, Value::String(text)) => text.push_str(MARKER),
        (_, Value::String(text)) => text.insert_str(0, &format!("\u{7}{MARKER}")),
        (_, value) => *value = json!([MARKER]),
    }
}
