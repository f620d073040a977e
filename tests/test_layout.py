"""The layout holds: imports point upwards, exports are listed, public things explain themselves."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A part may import only from those before it; imports inside functions count as well.
PARTS = (
    "annotations",
    "arguments",
    "paths",
    "files",
    "finite",
    "compiled",
    "processes",
    "batches",
    "parallel",
    "layouts",
    "per_device",
    "graph",
    "latency",
    "backend",
    "compression",
    "prune",
    "low_rank",
    "sparse",
    "quantization",
    "knowledge",
    "training",
    "recipes",
    "models",
    "artifact",
    "adapters",
    "report",
)
# Over the same graph and the same record, methods stand side by side.
METHODS = ("prune", "low_rank", "sparse", "quantization")
OUTSIDE = ("experiments", "tests", "benchmarks")
PRIVATE_ALLOWED = ("jaxcompress/graph/internals.py", "jaxcompress/processes/coordinator.py")


def modules(*folders: str) -> list[tuple[str, ast.Module]]:
    """Parse every module below the folders: its path from the root, and its tree."""
    files = sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))
    return [(file.relative_to(ROOT).as_posix(), ast.parse(file.read_text())) for file in files]


def imported_names(file: str, node: ast.Import | ast.ImportFrom) -> list[str]:
    """Return the absolute dotted names that an import statement in `file` reaches."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    folders = file.split("/")[:-1]
    base = folders[: len(folders) - node.level + 1] if node.level else []
    prefix = [*base, *([node.module] if node.module else [])]
    return [".".join([*prefix, alias.name]) for alias in node.names]


def part_of(file: str) -> str:
    """Return the part of jaxcompress that a file belongs to; its own ``__init__`` is none."""
    return file.split("/")[1].removesuffix(".py").replace("__init__", "")


def import_offences(file: str, tree: ast.Module) -> Iterator[str]:
    """Say which imports of one module of jaxcompress break the layout."""
    part = part_of(file)
    if part and part not in PARTS:
        yield f"{file}: the layout has no part {part!r}; move it into one of {PARTS}"
        return
    allowed = PARTS[: PARTS.index(part) + 1] if part else PARTS
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for name in imported_names(file, node):
            head, _, rest = name.partition(".")
            target = rest.split(".")[0]
            if head in OUTSIDE:
                yield f"{file}:{node.lineno}: the library imports {head}; it must not need it"
            elif {part, target} <= set(METHODS) and part != target:
                yield f"{file}:{node.lineno}: {part} imports {target}; methods stand apart"
            elif head == "jaxcompress" and target in PARTS and target not in allowed:
                yield f"{file}:{node.lineno}: {part} imports {target}, which stands below it"
            elif head == "jaxcompress" and target not in PARTS:
                yield f"{file}:{node.lineno}: {name} is not in a part; import it from its own"


def dotted(node: ast.Attribute) -> str:
    """Return an attribute chain such as ``jax.numpy.sum``, or nothing where it is no such chain."""
    parts: list[str] = []
    value: ast.expr = node
    while isinstance(value, ast.Attribute):
        parts.append(value.attr)
        value = value.value
    return ".".join([value.id, *reversed(parts)]) if isinstance(value, ast.Name) else ""


def private_offences(file: str, tree: ast.Module) -> Iterator[str]:
    """Say where a module reaches into JAX's private modules."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute | ast.Import | ast.ImportFrom):
            continue
        names = [dotted(node)] if isinstance(node, ast.Attribute) else imported_names(file, node)
        for name in names:
            head, *rest = name.split(".")
            # Of a chain a._b.c only a._b counts: walking the tree meets it as a node of its own.
            pieces = rest[-1:] if isinstance(node, ast.Attribute) else rest
            private = [piece for piece in pieces if piece[:1] == "_" and piece[:2] != "__"]
            if head in ("jax", "jaxlib") and private:
                yield f"{file}:{node.lineno}: {name} is private; only {PRIVATE_ALLOWED} may use it"


def exports(tree: ast.Module) -> list[str] | None:
    """Return the names in a module's ``__all__``, or None where it lists none explicitly."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            is_literal = isinstance(node.value, ast.List | ast.Tuple)
            return list(ast.literal_eval(node.value)) if is_literal else None
    return None


def public_names(file: str, trees: dict[str, ast.Module]) -> set[str]:
    """Return what a module offers to users: what it exports and its part exports again."""
    names = set(exports(trees[file]) or [])
    if file.count("/") == 1:
        return names
    part = f"jaxcompress/{part_of(file)}/__init__.py"
    return names & set(exports(trees[part]) or []) if part in trees else set()


