"""What is kept of outputs when there is too much of them."""

import asyncio

from sandbox.output import OutputBudget, OutputStream


def test_a_stream_keeps_its_beginning() -> None:
    stream = OutputStream(5, OutputBudget(100))
    stream.data_received(b"abc")
    stream.data_received(b"defg")
    stream.data_received(b"h")
    assert (stream.text(), stream.truncated, stream.received_bytes) == ("abcde", True, 8)


def test_an_output_of_exactly_the_limit_is_not_truncated() -> None:
    stream = OutputStream(3, OutputBudget(100))
    stream.data_received(b"abc")
    assert (stream.text(), stream.truncated) == ("abc", False)


def test_the_oldest_finished_output_gives_way() -> None:
    budget = OutputBudget(10)
    old, newer, newest = (OutputStream(10, budget) for _ in range(3))
    old.data_received(b"a" * 5)
    newer.data_received(b"b" * 5)
    budget.retire(old)
    budget.retire(newer)
    newest.data_received(b"c" * 5)
    assert (old.text(), old.truncated) == ("", True)
    assert (newer.text(), newer.truncated) == ("b" * 5, False)
    assert newest.text() == "c" * 5


def test_what_runs_keeps_its_output_and_what_comes_then_is_truncated() -> None:
    budget = OutputBudget(4)
    running, other = OutputStream(10, budget), OutputStream(10, budget)
    running.data_received(b"aaa")
    other.data_received(b"bbb")
    assert running.text() == "aaa"
    assert (other.text(), other.truncated) == ("b", True)


def test_a_beginning_has_no_gaps_when_room_is_found_later() -> None:
    budget = OutputBudget(4)
    finished, running = OutputStream(10, budget), OutputStream(10, budget)
    finished.data_received(b"aaa")
    running.data_received(b"123")
    budget.retire(finished)
    running.data_received(b"456")
    assert running.text() == "1"


def test_bytes_that_are_no_text_are_replaced() -> None:
    stream = OutputStream(10, OutputBudget(100))
    stream.data_received("é".encode() + b"\xff")
    assert stream.text() == "é\ufffd"


def test_closing_twice_is_harmless() -> None:
    async def close() -> None:
        stream = OutputStream(1, OutputBudget(1))
        stream.close()
        stream.connection_lost(None)
        assert stream.closed.is_set()

    asyncio.run(close())
