"""Which functions of `shared/` a handler can end up in, read from the source: names are followed, nothing is run."""

import ast
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
_OURS = ("shared", "functions")


@dataclass(frozen=True, slots=True)
class _Module:
    # Local name -> what it stands for: `package.module` or `package.module.name`.
    imported: dict[str, str]
    # Top-level function, class or constant -> the nodes that make it up.
    defined: dict[str, ast.AST] = field(repr=False)


def reachable_from(module: str) -> frozenset[str]:
    """Return `package.module.name` of all that the module's own top-level names can reach."""
    seen: set[str] = set()
    waiting = [f"{module}.{name}" for name in _module(module).defined]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(_uses(name))
    return frozenset(seen)


def packages_imported_by(module: str) -> frozenset[str]:
    """Return the top-level packages that loading a module, and then calling what it can reach, imports."""
    loaded: set[str] = set()
    waiting = [module, *(name.rpartition(".")[0] for name in reachable_from(module))]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in loaded:
            loaded.add(name)
            outside, inside = _split(_imports(_parsed(name).body))
            found |= outside
            waiting.extend(inside)
    for qualified in reachable_from(module):
        node = _module(qualified.rpartition(".")[0]).defined.get(qualified.rpartition(".")[2])
        if node is not None:
            found |= _split(_imports(list(ast.walk(node))))[0]
    return frozenset(found - set(sys.stdlib_module_names))


def _imports(nodes: Sequence[ast.AST]) -> Iterator[str]:
    for node in nodes:
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom(module=str(source)):
                yield source
                yield from (f"{source}.{alias.name}" for alias in node.names)
            case ast.Try():
                yield from _imports(node.body)
            case _:
                pass  # `if TYPE_CHECKING:` among others, which never runs


def _split(names: Iterator[str]) -> tuple[set[str], set[str]]:
    """Return other people's top-level packages, and modules of ours."""
    outside, inside = set(), set()
    for name in names:
        if not name.startswith(_OURS):
            outside.add(name.split(".")[0])
        elif _file(name).is_file():
            inside.add(name)
    return outside, inside


def _uses(qualified: str) -> Iterator[str]:
    module_name, _, name = qualified.rpartition(".")
    module = _module(module_name)
    if name not in module.defined:
        yield module.imported[name]  # passed on from where it is defined
        return
    nodes = list(ast.walk(module.defined[name]))
    imported = module.imported | _imported_names(nodes)
    looked_into = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    for used in nodes:
        if isinstance(used, ast.Attribute) and isinstance(used.value, ast.Name):
            target = f"{imported.get(used.value.id, '')}.{used.attr}"
            if _is_ours(target):
                yield target
        elif isinstance(used, ast.Name):
            if used.id in module.defined:
                yield f"{module_name}.{used.id}"
            elif _is_ours(imported.get(used.id, "")):
                yield imported[used.id]
            elif id(used) not in looked_into and _is_our_module(imported.get(used.id, "")):
                # Handed over whole: whoever is given it may call all that it offers.
                yield from (f"{imported[used.id]}.{offered}" for offered in _module(imported[used.id]).defined)


def _imported_names(nodes: Sequence[ast.AST]) -> dict[str, str]:
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def _is_ours(qualified: str) -> bool:
    module, _, name = qualified.rpartition(".")
    if not module.startswith(_OURS) or not _file(module).is_file():
        return False
    return name in _module(module).defined or _is_ours(_module(module).imported.get(name, ""))


def _is_our_module(name: str) -> bool:
    return name.startswith(_OURS) and _file(name).is_file()


def _file(module: str) -> Path:
    return REPOSITORY / (module.replace(".", "/") + ".py")


@cache
def _parsed(module: str) -> ast.Module:
    return ast.parse(_file(module).read_text())


@cache
def _module(name: str) -> _Module:
    body = _parsed(name).body
    defined: dict[str, ast.AST] = {}
    for node in body:
        match node:
            case ast.FunctionDef() | ast.ClassDef() | ast.AsyncFunctionDef():
                defined[node.name] = node
            case ast.Assign(targets=[ast.Name(id=target)]):
                defined[target] = node
            case ast.AnnAssign(target=ast.Name(id=target)) | ast.TypeAlias(name=ast.Name(id=target)):
                defined[target] = node
            case _:
                pass
    return _Module(_imported_names(body), defined)
