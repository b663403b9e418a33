"""What several test files use: folders, files as scanners write them, comparisons, commands."""

from pathlib import Path

PROJECT = Path(__file__).parents[2]
