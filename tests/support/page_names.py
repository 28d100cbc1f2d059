"""The pages that are looked at in a browser, and a name that would do harm if it were not escaped."""

PAGES = ("report", "ranks", "plan", "trace", "list", "comparison")
CHARTED = ("report", "ranks", "plan", "comparison")
EVIL = "<script>window.stolen=1;<!-- \"'><img src=x onerror=window.stolen=1><b>"
