"""A server whose pauses are known is measured over the OpenAI protocol; others are refused with reasons."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner

from hwprof.cli import cli
from hwprof.errors import InputError, WorkError
from hwprof.measure.server.client import address_of, first_model, streamed
from hwprof.measure.server.sweep import prompt_of

FIRST_S, EACH_S = 0.03, 0.01


class Handler(BaseHTTPRequestHandler):
    """Streams so many words, the first after ``FIRST_S``, each further one after ``EACH_S``."""

    status = 200
    strict = False

    def do_GET(self):
        self._send(json.dumps({"data": [{"id": "made-up"}]}).encode())

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append(asked)
        if self.strict and "ignore_eos" in asked:
            self.send_response(422)
            self.end_headers()
            self.wfile.write(b"unexpected field ignore_eos")
            return
        if self.status != 200:
            self.send_response(self.status)
            self.end_headers()
            self.wfile.write(b"too many")
            return
        self.send_response(200)
        self.end_headers()
        chat = self.path.endswith("chat/completions")
        self._event({"choices": [{"delta": {"role": "assistant"}}]})
        time.sleep(FIRST_S)
        for number in range(asked["max_tokens"]):
            if number:
                time.sleep(EACH_S)
            text = f" w{number}"
            self._event({"choices": [{"delta": {"content": text}} if chat else {"text": text}]})
        usage = {"prompt_tokens": 7, "completion_tokens": asked["max_tokens"]}
        self._event({"choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, event):
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        self.wfile.flush()

    def _send(self, body):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def server(status=200, *, strict=False):
    handler = type("Own", (Handler,), {"seen": [], "status": status, "strict": strict})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{found.server_port}", handler
        finally:
            found.shutdown()
            thread.join()


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_times_are_those_of_the_stream(endpoint):
    with server() as (url, handler):
        address = address_of(url + "/v1", remote=False)
        answer = streamed(address, endpoint, first_model(address, timeout_s=10), "hello", 6, timeout_s=10)
    assert answer.ttft_s >= FIRST_S
    assert answer.ttft_s + 5 * answer.tpot_s >= FIRST_S + 5 * EACH_S  # on a busy machine the first comes late, too
    assert (answer.tokens, answer.prompt_tokens) == (6, 7)
    (asked,) = handler.seen
    assert asked["model"] == "made-up"
    assert (asked["prompt"] if endpoint == "completions" else asked["messages"][0]["content"]) == "hello"


def test_the_command_measures_every_number_of_users_and_predicts_beside():
    words = "--users 1,3 --rounds 2 --new-tokens 5 --quiet --model tiny --hardware h100-sxm --format json"
    with server() as (url, handler):
        result = CliRunner().invoke(cli, ["bench-server", url, *words.split()])
    assert result.exit_code == 0
    rows = json.loads(result.output)["rows"]
    assert [(row["users"], row["requests"], row["failed"]) for row in rows] == [(1, 2, 0), (3, 6, 0)]
    for row in rows:
        assert row["ttft_s"]["mean"] >= FIRST_S
        assert row["ttft_s"]["mean"] + 4 * row["tpot_s"]["mean"] >= FIRST_S + 4 * EACH_S
        assert (row["prompt_tokens"], row["new_tokens"]) == (7, 5)
        low, high = row["predicted"]["tpot_interval_s"]
        assert low < row["predicted"]["tpot_s"] < high
    assert len({json.dumps(asked["messages"]) for asked in handler.seen}) == 9  # no prompt twice, the first one warms


def test_a_server_of_the_bare_protocol_is_asked_without_extensions():
    with server(strict=True) as (url, handler):
        result = CliRunner().invoke(cli, ["bench-server", url, "--users", "1", "--rounds", "2", "--new-tokens", "2"])
    assert result.exit_code == 0
    assert ["ignore_eos" in asked for asked in handler.seen] == [True, False, False, False]


def test_prompts_share_no_beginning():
    first, second = prompt_of(50, 1), prompt_of(50, 2)
    assert len(first.split()) == len(second.split()) == 50
    assert first.split()[0] != second.split()[0]


def test_another_machine_is_not_asked_unless_told():
    with pytest.raises(InputError, match="another machine"):
        address_of("http://192.0.2.1:8000", remote=False)
    assert address_of("http://192.0.2.1:8000", remote=True).host == "192.0.2.1"
    with pytest.raises(InputError):
        address_of("ftp://127.0.0.1", remote=False)


def test_a_server_that_refuses_or_is_not_there_says_so():
    with server(status=429) as (url, _):
        address = address_of(url, remote=False)
        with pytest.raises(WorkError, match="429"):
            streamed(address, "chat", "m", "hello", 2, timeout_s=10)
    with pytest.raises(WorkError, match="no answer"):
        first_model(address, timeout_s=2)
