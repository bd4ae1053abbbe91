"""POST /v1/responses: translated to a chat completion and back, whole and as a stream."""

from shared.inference.edge import chat, dry_runs, reading, streams
from shared.inference.edge.exchange import Exchange
from shared.inference.edge.responses_answers import Response
from shared.inference.edge.responses_asking import chat_request
from shared.inference.edge.responses_events import ResponseFrames
from shared.inference.edge.responses_schemas import CreateResponse


async def create(exchange: Exchange) -> None:
    """Answer with the model's response."""
    raw = await reading.body(exchange.receive, exchange.headers)
    asked = reading.parse(CreateResponse, raw)
    request = chat_request(asked)
    if exchange.dry_run:
        await exchange.admit()
        await exchange.answer(await dry_runs.of_chat(exchange.caller, request))
        return
    claim, response = exchange.claim(raw), Response(asked)
    if asked.stream:
        ask = exchange.ask(request, claim, stream=True, include_usage=True)
        await streams.answer(exchange, ask, claim, ResponseFrames(response))
        return
    await claim.reserve()
    answer = response.whole(await chat.complete(exchange, request, claim))
    await claim.record(answer)
    await exchange.answer(answer)
