//! What other systems call the keys of a pipeline. A key that is not known here, and is known
//! there, is answered with the one to write.

/// Keys of other systems without blanks, `-`, `_` and capitals, and the keys that mean the same
/// here: the first that its place knows.
const KEYS: &[(&str, &[&str])] = &[
    // The verbs.
    ("uses", &["type"]),
    ("action", &["type"]),
    ("activity", &["type"]),
    ("call", &["type"]),
    ("function", &["type", "class"]),
    ("handler", &["class", "type"]),
    ("impl", &["class"]),
    ("invoke", &["type"]),
    ("job", &["type"]),
    ("kind", &["type"]),
    ("resource", &["type"]),
    ("run", &["type"]),
    ("task", &["type"]),
    ("template", &["type"]),
    ("tool", &["type"]),
    ("struct", &["class"]),
    ("service", &["routing_key"]),
    ("queue", &["routing_key"]),
    ("foreach", &["each"]),
    ("for", &["each"]),
    ("loop", &["each"]),
    ("iterate", &["each"]),
    ("iterator", &["each"]),
    ("map", &["each", "with"]),
    ("withitems", &["each"]),
    ("withparam", &["each"]),
    ("matrix", &["each"]),
    ("dowhile", &["repeat"]),
    ("poll", &["repeat"]),
    ("while", &["repeat"]),
    ("choice", &["switch"]),
    ("choices", &["switch", "cases"]),
    ("choose", &["switch"]),
    ("match", &["switch", "where"]),
    ("condition", &["when", "until", "where"]),
    ("conditions", &["when"]),
    ("cond", &["when"]),
    ("if", &["when", "where"]),
    ("delay", &["sleep", "every", "backoff"]),
    ("pause", &["sleep", "every", "backoff"]),
    ("timer", &["sleep", "cron"]),
    ("await", &["wait"]),
    ("waitfor", &["wait"]),
    ("waitforevent", &["wait"]),
    ("waitforsignal", &["wait"]),
    ("receive", &["wait"]),
    ("signal", &["wait", "event"]),
    ("publish", &["emit"]),
    ("send", &["emit"]),
    ("sendevent", &["emit"]),
    ("sendsignal", &["emit"]),
    ("notify", &["emit"]),
    ("raise", &["fail", "raises"]),
    ("throw", &["fail"]),
    ("abort", &["fail"]),
    ("branches", &["parallel", "cases"]),
    ("concurrent", &["parallel"]),
    ("fork", &["parallel"]),
    ("childworkflow", &["child"]),
    ("subworkflow", &["child"]),
    ("workflow", &["child"]),
    ("block", &["steps"]),
    ("group", &["steps"]),
    ("sequence", &["steps"]),
    ("try", &["steps"]),
    ("activities", &["steps"]),
    ("do", &["steps", "type"]),
    ("jobs", &["steps"]),
    ("nodes", &["steps"]),
    ("stages", &["steps"]),
    ("states", &["steps"]),
    ("tasks", &["steps"]),
    ("then", &["steps"]),
    // What a step is given and gives.
    ("args", &["with"]),
    ("arguments", &["with"]),
    ("env", &["with"]),
    ("parameters", &["input", "with", "takes"]),
    ("params", &["input", "with", "takes"]),
    ("inputs", &["input", "with", "takes"]),
    ("input", &["with", "takes"]),
    ("body", &["data", "with", "steps"]),
    ("data", &["with"]),
    ("payload", &["data", "with"]),
    ("outputs", &["output", "returns"]),
    ("output", &["returns", "yield"]),
    ("result", &["returns", "output", "yield"]),
    ("results", &["returns", "output", "yield"]),
    ("collect", &["yield"]),
    // Modifiers.
    ("name", &["id", "item", "event", "error", "workflow"]),
    ("stepid", &["id"]),
    ("compensate", &["undo"]),
    ("compensation", &["undo"]),
    ("compensatewith", &["undo"]),
    ("rollback", &["undo"]),
    ("except", &["catch"]),
    ("rescue", &["catch"]),
    ("onerror", &["catch", "on_failure"]),
    ("onfail", &["catch"]),
    ("onfailure", &["catch", "on_failure"]),
    ("errorhandler", &["catch"]),
    ("continueonerror", &["catch"]),
    ("errors", &["raises", "catch"]),
    ("throws", &["raises"]),
    ("exceptions", &["raises"]),
    ("idempotencykey", &["key"]),
    ("retries", &["retry", "attempts"]),
    ("retrypolicy", &["retry"]),
    ("retrystrategy", &["retry"]),
    ("maxattempts", &["attempts", "retry"]),
    ("maximumattempts", &["attempts", "retry"]),
    ("maxretries", &["attempts", "retry"]),
    ("tries", &["attempts", "retry"]),
    ("maxtries", &["attempts", "retry"]),
    ("timeoutminutes", &["timeout"]),
    ("timeoutseconds", &["timeout"]),
    ("timeoutms", &["timeout"]),
    ("executiontimeout", &["deadline", "timeout"]),
    ("activedeadlineseconds", &["deadline", "timeout"]),
    ("starttoclosetimeout", &["run", "timeout"]),
    ("scheduletostarttimeout", &["queue", "timeout"]),
    ("scheduletoclosetimeout", &["total", "timeout"]),
    ("heartbeattimeout", &["heartbeat", "timeout"]),
    ("heartbeatseconds", &["heartbeat", "timeout"]),
    // The parts of a retry.
    ("initialinterval", &["backoff"]),
    ("interval", &["backoff", "every"]),
    ("intervalseconds", &["backoff", "every"]),
    ("backoffcoefficient", &["factor"]),
    ("backoffrate", &["factor"]),
    ("multiplier", &["factor"]),
    ("maxbackoff", &["max"]),
    ("maxdelay", &["max"]),
    ("maxdelayseconds", &["max"]),
    ("maximuminterval", &["max"]),
    ("maxinterval", &["max"]),
    ("nonretryableerrortypes", &["never"]),
    ("nonretryableerrors", &["never"]),
    ("errorequals", &["error", "only"]),
    // The parts of a loop, a switch, a wait and the others.
    ("as", &["item"]),
    ("var", &["item"]),
    ("variable", &["item", "value"]),
    ("items", &["in", "each"]),
    ("itemspath", &["in"]),
    ("list", &["in"]),
    ("over", &["in"]),
    ("of", &["in"]),
    ("atonce", &["concurrency"]),
    ("maxconcurrency", &["concurrency"]),
    ("maxparallel", &["concurrency"]),
    ("parallelism", &["concurrency"]),
    ("batch", &["concurrency"]),
    ("limit", &["max", "concurrency", "attempts"]),
    ("times", &["max"]),
    ("count", &["max", "attempts"]),
    ("maxiterations", &["max"]),
    ("default", &["else"]),
    ("otherwise", &["else"]),
    ("expression", &["value"]),
    ("filter", &["where", "when"]),
    ("correlation", &["where"]),
    ("correlationkey", &["where"]),
    ("exception", &["error"]),
    ("code", &["error"]),
    ("reason", &["message"]),
    ("cause", &["message"]),
    ("text", &["message"]),
    ("topic", &["kafka", "event", "routing_key"]),
    ("timestamp", &["until"]),
    ("with", &["data"]),
    ("onsuccess", &["on_complete"]),
    // The whole file.
    ("on", &["triggers", "event", "value"]),
    ("trigger", &["triggers"]),
    ("schedule", &["cron", "triggers"]),
    ("webhook", &["http"]),
    ("path", &["http"]),
    ("route", &["http"]),
    ("post", &["http"]),
    ("models", &["types"]),
    ("schemas", &["types"]),
    ("definitions", &["types"]),
    ("comment", &["description"]),
    ("title", &["description"]),
    // Details of a field.
    ("$minimum", &["$min"]),
    ("$minlength", &["$min"]),
    ("$minitems", &["$min"]),
    ("$maximum", &["$max"]),
    ("$maxlength", &["$max"]),
    ("$maxitems", &["$max"]),
    ("$regex", &["$pattern"]),
    ("$format", &["$pattern"]),
    ("$sensitive", &["$secret"]),
];

