"""Long arrays in JSON, read and written without Python objects, are what Python's parser makes."""

import base64
import json

import numpy as np
import pytest

from tf_hypoperfusion.serving.server import json_arrays


@pytest.mark.parametrize("shape", [(3000,), (1, 3000), (40, 5, 30), (3000, 1, 1), (2, 70_000)])
@pytest.mark.parametrize("indent", [None, 1])
def test_arrays_are_read_and_written_as_python_does(shape, indent):
    array = np.random.default_rng(1).normal(size=shape)
    array.flat[:2] = [np.nan, -np.inf]
    body = json.dumps({"[": "]", "x": array.tolist(), "y": [[1]]}, indent=indent).encode()
    read = json_arrays.parse(body)
    assert (read["["], read["y"], read["x"].shape) == ("]", [[1]], shape)
    np.testing.assert_array_equal(read["x"].array("float64"), array)
    written = "".join(json_arrays.texts({"x": [array, {"b64": "é"}]}))
    assert json.dumps(json.loads(written)) == json.dumps({"x": [array.tolist(), {"b64": "é"}]})


@pytest.mark.parametrize("wrong", ["1 1", "01", "+1", "", "1[", "-", "1.e5", "ant"])
def test_what_is_no_number_is_refused_in_long_arrays_too(wrong):
    body = b"[" + b"1.5," * 3000 + wrong.encode() + b"]"
    with pytest.raises(ValueError, match="line 1 column|no rectangle"):
        json_arrays.parse(body).array("float32")


def test_long_texts_are_read_where_they_stand():
    content = bytes(range(256)) * 40 + b"x"
    text = base64.b64encode(content).decode()
    for each in (text, text.rstrip("="), text[:100] + "\\n " + text[100:]):
        read = json_arrays.parse(f'{{"b64": "{each}"}} [1'.encode())["b64"]
        said = read.encode() if isinstance(read, str) else None
        assert (json_arrays.unpacked(said) if said else read.unpacked()) == content
