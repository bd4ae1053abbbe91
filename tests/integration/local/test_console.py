"""The console's static pages."""

import importlib
import pkgutil
import re
from collections.abc import Iterator

import shared
from local.front import errors as front_errors
from local.settings import REPOSITORY
from shared.kernel.errors import RunyardError

PAGE = (REPOSITORY / "console" / "errors.html").read_text()


def kinds_of(error: type[RunyardError]) -> Iterator[type[RunyardError]]:
    yield error
    for kind in error.__subclasses__():
        yield from kinds_of(kind)


def test_the_page_to_which_errors_point_explains_each_of_them() -> None:
    for module in pkgutil.walk_packages(shared.__path__, "shared."):
        importlib.import_module(module.name)
    codes = {kind.code for kind in kinds_of(RunyardError)} | set(front_errors.CODES)

    assert codes - set(re.findall(r'<tr id="(\w+)">', PAGE)) == set()
