"""An answer that is known is not sent again."""

from collections.abc import Iterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.etag import is_known, tag_of
from tests.unit.web.fleet import FixtureCore, serve


@pytest.fixture(scope="module")
def api() -> Iterator[httpx.Client]:
    with serve(FixtureCore()) as url, httpx.Client(base_url=f"{url}/v1/", trust_env=False) as client:
        yield client


@pytest.mark.parametrize("path", ["paths", "agents", "services", "profiles", "paths/radiologist/pacs"])
def test_what_is_known_is_not_sent_again(api: httpx.Client, path: str) -> None:
    first = api.get(path)
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "no-store"
    with_token = api.get(path, headers={"Authorization": "Bearer pga-x"})
    assert (with_token.headers["cache-control"], with_token.headers["etag"]) == ("private, no-cache", tag)
    again = api.get(path, headers={"If-None-Match": f'"other", {tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    other = api.get(path, headers={"If-None-Match": '"other"'})
    assert (other.status_code, other.content) == (200, first.content)


def test_what_streams_or_is_no_answer_has_no_tag(api: httpx.Client) -> None:
    for path, status in (("export/paths?format=csv", 200), ("nothing", 404)):
        answer = api.get(path, headers={"If-None-Match": "*"})
        assert answer.status_code == status
        assert answer.content
        assert "etag" not in answer.headers


@given(st.binary(), st.lists(st.sampled_from(['"a"', 'W/"b"', "", "x"])))
def test_a_tag_is_known_among_others_and_only_then(body: bytes, others: list[str]) -> None:
    tag = tag_of(body)
    assert not is_known(tag, ", ".join(others))
    assert is_known(tag, ", ".join([*others, tag]))
    assert is_known(tag, tag.removeprefix("W/"))
