"""``hwprof view DIR --serve``: lists, shows and compares runs below a folder; gives nothing else, changes nothing."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from hwprof.cli import serve
from hwprof.cli.serve import server_of
from hwprof.cli.view import command
from hwprof.errors import InputError
from hwprof.report.files.run import read_run, write_record

EXAMPLE = Path(__file__).resolve().parents[2] / "reports" / "example"
EVIL = "<script>alert(1)</script>&'\"%2e%2e"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs at the top and below, without a step, with a hostile name, one that can't be read; and a secret."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.json").write_text("secret")
    root = outside / "runs"
    shutil.copytree(EXAMPLE, root / "one")
    (root / "one" / "report.html").write_text("<script>stolen()</script>")
    (root / "one" / "link.json").symlink_to(outside / "secret.json")
    (root / "one" / "notes.txt").write_text("private")
    (root / "elsewhere").symlink_to(outside)
    record = read_run(EXAMPLE)
    slower = record.step.model_copy(update={"median_s": 2 * record.step.median_s, "samples_s": (9.0, 9.1, 9.2, 9.1)})
    write_record(record.model_copy(update={"step": slower}), root / "deep" / "er" / "two")
    write_record(record.model_copy(update={"step": None, "status": "interrupted"}), root / "no-step")
    named = record.model_copy(update={"model": record.model.model_copy(update={"name": EVIL})})
    write_record(named, root / EVIL)
    write_record(record, root)
    (root / "broken").mkdir()
    (root / "broken" / "run.json").write_text("{")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "run.json").write_text("{")
    return root


@pytest.fixture(scope="module")
def port(folder):
    with server_of(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def ask(port):
    """Sends the path as it stands, which browsers and urllib would tidy up."""

    def ask(path, *, method="GET", host=None):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request(method, path, headers={"Host": host or f"127.0.0.1:{port}"})
        reply = connection.getresponse()
        body = reply.read()
        connection.close()
        return reply.status, reply.headers, body.decode("utf-8", "replace")

    return ask


class _Page(HTMLParser):
    """Links, radio values and the number of scripts of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.values, self.scripts = [], {"a": [], "b": []}, 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.scripts += tag == "script"
        if tag == "a":
            self.links.append(attributes["href"])
        if tag == "input" and attributes.get("type") == "radio":
            self.values[attributes["name"]].append(attributes["value"])


def test_lists_all_runs_and_what_cannot_be_read(ask):
    status, headers, text = ask("/")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    page = _Page(text)
    assert sorted(page.values["a"]) == sorted([".", "one", "deep/er/two", "no-step", EVIL])
    assert page.values["a"] == page.values["b"]
    assert "is no JSON" in text
    assert "hidden" not in "".join(page.links)


def test_every_link_of_the_list_leads_somewhere(ask):
    links = [link for link in _Page(ask("/")[2]).links if link.startswith("/")]
    assert len([link for link in links if link.endswith("report.html")]) == 5
    assert {ask(link)[0] for link in links} == {200}


def test_names_from_outside_are_text(ask):
    _, _, text = ask("/")
    assert "<script>alert" not in text
    assert _Page(text).scripts == 2  # the page's own data and code


def test_a_report_is_made_from_the_record_and_not_read(ask):
    status, headers, text = ask("/runs/one/report.html")
    assert status == 200
    assert "stolen()" not in text
    assert "Roofline" in text
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_browsers_that_ask_for_an_icon_get_none_and_no_error(ask):
    status, _, text = ask("/favicon.ico")
    assert (status, text) == (204, "")


def test_files_are_those_of_the_folder_with_their_types(ask, folder):
    status, headers, text = ask("/runs/one/phases.csv")
    assert (status, headers["Content-Type"]) == (200, "text/csv")
    assert text == (folder / "one" / "phases.csv").read_bytes().decode()


def test_comparison_is_what_diff_says(ask):
    status, _, text = ask("/compare?a=one&b=deep%2Fer%2Ftwo")
    assert status == 200
    assert "B is slower than A, beyond noise" in text
    assert {"/runs/one/report.html", "/runs/deep/er/two/report.html"} <= set(_Page(text).links)
    assert "B is faster than A, beyond noise" in ask("/compare?a=deep%2Fer%2Ftwo&b=one")[2]


def test_comparison_with_a_run_without_steps_says_so(ask):
    status, headers, text = ask("/compare?a=one&b=no-step")
    assert status == 422
    assert headers["Content-Type"].startswith("text/plain")
    assert "no-step has no step time" in text


