//! What the running system must do, in the order in which the checks run.

mod bad_input;
mod browser;
mod bulk;
mod chaos;
mod command_line;
mod connect_kills;
mod failure;
mod first_boot;
mod forms;
mod incremental;
mod lanes;
mod operating;
mod pages;
mod peer_failures;
mod pictures;
mod reading;
mod registration;
mod rows;
mod sessions;
mod stages;
mod stream;
mod topics;
mod types;
mod watching;
mod web;
mod workload;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use crate::settings::Source;
use crate::system::System;

type Outcome = Pin<Box<dyn Future<Output = anyhow::Result<()>>>>;

pub(crate) struct Check {
    /// A full claim about the system.
    pub(crate) name: &'static str,
    pub(crate) needs: Needs,
    pub(crate) run: fn(Rc<System>) -> Outcome,
}

/// The parts without which a check makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// None: it runs on both sources.
    Either,
    /// The broker, or the connector.
    Kafka,
    /// The leader's own stream.
    Direct,
}

impl Needs {
    /// Whether a system with this source has them.
    pub(crate) fn are_met_by(self, source: Source) -> bool {
        match self {
            Self::Either => true,
            Self::Kafka => source == Source::Kafka,
            Self::Direct => source == Source::Direct,
        }
    }
}

/// The last one halts the stream for good, so nothing may come after it.
pub(crate) const ALL: &[Check] = &[
    Check {
        name: "rows_from_before_the_stream_are_on_every_replica",
        needs: Needs::Either,
        run: |s| Box::pin(rows::snapshot(s)),
    },
    Check {
        name: "a_plain_curl_and_the_script_register_the_connector",
        needs: Needs::Kafka,
        run: |s| Box::pin(registration::both(s)),
    },
    Check {
        name: "every_value_arrives_as_it_was_written",
        needs: Needs::Either,
        run: |s| Box::pin(rows::fidelity(s)),
    },
    Check {
        name: "every_type_that_is_promised_arrives",
        needs: Needs::Either,
        run: |s| Box::pin(types::matrix(s)),
    },
    Check {
        name: "a_truncate_reaches_every_replica",
        needs: Needs::Either,
        run: |s| Box::pin(rows::truncate(s)),
    },
    Check {
        name: "a_post_made_through_the_api_is_on_every_replica",
        needs: Needs::Either,
        run: |s| Box::pin(web::post(s)),
    },
    Check {
        name: "the_api_answers_bad_requests_with_the_right_status",
        needs: Needs::Either,
        run: |s| Box::pin(web::bad_requests(s)),
    },
    Check {
        name: "the_command_line_explains_the_system",
        needs: Needs::Either,
        run: |s| Box::pin(command_line::explains(s)),
    },
    Check {
        name: "check_finds_what_stands_against_the_promises",
        needs: Needs::Either,
        run: |s| Box::pin(command_line::check_finds(s)),
    },
    Check {
        name: "a_person_writes_reads_edits_and_deletes_a_post",
        needs: Needs::Either,
        run: |s| Box::pin(browser::posts(s)),
    },
    Check { name: "the_demo_reads_round_robin", needs: Needs::Either, run: |s| Box::pin(browser::demo(s)) },
    Check {
        name: "the_demo_does_without_a_stopped_replica",
        needs: Needs::Either,
        run: |s| Box::pin(browser::demo_with_an_outage(s)),
    },
    Check {
        name: "pages_can_be_used_by_everybody",
        needs: Needs::Either,
        run: |s| Box::pin(pages::accessible(s)),
    },
    Check {
        name: "pages_and_demo_work_by_keyboard",
        needs: Needs::Either,
        run: |s| Box::pin(pages::by_keyboard(s)),
    },
    Check {
        name: "pages_work_without_scripts",
        needs: Needs::Either,
        run: |s| Box::pin(pages::without_scripts(s)),
    },
    Check {
        name: "pages_make_sense_without_styles",
        needs: Needs::Either,
        run: |s| Box::pin(reading::without_styles(s)),
    },
    Check {
        name: "the_focus_stays_while_a_page_changes",
        needs: Needs::Either,
        run: |s| Box::pin(reading::focus_stays(s)),
    },
    Check {
        name: "a_form_sent_twice_makes_one_row",
        needs: Needs::Either,
        run: |s| Box::pin(forms::twice(s)),
    },
    Check {
        name: "an_edit_that_comes_too_late_loses_nothing",
        needs: Needs::Either,
        run: |s| Box::pin(forms::too_late(s)),
    },
    Check {
        name: "the_failure_experiment_shows_no_error",
        needs: Needs::Either,
        run: |s| Box::pin(failure::by_its_buttons(s)),
    },
    Check {
        name: "a_first_boot_ticks_itself_off",
        needs: Needs::Direct,
        run: |s| Box::pin(first_boot::ticks_itself_off(s)),
    },
    Check {
        name: "pages_cost_no_session_per_reader",
        needs: Needs::Either,
        run: |s| Box::pin(pages::streams(s)),
    },
    Check {
        name: "a_status_page_that_stays_open_costs_nothing_more",
        needs: Needs::Either,
        run: |s| Box::pin(watching::costs_nothing_more(s)),
    },
    Check {
        name: "an_operator_pauses_drains_and_copies_from_the_pages",
        needs: Needs::Either,
        run: |s| Box::pin(operating::from_the_pages(s)),
    },
    Check {
        name: "a_replicas_page_tells_the_stages_of_its_delay",
        needs: Needs::Either,
        run: |s| Box::pin(stages::plausible(s)),
    },
    Check {
        name: "the_status_tells_where_each_topic_ends",
        needs: Needs::Kafka,
        run: |s| Box::pin(topics::ends(s)),
    },
    Check {
        name: "pages_say_what_is_down_and_recover",
        needs: Needs::Either,
        run: |s| Box::pin(pages::outages(s)),
    },
    Check {
        name: "a_large_transaction_appears_whole",
        needs: Needs::Either,
        run: |s| Box::pin(bulk::whole(s)),
    },
    Check {
        name: "mixed_load_ends_equal_and_no_snapshot_is_torn",
        needs: Needs::Either,
        run: |s| Box::pin(workload::calm(s)),
    },
    Check {
        name: "mixed_load_survives_kills_of_the_replicator",
        needs: Needs::Either,
        run: |s| Box::pin(workload::replicator_kills(s)),
    },
    Check {
        name: "large_transactions_that_still_run_survive_kills_of_the_replicator",
        needs: Needs::Direct,
        run: |s| Box::pin(workload::streamed_kills(s)),
    },
    Check {
        name: "mixed_load_survives_kills_of_everything_else",
        needs: Needs::Either,
        run: |s| Box::pin(workload::other_kills(s)),
    },
    Check {
        name: "a_stopped_replica_does_not_delay_the_others",
        needs: Needs::Either,
        run: |s| Box::pin(workload::outage(s)),
    },
    Check {
        name: "callers_with_tokens_never_miss_their_write_nor_travel_back",
        needs: Needs::Either,
        run: |s| Box::pin(sessions::keep_their_promise(s)),
    },
    Check {
        name: "replicas_share_a_lane_and_a_hanging_one_leaves_it",
        needs: Needs::Either,
        run: |s| Box::pin(lanes::shared(s)),
    },
    Check {
        name: "an_incremental_snapshot_fills_a_table_under_load",
        needs: Needs::Kafka,
        run: |s| Box::pin(incremental::under_load(s)),
    },
    Check {
        name: "an_unchanged_toast_value_stays_as_text_and_jsonb",
        needs: Needs::Either,
        run: |s| Box::pin(peer_failures::unchanged_toast(s)),
    },
    Check {
        name: "a_row_and_its_reference_arrive_in_one_transaction",
        needs: Needs::Either,
        run: |s| Box::pin(peer_failures::foreign_key(s)),
    },
    Check { name: "keys_change_and_swap", needs: Needs::Either, run: |s| Box::pin(peer_failures::keys(s)) },
    Check {
        name: "unique_values_swap",
        needs: Needs::Either,
        run: |s| Box::pin(peer_failures::unique_swaps(s)),
    },
    Check {
        name: "one_of_several_equal_rows_changes_or_goes",
        needs: Needs::Either,
        run: |s| Box::pin(peer_failures::equal_rows(s)),
    },
    Check {
        name: "a_truncate_and_an_insert_behind_it_arrive",
        needs: Needs::Either,
        run: |s| Box::pin(peer_failures::truncate(s)),
    },
    Check {
        name: "numerics_arrive_with_nan_and_infinity",
        needs: Needs::Either,
        run: |s| Box::pin(peer_failures::numerics(s)),
    },
    Check {
        name: "dates_and_timestamps_arrive_with_infinity",
        needs: Needs::Either,
        run: |s| Box::pin(peer_failures::times(s)),
    },
    Check {
        name: "floats_arrive_with_nan_and_infinity",
        needs: Needs::Either,
        run: |s| Box::pin(peer_failures::floats(s)),
    },
    Check {
        name: "intervals_arrive_as_they_were_written",
        needs: Needs::Either,
        run: |s| Box::pin(peer_failures::intervals(s)),
    },
    Check {
        name: "settings_that_lose_values_are_refused",
        needs: Needs::Kafka,
        run: |s| Box::pin(peer_failures::lossy_settings(s)),
    },
    Check {
        name: "arrays_bytes_uuids_ranges_and_generated_columns_arrive",
        needs: Needs::Either,
        run: |s| Box::pin(peer_failures::containers(s)),
    },
    Check {
        name: "a_killed_replica_goes_on_when_it_is_back",
        needs: Needs::Either,
        run: |s| Box::pin(peer_failures::replica_killed(s)),
    },
    Check {
        name: "a_poison_row_halts_one_replica_until_it_is_mended",
        needs: Needs::Either,
        run: |s| Box::pin(peer_failures::poison_row(s)),
    },
    Check {
        name: "connect_killed_in_a_large_transaction_doubles_nothing",
        needs: Needs::Kafka,
        run: |s| Box::pin(connect_kills::survived(s)),
    },
    Check {
        name: "a_new_table_needs_only_the_publication",
        needs: Needs::Direct,
        run: |s| Box::pin(stream::new_table(s)),
    },
    Check {
        name: "a_leader_that_is_away_is_waited_for",
        needs: Needs::Direct,
        run: |s| Box::pin(stream::leader_away(s)),
    },
    Check {
        name: "a_replica_whose_key_the_leader_does_not_tell_halts_alone",
        needs: Needs::Direct,
        run: |s| Box::pin(stream::other_identity(s)),
    },
    Check {
        name: "a_dropped_slot_halts_and_a_rebuild_heals",
        needs: Needs::Direct,
        run: |s| Box::pin(stream::slot_dropped(s)),
    },
    Check {
        name: "a_lost_slot_halts_and_a_rebuild_heals",
        needs: Needs::Direct,
        run: |s| Box::pin(stream::slot_lost(s)),
    },
    Check {
        name: "a_dropped_publication_halts_and_a_rebuild_heals",
        needs: Needs::Direct,
        run: |s| Box::pin(stream::publication_dropped(s)),
    },
    Check {
        name: "a_leader_restored_to_an_older_state_halts_and_a_rebuild_heals",
        needs: Needs::Direct,
        run: |s| Box::pin(stream::leader_restored(s)),
    },
    Check {
        name: "chaos_tears_no_snapshot_and_ends_equal",
        needs: Needs::Either,
        run: |s| Box::pin(chaos::survives(s)),
    },
    Check {
        name: "a_malformed_record_halts_and_is_named",
        needs: Needs::Kafka,
        run: |s| Box::pin(bad_input::malformed_record(s)),
    },
];