/// Keys of other systems for which there is no key here, and what to do instead.
const OTHERWISE: &[(&str, &str)] = &[
    ("needs", IN_ORDER),
    ("dependson", IN_ORDER),
    ("dependencies", IN_ORDER),
    ("after", IN_ORDER),
    ("next", IN_ORDER),
    ("transition", IN_ORDER),
    ("startat", IN_ORDER),
    ("end", IN_ORDER),
    ("while", "write `until` with the opposite condition: the loop ends when it holds"),
    ("unless", "write `when` with the opposite condition: `when: \"!(…)\"`"),
    ("strategy", "what is done for each of several things is a separate step, `each`"),
    ("seconds", A_WHILE),
    ("minutes", A_WHILE),
    ("duration", A_WHILE),
    (
        "$required",
        "a field that may be absent has a type with `?`: `string?`; all others are required",
    ),
    ("$optional", "a field that may be absent has a type with `?`: `string?`"),
    ("$nullable", "a field that may be absent has a type with `?`: `string?`"),
    ("$enum", "an enum is written as a type: `email | sms`"),
    ("$ref", "a named type is written as a type: `address: Address`"),
    ("concurrencygroup", "two starts with one `key` on a trigger are one instance"),
    ("permissions", "leave it out: what a step may do is the business of its service"),
    (
        "runson",
        "leave it out: `class` says that a Rust struct of this package does a step, `routing_key` that a service does",
    ),
    ("image", "a container is a service: it gets the tasks of a step type under its `routing_key`"),
    (
        "script",
        "there are no scripts in a pipeline: a step is done by a Rust struct or a service of its `type`",
    ),
    (
        "shell",
        "there are no scripts in a pipeline: a step is done by a Rust struct or a service of its `type`",
    ),
    (
        "apiversion",
        "leave it out: a pipeline begins with `workflow: NAME`, `version: 1` and `steps:`",
    ),
];

