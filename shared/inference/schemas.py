"""Public JSON of the model gateway: OpenAI's requests and answers, as far as this gateway takes them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from shared.inference import vectors
from shared.inference.asking import Embedded
from shared.inference.model import ChatRequest
from shared.kernel.fields import Output

MAX_OUTPUT_TOKENS = 128_000
# As many as OpenAI takes.
MAX_TEXTS = 2_048
type OutputTokens = Annotated[int, Field(ge=1, le=MAX_OUTPUT_TOKENS)]
# What is the gateway's own to decide; all other fields of a request are handed to the provider as they are.
_OURS = frozenset(
    {
        *("messages", "model", "tools", "max_tokens", "max_completion_tokens", "n", "stream", "stream_options"),
        *("store", "metadata", "modalities"),
    }
)


class Strict(BaseModel):
    """A request's body: unknown fields are refused, so that a misspelt option never goes unnoticed.

    Unlike `Input` it doesn't walk through every value: see `edge/reading.py`.
    """

    model_config = ConfigDict(extra="forbid")


class Lenient(BaseModel):
    """Part of a message: clients send answers back with fields of their own, which are dropped."""

    model_config = ConfigDict(extra="ignore")


class TextPart(Lenient):
    type: Literal["text"]
    text: str


class RefusalPart(Lenient):
    type: Literal["refusal"]
    refusal: str


class ImageUrl(Lenient):
    url: str = Field(
        pattern=r"^(https://|data:image/)",
        description="`https://…`, or `data:image/…;base64,…`",
        examples=["https://…"],
    )
    detail: Literal["auto", "low", "high", "original"] | None = None


class ImagePart(Lenient):
    type: Literal["image_url"]
    image_url: ImageUrl


type Part = Annotated[TextPart | ImagePart | RefusalPart, Field(discriminator="type")]


class FunctionCall(Lenient):
    name: str
    arguments: str = Field(description="JSON, as the model wrote it.")


class ToolCallIn(Lenient):
    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(Lenient):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallIn] | None = None
    tool_call_id: str | None = Field(None, description="For `role: tool`: which call this answers.")


_MESSAGES = TypeAdapter(list[Message])


class StreamOptions(Lenient):
    include_usage: bool = Field(False, description="End with a chunk of the usage, which tells the cost too.")


class CreateChatCompletion(BaseModel):
    """Beside these, a request may carry what the `parameters` of the provider that is asked list; no other is taken."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {"model": "runyard-offline", "messages": [{"role": "user", "content": "What can you do?"}]},
            ]
        },
    )

    messages: Annotated[list[Message], Field(min_length=1)]
    model: str | None = Field(
        None,
        max_length=200,
        description="One of GET /v1/models: a model, a route, `provider/model`. The platform's default when left out.",
    )
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
    prediction: dict[str, Any] | None = None
    service_tier: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    n: Literal[1] | None = Field(None, description="One answer is made for each request.")
    stream: bool | None = Field(None, description="Answer with server-sent events, chunk by chunk.")
    stream_options: StreamOptions | None = None
    modalities: list[Literal["text"]] | None = Field(None, description="Text is all that is answered.")
    store: Literal[False] | None = Field(None, description="Answers are not kept to be fetched later.")
    metadata: dict[str, str] | None = Field(None, description="Taken as OpenAI's clients send it; not handed on.")

    def request(self) -> ChatRequest:
        """Return what is asked."""
        given, beyond = self.model_fields_set, self.model_extra or {}
        return ChatRequest(
            messages=_MESSAGES.dump_python(self.messages, exclude_unset=True),
            model=self.model,
            tools=self.tools or (),
            max_output_tokens=self.max_completion_tokens or self.max_tokens,
            options={
                name: value
                for name, value in self.__dict__.items()
                if value is not None and name in given and name not in _OURS
            }
            | beyond,
            beyond=frozenset(beyond),
        )


# What every provider may be asked with.
CHAT_PARAMETERS = frozenset(CreateChatCompletion.model_fields)


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


class CreateEmbeddings(Strict):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "runyard-offline-embed", "input": ["blue is my favourite colour"]}]}
    )

    input: (
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=MAX_TEXTS)]
    ) = Field(description="A text, or up to 2,048.")
    model: str | None = Field(
        None, max_length=200, description="One of GET /v1/models; the platform's default when left out."
    )
    dimensions: int | None = Field(None, ge=1, le=4096)
    encoding_format: Literal["float", "base64"] | None = Field(None, description="`float` when left out.")
    user: str | None = None

    @property
    def texts(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else self.input


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

    @staticmethod
    def of(found: Embedded, *, encoding_format: Literal["float", "base64"] | None) -> dict[str, Any]:
        """Return the answer as JSON values of this schema."""
        encode = vectors.encode if encoding_format == "base64" else list
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": encode(vector)}
                for index, vector in enumerate(found.vectors)
            ],
            "model": found.model,
            "usage": {"prompt_tokens": found.tokens.input, "total_tokens": found.tokens.input},
        }


class ModelOut(_AsProvided):
    id: str = Field(examples=["runyard-offline"])
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = ""


class ModelsOut(Output):
    object: Literal["list"] = "list"
    data: list[ModelOut]
