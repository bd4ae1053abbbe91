"""`make bench`: every measurement in turn, then the table."""

import subprocess
import sys

_BENCHES = ("imports", "authorizer", "api", "routing", "gateway", "steps", "metering", "ledger", "home")


def main() -> int:
    """Run each in a process of its own, so that none inherits another's heap or connections."""
    failed = []
    for bench in _BENCHES:
        print(f"\n--- bench.{bench}", flush=True)
        if subprocess.run([sys.executable, "-m", f"bench.{bench}"], check=False).returncode != 0:
            failed.append(bench)
    status = subprocess.run([sys.executable, "-m", "bench.table"], check=False).returncode
    if failed:
        print(f"\nfailed: {', '.join(failed)}; the table shows their results of an earlier run", file=sys.stderr)
    return 1 if failed else status


if __name__ == "__main__":
    sys.exit(main())
