"""Public JSON of the model gateway: OpenAI's requests and answers, as far as this gateway takes them."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from shared.inference import vectors
from shared.inference.model import ChatRequest, Completion, Embeddings, StreamingNotAvailable
from shared.kernel.fields import Input, Output

MAX_OUTPUT_TOKENS = 128_000
MAX_TEXTS = 256
type OutputTokens = Annotated[int, Field(ge=1, le=MAX_OUTPUT_TOKENS)]
# What is the gateway's own to decide; all other fields of a request are handed to the provider as they are.
_OURS = frozenset(
    {"messages", "model", "tools", "max_tokens", "max_completion_tokens", "n", "stream", "stream_options"}
)


class _Lenient(BaseModel):
    """Part of a message: clients send answers back with fields of their own, which are dropped."""

    model_config = ConfigDict(extra="ignore")


class TextPart(_Lenient):
    type: Literal["text"] = Field(description="Images and sound are not available yet.")
    text: str


class FunctionCall(_Lenient):
    name: str
    arguments: str = Field(description="JSON, as the model wrote it.")


class ToolCallIn(_Lenient):
    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(_Lenient):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallIn] | None = None
    tool_call_id: str | None = Field(None, description="For `role: tool`: which call this answers.")


class CreateChatCompletion(Input):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"model": "runyard-offline", "messages": [{"role": "user", "content": "What can you do?"}]},
            ]
        }
    )

    messages: Annotated[list[Message], Field(min_length=1)]
    model: str | None = Field(None, description="One of GET /v1/models; the platform's default when left out.")
    tools: list[dict[str, Any]] | None = Field(None, description="Functions that the model may call.")
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    max_completion_tokens: OutputTokens | None = Field(
        None, description="The most tokens the answer may have; 4096 when left out."
    )
    max_tokens: OutputTokens | None = Field(None, description="The former name of `max_completion_tokens`.")
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    n: Literal[1] | None = Field(None, description="One answer is made for each request.")
    stream: bool | None = Field(None, description="Must be false: streaming comes with its own endpoint.")
    stream_options: dict[str, Any] | None = None

    def request(self) -> ChatRequest:
        """Return what is asked; raise `StreamingNotAvailable` for a stream."""
        if self.stream:
            raise StreamingNotAvailable(
                "Streaming is not available here yet: it comes with the gateway's streaming endpoint. "
                "Send `stream: false`, or leave it out.",
                param="stream",
            )
        given = self.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        return ChatRequest(
            messages=[message.model_dump(mode="json", exclude_unset=True) for message in self.messages],
            model=self.model,
            tools=self.tools or (),
            max_output_tokens=self.max_completion_tokens or self.max_tokens,
            options={name: value for name, value in given.items() if name not in _OURS},
        )


class _AsProvided(Output):
    """Part of an answer that is passed on whole, whatever else the provider put into it."""

    model_config = ConfigDict(extra="allow", frozen=True)


class AssistantMessage(_AsProvided):
    role: str = "assistant"
    content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class Choice(_AsProvided):
    index: int = 0
    message: AssistantMessage
    finish_reason: str | None = Field(None, examples=["stop"])


class ChatUsage(_AsProvided):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletionOut(_AsProvided):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int = Field(description="Seconds since 1970.")
    model: str
    choices: list[Choice]
    usage: ChatUsage

    @classmethod
    def of(cls, completion: Completion) -> Self:
        return cls.model_validate({**completion.call.answer, "object": "chat.completion"})


class CreateEmbeddings(Input):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "runyard-offline-embed", "input": ["blue is my favourite colour"]}]}
    )

    input: (
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=MAX_TEXTS)]
    ) = Field(description="A text, or up to 256.")
    model: str | None = Field(None, description="One of GET /v1/models; the platform's default when left out.")
    dimensions: int | None = Field(None, ge=1, le=4096)
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None

    def asked(self) -> dict[str, Any]:
        """Return what is asked, as arguments of `inference.service.embed`."""
        texts = [self.input] if isinstance(self.input, str) else self.input
        return {"texts": texts, "model": self.model, "dimensions": self.dimensions}


class EmbeddingOut(Output):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str = Field(description="Numbers, or base64 of little-endian 32-bit floats.")


class EmbeddingsUsage(Output):
    prompt_tokens: int
    total_tokens: int


class EmbeddingsOut(Output):
    object: Literal["list"] = "list"
    data: list[EmbeddingOut]
    model: str
    usage: EmbeddingsUsage

    @classmethod
    def of(cls, found: Embeddings, *, encoding_format: Literal["float", "base64"]) -> Self:
        return cls(
            data=[
                EmbeddingOut(
                    index=index,
                    embedding=vectors.encode(vector) if encoding_format == "base64" else list(vector),
                )
                for index, vector in enumerate(found.vectors)
            ],
            model=found.model,
            usage=EmbeddingsUsage(prompt_tokens=found.tokens.input, total_tokens=found.tokens.input),
        )


class ModelOut(_AsProvided):
    id: str = Field(examples=["runyard-offline"])
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = ""


class ModelsOut(Output):
    object: Literal["list"] = "list"
    data: list[ModelOut]

    @classmethod
    def of(cls, models: list[dict[str, Any]]) -> Self:
        return cls(data=[ModelOut.model_validate({**model, "object": "model"}) for model in models])
