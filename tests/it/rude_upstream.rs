//! Upstreams that break rules, connections and expectations, byte by byte.
//!
//! Promise: whatever an upstream does, each request id gets exactly one answer, the session works afterwards, and memory,
//! connections and time stay bounded. Each row asks for all of it (`stage`).
//!
//! The rules ("U" is WIRE, Toward the upstream; "S" is WIRE, Stream; "E" is the list in UPSTREAMS; "§" is SECURITY) and the
//! tests that hold them. A rule that changes changes its tests, and a test that goes leaves a rule without one;
//! [`table_names_every_test`] keeps the table true.
//!
//! | rule | tests |
//! |---|---|
//! | U1 exact `Accept`, `Content-Type`, `Accept-Encoding`, `Host`, query kept; E1 | `media_types_encoding_and_host_are_exact` |
//! | U1 307 and 308 once, path only, remembered; E13 | `redirect_307_is_followed_once_on_the_configured_origin`, `redirect_307_loop_is_one_error`, `redirect_keeps_body_headers_and_session`, `redirect_to_nowhere_is_one_error`, `redirect_is_remembered_only_as_long_as_it_leads_somewhere` |
//! | U1 other redirects never; E13 | `redirect_that_changes_the_method_is_refused_by_name` |
//! | U1 never decompressed; §5 | `compressed_answer_is_refused_by_name` |
//! | U1 idle connections, replays only when nothing was sent; E19 | `kept_alive_connection_that_closed_meanwhile_is_not_used`, `kept_alive_connection_that_closes_under_a_request_is_no_replay`, `refused_connection_is_one_error_that_says_nothing_was_sent` |
//! | U2 version header after `initialize`, from 2025-06-18; E2 | `version_header_is_sent_after_initialize_and_where_it_exists` |
//! | U2 session id from a 2xx `initialize` alone; E2 | `session_id_is_taken_from_a_2xx_initialize_alone`, `server_without_session_ids_is_asked_for_no_stream_and_no_delete` |
//! | U2 no `Last-Event-ID` on a POST; E2 | `media_types_encoding_and_host_are_exact`, `get_stream_that_ends_is_opened_again_when_and_where_the_server_said` |
//! | U3 body read under any status and type; E3 | `json_rpc_error_counts_under_any_status`, `answer_counts_under_any_content_type`, `interim_responses_are_no_answers`, `success_without_a_body_is_one_error` |
//! | U3 id null, absent, `"server-error"`; E3 | `answer_without_an_id_is_given_the_clients`, `answer_with_a_foreign_id_is_nobodys`, `ids_of_both_types_are_told_apart` |
//! | U3 status and text are the diagnosis; E3, E14 | `text_instead_of_an_answer_is_quoted`, `retry_after_is_told_as_data`, `garbage_alone_is_one_error`, `refusal_before_the_request_was_read_is_one_error` |
//! | U3 the head ends a notification or response; E11 | `endless_body_of_a_notification_is_cut_off_at_its_head`, `endless_body_of_a_response_is_cut_off_at_its_head` |
//! | U4 any spelling, any split; E4 | `event_cut_at_every_byte_is_one_answer`, `answer_in_tcp_pieces_of_every_size_is_one_answer`, `line_ends_of_any_kind_separate_lines`, `byte_order_mark_comments_and_unknown_fields_do_not_matter`, `fields_come_in_any_order`, `data_in_several_lines_is_one_message`, `document_may_end_or_begin_with_white_space_or_none` |
//! | U4 priming and other types are skipped; E4, S3 | `events_without_a_message_are_skipped`, `fields_of_the_upstream_never_reach_the_client`, `thousands_of_empty_events_cost_nothing` |
//! | U4 bare JSON line salvaged, halves discarded; E4 | `bare_json_line_in_a_stream_is_salvaged`, `half_an_event_at_the_end_is_one_error` |
//! | U4 16 MiB, strict UTF-8; §5 | `event_of_16_mib_passes`, `document_of_16_mib_passes`, `message_over_16_mib_is_one_error`, `endless_line_is_cut_off`, `endless_event_is_cut_off`, `endless_document_is_cut_off`, `garbage_before_the_answer_is_not_passed_on` |
//! | U5 one GET stream, after `initialized` was accepted; E6 | `get_stream_is_never_open_twice`, `get_stream_of_a_former_handshake_is_given_up`, `get_stream_is_not_opened_when_initialized_was_refused`, `nothing_passes_initialized` |
//! | U5 no header timeout; E6 | `get_stream_whose_head_comes_with_the_first_event_is_awaited` |
//! | U5 400, 404, 405, 501 end it quietly; E6 | `server_without_a_get_stream_is_asked_once`, `server_that_turns_out_to_have_no_get_stream_is_asked_no_more`, `page_instead_of_a_get_stream_is_asked_once` |
//! | U5 409 backs off; `retry` | `get_stream_that_is_refused_for_now_is_opened_later`, `get_stream_that_ends_at_once_is_not_opened_in_a_loop`, `get_stream_that_ends_is_opened_again_when_and_where_the_server_said` |
//! | U5 its messages reach the client | `messages_on_the_get_stream_reach_the_client`, `request_taken_without_an_answer_is_one_error_at_its_deadline`, `answer_may_come_on_a_get_stream_whose_head_was_still_to_come` |
//! | U5 under a credential that was accepted; §2 | `get_stream_that_is_turned_down_is_opened_under_the_next_credential` |
//! | U6 an end without an answer says whether it may have run; §6 | `connection_lost_before_the_head_is_one_error`, `connection_lost_within_the_body_is_one_error`, `connection_lost_after_the_answer_is_no_error` |
//! | U6 resumed once, where an event was named; `retry`; E5 | `stream_that_ends_early_is_resumed_after_its_last_event`, `stream_that_breaks_again_after_news_is_resumed_again`, `stream_that_ends_again_without_news_is_one_error`, `server_that_does_not_resume_is_one_error`, `server_that_never_says_whether_it_resumes_is_one_error`, `stream_is_resumed_when_the_server_said`, `stream_of_a_cancelled_call_is_not_resumed`, `stream_without_an_id_to_go_on_from_is_not_resumed`, `stream_with_garbage_in_it_is_resumed`, `stream_that_the_server_closes_to_be_polled_is_asked_for_until_the_answer`, `stream_is_asked_for_again_when_the_server_is_back` |
//! | U8 cancel, keep draining, drop the late answer; E8 | `late_answer_of_a_cancelled_call_is_dropped_and_its_stream_drained`, `late_error_of_a_cancelled_call_is_dropped_and_its_stream_drained`, `late_answer_is_never_taken_for_that_of_a_new_call_under_the_same_id`, `streams_are_kept_until_the_session_is_deleted` |
//! | U8 DELETE, any status; E10 | `delete_may_be_answered_with_anything`, `delete_without_any_answer_is_given_up`, `session_that_is_given_up_is_deleted` |
//! | U9 a server's ping is answered here; E18 | `ping_of_the_server_is_answered_here` |
//! | S8 one answer an id; §6 | `doubled_answer_is_passed_on_once`, `answer_on_another_calls_stream_reaches_its_request`, `batch_as_answer_is_split`, `initialize_that_fails_is_one_error_and_can_be_repeated` |
//! | S8 ids of ours for the server's requests; E11 | `server_requests_get_ids_of_ours_and_their_answers_theirs`, `server_requests_with_one_id_on_two_streams_are_both_answered`, `server_request_that_is_given_up_is_cancelled_under_the_clients_id`, `question_after_the_answer_is_still_passed_on` |
//! | POST 3 notifications are awaited for 5 s | `notification_without_any_answer_holds_the_session_for_five_seconds` |
//! | Limits, silence of ten minutes, not shorter; E15 | `head_that_comes_after_minutes_is_an_answer`, `call_without_any_answer_is_one_error_and_gives_its_connection_back`, `call_with_half_a_head_is_one_error_and_gives_its_connection_back`, `call_with_a_head_alone_is_one_error_and_gives_its_connection_back`, `call_with_comments_alone_is_one_error_and_gives_its_connection_back`, `call_with_garbage_alone_is_one_error_and_gives_its_connection_back` |
//! | Limits, everything bounded; §5 | `endless_body_after_the_answer_is_cut_off_later`, `huge_response_head_is_one_answer`, `long_response_header_is_one_answer`, `flood_without_messages_does_not_hold_up_the_session`, `server_requests_without_answers_are_bounded`, `flood_of_pings_costs_a_bounded_number_of_connections`, `flood_of_progress_costs_a_bounded_number_of_connections` |
//! | §3 response headers are ours | `headers_of_the_upstream_never_reach_the_client` |

