"""Does the live page show the newest values and the curve of the steps, and nothing that a name smuggles in?"""

from hwprof.loggers.page import LivePage


def test_the_page_has_the_newest_values_and_a_point_for_each_entry(tmp_path):
    path = tmp_path / "live.html"
    page = LivePage(path, reload_s=3)
    for step, step_s in ((10, 0.5), (20, 1.0), (30, 0.25)):
        page.log({"hwprof/step_time_s": step_s, "hwprof/slow_steps/<b>": 2.0}, step)
    page.close()
    text = path.read_text()
    assert '<meta http-equiv="refresh" content="3">' in text
    assert "<h1>Step 30</h1>" in text
    assert 'points="0.0,80.0 400.0,0.0 800.0,120.0"' in text
    assert "<td>slow_steps/&lt;b&gt;</td><td>2</td>" in text
    assert "Step time of the last 3 entries, 0.25 to 1 s" in text
