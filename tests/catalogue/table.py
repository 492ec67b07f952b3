"""THE CATALOGUE: every hostile or odd input that was thought of, what healthd answers, and the tests that hold it.

``W`` are webhooks, ``L`` links and their page, ``R`` what is rendered, ``U`` answers of the provider, ``A`` requests to
the operator's API. The page ``docs/hostile-input.md`` is made from it: ``python -m tests.catalogue.table``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "hostile-input.md"
SIZES = {"W": 84, "L": 30, "R": 22, "U": 34, "A": 18}
HEADINGS = {
    "W": "Webhooks",
    "L": "Reconnect links and their page",
    "R": "What is rendered: mail, Slack, pages, logs, metrics",
    "U": "Answers of the provider",
    "A": "Requests to the operator's API",
}


@dataclass(frozen=True, slots=True)
class Row:
    """``held_by`` are pytest's ids of tests; a row without any belongs to a later issue, which ``belongs_to`` names."""

    id: str
    input: str
    answer: str
    must_not: str
    held_by: tuple[str, ...]
    belongs_to: str = ""


def held(file: str, *tests: str) -> tuple[str, ...]:
    return tuple(f"tests/{file}.py::{test}" for test in tests)


def wire(*names: str) -> tuple[str, ...]:
    return held(
        "daemon/test_listener",
        *(f"test_what_is_said_over_the_wire_has_its_answers_and_comes_to_an_end[{name}]" for name in names),
    )


def two_ways(*names: str) -> tuple[str, ...]:
    return held(
        "catalogue/test_webhooks", *(f"test_what_two_readers_could_read_in_two_ways_is_refused[{n}]" for n in names)
    )


def lets_in(*names: str) -> tuple[str, ...]:
    return held("providers/test_webhook_signature", *(f"test_lets_in[{name}]" for name in names))


def refuses(*names: str) -> tuple[str, ...]:
    return held("providers/test_webhook_signature", *(f"test_refuses[{name}]" for name in names))


def unread(*names: str) -> tuple[str, ...]:
    return held(
        "providers/test_webhook_signature",
        *(f"test_an_authentic_body_that_cannot_be_read_is_unparsed[{name}]" for name in names),
    )


def stored(*names: str) -> tuple[str, ...]:
    test = "test_whatever_an_authentic_body_holds_it_is_stored_and_acknowledged"
    return held("daemon/test_receiver", *(f"{test}[{name}]" for name in names))


def elsewhere(*names: str) -> tuple[str, ...]:
    test = "test_a_link_that_leads_elsewhere_is_never_handed_on"
    return held("web/test_reconnect_page", *(f"{test}[{name}]" for name in names))


def told_as(*names: str) -> tuple[str, ...]:
    test = "test_every_answer_but_a_good_one_is_an_error_of_its_kind_whatever_was_asked"
    return held("providers/test_smartlyq", *(f"{test}[{name}]" for name in names))


def broken_off(*names: str) -> tuple[str, ...]:
    test = "test_no_whole_answer_is_unavailable_and_never_a_reading"
    return held("providers/test_smartlyq", *(f"{test}[{way}-{name}]" for name in names for way in ("health", "mint")))


def unmoved(*names: str) -> tuple[str, ...]:
    return held("sweep/test_trouble", *(f"test_no_answer_of_a_failing_api_moves_an_account[{name}]" for name in names))


def at_door(*names: str) -> tuple[str, ...]:
    return held(DOOR, *(f"test_what_cannot_be_is_refused_and_changes_nothing[{name}]" for name in names))


DOOR = "api/test_door"
NAMES = held("catalogue/test_names", "test_a_name_is_a_name_and_nothing_else_wherever_it_goes")
HALF = held("catalogue/test_names", "test_half_a_character_in_a_name_parks_its_webhook_and_nothing_else")
IN_MAIL = held("channels/test_email", "test_no_name_adds_a_header_a_long_line_or_a_recipient")
ANY_BYTES = held(
    "catalogue/test_fuzz", "test_whatever_is_said_to_the_public_listener_it_answers_or_hangs_up_and_goes_on"
)
ONE_ANSWER = held("daemon/test_receiver", "test_every_signature_problem_has_the_same_answer")
SIGNATURE, RECEIVER, MAIN = "providers/test_webhook_signature", "daemon/test_receiver", "daemon/test_main_job"
HERE, PAGES, CLIENT = "catalogue/test_webhooks", "web/test_reconnect_page", "providers/test_smartlyq"
MACHINE, ENGINE, OUTBOX, LOGS = "core/test_machine", "engine/test_promises", "outbox/test_outbox", "logs/test_logs"
TIMES = held(SIGNATURE, "test_refuses_a_validly_signed_time_that_is_not_plain_digits")
ONCE = held(ENGINE, "test_the_same_event_five_times_and_out_of_order_is_one_incident_and_one_message")
CLEANED = "test_what_would_break_a_message_is_taken_out"
MISTAKE = "test_each_mistake_is_told_once_with_its_place_and_what_was_meant"
GUARDED = held(PAGES, "test_every_answer_is_guarded", "test_refusals_and_redirects_are_guarded_as_well")
NO_MINT = held(PAGES, "test_nothing_but_a_press_asks_the_provider_for_a_link")
FIVE_A_MINUTE = held(PAGES, "test_a_link_can_be_pressed_five_times_a_minute_and_thirty_times_an_hour")
PAUSES = held(CLIENT, "test_too_many_requests_stop_every_lane_for_as_long_as_was_asked")
STORM = "outbox/test_storms"
STORM_HOLDS = held(STORM, "test_the_operator_gets_one_notice_and_people_none",
                   "test_when_all_recover_by_themselves_people_never_hear_of_it",
                   "test_what_lasts_is_told_when_its_time_is_up")  # fmt: skip

