"""The faults that are planted, one after another, and who has to notice each.

Old texts are short and stand once in their file; `tests/mutations/test_table.py` holds the table to that."""

from __future__ import annotations

from typing import Final

from tests.mutations.callbacks import CALLBACK_MUTATIONS
from tests.mutations.holds import HOLD_MUTATIONS
from tests.mutations.mutation import Edit, Mutation
from tests.mutations.people import PEOPLE_MUTATIONS
from tests.mutations.policies import POLICY_MUTATIONS
from tests.mutations.routes import ROUTE_MUTATIONS

__all__ = ["MUTATIONS"]

_OUTCOMES: Final = "actors/outcomes.py"
_STAGES: Final = "actors/stages.py"
_ASKING: Final = "actors/asking.py"
_TICK: Final = "actors/tick.py"
_END: Final = "actors/finishing.py"
_ENGINE: Final = "actors/engine.py"
_COMMANDS: Final = "actors/commands.py"
_REVIEWING: Final = "actors/reviewing.py"
_BOOK: Final = "runtime/ledger/book.py"
_JOURNAL: Final = "storage/engine/journal.py"
_REGISTRATION: Final = "storage/intake/registration.py"
_SPINE: Final = "storage/migrations/0001_spine.sql"
_TWIN: Final = "bench/twins/store.py"
_TWIN_COMMIT: Final = "bench/twins/store_commit.py"
_TWIN_ROWS: Final = "bench/twins/store_rows.py"
_SQL: Final = "the simulator has no SQL"
_STORE_CONTRACT: Final = "tests/contracts/test_store_contract.py::"
_REFUSALS_CONTRACT: Final = "tests/contracts/test_refusals_contract.py::"
_ENGINE_TESTS: Final = "tests/actors/test_engine.py::"
_OUTCOME_TESTS: Final = "tests/actors/test_outcomes.py::"
_STAGE_TESTS: Final = "tests/actors/test_stages.py::"
_COMMAND_TESTS: Final = "tests/actors/test_commands.py::"
_REVIEW_TESTS: Final = "tests/actors/test_reviewing.py::"
_HAND_OVER_TESTS: Final = "tests/actors/test_handing_over.py::"
_FIRE_TESTS: Final = "tests/actors/test_under_fire.py::"
_CHARGING: Final = "actors/charging.py"
_CHARGING_TESTS: Final = "tests/actors/test_charging.py::"
_LEDGER_TESTS: Final = "tests/runtime/test_ledger.py::"
_UNNOTICED: Final = "tests/mutations/test_unnoticed.py::"
_TIMER_TESTS: Final = "tests/actors/test_timers.py::"
_WEBHOOK_TESTS: Final = "tests/actors/test_webhooks.py::"
_REGISTRATION_TESTS: Final = "tests/storage/test_registration.py::"
_OUTBOX_CONTRACT: Final = "tests/contracts/test_outbox_contract.py::"
_READ_TESTS: Final = "tests/storage/test_reads.py::"

