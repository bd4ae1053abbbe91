"""POST /v1/embeddings."""

from pydantic_core import from_json

from shared.inference.edge import dry_runs, reading
from shared.inference.edge.exchange import Exchange
from shared.inference.errors import NotServed
from shared.inference.schemas import CreateEmbeddings, EmbeddingsOut
from shared.kernel.errors import InvalidRequest, RunyardError


async def create(exchange: Exchange) -> None:
    """Answer with one vector for each text."""
    raw = await reading.body(exchange.receive, exchange.headers)
    asked = _parse(raw)
    if exchange.dry_run:
        await exchange.admit()
        await exchange.answer(await dry_runs.of_embeddings(exchange.caller, asked.texts, model=asked.model))
        return
    claim = exchange.claim(raw)
    await claim.reserve()
    try:
        found = await exchange.gateway.embed(
            exchange.caller,
            texts=asked.texts,
            model=asked.model,
            dimensions=asked.dimensions,
            source_id=claim.source_id,
            repeatable=claim.repeatable,
            trace=exchange.trace,
            cache=exchange.cache_control,
            timeout_s=exchange.timeout_s(),
            limited=True,
            began_ms=exchange.began_ms,
        )
    except RunyardError:
        await claim.release()
        raise
    answer = EmbeddingsOut.of(found, encoding_format=asked.encoding_format)
    await claim.record(answer)
    await exchange.answer(answer)


def _parse(raw: bytes) -> CreateEmbeddings:
    try:
        return reading.parse(CreateEmbeddings, raw)
    except InvalidRequest as error:
        if error.param is not None and error.param.startswith("input.") and _of_tokens(from_json(raw)["input"]):
            raise NotServed(
                "input: send texts. Token ids differ from model to model, and this gateway has many "
                "(LangChain: `check_embedding_ctx_length=False`).",
                param="input",
            ) from error
        raise


def _of_tokens(given: list[object]) -> bool:
    return isinstance(given[0], int | list)
