"""What the engine's answers that are no become: something to try again, or a bug of ours."""
import pytest
import requests
from docker.errors import APIError, NotFound

from keel import engine
from keel.stop import UNAVAILABLE, Stop


def said(code: int, words: str) -> APIError:
    answer = requests.Response()
    answer.status_code = code
    return (NotFound if code == 404 else APIError)(f"{code} error", response=answer, explanation=words)


@pytest.mark.parametrize(("code", "words"), [
    (500, "cannot stop container: x: tried to kill container, but did not receive an exit event"),
    (409, "Container x is restarting, wait until the container is running"),
    (404, "No such container: x")])
def test_what_the_engine_cannot_do_just_now_may_be_tried_again(code: int, words: str) -> None:
    with pytest.raises(Stop, match=f"^the engine: {words}$") as stop, engine.reachable():
        raise said(code, words)
    assert stop.value.code == UNAVAILABLE


def test_what_we_asked_wrongly_is_a_bug() -> None:
    with pytest.raises(APIError), engine.reachable():
        raise said(400, "invalid filter")