use std::collections::BTreeSet;

mod answers;
mod framing;
mod limits;
mod listening;
mod resuming;
mod server_requests;
mod session_era;
mod silence;
mod stage;
mod status;

/// A table of names that nothing checks is wrong after the next change.
#[test]
fn table_names_every_test() {
    let sources = [
        include_str!("rude_upstream/answers.rs"),
        include_str!("rude_upstream/framing.rs"),
        include_str!("rude_upstream/limits.rs"),
        include_str!("rude_upstream/listening.rs"),
        include_str!("rude_upstream/resuming.rs"),
        include_str!("rude_upstream/server_requests.rs"),
        include_str!("rude_upstream/session_era.rs"),
        include_str!("rude_upstream/silence.rs"),
        include_str!("rude_upstream/status.rs"),
    ];
    let written: BTreeSet<&str> = sources
        .iter()
        .flat_map(|source| source.split("#[tokio::test").skip(1))
        .filter_map(|test| test.split("async fn ").nth(1))
        .filter_map(|test| test.split('(').next())
        .collect();
    let table = include_str!("rude_upstream.rs").lines().filter(|line| line.starts_with("//! | "));
    let named: BTreeSet<&str> =
        table.flat_map(|line| line.split('`').skip(1).step_by(2)).filter(|name| name.contains('_')).collect();
    assert_eq!(written, named);
}
