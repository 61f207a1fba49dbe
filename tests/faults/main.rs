//! Real legacy clients and real upgraded servers through the real binary, while everything around it breaks.
//!
//! Promise, of every test: for every request id that a client got 202 for, exactly one answer or error; no answer in
//! another session; no tool carried out twice (`ledger`). Clients are the official TypeScript and Python SDKs, servers
//! too; they are killed, stopped and started again, and connections are cut through a proxy in this process.
//!
//! The faults (SECURITY §6) and the tests that hold what is promised for each; what takes a scripted upstream or client is
//! in tests/it (`rude_upstream`, `rude_client`, `drain`). [`table_names_every_test`] keeps the table true.
//!
//! | fault | tests |
//! |---|---|
//! | upstream down | `upstream_that_is_down_is_an_error_and_is_found_when_it_comes_up` |
//! | upstream kill -9 mid-call | `upstream_that_is_killed_mid_call_is_one_error_that_says_it_may_have_run` |
//! | upstream restart, session lost | `upstream_that_restarts_is_shaken_hands_with_again`, `upstream_of_python_that_restarts_is_shaken_hands_with_again`, `session_that_the_upstream_forgets_is_made_again_and_running_calls_end` |
//! | hang before headers, mid-stream | `upstream_that_is_silent_is_an_error_at_the_deadline_and_the_call_is_cancelled`, `upstream_that_is_stopped_is_an_error_at_the_deadline_and_goes_on_where_it_was`, `way_to_the_upstream_that_is_a_black_hole_is_an_error_at_the_deadline` |
//! | stream cut mid-call, resumed where there are event ids | `stream_that_is_cut_mid_call_is_resumed_where_the_server_keeps_events` |
//! | EOF without an answer | `stream_that_is_cut_mid_call_is_one_error_where_it_cannot_be_resumed` |
//! | network slow, any split | `way_to_the_upstream_that_is_slow_and_cuts_into_pieces_changes_nothing`, `way_to_the_client_that_is_slow_and_cuts_into_pieces_changes_nothing` |
//! | client half-close | `client_that_half_closes_is_gone_and_its_call_is_cancelled` |
//! | client killed | `clients_that_are_killed_leave_nothing_behind` |
//! | client vanishes (no FIN) | `client_that_vanishes_without_a_word_is_reaped_within_a_minute` |
//! | client never reads | `clients_that_do_not_read_are_closed_and_memory_stays_bounded` |
//! | client floods | `client_that_floods_is_answered_and_others_are_served` |
//! | client's stream cut (WIRE, Stream 5 and 6) | `typescript_client_with_a_token_that_is_cut_off_gets_its_session_and_its_answer`, `typescript_client_with_a_token_that_is_cut_off_twice_in_silence_is_served_while_it_is_away`, `typescript_client_without_a_token_that_is_cut_off_goes_on_in_a_new_session`, `python_client_that_is_cut_off_is_told_and_its_call_is_not_made_again`, `rust_client_that_is_cut_off_resumes_its_session_and_gets_its_answer` |
//! | fd exhaustion | `proxy_without_descriptors_does_not_spin_harms_no_session_and_recovers` |
//! | SIGTERM under load | `proxy_that_is_told_to_end_under_load_answers_everything_first`, `proxy_that_is_told_to_end_gives_calls_that_outlast_it_an_error` |
//! | SIGKILL of the proxy | `proxy_that_is_killed_is_found_again_by_clients_that_come_back` |
//! | restart behind a balancer | `clients_behind_nginx_go_on_after_the_proxy_was_restarted`, `clients_behind_nginx_go_on_after_the_proxy_was_killed`, `clients_behind_haproxy_go_on_after_the_proxy_was_restarted`, `clients_behind_haproxy_go_on_after_the_proxy_was_killed` |
//! | replacement behind a balancer | `clients_behind_nginx_move_from_a_draining_proxy_to_the_next` |
//! | balancer cuts what is idle | `idle_stream_behind_nginx_is_kept_by_comments`, `idle_stream_behind_haproxy_is_kept_by_comments` |
//! | replicas, any of which gets a POST | `every_call_works_though_each_post_lands_on_any_replica`, `every_call_works_though_posts_go_to_the_replicas_in_turn` |
//! | replica kill -9 | `replica_that_is_killed_takes_with_it_the_streams_it_held_and_nothing_else` |
//! | replica hangs | `replica_that_hangs_costs_the_posts_of_its_own_clients_only` |
//! | rolling restart of all replicas | `replicas_that_are_restarted_one_after_the_other_under_load_answer_everything` |
//! | Redis stopped and started again, hanging | `redis_that_is_down_costs_posts_at_other_replicas_only_and_is_found_when_it_comes_up`, `redis_that_hangs_costs_posts_at_other_replicas_only` |
//! | Redis flushed, its connections killed | `redis_that_is_flushed_costs_nothing`, `connections_to_redis_that_are_killed_cost_nothing` |
//! | partition between a replica and Redis | `replica_that_cannot_reach_redis_serves_its_own_clients_and_the_others_each_other` |
//! | Redis fails over | `redis_that_fails_over_is_followed`, `redis_that_became_a_replica_is_left` |
//! | fleet key rotated | `key_that_is_rotated_in_any_order_costs_no_session_and_no_post` |
//! | log of a replica lost | `report_without_the_log_of_a_replica_names_it` |
//! | all of it at once, for long | `two_hundred_clients_outlive_ten_deaths_of_the_upstream_and_ten_cuts` |
//! | an incident: one of three is told to pause; a modern client comes by the balancer | `one_replica_is_told_to_pause_and_all_do`, `modern_client_that_comes_through_the_balancer_finds_the_server` |

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test that finds something missing shall panic, and its tasks end with it"
)]

mod balancer;
mod balancing;
mod both;
mod child;
mod client;
mod driver;
mod fault_proxy;
mod fleet;
mod ledger;
mod namespace;
#[path = "../interop/packages.rs"]
mod packages;
mod port;
mod process;
#[path = "../interop/processes.rs"]
#[allow(dead_code, reason = "shared with tests/interop, which stops in order what is killed here")]
mod processes;
mod proxy;
#[path = "../it/support/redis.rs"]
#[allow(dead_code, reason = "shared with tests/it, which also has it speak TLS and know users")]
mod redis;
mod resuming;
mod server;
mod storm;
mod upstream;
mod wait;

/// A table of names that nothing checks is wrong after the next change.
#[test]
fn table_names_every_test() {
    use std::collections::BTreeSet;

    let sources = [
        include_str!("balancing.rs"),
        include_str!("client.rs"),
        include_str!("fleet/brake.rs"),
        include_str!("fleet/calls.rs"),
        include_str!("fleet/deaths.rs"),
        include_str!("fleet/keys.rs"),
        include_str!("fleet/outages.rs"),
        include_str!("fleet/report.rs"),
        include_str!("process.rs"),
        include_str!("resuming.rs"),
        include_str!("storm.rs"),
        include_str!("upstream.rs"),
    ];
    let written: BTreeSet<&str> = sources
        .iter()
        .flat_map(|source| source.split("#[test]").skip(1))
        .filter_map(|test| test.split("fn ").nth(1))
        .filter_map(|test| test.split('(').next())
        .collect();
    let table = include_str!("main.rs").lines().filter(|line| line.starts_with("//! | "));
    let named: BTreeSet<&str> =
        table.flat_map(|line| line.split('`').skip(1).step_by(2)).filter(|name| name.contains('_')).collect();
    assert_eq!(written, named);
}
