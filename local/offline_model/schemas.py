"""The part of OpenAI's request bodies that the offline model reads; the rest is ignored."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

CHAT_MODEL = "runyard-offline"
EMBEDDING_MODEL = "runyard-offline-embed"
DEFAULT_DIMENSIONS = 384


class ImageUrl(BaseModel):
    url: Annotated[str, Field(pattern=r"^(https?://|data:image/)")]


class ContentPart(BaseModel):
    type: Literal["text", "image_url", "refusal"]
    text: str = ""
    image_url: ImageUrl | None = None

    @model_validator(mode="after")
    def _an_image_is_given(self) -> Self:
        if self.type == "image_url" and self.image_url is None:
            raise ValueError("type image_url needs an image_url")
        return self


class FunctionCall(BaseModel):
    name: str
    arguments: str


class ToolCall(BaseModel):
    id: str
    function: FunctionCall


class Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content if part.type == "text")
        return self.content or ""

    @property
    def images(self) -> int:
        """How many images come with the text."""
        return sum(part.type == "image_url" for part in self.content) if isinstance(self.content, list) else 0


class FunctionDefinition(BaseModel):
    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)


class Tool(BaseModel):
    type: Literal["function"]
    function: FunctionDefinition


class NamedFunction(BaseModel):
    name: str


class NamedToolChoice(BaseModel):
    type: Literal["function"]
    function: NamedFunction


class JsonSchema(BaseModel):
    name: str
    body: dict[str, Any] = Field(alias="schema")


class ResponseFormat(BaseModel):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _schema_is_given(self) -> Self:
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("type json_schema needs a json_schema")
        return self


class StreamOptions(BaseModel):
    include_usage: bool = False


class ChatRequest(BaseModel):
    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    n: Literal[1] | None = None

    @field_validator("messages")
    @classmethod
    def _every_tool_call_is_answered(cls, messages: list[Message]) -> list[Message]:
        # The real API refuses such a history too, so a caller that loses a tool result finds out at home.
        open_calls: set[str] = set()
        for message in messages:
            if message.role == "tool":
                if message.tool_call_id not in open_calls:
                    raise ValueError(f"no open tool call has the id {message.tool_call_id!r} of a tool message")
                open_calls.discard(message.tool_call_id)
            elif open_calls:
                break
            else:
                open_calls = {call.id for call in message.tool_calls or ()}
        if open_calls:
            raise ValueError(f"these tool calls have no tool message that answers them: {sorted(open_calls)}")
        return messages

    @property
    def output_limit(self) -> int | None:
        """The most tokens the answer may have; None for no limit."""
        return self.max_completion_tokens or self.max_tokens


class EmbeddingRequest(BaseModel):
    model: str
    input: str | Annotated[list[str], Field(min_length=1, max_length=2048)]
    dimensions: Annotated[int, Field(ge=1, le=4096)] = DEFAULT_DIMENSIONS
    encoding_format: Literal["float", "base64"] = "float"

    @model_validator(mode="after")
    def _no_text_is_empty(self) -> Self:
        if not all(self.texts):
            raise ValueError("input may not hold an empty string")
        return self

    @property
    def texts(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else self.input
