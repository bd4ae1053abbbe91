"""What others send as text, made into what Postgres can hold."""


def storable(value: object) -> object:
    """Replace what Postgres can't hold in a text, however deep in a JSON value: NUL and lone surrogates."""
    match value:
        case str():
            return value.replace("\x00", "\ufffd").encode(errors="replace").decode()
        case dict():
            return {str(storable(key)): storable(item) for key, item in value.items()}
        case list():
            return [storable(item) for item in value]
        case _:
            return value
