//! Results of choices, where they are compared and where they may be absent; and nothing behind a
//! step that always fails.

use crux_runtime::machine::{Effect, Phase};
use serde_json::{Value, json};

use crate::driver::Driver;
use crate::pipelines::choices::Workflow;

fn chosen(input: &Value) -> Value {
    let mut run = Driver::start::<Workflow>(&input.to_string());
    let input = run.out.all.iter().find_map(|effect| match effect {
        Effect::Dispatch { input, .. } => Some(serde_json::from_str(input.get()).unwrap()),
        _ => None,
    });
    run.complete("choose", "{}").unwrap();
    assert_eq!((run.phase(), run.failure()), (Phase::Failed, "GivenUp: always".to_owned()));
    input.expect("a task")
}

#[test]
fn a_choice_is_compared_and_replaced_like_any_value() {
    let there = json!({"a": 5, "few": 7, "sure": true, "text": "t", "at": "2026-01-02T03:04:05Z", "counts": [7, 8]});
    let all = json!({
        "count": 7, "count_or": 7, "same": true, "same_text": true, "same_time": false, "is_three": true, "absent": false,
    });
    assert_eq!(chosen(&there), all);
    let absent = json!({"a": 5, "sure": false, "counts": []});
    let none = json!({
        "count": 6, "count_or": 5, "same": true, "same_text": true, "same_time": true, "is_three": false, "absent": true,
    });
    assert_eq!(chosen(&absent), none);
}
