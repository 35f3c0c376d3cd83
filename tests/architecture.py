"""The rules of the repository's shape, each one a function from parsed sources to faults.

A rule looks at nothing but what it is given, so that a planted fault proves it as well as the whole tree does. A
fault is one line: where, and what is wrong there. What a rule cannot see in one file it is told: `Source` carries
the path inside the repository, and the rules about the whole (cycles) get every source at once.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath
from typing import Any, Final

__all__ = ["FILE_RULES", "FOLDERS", "ROOT", "TEXT_RULES", "Source", "cycles", "python_sources", "text_sources"]

ROOT: Final = Path(__file__).parents[1]
FILE_LINES_MAX: Final = 500
FUNCTION_LINES_MAX: Final = 60

_ALL: Final = frozenset({"runtime", "actors", "streams", "storage", "gateway", "client", "bench"})
FOLDERS: Final[Mapping[str, frozenset[str]]] = {
    "runtime": frozenset(),
    "actors": frozenset({"runtime"}),
    "streams": frozenset({"runtime"}),
    "storage": frozenset({"runtime"}),
    "gateway": frozenset({"runtime", "actors", "streams", "storage"}),
    "client": frozenset(),
    "bench": _ALL,
}
"""Folders that become packages, each with the others that it may import."""

# Commands are where everything meets: they alone run benchmarks and demonstrations, and speak to a terminal.
_COMMANDS: Final = re.compile(r"gateway/(cli|rehearsals)(\w*|/\w+)\.py\Z")
_BORDER: Final = frozenset({"gateway", "bench"})
_VENDORS: Final[Mapping[str, frozenset[str]]] = {
    "nats": frozenset({"streams"}),
    "asyncpg": frozenset({"storage"}),
    "redis": frozenset({"storage"}),
    "aiohttp": _BORDER,
    "opentelemetry": frozenset({"gateway"}),
    "prometheus_client": _BORDER,
    "starlette": _BORDER,
    "typer": _BORDER,
    "uvicorn": _BORDER,
    "uvloop": _BORDER,
    "httpx2": frozenset({"client"}),
    "anyio": _ALL - {"runtime", "client"},
    "asyncio": frozenset({"streams", "storage", "gateway", "bench", "client"}),
    "trio": frozenset(),
}
# What computes and nothing else: no clock, socket, loop, file, randomness or log can be reached through these.
_PURE: Final = frozenset({
    "__future__", "abc", "anyascii", "array", "base64", "binascii", "bisect", "collections", "copy", "cryptography",
    "dataclasses", "datetime", "decimal", "enum", "fractions", "functools", "graphlib", "hashlib", "heapq", "hmac",
    "ipaddress", "iso4217", "itertools", "json", "math", "msgspec", "operator", "re", "rigour", "string",
    "struct", "textwrap", "types", "typing", "unicodedata", "urllib", "zlib",
    "zoneinfo",  # a table, like that of currencies
})  # fmt: skip
_CLOCKS_AND_CHANCE: Final = frozenset({"now", "utcnow", "today", "generate"})
_DOORS: Final = frozenset({"open", "input", "print", "__import__", "exec", "eval"})
_CLIENT_NEEDS: Final = frozenset({"httpx2", "msgspec", "zentra"})
# What an extra brings is asked for in one module each, when it is needed.
_CLIENT_EXTRAS: Final[Mapping[str, str]] = {"client/natsdoor.py": "nats", "client/signatures.py": "cryptography"}


class Source:
    """One file: its path inside the repository and its text."""

    def __init__(self, path: str, text: str) -> None:
        self.path, self.text = path, text

    @property
    def folder(self) -> str:
        return PurePosixPath(self.path).parts[0]

    @property
    def module(self) -> str:
        """The dotted name under which the file is imported."""
        name = ".".join(PurePosixPath(self.path).with_suffix("").parts)
        return ("zentra." if self.folder in FOLDERS else "") + name.removesuffix(".__init__")

    @property
    def shipped(self) -> bool:
        return self.folder in FOLDERS

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def imports(self) -> Sequence[tuple[int, str, bool]]:
        """(line, dotted name, whether it runs); a relative import keeps its leading dots."""
        return list(_imports(self.tree, runs=True))

    def at(self, line: int, fault: str) -> str:
        return f"{self.path}:{line}: {fault}"


@cache
def python_sources() -> Sequence[Source]:
    """Return every Python file of the repository, as it is when they are first asked for."""
    return [_read(path) for folder in (*FOLDERS, "tests") for path in sorted((ROOT / folder).rglob("*.py"))]


@cache
def text_sources() -> Sequence[Source]:
    """Return every file that a person reads, Python or not, as it is when they are first asked for."""
    kinds = {".py", ".sql", ".lua", ".md", ".toml", ".yaml", ".yml", ".conf", ".template", ".html", ".css", ".js"}
    below = (path for folder in (*FOLDERS, "tests", "deploy", "docs") for path in sorted((ROOT / folder).rglob("*")))
    return [_read(path) for path in (*below, *sorted(ROOT.glob("*"))) if path.is_file() and path.suffix in kinds]


# Who may import whom.


def layers(source: Source) -> Iterator[str]:
    """A folder imports what the table grants it, and reaches commands' friends only from a command."""
    if not source.shipped:
        return
    allowed = _ALL if _COMMANDS.match(source.path) else FOLDERS[source.folder] | {source.folder}
    for line, name, _ in source.imports:
        if name.startswith("zentra.") and name.split(".")[1] not in allowed:
            yield source.at(line, f"{source.folder} may not import {name}")


