"""The state machine: everything that can change an account's state stands in ``TABLE``.

``advance`` asks three questions of an observation: is it older than what is known (the fence), what does it amount to
(``weigh``), and what does the table say. It decides nothing else, and nothing outside this file decides state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from healthd.core.model import Account, Cause, Lifetime, Observation, Policy, Resolution, Signal, Source, State


@dataclass(frozen=True, slots=True)
class OpenIncident:
    """A person must act. ``cause`` is ``None`` where the table leaves it to what the account is suspected of."""

    cause: Cause | None = None
    unconfirmed: bool = False


@dataclass(frozen=True, slots=True)
class ConfirmIncident:
    """A reading agrees with the open incident, which may have been opened on an event's word alone."""


@dataclass(frozen=True, slots=True)
class ResolveIncident:
    how: Resolution


@dataclass(frozen=True, slots=True)
class Confirm:
    """Ask the provider about this account at once."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Look at this account more often: something is odd."""


@dataclass(frozen=True, slots=True)
class Warn:
    """A person must act by a date that is near; told once per deadline."""


@dataclass(frozen=True, slots=True)
class ProbeSiblings:
    """Accounts behind the same login may have been repaired by the same act."""


Effect = OpenIncident | ConfirmIncident | ResolveIncident | Confirm | Watch | Warn | ProbeSiblings


