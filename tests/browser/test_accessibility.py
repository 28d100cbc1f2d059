"""Does axe-core find anything serious? Its rules of WCAG 2.2 A and AA and its best practices, in both themes."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_names import PAGES

AXE = (Path(__file__).parent / "axe" / "axe.min.js").read_text(encoding="utf-8")
CHECK = """
const done = arguments[0];
axe.run(document, {resultTypes: ["violations"]}).then((found) => done(found.violations));
"""


def violations(screen):
    screen.run(AXE)
    found = screen.driver.execute_async_script(CHECK)
    return [f"{one['impact']} {one['id']}: {[node['html'][:150] for node in one['nodes'][:3]]}" for one in found]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing(screen, pages, name, theme):
    screen.show(getattr(pages, name), theme=theme)
    assert violations(screen) == []


def test_axe_would_find_what_is_wrong(screen, pages):
    screen.show(pages.plan)
    screen.run(
        "document.querySelector('.sentence').style.color = '#bbbbbb'; document.getElementById('theme').textContent = ''"
    )
    found = "\n".join(violations(screen))
    assert "serious color-contrast" in found
    assert "critical button-name" in found
