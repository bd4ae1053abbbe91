"""What the OpenAPI document says of these routes; `app.py` answers them, by the same schemas."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from shared.billing.estimate_schemas import DryRunAsked, DryRunOut
from shared.inference.edge.responses_schemas import CreateResponse, ResponseOut
from shared.inference.schemas import (
    ChatCompletionOut,
    CreateChatCompletion,
    CreateEmbeddings,
    EmbeddingsOut,
    ModelOut,
    ModelsOut,
)
from shared.kernel.caller import Caller
from shared.kernel.http import require

router = APIRouter(prefix="/v1", tags=["inference"])
type Reader = Annotated[Caller, Depends(require("inference:read"))]
type Writer = Annotated[Caller, Depends(require("inference:write", spends=True))]


def _streaming(what: str, events: str) -> dict[int | str, dict[str, Any]]:
    told = {"text/event-stream": {"schema": {"type": "string", "description": events}}}
    return {200: {"description": what, "content": told}}


_CHUNKS = _streaming(
    "The completion; with `stream: true` its chunks.",
    "Server-sent events: `data:` and a `chat.completion.chunk` as OpenAI has them; `data: [DONE]` comes last. An error "
    "after the first is `data:` and the same envelope as elsewhere, and ends the stream.",
)
_EVENTS = _streaming(
    "The response; with `stream: true` its events.",
    "Server-sent events as OpenAI has them: `response.created`, `response.output_text.delta`, … to "
    "`response.completed`, `response.incomplete` or `error`.",
)


@router.post("/chat/completions", response_model=ChatCompletionOut | DryRunOut, responses=_CHUNKS)
def create_chat_completion(body: CreateChatCompletion, caller: Writer, dry_run: DryRunAsked = False) -> None: ...


@router.post("/responses", response_model=ResponseOut | DryRunOut, responses=_EVENTS)
def create_response(body: CreateResponse, caller: Writer, dry_run: DryRunAsked = False) -> None: ...


@router.post("/embeddings", response_model=EmbeddingsOut | DryRunOut)
def create_embeddings(body: CreateEmbeddings, caller: Writer, dry_run: DryRunAsked = False) -> None: ...


@router.get("/models", response_model=ModelsOut)
def list_models(caller: Reader) -> None: ...


@router.get("/models/{model:path}", response_model=ModelOut)
def get_model(model: str, caller: Reader) -> None: ...
