# SPDX-License-Identifier: Apache-2.0
"""`apvfio.model.json_text` beside `json`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apvfio.model import json_text

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(value=VALUES, indent=st.sampled_from([0, 1, 2]))
def test_a_value_is_written_as_json_writes_it_and_read_again(value: object, indent: int) -> None:
    text = json_text.dumps(value, indent=indent)
    assert text == json.dumps(value, indent=indent or None)
    assert json_text.loads(f" \n{text}\r\n\t") == value


CUT = st.builds(lambda value, at: json.dumps(value)[:at], VALUES, st.integers(0, 40))


@given(
    text=st.text()
    | CUT
    | st.sampled_from(["NaN", "-Infinity", "[1] 2", "\ufeff1", "", '"\n"', "01", "1.", "[1,]"])
)
def test_what_json_refuses_is_refused(text: str) -> None:
    try:
        value = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError, match=r"."):
            json_text.loads(text)
    else:
        assert repr(json_text.loads(text)) == repr(value)


class OfAPythonToCome:
    """The parts of `json` in C, when they want to be told more, as 3.15 did with ``array_hook``."""

    encode_basestring_ascii = staticmethod(json.encoder.encode_basestring_ascii)

    def make_scanner(self, context: object) -> object:
        return context.hook_of_3_20  # type: ignore[attr-defined]

    def make_encoder(self, *_nine: object) -> object:
        raise TypeError("make_encoder() takes 10 arguments")


@pytest.mark.parametrize("parts", [None, OfAPythonToCome()], ids=["none", "others"])
def test_without_the_parts_in_c_json_does_it(
    monkeypatch: pytest.MonkeyPatch, parts: OfAPythonToCome | None
) -> None:
    monkeypatch.setattr(json_text, "fast", parts)
    assert json_text.loads('{"a": [1]}') == {"a": [1]}
    assert json_text.dumps({"a": [1]}, indent=1) == json.dumps({"a": [1]}, indent=1)


@pytest.mark.parametrize("text", ["{,", "[1", '"', "nul", "", "1 2", '{"a" 1}', '"\x01"'])
def test_in_a_process_that_has_no_json_the_error_is_the_same(text: str) -> None:
    program = "import sys; from apvfio.model.json_text import loads; loads(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", program, text], capture_output=True, text=True, timeout=60, check=False
    )
    with pytest.raises(json.JSONDecodeError) as refused:
        json.loads(text)
    assert done.stderr.splitlines()[-1] == f"json.decoder.JSONDecodeError: {refused.value}"