const A_WHILE: &str = "to wait for a while is a separate step: `sleep: 10m`";

const IN_ORDER: &str = "leave it out: steps run one after the other, in the order of the file; `parallel` is for concurrent steps";

/// The key that is meant by one of another system, if `knows` it.
pub fn ours(key: &str, knows: impl Fn(&str) -> bool) -> Option<&'static str> {
    let key = plain(key);
    let (_, ours) = KEYS.iter().find(|(foreign, _)| *foreign == key)?;
    ours.iter().copied().find(|ours| knows(ours))
}

/// What to do instead of a key that has no like here.
pub fn otherwise(key: &str) -> Option<&'static str> {
    let key = plain(key);
    OTHERWISE.iter().find(|(foreign, _)| *foreign == key).map(|(_, instead)| *instead)
}

/// Longer ones are none of them.
const LENGTH_MAX: usize = 40;

fn plain(key: &str) -> String {
    if key.len() > LENGTH_MAX {
        return String::new();
    }
    key.chars().filter(|c| !matches!(c, '-' | '_' | ' ')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_stands_in_the_tables_once_and_as_it_is_looked_up() {
        let keys: [Vec<&str>; 2] = [
            KEYS.iter().map(|(key, _)| *key).collect(),
            OTHERWISE.iter().map(|(key, _)| *key).collect(),
        ];
        for table in keys {
            for (at, key) in table.iter().enumerate() {
                assert_eq!(plain(key), **key);
                assert!(!table[..at].contains(key), "{key}");
            }
        }
    }

    #[test]
    fn the_first_that_the_place_knows_is_taken() {
        assert_eq!(ours("Max-Attempts", |key| key == "retry"), Some("retry"));
        assert_eq!(
            ours("maxAttempts", |key| key == "attempts" || key == "retry"),
            Some("attempts")
        );
        assert_eq!(ours("uses", |_| false), None);
    }
}
