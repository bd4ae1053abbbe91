"""HTTP API of the model gateway, OpenAI's own: chat completions, embeddings, models."""

from typing import Annotated

from fastapi import Depends, Response

from shared.billing.estimate_schemas import DryRunAsked, DryRunOut
from shared.inference import service
from shared.inference.schemas import ChatCompletionOut, CreateChatCompletion, CreateEmbeddings, EmbeddingsOut, ModelsOut
from shared.kernel import db
from shared.kernel.caller import Caller
from shared.kernel.http import lambda_handler, once, require
from shared.kernel.idempotency import Once
from shared.kernel.routing import Router

router = Router(prefix="/v1", tags=["inference"])
type Reader = Annotated[Caller, Depends(require("inference:read"))]
type Writer = Annotated[Caller, Depends(require("inference:write", spends=True))]
type OnceOnly = Annotated[Once, Depends(once)]


@router.post("/chat/completions", response_model=ChatCompletionOut | DryRunOut)
def create_chat_completion(
    body: CreateChatCompletion, response: Response, caller: Writer, once: OnceOnly, dry_run: DryRunAsked = False
) -> ChatCompletionOut | Response:
    request = body.request()
    if dry_run:
        with db.tenant(caller) as tx:
            return DryRunOut.answer(service.dry_run_chat(tx, request))

    def effect(source_id: str) -> ChatCompletionOut:
        found = service.complete(caller, request=request, source_id=source_id, max_cost_microusd=None)
        _tell(response, found.cost_microusd)
        return ChatCompletionOut.of(found)

    return once.around(caller, effect)


@router.post("/embeddings", response_model=EmbeddingsOut | DryRunOut)
def create_embeddings(
    body: CreateEmbeddings, response: Response, caller: Writer, once: OnceOnly, dry_run: DryRunAsked = False
) -> EmbeddingsOut | Response:
    if dry_run:
        with db.tenant(caller) as tx:
            asked = body.asked()
            return DryRunOut.answer(service.dry_run_embeddings(tx, asked["texts"], model=asked["model"]))

    def effect(source_id: str) -> EmbeddingsOut:
        found = service.embed(caller, source_id=source_id, max_cost_microusd=None, **body.asked())
        _tell(response, found.cost_microusd)
        return EmbeddingsOut.of(found, encoding_format=body.encoding_format)

    return once.around(caller, effect)


@router.get("/models")
def list_models(_: Reader) -> ModelsOut:
    return ModelsOut.of(service.list_models())


def _tell(response: Response, cost_microusd: int) -> None:
    response.headers["x-runyard-cost-microusd"] = str(cost_microusd)
    response.headers["x-runyard-provider"] = service.provider_name()


handler = lambda_handler(router)
