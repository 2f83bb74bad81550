//! The table of all diagnostic codes: number, the constant by which stages name it, and a title.
//! Each has a page in `docs/errors` and an example among the tests. Numbers are never used again:
//! 0001–0199 shape, 02xx routing keys, 03xx names and types, 04xx cases and dead code, 05xx times,
//! 06xx effects, 07xx children, 08xx what is not supported yet.

pub use crate::diagnostic::Code;

/// Whether the JSON Schema refuses it too: kinds of values, known keys, patterns. It cannot see
/// YAML itself, nor compare two places.
pub fn in_schema(code: Code) -> bool {
    matches!(code.0, 20..=39)
}

macro_rules! codes {
    ($($name:ident = $number:literal, $title:literal;)*) => {
        $(#[doc = $title] pub const $name: Code = Code($number);)*

        /// Every code with its title, in ascending order.
        pub const ALL: &[(Code, &str)] = &[$(($name, $title)),*];
    };
}

codes! {
    // 0001–0019: YAML and files
    SYNTAX = 1, "not YAML";
    TAG = 2, "a YAML tag";
    ANCHOR = 3, "a YAML anchor or alias";
    MERGE_KEY = 4, "a YAML merge key";
    KEY_TWICE = 5, "a key that is written twice";
    KEY_NOT_TEXT = 6, "a key that is not a string";
    SWALLOWED = 7, "a comment that swallows the end of a string";
    DOCUMENTS = 8, "more than one document in a file";
    LIMIT = 9, "a file beyond the limits of the compiler";
    FILE = 10, "a file that cannot be read";
    FILE_NAME = 11, "a file name that cannot name a pipeline";
    NAME_DIFFERS = 12, "a workflow named otherwise than its file";
    FOLDER_INSIDE = 13, "pipelines in a folder inside the folder";
    NO_PIPELINES = 14, "a folder without pipelines";

    // 0020–0039: shape, as the JSON Schema sees it too
    UNKNOWN_KEY = 20, "an unknown key";
    MISSING_KEY = 21, "a missing key";
    MISPLACED_KEY = 22, "a key in the wrong place";
    WRONG_KIND = 23, "a value of the wrong kind";
    BAD_NAME = 24, "a name with characters that are not allowed";
    UNKNOWN_WORD = 25, "an unknown value";
    BAD_DURATION = 26, "a string that is not a duration";
    OUT_OF_RANGE = 27, "a number out of range";
    NO_VERB = 28, "a step that does nothing";
    TWO_VERBS = 29, "a step that does two things";
    BAD_TYPE = 30, "a string that is not a type";
    BAD_FIELD = 31, "details that do not belong to a field";
    EMPTY = 32, "a list or record that must not be empty";
    BAD_HTTP = 33, "an HTTP trigger that is not `POST /path`";
    TRIGGER_SOURCE = 34, "a trigger without a source, or with two";

    // 0040–0099: shape, where two places must be compared
    WORD_TWICE = 40, "an enum value that is written twice";
    LIMITS_CROSSED = 41, "a maximum below its minimum";
    INTEGER_TOO_LARGE = 42, "an integer beyond 64 bits";
    VALUE_MISSING = 43, "a name or an element without a value";
    BAD_ELSE = 44, "an `else` that is not the last branch";
    NOT_FINITE = 45, "a number that is not finite";
    RULE_OF_TYPE = 46, "a rule that its type does not have";
    DEFAULT_COMPUTED = 47, "a `$default` that is computed";

    // 02xx: routing keys, events and routes
    ROUTING_KEY_SYNTAX = 200, "a routing key that AMQP does not accept";
    ROUTING_KEY_RESERVED = 201, "a routing key that Crux keeps for itself";
    ROUTING_KEY_TAKEN = 202, "two step types under one routing key";
    ROUTE_TAKEN = 203, "one HTTP route claimed twice";
    ROUTE_RESERVED = 204, "an HTTP route that is built in";
    ROUTING_KEY_UNHEARD = 205, "a routing key that nothing receives";
    PATTERN_SYNTAX = 206, "a pattern of routing keys that AMQP does not accept";
    CLASS_TAKEN = 207, "two step types in one step struct";
    STARTS_ITSELF = 208, "a workflow that starts itself";
    TASK_KEY_PUBLISHED = 209, "an event or hook under the routing key of a step type";

    // 03xx: names and types
    EXPRESSION_SYNTAX = 300, "a string that is not an expression";
    EXPRESSION_LIMIT = 301, "an expression that is too long or too deep";
    PLACEHOLDER_IN_EXPRESSION = 302, "`${}` where a bare expression stands";
    UNKNOWN_NAME = 303, "a name that nothing has here";
    UNKNOWN_FIELD = 304, "a field that the type does not have";
    UNKNOWN_STEP = 305, "a step that the workflow does not have";
    STEP_LATER = 306, "the result of a step that has not run yet";
    STEP_ELSEWHERE = 307, "the result of a step in another branch";
    STEP_WITHOUT_RESULT = 308, "the result of a step that has none";
    MAY_BE_ABSENT = 309, "a value that may be absent, used as if it were there";
    NEVER_ABSENT = 310, "`?.`, `??` or `has` on what is never absent";
    TYPE_MISMATCH = 311, "a value of another type than the place takes";
    OPERAND_TYPE = 312, "an operator on types that it does not know";
    UNKNOWN_FUNCTION = 313, "a function that does not exist, or is written on the wrong side of its value";
    FUNCTION_ARGUMENTS = 314, "wrong arguments of a function";
    ENUM_WORD = 315, "an enum value that does not exist";
    LITERAL = 316, "a literal that does not fit its type";
    NO_TEXT = 317, "a value that cannot be converted to a string";
    FIELD_MISSING = 318, "a required field that got no value";
    TYPE_UNKNOWABLE = 319, "a value whose type cannot be inferred";
    NAME_TAKEN = 320, "a name that means something already";
    UNKNOWN_TYPE = 321, "a type that is not defined";
    TYPE_TWICE = 322, "a type that is defined twice";
    TYPE_RECURSIVE = 323, "a type that contains itself";
    TYPE_PLACE = 324, "a type that is not allowed in its place";
    RUST_COLLISION = 325, "two names that fall together in Rust";
    CONTRACT_TWICE = 326, "a step type with more than one contract";
    CONTRACT_ELSEWHERE = 327, "a contract stated in place and under `step_types`";
    STEP_TYPE_TWICE = 328, "a step type that is defined twice";
    STEP_ID_TWICE = 329, "two steps with one id";
    UNKNOWN_ERROR = 330, "an error that nothing raises";
    ERROR_RESERVED = 331, "an error name that Crux keeps for itself";
    EVENT_TWICE = 332, "an event that is declared twice";
    UNKNOWN_EVENT = 333, "an event without a type";
    EVENT_TYPE = 334, "an event whose type does not fit";
    WHERE_CORRELATES = 335, "a wait whose `where` names no value to find it by";
    EVENT_CORRELATED_TWICE = 336, "waits that find one event by different fields";
    UNUSED = 337, "something that is defined and never used";
    TOO_MANY_STEPS = 338, "a workflow with too many steps";
    PLACEHOLDER_FORGOTTEN = 339, "a string that looks like an expression without `${}`";
    STEP_TYPE_NEAR = 340, "a step type that is one letter away from another";

    // 04xx: cases and dead code
    CASE_MISSING = 400, "a `switch` that leaves a value out";
    CASE_TWICE = 401, "a value with two cases";
    ELSE_MISSING = 402, "a `switch` over string or integer without `else`";
    ELSE_NEVER = 403, "an unreachable `else`";
    CONDITION_LITERAL = 404, "a condition that never changes";
    NEVER_RUNS = 405, "a step that never runs";
    CATCH_NEVER = 406, "a `catch` of what nothing inside raises";
    CONDITION_TWICE = 407, "a condition that an earlier branch has";
    ALWAYS_FAILS = 408, "an expression that always fails";
    UNTIL_CONSTANT = 409, "an `until` that reads nothing of its loop";

    // 05xx: times
    TIMES_EXCEED_TOTAL = 500, "attempts and back-offs that exceed `total`";
    TIMES_EXCEED_DEADLINE = 501, "steps that may take longer than `deadline`";
    TIMEOUT_NEEDS_START = 502, "a timeout that needs a worker which reports its start";
    TIMEOUT_ORDER = 503, "times that contradict each other";

    // 06xx: effects
    RETRY_OF_ONCE = 600, "`retry` of a `once` step without `key`";
    ONCE_WITHOUT_UNDO = 601, "a `once` step before one that can fail, without `undo`";
    KEY_CONSTANT = 602, "a `key` that is the same for every instance";
    KEY_OF_LOOP = 603, "a `key` that is the same for every element or round";
    SECRET_SHOWN = 610, "a secret where it would be shown";
    SECRET_UNMARKED = 611, "a secret in a field that is not marked as one";
    SECRET_OUTPUT = 612, "a secret that is put out";

    // 08xx: not supported yet
    CHILD_UNSUPPORTED = 800, "`child` is not supported yet";
    CRON_UNSUPPORTED = 801, "`cron` triggers are not supported yet";
    KAFKA_UNSUPPORTED = 802, "`kafka` triggers are not supported yet";
    RETIRED_UNSUPPORTED = 803, "older versions (`NAME@N.yaml`) are not supported yet";
    WEBHOOK_UNSUPPORTED = 804, "`webhook:` hooks are not supported yet";
}
