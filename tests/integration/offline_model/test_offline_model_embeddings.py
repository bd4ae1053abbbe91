"""Embeddings of the offline model through the real openai client."""

import math

import httpx
import openai
import pytest
from openai import OpenAI

MODEL = "runyard-offline-embed"


def embed(client: OpenAI, *texts: str, dimensions: int = 384) -> list[list[float]]:
    answer = client.embeddings.create(model=MODEL, input=list(texts), dimensions=dimensions, encoding_format="float")
    assert [item.index for item in answer.data] == list(range(len(texts)))
    return [item.embedding for item in answer.data]


def cosine(one: list[float], other: list[float]) -> float:
    return math.fsum(a * b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("text", ["A plain sentence.", "x", "   ", "日本語", "!!!", "the the the the"])
@pytest.mark.parametrize("dimensions", [1, 7, 384, 1536])
def test_every_vector_has_the_wanted_dimensions_and_length_one(client: OpenAI, text: str, dimensions: int) -> None:
    [vector] = embed(client, text, dimensions=dimensions)

    assert len(vector) == dimensions
    assert math.isclose(math.hypot(*vector), 1.0, rel_tol=1e-9)


def test_a_text_is_nearer_to_one_that_shares_words_than_to_one_that_does_not(client: OpenAI) -> None:
    query, shared, inflected, foreign = embed(
        client,
        "Which editor theme does Maria prefer?",
        "Maria prefers the dark editor theme.",
        "MARIA: preferences, editors, themes",
        "Quarterly invoices go out on Monday",
    )

    assert cosine(query, shared) > 0.4
    # Pieces of words count too, so that a plural or another ending is still near; case does not.
    assert cosine(query, inflected) > 0.25
    assert cosine(query, foreign) < 0.15


def test_repetition_weighs_less_than_in_proportion(client: OpenAI) -> None:
    word, once, often = embed(client, "alpha", "alpha beta", "alpha " * 50 + "beta")

    assert cosine(word, once) < cosine(word, often) < 0.995


def test_the_vectors_are_the_same_on_every_machine(client: OpenAI) -> None:
    # Computed once by hand from the stated rule: a change here is a change of every stored vector.
    [vector] = embed(client, "hi", dimensions=4)

    assert [round(value, 6) for value in vector] == [0.0, -0.894427, 0.0, 0.447214]


def test_base64_and_float_carry_the_same_vector(client: OpenAI, http: httpx.Client) -> None:
    [floats] = embed(client, "the same")
    # Without an encoding the client asks for base64 and decodes it.
    [decoded] = client.embeddings.create(model=MODEL, input="the same").data
    body = {"model": MODEL, "input": "the same", "encoding_format": "base64"}
    raw = http.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]

    assert isinstance(raw, str)
    assert decoded.embedding == pytest.approx(floats, abs=1e-7)


def test_usage_counts_the_tokens_of_all_texts(client: OpenAI) -> None:
    answer = client.embeddings.create(model=MODEL, input=["one two", "three"])

    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (4, 4)
    assert answer.model == MODEL


@pytest.mark.parametrize("bad", ["", [], ["fine", ""], [1, 2, 3]])
def test_an_input_that_is_not_text_is_refused(client: OpenAI, bad: str | list[str]) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model=MODEL, input=bad)

    assert refused.value.type == "invalid_request_error"


def test_the_chat_model_does_not_embed(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="runyard-offline-embed"):
        client.embeddings.create(model="runyard-offline", input="text")
