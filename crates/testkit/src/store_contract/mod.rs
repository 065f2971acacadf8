//! The store's contract: one suite of async functions that every implementation passes, each on an empty store.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "the suite is test code: a failure is a panic with its place"
)]

pub mod admitting;
pub mod assembling;
pub mod blobs;
pub mod claiming;
pub mod customers;
pub mod dispatching;
pub mod messages;
pub mod reading;
pub mod redelivery;
pub mod requests;
pub mod results;
pub mod settling;
pub mod uploads;
pub mod world;

pub use world::World;

/// Makes a test of each function of the contract; `$open` is an async function that gives an empty store and what keeps it alive.
#[macro_export]
macro_rules! store_contract_tests {
    ($open:path) => {
        $crate::store_contract_tests!($open;
            admitting: admits_once, a_job_whose_blob_is_gone_is_not_admitted,
                a_blob_is_not_given_up_under_a_job_being_admitted, a_changed_submission_conflicts, two_producers_admit_one_job, apps_are_recorded_once,
                cancel_is_for_the_customers_running_jobs, an_empty_job_is_assembled, replies_alone;
            dispatching: claims_what_there_is_to_do, what_a_budget_reserves_is_told,
                a_spent_budget_is_not_cut_and_is_noticed_where_a_stage_begins, leases_expire_and_are_given_back, claims_skip_what_cannot_run,
                a_moved_cursor_refuses_everything, two_producers_cut_once, due_replicas_and_lanes, disputed_lanes, sending_and_losing,
                losing_everything, a_replica_is_counted_once, stage_outputs_overlap;
            settling: settles_once, two_aggregators_settle_once, the_vote_is_lost, retries_wait, failed_units_have_no_usage,
                a_split_makes_two, late_outcomes_change_nothing, late_first_results_count, ended_units_are_not_sent, unknown_replicas_are_missing,
                a_wrong_split_changes_nothing, a_reason_may_have_a_nul;
            assembling: assembles_in_order_without_gaps, pages_follow_each_other, stages_follow_each_other, a_job_ends_once,
                cancelling_ends_what_is_open, cutting_short_leaves_what_is_decided_to_assemble, deadlines_are_found, replies_come_with_it, two_aggregators_assemble_in_turn;
            messages: order_is_kept_per_customer, refused_messages_come_again, another_message_of_the_same_number_stays,
                claims_expire, many_held_messages_are_passed, what_is_before_a_held_message_is_claimed,
                a_second_message_has_no_effect, two_relays_share, claims_are_bounded_in_bytes;
            reading: reports_count, jobs_are_found, failed_items_are_listed, outputs_come_in_pages, usage_comes_in_pages,
                sums_beyond_64_bits, activity_is_of_the_youngest_rows;
            blobs: parts_in_any_order, a_wrong_digest_is_dropped, bad_shapes_are_refused, the_empty_blob, reading_ranges,
                parts_at_the_same_time;
            claiming: customers_take_turns, the_most_urgent_of_each_comes_first, more_customers_than_claims,
                idle_customers_take_no_turn, what_is_left_of_a_customers_units_is_told;
            customers: a_customer_is_seen_with_its_first_job, limits_are_kept, customers_come_in_pages, one_with_jobs_stays,
                a_removed_customers_blobs_go, blobs_are_counted_too,
                use_is_counted, fuel_is_of_the_month, weights_reach_the_dispatcher;
            uploads: a_customers_parts_in_any_order, another_customer_must_send_it_too, nobody_spoils_what_another_sends,
                a_wrong_upload_is_dropped, the_limit_counts_what_is_begun, two_parts_do_not_pass_the_limit_together,
                what_nobody_owns_is_for_all, missing_parts_are_listed, own_blobs_come_in_pages, owners_are_independent,
                the_answers_do_not_tell_what_others_have, a_wrong_size_is_mended_by_sending_all_again,
                a_blob_in_use_stays, what_the_grid_wrote_stays, old_uploads_are_forgotten, the_same_part_at_the_same_time,
                one_part_is_a_blob;
            requests: a_job_rests_until_resumed, own_jobs_come_in_pages, jobs_ahead_are_counted, failures_are_counted_by_reason,
                experience_is_of_ended_jobs, experience_counts_a_quorum_once, replies_are_written_together;
            redelivery: a_pause_that_comes_again_does_not_undo_a_resume, a_deletion_that_comes_again_leaves_what_was_sent_anew,
                a_message_is_known_by_its_customer_and_what_it_does, a_part_that_comes_again_after_a_deletion_brings_nothing_back,
                nor_do_the_parts_of_a_longer_blob, nor_do_those_of_an_upload_given_up_half_way,
                a_message_is_known_as_long_as_its_blob_is_there, parts_of_another_size_are_sent_once_as_well,
                dropped_parts_may_be_sent_again_by_the_same_messages, each_part_knows_its_first_messages,
                a_removed_customers_messages_bring_nothing_back, what_no_message_sends_is_sent_each_time,
                a_deletion_of_nothing_stays_refused, a_release_before_the_end_stays_refused,
                what_had_no_effect_may_have_one_later, handled_messages_are_forgotten;
            results: parts_are_found_by_number, parts_are_of_the_last_stage, assembling_shows_what_waits_unsent,
                results_are_released, results_expire;
        );
    };
    ($open:path; $($module:ident: $($name:ident),*;)*) => { $(
        mod $module {
            $(
                #[tokio::test]
                async fn $name() {
                    let (store, _alive) = $open().await;
                    testkit::store_contract::$module::$name(testkit::store_contract::World::new(store)).await;
                }
            )*
        }
    )* };
}
