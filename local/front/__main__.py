"""`python -m local.front`: serves the home that the environment describes."""

import uvicorn

from local.front.app import create_app
from local.front.sockets import LARGEST_MESSAGE_BYTES
from local.settings import LOOPBACK, REPOSITORY, read_home


def main() -> None:
    """Serve until asked to end."""
    home = read_home()
    uvicorn.run(
        create_app(home, REPOSITORY),
        host=LOOPBACK,
        port=home.ports.front,
        access_log=False,
        # Else a client on this machine could say that it is another.
        proxy_headers=False,
        # Below a warning it writes the addresses of WebSockets, and with them the keys in their query.
        log_level="warning",
        server_header=False,
        ws="websockets-sansio",
        ws_max_size=LARGEST_MESSAGE_BYTES,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=3,
    )


if __name__ == "__main__":
    main()
