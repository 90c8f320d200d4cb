"""The images of all versions are stored once, with hard links and without."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from PIL import Image

from character_curator.dataset import export, verify
from character_curator.dataset.publish import versions
from character_curator.imageset import content_hash
from tests.support.images import make_images

ROOT = Path(__file__).parents[3]

EXPORTS = """
import errno, os, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from character_curator.dataset import export
from character_curator.imageset import ImageSet
place, at = Path({place!r}), {at}
count = 0
def refuse(event, arguments):
    # What the system says of a file system without hard links; and a kill before the step 'at'.
    global count
    if event == "os.link":
        raise PermissionError(errno.EPERM, "Operation not permitted")
    if event in ("os.rename", "os.remove") and "set.versions" in str(arguments):
        count += 1
        if count == at:
            os._exit(9)
sys.addaudithook(refuse)
images = ImageSet.read(place / "images.parquet")
for name in {names!r}:
    done = export(images, place / "set", name=name)
print(count, done.shared, *done.notes)
"""


def without_links(place, names, at=0):
    code = EXPORTS.format(root=str(ROOT), place=str(place), names=names, at=at)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def copies(place):
    """Return how many files each content of an image has below a folder, by its SHA-256."""
    files: dict[str, set[tuple[int, int]]] = {}
    for path in place.rglob("*.png"):
        status = path.stat()
        files.setdefault(content_hash(path), set()).add((status.st_dev, status.st_ino))
    return {digest: len(found) for digest, found in files.items()}


def test_what_is_converted_or_cleaned_is_one_file_in_all_versions(tmp_path):
    images = make_images(tmp_path / "raw", 8)
    for path in images.root.glob("*.png"):
        with Image.open(path) as image:
            image.save(path, "PNG", dpi=(72, 72), exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0")
    images = images.with_columns(
        images.table["path"].map_elements(
            lambda name: content_hash(images.root / name), return_dtype=images.table["hash"].dtype
        ).alias("hash")
    )  # fmt: skip
    done = [export(images, tmp_path / "set", name=name) for name in "abc"][-1]
    assert done.cleaned == done.images > 0
    assert done.shared
    assert set(copies(tmp_path / "set").values()) == {1}
    kept = [done.folder, *versions(done.folder)]
    assert len(kept) == 3
    assert all(verify(place).ok for place in kept)
    for image in done.folder.glob("*.png"):
        assert {(place / image.name).stat().st_ino for place in kept} == {image.stat().st_ino}


def test_an_image_that_was_changed_is_not_replaced_by_another(tmp_path):
    images = make_images(tmp_path / "raw", 8)
    place = export(images, tmp_path / "set", name="a").folder
    image = next(place.glob("*.png"))
    image.unlink()
    image.write_bytes(b"somebody's own")
    export(images, place, name="b")
    assert (versions(place)[0] / image.name).read_bytes() == b"somebody's own"
    assert verify(place).ok


def test_without_hard_links_earlier_images_are_stored_once_beside(tmp_path):
    images = make_images(tmp_path / "raw", 8)
    images.write(tmp_path / "images.parquet")
    done = without_links(tmp_path, "abcd")
    assert done.returncode == 0, done.stderr
    assert "has no hard links" in done.stdout
    assert "stored once in set.versions/content" in done.stdout
    listed = (tmp_path / "set" / "SHA256SUMS").read_text().splitlines()
    digests = {line[:64] for line in listed if line.endswith(".png")}
    content = tmp_path / "set.versions" / "content"
    assert {path.stem for path in content.iterdir()} == digests
    assert all(content_hash(path) == path.stem for path in content.iterdir())
    assert verify(tmp_path / "set").ok
    assert set(copies(tmp_path / "set").values()) == {1}
    assert set(copies(tmp_path / "set.versions").values()) == {1}
    assert len(versions(tmp_path / "set")) == 3


def test_a_kill_while_images_move_loses_none(tmp_path):
    images = make_images(tmp_path / "raw", 8)
    images.write(tmp_path / "images.parquet")
    assert without_links(tmp_path, "a").returncode == 0
    digests = set(copies(tmp_path / "set"))
    steps = int(without_links(tmp_path, "b").stdout.split()[0])
    for at in (2, steps // 2):
        name = json.dumps(at)
        assert without_links(tmp_path, [name], at).returncode == 9
        assert verify(tmp_path / "set").ok
        assert set(copies(tmp_path / "set.versions")) == digests
    assert without_links(tmp_path, "z").returncode == 0
    assert set(copies(tmp_path / "set.versions").values()) == {1}