TRANSPORT = (
    Row("W1", "any method but POST", "405 with Allow: POST and no body", "be taken for a webhook",
        held(RECEIVER, "test_only_post_is_allowed")),
    Row("W2", "an unknown workspace, a slash too many, another case, an encoded path", "404", "redirect",
        held(RECEIVER, "test_an_unknown_address_is_404_and_never_a_redirect")),
    Row("W3", "a connection on which nothing is said", "408 and closed at the deadline", "stay open",
        wire("silence") + held(RECEIVER, "test_a_slow_header_is_cut_off")),
    Row("W4", "a header dripped byte by byte", "408 at the deadline of the whole header", "win time with each byte",
        wire("a dripped header", "a second header that drips")),
    Row("W5", "a dripped body", "408 at the deadline of the whole body", "win time with each byte",
        wire("a dripped body") + held(RECEIVER, "test_a_slow_body_is_408")),
    Row("W6", "a declared length of 10 MB", "413 before anything is read", "be read",
        held(RECEIVER, "test_a_large_body_is_refused_before_it_is_read")),
    Row("W7", "10 MB in chunks, no length", "413 as soon as 64 KiB are passed", "be gathered in memory",
        held(RECEIVER, "test_a_large_body_of_unknown_length_is_refused_as_soon_as_it_is_too_large")),
    Row("W8", "a body shorter than its length, then a closed connection", "nothing is kept", "leave a traceback",
        held(RECEIVER, "test_a_client_that_leaves_leaves_no_traceback")),
    Row("W9", "a length and chunks, or two encodings", "400 and closed", "make two requests out of one",
        wire("length and chunks") + two_ways("W9 chunks named twice")),
    Row("W10", "two lengths; a negative, signed, hexadecimal or endless one", "400", "be guessed at",
        wire("two lengths", "a negative length")
        + two_ways("W10 a hexadecimal length", "W10 a length with a sign", "W10 a length beyond all numbers")),
    Row("W11", "bare line feeds, folded headers, NUL or a space in a header's name", "400", "reach the application",
        wire("a folded header", "a space in a header's name", "a NUL in a header")
        + two_ways("W11 bare line feeds", "W11 a NUL in a header's name", "W11 a bare carriage return in a header")
        + ANY_BYTES),
    Row("W12", "two hundred headers, or one of 64 kB", "431 and closed", "be gathered in memory",
        wire("two hundred headers", "a header that is larger", "a header that does not end")),
    Row("W13", "Expect: 100-continue", "100, then the usual answer", "wait for ever", wire("expect 100-continue")),
    Row("W14", "a compressed bomb", "401, or 202 and kept as the bytes that were signed", "be unpacked",
        held(HERE, "test_a_compressed_body_is_bytes_and_is_never_unpacked")),
    Row("W15", "a missing or lying Content-Type", "202: the body is JSON in UTF-8 or is parked", "change the reading",
        held(HERE, "test_what_a_header_says_of_the_body_makes_no_difference")),
    Row("W16", "HTTP/1.0; two requests in one write", "each is answered once", "lose the second",
        wire("HTTP/1.0", "a pipelined pair", "a pair with bodies")),
    Row("W17", "thousands at once", "202 in few commits; beyond the queue 429 with a time; beyond the connections 503",
        "lose what was accepted",
        held(RECEIVER, "test_a_thousand_at_once_are_all_kept_in_few_commits")
        + held(HERE, "test_more_than_can_wait_for_a_commit_are_told_to_come_again_and_the_others_are_kept")
        + held("daemon/test_listener", "test_more_connections_than_allowed_are_turned_away_and_the_others_served")),
    Row("W18", "a sender that leaves before the answer", "kept; its next try is answered 200", "be seen to twice",
        held(HERE, "test_a_sender_that_left_before_the_answer_is_kept_and_recognised_when_it_comes_again")),
    Row("W19", "a full disk, a locked or read-only database", "503 with a time to come again, within two seconds",
        "be answered 2xx",
        held(RECEIVER, "test_while_the_store_fails_the_answer_is_503_and_never_2xx")
        + held("crash/test_no_room", "test_a_webhook_that_cannot_be_kept_is_refused_with_the_time_to_come_again")
        + held("store/test_database", "test_a_webhook_that_cannot_be_stored_is_refused_within_two_seconds")),
    Row("W20", "SIGTERM while it is under way", "answered; new ones are told 503 and when to come again",
        "be answered 2xx without a commit",
        held("daemon/test_lifecycle", "test_a_drain_ends_a_request_that_is_under_way_and_takes_no_new_webhook")
        + held(RECEIVER, "test_a_drain_refuses_with_503_and_says_when_to_come_again")),
    Row("W21", "SIGKILL between commit and answer", "kept; the sender's next try is a duplicate", "have two effects",
        held("daemon/test_lifecycle", "test_a_webhook_that_was_acknowledged_survives_a_kill")
        + held("crash/test_every_boundary", "test_a_kill_loses_nothing_and_repeats_only_what_nobody_can_know")),
    Row("W22", "forged Host and X-Forwarded headers", "believed only from a listed proxy; links come from public_url",
        "get into a link",
        held("daemon/test_listener", "test_a_forwarded_address_is_believed_only_from_a_trusted_proxy")
        + held(HERE, "test_an_account_that_nobody_knew_is_taken_up_from_its_webhook_whatever_else_is_in_it")),
)  # fmt: skip

