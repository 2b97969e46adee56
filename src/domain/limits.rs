//! Every limit on what a command may carry and on how large a person may become.
//!
//! A limit may be raised, never lowered: what was accepted once stands in histories. Characters are Unicode scalar
//! values.

/// The most characters of any string that has no limit of its own.
pub const STRING_CHARS_MAX: usize = 4_096;

/// The most characters of a `source` of a person's record.
pub const SOURCE_CHARS_MAX: usize = 256;

/// The most characters of a `reason`.
pub const REASON_CHARS_MAX: usize = 256;

/// The most characters of one component of a name, after normalisation.
pub const NAME_COMPONENT_CHARS_MAX: usize = 256;

/// The most components in one list of a name.
pub const NAME_COMPONENTS_MAX: usize = 32;

/// The most items of a `TextList`.
pub const TEXT_LIST_ITEMS_MAX: usize = 256;

/// The most bytes of a `Json` value, written compactly.
pub const JSON_BYTES_MAX: usize = 16 * 1024;

/// The most levels of arrays and objects inside one another in a `Json` value. A reader of JSON gives up at some depth
/// (ours at 128), and in a stored commit a value lies deeper than in its command: without this limit a command could be
/// accepted whose commit nobody can read.
pub const JSON_DEPTH_MAX: usize = 100;

/// The most entries of a provenance's `trace`.
pub const TRACE_ENTRIES_MAX: usize = 32;

/// The earliest year of a `Year` or `YearMonth`.
pub const YEAR_MIN: i64 = 1;

/// The latest year of a `Year` or `YearMonth`.
pub const YEAR_MAX: i64 = 9_999;

/// The most attributes of one person, those that are no longer valid included.
pub const PERSON_ATTRIBUTES_MAX: usize = 1_000;

/// The most bytes of one person's state in its [binary form](super::binary).
pub const PERSON_STATE_BYTES_MAX: usize = 512 * 1024;
