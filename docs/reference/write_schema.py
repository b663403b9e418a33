"""Write ``result.schema.json`` from the types; run it after a change of ``inference/result.py``.

python docs/reference/write_schema.py
"""

from pathlib import Path

from data_tools.runtime import atomic
from tf_hypoperfusion.inference import result

if __name__ == "__main__":
    atomic.write_json(Path(__file__).with_name("result.schema.json"), result.schema())