def vendors(source: Source) -> Iterator[str]:
    """A library that waits or speaks to the outside is imported where its errors are mapped, and nowhere else."""
    if not source.shipped:
        return
    for line, name, _ in source.imports:
        top = name.split(".")[0]
        if _CLIENT_EXTRAS.get(source.path) == top:
            continue
        if source.folder not in _VENDORS.get(top, _ALL):
            yield source.at(line, f"{source.folder} may not import {top}")
        if source.folder == "client" and top not in _CLIENT_NEEDS | sys.stdlib_module_names:
            yield source.at(line, f"the client installs without {top}")


def purity(source: Source) -> Iterator[str]:
    """The rules compute: what they may import is listed, and no call of theirs reads a clock, a file or chance."""
    if source.folder != "runtime":
        return
    for line, name, _ in source.imports:
        if name.split(".")[0] not in _PURE | {"zentra"} or name.startswith("urllib.request"):
            yield source.at(line, f"runtime may not import {name}")
    for call in _calls(source.tree):
        if isinstance(call.func, ast.Attribute) and call.func.attr in _CLOCKS_AND_CHANCE:
            yield source.at(call.lineno, f"runtime may not call .{call.func.attr}()")
        if isinstance(call.func, ast.Name) and call.func.id in _DOORS:
            yield source.at(call.lineno, f"runtime may not call {call.func.id}()")


def bare_names(source: Source) -> Iterator[str]:
    """Everything is imported by its full name: a bare folder name would make a second copy of each class."""
    for line, name, _ in source.imports:
        if name.startswith("."):
            yield source.at(line, "relative import")
        elif name.split(".")[0] in FOLDERS:
            yield source.at(line, f"bare import of {name}, say zentra.{name}")


def tests_imported(source: Source) -> Iterator[str]:
    """Nothing that ships knows of the tests."""
    for line, name, _ in source.imports:
        if source.shipped and name.split(".")[0] in {"tests", "pytest", "hypothesis"}:
            yield source.at(line, f"{name} is for tests")


def cycles(sources: Sequence[Source]) -> Iterator[str]:
    """No module needs itself, by whatever way; what only a type checker reads does not count."""
    known = {source.module for source in sources}
    graph = {source.module: _needed(source, known) for source in sources}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield "import cycle: " + " -> ".join(reversed(error.args[1]))


# What is shipped.


def packaging(configuration: Mapping[str, Any], modules: Iterable[str]) -> Iterator[str]:
    """Every folder with modules is listed as a package that comes from the folder of its name.

    A package that is not listed works in a checkout and is absent from the wheel. `configuration` is setuptools'."""
    listed, places = configuration["packages"], configuration["package-dir"]
    parents = {PurePosixPath(module).parent for module in modules}
    for folder in sorted(parents):
        if (name := "zentra." + ".".join(folder.parts)) not in listed:
            yield f"{name} is not listed in packages"
    for name in listed:
        if places.get(name) != "/".join(name.split(".")[1:]):
            yield f"{name} does not come from the folder of its name"
    for folder in sorted(parents):
        if len(folder.parts) > 1 and (folder / "__init__.py").as_posix() not in modules:
            yield f"{folder} has no __init__.py"