SIGNED = (
    Row("W23", "no signature, or an empty one", "401, a constant body", "tell why",
        held(SIGNATURE, "test_w23_refuses_a_request_without_the_header") + refuses("W23 empty", "W23 only commas")
        + ONE_ANSWER),
    Row("W24", "two signature headers", "401", "let the better one count",
        held(SIGNATURE, "test_w24_refuses_two_signature_headers_even_when_both_are_valid")),
    Row("W25", "no time, no v1, or another scheme alone", "401", "fall back to another scheme",
        refuses("W25 no t", "W25 no v1", "W25 v0 alone", "W25 an unknown scheme alone", "W25 names in upper case",
                "W25 a semicolon between")),
    Row("W26", "the parts in another order, with spaces", "202", "be refused",
        lets_in("W26 the order swapped", "W26 a space after the comma", "W26 tabs and spaces round the parts")),
    Row("W27", "two times", "401", "choose one", refuses("W27 two t")),
    Row("W28", "many v1", "202 if one of up to sixteen is right, else 401", "cost without bound",
        lets_in("W28 ten v1, the last one right", "W28 sixteen v1, the first one right")
        + refuses("W28 seventeen v1, the last one right")),
    Row("W29", "bytes beyond ASCII in the signature", "401", "raise",
        refuses("W29 a byte beyond ASCII in the signature", "W29 full-width digits",
                "W29 nothing but bytes beyond ASCII")
        + held(RECEIVER, "test_every_signature_problem_has_the_same_answer[not ASCII]")),
    Row("W30", "upper-case hexadecimal", "202", "be refused",
        lets_in("W30 upper-case hexadecimal", "W30 mixed-case hexadecimal")),
    Row("W31", "a digest that is truncated, odd, too long or no hexadecimal", "401", "be padded or cut to fit",
        refuses("W31 truncated", "W31 an odd number of digits", "W31 128 digits", "W31 no hexadecimal",
                "W31 hexadecimal with spaces inside", "W31 empty", "W31 0x before it", "W31 in base64")),
    Row("W32", "a signature of a megabyte", "431 by the listener, 401 by the check", "cost without bound",
        refuses("W32 a megabyte") + held(RECEIVER, "test_a_header_without_end_is_431")),
    Row("W33", "a time that is no plain number", "401 even if signed", "be read as a number", TIMES),
    Row("W34", "a time in milliseconds", "401; the log's line says malformed", "be scaled",
        held(SIGNATURE, "test_refuses_a_validly_signed_time_that_is_not_plain_digits[milliseconds]")
        + held(RECEIVER, "test_every_signature_problem_has_the_same_answer[milliseconds]")),
    Row("W35", "a valid signature, 301 s old", "401 (300 s are let in)", "count as news",
        refuses("W35 301 s old", "W35 the epoch") + lets_in("W35 exactly 300 s old")),
    Row("W36", "a valid signature from the future", "401 beyond 300 s", "be good for ever",
        refuses("W36 301 s in the future", "W36 the year 9999") + lets_in("W36 exactly 300 s in the future")),
    Row("W37", "the same delivery again at once", "200, a counted duplicate", "have an effect",
        held(RECEIVER, "test_a_new_webhook_is_202_a_repeated_one_200_and_both_are_one_row")),
    Row("W38", "a delivery replayed later", "401 as it was; 200 signed afresh", "have an effect",
        held(HERE, "test_an_old_delivery_that_is_replayed_has_no_effect_and_signed_afresh_it_is_a_duplicate")),
    Row("W39", "another body under an id that is known", "200; the first body counts, the second is a duplicate",
        "replace the first",
        held(HERE, "test_the_first_body_under_an_id_counts_and_every_other_is_a_duplicate")
        + held("store/test_inbox", "test_the_first_body_under_an_id_is_the_one_that_is_kept")),
    Row("W40", "a signature over the same JSON written anew", "401", "compare meanings",
        refuses("W40 over the same JSON written anew")),
    Row("W41", "a signature over the body alone", "401", "fall back to the old scheme",
        refuses("W41 over the body alone", "W41 the old scheme's bare digest")),
    Row("W42", "another tenant's secret, or the previous one", "401; 202 while it is listed", "cross tenants",
        refuses("W42 another tenant's secret") + lets_in("W42 the previous secret, while it is listed")),
    Row("W43", "the secret's bytes understood otherwise", "401", "be tried both ways",
        refuses("W43 the secret base64-decoded", "W43 the secret without its prefix")),
    Row("W44", "an empty secret in the settings", "a message, and no start; nothing is let in without a secret",
        "let the empty key in",
        held("config/test_mistakes", f"{MISTAKE}[an empty webhook secret (W44)]") + refuses("W44 the empty secret")
        + held(SIGNATURE, "test_w44_without_any_secret_nothing_is_let_in")),
    Row("W45", "the border between time and body shifted", "401", "be split in two ways",
        refuses("W45 the boundary shifted")
        + held(SIGNATURE, "test_w45_no_other_split_of_the_signed_text_is_accepted")),
    Row("W46", "guessing by the time that a refusal takes", "every pair is compared in constant time", "stop early",
        held(SIGNATURE, "test_w46_every_secret_is_compared_with_every_signature_through_compare_digest")),
    Row("W47", "headers that contradict the signed body", "the body is believed", "be believed",
        held(HERE, "test_the_body_is_believed_and_not_the_headers_that_nobody_signed")),
    Row("W48", "a flood of bad signatures from one address", "401, then 429; one line in the log a minute",
        "refuse one good signature; fill the log",
        held(HERE, "test_a_flood_of_bad_signatures_is_refused_and_a_good_one_amid_it_let_in",
             "test_the_log_tells_of_bad_signatures_once_a_minute_and_how_many_there_were")),
)  # fmt: skip

