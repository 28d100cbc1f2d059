"""Does the live page show the newest values and the curve of the steps, and nothing that a name smuggles in?"""

from hwprof.loggers.page import LivePage


def test_the_page_has_the_newest_values_and_a_point_for_each_entry(tmp_path):
    path = tmp_path / "live.html"
    page = LivePage(path, reload_s=3)
    for step, step_s in ((10, 0.5), (20, 1.0), (30, 0.25)):
        values = {"hwprof/step_time_s": step_s, "hwprof/slow_steps/<b>": 2.0, "hwprof/tokens_per_s": 38513.0}
        values |= {"hwprof/memory_bytes": 12.3e9, "hwprof/mfu": 0.312, "hwprof/bound_share/memory": 0.5}
        page.log(values | {"hwprof/memory_growth_bytes_per_step": 2e6}, step)
    page.close()
    text = path.read_text()
    assert '<meta http-equiv="refresh" content="3">' in text
    assert "<h1>Step 30</h1>" in text
    assert 'points="0.0,80.0 400.0,0.0 800.0,120.0"' in text
    assert "<td>slow steps: &lt;b&gt;</td><td>2</td>" in text
    assert "<td>step time</td><td>250 ms</td>" in text
    assert "<td>tokens</td><td>38,513 a second</td>" in text
    assert "<td>memory</td><td>12.3 GB</td>" in text
    assert "<td>memory growth</td><td>2 MB a step</td>" in text
    assert "<td>MFU</td><td>31.2 %</td>" in text
    assert "<td>bound: memory</td><td>50 %</td>" in text
    assert "Step time of the last 3 entries, 250 ms to 1 s; the curve goes from 0 to 1 s" in text
