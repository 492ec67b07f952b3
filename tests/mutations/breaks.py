"""Ways to break a promise on purpose, and the tests that must notice. ``apply.py`` carries them out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Break:
    """``changes``: texts that stand exactly once in the file, and what is put in their place. ``tests`` are ids as
    pytest writes them; each must fail.
    """

    promise: str
    file: str
    changes: Mapping[str, str]
    tests: tuple[str, ...]


_RECEIVER = "tests/daemon/test_receiver.py"
_SIGNATURE = "tests/providers/test_webhook_signature.py"
_SMARTLYQ = "tests/providers/test_smartlyq.py"
_ALLOWANCE = "tests/providers/test_allowance.py"
_ENGINE = "tests/engine/test_promises.py"
_MACHINE = "tests/core/test_machine.py"
_OUTBOX = "tests/outbox/test_outbox.py"
_NOTICES = "tests/store/test_notices.py"
_GROUPING = "tests/outbox/test_grouping.py"
_CHAIN = "tests/outbox/test_chain.py"
_STORMS = "tests/outbox/test_storms.py"
_QUIET = "tests/outbox/test_quiet_hours.py"
_TAKEN_ON = "tests/outbox/test_taken_on.py"
_LOOKING = "tests/sweep/test_looking.py"
_TROUBLE = "tests/sweep/test_trouble.py"
_PAGE = "tests/web/test_reconnect_page.py"
_SEVERAL = "tests/web/test_several_accounts_page.py"
_EMAIL = "tests/channels/test_email.py"
_SELF_CARE = "tests/webhooks/test_self_care.py"
_GAPS = "tests/mutations/test_gaps.py"
_SHARED = "tests/store/test_several_daemons.py"
_MOVE = "tests/store/test_move.py"
_CLUSTER = "tests/cluster/test_three_daemons.py"

BREAKS: Mapping[str, Break] = {
    "the answer does not wait for the commit": Break(
        "P1",
        "healthd/intake.py",
        {"        return await done\n": "        return True\n"},
        (f"{_RECEIVER}::test_while_the_store_fails_the_answer_is_503_and_never_2xx",),
    ),
    "a commit that failed counts as made": Break(
        "P1",
        "healthd/intake.py",
        {"done.set_exception(reason)": "done.set_result(True)"},
        (f"{_RECEIVER}::test_while_the_store_fails_the_answer_is_503_and_never_2xx",),
    ),
    "a webhook is seen to in another transaction than what follows from it": Break(
        "P1",
        "healthd/intake.py",
        {
            "        inbox.settle(connection, settled)\n": "        self.__dict__['settled'] = settled\n",
            "            total += number\n": (
                "            await self.store.run(inbox.settle, self.__dict__['settled'])\n"
                "            total += number\n"
            ),
        },
        (f"{_GAPS}::test_what_follows_from_a_webhook_and_that_it_was_seen_to_are_kept_together_or_not_at_all",),
    ),
    "the log counts as read back before all of it is": Break(
        "P1",
        "healthd/self_care.py",
        {"None if reading.left else reading.began": "reading.began"},
        (f"{_SELF_CARE}::test_a_long_log_is_read_in_parts_to_where_the_last_reading_ended",),
    ),
    "what is read back is not stored": Break(
        "P1",
        "healthd/store/subscriptions.py",
        {"fresh = inbox.store(connection, arrivals) if arrivals else []": "fresh = []"},
        (f"{_SELF_CARE}::test_dead_and_pending_deliveries_are_read_back_once",),
    ),
    "a commit does not reach the disk": Break(
        "P1",
        "healthd/store/database.py",
        {'"synchronous=FULL"': '"synchronous=OFF"'},
        ("tests/store/test_database.py::test_what_is_committed_is_on_disk",),
    ),
    "only the newest secret is known": Break(
        "P1",
        "healthd/providers/smartlyq.py",
        {"for secret in self._secrets\n": "for secret in self._secrets[:1]\n"},
        (f"{_SIGNATURE}::test_lets_in",),
    ),
    "an API that fails says that the token is dead": Break(
        "P2",
        "healthd/sweep.py",
        {
            'await self._note_failure(workspace, error, "health")': (
                'await self._note_failure(workspace, error, "health")\n'
                "                return Observation(probe.ref, Signal.BAD_TOKEN, Source.HEALTH, self.now())"
            )
        },
        (f"{_TROUBLE}::test_no_answer_of_a_failing_api_moves_an_account[500]",),
    ),
    "a word that nobody knows means broken": Break(
        "P2",
        "healthd/providers/smartlyq.py",
        {"READING_SIGNALS.get((status, expired))": "READING_SIGNALS.get((status, expired), Signal.BAD_TOKEN)"},
        (f"{_SMARTLYQ}::test_a_reading_says_what_all_of_its_fields_say_together",),
    ),
    "a list that lacks nearly everybody is believed": Break(
        "P2",
        "healthd/sweep.py",
        {
            "doubtful = len(absent) > max(FEW_MISSING, MISSING_SHARE * len(known))"
            " or (present == 0 and len(absent) > 1)": "doubtful = present < 0"
        },
        (f"{_LOOKING}::test_a_list_that_shrank_too_much_removes_nobody_until_it_has_lasted",),
    ),
    "one 404 removes an account": Break(
        "P2",
        "healthd/sweep.py",
        {"if stored is not None and stored.missing_since is not None:": "if stored is not None:"},
        (f"{_LOOKING}::test_a_404_for_an_account_that_is_listed_removes_nobody_and_is_not_asked_again_and_again",),
    ),
    "people hear of an event that nobody has confirmed": Break(
        "P2",
        "healthd/core/machine.py",
        {"_row(_H, _sig.TOKEN_EXPIRED,   _S, Confirm()),": "_row(_H, _sig.TOKEN_EXPIRED,   _E, _token),"},
        (
            f"{_MACHINE}::test_nobody_hears_of_a_single_bad_reading_or_of_an_event_alone",
            f"{_ENGINE}::test_people_hear_only_after_a_confirmation",
        ),
    ),
    "errors need not last": Break(
        "P2",
        "healthd/core/machine.py",
        {">= policy.error_patience": ">= policy.error_patience * 0"},
        (f"{_MACHINE}::test_errors_open_an_incident_only_once_they_have_lasted",),
    ),
    "a suspicion never runs out": Break(
        "P3",
        "healthd/engine.py",
        {
            "accounts.overdue_confirmations(connection, now, limit, workspace)": (
                "accounts.overdue_confirmations(connection, now - timedelta(days=999), limit, workspace)"
            )
        },
        (f"{_ENGINE}::test_without_an_answer_the_event_is_believed_when_its_time_is_up",),
    ),
    "where nobody is configured nothing is written": Break(
        "P3",
        "healthd/dispatch.py",
        {"return self._write(case, incident, NoticeKind.OPENED, [NOBODY], due_at=case.now, holding=held)": "return 0"},
        (f"{_ENGINE}::test_where_nobody_is_configured_the_notice_is_withheld_and_says_why",),
    ),
    "a pause withholds nothing": Break(
        "P3",
        "healthd/core/cadence.py",
        {"kind not in GOOD_NEWS and (facts.paused or facts.storm)": "kind not in GOOD_NEWS and facts.storm"},
        (
            "tests/core/test_cadence.py::test_a_notice_goes_out_only_while_it_is_true_and_the_account_is_not_paused",
            f"{_OUTBOX}::test_the_accounts_of_a_paused_profile_count_as_paused",
        ),
    ),
    "what was held is never let go": Break(
        "P3",
        "healthd/engine.py",
        {"released = notices.release_held(case.connection, [case.after.id], case.now)": "released = 0"},
        (f"{_ENGINE}::test_what_was_held_during_a_pause_goes_out_on_resume_and_the_account_is_looked_at_at_once",),
    ),
    "marked as sent before it is sent": Break(
        "P3",
        "healthd/outbox.py",
        {
            "            return await channel.send(": (
                "            await self.store.run(notices.settle, notice, NoticeStatus.SENT)\n"
                "            return await channel.send("
            )
        },
        (f"{_OUTBOX}::test_after_a_crash_in_the_hand_over_the_same_message_is_repeated",),
    ),
    "what an earlier process was sending is left lying": Break(
        "P3",
        "healthd/outbox.py",
        {"return 0 if self.store.shared else await self.store.run(notices.release_leases)": "return 0"},
        (f"{_OUTBOX}::test_after_a_crash_in_the_hand_over_the_same_message_is_repeated",),
    ),
    "a lease never ends": Break(
        "P3",
        "healthd/store/notices.py",
        {
            'or_(notices.c.lease_until.is_(None), notices.c.lease_until <= bindparam("now")),': (
                "notices.c.lease_until.is_(None),"
            )
        },
        (
            f"{_NOTICES}::test_a_notice_whose_sender_is_lost_is_taken_again_as_a_repeat",
            f"{_OUTBOX}::test_a_lease_that_ended_lets_another_sender_go_on",
        ),
    ),
    "never is taken for not now": Break(
        "P3",
        "healthd/outbox.py",
        {
            "            await self._finish(sent, NoticeStatus.DEAD, dead.reason)\n": (
                "            await self._again(sent, Retry(dead.reason))\n"
            )
        },
        (f"{_OUTBOX}::test_never_means_never_and_the_reason_is_kept",),
    ),
    "a storm never ends by its time": Break(
        "P3",
        "healthd/core/storm.py",
        {"if now - storm.began_at >= policy.longest:": "if now - storm.began_at >= policy.longest * 999:"},
        (
            "tests/core/test_storm.py::test_a_hold_ends_for_one_of_three_reasons",
            f"{_STORMS}::test_what_lasts_is_told_when_its_time_is_up",
        ),
    ),
    "what a storm held stays held when it ends": Break(
        "P3",
        "healthd/dispatch.py",
        {'released = notices.release(connection, Holding("storm", one.id), now)': "released = []"},
        (
            f"{_STORMS}::test_what_lasts_is_told_when_its_time_is_up",
            f"{_STORMS}::test_released_by_the_operator_what_is_still_true_goes_out_at_once",
        ),
    ),
    "quiet hours are ignored": Break(
        "P3",
        "healthd/core/cadence.py",
        {'(True, facts.may_hear_at, "quiet hours of its recipient")': '(False, None, "")'},
        (
            "tests/core/test_cadence.py::test_nothing_goes_out_in_the_quiet_hours_of_its_recipient",
            f"{_QUIET}::test_what_breaks_in_the_night_is_told_when_it_is_over",
            f"{_QUIET}::test_nothing_ever_reaches_a_contact_in_their_quiet_hours",
        ),
    ),
    "a message about several leaves one of them out": Break(
        "P3",
        "healthd/outbox.py",
        {"map(_account_facts, ready.facts)": "map(_account_facts, ready.facts[:-1] or ready.facts)"},
        (
            f"{_GROUPING}::test_accounts_that_break_together_arrive_as_one_message_whose_link_leads_to_all",
            f"{_GROUPING}::test_what_recovers_between_the_claim_and_the_look_leaves_a_whole_message",
        ),
    ),
    "the others of a message wait for one that is kept back": Break(
        "P3",
        "healthd/store/notices.py",
        {"                _leader.c.status.in_((NoticeStatus.PENDING, NoticeStatus.SENDING)),\n": ""},
        (f"{_NOTICES}::test_one_that_is_kept_back_keeps_back_no_other_of_its_message",),
    ),
    "an address that bounced is written to again": Break(
        "P3",
        "healthd/outbox.py",
        {"bad = bool(contacts.bad_among(connection, [batch.leader.target]))": "bad = False"},
        (
            f"{_CHAIN}::test_an_address_known_to_be_bad_is_passed_over_at_once",
            f"{_CHAIN}::test_the_reminder_to_a_bad_address_does_not_hurry_the_chain",
        ),
    ),
    "where nothing reaches the first the next is not told": Break(
        "P3",
        "healthd/dispatch.py",
        {"moved = notices.bring_forward(case.connection, incident.id, notice.level, case.now)": "moved = 0"},
        (
            f"{_CHAIN}::test_when_nothing_reaches_the_first_the_next_is_told_at_once",
            f"{_CHAIN}::test_what_comes_back_moves_on_to_the_next_at_once",
        ),
    ),
    "an event that comes again is taken for another": Break(
        "P4",
        "healthd/intake.py",
        {
            "Arrival(workspace, provider.event_id(body), body, received_at, trace)": (
                "Arrival(workspace, f'{provider.event_id(body)}{received_at}', body, received_at, trace)"
            )
        },
        (f"{_RECEIVER}::test_a_new_webhook_is_202_a_repeated_one_200_and_both_are_one_row",),
    ),
    "a signature is good for ever": Break(
        "P4",
        "healthd/providers/smartlyq.py",
        {"> self._tolerance.total_seconds()": "> 1e12"},
        (
            f"{_SIGNATURE}::test_no_valid_signature_outlives_the_tolerance",
            f"{_RECEIVER}::test_the_wrong_secret_a_changed_body_and_an_old_time_are_refused_alike",
        ),
    ),
    "a notice has another id each time": Break(
        "P4",
        "healthd/store/notices.py",
        {"hashlib.sha256(words.encode())": "hashlib.sha256(words.encode() + __import__('os').urandom(8))"},
        (f"{_NOTICES}::test_the_same_notice_is_written_once_and_stays_as_it_is",),
    ),
    "two senders may have one notice": Break(
        "P4",
        "healthd/store/notices.py",
        {'        or_(notices.c.lease_until.is_(None), notices.c.lease_until <= bindparam("now")),\n': ""},
        (f"{_NOTICES}::test_due_notices_are_taken_in_the_order_of_their_time_and_by_one_sender",),
    ),
    "a sender that lost its lease still has a say": Break(
        "P4",
        "healthd/store/notices.py",
        {"mine = (notices.c.id.in_(chunk), notices.c.lease == sent[0].lease)": "mine = (notices.c.id.in_(chunk),)"},
        (
            f"{_NOTICES}::test_a_sender_that_lost_its_lease_has_no_say_any_more",
            f"{_OUTBOX}::test_a_sender_that_lost_its_lease_has_no_say_any_more",
        ),
    ),
    "what was rendered is not kept": Break(
        "P4",
        "healthd/outbox.py",
        {"if not await self.store.alongside(_keep, sent, content, self.now(), first):": "if False:"},
        (f"{_GAPS}::test_a_repeat_says_the_same_though_the_account_has_another_name_by_then",),
    ),
    "what may have arrived is repeated without those that recovered": Break(
        "P4",
        "healthd/outbox.py",
        {
            "return list(facts) if going and batch.leader.content is not None and batch.leader.may_have_arrived"
            " else going": "return going"
        },
        (f"{_GROUPING}::test_of_a_message_that_may_have_arrived_the_very_same_is_repeated_and_its_repair_is_told",),
    ),
    "who stands at two levels is told twice": Break(
        "P4",
        "healthd/core/routing.py",
        {"if recipient.target not in seen:": "if True:"},
        (f"{_CHAIN}::test_nobody_is_told_twice_though_they_stand_at_two_levels",),
    ),
    "a mail has another Message-ID each time": Break(
        "P4",
        "healthd/channels/email.py",
        {
            'message["Message-ID"] = _message_id(delivery.notice_id, settings)': (
                'message["Message-ID"] = _message_id(__import__("secrets").token_hex(8), settings)'
            )
        },
        (f"{_EMAIL}::test_a_repeat_is_the_same_message_byte_for_byte_even_from_another_process",),
    ),
    "what waits of a repaired account is not withdrawn": Break(
        "P5",
        "healthd/dispatch.py",
        {'notices.drop_waiting(case.connection, incident.id, f"{how} before it was sent")': "[]"},
        (
            f"{_ENGINE}::test_a_repair_before_anybody_was_told_is_no_news_to_anybody",
            f"{_ENGINE}::test_a_deleted_account_is_no_good_news_and_ends_every_reminder",
        ),
    ),
    "nobody asks whether a notice is still true": Break(
        "P5",
        "healthd/core/cadence.py",
        {'return "recovered before it was sent"': "return None"},
        (
            "tests/core/test_cadence.py::test_a_notice_goes_out_only_while_it_is_true_and_the_account_is_not_paused",
            f"{_OUTBOX}::test_a_recovery_after_the_claim_is_noticed_before_sending",
        ),
    ),
    "good news go to those who never heard the bad": Break(
        "P5",
        "healthd/store/notices.py",
        {
            "        notices.c.kind.in_(TELLS_OF_TROUBLE),\n"
            "        or_(notices.c.status == NoticeStatus.SENT, notices.c.doubtful),\n": (
                "        notices.c.kind.in_(TELLS_OF_TROUBLE),\n"
            )
        },
        (f"{_ENGINE}::test_a_repair_is_told_to_those_who_were_told_of_the_trouble_and_to_nobody_else",),
    ),
    "an escalation is sent although somebody has taken it on": Break(
        "P5",
        "healthd/core/cadence.py",
        {"NAGS = frozenset({NoticeKind.REMINDER, NoticeKind.ESCALATED})": ("NAGS = frozenset({NoticeKind.REMINDER})")},
        (f"{_TAKEN_ON}::test_an_acknowledgement_stops_reminders_and_the_escalation_until_its_time",),
    ),
    "a link goes on minting after the repair": Break(
        "P5",
        "healthd/web/reconnect.py",
        {
            "if visit.state(self.now()) not in OPEN_PAGES:": "if visit.state(self.now()) == 'never':",
            "if case.state(self.now()) not in PRESSABLE:": "if case.state(self.now()) == 'never':",
        },
        (f"{_PAGE}::test_a_link_that_is_done_says_so_and_asks_for_nothing[repaired]",),
    ),
    "looking at the page mints": Break(
        "P6",
        "healthd/web/reconnect.py",
        {
            "                await self._note_shown(visit)": (
                "                await self._mint_once(request, visit, visit.cases[0])"
            )
        },
        (f"{_PAGE}::test_nothing_but_a_press_asks_the_provider_for_a_link[GET]",),
    ),
    "the first press uses the link up": Break(
        "P6",
        "healthd/web/reconnect.py",
        {
            "accounts.schedule_probe(connection, [link.account_id], now + FIRST_LOOK, Lane.CLICK)": (
                "connection.exec_driver_sql('UPDATE links SET revoked_at = created_at WHERE id = ?', (link.id,))"
            )
        },
        (
            f"{_PAGE}::test_the_button_leads_to_a_fresh_link_and_is_on_record",
            f"{_PAGE}::test_a_robots_press_leaves_the_page_as_it_was_for_the_person",
        ),
    ),
    "a link never expires": Break(
        "P6",
        "healthd/web/reconnect_cases.py",
        {'return "over" if now >= self.link.expires_at else self._progress(now)': "return self._progress(now)"},
        (f"{_PAGE}::test_a_link_that_is_done_says_so_and_asks_for_nothing[expired]",),
    ),
    "a press needs no form of ours": Break(
        "P6",
        "healthd/web/reconnect.py",
        {'if case is None or not self._is_form(form.get("press", ""), case.link):': "if case is None:"},
        (
            f"{_PAGE}::test_a_press_that_is_not_from_our_page_only_leads_to_our_page[none]",
            f"{_PAGE}::test_the_form_of_one_link_does_not_press_another",
            f"{_SEVERAL}::test_the_proof_of_one_row_presses_no_other_row_and_no_other_link",
        ),
    ),
    "a link is handed on wherever it leads": Break(
        "P6",
        "healthd/providers/smartlyq.py",
        {"return found is not None and found[1].lower() in allowed_hosts": "return found is not None"},
        (
            f"{_SMARTLYQ}::test_no_other_link_may_be_given_out",
            f"{_PAGE}::test_a_link_that_leads_elsewhere_is_never_handed_on[a longer host]",
        ),
    ),
    "the link of a message about several leads to one of them": Break(
        "P6",
        "healthd/outbox.py",
        {"        incidents.cover(connection, incidents.link_id((first or sent[0]).id), named)\n": "        pass\n"},
        (
            f"{_GROUPING}::test_accounts_that_break_together_arrive_as_one_message_whose_link_leads_to_all",
            f"{_GROUPING}::test_reminders_of_one_message_come_as_one",
        ),
    ),
    "the whole allowance is ours": Break(
        "P7",
        "healthd/providers/allowance.py",
        {"int(self.limit * self.rate_share * self._slowdown)": "int(self.limit * self._slowdown)"},
        (
            f"{_ALLOWANCE}::test_no_minute_holds_more_requests_than_our_share",
            f"{_ALLOWANCE}::test_under_any_rush_no_minute_holds_more_than_the_share_and_everybody_gets_a_turn",
        ),
    ),
    "the customer's own traffic gets no reserve": Break(
        "P7",
        "healthd/providers/allowance.py",
        {"self._remaining - self.limit * RESERVE_BY_LANE[lane]": "self._remaining + 1"},
        (
            f"{_ALLOWANCE}::test_what_the_customers_own_traffic_needs_is_left_to_it",
            f"{_ALLOWANCE}::test_the_customers_own_traffic_is_left_its_reserve",
        ),
    ),
    "a click waits behind everything else": Break(
        "P7",
        "healthd/providers/allowance.py",
        {
            "    lane: Lane\n    number: int\n": (
                "    lane: Lane = __import__('dataclasses').field(compare=False)\n    number: int\n"
            )
        },
        (
            f"{_ALLOWANCE}::test_the_most_urgent_goes_first_and_equals_in_order_of_arrival",
            f"{_ALLOWANCE}::test_a_click_overtakes_a_thousand_that_wait",
        ),
    ),
    "too many requests stop nothing": Break(
        "P7",
        "healthd/providers/smartlyq.py",
        {"self._allowance.refused(error.retry_after)": "pass"},
        (f"{_SMARTLYQ}::test_too_many_requests_stop_every_lane_for_as_long_as_was_asked",),
    ),
    "an API that fails is asked on and on": Break(
        "P7",
        "healthd/providers/breaker.py",
        {"return now < self.opens_until": "return False"},
        (
            "tests/providers/test_breaker.py::test_after_the_pause_one_may_try_and_one_good_answer_closes_it",
            f"{_TROUBLE}::test_a_workspace_that_rests_is_not_swept",
        ),
    ),
    "old news count like new ones": Break(
        "P8",
        "healthd/core/machine.py",
        {"    return older or overtaken\n": "    return False\n"},
        (
            f"{_MACHINE}::test_what_is_older_than_what_is_known_changes_nothing",
            f"{_MACHINE}::test_an_answer_to_a_question_older_than_the_last_change_is_not_believed",
        ),
    ),
    "a repair is believed without a look": Break(
        "P8",
        "healthd/core/machine.py",
        {"_row(_E, _sig.CONNECTED,       _E, Confirm()),": "_row(_E, _sig.CONNECTED,       _H, _repaired),"},
        (f"{_MACHINE}::test_only_a_good_reading_repairs_and_then_the_siblings_are_looked_at",),
    ),
    "a sweep skips what it should have written": Break(
        "P8",
        "healthd/engine.py",
        {"settled = _SETTLED.get(known.state) is observation.signal": "settled = known.state in _SETTLED"},
        (f"{_ENGINE}::test_a_sweep_writes_only_what_is_news",),
    ),
    "a good reading brings the removed back": Break(
        "P8",
        "healthd/core/machine.py",
        {"_row(_R, _sig.OK,              _R),": "_row(_R, _sig.OK,              _H),"},
        (f"{_MACHINE}::test_a_tombstone_is_lifted_only_by_a_new_connection",),
    ),
    "who slept for longer than a lease sends all the same": Break(
        "P4",
        "healthd/outbox.py",
        {
            "        if notice.lease_until is not None and self.now() > notice.lease_until - SENDING:\n"
            "            raise LeaseLost\n": ""
        },
        (f"{_OUTBOX}::test_a_sender_that_stood_still_hands_nothing_over",),
    ),
    "two daemons change one workspace at once": Break(
        "P4",
        "healthd/store/postgres.py",
        {"pg_advisory_xact_lock({_key(workspace)})": "pg_advisory_xact_lock_shared({_key(workspace)})"},
        (f"{_SHARED}::test_whoever_changes_the_same_waits_and_nobody_else[acme-acme]",),
    ),
    "a sender waits for whoever is changing a notice": Break(
        "P3",
        "healthd/store/notices.py",
        {"    .with_for_update(of=notices, skip_locked=True)\n": "    .with_for_update(of=notices)\n"},
        (f"{_SHARED}::test_a_notice_that_somebody_is_changing_holds_no_sender_up",),
    ),
    "two daemons sweep at once": Break(
        "P7",
        "healthd/store/jobs.py",
        {
            '        or_(jobs.c.lease_until.is_(None), jobs.c.lease_until <= bindparam("now")),\n': "",
        },
        (f"{_SHARED}::test_what_one_is_at_nobody_else_begins[postgresql]",),
    ),
    "a dead daemon's sweep is nobody's until the next one is due": Break(
        "P8",
        "healthd/sweep.py",
        {"            if lease_until is None:\n": "            if True:\n"},
        (f"{_CLUSTER}::test_what_a_dead_one_was_at_others_do_once_its_lease_has_ended",),
    ),
    "what was moved can be worked with in both places": Break(
        "P4",
        "healthd/store/move.py",
        {"        _mark(database)\n": "        assert _mark\n"},
        (f"{_MOVE}::test_the_file_is_kept_and_nobody_works_with_it_by_mistake",),
    ),
    "nothing is redacted": Break(
        "P9",
        "healthd/logs.py",
        {
            "return {self.text(str(key)): self._any(value) for key, value in event.items()} | record": (
                "return event | record"
            )
        },
        ("tests/logs/test_logs.py::test_no_secret_is_in_the_log_wherever_it_was_planted",),
    ),
    "a mail server's words are kept with the notice": Break(
        "P9",
        "healthd/channels/email.py",
        {'reason = f"{what} was refused ({codes})"': 'reason = f"{what} was refused ({codes}): {message}"'},
        (f"{_EMAIL}::test_a_refusal_is_final_only_if_nobody_can_mend_it",),
    ),
    "redirects of the API are followed": Break(
        "P9",
        "healthd/providers/smartlyq.py",
        {"follow_redirects=False": "follow_redirects=True"},
        (f"{_GAPS}::test_a_redirect_to_another_host_never_gets_the_key_or_the_profile",),
    ),
    "a token is logged whole": Break(
        "P9",
        "healthd/web/reconnect.py",
        {'"link": fingerprint(case.token)': '"link": case.token'},
        (f"{_PAGE}::test_the_token_is_in_no_log_and_no_metric",),
    ),
    "where a link leads is told whence": Break(
        "P9",
        "healthd/web/reconnect.py",
        {'"referrer-policy": "no-referrer"}': '"referrer-policy": "unsafe-url"}'},
        (f"{_PAGE}::test_every_answer_is_guarded", f"{_PAGE}::test_refusals_and_redirects_are_guarded_as_well"),
    ),
    "what is stored opens the page": Break(
        "P9",
        "healthd/outbox.py",
        {
            "link=LINK if needs_link else None,": (
                "link=self.links.url(notice.id[:16]) if needs_link and self.links else None,"
            )
        },
        (f"{_OUTBOX}::test_a_notice_is_sent_once_and_recorded",),
    ),
}