CONTENT = (
    Row("W49", "an empty body, null, an array, a word, a number", "202, parked", "raise",
        unread("W49 empty", "W49 null", "W49 an array", "W49 a string", "W49 a number") + stored("empty", "an array")),
    Row("W50", "no JSON, truncated JSON, garbage behind it", "202, parked", "be half read",
        unread("W50 no JSON", "W50 truncated", "W50 trailing garbage", "W50 two documents")
        + held(RECEIVER, "test_what_cannot_be_read_is_parked_and_counted")),
    Row("W51", "invalid UTF-8", "202, parked byte for byte", "raise",
        unread("W51 invalid UTF-8") + stored("broken UTF-8")
        + held("store/test_inbox", "test_bodies_are_kept_byte_for_byte")),
    Row("W52", "a byte order mark, UTF-16", "202, parked", "be guessed at",
        unread("W52 a byte order mark", "W52 UTF-16")),
    Row("W53", "nesting without end", "202, parked", "exhaust the stack",
        unread("W53 arrays 200 000 deep", "W53 objects 100 000 deep") + stored("deep")),
    Row("W54", "NaN, Infinity, numbers beyond measure", "202, parked", "be stored as numbers",
        unread("W54 NaN", "W54 Infinity") + stored("a huge number")),
    Row("W55", "an account_id of 2^64, 0, 1.0, text, true, nothing", "kept as text up to 20 digits, else parked",
        "overflow or reach a path",
        held(SIGNATURE, "test_w55_an_accounts_id_is_kept_as_text_however_large",
             "test_w55_what_is_no_id_leaves_the_webhook_unparsed")),
    Row("W56", "a lone surrogate", "202, parked", "reach the store, a mail or a label",
        unread("W56 a lone surrogate", "W56 a lone surrogate in bytes") + stored("a lone surrogate") + HALF),
    Row("W57", "NUL and other controls in text", "taken out at the border", "reach a column",
        unread("W57 a raw NUL") + stored("NUL in a name")
        + held(SIGNATURE, "test_w57_the_name_of_an_event_can_be_stored_whatever_was_sent") + NAMES),
    Row("W58", "the same key twice", "the last one counts, everywhere", "mean two things",
        held(SIGNATURE, "test_w58_the_last_of_two_equal_keys_wins_for_the_id_as_for_the_rest")),
    Row("W59", "an event that we do not know or did not ask for", "202, counted as other", "have an effect",
        held(SIGNATURE, "test_w59_an_event_nobody_knows_is_recognised_and_nothing_follows_from_it")
        + stored("an unknown event")),
    Row("W60", "a missing id, event, date or data", "known by its digest; parked if it says nothing", "be lost",
        unread("W60 no event", "W60 no data", "W60 no account_id")
        + held(SIGNATURE, "test_w60_a_body_without_a_usable_id_is_recognised_by_its_digest")),
    Row("W61", "an id of any length, with new lines, SQL, a path", "known by its digest", "be a key as it is",
        held(SIGNATURE, "test_w60_a_body_without_a_usable_id_is_recognised_by_its_digest",
             "test_any_bytes_are_parsed_or_unparsed_and_nothing_else_happens")),
    Row("W62", "a date of 1970 or 9999, without a zone, of second 60", "dated by its arrival", "outrank what is known",
        held(SIGNATURE, "test_w62_an_event_is_dated_by_itself_only_where_its_date_can_be_true",
             "test_w62_a_replay_from_the_end_of_the_providers_log_keeps_its_date")),
    Row("W63", "an account that we do not know yet", "taken up, asked about, told of", "be dropped",
        held(HERE, "test_an_account_that_nobody_knew_is_taken_up_from_its_webhook_whatever_else_is_in_it")),
    Row("W64", "an account of another workspace", "asked about with this workspace's key, which knows nothing of it",
        "touch the other's account; be told to anybody",
        held(HERE, "test_an_account_of_another_workspace_is_nobodys_trouble")),
    Row("W65", "an account that was removed", "stays removed", "come back to life; be told of",
        held(MAIN, "test_a_deleted_account_is_closed_and_nobody_hears_of_it_again")
        + held(MACHINE, "test_a_tombstone_is_lifted_only_by_a_new_connection")),
    Row("W66", "an account that is paused", "its state moves, its notices wait", "be mailed",
        held(MAIN, "test_a_paused_account_is_nobodys_trouble_until_it_is_resumed")),
    Row("W67", "a platform that is no word", "other", "become a label of its own",
        held(SIGNATURE, "test_w67_a_platform_that_is_no_word_is_other")
        + held("metrics/test_scrapes", "test_a_thousand_platforms_are_one_series_each_of_other")),
    Row("W68", "a hostile name", "cleaned, cut to 80 characters, escaped for each place", "be anything but a name",
        held(SIGNATURE, "test_w68_texts_are_cleaned_and_cut") + NAMES
        + stored("an endless name", "a header in a name")),
    Row("W69", "a reason with a token or an address in it", "kept for the operator, redacted in the log",
        "be mailed, shown on the page or logged as it is",
        NAMES + held("logs/test_scenes", "test_nothing_secret_leaves_a_daemon_that_says_all_it_can")),
    Row("W70", "token_expired for an account that is well", "asked about, cleared", "be told to anybody",
        held(MAIN, "test_a_false_alarm_is_cleared_without_a_word")),
    Row("W71", "connected for an account that is not", "asked about, stays broken", "close the incident",
        held(HERE, "test_connected_alone_repairs_nothing_and_a_hundred_events_are_one_incident")
        + held(MACHINE, "test_only_a_good_reading_repairs_and_then_the_siblings_are_looked_at")),
    Row("W72", "connected before the expiry that it answers", "ends as the API says", "nag",
        held(MAIN, "test_an_event_five_times_and_out_of_order_is_one_incident_and_one_notice")
        + held("engine/test_any_order", "TestAccountsInAnyOrder::runTest")),
    Row("W73", "an expiry from before the last recovery", "on record, changes nothing", "be told",
        held(ENGINE, "test_a_late_event_is_on_record_but_changes_nothing")
        + held(MACHINE, "test_what_is_older_than_what_is_known_changes_nothing")),
    Row("W74", "expired, connected, expired within a second", "one incident, one message", "be told twice",
        held(HERE, "test_connected_alone_repairs_nothing_and_a_hundred_events_are_one_incident")),
    Row("W75", "a hundred equal events", "one incident, one message", "be told a hundred times",
        held(HERE, "test_connected_alone_repairs_nothing_and_a_hundred_events_are_one_incident") + ONCE),
    Row("W76", "ten thousand accounts expire in a minute",
        "people's notices are held, the operator gets one; none is lost", "mail everybody",
        STORM_HOLDS + held("outbox/test_thousands",
                           "test_thousands_that_break_at_once_are_few_messages_and_soon_told")),
    Row("W77", "disconnected, as its owner chose", "told once as disconnected; closed when the list drops it",
        "nag after the removal",
        held(MAIN, "test_a_disconnection_that_the_reading_agrees_with_is_told_at_once",
             "test_a_deleted_account_is_closed_and_nobody_hears_of_it_again")),
    Row("W78", "one event through two subscriptions", "202, then 200", "have two effects",
        held(RECEIVER, "test_a_new_webhook_is_202_a_repeated_one_200_and_both_are_one_row")
        + held("store/test_inbox", "test_an_event_is_new_once_within_and_across_batches")),
    Row("W79", "a thousand old deliveries replayed", "200 each: ids are remembered longer than they can be replayed",
        "be told",
        held("store/test_inbox",
             "test_old_bodies_are_emptied_but_their_ids_are_known_for_as_long_as_they_can_be_replayed")
        + held(HERE, "test_an_old_delivery_that_is_replayed_has_no_effect_and_signed_afresh_it_is_a_duplicate")),
    Row("W80", "new fields, new words", "passed over; an unknown status is not broken", "raise; open an incident",
        held(HERE, "test_an_account_that_nobody_knew_is_taken_up_from_its_webhook_whatever_else_is_in_it")
        + held(CLIENT, "test_a_reading_says_what_all_of_its_fields_say_together")),
    Row("W81", "data that is a list or text", "202, parked", "raise",
        unread("W81 data is a list", "W81 data is a string")),
    Row("W82", "the key was revoked", "the API is asked at once; a refused key is told to the operator, once",
        "blame accounts",
        held("daemon/test_operator", "test_the_news_that_a_key_was_revoked_leads_to_a_look_at_once",
             "test_what_does_not_pass_by_itself_is_told_once_and_so_is_its_end")),
    Row("W83", "a webhook while the database is upgraded or read-only", "503, or no listener yet: it comes again",
        "be dropped",
        held("crash/test_no_room",
             "test_a_webhook_that_cannot_be_kept_is_refused_with_the_time_to_come_again[read-only]")
        + held("crash/test_migration",
               "test_a_migration_that_was_killed_is_done_whole_or_not_at_all_and_the_daemon_starts")),
    Row("W84", "our clock jumps by an hour", "signatures are refused until it is right; sweeps go on",
        "mail anybody in error; stop a timer",
        held(HERE, "test_when_our_clock_jumps_nobody_is_mailed_in_error_and_what_is_broken_is_found")
        + held(MACHINE, "test_a_clock_that_is_set_back_does_not_deafen")),
)  # fmt: skip

