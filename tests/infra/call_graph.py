"""Which functions of `shared/` a handler can end up in, read from the source: names are followed, nothing is run."""

import ast
from collections.abc import Iterator
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


def _uses(qualified: str) -> Iterator[str]:
    module_name, _, name = qualified.rpartition(".")
    module = _module(module_name)
    if name not in module.defined:
        yield module.imported[name]  # passed on from where it is defined
        return
    for used in ast.walk(module.defined[name]):
        if isinstance(used, ast.Attribute) and isinstance(used.value, ast.Name):
            target = f"{module.imported.get(used.value.id, '')}.{used.attr}"
            if _is_ours(target):
                yield target
        elif isinstance(used, ast.Name):
            if used.id in module.defined:
                yield f"{module_name}.{used.id}"
            elif _is_ours(module.imported.get(used.id, "")):
                yield module.imported[used.id]


def _is_ours(qualified: str) -> bool:
    module, _, name = qualified.rpartition(".")
    if not module.startswith(_OURS) or not _file(module).is_file():
        return False
    return name in _module(module).defined or _is_ours(_module(module).imported.get(name, ""))


def _file(module: str) -> Path:
    return REPOSITORY / (module.replace(".", "/") + ".py")


@cache
def _module(name: str) -> _Module:
    imported: dict[str, str] = {}
    defined: dict[str, ast.AST] = {}
    for node in ast.parse(_file(name).read_text()).body:
        match node:
            case ast.ImportFrom(module=str(source)):
                imported |= {alias.asname or alias.name: f"{source}.{alias.name}" for alias in node.names}
            case ast.FunctionDef() | ast.ClassDef() | ast.AsyncFunctionDef():
                defined[node.name] = node
            case ast.Assign(targets=[ast.Name(id=target)]):
                defined[target] = node
            case ast.AnnAssign(target=ast.Name(id=target)) | ast.TypeAlias(name=ast.Name(id=target)):
                defined[target] = node
            case _:
                pass
    return _Module(imported, defined)
