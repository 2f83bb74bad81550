//! The built binary, driven from outside, with pipelines that the shipped ones do not need. One
//! file per subject.
//!
//! What comes from outside and is wrong, or comes at a wrong time, and the test that sends it:
//!
//! | bad input | test |
//! |---|---|
//! | not JSON | [`middleware::a_body_that_is_not_json_is_refused`] |
//! | a wrong type | [`starting::a_wrong_type_is_named_with_its_field`] |
//! | a missing field | [`starting::a_missing_field_is_named`] |
//! | an unknown workflow | [`gateway::wrong_requests_are_answered_and_the_socket_stays_open`], [`middleware::an_unknown_route_says_which_was_probably_meant`] |
//! | an unknown or foreign step id | [`completions::an_unknown_instance_and_an_unknown_or_foreign_step_are_distinguished`] |
//! | a completion for a step that is not open | [`completions::a_completion_for_a_step_that_is_not_open_changes_nothing`] |
//! | the same completion twice | [`completions::the_same_completion_twice_is_a_duplicate`] |
//! | a different one | [`completions::a_different_completion_is_a_conflict`] |
//! | a late success of attempt 1 after attempt 2 was sent | [`completions::a_late_success_of_attempt_1_counts_after_attempt_2_was_sent`] |
//! | a result of the wrong type | [`completions::a_result_of_the_wrong_type_is_refused_and_the_step_stays_open`] |
//! | 10 MB of body | [`middleware::a_body_of_10_mb_is_refused_and_the_server_goes_on`] |
//! | 100,000 levels of nesting | [`middleware::a_hundred_thousand_levels_of_nesting_are_refused`] |
//! | a service that is down | [`services::a_service_that_is_down_is_waited_for_and_uses_up_no_attempt`] |
//! | a slow service | [`services::a_slow_service_is_tried_again_when_its_time_is_over`] |
//! | a service that answers garbage | [`services::a_service_that_answers_garbage_fails_the_step_as_invalid_result`] |
//! | a service that answers after the timeout | [`services::an_answer_after_the_time_out_counts_if_it_is_the_first`] |
//! | a service that closes half-way | [`services::a_service_that_closes_half_way_is_tried_again`] |
//! | the same request id with another payload | [`starting::the_same_request_id_with_another_payload_is_a_conflict`] |
//! | an event before its wait | [`events::an_event_that_comes_before_its_wait_counts`] |
//! | a crash between the last commit and the hook | [`hooks::a_crash_between_the_last_commit_and_the_hook_loses_no_hook`] |
//! | a corrected input in one of two failed branches | [`commands::one_of_two_failed_branches_gets_a_corrected_input_and_then_the_other`] |
//! | a pause with a due timer | [`commands::a_timer_that_comes_due_in_a_pause_fires_on_resume`] |
//! | a clock that is set back | [`clock::a_clock_that_is_set_back_holds_up_no_timer_and_turns_no_time_back`], [`clock::after_a_restart_with_an_earlier_clock_work_goes_on_and_timers_wait_for_their_time`] |
//! | a clock that jumps years ahead | [`clock::a_clock_that_jumps_years_ahead_for_a_moment_ends_nothing_and_is_reported`] |
//! | a pause in which a deadline passes | [`commands::a_deadline_that_passes_in_a_pause_counts_on_resume`] |
//! | an event with what no type of Rust holds | [`events::an_event_that_was_taken_reaches_its_wait_whatever_else_it_holds`] |
//! | an event for a definition that this binary does not have | [`events::what_lacks_its_definition_is_reported_and_gets_its_event_when_the_definition_is_there`] |
//! | a list that is too long | [`commands::a_list_that_is_too_long_is_refused_when_the_instance_would_begin_with_it`] |
//! | rounds without end that take no time | [`commands::rounds_that_take_no_time_keep_nobody_else_waiting_and_are_bounded`] |
//! | a journal that is full | [`commands::an_instance_whose_journal_was_full_goes_on_when_the_limit_is_raised`] |
//! | a full disk | [`disk::a_full_disk_refuses_starts_loses_nothing_and_is_left_when_there_is_room`] |
//! | a second process on the file | [`lifecycle::a_second_process_on_the_file_is_refused_by_name`] |
//! | a file of a newer version | [`lifecycle::a_file_of_a_newer_version_is_refused`] |
//! | an instance of a definition that this binary does not have | [`lifecycle::an_instance_whose_definition_is_not_in_this_binary_is_shown_and_not_moved`] |
//! | a port in use | [`lifecycle::a_port_in_use_is_reported_with_the_fix`] |
//! | no credential, a wrong one, one in the wrong place, two | [`callers::without_a_right_credential_nothing_is_answered`] |
//! | an instance of another client | [`callers::instances_of_another_client_do_not_exist`] |
//! | what the scope does not name | [`callers::a_scope_narrows_what_a_client_may_ask_for`] |
//! | a token for another instance or task, or one whose time is over | [`callers::a_follow_token_is_good_for_its_instance_and_following`], [`callers::a_task_is_reported_with_its_own_token_and_with_no_other`] |
//! | many wrong keys | [`callers::too_many_wrong_keys_of_one_address_have_to_wait`] |
//! | a socket that never says who it is | [`callers::a_socket_says_who_it_is_in_time_or_is_closed`] |
//! | a misspelt key in the configuration | [`lifecycle::a_misspelt_key_stops_the_start`] |
#![allow(clippy::unwrap_used, reason = "a helper fails as its test does")]

use crux_test_kit as kit;

mod callers;
mod clock;
mod cluster;
mod command_line;
mod commands;
mod completions;
mod disk;
mod events;
mod following;
mod gateway;
mod hooks;
mod kill;
mod lifecycle;
mod log;
mod messages;
mod middleware;
mod nodes;
mod redis;
mod requests;
mod secrets;
mod services;
mod starting;

use kit::Server;

/// A server with services as the text says.
fn server(config: &str) -> Server {
    Server::start(
        env!("CARGO_BIN_EXE_crux-test-app"),
        &format!("{config}\nconfig: {{ HOME: Ghent }}\n"),
    )
}
