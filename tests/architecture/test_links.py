"""Links within the documentation lead somewhere: to a file that is there, and to a heading in it."""

import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
_GENERATED = {"node_modules", "cdk.out"}


def _is_ours(path: Path) -> bool:
    """Say whether the file is the repository's own: no tool's hidden folder, nothing installed or generated."""
    return not any(part.startswith(".") or part in _GENERATED for part in path.relative_to(ROOT).parts)


DOCUMENTS = sorted(filter(_is_ours, ROOT.rglob("*.md")))
_FENCED = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_INLINE_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\(\s*<?([^)<>\s]+)>?[^)]*\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
_NOT_OURS = re.compile(r"[a-z][a-z0-9+.\-]*:|//", re.IGNORECASE)


def links(document: Path) -> list[str]:
    """The targets of the document's links into this repository."""
    text = _INLINE_CODE.sub("", _FENCED.sub("", document.read_text()))
    targets = [inline or reference for inline, reference in _LINK.findall(text)]
    return [target for target in targets if not _NOT_OURS.match(target)]


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub makes of the document's headings."""
    made: set[str] = set()
    for heading in _HEADING.findall(_FENCED.sub("", document.read_text())):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        made.add(slug if slug not in made else next(f"{slug}-{n}" for n in range(1, 99) if f"{slug}-{n}" not in made))
    return made


def problem(document: Path, target: str) -> str | None:
    """Say why a link leads nowhere; None when it leads somewhere."""
    path, _, anchor = target.partition("#")
    place = (ROOT if path.startswith("/") else document.parent) / unquote(path).lstrip("/") if path else document
    if not place.exists():
        return f"{target}: there is no {place.resolve().relative_to(ROOT)}"
    if not place.resolve().is_relative_to(ROOT):
        return f"{target}: leads out of the repository"
    if anchor and place.suffix == ".md" and anchor not in anchors(place):
        return f"{target}: {place.name} has no heading of that name"
    return None


def test_there_are_documents_with_links() -> None:
    assert {ROOT / "README.md", ROOT / "docs" / "architecture.md"} <= set(DOCUMENTS)
    assert sum(len(links(document)) for document in DOCUMENTS) > 50


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    assert [found for target in links(document) if (found := problem(document, target))] == []


def test_a_link_that_leads_nowhere_is_noticed(tmp_path: Path) -> None:
    document = ROOT / "README.md"
    assert problem(document, "docs/nothing.md") is not None
    assert problem(document, "docs/architecture.md#no-such-heading") is not None
    assert problem(document, "docs/architecture.md#a-run") is None


def test_every_decision_is_in_the_index_and_has_its_four_parts() -> None:
    folder = ROOT / "docs" / "decisions"
    pages = sorted(folder.glob("[0-9]*.md"))
    index = (folder / "README.md").read_text()
    assert [page.name[:4] for page in pages] == [f"{number:04d}" for number in range(1, len(pages) + 1)]
    for page in pages:
        assert f"({page.name})" in index
        parts = [heading for heading in _HEADING.findall(page.read_text()) if heading in _PARTS]
        assert parts == _PARTS, page.name


_PARTS = ["Context", "Decision", "Consequences", "Alternatives"]


def test_every_make_target_that_the_documents_name_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in DOCUMENTS:
        fenced = re.findall(r"^```bash\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)
        quoted = [code.strip("`") for code in _INLINE_CODE.findall(document.read_text())]
        named = {
            match
            for code in (*fenced, *quoted)
            for match in re.findall(r"^(?:\S+=\S+ )*make ([a-z-]+)", code, re.MULTILINE)
        }
        assert named <= targets, document.name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_shell_command_of_a_document_can_be_parsed(document: Path) -> None:
    for block in re.findall(r"^```bash\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL):
        parsed = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
        assert parsed.returncode == 0, f"{parsed.stderr}\n{block}"