LINKS = (
    Row("L1", "scanners fetch the link, some with a browser", "the page", "mint; count as a press",
        NO_MINT + held("web/test_page_in_a_browser",
                       "test_a_scanner_that_waits_and_clicks_everything_leaves_the_link_as_it_was")),
    Row("L2", "a scanner presses the button", "costs one of the provider's links", "use the link up for the person",
        held(PAGES, "test_a_robots_press_leaves_the_page_as_it_was_for_the_person")
        + held(MAIN, "test_robots_cost_a_link_and_never_the_repair")),
    Row("L3", "a token that was damaged in any way", "404, always the same page", "tell damaged from unknown",
        held(PAGES, "test_a_damaged_token_gets_the_one_constant_answer",
             "test_an_address_beyond_all_measure_is_refused_unread")
        + held("web/test_links", "test_no_character_of_a_token_can_be_another")),
    Row("L4", "a link that is expired, revoked or done", "410, or 200 if repaired, in words for a person", "mint",
        held(PAGES, "test_a_link_that_is_done_says_so_and_asks_for_nothing")),
    Row("L5", "another account or recipient in the form", "passed over: the token says everything", "be obeyed",
        held(PAGES, "test_only_the_token_in_the_address_counts", "test_the_form_of_one_link_does_not_press_another")),
    Row("L6", "guessing tokens", "404, then 429 for that network", "slow anybody else down",
        held(PAGES, "test_an_address_that_guesses_is_slowed_down_and_nobody_else")
        + held("web/test_visitors", "test_the_memory_is_bounded_and_forgets_the_quiet_ones_first")),
    Row("L7", "another site posts the form", "leads to our page", "mint",
        held(PAGES, "test_another_sites_page_cannot_press_and_old_browsers_can",
             "test_a_press_that_is_not_from_our_page_only_leads_to_our_page")),
    Row("L8", "a double click, two tabs, the back button", "one press; each later one a fresh link", "lead nowhere",
        held(PAGES, "test_a_double_click_is_one_press")
        + held("web/test_page_in_a_browser", "test_on_a_phone_everything_stays_in_one_tab_and_back_leads_to_the_news")),
    Row("L9", "the page in a frame", "forbidden by its headers", "be framed", GUARDED),
    Row("L10", "an address to go to afterwards", "passed over", "redirect there",
        held(PAGES, "test_an_address_to_go_to_afterwards_is_ignored")),
    Row("L11", "a provider link on a longer host", "refused; the operator is told", "be handed on",
        elsewhere("a longer host", "a trailing dot")),
    Row("L12", "backslash, user, port, percent in the host", "refused", "mean two hosts",
        elsewhere("a backslash", "a user", "a user before the right host", "another port", "an encoded host")),
    Row("L13", "another scheme, or none", "refused", "be handed on",
        elsewhere("a script", "data", "plain http", "no scheme", "one slash", "no slash")),
    Row("L14", "a tab in the host", "refused on the raw text", "be stripped", elsewhere("a tab")),
    Row("L15", "a line break in the link", "refused", "become a header", elsewhere("a new header", "a space before")),
    Row("L16", "a look-alike host", "refused", "be normalised", elsewhere("a homograph")),
    Row("L17", "a link that is empty, null, a number, a megabyte", "refused; the page says later", "raise",
        elsewhere("nothing", "null", "a number", "a list", "a megabyte")),
    Row("L18", "an API that refuses or is slow to give a link", "the page explains, within eight seconds",
        "blame the person",
        held(PAGES, "test_while_the_provider_fails_the_page_explains_and_blames_nobody",
             "test_when_the_provider_asks_for_patience_the_page_says_for_how_long",
             "test_a_person_waits_no_longer_than_the_page_allows")),
    Row("L19", "the page's address through referrers, caches, search engines", "kept in by headers and robots.txt",
        "load anything from elsewhere",
        GUARDED + held(PAGES, "test_nothing_on_the_page_comes_from_anywhere_else",
                       "test_robots_are_asked_to_stay_away")),
    Row("L20", "the token in logs and labels", "a fingerprint in its place", "open anything",
        held(PAGES, "test_the_token_is_in_no_log_and_no_metric")
        + held("web/test_links", "test_a_fingerprint_tells_tokens_apart_and_opens_nothing")),
    Row("L21", "a policy for forms that stops the redirect to the provider", "goes through in a real browser",
        "block the button",
        held("web/test_page_in_a_browser", "test_the_provider_may_lead_on_to_hosts_that_nobody_listed")),
    Row("L22", "a forwarded mail: somebody else presses", "mints what the link covers, on record", "mint anything else",
        held(PAGES, "test_the_button_leads_to_a_fresh_link_and_is_on_record")),
    Row("L23", "another account was connected", "the page says so, by name", "say that it is repaired",
        held("web/test_page_in_a_browser", "test_who_chose_another_account_is_told_so_by_name")
        + held(PAGES, "test_who_pressed_is_told_that_we_wait_and_then_that_it_may_be_the_wrong_account")),
    Row("L24", "a recipient is taken out of the contacts", "their links say that they are over; nobody else's do",
        "stay valid",
        held("outbox/test_let_go", "test_their_links_are_revoked_and_nobody_elses",
             "test_where_somebody_else_is_reached_at_the_address_its_link_goes_on_working")
        + held(PAGES, "test_a_link_that_is_done_says_so_and_asks_for_nothing[revoked]")),
    Row("L25", "the secret is changed", "old links work while the old secret is listed", "be cut off",
        held("web/test_links", "test_an_older_secret_still_verifies_and_the_newest_signs")
        + held("web/test_link_lifetime",
               "test_a_link_outlives_restarts_and_a_change_of_the_secret_but_not_its_lifetime")),
    Row("L26", "clocks of replicas that differ", "today: there is one process", "flicker at the end",
        (), "issue 7: replicas, whose leases and ends follow the database's clock"),
    Row("L27", "one link opened at two replicas", "presses are counted in the store", "be counted in memory",
        FIVE_A_MINUTE),
    Row("L28", "one-click unsubscription by a scanner", "not offered: no such header is sent", "unsubscribe an owner",
        held("channels/test_email", "test_the_message_is_text_and_html_with_exactly_the_headers_that_it_needs")),
    Row("L29", "previews by Slack and others", "switched off where that can be said; else as L1", "mint",
        held("channels/test_slack", "test_every_message_names_its_notice_and_asks_slack_not_to_open_its_links")
        + NO_MINT),
    Row("L30", "a public_url without TLS, with a path, of this machine", "a message, and no start; loopback is allowed",
        "send links that lead nowhere",
        held("config/test_mistakes", f"{MISTAKE}[a public address without TLS (L30)]",
             f"{MISTAKE}[a public address with a path (L30)]", "test_public_addresses_that_are_fine")),
)  # fmt: skip