@dataclass(frozen=True, slots=True)
class Step:
    state: State
    effects: tuple[Effect, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    state: State
    signal: Signal
    next: State
    effects: tuple[Effect, ...]


def _row(state: State, signal: Signal, to: State, *effects: Effect) -> Row:
    return Row(state, signal, to, effects)


_U, _H, _X, _S = State.UNKNOWN, State.HEALTHY, State.EXPIRING, State.SUSPECT
_E, _D, _R = State.EXPIRED, State.DISCONNECTED, State.REMOVED
_sig = Signal
_token, _connection = OpenIncident(Cause.TOKEN), OpenIncident(Cause.CONNECTION)
_repaired, _removed = ResolveIncident(Resolution.REPAIRED), ResolveIncident(Resolution.REMOVED)

# fmt: off
ROWS: tuple[Row, ...] = (
    #    state  signal                to   effects
    _row(_U, _sig.OK,              _H),
    _row(_U, _sig.EXPIRING,        _X, Warn()),
    _row(_U, _sig.ERROR,           _U, Watch()),
    _row(_U, _sig.BAD_TOKEN,       _S, Confirm()),
    _row(_U, _sig.BAD_CONNECTION,  _D, _connection),
    _row(_U, _sig.TOKEN_EXPIRED,   _S, Confirm()),
    _row(_U, _sig.DISCONNECTED,    _S, Confirm()),
    _row(_U, _sig.CONNECTED,       _U, Confirm()),
    _row(_U, _sig.GONE,            _R),
    _row(_U, _sig.CONFIRM_TIMEOUT, _U),
    _row(_U, _sig.POST_FAILED,     _U, Confirm()),
    _row(_U, _sig.UNANSWERED,      _U),

    _row(_H, _sig.OK,              _H),
    _row(_H, _sig.EXPIRING,        _X, Warn()),
    _row(_H, _sig.ERROR,           _H, Watch()),
    _row(_H, _sig.BAD_TOKEN,       _S, Confirm()),
    _row(_H, _sig.BAD_CONNECTION,  _D, _connection),
    _row(_H, _sig.TOKEN_EXPIRED,   _S, Confirm()),
    _row(_H, _sig.DISCONNECTED,    _S, Confirm()),
    _row(_H, _sig.CONNECTED,       _H),
    _row(_H, _sig.GONE,            _R),
    _row(_H, _sig.CONFIRM_TIMEOUT, _H),
    _row(_H, _sig.POST_FAILED,     _S, Confirm()),
    _row(_H, _sig.UNANSWERED,      _H),

    _row(_X, _sig.OK,              _H),
    _row(_X, _sig.EXPIRING,        _X, Warn()),
    _row(_X, _sig.ERROR,           _X, Watch()),
    _row(_X, _sig.BAD_TOKEN,       _S, Confirm()),
    _row(_X, _sig.BAD_CONNECTION,  _D, _connection),
    _row(_X, _sig.TOKEN_EXPIRED,   _S, Confirm()),
    _row(_X, _sig.DISCONNECTED,    _S, Confirm()),
    _row(_X, _sig.CONNECTED,       _X, Confirm()),
    _row(_X, _sig.GONE,            _R),
    _row(_X, _sig.CONFIRM_TIMEOUT, _X),
    _row(_X, _sig.POST_FAILED,     _S, Confirm()),
    _row(_X, _sig.UNANSWERED,      _X),

    _row(_S, _sig.OK,              _H),
    _row(_S, _sig.EXPIRING,        _X, Warn()),
    _row(_S, _sig.ERROR,           _S),
    _row(_S, _sig.BAD_TOKEN,       _E, _token),
    _row(_S, _sig.BAD_CONNECTION,  _D, _connection),
    _row(_S, _sig.TOKEN_EXPIRED,   _S),
    _row(_S, _sig.DISCONNECTED,    _S),
    _row(_S, _sig.CONNECTED,       _S, Confirm()),
    _row(_S, _sig.GONE,            _R),
    _row(_S, _sig.CONFIRM_TIMEOUT, _E, OpenIncident(unconfirmed=True)),
    _row(_S, _sig.POST_FAILED,     _S),
    _row(_S, _sig.UNANSWERED,      _H),

    _row(_E, _sig.OK,              _H, _repaired, ProbeSiblings()),
    _row(_E, _sig.EXPIRING,        _X, _repaired, ProbeSiblings(), Warn()),
    _row(_E, _sig.ERROR,           _E),
    _row(_E, _sig.BAD_TOKEN,       _E, ConfirmIncident()),
    _row(_E, _sig.BAD_CONNECTION,  _D, ConfirmIncident()),
    _row(_E, _sig.TOKEN_EXPIRED,   _E),
    _row(_E, _sig.DISCONNECTED,    _E),
    _row(_E, _sig.CONNECTED,       _E, Confirm()),
    _row(_E, _sig.GONE,            _R, _removed),
    _row(_E, _sig.CONFIRM_TIMEOUT, _E),
    _row(_E, _sig.POST_FAILED,     _E),
    _row(_E, _sig.UNANSWERED,      _E),

    _row(_D, _sig.OK,              _H, _repaired, ProbeSiblings()),
    _row(_D, _sig.EXPIRING,        _X, _repaired, ProbeSiblings(), Warn()),
    _row(_D, _sig.ERROR,           _D),
    _row(_D, _sig.BAD_TOKEN,       _E, ConfirmIncident()),
    _row(_D, _sig.BAD_CONNECTION,  _D, ConfirmIncident()),
    _row(_D, _sig.TOKEN_EXPIRED,   _D),
    _row(_D, _sig.DISCONNECTED,    _D),
    _row(_D, _sig.CONNECTED,       _D, Confirm()),
    _row(_D, _sig.GONE,            _R, _removed),
    _row(_D, _sig.CONFIRM_TIMEOUT, _D),
    _row(_D, _sig.POST_FAILED,     _D),
    _row(_D, _sig.UNANSWERED,      _D),

    _row(_R, _sig.OK,              _R),
    _row(_R, _sig.EXPIRING,        _R),
    _row(_R, _sig.ERROR,           _R),
    _row(_R, _sig.BAD_TOKEN,       _R),
    _row(_R, _sig.BAD_CONNECTION,  _R),
    _row(_R, _sig.TOKEN_EXPIRED,   _R),
    _row(_R, _sig.DISCONNECTED,    _R),
    _row(_R, _sig.CONNECTED,       _U, Confirm()),
    _row(_R, _sig.GONE,            _R),
    _row(_R, _sig.CONFIRM_TIMEOUT, _R),
    _row(_R, _sig.POST_FAILED,     _R),
    _row(_R, _sig.UNANSWERED,      _R),
)
# fmt: on

TABLE: dict[tuple[State, Signal], Step] = {(row.state, row.signal): Step(row.next, row.effects) for row in ROWS}

SUSPICIONS: dict[Signal, Cause] = {
    Signal.TOKEN_EXPIRED: Cause.TOKEN,
    Signal.BAD_TOKEN: Cause.TOKEN,
    Signal.DISCONNECTED: Cause.CONNECTION,
}

CLOCKS_DIFFER = timedelta(minutes=5)
"""How far the provider's clock may be ahead of ours and still be believed."""
READINGS = frozenset({Signal.OK, Signal.EXPIRING, Signal.ERROR, Signal.BAD_TOKEN, Signal.BAD_CONNECTION})
FINE = frozenset({State.HEALTHY, State.EXPIRING})


@dataclass(frozen=True, slots=True)
class Advance:
    """What an observation did: the account after it, what must be done, and whether the fence stopped it."""

    account: Account
    signal: Signal
    effects: tuple[Effect, ...] = ()
    fenced: bool = False


def advance(account: Account, observation: Observation, policy: Policy, now: datetime) -> Advance:
    """Applies one observation to an account. Pure; ``now`` is our clock.

    A stale observation changes nothing. The provider's clock has a resolution of one second, so an observation of the
    same second as ``as_of`` is still heard: it can only ask for a confirmation, or be the confirmation.
    """
    if _stale(account, observation, now):
        return Advance(account, observation.signal, fenced=True)
    signal = weigh(account, observation, policy, now)
    step = TABLE[account.state, signal]
    changed = step.state is not account.state
    after: dict[str, Any] = {
        "state": step.state,
        "paused": account.paused if observation.paused is None else observation.paused,
        # Posts fail often, and say nothing of the account that a reading of the same moment could contradict.
        "as_of": (
            account.as_of if signal is Signal.POST_FAILED and not changed else _newer(account.as_of, observation.at)
        ),
        "changed_at": now if changed else account.changed_at,
        "error_since": None if step.state is State.REMOVED else _error_since(account, signal, now),
    }
    if observation.validity_days is not None:
        after |= _validity(account, observation.validity_days)
    elif signal is Signal.CONNECTED:
        after["validity_days"] = None  # a person acted: what rises from here is not the provider's doing
    if changed:
        suspected = step.state is State.SUSPECT
        after["suspicion"] = SUSPICIONS.get(signal) if suspected else None
        after["confirm_by"] = now + policy.confirm_timeout if suspected else None
    elif _on_a_posts_word(account) and signal in SUSPICIONS:
        after |= {"suspicion": SUSPICIONS[signal], "confirm_by": now + policy.confirm_timeout}
    effects = tuple(
        replace(effect, cause=account.suspicion or Cause.TOKEN)
        if isinstance(effect, OpenIncident) and effect.cause is None
        else effect
        for effect in step.effects
    )
    return Advance(replace(account, **after), signal, effects)


def _stale(account: Account, observation: Observation, now: datetime) -> bool:
    # A fence well ahead of now was set before our clock was set back: it would keep out everything until then.
    fence = account.as_of if account.as_of is not None and account.as_of <= now + CLOCKS_DIFFER else None
    older = fence is not None and observation.at is not None and observation.at < fence
    # An answer to a question asked before the last change cannot know of that change, whatever second it carries. A
    # change that lies ahead of now was noted before our clock was set back: it orders nothing.
    overtaken = (
        observation.source is not Source.WEBHOOK
        and account.changed_at is not None
        and observation.asked_at is not None
        and observation.asked_at < account.changed_at <= now
    )
    return older or overtaken


def weigh(account: Account, observation: Observation, policy: Policy, now: datetime) -> Signal:
    """What an observation amounts to for *this* account: errors must last, *expiring* must be earned, and a failed post
    is worth a question, but nobody is told of trouble on its word.
    """
    signal = observation.signal
    if signal is Signal.CONFIRM_TIMEOUT and _on_a_posts_word(account):
        return Signal.UNANSWERED
    if signal is Signal.ERROR and account.state is State.SUSPECT and account.suspicion is Cause.CONNECTION:
        return Signal.BAD_CONNECTION  # an event said *disconnected*, and the reading agrees: two witnesses are enough
    if signal is Signal.ERROR and account.error_since is not None:
        return Signal.BAD_CONNECTION if now - account.error_since >= policy.error_patience else signal
    if signal is Signal.OK and observation.validity_days is not None:
        lifetime = policy.lifetimes.get(account.platform, Lifetime())
        if is_expiring(observation.validity_days, account.refresh_floor, lifetime, policy.expiring_days):
            return Signal.EXPIRING
    return signal


def _on_a_posts_word(account: Account) -> bool:
    """Whether nothing but a failed post speaks against the account."""
    return account.state is State.SUSPECT and account.suspicion is None


def is_expiring(validity_days: int, refresh_floor: int | None, lifetime: Lifetime, expiring_days: int) -> bool:
    """Whether a small ``validity_days`` means that a person must act.

    Where the provider was seen to refresh the grant, only a value below every earlier refresh is news; where it never
    was, only the platform's own deadline is.
    """
    if not 0 <= validity_days <= expiring_days:
        return False
    return validity_days < refresh_floor if refresh_floor is not None else lifetime.deadline


def _error_since(account: Account, signal: Signal, now: datetime) -> datetime | None:
    if signal in {Signal.ERROR, Signal.BAD_CONNECTION}:
        return account.error_since or now
    return None if signal in READINGS else account.error_since


def _validity(before: Account, seen: int) -> dict[str, int | None]:
    """Notes a reading's ``validity_days``, and what it shows of how the provider refreshes this grant.

    A rise while the account was fine is the provider refreshing by itself; a rise after a repair is the person's act.
    """
    floor = before.refresh_floor
    if before.validity_days is not None and seen > before.validity_days and before.state in FINE:
        floor = before.validity_days if floor is None else min(floor, before.validity_days)
    return {"validity_days": seen, "refresh_floor": floor}


def _newer(known: datetime | None, seen: datetime | None) -> datetime | None:
    if known is None or seen is None:
        return seen or known
    return max(known, seen)
