"""The gateway's HTTP face, in OpenAI's shapes: plain ASGI, because a call's CPU time is most of what it costs us."""