RENDERED = (
    Row("R1", "a line break in a name", "a space", "add a header; hold its notice up for ever",
        NAMES + IN_MAIL + held("core/test_text", f"{CLEANED}[R1 a line break in a subject]")),
    Row("R2", "an encoded word with a header in it", "broken up; the message is read back before it goes",
        "add a header on any Python",
        NAMES + held("core/test_text", f"{CLEANED}[R2 an encoded word]")
        + held("channels/test_email", "test_a_message_whose_headers_came_out_otherwise_is_never_sent")),
    Row("R3", "lines by other names", "spaces", "break a subject",
        NAMES + held("core/test_text", f"{CLEANED}[R3 lines by other names]")),
    Row("R4", "lone surrogates, NUL, what is assigned to nothing", "taken out, or the webhook is parked", "be stored",
        HALF + held("core/test_text", f"{CLEANED}[R4 half a character]",
                    "test_clean_text_in_a_database_or_in_json_is_read_back_as_it_was")),
    Row("R5", "a name without end", "80 characters and …, not cut through a letter", "make a long line",
        NAMES + held("core/test_text", f"{CLEANED}[R5 an endless name]", "test_a_name_is_not_cut_through_a_letter")),
    Row("R6", "direction marks, what cannot be seen", "taken out; right-to-left names stay whole",
        "turn a sentence round",
        NAMES + held("core/test_text", f"{CLEANED}[R6 text turned round]", f"{CLEANED}[R6 what cannot be seen]")
        + held("channels/test_wording", "test_a_right_to_left_name_does_not_turn_the_sentence_around")),
    Row("R7", "HTML, attributes, addresses", "escaped; the text part is always there", "become an element or a link",
        NAMES + held("channels/test_email", "test_no_name_becomes_an_element_or_a_link_in_the_html")
        + held(PAGES, "test_names_stay_names_whatever_is_in_them")),
    Row("R8", "Slack's mentions, links, formatting", "plain text, as it is written", "ring anybody",
        NAMES + held("channels/test_slack", "test_a_name_is_shown_as_it_is_written",
                     "test_no_name_becomes_a_mention_a_link_or_formatting_and_slack_takes_every_message")),
    Row("R9", "mentions and Markdown of other services", "broken up", "ring anybody; link",
        held("channels/test_anything_else", "test_no_name_becomes_a_mention_or_a_link")),
    Row("R10", "a name that is an address, or says click here", "in quotes, not linked", "become a link by itself",
        held("channels/test_wording", "test_nothing_of_a_name_becomes_a_link_in_any_channel",
             "test_a_name_cannot_end_its_own_quotes")),
    Row("R11", "a line that begins with a dot", "arrives as it was", "end the message",
        held("channels/test_email", "test_lines_that_begin_with_a_dot_arrive_as_they_were")),
    Row("R12", "a template that lacks a variable", "found by the tests of every message", "show at sending",
        held("channels/test_wording", "test_every_channel_renders_every_message")),
    Row("R13", "line breaks and escapes in a log line", "one line of ASCII JSON; escaped on a terminal", "forge a line",
        NAMES + held(LOGS, "test_each_event_is_one_line_of_ascii_json_whatever_is_in_it",
                     "test_on_a_terminal_no_control_sequence_acts")),
    Row("R14", "a traceback with a key among its locals", "without locals, redacted", "show the key",
        held(LOGS, *(f"test_no_secret_is_in_the_log_wherever_it_was_planted[{what} traceback-{style}]"
                     for what in ("our", "a library's", "a group's") for style in ("json", "pretty")))),
    Row("R15", "a library that logs addresses", "heard only when something went wrong, redacted", "log a query",
        held(LOGS, "test_libraries_are_heard_only_when_something_went_wrong")),
    Row("R16", "secrets in representations, arguments, messages", "masked everywhere", "leave the process",
        held("config/test_secrets", "test_loaded_settings_do_not_show_their_secrets_and_know_them_all",
             "test_no_message_holds_a_secret")
        + held("logs/test_scenes", "test_nothing_secret_leaves_a_daemon_that_says_all_it_can")),
    Row("R17", "labels out of the provider's text", "a closed set and other", "grow without bound; be broken out of",
        NAMES + held("metrics/test_scrapes", "test_what_a_busy_daemon_shows_is_clean_bounded_and_true",
                     "test_a_thousand_platforms_are_one_series_each_of_other")),
    Row("R18", "a name that begins like a formula", "stands in tables as it is; there is no CSV to open", "be markup",
        held("cli/test_told", "test_no_name_breaks_a_table_or_is_taken_for_markup")),
    Row("R19", "a name too long for a short message", "the headline stays short; Apprise cuts for its service",
        "be sent without bound",
        held("channels/test_wording", "test_a_name_of_any_length_leaves_a_subject_that_can_be_read")
        + held("channels/test_anything_else", "test_no_name_becomes_a_mention_or_a_link[ten thousand bytes of emoji]")),
    Row("R20", "a recipient with a line break, two @, a comma, a name", "refused with the settings, and before sending",
        "add a recipient",
        held("channels/test_email", "test_an_address_is_taken_whole_or_refused",
             "test_a_recipient_that_is_no_address_is_dead_without_asking_any_server")
        + held("config/test_mistakes", f"{MISTAKE}[an address that the channel cannot take]")),
    Row("R21", "two hundred accounts of one person", "one message for each log-in, one page that repairs them all",
        "flood the person",
        held("outbox/test_grouping",
             "test_accounts_that_break_together_arrive_as_one_message_whose_link_leads_to_all",
             "test_more_logins_than_a_person_wants_to_hear_of_one_by_one_make_one_message")
        + held("outbox/test_thousands", "test_thousands_that_break_at_once_are_few_messages_and_soon_told")
        + held("web/test_several_accounts_page", "test_up_to_fifty_are_listed_the_broken_ones_first")),
    Row("R22", "one message that cannot be rendered or sent", "tried again, then visibly given up",
        "hold the others up",
        held(OUTBOX, "test_what_fails_is_tried_again_as_the_same_message",
             "test_after_a_day_of_trying_it_is_given_up_visibly", "test_nothing_but_a_stop_ends_the_sender")),
)  # fmt: skip

