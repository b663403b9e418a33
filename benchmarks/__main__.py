"""What can be measured here.

    python -m benchmarks

Each script answers one question, prints one table with the versions it was made with, and writes
CSV with --out. Figures are ratios measured side by side in one run: these machines are noisy.
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
