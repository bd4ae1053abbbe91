"""The steps of a run ask models without the library of rate limits: theirs aren't limited."""

import subprocess
import sys


def test_the_preflight_loads_rate_limiting_only_for_who_is_limited() -> None:
    code = "import sys; import shared.inference.preflight; print('throttled' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "False"