UPSTREAM = (
    Row("U1", "401", "told to the operator once; the breaker tries again", "move an account",
        told_as("U1 401", "U1 401 invalid key") + unmoved("401")
        + held("daemon/test_operator",
               "test_what_does_not_pass_by_itself_is_told_once_and_so_is_its_end[a revoked key]")),
    Row("U2", "402", "told to the operator once", "move an account", told_as("U2 402") + unmoved("402")),
    Row("U3", "403", "told to the operator with the scope's name", "move an account",
        told_as("U3 403", "U3 403 scope") + unmoved("403")
        + held(CLIENT, "test_a_missing_scope_and_a_refusals_code_are_named")),
    Row("U4", "404 for one account", "the list decides; one that both miss is removed", "remove on its own word",
        told_as("U4 404")
        + held("sweep/test_looking",
               "test_a_404_for_an_account_that_is_listed_removes_nobody_and_is_not_asked_again_and_again",
               "test_an_account_that_list_and_api_both_miss_is_removed")),
    Row("U5", "404 for everything", "nothing is removed", "empty the store",
        told_as("U5 404 not enabled") + unmoved("404")),
    Row("U6", "409: the profile is paused", "its accounts count as paused", "be the workspace's trouble",
        told_as("U6 409") + unmoved("409")
        + held("sweep/test_profiles", "test_a_409_pauses_the_profile_and_is_no_trouble_of_the_workspace")),
    Row("U7", "422", "asked once; the page explains", "be repeated", told_as("U7 422") + unmoved("422")),
    Row("U8", "429 with a Retry-After of any kind", "a pause of one second to one hour, for every call",
        "be believed as it is",
        told_as("U8 429") + PAUSES + unmoved("429")),
    Row("U9", "429 without Retry-After", "the limit's reset if it can be, else 30 s", "go on at once", PAUSES),
    Row("U10", "500 to 504", "tried again, then the breaker", "move an account",
        told_as("U10 500", "U10 503", "U10 502 without JSON", "U10 504 empty", "U10 500 HTML")
        + unmoved("500", "502 without JSON")
        + held(CLIENT, "test_a_reading_is_asked_for_again_after_a_passing_failure")
        + held("providers/test_breaker", "test_each_failure_in_a_row_doubles_the_pause_up_to_five_minutes")),
    Row("U11", "redirects, 501, 999", "not followed: no answer", "carry the key elsewhere",
        told_as("U11 302 to a good answer", "U11 302 to another scheme", "U11 307", "U11 308", "U11 501", "U11 999")
        + unmoved("a redirect")),
    Row("U12", "nobody listens, no such host, a port that is none", "no answer; the breaker", "raise anything else",
        held(CLIENT, "test_nobody_listening_is_unavailable", "test_an_address_that_leads_nowhere_is_unavailable")),
    Row("U13", "a certificate nobody vouches for", "no answer", "send the key",
        held(CLIENT, "test_a_certificate_nobody_vouches_for_is_unavailable_and_the_key_is_not_sent")),
    Row("U14", "a connection on which nothing comes", "given up in time", "wait for ever", broken_off("U14 silence")),
    Row("U15", "a dripping body", "given up at the deadline of the whole exchange", "win time with each byte",
        broken_off("U15 a dripping body")
        + held(CLIENT, "test_the_deadline_is_for_the_whole_exchange_and_not_for_each_read")),
    Row("U16", "dripping headers", "given up at the same deadline", "win time with each byte",
        broken_off("U16 dripping headers")),
    Row("U17", "cut before its length, or within a chunk", "no answer", "be read as far as it came",
        broken_off("U17 cut before its content-length", "U17 cut within a chunk", "U17 without a last chunk")
        + unmoved("dropped")),
    Row("U18", "half a body whose length nobody said", "an answer that cannot be read", "be read as far as it came",
        broken_off("U18 cut, its length unknown") + unmoved("truncated")),
    Row("U19", "HTML: a log-in page, a firewall", "an answer that cannot be read", "move an account",
        told_as("U19 HTML", "U19 HTML that says it is JSON") + unmoved("HTML", "garbage")),
    Row("U20", "200 without a body, 204", "an answer that cannot be read", "mean that all is well",
        told_as("U20 empty", "U20 204")),
    Row("U21", "200 that says it failed", "its code counts", "count as success",
        told_as("U21 200 no success, unauthorized", "U21 200 no success, anything else")),
    Row("U22", "JSON of another shape", "bad rows are counted; too many discard the whole", "move an account",
        told_as("U22 null", "U22 a list", "U22 NaN", "U22 deep JSON", "U22 not UTF-8") + unmoved("the wrong shape")
        + held(CLIENT, "test_u22_few_bad_rows_are_counted_and_many_discard_the_whole",
               "test_u22_a_reading_of_the_wrong_shape_says_nothing",
               "test_u22_a_bulk_answer_of_the_wrong_shape_says_nothing")),
    Row("U23", "a list that is empty or half as long", "removes nobody until it has lasted", "delete by absence",
        held("sweep/test_looking", "test_a_list_that_shrank_too_much_removes_nobody_until_it_has_lasted",
             "test_after_a_bad_list_everything_is_as_it_was")
        + held(MAIN, "test_an_empty_list_removes_nobody")),
    Row("U24", "a row that contradicts itself", "asked about by itself", "be believed",
        held(CLIENT, "test_u24_the_row_that_contradicts_itself_is_asked_for_by_itself")
        + held("sweep/test_looking",
               "test_a_row_that_contradicts_itself_is_asked_about_by_itself_but_not_at_every_sweep")),
    Row("U25", "an unknown status", "unclear: asked about by itself, then an answer that cannot be read", "mean broken",
        held(CLIENT, "test_a_reading_says_what_all_of_its_fields_say_together")
        + held(MAIN, "test_while_the_api_fails_nobody_is_mailed_and_no_state_moves[unknown_status]")),
    Row("U26", "a validity that cannot be", "no validity", "warn of an end",
        held(CLIENT, "test_u26_a_validity_that_cannot_be_is_no_validity")),
    Row("U27", "an answer without end, packed or not", "dropped at its limit, measured unpacked", "fill the memory",
        held(CLIENT, "test_an_answer_beyond_its_limit_is_dropped_while_it_is_read",
             "test_a_compressed_answer_is_measured_unpacked")),
    Row("U28", "a megabyte of header, broken gzip, another charset", "no answer, or one that cannot be read", "raise",
        broken_off("U28 a megabyte of header", "U28 gzip cut short") + told_as("U28 broken gzip", "U22 UTF-16")),
    Row("U29", "an answer about another account", "an answer that cannot be read", "move either account",
        held(CLIENT, "test_u29_an_answer_about_another_account_says_nothing_of_this_one")),
    Row("U30", "an answer older than what is known", "on record, changes nothing, asked again", "undo what is newer",
        held(MACHINE, "test_an_answer_to_a_question_older_than_the_last_change_is_not_believed")
        + held(ENGINE, "test_a_late_answer_is_on_record_as_nothing_and_its_question_is_asked_again_soon")),
    Row("U31", "many accounts of one platform break at once",
        "people's notices are held, the operator gets one, accounts are asked again", "mail everybody",
        STORM_HOLDS + held(STORM, "test_its_accounts_are_asked_about_again",
                           "test_another_platform_and_another_workspace_go_on_as_ever")),
    Row("U32", "everything breaks at once", "a storm of each platform; later one message to each person",
        "mail everybody",
        STORM_HOLDS + held(STORM, "test_when_few_are_left_they_are_told_together",
                           "test_a_restart_in_the_middle_of_it_changes_nothing")),
    Row("U33", "well and broken in turns", "nobody hears of a single bad reading", "be told at each turn",
        held(MACHINE, "test_nobody_hears_of_a_single_bad_reading_or_of_an_event_alone")
        + held(ENGINE, "test_people_hear_only_after_a_confirmation")),
    Row("U34", "a provider whose clock is not ours", "its date counts where it can be true, else the request's",
        "order what happened wrongly",
        held(CLIENT, "test_a_reading_is_dated_by_the_provider_only_where_its_date_can_be_true")
        + held(MACHINE, "test_our_own_clock_is_never_fenced")),
)  # fmt: skip