def docstring_offences(file: str, tree: ast.Module, public: set[str]) -> Iterator[str]:
    """Say which public functions and classes lack a docstring, or an example that runs.

    A record needs no example: a class with a base or a decorator, as a NamedTuple or a dataclass.
    """
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name not in public:
            continue
        docstring = ast.get_docstring(node) or ""
        is_record = isinstance(node, ast.ClassDef) and (node.bases or node.decorator_list)
        if not docstring:
            yield f"{file}:{node.lineno}: {node.name} has no docstring"
        elif not is_record and not ("Example" in docstring and ">>>" in docstring):
            yield f"{file}:{node.lineno}: {node.name} shows no Example with >>>"


def report(offences: list[str]) -> None:
    """Fail with all offences at once."""
    assert not offences, "\n" + "\n".join(offences)


def test_imports_point_upwards() -> None:
    report([o for file, tree in modules("jaxcompress") for o in import_offences(file, tree)])


def test_only_two_modules_use_private_jax() -> None:
    trees = [
        pair for pair in modules("jaxcompress", "experiments") if pair[0] not in PRIVATE_ALLOWED
    ]
    report([o for file, tree in trees for o in private_offences(file, tree)])


def test_every_module_lists_its_exports() -> None:
    missing = [file for file, tree in modules("jaxcompress") if exports(tree) is None]
    report([f"{file}: has no explicit __all__ = [...]" for file in missing])


def test_exports_exist() -> None:
    missing = []
    for file, tree in modules("jaxcompress"):
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        names |= {getattr(node, "name", "") for node in tree.body}
        names |= {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        missing += [f"{file}: exports {name}" for name in exports(tree) or [] if name not in names]
    report(missing)


def test_public_things_have_examples() -> None:
    trees = dict(modules("jaxcompress"))
    offences: list[str] = []
    for file, tree in trees.items():
        offences += docstring_offences(file, tree, public_names(file, trees))
    report(offences)


@pytest.mark.parametrize(
    ("file", "source", "count"),
    [
        ("jaxcompress/graph/tracing.py", "from jaxcompress.prune import select", 1),
        ("jaxcompress/graph/tracing.py", "def f():\n    from ..prune import select", 1),
        ("jaxcompress/graph/tracing.py", "from jaxcompress import prune", 1),
        ("jaxcompress/graph/tracing.py", "import jaxcompress.prune.selecting", 1),
        ("jaxcompress/graph/tracing.py", "from jaxcompress import trace", 1),
        ("jaxcompress/graph/tracing.py", "import experiments.data", 1),
        ("jaxcompress/graph/rules/shape.py", "from ...parallel import mesh", 0),
        ("jaxcompress/prune/selecting.py", "from jaxcompress.graph import paths", 0),
        ("jaxcompress/prune/selecting.py", "from .units import Units", 0),
        ("jaxcompress/sparse/making.py", "from jaxcompress.prune import select", 1),
        ("jaxcompress/low_rank/factors.py", "from jaxcompress.prune.gating import gate", 1),
        (
            "jaxcompress/adapters/inputs.py",
            "from ..graph import trace\nfrom ..report import table",
            1,
        ),
        ("jaxcompress/utilities.py", "", 1),
        ("jaxcompress/__init__.py", "from jaxcompress.report import table", 0),
    ],
)
def test_a_wrong_import_is_found(file: str, source: str, count: int) -> None:
    assert len(list(import_offences(file, ast.parse(source)))) == count


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("from jax._src import core", 1),
        ("from jax import _src", 1),
        ("import jax\njax._src.core.Jaxpr", 1),
        ("import jax\njax.numpy.sum(jax.__version__)", 0),
    ],
)
def test_private_jax_is_found(source: str, count: int) -> None:
    assert len(list(private_offences("jaxcompress/a.py", ast.parse(source)))) == count


def test_a_missing_example_is_found() -> None:
    source = '__all__ = ["f", "g", "R"]\ndef f():\n    """F."""\nclass R(tuple):\n    """R."""\n'
    trees = {
        "jaxcompress/graph/__init__.py": ast.parse('__all__ = ["f", "R"]'),
        "jaxcompress/graph/a.py": ast.parse(source + 'def g():\n    """Shared inside graph."""\n'),
    }
    file = "jaxcompress/graph/a.py"
    offences = list(docstring_offences(file, trees[file], public_names(file, trees)))
    assert len(offences) == 1 and "f shows no Example" in offences[0]
