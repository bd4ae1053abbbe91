"""Public JSON of /v1/responses: OpenAI's newer shape of a model call, as far as this gateway takes it."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from shared.inference.schemas import Lenient, OutputTokens, Strict
from shared.kernel.fields import Output


class InputText(Lenient):
    type: Literal["input_text"]
    text: str


class InputImage(Lenient):
    type: Literal["input_image"]
    image_url: str | None = Field(None, description="`https://…`, or `data:image/…;base64,…`.")
    file_id: str | None = Field(None, description="Not served: there are no uploaded files here.")
    detail: Literal["auto", "low", "high", "original"] | None = None


class OutputTextIn(Lenient):
    type: Literal["output_text"]
    text: str


class RefusalIn(Lenient):
    type: Literal["refusal"]
    refusal: str


type InputPart = Annotated[InputText | InputImage | OutputTextIn | RefusalIn, Field(discriminator="type")]


class InputMessage(Lenient):
    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[InputPart]


class InputFunctionCall(Lenient):
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


class InputFunctionOutput(Lenient):
    type: Literal["function_call_output"]
    call_id: str
    output: str | list[InputPart]


class InputReasoning(Lenient):
    """What a model thought, as it was answered; it is dropped, since providers don't take each other's thoughts."""

    type: Literal["reasoning"]


class UnservedItem(Lenient):
    """An item of something that isn't served here; see the error."""

    type: str


_SERVED = {"message", "function_call", "function_call_output", "reasoning"}


def _kind(item: Any) -> str:
    kind = item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", "message")
    return kind if kind in _SERVED else "unserved"


type InputItem = Annotated[
    Annotated[InputMessage, Tag("message")]
    | Annotated[InputFunctionCall, Tag("function_call")]
    | Annotated[InputFunctionOutput, Tag("function_call_output")]
    | Annotated[InputReasoning, Tag("reasoning")]
    | Annotated[UnservedItem, Tag("unserved")],
    Discriminator(_kind),
]


class ToolIn(Lenient):
    type: str = Field(examples=["function"], description="`function`; hosted tools are not served.")
    name: str = ""
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Format(Lenient):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class TextIn(Lenient):
    format: Format | None = None
    verbosity: str | None = None


class ReasoningIn(Lenient):
    effort: str | None = None
    summary: str | None = Field(None, description="Taken, and not made: no provider's summaries are handed on.")


class CreateResponse(Strict):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "runyard-offline", "input": "What can you do?"}]}
    )

    input: str | list[InputItem]
    model: str | None = Field(None, max_length=200, description="As in /v1/chat/completions.")
    instructions: str | None = None
    tools: list[ToolIn] | None = None
    tool_choice: Literal["auto", "none", "required"] | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: TextIn | None = None
    reasoning: ReasoningIn | None = None
    max_output_tokens: OutputTokens | None = Field(None, description="4096 when left out.")
    temperature: float | None = None
    top_p: float | None = None
    metadata: dict[str, str] | None = Field(None, description="Given back with the answer; not kept.")
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    service_tier: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    include: list[str] | None = Field(None, description="`reasoning.encrypted_content` is taken, and nothing follows.")
    truncation: str | None = Field(None, description="`disabled`, as when left out.")
    store: bool | None = Field(None, description="Answers are not kept to be fetched later: `false`, or left out.")
    previous_response_id: str | None = Field(None, description="Not served: send the conversation as `input`.")
    background: bool | None = Field(None, description="Not served.")
    conversation: Any = Field(None, description="Not served.")
    prompt: Any = Field(None, description="Not served.")
    max_tool_calls: int | None = Field(None, description="Not served: it is for hosted tools.")
    top_logprobs: int | None = Field(None, description="Not served, but 0.")


class InputTokensDetails(Output):
    cached_tokens: int
    cache_write_tokens: int


class OutputTokensDetails(Output):
    reasoning_tokens: int


class ResponseUsage(Output):
    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ResponseOut(Output):
    """The answer. Streams tell it in events, as OpenAI's do: `response.created` … `response.completed`."""

    id: str = Field(examples=["resp_0a1b2c"])
    object: Literal["response"] = "response"
    created_at: int = Field(description="Seconds since 1970.")
    status: Literal["completed", "incomplete", "in_progress", "failed"]
    error: dict[str, Any] | None
    incomplete_details: dict[str, Any] | None
    model: str
    output: list[dict[str, Any]] = Field(description="Items: `message` with `output_text`, `function_call`.")
    usage: ResponseUsage | None
    metadata: dict[str, str]
