"""A stream of chat chunks as the events of /v1/responses."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from pydantic_core import from_json

from shared.inference import chunking
from shared.inference.calls import Call
from shared.inference.edge.responses_answers import Response, call_item, message_item, refusal_part, text_part


@dataclass(slots=True)
class _Said:
    """The message: its parts in the order in which they began, each with the pieces of its text."""

    index: int
    id: str = field(default_factory=lambda: f"msg_{uuid4().hex}")
    parts: list[tuple[str, list[str]]] = field(default_factory=list)

    def item(self, *, status: str = "completed") -> dict[str, Any]:
        return message_item(self.id, [_part(kind, "".join(pieces)) for kind, pieces in self.parts], status=status)


@dataclass(slots=True)
class _Called:
    index: int
    call_id: str
    name: str
    id: str = field(default_factory=lambda: f"fc_{uuid4().hex}")
    pieces: list[str] = field(default_factory=list)

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)

    def item(self, *, status: str = "completed") -> dict[str, Any]:
        return call_item(self.id, call_id=self.call_id, name=self.name, arguments=self.arguments, status=status)


class ResponseFrames:
    """Follows one stream. Items are closed at its end: parallel calls may come by turns."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self._number = 0
        self._model: str | None = None
        self._finish_reason: str | None = None
        self._said: _Said | None = None
        self._called: dict[int, _Called] = {}
        self._usage: Mapping[str, Any] = {}
        self._ended: dict[str, Any] = {}

    def opening(self) -> bytes:
        return b""

    def chunk(self, chunk: bytes) -> bytes:
        body = from_json(chunk)
        events: list[bytes] = []
        if self._model is None:
            self._model = str(body.get("model", ""))
            begun = self._response.begun(self._model)
            events += [self._event("response.created", response=begun)]
            events += [self._event("response.in_progress", response=begun)]
        self._usage = body.get("usage") or self._usage
        for choice in body.get("choices") or ():
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
            events += self._delta(choice.get("delta") or {})
        return b"".join(events)

    def closing(self) -> bytes:
        events = [event for item in self._items for event in self._end(item)]
        self._ended = self._response.ended(
            [item.item() for item in self._items],
            model=self._model or "",
            finish_reason=self._finish_reason,
            usage=self._usage,
        )
        return b"".join([*events, self._event(f"response.{self._ended['status']}", response=self._ended)])

    def failed(self, error: Mapping[str, Any]) -> bytes:
        told = error["error"]
        # OpenAI's clients look for `error` in whatever event it comes; by the documents its fields stand beside.
        return self._event("error", **{name: told[name] for name in ("code", "message", "param")}, error=told)

    def kept(self, _: Call, /) -> dict[str, Any]:
        return self._ended

    def replay(self, kept: Mapping[str, Any]) -> bytes:
        """Return the events of an answer that was kept, each item in one piece."""
        begun = {**kept, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
        events = [self._event("response.created", response=begun), self._event("response.in_progress", response=begun)]
        for index, item in enumerate(kept["output"]):
            again = _again(item, index)
            events += self._begin(again)
            if isinstance(again, _Said):
                for number, (kind, pieces) in enumerate(again.parts):
                    events += self._begin_part(again, number, kind)
                    events += [self._piece(again, number, kind, "".join(pieces))]
            else:
                events += [self._argument(again, again.arguments)]
            events += self._end(again)
        return b"".join([*events, self._event(f"response.{kept['status']}", response=kept)])

    @property
    def _items(self) -> list[_Said | _Called]:
        items: list[_Said | _Called] = [*self._called.values()]
        return sorted([*items, self._said] if self._said else items, key=lambda item: item.index)

    def _delta(self, delta: Mapping[str, Any]) -> Iterator[bytes]:
        for name, kind in (("content", "output_text"), ("refusal", "refusal")):
            if text := delta.get(name):
                yield from self._say(kind, text)
        for part in delta.get("tool_calls") or ():
            yield from self._call(part)

    def _say(self, kind: str, text: str) -> Iterator[bytes]:
        if self._said is None:
            self._said = _Said(index=len(self._items))
            yield from self._begin(self._said)
        said = self._said
        number = next((at for at, (known, _) in enumerate(said.parts) if known == kind), None)
        if number is None:
            number = len(said.parts)
            said.parts.append((kind, []))
            yield from self._begin_part(said, number, kind)
        said.parts[number][1].append(text)
        yield self._piece(said, number, kind, text)

    def _call(self, part: Mapping[str, Any]) -> Iterator[bytes]:
        function = part.get("function") or {}
        called = self._called.get(part.get("index", 0))
        if called is None:
            called = _Called(len(self._items), str(part.get("id") or ""), str(function.get("name") or ""))
            self._called[part.get("index", 0)] = called
            yield from self._begin(called)
        if pieces := function.get("arguments"):
            called.pieces.append(pieces)
            yield self._argument(called, pieces)

    def _begin(self, item: _Said | _Called) -> Iterator[bytes]:
        empty = (
            message_item(item.id, [], status="in_progress")
            if isinstance(item, _Said)
            else call_item(item.id, call_id=item.call_id, name=item.name, arguments="", status="in_progress")
        )
        yield self._event("response.output_item.added", output_index=item.index, item=empty)

    def _begin_part(self, said: _Said, number: int, kind: str) -> Iterator[bytes]:
        yield self._event("response.content_part.added", **_at(said, number), part=_part(kind, ""))

    def _piece(self, said: _Said, number: int, kind: str, text: str) -> bytes:
        more: dict[str, Any] = {"logprobs": []} if kind == "output_text" else {}
        return self._event(f"response.{kind}.delta", **_at(said, number), delta=text, **more)

    def _argument(self, called: _Called, pieces: str) -> bytes:
        return self._event(
            "response.function_call_arguments.delta", item_id=called.id, output_index=called.index, delta=pieces
        )

    def _end(self, item: _Said | _Called) -> Iterator[bytes]:
        if isinstance(item, _Said):
            for number, (kind, pieces) in enumerate(item.parts):
                text, at = "".join(pieces), _at(item, number)
                told: dict[str, Any] = {"text": text, "logprobs": []} if kind == "output_text" else {"refusal": text}
                yield self._event(f"response.{kind}.done", **at, **told)
                yield self._event("response.content_part.done", **at, part=_part(kind, text))
        else:
            yield self._event(
                "response.function_call_arguments.done",
                item_id=item.id,
                output_index=item.index,
                name=item.name,
                arguments=item.arguments,
            )
        yield self._event("response.output_item.done", output_index=item.index, item=item.item())

    def _event(self, kind: str, **fields: Any) -> bytes:
        data = chunking.encode({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def _again(item: Mapping[str, Any], index: int) -> _Said | _Called:
    if item["type"] == "message":
        parts = [(part["type"], [part.get("text") or part.get("refusal") or ""]) for part in item["content"]]
        return _Said(index, id=item["id"], parts=parts)
    return _Called(index, item["call_id"], item["name"], id=item["id"], pieces=[item["arguments"]])


def _part(kind: str, text: str) -> dict[str, Any]:
    return text_part(text) if kind == "output_text" else refusal_part(text)


def _at(said: _Said, number: int) -> dict[str, Any]:
    return {"item_id": said.id, "output_index": said.index, "content_index": number}
