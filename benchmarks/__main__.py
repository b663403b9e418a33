"""What can be measured here.

    python -m benchmarks

Each script answers one question. Those that measure speed say processor, threads and versions, and
write all they print as CSV with --out; their figures are ratios of ways that took turns in one run,
since machines are noisy. The others check what the software knows against what is known.
"""

import ast
from pathlib import Path


def main() -> None:
    """Print every benchmark and its question."""
    print(__doc__.strip(), "\n")
    for path in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        print(f"  python -m benchmarks.{path.stem:<24} {text.splitlines()[0]}")


if __name__ == "__main__":
    main()
