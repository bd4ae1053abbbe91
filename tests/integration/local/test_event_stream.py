"""Following a run: events parsed, taken up where the last answer ended, ended by the run's end."""

import httpx
import pytest

from local.errors import HomeError
from local.event_stream import Event, follow, parse


def test_an_event_is_its_id_its_name_and_its_data() -> None:
    lines = [
        ": comment",
        "id: 7",
        "event: run.started",
        'data: {"a":',
        "data: 1}",
        "",
        "retry: 100",
        "",
        'data: {"b": 2}',
        "",
    ]
    assert list(parse(lines)) == [Event("7", "run.started", {"a": 1}), Event("", "message", {"b": 2})]


def test_each_answer_goes_on_from_the_last_event() -> None:
    asked: list[str | None] = []
    answers = iter(["id: 1\nevent: run.started\ndata: {}\n\n", "", "id: 2\nevent: run.succeeded\ndata: {}\n\n"])

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("Last-Event-ID"))
        return httpx.Response(200, text=next(answers))

    with httpx.Client(base_url="http://front", transport=httpx.MockTransport(answer)) as client:
        names = [event.name for event in follow(client, "run_1", timeout_s=10)]

    assert names == ["run.started", "run.succeeded"]
    assert asked == [None, "1", "1"]


def test_a_run_that_does_not_end_is_given_up() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, text=""))
    with (
        httpx.Client(base_url="http://front", transport=transport) as client,
        pytest.raises(HomeError, match="did not end"),
    ):
        list(follow(client, "run_1", timeout_s=0.01))


def test_a_refusal_shows_what_the_api_said() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(404, text="no such run"))
    with (
        httpx.Client(base_url="http://front", transport=transport) as client,
        pytest.raises(HomeError, match="no such run"),
    ):
        list(follow(client, "run_1", timeout_s=1))
