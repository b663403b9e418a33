"""Write ``settings.md`` from the settings themselves; run it after a change of ``config.py``.

python docs/reference/write_settings.py
"""

import dataclasses
from pathlib import Path

from data_tools.runtime import atomic, flag_texts
from tf_hypoperfusion import config

HEAD = """# Settings and their sources

`write_settings.py` makes this page from `tf_hypoperfusion/config.py`: the values of the preset
`paper`, and where each comes from. Where the paper is silent, its authors' earlier 2D code is the
next best evidence; none of it was copied. `hypoperfusion train --help` says what each setting does.
[Where the paper is silent](../explanation/method.md) explains the choices.

| setting | preset `paper` | source |
| --- | --- | --- |
"""


def settings() -> str:
    """The page."""
    values = {k: v for part in config.PRESETS["paper"] for k, v in dataclasses.asdict(part).items()}
    rows = [
        f"| `{name}` | {flag_texts.as_written(values[name]) or 'none'} | {source} |"
        for name, source in config.sources().items()
    ]
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    atomic.write_text(Path(__file__).with_name("settings.md"), settings())
