"""A small load generator: so many clients, each with a connection of its own, one request after the other."""

import http.client
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from bench.results import percentile

_TIMEOUT_S = 60
# What comes at once for the first time starts processes, which takes seconds; it counts from when all are served.
_WARM_UP_REQUESTS = 10
_WARM_WITHIN_S = 90


@dataclass(frozen=True, slots=True)
class Load:
    """How the far end did: answers with 200 a second, their times, and how many others there were, by kind."""

    clients: int
    requests_per_s: float
    p50_ms: float
    p95_ms: float
    failures: dict[str, int]


@dataclass(slots=True)
class _Measurement:
    """What the clients share: counting begins once each of them has had its warm-up."""

    url: str
    key: str
    clients: int
    seconds: float
    gives_up_at: float
    begins: float | None = None
    warm: int = 0
    times_ms: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def is_over(self) -> bool:
        now = time.monotonic()
        return now >= (self.gives_up_at if self.begins is None else self.begins + self.seconds)

    def one_more_is_warm(self) -> None:
        with self._lock:
            self.warm += 1
            if self.warm == self.clients:
                self.begins = time.monotonic()

    def record(self, began: float, outcome: str) -> None:
        """Take down one answer, unless it was asked for before counting began or came after it ended."""
        with self._lock:
            if self.begins is None or began < self.begins or self.is_over():
                return
            if outcome == "200":
                self.times_ms.append((time.monotonic() - began) * 1000)
            else:
                self.failures[outcome] += 1


def load(url: str, key: str, *, clients: int, seconds: float) -> Load:
    """GET `url` from `clients` threads for `seconds`. Raises `SystemExit` when nobody is answered with 200."""
    measurement = _Measurement(url, key, clients, seconds, gives_up_at=time.monotonic() + _WARM_WITHIN_S)
    threads = [threading.Thread(target=_client, args=(measurement,)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if measurement.begins is None:
        raise SystemExit(f"{url} did not answer {clients} clients {_WARM_UP_REQUESTS} times in {_WARM_WITHIN_S} s.")
    if not measurement.times_ms:
        raise SystemExit(f"{url} answered none of {clients} clients with 200: {dict(measurement.failures)}")
    return Load(
        clients=clients,
        requests_per_s=len(measurement.times_ms) / seconds,
        p50_ms=percentile(measurement.times_ms, 50),
        p95_ms=percentile(measurement.times_ms, 95),
        failures=dict(measurement.failures),
    )


def _client(measurement: _Measurement) -> None:
    parts = urlsplit(measurement.url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    headers = {"Authorization": f"Bearer {measurement.key}", "Accept": "application/json"}
    connection = http.client.HTTPConnection(parts.netloc, timeout=_TIMEOUT_S)
    answers = 0
    while not measurement.is_over():
        began = time.monotonic()
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            answer.read()
            outcome = str(answer.status)
            answers += 1
        except (OSError, http.client.HTTPException) as error:
            outcome = type(error).__name__
            connection.close()
        measurement.record(began, outcome)
        if answers == _WARM_UP_REQUESTS and outcome.isdigit():
            measurement.one_more_is_warm()
    connection.close()
