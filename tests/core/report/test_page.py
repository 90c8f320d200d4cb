from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest
from PIL import Image

from character_curator.dataset import export
from character_curator.imageset import ImageSet
from character_curator.rejection_reasons import Rejection
from character_curator.report import contact_sheet, contact_sheets, render
from character_curator.selection import Quota, select
from tests.support.images import make_images


class Page(HTMLParser):
    """Reads a page strictly: every element closes, and links and texts are collected."""

    VOID = frozenset(["meta", "img", "br", "input"])

    def __init__(self, text):
        super().__init__()
        self.open, self.references, self.words, self.rows = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        self.references += [(tag, v) for k, v in attributes if k in ("src", "href")]

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and self.open[-1] not in ("style", "script"):
            self.words.append(data.strip())
            if self.rows and "tr" in self.open:
                self.rows[-1].append(data.strip())


@pytest.fixture(scope="module")
def selection(tmp_path_factory):
    images = make_images(tmp_path_factory.mktemp("raw"), 48, selected=None)
    return select(images, 12, [Quota("seed", exact=3), Quota("cluster", minimum=2, maximum=4)])


@pytest.fixture(scope="module")
def text(selection):
    return render(
        selection.images,
        name="<b>Gentle</b> & freckled",
        trigger="char1",
        selection=selection,
        recipe={"quality": {"minimum": 0.74}},
    )


def test_it_needs_nothing_outside(text):
    page = Page(text)
    assert page.references
    for tag, target in page.references:
        assert target.startswith("data:image/jpeg;base64," if tag == "img" else "#i")
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style
    assert not re.search(r"https?://", text)


def test_texts_are_escaped(text):
    assert "<b>Gentle" not in text
    assert "<b>Gentle</b> & freckled" in Page(text).words


def test_every_candidate_is_listed_with_its_outcome(text, selection):
    rows = {row[0]: row[1:] for row in Page(text).rows if row}
    for image in selection.images.table.iter_rows(named=True):
        outcome = rows[image["path"]]
        if image["selected"]:
            assert outcome[0] == "selected"
        else:
            assert outcome[0] == image["rejection"].replace("_", " ")
            assert image["rejection_detail"] in outcome


def test_counts_add_up(text, selection):
    words = Page(text).words
    steps = words[words.index("From candidates to dataset") + 1 : words.index("Quality")]
    counts = [
        int(steps[steps.index(label) + 1]) for label in ("Candidates", "Readable", "Selected")
    ]
    images = selection.images
    unreadable = images.rejections()["unreadable"]
    assert counts == [len(images), len(images) - unreadable, 12]
    lost = sum(int(n) for word in steps for n in re.findall(r"− (\d+)", word))
    assert lost == len(images) - 12
    rows = [row for row in Page(text).rows if row]
    for value, count in selection.selected.table["seed"].value_counts().iter_rows():
        assert [str(value), str(count), "3", "✓", "12"] in rows


def test_images_are_shown_and_link_to_the_files(selection, tmp_path):
    done = export(selection.images, tmp_path / "out", name="x", selection=selection)
    page = Page((done.folder / "report.html").read_text(encoding="utf-8"))
    links = [t for tag, t in page.references if tag == "a" and not t.startswith("#i")]
    assert sorted(links) == sorted(p.name for p in done.folder.glob("*.png"))
    embedded = [target for tag, target in page.references if tag == "img"]
    first = Image.open(io.BytesIO(base64.b64decode(embedded[0].split(",")[1])))
    assert first.format == "JPEG"
    best = selection.selected.table.sort("cluster", "quality", descending=[False, True])["path"][0]
    with Image.open(selection.images.root / best) as source:
        difference = np.abs(np.asarray(first, int) - np.asarray(source, int))
    assert difference.mean() < 8


def test_its_size_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("character_curator.report.candidates.MAX_ROWS", 500)
    few = make_images(tmp_path, 12, selected=None)
    many = ImageSet(pl.concat([few.table] * 70), few.root)
    page = Page(render(many, name="many"))
    shown = sum(tag == "img" for tag, _ in page.references)
    assert shown == 500
    assert sum(row[0].endswith(".png") for row in page.rows if row) == 500
    assert any("840" in word for word in page.words)


def test_of_photographs_both_qualities_and_the_similarity_are_listed(tmp_path):
    images = make_images(tmp_path, 6, selected=None)
    plain = Page(render(images, name="drawn")).words
    assert "Seed document quality" not in plain
    measured = images.with_columns(
        pl.lit(0.512).alias("seed_document_quality"),
        pl.lit(0.913).alias("face_confidence"),
        pl.lit(0.456).alias("identity_similarity"),
    ).reject(np.arange(6) == 0, Rejection.LOW_QUALITY, "the face is blurred")
    page = Page(render(measured, name="photographs"))
    for heading in ("Seed document quality", "Face confidence", "Identity similarity"):
        assert heading in page.words
    (row,) = [row for row in page.rows if row and row[0] == images.table["path"][1]]
    assert {"0.512", "0.913", "0.456"} <= set(row)
    assert any(word.startswith("The face is blurred, noisy") for word in page.words)