def shared_names(root: Path) -> Iterator[str]:
    """Installed packages say that they have types, and checkers see under `.ns` what is installed; a link each."""
    if (root / "__init__.py").exists() or (root / ".ns" / "zentra" / "__init__.py").exists():
        yield "zentra is a namespace and has no module of its own"
    for folder in FOLDERS:
        if not (root / folder / "py.typed").is_file():
            yield f"{folder} has no py.typed"
        link = root / ".ns" / "zentra" / folder
        if not link.is_symlink() or link.readlink() != Path("../..") / folder:
            yield f".ns/zentra/{folder} does not lead to {folder}"
    for stray in sorted(path.name for path in (root / ".ns" / "zentra").glob("*") if path.name not in FOLDERS):
        yield f".ns/zentra/{stray} is no package"


# How a file reads.


def docstring_first(source: Source) -> Iterator[str]:
    """A module says first what it is."""
    if not ast.get_docstring(source.tree):
        yield source.at(1, "no docstring")


def exports(source: Source) -> Iterator[str]:
    """`__all__` stands before the first definition, sorted, and every name in it exists."""
    if not source.shipped or PurePosixPath(source.path).name in {"__init__.py", "__main__.py"}:
        return
    body = source.tree.body
    found = [i for i, node in enumerate(body) if isinstance(node, ast.Assign) and "__all__" in _bound(node)]
    if not found:
        yield source.at(1, "no __all__")
        return
    node = body[found[0]]
    assert isinstance(node, ast.Assign)
    if any(isinstance(earlier, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) for earlier in body[: found[0]]):
        yield source.at(node.lineno, "__all__ stands behind a definition")
    names: list[str] = ast.literal_eval(node.value)
    if names != sorted(set(names), key=_reading_order):
        yield source.at(node.lineno, "__all__ is not sorted")
    bound = {name for statement in _top_level(body) for name in _bound(statement)}
    for name in sorted(set(names) - bound):
        yield source.at(node.lineno, f"{name} is in __all__ and nowhere else")


def file_length(source: Source) -> Iterator[str]:
    """A file can be read in one sitting; tables that left the formatter do not count."""
    tables = sum(last - first + 1 for first, last in _tables(source.text))
    lines = len(source.text.splitlines()) - tables
    if lines > FILE_LINES_MAX:
        yield source.at(1, f"{lines} lines, at most {FILE_LINES_MAX}")


def function_length(source: Source) -> Iterator[str]:
    """A function fits on a screen; tables in it do not count."""
    tables = _tables(source.text)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first, last = node.lineno, node.end_lineno or node.lineno
            lines = last - first + 1 - sum(b - a + 1 for a, b in tables if first <= a and b <= last)
            if lines > FUNCTION_LINES_MAX:
                yield source.at(first, f"{node.name} has {lines} lines, at most {FUNCTION_LINES_MAX}")


def printing(source: Source) -> Iterator[str]:
    """Only commands speak to a terminal."""
    if not source.shipped or _COMMANDS.match(source.path):
        return
    for call in _calls(source.tree):
        if isinstance(call.func, ast.Name) and call.func.id == "print":
            yield source.at(call.lineno, "print outside a command")


def swallowed(source: Source) -> Iterator[str]:
    """Nobody catches everything and says nothing."""
    for node in ast.walk(source.tree):
        silent = isinstance(node, ast.ExceptHandler) and all(_says_nothing(statement) for statement in node.body)
        if isinstance(node, ast.ExceptHandler) and silent and _catches_everything(node.type):
            yield source.at(node.lineno, "every exception swallowed")
    for call in _calls(source.tree):
        if _dotted(call.func).split(".")[-1] == "suppress" and any(_catches_everything(a) for a in call.args):
            yield source.at(call.lineno, "every exception swallowed")


