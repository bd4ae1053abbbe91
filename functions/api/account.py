"""HTTP API of who calls."""

from typing import Annotated

from fastapi import Depends

from shared.identity.schemas import MeOut
from shared.kernel.caller import Caller
from shared.kernel.http import lambda_handler, require
from shared.kernel.routing import Router

router = Router(prefix="/v1/me", tags=["account"])


@router.get("")
def get_me(caller: Annotated[Caller, Depends(require("orgs:read"))]) -> MeOut:
    return MeOut.of(caller)


handler = lambda_handler(router)
