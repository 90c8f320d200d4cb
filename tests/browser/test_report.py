"""The report as a person uses it: filters, details, the map, decisions; and without scripts."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from PIL import Image

from character_curator.analysis.duplicates import find_duplicates
from character_curator.dataset import export
from character_curator.imageset import ImageSet
from character_curator.selection import Decisions, Quota, select
from tests.support.images import make_images

EVIL = "a\"><img src=x onerror=bad=1> [x] & '.png"
WORDS = "</script><script>window.bad = 1</script> [x] <b>"
QUOTAS = [Quota("seed", exact=3), Quota("cluster", minimum=2, maximum=4)]
RECIPE = {"quality": {"minimum": 0.74}, "faces": {"minimum_confidence": 0.85}}


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    """A selection from images with an evil name, evil words, and a wide one."""
    root = tmp_path_factory.mktemp("raw")
    table = make_images(root, 48, selected=None).table
    (root / table["path"][0]).rename(root / EVIL)
    Image.effect_noise((96, 48), 60).convert("RGB").save(root / table["path"][1])
    first = pl.int_range(pl.len()) == 0
    table = table.with_columns(
        pl.when(first).then(pl.lit(EVIL)).otherwise("path").alias("path"),
        pl.when(first).then(pl.lit(WORDS)).otherwise("caption").alias("caption"),
        pl.lit(0.512).alias("seed_document_quality"),
    )
    numbered = select(ImageSet(table, root), 12, QUOTAS).images.table.with_row_index()
    taken, left = (
        numbered.filter(condition)["index"][:2].to_list()
        for condition in (pl.col("selected"), pl.col("rejection") == "quota")
    )
    pairs = np.sort(np.array([taken, left]).T, axis=1)
    images = find_duplicates(ImageSet(table, root), pairs=pairs)
    return select(images, 12, QUOTAS, conflicts=pairs), pairs


@pytest.fixture(scope="module")
def folder(chosen, tmp_path_factory):
    """The dataset."""
    place = tmp_path_factory.mktemp("set") / "out"
    return export(
        chosen[0].images, place, name=f"the <set> {EVIL}", selection=chosen[0], recipe=RECIPE
    ).folder


@pytest.fixture
def page(chromium, folder, request):
    """The page in a fresh browser; nothing may be said on its console, nor asked of a network."""
    scheme = getattr(request, "param", "light")
    context = chromium.new_context(
        viewport={"width": 1280, "height": 900}, color_scheme=scheme, accept_downloads=True
    )
    opened = context.new_page()
    said, asked = [], []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda asking: asked.append(asking.url))
    opened.goto((folder / "report.html").as_uri())
    yield opened
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert opened.evaluate("window.bad") is None
    context.close()


def shown(page):
    """The paths of the tiles that can be seen, in their order."""
    return page.evaluate("visible().map((item) => item.path)")


def test_it_is_filtered_and_put_in_order(page, chosen):
    table = chosen[0].images.table
    page.select_option("#status", label="selected")
    assert set(shown(page)) == set(table.filter("selected")["path"])
    page.select_option("#order", label="Quality, falling")
    best = table.filter("selected").sort("quality", descending=True)["path"].to_list()
    assert shown(page) == best
    page.select_option("#status", label="any")
    page.select_option("#order", label="as grouped")
    for column, label in (("seed", "966984"), ("scenario_name", "scene 3"), ("cluster", "1 thre")):
        control = "scenario" if column == "scenario_name" else column
        [value] = page.locator(f"#{control} option", has_text=label).all()
        page.select_option(f"#{control}", value.get_attribute("value"))
        wanted = table.filter(
            pl.col(column).cast(pl.String) == (label if column != "cluster" else "1")
        )
        assert set(shown(page)) == set(wanted["path"]), column
        lit = page.locator("#map circle:not(.off)").count()
        assert lit == wanted["embedding"].is_not_null().sum()
        page.select_option(f"#{control}", label="any")
    page.select_option("#reason", label="low quality")
    assert set(shown(page)) == set(table.filter(rejection="low_quality")["path"])
    page.select_option("#reason", label="any")
    page.fill("#word", "[x]")
    assert shown(page) == [EVIL]


@pytest.mark.parametrize("page", ["light", "dark"], indirect=True)
def test_an_image_is_shown_with_its_figures(page, chosen):
    table = chosen[0].images.table
    row = table.with_row_index().filter(rejection="duplicate").row(0, named=True)
    page.evaluate("i => show(items[i])", row["index"])
    text = page.locator("#detail").inner_text()
    assert row["rejection_detail"] in text
    assert "Forced in, it would take the place of" in text
    assert "(exact)" in text
    assert f"{row['quality']:.3f}\tat least 0.74 ✓" in text
    assert "Seed document quality\t0.512" in text
    assert "0.970\tat least 0.85 ✓" in text
    assert "Most alike of the chosen" in text
    assert page.locator("#detail .small").count() >= 4
    page.keyboard.press("ArrowRight")
    assert page.locator("#detail h2").inner_text() != row["path"]
    page.keyboard.press("Escape")
    page.locator("#map circle[data-i='1']").click()
    assert page.locator("#detail h2").inner_text() == table["path"][1]
    size = "e => [e.naturalWidth / e.naturalHeight, getComputedStyle(e).objectFit]"
    assert page.locator("#detail .large img").evaluate(size) == [2, "contain"]
    page.keyboard.press("Escape")
    page.locator("summary", has_text="near-duplicates").click()
    page.wait_for_selector(".group .small img")
    assert page.locator(".group").count() == 2
    assert page.locator(".group").first.inner_text().startswith("Group 1 1 of 2 selected")


def test_decisions_are_made_with_keys_downloaded_and_followed(page, chosen, tmp_path):
    selection, pairs = chosen
    table = selection.images.table
    page.select_option("#status", label="left out by the selection")
    page.select_option("#order", label="Quality, falling")
    [kept, *_] = shown(page)
    page.locator("#flat figure").first.focus()
    page.keyboard.press("k")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("v")
    page.keyboard.press("u")
    page.select_option("#status", label="selected")
    [vetoed, *_] = shown(page)
    page.locator("#flat figure").first.focus()
    page.keyboard.press("v")
    page.select_option("#reason", label="any")
    page.select_option("#status", label="rejected before")
    page.locator("#flat figure").first.focus()
    page.keyboard.press("k")
    assert "cannot be kept" in page.locator("#note").inner_text()
    assert page.locator("#tally").inner_text() == "1 kept, 1 vetoed"
    page.reload()
    page.wait_for_function("document.getElementById('tally').innerText === '1 kept, 1 vetoed'")
    assert page.locator("figure.veto").count() == 1
    with page.expect_download() as download:
        page.click("#download")
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    decided = Decisions.read(file)
    hashes = dict(table.select("path", "hash").iter_rows())
    assert (decided.keep, decided.veto) == ({hashes[kept]}, {hashes[vetoed]})
    before = ImageSet(make_images(tmp_path / "again", 48, selected=None).table, tmp_path / "again")
    again = select(before, 12, QUOTAS, conflicts=pairs, decisions=Decisions(decided.keep))
    done = export(again.images, tmp_path / "next", name="next", selection=again)
    page.goto((done.folder / "report.html").as_uri())
    assert page.locator("#tally").inner_text() == "1 kept, 0 vetoed", "they are taken along"


def test_two_tabs_have_the_same_decisions(page):
    [first, second, *_] = shown(page)
    other = page.context.new_page()
    other.goto(page.url)
    for tab, name in ((page, first), (other, second)):
        tab.bring_to_front()
        tab.evaluate("name => decide(items.find((item) => item.path === name), 'veto')", name)
    for tab in (page, other):
        tab.wait_for_function(
            "document.getElementById('tally').innerText === '0 kept, 2 vetoed'", timeout=10_000
        )
    other.close()


def test_a_browser_that_keeps_nothing_is_said(chromium, folder):
    context = chromium.new_context()
    page = context.new_page()
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new Error('none'); } })"
    )
    page.goto((folder / "report.html").as_uri())
    page.select_option("#status", label="selected")
    page.locator("#flat figure").first.focus()
    page.keyboard.press("v")
    assert page.locator("#tally").inner_text() == "0 kept, 1 vetoed"
    assert "save your decisions before you close the page" in page.locator("#note").inner_text()
    context.close()


def test_it_is_read_without_scripts(chromium, folder, chosen):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((folder / "report.html").as_uri())
    assert page.locator("figure").count() == len(chosen[0].images)
    assert not page.locator("#gallery").is_visible()
    page.locator("summary", has_text="Every candidate").click()
    row = page.locator("#rows tr", has_text="Forced in, it would take the place of").first
    assert row.is_visible()
    page.locator("summary", has_text="near-duplicates").click()
    assert page.locator(".group").first.is_visible()
    context.close()
