"""What a request would cost: for `?dry_run=true`."""

import asyncio
from collections.abc import Sequence

from shared.billing.estimate_schemas import DryRunOut
from shared.inference import config_store, estimating, routing, targets
from shared.inference.calls import Operation
from shared.inference.config import OrgConfig
from shared.inference.model import ChatRequest
from shared.kernel import db
from shared.kernel.caller import Caller


async def of_chat(caller: Caller, request: ChatRequest) -> bytes:
    """Return the estimate of a completion, as JSON; raise what the completion would be refused with at once."""

    def estimate() -> bytes:
        with db.tenant(caller) as tx:
            if request.beyond:
                _check_parameters(config_store.load(tx, caller), request)
            return bytes(DryRunOut.answer(estimating.dry_run_chat(tx, caller, request)).body)

    return await asyncio.to_thread(estimate)


async def of_embeddings(caller: Caller, texts: Sequence[str], *, model: str | None) -> bytes:
    """Return the estimate of embeddings, as JSON."""

    def estimate() -> bytes:
        with db.tenant(caller) as tx:
            return bytes(DryRunOut.answer(estimating.dry_run_embeddings(tx, caller, texts, model=model)).body)

    return await asyncio.to_thread(estimate)


def _check_parameters(config: OrgConfig, request: ChatRequest) -> None:
    found = targets.resolve(config, request.model, operation=Operation.CHAT)
    routing.check_parameters(found.targets.values(), request.beyond)
