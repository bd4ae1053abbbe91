"""A path given by a customer or a model stays within the files of the program inside."""

import pytest

from shared.sandboxes.model import FileRefused
from shared.sandboxes.program import file_url


@pytest.mark.parametrize("path", ["../commands/ready", "a/../../health", "..", ".", "/./x", "/workspace/../etc/passwd"])
def test_a_path_that_would_leave_the_files_is_refused(path: str) -> None:
    with pytest.raises(FileRefused):
        file_url(path)


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("main.py", "/files/main.py"),
        ("/workspace/a b.txt", "/files/workspace/a%20b.txt"),
        ("a?x=1#y", "/files/a%3Fx%3D1%23y"),
        ("..a/b..", "/files/..a/b.."),
        ("é", "/files/%C3%A9"),
    ],
)
def test_any_other_path_is_a_file(path: str, url: str) -> None:
    assert file_url(path) == url
