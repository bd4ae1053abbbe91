"""Text from outside can be stored and sent on, whatever JSON can spell."""

import json

from shared.kernel.text import storable


def test_nul_and_lone_surrogates_are_replaced_however_deep_they_stand() -> None:
    hostile = json.loads('{"data": [{"path": "a\\udcff", "x\\u0000": ["\\ud800", 1, null]}]}')
    cleaned = storable(hostile)
    assert cleaned == {"data": [{"path": "a?", "x\ufffd": ["?", 1, None]}]}
    json.dumps(cleaned, ensure_ascii=False).encode()


def test_ordinary_text_stays_as_it_is() -> None:
    assert storable({"a": ["é", "数据", "\U0001f600"]}) == {"a": ["é", "数据", "\U0001f600"]}