def sleeping(source: Source) -> Iterator[str]:
    """A test waits for a condition: only inside a loop does it pause, and giving others a turn (0) is no pause.

    Under a clock that jumps, anyio's and Trio's pauses take no time."""
    if source.folder != "tests":
        return
    jumping = any(keyword.arg == "autojump_threshold" for call in _calls(source.tree) for keyword in call.keywords)
    looped = {
        id(inner)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.While | ast.For | ast.AsyncFor)
        for inner in ast.walk(node)
    }
    for call in _calls(source.tree):
        name = _dotted(call.func)
        if jumping and name.startswith(("anyio.", "trio.")):
            continue
        if name.split(".")[-1] == "sleep" and name != "sleep" and id(call) not in looped and not _is_zero(call):
            yield source.at(call.lineno, f"{name} outside a loop that waits for something")


def open_ends(source: Source) -> Iterator[str]:
    """No file leaves work for later."""
    for number, line in enumerate(source.text.splitlines(), 1):
        if re.search(r"\b(TO" r"DO|FIX" r"ME)\b", line):
            yield source.at(number, "work left for later")


def one_machine(source: Source) -> Iterator[str]:
    """No file knows the directories of one machine, or credits anybody: the history does that."""
    places = r"(?<![\w.}/-])/(work|tmp|home|Users|mnt)/\w"
    credits_ = r"__auth" r"or__|@auth" r"or\b|co-auth" r"ored-by|generated wi" r"th\b|language mod" r"el"
    for number, line in enumerate(source.text.splitlines(), 1):
        if re.search(places, line):
            yield source.at(number, "a path of one machine")
        if re.search(credits_, line, re.IGNORECASE):
            yield source.at(number, "a credit")


Rule = Callable[[Source], Iterator[str]]
FILE_RULES: Final[Sequence[Rule]] = (
    layers,
    vendors,
    purity,
    bare_names,
    tests_imported,
    docstring_first,
    exports,
    file_length,
    function_length,
    printing,
    swallowed,
    sleeping,
)
"""Rules about one Python file."""
TEXT_RULES: Final[Sequence[Rule]] = (open_ends, one_machine)
"""Rules about any file."""


def _read(path: Path) -> Source:
    return Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))


def _imports(node: ast.AST, *, runs: bool) -> Iterator[tuple[int, str, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((child.lineno, alias.name, runs) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = "." * child.level + (child.module or "")
            yield from ((child.lineno, f"{base}.{alias.name}", runs) for alias in child.names)
        elif isinstance(child, ast.If) and _dotted(child.test).split(".")[-1] == "TYPE_CHECKING":
            for statement in child.body:
                yield from _imports(ast.Module([statement], []), runs=False)
            yield from _imports(ast.Module(child.orelse, []), runs=runs)
        else:
            yield from _imports(child, runs=runs)


def _needed(source: Source, known: set[str]) -> set[str]:
    needed = set()
    for _, name, runs in source.imports:
        module = name if name in known else name.rpartition(".")[0]
        if runs and module in known:
            needed.add(module)
    return needed


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _dotted(node: ast.expr) -> str:
    match node:
        case ast.Name(name):
            return name
        case ast.Attribute(value, name):
            return f"{_dotted(value)}.{name}"
    return ""


def _catches_everything(node: ast.expr | None) -> bool:
    if isinstance(node, ast.Tuple):
        return any(_catches_everything(element) for element in node.elts)
    return node is None or _dotted(node) in {"Exception", "BaseException"}


def _says_nothing(statement: ast.stmt) -> bool:
    constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return constant or isinstance(statement, ast.Pass | ast.Continue)


def _is_zero(call: ast.Call) -> bool:
    return bool(call.args) and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0


def _top_level(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try):
            yield from _top_level([*statement.body, *statement.orelse])


def _bound(statement: ast.stmt) -> list[str]:
    match statement:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return [statement.name]
        case ast.Import() | ast.ImportFrom():
            return [alias.asname or alias.name for alias in statement.names]
        case ast.Assign():
            return [leaf.id for goal in statement.targets for leaf in ast.walk(goal) if isinstance(leaf, ast.Name)]
        case ast.AnnAssign(target=ast.Name(name)):
            return [name]
    return []


def _reading_order(name: str) -> tuple[int, list[tuple[str, int]]]:
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2
    return kind, [(text, int(digits or 0)) for text, digits in re.findall(r"(\D+)(\d*)|\Z", name)]


def _tables(text: str) -> list[tuple[int, int]]:
    found, first = [], 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip().startswith("# fmt: off"):
            first = number
        elif line.strip().startswith("# fmt: on") and first:
            found.append((first, number))
            first = 0
    return found
