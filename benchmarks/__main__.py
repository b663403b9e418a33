"""What can be measured here.

    python -m benchmarks

Each script answers one question. Those that measure speed say processor, threads and versions, and
write all they print as CSV with --out; their figures are ratios of ways that took turns in one run,
since machines are noisy. The others check what the software knows against what is known.
"""

import ast
import sys
from pathlib import Path

from data_tools.runtime import command, flag_texts


def main() -> int:
    """Print every benchmark and its question."""
    scripts = sorted(Path(__file__).parent.glob("[a-z]*.py"))
    if sys.argv[1:] not in ([], ["--help"], ["-h"]):
        found = flag_texts.nearest(sys.argv[1], [path.stem for path in scripts])
        advice = f"did you mean python -m benchmarks.{found or 'NAME'}?"
        print(f"error: '{sys.argv[1]}' is not understood; {advice}", file=sys.stderr)
        return command.EXIT_BAD_INPUT
    print(__doc__.strip(), "\n")
    for path in scripts:
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        print(f"  python -m benchmarks.{path.stem:<24} {text.splitlines()[0]}")
    return command.EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
