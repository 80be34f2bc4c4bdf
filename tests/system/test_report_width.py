"""A page on a telephone: a browser lays it out, and only the pictures scroll."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from balancer.report.charts import build
from balancer.report.page import picture_page, report_page
from tests.unit.ledger_samples import START, asking, whole, write_sample

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")

#: The page in a frame as narrow as a telephone; when it is drawn, how wide it and its pictures are.
FRAME = """<iframe width=400 height=900 style="border:0" srcdoc="{page}"></iframe><p id=found></p><script>
const look = setInterval(() => {{
  const page = document.querySelector("iframe").contentDocument;
  if (!page.body || page.body.dataset.drawn !== "yes") return;
  clearInterval(look);
  const drawn = [...page.querySelectorAll(".picture")].map(one => one.scrollWidth);
  document.getElementById("found").textContent = [page.documentElement.scrollWidth, ...drawn].join(" ");
}}, 50);
</script>"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs a browser: chromium")


@pytest.mark.parametrize("name", ["report", "system_load"])
def test_a_page_is_as_wide_as_the_screen_and_its_pictures_scroll_in_their_boxes(
    tmp_path: Path, name: str
) -> None:
    write_sample(str(tmp_path / "ledger.duckdb"))
    ask = asking(tmp_path / "ledger.duckdb")
    picture = build("system_load", ask, whole(ask), interactive=True)
    assert picture is not None
    page = (report_page(ask, whole(ask), ledger="l", now=START) if name == "report"
            else picture_page(name, picture.spec(), ledger="l", now=START))  # fmt: skip
    framed = tmp_path / "framed.html"
    framed.write_text(FRAME.format(page=html.escape(page)))
    assert BROWSER is not None
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'browser'}",
         "--virtual-time-budget=20000", "--dump-dom", framed.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r"<p id=\"found\">([\d ]+)</p>", done.stdout)
    assert found is not None, done.stderr
    whole_width, *pictures = map(int, found[1].split())
    assert whole_width <= 400
    assert min(pictures) > 400