API = (
    Row("A1", "no token, or one that is wrong, expired or revoked", "401, and 429 after many", "tell what there is",
        held(DOOR, "test_without_a_token_nobody_is_told_what_there_is",
             "test_a_wrong_token_is_named_and_after_many_slowed_down")),
    Row("A2", "a token whose role may not do this", "403 naming the role that may", "do it",
        held(DOOR, "test_each_operation_is_for_those_with_its_role_and_for_nobody_else")),
    Row("A3", "another site that writes with a visitor's browser", "403", "do it",
        held(DOOR, "test_a_browser_on_this_machine_needs_its_csrf_token_to_write") + at_door("a form", "text/plain")),
    Row("A4", "a viewer who wants people's addresses", "masked, in sentences and messages too", "show one",
        held(DOOR, "test_addresses_of_people_are_masked_for_those_who_only_look")),
    Row("A5", "any method that is none here", "405 with all that are", "be guessed at",
        held(DOOR, "test_a_method_that_is_none_is_answered_with_those_that_are")),
    Row("A6", "a body that is no JSON, NaN, half a character, other bytes than UTF-8", "400 with its place",
        "reach the database", at_door("no JSON", "not a number", "half a character", "no UTF-8")),
    Row("A7", "JSON nested a hundred thousand deep", "400", "end the process",
        at_door("nested without end", "nested deeply")),
    Row("A8", "more than 256 KiB, or a body that never ends", "413 or 408", "be gathered, or waited for",
        at_door("too much") + held(DOOR, "test_a_body_that_never_ends_is_not_waited_for")),
    Row("A9", "members, parameters and words that are not known", "422 naming each", "be ignored",
        at_door("a member too many", "an unknown parameter", "an unknown state", "a list", "null", "no body")),
    Row("A10", "a span or a time beyond all calendars, or none", "422, 409 or a year at most", "overflow",
        at_door("a span beyond time", "a year too late", "a time without zone", "a time that has passed")
        + held("api/test_acts", "test_snooze_and_mute_last_for_as_long_as_was_said_and_a_year_at_most")),
    Row("A11", "ids in other digits, with underscores, beyond 64 bits, of SQL", "422 or 404", "name an account",
        at_door("an id in other digits", "an id with underscores", "an id beyond all", "an id of SQL")),
    Row("A12", "line breaks and ways up in a path", "404", "be answered by something else",
        at_door("a line break in a path", "a way up", "a key with a slash")),
    Row("A13", "a cursor that was made up", "400 or 422", "raise in the database",
        held(DOOR, "test_a_cursor_that_was_never_given_out_is_refused")),
    Row("A14", "a page of a million rows", "422: 200 at most", "be read", at_door("a page of everything")),
    Row("A15", "the same write many times, at once or after a crash", "done once, answered as before", "be done twice",
        held("api/test_once", "test_a_repeat_has_the_first_answer_and_does_nothing",
             "test_of_two_at_once_one_is_done_and_the_other_is_told_to_wait",
             "test_a_write_that_was_cut_off_is_taken_over_after_a_minute")),
    Row("A16", "somebody else's Idempotency-Key, or one's own for something else", "done, or 422",
        "give out another's answer",
        held("api/test_once", "test_somebody_elses_key_is_another", "test_a_key_is_for_one_request_only")),
    Row("A17", "markup, a header or a direction mark in a name or an address", "text, or 422", "be anything else",
        held(DOOR, "test_markup_in_a_name_is_nothing_but_text") + at_door("a header in an address")),
    Row("A18", "whatever the document allows, and much that it does not", "what the document says", "be answered 500",
        held("api/test_contract", "test_what_the_document_says_is_so")),
)  # fmt: skip

TABLE = TRANSPORT + SIGNED + CONTENT + LINKS + RENDERED + UPSTREAM + API

INTRODUCTION = """\
<!-- Made from `tests/catalogue/table.py` by `python -m tests.catalogue.table`. Change the table, not this page. -->

# Hostile input

What comes from outside, what healthd answers, and what must not come of it. Each row is held by tests whose names stand
in [the table](../tests/catalogue/table.py); a test walks it and fails when one of them is missing. Beyond the rows, any
bytes at all are tried at the public listener (`tests/catalogue/test_fuzz.py`, as often as `HEALTHD_FUZZ_EXAMPLES` says)
and at the parser of a webhook's header and body (`tests/providers/test_webhook_signature.py`).
"""


def page() -> str:
    """The table as a page of the documentation."""
    parts = [INTRODUCTION.rstrip()]
    for letter, heading in HEADINGS.items():
        rows = [row for row in TABLE if row.id.startswith(letter)]
        lines = [f"\n## {heading}\n", "| | input | answer | must not | tests |", "|---|---|---|---|---|"]
        parts += [*lines, *(_line(row) for row in rows)]
    return "\n".join(parts) + "\n"


def _line(row: Row) -> str:
    files = dict.fromkeys(test.partition("::")[0].removeprefix("tests/").removesuffix(".py") for test in row.held_by)
    tests = ", ".join(f"`{file}`" for file in files) or row.belongs_to
    cells = (row.id, row.input, row.answer, row.must_not, tests)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
