"""The demo's pictures."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from errors import PartUnavailable
from sources import pictures


def test_photos_and_frames_make_a_stream_of_at_least_sixty_pictures(demo_folder: Path) -> None:
    shown = pictures.demo_pictures(demo_folder)
    cameras = [picture.camera for picture in shown]
    assert (cameras.count("photos"), cameras.count("street")) == (21, 50)
    assert len({picture.id for picture in shown}) == len(shown)
    assert len({picture.node.vsn for picture in shown}) == 2
    for picture in shown:
        with Image.open(io.BytesIO(picture.read())) as image:
            image.load()
            assert min(image.size) > 150


def test_what_is_installed_is_not_installed_again(demo_folder: Path) -> None:
    told: list[str] = []
    assert pictures.install(demo_folder.parent, told.append) == demo_folder
    assert told == []


def test_a_download_that_fails_is_one_clear_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "PACKAGES", ("scikit-image==0.0.0",))
    with pytest.raises(PartUnavailable, match=r"scikit-image==0\.0\.0.* cannot be downloaded") as caught:
        pictures.install(tmp_path, print)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["pictures.lock"]