def test_a_folder_before_any_stage_has_a_report(tmp_path):
    make_images(tmp_path, 6)
    (tmp_path / "broken.png").write_bytes(b"no image")
    images = ImageSet.from_folder(tmp_path)
    words = Page(render(images, name="raw")).words
    assert "No image has a quality score." in words
    assert "Unreadable" in words


@pytest.mark.parametrize(("clusters", "told"), [([3] * 6, "1|cluster"), ([3, 4] * 3, "2|clusters")])
def test_its_cards_count_in_the_singular_and_plural(tmp_path, clusters, told):
    images = make_images(tmp_path, 6).with_columns(
        pl.Series("cluster", clusters, dtype=pl.Int32), pl.lit(True).alias("selected")
    )
    assert f"|{told}|" in "|".join(Page(render(images, name="x")).words)


def test_a_missed_quota_is_marked(tmp_path):
    images = make_images(tmp_path, 24, selected=None)
    selection = select(images, 15, [Quota("seed", exact={966983: 10})])
    assert not selection.met
    text = render(selection.images, name="x", selection=selection)
    assert 'class="missed"' in text
    assert any("relaxed" in word for word in Page(text).words)


def test_a_browser_shows_it(selection, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if not browser:
        pytest.skip("no Chromium on this machine")
    done = export(selection.images, tmp_path / "out", name="x", selection=selection)
    shot = tmp_path / "shot.png"
    page = tmp_path / "page.html"
    # The search field is used as a person would; the page's title tells what it found.
    script = """<script>
    field.value = "low quality"; field.dispatchEvent(new Event("input"));
    document.querySelectorAll("details").forEach((d) => d.open = true);
    const broken = [...document.images].filter((i) => !i.complete || !i.naturalWidth).length;
    document.title = document.getElementById("found").textContent + ", " + broken + " broken, " +
      (document.documentElement.scrollWidth > innerWidth ? "too wide" : "fits");
    </script></body>"""
    text = (done.folder / "report.html").read_text(encoding="utf-8").replace("</body>", script)
    page.write_text(text.replace(' loading="lazy"', ""), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'u'}"]
    options += ["--window-size=700,1000", "--virtual-time-budget=3000"]
    subprocess.run(
        [browser, *options, f"--screenshot={shot}", page.as_uri()], check=True, capture_output=True
    )
    with Image.open(shot) as image:
        assert image.size == (700, 1000)
        assert len(image.convert("RGB").getcolors(1_000_000)) > 50
    dom = subprocess.run(
        [browser, *options, "--dump-dom", page.as_uri()], check=True, capture_output=True, text=True
    ).stdout
    expected = selection.images.rejections()["low_quality"]
    assert f"<title>{expected} found, 0 broken, fits</title>" in dom


# --- contact sheets -----------------------------------------------------------------------------


def test_a_contact_sheet_has_each_image_in_its_place(tmp_path):
    images = make_images(tmp_path, 5, selected=None)
    paths = images.paths()
    sheet = contact_sheet(
        [("one", [(p, p.name) for p in paths[:3]]), ("two", [(p, "") for p in paths[3:]])],
        columns=2,
        side=48,
    )
    # Written out by hand from the documented geometry: margin 20, heading 40, cell 48 + 16 + 6.
    corners = [(20, 60), (74, 60), (20, 130), (20, 240), (74, 240)]
    assert sheet.size == (2 * 20 + 2 * 48 + 6, 2 * 20 + 2 * 40 + 3 * 70)
    for path, (x, y) in zip(paths, corners, strict=True):
        with Image.open(path) as source:
            assert np.array_equal(np.asarray(sheet)[y : y + 48, x : x + 48], np.asarray(source))


@pytest.mark.parametrize("by", ["selected", "rejected", "seed", "cluster"])
def test_contact_sheets_of_a_set(selection, by):
    sheet = contact_sheets(selection.images, by=by, side=32)
    assert sheet.mode == "RGB"
    assert len(sheet.getcolors(10_000_000)) > 50


def test_contact_sheets_are_limited_and_survive_bad_files(tmp_path):
    images = make_images(tmp_path, 24, selected=None)
    for path in images.paths():
        path.write_bytes(b"gone")
    small = contact_sheets(images, by="kind", limit=4, columns=2, side=32)
    assert small.height < contact_sheets(images, by="kind", columns=2, side=32).height
