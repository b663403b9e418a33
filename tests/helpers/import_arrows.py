"""Import arrows between the rooms of a package: its modules, and its sub-packages as one room each.

python tests/helpers/import_arrows.py [FOLDER_OF_THE_PACKAGE]
"""

import ast
import graphlib
import sys
from pathlib import Path


def imported(path, top_level_only=False):
    """Dotted names that a file imports; ``from a import b`` gives ``a`` and ``a.b``."""
    tree = ast.parse(path.read_text())
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows(package):
    """(from, to) of every two rooms of which one imports the other, at whatever place."""
    package = Path(package)
    rooms = {p.stem for p in package.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    found = set()
    for path in package.rglob("*.py"):
        source = path.relative_to(package).parts[0].removesuffix(".py")
        for name in imported(path):
            parts = name.split(".")
            if parts[0] == package.name and len(parts) > 1 and parts[1] in rooms - {source}:
                found.add((source, parts[1]))
    return rooms - {"__init__"}, {pair for pair in found if "__init__" not in pair}


def module_arrows(package):
    """The same between single modules, at whatever depth; a package's ``__init__`` is one too."""
    package = Path(package)
    names = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package.parent).with_suffix("").parts
        names[".".join(part for part in parts if part != "__init__")] = path
    return {
        (source, name)
        for source, path in names.items()
        for name in imported(path)
        if name in names and name != source and not source.startswith(f"{name}.")
    }


def floors(found):
    """Every room below the ones that import it; raises graphlib.CycleError on a circle."""
    below = {}
    for source, target in found:
        below.setdefault(source, set()).add(target)
    height = {}
    for room in graphlib.TopologicalSorter(below).static_order():
        height[room] = 1 + max((height[other] for other in below.get(room, ())), default=0)
    return height


if __name__ == "__main__":
    place = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[2] / "tf_hypoperfusion"
    rooms, found = arrows(place)
    height = floors(found)
    print(f"{place}: {len(rooms)} rooms, {len(found)} arrows, {max(height.values())} floors")
    for floor in sorted(set(height.values()), reverse=True):
        print(f"  floor {floor}: {', '.join(sorted(r for r in height if height[r] == floor))}")
