"""Faults to plant in routing: which rail is asked, when none is, what is kept of it, and what limits a rail."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutation import Edit, Mutation

__all__ = ["ROUTE_MUTATIONS"]

_ROUTING: Final = "runtime/rails/routing.py"
_HEALTH: Final = "runtime/rails/health.py"
_OPERATING: Final = "runtime/rails/operating.py"
_ROUTES: Final = "actors/routes.py"
_BOARD: Final = "actors/health.py"
_LIMITS: Final = "actors/limits.py"
_OUTCOMES: Final = "actors/outcomes.py"
_STRANGERS: Final = "actors/strangers.py"
_OUTWARD: Final = "actors/outward.py"
_ASKING: Final = "actors/asking.py"
_SECRETS: Final = "gateway/outward/rail_secrets.py"
_CHOICE_TESTS: Final = "tests/runtime/test_routing.py::"
_HEALTH_TESTS: Final = "tests/runtime/test_rail_health.py::"
_ROUTE_TESTS: Final = "tests/actors/test_routes.py::"
_BOARD_TESTS: Final = "tests/actors/test_rail_board.py::"
_TURN_TESTS: Final = "tests/actors/test_turns.py::"
_OUTCOME_TESTS: Final = "tests/actors/test_outcomes.py::"
_LIMIT_TESTS: Final = "tests/actors/test_limits.py::"
_STRANGER_TESTS: Final = "tests/actors/test_strangers.py::"
_SECRET_TESTS: Final = "tests/gateway/test_rail_secrets.py::"
_TURNS: Final = "a rail of the simulation is asked without waiting for a turn"
_GATEWAY: Final = "the simulator has no gateway"
_BOUNDS: Final = "hardly any of its amounts is a bound of a corridor or a rail"
_TAKEN: Final = "what a worker has counted its auditor takes from the record"

# fmt: off
ROUTE_MUTATIONS: Final = (
    Mutation(
        "sticky-lost", "an unknown outcome is left for the next rail where its own is not well", "N",
        (Edit(_OUTCOMES,
              "    unsent = _was_not_sent(tick, at, outcome, cause)\n",
              "    unsent = _was_not_sent(tick, at, outcome, cause)\n"
              "    if status is OutcomeStatus.UNKNOWN and attempt.rail in tick.standings:\n"
              "        status = OutcomeStatus.NOT_ACCEPTED\n"
              "        outcome = msgspec.structs.replace(outcome, status=status)\n"),),
        (f"{_ROUTE_TESTS}test_an_unknown_outcome_stays_with_its_rail_whatever_its_health",),
    ),
    Mutation(
        "lot-by-chance", "which rail draws an intent is chance", "R",
        (Edit(_ROUTING, "sha256(lot.encode())", "sha256(__import__('secrets').token_bytes())"),),
        (f"{_CHOICE_TESTS}test_rails_of_one_priority_share_intents_by_their_weights_and_an_intent_keeps_its_lot",),
    ),
    Mutation(
        "priority-ignored", "a rail of a later priority draws lots with the first", "R",
        (Edit(_ROUTING, "rest = [route for route in able if route.priority == first]", "rest = list(able)"),),
        (f"{_CHOICE_TESTS}test_a_rail_is_asked_where_it_takes_the_intent_and_can_be_asked_now",),
    ),
    Mutation(
        "band-of-a-corridor", "a corridor does not carry the largest amount that it names", "R",
        (Edit(_ROUTING, "minor <= corridor.minor_max)", "minor < corridor.minor_max)"),),
        (f"{_CHOICE_TESTS}test_the_most_specific_corridor_that_fits_is_found_in_any_order",),
        _BOUNDS,
    ),
    Mutation(
        "band-of-a-rail", "a rail is not asked for the largest amount that it takes", "R",
        (Edit(_ROUTING, "minor > route.minor_max)", "minor >= route.minor_max)"),),
        (f"{_CHOICE_TESTS}test_a_rail_is_asked_where_it_takes_the_intent_and_can_be_asked_now",),
        _BOUNDS,
    ),
    Mutation(
        "half-open-for-all", "a circuit that is half open lets everybody in", "R",
        (Edit(_ROUTES, "tick.chosen[rail] >= standing.probes:", 'standing.circuit == "open":'),),
        (f"{_ROUTE_TESTS}test_no_more_probes_are_sent_than_a_turn_has",),
        _TAKEN,
    ),
    Mutation(
        "probes-without-end", "the probes that were sent do not count against their turn", "R",
        (Edit(_HEALTH, "max(0, probes - self.given)", "max(0, probes)"),),
        (f"{_HEALTH_TESTS}test_no_turn_has_more_probes_than_it_may_and_only_good_ones_close_a_circuit",),
        _TAKEN,
    ),
    Mutation(
        "polls-speak-well", "a good poll speaks for a rail whose submissions hang", "T",
        (Edit(_BOARD, 'if how == "poll" and not (failed or slow):', "if not how:"),),
        (f"{_BOARD_TESTS}test_a_rail_that_answers_polls_and_hangs_on_submissions_is_left",),
        _TAKEN,
    ),
    Mutation(
        "trips-too-late", "a circuit opens only past the share of bad calls", "T",
        (Edit(_HEALTH, "counts.bad * 100 >= counts.calls * share", "counts.bad * 100 > counts.calls * share"),),
        (f"{_HEALTH_TESTS}test_a_window_opens_a_circuit_by_the_share_of_its_bad_calls",),
        _TAKEN,
    ),
    Mutation(
        "maintenance-ignored", "a rail is asked within its maintenance", "R",
        (Edit(_OPERATING, 'return "maintenance" if any(', 'return "maintenance" if not self and any('),),
        (f"{_ROUTE_TESTS}test_a_rail_that_cannot_be_asked_now_is_passed_over",),
    ),
    Mutation(
        "maintenance-at-its-end", "a rail still rests at the instant at which its maintenance is over", "R",
        (Edit(_OPERATING, "one.from_ <= now < one.until", "one.from_ <= now <= one.until"),),
        (f"{_CHOICE_TESTS}test_a_rail_rests_from_the_first_instant_of_its_maintenance_to_before_the_last",),
        "a clock of microseconds hardly ever meets the one of an end",
    ),
    Mutation(
        "capacity-ignored", "intents go on to a rail for which as many calls wait as may", "T",
        (Edit(_BOARD, "elif 0 < settings.waiting_max <= self._submitting[rail]:",
              "elif 0 > settings.waiting_max >= self._submitting[rail]:"),),
        (f"{_BOARD_TESTS}test_a_rail_that_many_calls_wait_for_has_no_capacity",),
        _TURNS,
    ),
    Mutation(
        "rate-not-shared", "each worker spends the rate of the whole installation", "T",
        (Edit(_LIMITS, "settings.rate_per_second / max(1, self._workers())", "settings.rate_per_second"),),
        (f"{_LIMIT_TESTS}test_each_worker_spends_an_even_share_of_the_rate",),
        _TURNS,
    ),
    Mutation(
        "places-unlimited", "any number of calls to a rail is made at once", "T",
        (Edit(_LIMITS, " or line.inside >= settings.concurrency_max", ""),),
        (f"{_LIMIT_TESTS}test_so_many_calls_have_a_place_and_the_rest_is_told_to_wait",),
        _TURNS,
    ),
    Mutation(
        "tick-uncounted", "what a tick sends to a rail does not count against what may wait for it", "T",
        (Edit(_ROUTES, "room is not None and tick.chosen[rail] >= room", "room == 0"),),
        (f"{_ROUTE_TESTS}test_no_more_intents_of_one_tick_go_to_a_rail_than_may_wait_for_it",),
        _TURNS,
    ),
    Mutation(
        "polls-first", "polls have the turns of a rail while submissions wait", "T",
        (Edit(_LIMITS, "self._spent[waiter.how] += 1 / SHARES[waiter.how]", "self._spent['submit'] += 1"),),
        (f"{_TURN_TESTS}test_while_both_kinds_wait_turns_are_shared_out_and_polls_get_theirs",),
        _TURNS,
    ),
    Mutation(
        "sent-while-open", "what waits for a turn is sent although the circuit has opened", "T",
        (Edit(_OUTWARD, " or (submits and self.board.tripped(name, trips))", ""),),
        (f"{_TURN_TESTS}test_what_waits_while_the_circuit_of_its_rail_opens_is_given_back_and_probes_go",),
        _TURNS,
    ),
    Mutation(
        "again-while-open", "a payment is submitted again to a rail whose circuit is open", "R",
        (Edit(_ASKING, "if routes.word_against(tick, attempt.rail) in _SUBMITTED_AGAIN:", "if True:"),),
        (f"{_ROUTE_TESTS}test_a_payment_is_submitted_again_only_as_a_probe_to_a_rail_that_does_not_stand_well",),
        _TAKEN,
    ),
    Mutation(
        "forgotten-unreported", "a first submission that nobody remembers is neither sent nor reported", "T",
        (Edit(_OUTWARD, "return begins is None", "return False"),),
        (f"{_TURN_TESTS}test_a_first_submission_whose_attempt_nobody_remembers_is_reported_unsent",),
        "it is polled in the end, and found nowhere",
    ),
    Mutation(
        "unsent-of-anybody", "that nothing was sent counts although another worker may have sent it since", "N",
        (Edit(_OUTCOMES, ' and rest.partition("/")[0] == str(epoch)', ""),),
        (f"{_OUTCOME_TESTS}test_that_nothing_was_sent_decides_whatever_is_known_of_a_second_submission",),
        "no report of the simulation waits for the stream longer than a lease",
    ),
    Mutation(
        "given-up-unexplained", "the release for want of a rail does not say what was known of each", "R",
        (Edit("actors/ledgering.py", "f.Booked(entries, reason, unchosen=unchosen)", "f.Booked(entries, reason)"),),
        (f"{_ROUTE_TESTS}test_that_no_rail_is_left_is_recorded_with_each_and_why",),
        "hardly any of its intents is given up for want of a rail",
    ),
    Mutation(
        "alternatives-unrecorded", "a decision does not say why the other rails were not asked", "R",
        (Edit(_ROUTES,
              "        considered=choice.considered,\n        reason=choice.reason,\n",
              "        considered={rail: routing.CHOSEN},\n        reason=choice.reason,\n"),),
        (f"{_ROUTE_TESTS}test_each_decision_is_made_again_from_its_record_and_the_document_of_its_version",),
    ),
    Mutation(
        "refusal-unexplained", "the record of a refusal does not say why no other rail was asked", "R",
        (Edit(_OUTCOMES, "facts = msgspec.structs.replace(facts, unchosen=unchosen)", "pass"),),
        (f"{_ROUTE_TESTS}test_a_rail_that_did_not_accept_is_left_only_for_one_that_can_be_asked_at_once",),
        "a refusal that is final is judged by what the rail has said",
    ),
    Mutation(
        "waits-for-ever", "an intent for which no rail is there waits without end", "T",
        (Edit(_ROUTES, "max(tick.now, tx.at) < until:", "until:"),),
        (f"{_ROUTE_TESTS}test_an_intent_that_finds_no_rail_in_time_fails_and_its_hold_is_released",),
        "with it a run does not end: its time goes on until nothing waits",
    ),
    Mutation(
        "wrong-rail-believed", "what a rail says of another rail's attempt is taken for the outcome", "N",
        (Edit(_OUTCOMES, "elif attempt.rail != outcome.rail:", "elif not attempt.rail:"),),
        (f"{_STRANGER_TESTS}test_what_a_rail_says_of_another_rails_attempt_is_a_case_at_once_and_nothing_else",),
    ),
    Mutation(
        "wrong-rail-anywhere", "what the partner of other tenants says is written into a tenant's books", "M",
        (Edit(_STRANGERS, "or not _leads_to(tick, tx, outcome.rail):", "or not outcome.rail:"),),
        (f"{_STRANGER_TESTS}test_what_a_rail_says_of_another_rails_attempt_is_a_case_at_once_and_nothing_else",),
        "only rails of its tenant speak of an intent in the simulator",
    ),
    Mutation(
        "rail-secret-unbound", "the sealed secret of one rail opens in the place of another's", "M",
        (Edit(_SECRETS, "return msgspec.json.encode((rail, name))", 'return b""'),),
        (f"{_SECRET_TESTS}test_a_seal_that_does_not_open_names_the_rail_and_the_fix",),
        _GATEWAY,
    ),
    Mutation(
        "rail-secret-plain", "a rail is stored as it was given, and its secrets with it", "M",
        (Edit(_SECRETS, "        rail = secrets.sealed(rail, known)\n", "        secrets.sealed(rail, known)\n"),
         Edit("storage/rails.py", "not (settings.secret or settings.secrets)", "settings")),
        (f"{_SECRET_TESTS}test_what_is_in_the_row_does_not_hold_the_secret",),
        _GATEWAY,
    ),
)
# fmt: on
