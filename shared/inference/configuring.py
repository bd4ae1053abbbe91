"""What an org has set up, as each worker keeps it for a few seconds; it outlives a short absence of Postgres."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from threading import Lock
from uuid import UUID

import psycopg

from shared.identity.model import OPERATOR_ORG_ID
from shared.inference import config_store
from shared.inference.config import OrgConfig
from shared.kernel import db
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import Unavailable
from shared.kernel.telemetry import logger

FRESH_S = 5.0
# For how long what was known is good enough while Postgres is gone, and how often it is looked for meanwhile.
_KNOWN_S = 60.0
_AGAIN_S = 1.0
_MOST_KEPT = 5_000
# How often unknown names may have it looked up again.
_ANEW_AFTER_S = 0.25
_THREADS = 4


@dataclass(frozen=True, slots=True)
class _Kept:
    config: OrgConfig
    fresh_until: float
    known_until: float


_lock = Lock()
_kept: dict[UUID, _Kept] = {}
# Loads under way. One that was begun before something changed is no longer in here, and what it finds isn't kept.
_loading: dict[UUID, Future[OrgConfig]] = {}


async def of(caller: Caller) -> OrgConfig:
    """Return what the caller's org has set up, at most 5 s old.

    Many at once cause one look-up. With Postgres gone it is what was known up to a minute ago; else raises
    `Unavailable`.
    """
    kept = _kept.get(caller.org_id)
    if kept is not None and kept.fresh_until > time.monotonic():
        return kept.config
    # Shielded: whoever goes away leaves the others' look-up alone.
    return await asyncio.shield(asyncio.wrap_future(_load_once(caller)))


async def anew(caller: Caller) -> OrgConfig:
    """Return what is set up as of a quarter of a second ago, for who names something that isn't known here yet."""
    kept = _kept.get(caller.org_id)
    if kept is not None and kept.fresh_until - FRESH_S + _ANEW_AFTER_S <= time.monotonic():
        forget(caller.org_id)
    return await of(caller)


@contextmanager
def changing(caller: Caller) -> Iterator[Tx]:
    """Open the tenant's transaction for a change of what is kept here, which this worker sees once it is committed."""
    try:
        with db.tenant(caller) as tx:
            yield tx
    finally:
        # The platform's providers are in everybody's.
        forget(None if caller.org_id == OPERATOR_ORG_ID else caller.org_id)


def forget(org_id: UUID | None = None) -> None:
    """Drop what is kept of one org, or of all."""
    with _lock:
        for kept in (_kept, _loading):
            if org_id is None:
                kept.clear()
            else:
                kept.pop(org_id, None)


def _load_once(caller: Caller) -> Future[OrgConfig]:
    with _lock:
        under_way = _loading.get(caller.org_id)
        if under_way is not None:
            return under_way
        future: Future[OrgConfig] = Future()
        _loading[caller.org_id] = future
    _threads().submit(_load, Caller.system(caller.org_id), future)
    return future


def _load(caller: Caller, future: Future[OrgConfig]) -> None:
    future.set_running_or_notify_cancel()
    try:
        with db.tenant(caller) as tx:
            config = config_store.load(tx, caller)
    except (Unavailable, psycopg.OperationalError) as error:
        _keep_known(caller.org_id, future, error)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is for those who wait
        _conclude(caller.org_id, future, None)
        future.set_exception(error)
    else:
        now = time.monotonic()
        _conclude(caller.org_id, future, _Kept(config, now + FRESH_S, now + _KNOWN_S))
        future.set_result(config)


def _keep_known(org_id: UUID, future: Future[OrgConfig], error: Exception) -> None:
    known, now = _kept.get(org_id), time.monotonic()
    if known is None or known.known_until <= now:
        _conclude(org_id, future, None)
        unavailable = Unavailable("The database can't be reached; try again shortly.", retry_after_s=1)
        unavailable.__cause__ = error
        future.set_exception(unavailable)
        return
    logger.warning("postgres unreachable: what an org set up is as it was", extra={"org_id": str(org_id)})
    _conclude(org_id, future, _Kept(known.config, now + _AGAIN_S, known.known_until))
    future.set_result(known.config)


def _conclude(org_id: UUID, future: Future[OrgConfig], kept: _Kept | None) -> None:
    with _lock:
        if _loading.get(org_id) is not future:
            return
        del _loading[org_id]
        if kept is not None:
            if len(_kept) >= _MOST_KEPT:
                # As they were first kept: the longest ago goes.
                del _kept[next(iter(_kept))]
            _kept.pop(org_id, None)
            _kept[org_id] = kept


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="configuring")
