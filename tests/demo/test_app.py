"""The page's routes: who may talk to them, what they refuse, and that one picture is drawn at a time. Nothing is drawn here."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from hecompile.demo.app import PAGE, create_app
from hecompile.demo.guard import own_names
from hecompile.demo.wishes import LONGEST_BODY, LONGEST_PROMPT, Wish
from hecompile.errors import ProtocolError

SITE = "http://127.0.0.1:8123"
WISH = {"prompt": "a large red circle", "policy": "strict", "steps": 4, "guidance": 2.0, "seed": 0}
FOREIGN = "http://elsewhere.example"


class Pretended:
    """Stands where the studio is: notes the wishes, and does what a test says."""

    def __init__(self) -> None:
        self.wishes: list[Wish] = []
        self.asked: list[str] = []
        self.problem: Exception | None = None
        self.started, self.may_end = threading.Event(), threading.Event()
        self.may_end.set()
        self.ended = threading.Event()

    def draw(self, wish: Wish, say: Any, gone: threading.Event) -> None:
        self.wishes.append(wish)
        say({"event": "step", "step": 1})
        self.started.set()
        while not self.may_end.wait(0.01):
            if gone.is_set():
                self.ended.set()
                return
        if self.problem is not None:
            raise self.problem
        say({"event": "finished"})

    def show_others(self, drawing: str, say: Any, gone: threading.Event) -> None:
        self.asked.append(drawing)
        say({"event": "view"})


@pytest.fixture
def studio() -> Pretended:
    return Pretended()


@pytest.fixture
def app(studio: Pretended) -> Iterator[FastAPI]:
    with ThreadPoolExecutor(1) as worker:
        yield create_app(studio, worker, own_names(8123), {"policies": ["strict"]})
        studio.may_end.set()


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return TestClient(app, base_url=SITE, headers={"Origin": SITE})


def drawn(client: TestClient, wish: object = WISH, **options: Any) -> Any:
    return client.post("/draw", json=wish, **options)


def events(answer: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.mark.parametrize("path", ["/", "/style.css", "/page.js", "/about"])
def test_the_page_is_strict_about_what_it_loads(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("name", ["index.html", "style.css", "page.js"])
def test_the_page_names_no_other_host(name: str) -> None:
    assert "//" not in (PAGE / name).read_text().replace("// The page's behaviour", "").replace("// of the last", "")


@pytest.mark.parametrize(
    "host", ["elsewhere.example", "elsewhere.example:8123", "127.0.0.1:8124", "127.0.0.1", "localhost.example:8123"]
)
@pytest.mark.parametrize("path", ["/", "/about"])
def test_a_foreign_name_is_refused(client: TestClient, host: str, path: str) -> None:
    answer = client.get(path, headers={"Host": host})
    assert answer.status_code == 421
    assert "open the address that the command printed" in answer.json()["error"]


@pytest.mark.parametrize("host", ["127.0.0.1:8123", "localhost:8123", "LOCALHOST:8123"])
def test_the_pages_own_names_are_known(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": FOREIGN}, {"Origin": "null"}, {"Origin": ""}, {"Origin": "https://127.0.0.1:8123"}, {"Origin": "http://127.0.0.1:80"},
        {"Origin": SITE, "Sec-Fetch-Site": "cross-site"}, {"Origin": SITE, "Sec-Fetch-Site": "same-site"},
    ],
)  # fmt: skip
def test_other_sites_draw_nothing(client: TestClient, studio: Pretended, headers: dict[str, str]) -> None:
    answer = drawn(client, headers=headers)
    assert answer.status_code == 403
    assert studio.wishes == []


def test_a_request_without_an_origin_draws_nothing(app: FastAPI, studio: Pretended) -> None:
    answer = drawn(TestClient(app, base_url=SITE))
    assert answer.status_code == 403
    assert studio.wishes == []


def test_a_wish_is_drawn_and_told_line_by_line(client: TestClient, studio: Pretended) -> None:
    answer = drawn(client, {**WISH, "prompt": "  a large\nred circle "})
    assert [record["event"] for record in events(answer)] == ["step", "finished"]
    assert studio.wishes == [Wish("a large red circle", "strict", 4, 2.0, 0)]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"prompt": "x" * (LONGEST_PROMPT + 1)}, f"1 to {LONGEST_PROMPT} characters"),
        ({"prompt": ""}, "type a caption first"),
        ({"prompt": " \n "}, "type a caption first"),
        ({"prompt": "a\u202ecircle"}, "cannot be shown"),
        ({"prompt": 7}, "the caption is a text"),
        ({"steps": 0}, "steps is a whole number from 1 to 25"),
        ({"steps": 26}, "steps is a whole number"),
        ({"steps": 2.5}, "steps is a whole number"),
        ({"steps": True}, "steps is a whole number"),
        ({"guidance": 0.5}, "guidance is a number from 1 to 10"),
        ({"guidance": "2"}, "guidance is a number"),
        ({"seed": -1}, "the seed is a whole number"),
        ({"seed": 2**32}, "the seed is a whole number"),
        ({"seed": None}, "the seed is a whole number"),
        ({"policy": "he-diffusion"}, "the policy is strict or min-distortion"),
        ({"policy": "min-distortion"}, "a seed cannot be chosen"),
        ({"more": 1}, "the field 'more' is not known"),
        ({"steps": 0, "guidance": 0}, "; guidance is a number"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_words(
    client: TestClient, studio: Pretended, change: dict[str, object], text: str
) -> None:
    answer = drawn(client, {**WISH, **change})
    assert answer.status_code == 422
    assert text in answer.json()["error"]
    assert studio.wishes == []


def test_a_refusal_does_not_quote_the_caption(client: TestClient) -> None:
    assert "secret" not in drawn(client, {**WISH, "prompt": "secret" * 50, "steps": 0}).text


def test_under_min_distortion_no_seed_is_needed(client: TestClient, studio: Pretended) -> None:
    wish = {name: value for name, value in WISH.items() if name != "seed"} | {"policy": "min-distortion"}
    assert drawn(client, wish).status_code == 200
    assert studio.wishes[0].seed is None


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b'"a"', b"\xff", b"{}" + b" " * 10])
def test_what_is_no_wish_is_refused(client: TestClient, studio: Pretended, body: bytes) -> None:
    answer = client.post("/draw", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]
    assert studio.wishes == []


def test_a_long_body_is_refused(client: TestClient) -> None:
    body = json.dumps(WISH).encode() + b" " * LONGEST_BODY
    answer = client.post("/draw", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_what_a_form_of_another_site_could_send_is_refused(client: TestClient, kind: str) -> None:
    answer = client.post("/draw", content=json.dumps(WISH).encode(), headers={"Content-Type": kind})
    assert answer.status_code == 415


@pytest.mark.parametrize("document", [{}, {"drawing": "x" * 32}, {"drawing": "a" * 31}, {"drawing": "a" * 32, "more": 1}])
def test_more_is_told_only_of_a_drawing_that_is_named(client: TestClient, studio: Pretended, document: object) -> None:
    assert client.post("/others", json=document).status_code == 400
    assert studio.asked == []


def test_more_is_told_of_a_drawing(client: TestClient, studio: Pretended) -> None:
    answer = client.post("/others", json={"drawing": "0123456789abcdef" * 2})
    assert [record["event"] for record in events(answer)] == ["view"]
    assert studio.asked == ["0123456789abcdef" * 2]


def test_there_is_nothing_else(client: TestClient) -> None:
    assert client.get("/docs").status_code == 404
    assert client.get("/draw").status_code == 405


def test_one_picture_is_drawn_at_a_time(client: TestClient, studio: Pretended) -> None:
    studio.may_end.clear()
    with ThreadPoolExecutor(1) as other:
        first = other.submit(drawn, client)
        assert studio.started.wait(10)
        second = drawn(client)
        studio.may_end.set()
        assert [record["event"] for record in events(first.result())] == ["step", "finished"]
    assert second.status_code == 409
    assert "another picture is being drawn" in second.json()["error"]
    assert drawn(client).status_code == 200


def test_an_error_is_told_in_words_and_the_next_picture_is_drawn(client: TestClient, studio: Pretended) -> None:
    studio.problem = ProtocolError("error: the server is gone\n  help: start it")
    assert events(drawn(client))[-1] == {"event": "failed", "message": "the server is gone (help: start it)"}
    studio.problem = None
    assert events(drawn(client))[-1] == {"event": "finished"}


def test_an_unknown_error_tells_no_secret(client: TestClient, studio: Pretended, caplog: pytest.LogCaptureFixture) -> None:
    studio.problem = RuntimeError("latent 0.123")
    with caplog.at_level(logging.DEBUG):
        last = events(drawn(client))[-1]
    assert "RuntimeError" in last["message"]
    assert "0.123" not in last["message"] + caplog.text
    assert "studio.draw" in caplog.text or "in draw" in caplog.text  # where it happened is told


def test_captions_are_not_logged(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        drawn(client, {**WISH, "prompt": "a small purple cross"})
    assert "purple" not in caplog.text


def test_drawing_ends_when_the_reader_leaves(app: FastAPI, studio: Pretended) -> None:
    studio.may_end.clear()
    body = json.dumps(WISH).encode()
    headers = {"host": "127.0.0.1:8123", "origin": SITE, "content-type": "application/json"}
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "POST", "path": "/draw",
        "raw_path": b"/draw", "root_path": "", "scheme": "http", "query_string": b"", "server": ("127.0.0.1", 8123),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> dict[str, Any]:
        message = next(messages, None)
        if message is not None:
            return message
        await asyncio.to_thread(studio.started.wait, 10)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        return None

    asyncio.run(app(scope, receive, send))
    assert studio.ended.wait(10)
