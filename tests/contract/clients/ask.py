"""Asks the gateway with one of the clients that customers come with; prints what came of it as one JSON object.

Run by tests/contract/test_other_clients.py in an environment of its own: `python ask.py litellm|langchain <url> <key>`.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

# Its list of prices would be fetched from the internet.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

CHAT, EMBED = "runyard-offline", "runyard-offline-embed"
HELLO = [{"role": "user", "content": "hello"}]
# What was answered before comes in few pieces.
NO_CACHE = {"x-runyard-cache": "off"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "weather", "description": "Tells the weather.", "parameters": SCHEMA}
TOOL = {"type": "function", "function": WEATHER}


def failed(work: Callable[[], object]) -> dict[str, Any]:
    """Return the name of the exception that it ends with, and what of the envelope the client has kept."""
    try:
        work()
    except Exception as error:  # noqa: BLE001 - which one it is, is what is asked
        return {
            "raised": type(error).__name__,
            "status": getattr(error, "status_code", None),
            "message": str(error),
        }
    return {"raised": None}


def litellm(url: str, key: str) -> dict[str, Any]:
    client: Any = import_module("litellm")
    client.suppress_debug_info = True

    def chat(text: str = "hello", **options: Any) -> Any:
        given = {"model": f"openai/{CHAT}", "api_base": url, "api_key": key, "max_retries": 0, "num_retries": 0}
        return client.completion(messages=[{"role": "user", "content": text}], **given | options)

    async def chat_async() -> str:
        answer = await client.acompletion(model=f"openai/{CHAT}", api_base=url, api_key=key, messages=HELLO)
        return str(answer.choices[0].message.content)

    whole = chat()
    stream = list(chat(stream=True, stream_options={"include_usage": True}, extra_headers=NO_CACHE))
    called = chat(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "weather"}})
    schema = {"type": "json_schema", "json_schema": {"name": "w", "schema": SCHEMA}}
    embedded = client.embedding(
        model=f"openai/{EMBED}", api_base=url, api_key=key, input=["a", "b"], encoding_format="float"
    )
    responded = client.responses(model=f"openai/{CHAT}", api_base=url, api_key=key, input="hello")
    return {
        "whole": whole.choices[0].message.content,
        "tokens": whole.usage.total_tokens,
        "stream": "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices),
        "chunks": len(stream),
        "async": asyncio.run(chat_async()),
        "call": called.choices[0].message.tool_calls[0].function.name,
        "arguments": json.loads(called.choices[0].message.tool_calls[0].function.arguments),
        "schema": json.loads(chat(response_format=schema).choices[0].message.content),
        "vectors": [len(one["embedding"]) for one in embedded.data],
        "response": responded.output[0].content[0].text,
        "wrong key": failed(lambda: chat(api_key="wrong")),
        "unknown model": failed(lambda: chat(model="openai/no-such-model")),
        "misspelt": failed(lambda: chat(extra_body={"temprature": 1})),
        "rate": failed(lambda: chat("offline: fail 429")),
        "failing": failed(lambda: chat("offline: fail 500")),
    }


def langchain(url: str, key: str) -> dict[str, Any]:
    client: Any = import_module("langchain_openai")

    def model(**options: Any) -> Any:
        return client.ChatOpenAI(**{"model": CHAT, "base_url": url, "api_key": key, "max_retries": 0} | options)

    chat = model()
    whole = chat.invoke("hello")
    stream = list(model(default_headers=NO_CACHE).stream("hello"))
    forced = chat.bind_tools([TOOL], tool_choice="weather").invoke("hello")
    embeddings = client.OpenAIEmbeddings(model=EMBED, base_url=url, api_key=key, check_embedding_ctx_length=False)
    return {
        "whole": whole.content,
        "tokens": whole.usage_metadata["total_tokens"],
        "stream": "".join(chunk.content for chunk in stream),
        "chunks": len(stream),
        "async": asyncio.run(chat.ainvoke("hello")).content,
        "call": forced.tool_calls[0]["name"],
        "arguments": forced.tool_calls[0]["args"],
        "schema": chat.with_structured_output(SCHEMA | {"title": "w"}, method="json_schema").invoke("hello"),
        "vectors": [len(one) for one in embeddings.embed_documents(["a", "b"])],
        "response": model(use_responses_api=True).invoke("hello").text,
        "response stream": "".join(chunk.text for chunk in model(use_responses_api=True).stream("hello")),
        "wrong key": failed(lambda: model(api_key="wrong").invoke("hello")),
        "unknown model": failed(lambda: model(model="no-such-model").invoke("hello")),
        "misspelt": failed(lambda: model(extra_body={"temprature": 1}).invoke("hello")),
        "rate": failed(lambda: chat.invoke("offline: fail 429")),
        "failing": failed(lambda: chat.invoke("offline: fail 500")),
    }


if __name__ == "__main__":
    client, url, key = sys.argv[1:]
    print(json.dumps({"litellm": litellm, "langchain": langchain}[client](url, key)))