# fmt: off
MUTATIONS: Final = (
    # Fences, commits, takeovers ---------------------------------------------------------------------------------------
    Mutation(
        "fence-sql", "the lease row is not compared with the fence", "O",
        (Edit(_JOURNAL, "    where l.epoch = f.epoch and l.version = f.version\n", ""),),
        (f"{_STORE_CONTRACT}test_a_fence_that_does_not_fit_is_lost_and_the_rest_commits",
         "tests/storage/test_journal.py::test_of_two_ticks_with_one_fence_exactly_one_commits"),
        _SQL,
    ),
    Mutation(
        "fence-twin", "the same in the twin of the store", "O",
        (Edit(_TWIN, "(row.epoch, row.version) == (fence.epoch, fence.version)", "True"),),
        (f"{_ENGINE_TESTS}test_a_zombie_commits_nothing",
         f"{_STORE_CONTRACT}test_a_fence_that_does_not_fit_is_lost_and_the_rest_commits"),
    ),
    Mutation(
        "fence-version-twin", "the fence compares the epoch only: one owner may commit twice on one version", "O",
        (Edit(_TWIN, "(row.epoch, row.version) == (fence.epoch, fence.version)", "row.epoch == fence.epoch"),),
        (f"{_STORE_CONTRACT}test_a_fence_that_does_not_fit_is_lost_and_the_rest_commits",),
    ),
    Mutation(
        "doubt-believed", "a commit in doubt is taken for one that happened", "O",
        (Edit("actors/committing.py",
              "await self._settle_doubt(plan, decided[-1].lost if decided else frozenset())",
              "pass"),),
        (f"{_ENGINE_TESTS}test_a_commit_that_fails_is_run_again_and_one_that_happened_is_not",),
    ),
    Mutation(
        "publish-before-commit", "a tick is published and performed before it is committed", "O",
        (Edit("actors/committing.py",
              "            return decided[-1].writes\n",
              "            import contextlib\n"
              "            with contextlib.suppress(StopIteration):\n"
              "                self._send(decided[-1]).send(None)\n"
              "            return decided[-1].writes\n"),),
        (f"{_ENGINE_TESTS}test_a_commit_that_fails_is_run_again_and_one_that_happened_is_not",),
    ),
    Mutation(
        "half-a-frame", "the position of a frame is passed with its first event", "O",
        (Edit("actors/unpacking.py",
              "event, cause), None) for event in events]",
              "event, cause), position) for event in events]"),),
        (f"{_UNNOTICED}test_a_frame_that_a_tick_has_cut_is_taken_again_by_the_next_worker",),
    ),
    Mutation(
        "consumed-unfenced-sql", "the row of a frame goes although its fence did not hold", "O",
        (Edit(_JOURNAL, " and partition in (select partition from moved)", ""),),
        (f"{_OUTBOX_CONTRACT}test_the_row_of_a_command_frame_lives_until_a_commit_consumes_the_frame",),
        _SQL,
    ),
    Mutation(
        "consumed-unfenced-twin", "the same in the twin of the store", "O",
        (Edit(_TWIN_COMMIT, "            if partition in self._kept:\n", "            if True:\n"),),
        (f"{_OUTBOX_CONTRACT}test_the_row_of_a_command_frame_lives_until_a_commit_consumes_the_frame",),
    ),
    Mutation(
        "zombie-asks", "a worker that was stopped past its lease still performs what it had to ask", "N",
        (Edit("actors/outward.py", "return await permitted(place, reference)", "return True"),),
        (f"{_FIRE_TESTS}test_what_a_stopped_worker_had_not_asked_yet_it_asks_only_if_it_was_not_succeeded",),
        "the auditor is not told who held the partition when a rail was asked",
    ),
    Mutation(
        "given-up-undone", "a partition is given up before what was committed is asked of its rail", "N",
        (Edit("actors/worker.py", " or self.outward.waits_in(partition)", ""),),
        (f"{_HAND_OVER_TESTS}test_a_worker_performs_what_it_committed_before_it_gives_a_partition_up",),
        "an attempt that was not made is made after a poll, only later",
    ),
    Mutation(
        "given-up-late", "a partition that is to change hands waits for its rail without end", "N",
        (Edit("actors/owning.py", "if until <= now or not self", "if not self"),),
        (f"{_HAND_OVER_TESTS}test_a_worker_waits_for_no_rail_longer_than_it_may",),
        "the rails of the simulation answer in the end",
    ),
    Mutation(
        "attempts-forgotten", "a successor leaves started attempts to the stored timer", "N",
        (Edit("actors/worker.py", "        await self._learn_attempts(gained)\n", ""),),
        (f"{_HAND_OVER_TESTS}test_the_successor_of_a_dead_worker_polls_after_the_rails_own_time",),
        "the stored timer does the same, later",
    ),
    Mutation(
        "lost-row-sql", "one frame of a commit is not written to the outbox", "O",
        (Edit(_JOURNAL, "write_outbox(connection, writes.outbox)", "write_outbox(connection, writes.outbox[1:])"),),
        (f"{_OUTBOX_CONTRACT}test_the_outbox_holds_what_is_unsent_until_it_is_marked_and_then_until_it_is_trimmed",),
        _SQL,
    ),
    Mutation(
        "lost-row-twin", "the same in the twin of the store", "O",
        (Edit(_TWIN_ROWS, "for p, message in writes.outbox})", "for p, message in writes.outbox[1:]})"),),
        (f"{_OUTBOX_CONTRACT}test_the_outbox_holds_what_is_unsent_until_it_is_marked_and_then_until_it_is_trimmed",),
    ),
    Mutation(
        "lost-feed-frame", "a tick that has more than four frames forgets the last", "P",
        (Edit(_END, "in enumerate(messages)\n", "in enumerate(messages[:-1] if len(messages) > 4 else messages)\n"),),
        (f"{_ENGINE_TESTS}test_every_transition_is_on_the_feed_once",),
    ),
    # Fees -------------------------------------------------------------------------------------------------------------
    Mutation(
        "fee-unfunded", "funds are judged on the amount without its fee", "C",
        (Edit(_BOOK, "minor + more if ref is debit else minor", "minor"),),
        (f"{_CHARGING_TESTS}test_funds_are_judged_on_amount_and_fee",),
    ),
    Mutation(
        "fee-not-refunded", "what was charged on submission stays where the rail refuses", "E",
        (Edit(_CHARGING, '(*legs, ("fee_refund", fee, source, 0, refund)) if refund else legs', "legs"),),
        (f"{_CHARGING_TESTS}test_fees_are_entries_of_their_own_beside_those_of_the_money",),
    ),
    Mutation(
        "fee-pro-rata", "every part of a reversal rounds its share of the fee by itself", "L",
        (Edit(_CHARGING, "- refund_due(tx.fees, payer, tx.given_back, tx.posted)",
              "- refund_due(tx.fees, payer, tx.given_back, tx.posted) * (tx.given_back + minor == tx.posted)"),),
        (f"{_CHARGING_TESTS}test_a_fee_goes_back_as_its_rule_says_and_parts_add_up",),
        "one charged intent is hardly ever given back in several parts",
    ),
    Mutation(
        "fee-changed-taken", "a fee above what the client agreed to is charged", "R",
        (Edit(_CHARGING, "quoted.total_payer > int(terms.max)", "quoted.total_payer > int(terms.max) * 2"),),
        (f"{_CHARGING_TESTS}test_nothing_is_charged_but_what_was_agreed_to",),
    ),
    # Events and requests that come again ------------------------------------------------------------------------------
    Mutation(
        "version-check", "an event of a version that has passed is handled again", "G",
        (Edit(_TICK, "event.version == tx.sequence:", "event.version <= tx.sequence:"),),
        (f"{_UNNOTICED}test_an_event_of_a_version_that_has_passed_asks_for_nothing",),
        "the state refuses what the version would have refused: it is the second line",
    ),
    Mutation(
        "callback-dedupe", "a callback that is delivered again is recorded again", "I",
        (Edit(_OUTCOMES, "    if outcome.event_id in attempt.event_ids:\n        return True\n    if not",
              "    if not"),),
        (f"{_OUTCOME_TESTS}test_replaying_the_stream_after_one_callback_changes_nothing",),
    ),
    Mutation(
        "callback-stored-twice-sql", "what a callback said first is overwritten by its repeat", "I",
        (Edit("storage/intake/callbacks.py",
              "on conflict do nothing\nreturning rail, event_id",
              "on conflict (rail, event_id) do update set reference = excluded.reference\nreturning rail, event_id"),),
        (f"{_REGISTRATION_TESTS}test_a_callback_is_stored_once_and_every_repeat_reaches_the_actor",),
        _SQL,
    ),
    Mutation(
        "command-twice", "a command that has its outcome is carried out again", "G",
        (Edit(_COMMANDS, "if tick.is_answered(event.command):", "if not event.command:"),),
        (f"{_ENGINE_TESTS}test_replaying_the_whole_stream_changes_nothing",
         f"{_ENGINE_TESTS}test_frames_that_come_again_at_once_change_nothing"),
    ),
    Mutation(
        "leaf-twice-sql", "the log takes the same leaf twice", "S",
        (Edit("storage/migrations/0008_intent_and_tenant.sql", "create unique index", "create index"),),
        (f"{_REFUSALS_CONTRACT}test_a_leaf_is_logged_once_wherever_it_would_stand",),
        _SQL,
    ),
    Mutation(
        "leaf-twice-twin", "the same in the twin of the store", "S",
        (Edit(_TWIN_ROWS, '_once("log_leaves_once", rows.leaf_names, [(', '_once("log_leaves_once", (), [('),),
        (f"{_REFUSALS_CONTRACT}test_a_leaf_is_logged_once_wherever_it_would_stand",
         f"{_ENGINE_TESTS}test_replaying_the_whole_stream_changes_nothing"),
    ),
    Mutation(
        "key-dedupe-sql", "a key that is known does not keep a second intent out", "G",
        (Edit(_REGISTRATION,
              "if await _affected(connection, _INSERT_KEYS, *columns) == len(items):",
              "if await _affected(connection, _INSERT_KEYS, *columns) >= 0:"),),
        (f"{_REGISTRATION_TESTS}test_the_same_key_again_gives_what_is_stored",
         f"{_REGISTRATION_TESTS}test_a_repeat_within_a_group_is_resolved_against_the_earlier_one"),
        _SQL,
    ),
    Mutation(
        "changed-repeat-accepted", "the digest of a repeat is not compared", "H",
        (Edit("runtime/idempotency.py",
              "KeyOutcome.REPLAY if stored.digest == digest else KeyOutcome.REUSED",
              "KeyOutcome.REPLAY"),),
        ("tests/runtime/test_idempotency.py::test_four_outcomes",),
        "the simulated border compares digests itself",
    ),
    Mutation(
        "changed-id-accepted-sql", "another command under a known intent_id follows the first one", "H",
        (Edit(_REGISTRATION, 'elif row["digest"] == item.digest:', 'elif row["digest"]:'),),
        (f"{_REGISTRATION_TESTS}test_another_command_for_the_same_intent_is_a_conflict_and_its_key_is_free",),
        _SQL,
    ),
    Mutation(
        "changed-id-accepted-twin", "the same in the twin of the intake", "H",
        (Edit("bench/twins/store_intake.py", "if first.digest != item.digest:", "if not first.digest:"),),
        (),
    ),
    # Money ------------------------------------------------------------------------------------------------------------
    Mutation(
        "double-post", "the second leg of a posting is written twice", "A",
        (Edit(_BOOK,
              '("settle", settlement, destination, 0, minor),',
              '("settle", settlement, destination, 0, minor), ("settle", settlement, destination, 0, minor),'),),
        (f"{_LEDGER_TESTS}test_a_transfer_moves_as_the_book_says_and_back",
         f"{_STAGE_TESTS}test_the_125000_of_the_domain_are_reserved_posted_and_settled"),
    ),
    Mutation(
        "wrong-sign", "a release adds to what is pending", "D",
        (Edit(_BOOK, '("release", source, settlement, -held, 0)', '("release", source, settlement, held, 0)'),),
        (f"{_STAGE_TESTS}test_an_intent_takes_its_path_and_is_sealed",),
    ),
    Mutation(
        "holds-can-be-spent", "what is held still counts as available", "C",
        (Edit(_BOOK,
              "balance.credits_posted - balance.debits_posted - balance.debits_pending",
              "balance.credits_posted - balance.debits_posted"),),
        ("tests/runtime/test_ledger_properties.py::test_a_hot_account_is_drained_in_order_and_never_below_its_floor",),
    ),
    Mutation(
        "draft-overtakes", "a draft decides what follows on something that waits for its locks", "O",
        (Edit(_ENGINE, " or subject in held_back:", ":"),),
        (f"{_UNNOTICED}test_what_follows_on_an_intent_waits_for_its_locks_as_well",),
        "either order is one that some serial run explains",
    ),
    Mutation(
        "belief-unproved", "what was decided on beliefs is committed whatever the locked rows hold", "C",
        (Edit(_ENGINE, "usage == ground.usage and draft.book.stands(balances, ground.balances)", "True"),),
        ("tests/actors/test_beliefs.py::test_what_somebody_else_took_was_not_spent_again",),
    ),
    Mutation(
        "reversal-twice", "what was given back already is not counted against the original", "L",
        (Edit(_BOOK, "if minor > posted - given_back:", "if minor > posted:"),
         Edit(_COMMANDS, "    left = tx.posted - tx.given_back\n    try", "    left = tx.posted\n    try")),
        (f"{_COMMAND_TESTS}test_a_reversal_gives_back_at_most_what_was_posted",),
        "clients of the simulator hardly ever reverse one intent again",
    ),
    Mutation(
        "velocity-not-taken", "an accepted intent is not counted against the limits of its day", "R",
        (Edit(_STAGES, "        for use in decision.velocity:", "        for use in ():"),),
        (f"{_STAGE_TESTS}test_what_a_day_may_carry_is_counted_under_lock_and_given_back",),
    ),
    Mutation(
        "velocity-not-given-back", "a failed intent keeps its share of the day", "R",
        (Edit(_TICK, "for use in tx.velocity if rest else ():", "for use in ():"),),
        (f"{_STAGE_TESTS}test_a_refused_intent_gives_its_share_of_the_day_back",),
    ),
    Mutation(
        "stale-configuration", "a tick goes on under a configuration that has changed: an account may be frozen", "R",
        (Edit(_ENGINE,
              "if ground.configuration_version != self.memory.configuration.version:",
              "if ground.configuration_version < 0:"),),
        (f"{_STAGE_TESTS}test_the_policy_version_in_force_is_the_one_recorded",),
    ),
    Mutation(
        "freeze-overtaken-sql", "a tick that waited for a freeze does not look at the version again", "F",
        (Edit(_JOURNAL, "        ground.configuration_version = rows[0][6]\n", ""),),
        ("tests/storage/test_journal.py::test_a_tick_that_waited_for_a_freeze_knows_of_it",),
        _SQL,
    ),
    # Rails ------------------------------------------------------------------------------------------------------------
    Mutation(
        "release-on-unknown", "an unknown outcome is taken for a refusal, and the hold is released", "N",
        (Edit(_OUTCOMES,
              "    outcome = event.outcome\n",
              "    outcome = event.outcome\n"
              "    if outcome.status is OutcomeStatus.UNKNOWN:\n"
              "        outcome = msgspec.structs.replace(outcome, status=OutcomeStatus.DECLINED)\n"),),
        (f"{_OUTCOME_TESTS}test_an_unknown_outcome_keeps_the_hold_and_tries_no_other_rail",),
    ),
    Mutation(
        "failover-on-unknown", 'an unknown outcome is taken for "not accepted", and the next rail is asked', "N",
        (Edit(_OUTCOMES,
              "    outcome = event.outcome\n",
              "    outcome = event.outcome\n"
              "    if outcome.status is OutcomeStatus.UNKNOWN:\n"
              "        outcome = msgspec.structs.replace(outcome, status=OutcomeStatus.NOT_ACCEPTED)\n"),),
        (f"{_OUTCOME_TESTS}test_an_unknown_outcome_keeps_the_hold_and_tries_no_other_rail",),
    ),
    Mutation(
        "second-answer-believed", '"not accepted" counts although it may answer a repeated submission', "N",
        (Edit(_OUTCOMES,
              'if outcome.status is not OutcomeStatus.NOT_ACCEPTED or outcome.trust == "polled":',
              "if outcome:"),),
        (f"{_OUTCOME_TESTS}test_not_accepted_decides_unless_it_may_answer_a_second_submission",),
    ),
    Mutation(
        "route-while-unknown", "a rail is chosen while an attempt before it is unknown", "N",
        (Edit("runtime/rails/routing.py", "    if unknown:\n", "    if unknown and not able:\n"),),
        ("tests/runtime/test_routing.py::test_no_rail_is_chosen_while_any_attempt_may_have_paid",
         "tests/runtime/test_routing.py::"
         "test_an_unknown_attempt_on_a_rail_that_left_the_corridor_still_forbids_another"),
        "no state lets it be asked: it is the second line",
    ),
    Mutation(
        "wrong-amount-believed", "a report that names another amount is taken for the outcome", "I",
        (Edit("runtime/rails/ruling.py", "and status != _REFUSED:", "and not status:"),),
        (f"{_OUTCOME_TESTS}test_a_wrong_amount_alone_moves_nothing_and_a_poll_with_the_right_one_settles",),
    ),
    Mutation(
        "resubmit-after-restart", "whoever finds a payment without an outcome submits it instead of polling", "O",
        (Edit(_ASKING, "    _poll(tick, tx, attempt)\n    elapsed", "    tick.submit(tx, at.partition)\n    elapsed"),),
        (f"{_OUTCOME_TESTS}test_an_unknown_outcome_keeps_the_hold_and_tries_no_other_rail",),
    ),
    Mutation(
        "not-found-believed", "a rail that does not know a payment yet is asked to pay at once again", "O",
        (Edit(_ASKING, "if settings is None or not settings.idempotent_references or tx.cases_open:",
              "if settings is None or tx.cases_open:"),
         Edit(_ASKING,
              "    if tick.now >= attempt.at + timedelta(seconds=settings.not_found_lies_seconds):\n",
              "    if settings:\n")),
        (f"{_UNNOTICED}test_a_rail_that_does_not_know_a_payment_is_asked_again_only_where_that_is_safe",),
    ),
    # People, tenants, time --------------------------------------------------------------------------------------------
    Mutation(
        "review-waived", "the policy's review is waived although nobody has approved", "Q",
        (Edit("runtime/policy/standard.py", 'if outcome == "review" and name in waives:', 'if outcome == "review":'),),
        ("tests/runtime/test_policy.py::test_each_rule_answers_at_its_boundary_and_the_worst_answer_wins",
         f"{_COMMAND_TESTS}test_a_review_holds_everything_back_until_it_is_approved"),
    ),
    Mutation(
        "self-approval", "whoever asked may approve it", "Q",
        (Edit(_REVIEWING, "if code is None and event.principal == tx.principal:", "if code is None and not tx.id:"),),
        (f"{_COMMAND_TESTS}test_a_review_is_decided_by_somebody_else_in_its_round",),
    ),
    Mutation(
        "review-at-the-instant", "a review does not expire at the instant at which it does", "K",
        (Edit(_REVIEWING, "    if tick.now >= desk.expires_at:\n", "    if tick.now > desk.expires_at:\n"),),
        (f"{_COMMAND_TESTS}test_a_review_that_nobody_decides_expires_after_72_hours",),
        "a review that expires a moment later harms nobody",
    ),
    Mutation(
        "seen-unlooked-at", "a decision may be bound to anything", "Q",
        (Edit(_REVIEWING, "body.request_hash != seen:", "body.request_hash is None:"),),
        (f"{_REVIEW_TESTS}test_the_first_objection_to_a_decision_is_its_answer",),
    ),
    Mutation(
        "one-is-enough", "one approval is enough where two are due", "Q",
        (Edit(_REVIEWING, "len(approvers) >= desk.approvals", "len(approvers) >= 1"),),
        (f"{_REVIEW_TESTS}test_above_an_amount_two_people_approve",),
    ),
    Mutation(
        "demoted-decides", "whoever was demoted goes on with the role of before", "Q",
        (Edit("runtime/reviews.py", "(role,) if member is None else (role, member.role)", "(role,)"),),
        (f"{_REVIEW_TESTS}test_whoever_is_demoted_between_a_decision_and_its_tick_decides_nothing",),
    ),
    Mutation(
        "timer-at-the-instant", "a timer is not handed out at the instant at which it is due", "T",
        (Edit("actors/timers.py", "if due is None or due > now:", "if due is None or due >= now:"),),
        (f"{_TIMER_TESTS}test_a_timer_that_is_set_again_fires_at_its_new_time",),
        "a timer that fires a moment later harms nobody",
    ),
    Mutation(
        "timer-put-off", "a timer is believed to stand where it stood, though it has fired and was put off", "T",
        (Edit("actors/tick.py", "tx.timer_due <= self.now or ", ""),),
        (f"{_TIMER_TESTS}test_a_successor_sets_the_timer_that_its_predecessor_has_put_off",),
        "hardly any intent of a short run waits that long for its first worker",
    ),
    Mutation(
        "force-for-ever", "an account that force took below its floor may go there ever after", "C",
        (Edit("runtime/verification/forced.py", "        if forced or change > 0:\n", "        if False:\n"),),
        ("tests/verification/test_audit.py::test_below_its_floor_is_only_who_owes_it_to_force",
         "tests/verification/test_audit.py::test_what_force_leaves_owing_is_paid_back_by_what_comes_in"),
        "the simulator has no SQL",
    ),
    Mutation(
        "polls-once", "a rail without an answer is polled once and never again", "T",
        (Edit("actors/stages.py", "tick.rearm(tx, at.partition, asking.look_after(tick, at, tx))",
              "asking.look_after(tick, at, tx)"),),
        (f"{_TIMER_TESTS}test_polls_become_rarer_and_never_sleep_over_the_deadline",),
    ),
    Mutation(
        "foreign-command", "a command reaches an object of another tenant", "M",
        (Edit(_COMMANDS, "foreign = tx is None or tx.tenant != event.tenant", "foreign = tx is None"),),
        (f"{_COMMAND_TESTS}test_another_tenants_object_is_as_unknown_as_none",),
    ),
    Mutation(
        "rls-off", "row security is not switched on", "M",
        (Edit(_SPINE, "        execute format('alter table zentra.%I enable row level security', name);\n", ""),),
        (f"{_READ_TESTS}test_row_security_alone_keeps_tenants_apart",
         f"{_READ_TESTS}test_without_a_tenant_there_is_nothing"),
        _SQL,
    ),
    Mutation(
        "rls-one-table", "one table has no policy", "M",
        (Edit(_SPINE,
              "'review_decisions', 'cases',\n        'denials', 'corridors',",
              "'review_decisions',\n        'denials', 'corridors',"),),
        (f"{_READ_TESTS}test_row_security_alone_keeps_tenants_apart",),
        _SQL,
    ),
    Mutation(
        "rls-not-forced", "the owner of a table steps around its row security", "M",
        (Edit(_SPINE, "        execute format('alter table zentra.%I force row level security', name);\n", ""),),
        (f"{_UNNOTICED}test_row_security_holds_for_owners_too",),
        _SQL,
    ),
    *CALLBACK_MUTATIONS,
    *HOLD_MUTATIONS,
    *ROUTE_MUTATIONS,
    *PEOPLE_MUTATIONS,
    *POLICY_MUTATIONS,
    # Evidence and webhooks --------------------------------------------------------------------------------------------
    Mutation(
        "chain-forgets", "a link of the chain does not cover the one before", "S",
        (Edit("runtime/evidence/chain.py", "hashlib.sha256(previous + record)", "hashlib.sha256(record)"),),
        ("tests/runtime/test_evidence.py::test_the_chain_and_the_leaf_are_what_the_document_says",
         "tests/runtime/test_transaction.py::test_the_chain_can_be_recomputed_from_the_records"),
    ),
    Mutation(
        "delivered-forgotten", "that a webhook was delivered is not stored", "P",
        (Edit("actors/webhooks.py",
              "    tick.writes.delivery_states[delivery.id] = (delivery, due_at)\n",
              "    if due_at is not None:\n        tick.writes.delivery_states[delivery.id] = (delivery, due_at)\n"),),
        (f"{_WEBHOOK_TESTS}test_every_endpoint_has_its_own_delivery_and_one_that_is_down_holds_up_nobody",),
    ),
    Mutation(
        "delivery-begun-twice", "a delivery is begun again by a repeat of its frame", "P",
        (Edit(_TICK, "return known is not None and known.begun", "return False"),
         Edit(_TWIN_ROWS, '_once("delivery_states", rows.delivery_states, sorted(writes.deliveries_begun))', "pass")),
        (f"{_WEBHOOK_TESTS}test_deliveries_are_begun_once_however_often_their_frames_come",),
    ),
)
# fmt: on
