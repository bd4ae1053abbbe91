"""What a request would cost: for `?dry_run=true`."""

import asyncio
from collections.abc import Sequence

from shared.billing.estimate_schemas import DryRunOut
from shared.inference import estimating
from shared.inference.model import ChatRequest
from shared.kernel import db
from shared.kernel.caller import Caller


async def of_chat(caller: Caller, request: ChatRequest) -> bytes:
    """Return the estimate of a completion, as JSON."""

    def estimate() -> bytes:
        with db.tenant(caller) as tx:
            return bytes(DryRunOut.answer(estimating.dry_run_chat(tx, caller, request)).body)

    return await asyncio.to_thread(estimate)


async def of_embeddings(caller: Caller, texts: Sequence[str], *, model: str | None) -> bytes:
    """Return the estimate of embeddings, as JSON."""

    def estimate() -> bytes:
        with db.tenant(caller) as tx:
            return bytes(DryRunOut.answer(estimating.dry_run_embeddings(tx, caller, texts, model=model)).body)

    return await asyncio.to_thread(estimate)
