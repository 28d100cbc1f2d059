"""Pages of made-up runs and plans, and a browser to look at them."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace
from types import SimpleNamespace

import browser
import kineto
import pytest
from click.testing import CliRunner
from fixed_pictures import FIXED
from page_names import EVIL
from plan_answers import make_answer, option
from records import make_hostile, make_ranks, make_record, make_slower

from hwprof.cli.serve import server_of
from hwprof.cli.trace import command as trace_command
from hwprof.plan.answer.machines import answer_of
from hwprof.report.files.run import write_record
from hwprof.report.html import render_html, render_plan
from hwprof.report.plan.view import build_plan_view
from hwprof.report.run.view import build_view


@pytest.fixture(scope="session")
def record():
    return make_record()


@pytest.fixture(scope="session")
def screen(tmp_path_factory):
    if not (browser.BROWSER and browser.DRIVER):
        pytest.skip("no chromium and chromedriver here: apt-get install chromium chromium-driver")
    driver = browser.open_browser(tmp_path_factory.mktemp("profile"))
    yield browser.Screen(driver)
    driver.quit()


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """Addresses: report, ranks, plan, trace and evil ones as files; list, comparison and served from a server."""
    folder = tmp_path_factory.mktemp("pages")
    record = make_record()
    evil = make_hostile(make_slower(record), EVIL)
    plan = build_plan_view(make_answer())
    texts = {
        "report": render_html(build_view(record)),
        "ranks": render_html(build_view(make_ranks(record))),
        "plan": render_plan(plan),
        "fixed_plan": render_plan(replace(plan, pictures=plan.pictures | FIXED)),
        "evil_report": render_html(build_view(evil)),
        "evil_plan": render_plan(build_plan_view(answer_of([option("h100-sxm", 4, name=EVIL)], "time"))),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    files = {name: (folder / f"{name}.html").as_uri() for name in texts} | {"trace": _trace_page(folder / "trace")}
    runs = folder / "runs"
    write_record(record, runs / "one")
    write_record(make_slower(record), runs / "two")
    write_record(evil, runs / EVIL)
    with _served(runs) as root:
        served = {
            "list": f"{root}/",
            "served": f"{root}/runs/one/report.html",
            "comparison": f"{root}/compare?a=one&b=two",
        }
        yield SimpleNamespace(**files, **served, root=root)


def _trace_page(folder):
    folder.mkdir()
    ranks = kineto.simulate(kineto.Loop(straggler=1, rows=2048, memory=True), 2)
    traces = [str(file.write(folder / f"rank{rank}.json.gz")) for rank, file in enumerate(ranks)]
    result = CliRunner().invoke(trace_command, [*traces, "--output", str(folder)])
    assert result.exit_code == 0, result.output
    return (folder / "trace.html").as_uri()


@contextlib.contextmanager
def _served(folder):
    with server_of(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
