"""A small load generator: so many clients, each with a connection of its own, one request after the other."""

import http.client
import threading
import time
from collections import Counter
from dataclasses import dataclass
from urllib.parse import urlsplit

from bench.results import percentile

_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Load:
    """How the far end did: answers with 200 a second, their times, and how many others there were, by kind."""

    clients: int
    requests_per_s: float
    p50_ms: float
    p95_ms: float
    failures: dict[str, int]


def load(url: str, key: str, *, clients: int, seconds: float, warm_up_s: float) -> Load:
    """GET `url` from `clients` threads for `seconds`, after a warm-up in which the functions' workers start."""
    begins = time.monotonic() + warm_up_s
    ends = begins + seconds
    times_ms: list[float] = []
    failures: Counter[str] = Counter()
    threads = [
        threading.Thread(target=_client, args=(url, key, begins, ends, times_ms, failures)) for _ in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not times_ms:
        raise SystemExit(f"{url} answered none of {clients} clients: {dict(failures)}")
    return Load(
        clients=clients,
        requests_per_s=len(times_ms) / seconds,
        p50_ms=percentile(times_ms, 50),
        p95_ms=percentile(times_ms, 95),
        failures=dict(failures),
    )


def _client(url: str, key: str, begins: float, ends: float, times_ms: list[float], failures: Counter[str]) -> None:
    parts = urlsplit(url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    headers = {"Authorization": f"Bearer {key}", "Accept": "application/json"}
    connection = http.client.HTTPConnection(parts.netloc, timeout=_TIMEOUT_S)
    while time.monotonic() < ends:
        began = time.perf_counter()
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            failures[type(error).__name__] += 1
            connection.close()
            continue
        took_ms = (time.perf_counter() - began) * 1000
        if answer.status != 200:
            failures[str(answer.status)] += 1
        elif begins <= time.monotonic() < ends:
            times_ms.append(took_ms)
    connection.close()
