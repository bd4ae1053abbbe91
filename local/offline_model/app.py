"""The offline model's HTTP face: OpenAI's chat completions, embeddings and models, and a health check."""

import asyncio
import json
from collections.abc import AsyncIterator

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from local.offline_model import embeddings, errors, faults, tokens
from local.offline_model.completions import Completion, complete, offered_tools
from local.offline_model.conversation import Conversation
from local.offline_model.errors import ApiError
from local.offline_model.faults import Fault
from local.offline_model.schemas import CHAT_MODEL, EMBEDDING_MODEL, ChatRequest, EmbeddingRequest

MODELS = (CHAT_MODEL, EMBEDDING_MODEL)


def create_app() -> Starlette:
    return Starlette(
        routes=[
            Route("/health", health),
            Route("/v1/models", list_models),
            Route("/v1/models/{model}", get_model),
            Route("/v1/chat/completions", create_chat_completion, methods=["POST"]),
            Route("/v1/embeddings", create_embeddings, methods=["POST"]),
        ],
        exception_handlers={
            ApiError: errors.answer_api_error,
            HTTPException: errors.answer_http_exception,
        },
    )


async def health(_: Request) -> Response:
    return JSONResponse({"status": "ok", "name": CHAT_MODEL})


async def list_models(_: Request) -> Response:
    return JSONResponse({"object": "list", "data": [_model(name) for name in MODELS]})


async def get_model(request: Request) -> Response:
    name = request.path_params["model"]
    if name not in MODELS:
        raise _unknown_model(name)
    return JSONResponse(_model(name))


async def create_chat_completion(request: Request) -> Response:
    body = _parsed(ChatRequest, await request.body())
    if body.model != CHAT_MODEL:
        raise _unknown_model(body.model)
    conversation = Conversation.read(body.messages, offered_tools(body))
    fault = faults.fault_asked_by(request.headers) or conversation.asked.fault
    delay_ms = faults.delay_asked_by(request.headers) or conversation.asked.delay_ms
    await _hold(request, fault, delay_ms)

    completion = complete(body, conversation)
    if not body.stream:
        return _answer(completion.as_object(), fault)
    include_usage = body.stream_options is not None and body.stream_options.include_usage
    events = _events(completion, include_usage=include_usage)
    if fault is Fault.BREAK_STREAM:
        return faults.cut_stream(events)
    # From an async iterator: a plain one would take a thread for every token.
    paced = _each(events, conversation.asked.pace_ms / 1000)
    return StreamingResponse(paced, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


async def create_embeddings(request: Request) -> Response:
    body = _parsed(EmbeddingRequest, await request.body())
    if body.model != EMBEDDING_MODEL:
        raise _unknown_model(body.model)
    fault = faults.fault_asked_by(request.headers)
    await _hold(request, fault, faults.delay_asked_by(request.headers))

    vectors = [embeddings.embed(text, dimensions=body.dimensions) for text in body.texts]
    encoded = [embeddings.to_base64(vector) if body.encoding_format == "base64" else vector for vector in vectors]
    count = sum(tokens.count(text) for text in body.texts)
    answer = {
        "object": "list",
        "data": [{"object": "embedding", "index": at, "embedding": it} for at, it in enumerate(encoded)],
        "model": EMBEDDING_MODEL,
        "usage": {"prompt_tokens": count, "total_tokens": count},
    }
    return _answer(answer, fault)


async def _hold(request: Request, fault: Fault | None, delay_ms: int) -> None:
    if delay_ms:
        await asyncio.sleep(delay_ms / 1000)
    await faults.apply(fault, request.receive)


def _answer(content: object, fault: Fault | None) -> Response:
    response = JSONResponse(content)
    return faults.cut_body(bytes(response.body)) if fault is Fault.BREAK_STREAM else response


def _events(completion: Completion, *, include_usage: bool) -> list[bytes]:
    chunks = [json.dumps(chunk) for chunk in completion.as_chunks(include_usage=include_usage)]
    return [f"data: {event}\n\n".encode() for event in (*chunks, "[DONE]")]


async def _each(events: list[bytes], pause_s: float) -> AsyncIterator[bytes]:
    for number, event in enumerate(events):
        if pause_s and number:
            await asyncio.sleep(pause_s)
        yield event


def _parsed[Body: BaseModel](schema: type[Body], body: bytes) -> Body:
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        raise errors.of_validation(error) from error


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "runyard"}


def _unknown_model(name: str) -> ApiError:
    message = (
        f"The model {name!r} is not served here: this is the offline model, which serves "
        f"{CHAT_MODEL} (chat) and {EMBEDDING_MODEL} (embeddings)."
    )
    return ApiError(404, message, code="model_not_found", param="model")