@pytest.mark.parametrize(
    "path",
    [
        "/runs/../../secret.json",
        "/runs/one/../../../secret.json",
        "/runs/%2e%2e/secret.json",
        "/runs/one/%2e%2e%2f%2e%2e%2f%2e%2e%2fsecret.json",
        "/runs/one/..%5c..%5csecret.json",
        "/runs/one%00/run.json",
        "/runs/elsewhere/secret.json",
        "/runs/elsewhere/runs/one/run.json",
        "/runs/one/link.json",
        "/runs/one/notes.txt",
        "/runs/one/",
        "/runs/one",
        "/runs//one/run.json",
        "/runs/.hidden/run.json",
        "//etc/passwd",
        "/etc/passwd",
        "/../../etc/passwd",
        "/runs//etc/passwd",
        "/compare?a=../one&b=one",
        "/compare?a=one",
        "/compare",
        "http://example.com/secret.json",
        "/runs/broken/run.json",
    ],
)
def test_nothing_else_is_given(ask, path):
    status, _, text = ask(path)
    assert status == 404
    assert "secret" not in text
    assert "root:" not in text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_there_is_no_way_to_write(ask, method):
    assert ask("/", method=method)[0] == 501


def test_head_sends_no_body(ask):
    status, headers, text = ask("/", method="HEAD")
    assert (status, text) == (200, "")
    assert int(headers["Content-Length"]) > 1000


@pytest.mark.parametrize(("host", "status"), [("attacker.example", 403), ("localhost:9999", 200), ("127.0.0.1", 200)])
def test_answers_only_to_its_own_name(ask, host, status):
    assert ask("/", host=host)[0] == status


def test_listens_on_this_machine_only(port):
    with socket.socket() as other:
        other.settimeout(2)
        assert other.connect_ex(("127.0.0.2", port)) != 0  # a server for all addresses would answer here, too


def test_a_changed_record_is_read_again_and_a_removed_one_is_gone(ask, folder):
    record = read_run(EXAMPLE)
    path = write_record(record, folder / "new")
    assert 'value="new"' in ask("/")[2]
    write_record(record.model_copy(update={"status": "failed"}), folder / "new")
    assert ">failed<" in ask("/")[2]
    path.unlink()
    assert 'value="new"' not in ask("/")[2]


def test_no_file_is_changed(ask, folder):
    def state():
        return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}

    before = state()
    for path in ("/", "/runs/one/report.html", "/runs/deep/er/two/report.html", "/compare?a=one&b=one"):
        assert ask(path)[0] == 200
    assert state() == before


def test_an_empty_folder_says_what_to_do(tmp_path):
    from hwprof.report.files.run_list import RunFolder, list_page

    assert "No run.json lies below this folder" in list_page(RunFolder(tmp_path))


def test_command_says_where_it_is_and_ends_quietly(tmp_path):
    line = [sys.executable, "-m", "hwprof", "view", str(tmp_path), "--serve"]
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    ) as process:
        first = process.stdout.readline()
        assert first.startswith("http://127.0.0.1:")
        process.terminate()
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "ended\n")


def test_refuses_what_is_no_folder_and_other_outputs(tmp_path):
    assert isinstance(CliRunner().invoke(command, [str(tmp_path / "none"), "--serve"]).exception, InputError)
    result = CliRunner().invoke(command, [str(tmp_path), "--serve", "--format", "json"])
    assert isinstance(result.exception, InputError)


@pytest.fixture
def raw(port):
    """Sends bytes as they are; what comes back until the server hangs up."""

    def send(request, *, hang_up=False):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            with contextlib.suppress(ConnectionError):
                client.sendall(request)
            if hang_up:
                return b""
            try:
                return b"".join(iter(lambda: client.recv(65536), b""))
            except ConnectionError:  # hung up on before all was sent
                return b""

    return send


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET //[ HTTP/1.0",
        b"GET http://[::1 HTTP/1.0",
        b"GET",
        b"\x16\x03\x01\x02",
        b"GET / HTTP/9.9",
        b"GET /%ff%00 HTTP/1.0",
    ],
)
def test_malformed_requests_are_refused_and_the_next_is_answered(raw, ask, request_line):
    raw(request_line + b"\r\nHost: localhost\r\n\r\n")
    raw(request_line + b"\r\n" + b"X: " + b"y" * 70_000 + b"\r\n" * 2)
    assert ask("/")[0] == 200


def test_clients_that_hang_up_are_no_news(raw, ask, capfd):
    for _ in range(serve.MOST_AT_ONCE // 2):  # more at a time than the server takes would be turned away
        raw(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n", hang_up=True)
    assert ask("/")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_slow_clients_are_so_many_at_most_and_are_hung_up_on(folder, monkeypatch):
    monkeypatch.setattr(serve, "WHOLE_S", 0.2)
    before = threading.active_count()
    with server_of(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        clients = [socket.create_connection(("127.0.0.1", server.server_port), timeout=10) for _ in range(40)]
        ends = [client.recv(100) for client in clients]  # each is turned away at once, or hung up on later
        most = max(threading.active_count() - before - 1, 0)
        for client in clients:
            client.close()
        server.shutdown()
        thread.join()
    assert sum(b"503" in end for end in ends) >= 40 - serve.MOST_AT_ONCE
    assert sum(end == b"" for end in ends) <= serve.MOST_AT_ONCE
    assert most <= serve.MOST_AT_ONCE
