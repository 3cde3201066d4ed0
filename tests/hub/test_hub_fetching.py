"""Fetching from a hub that speaks the real protocol over real sockets: whole, in parts, and all that can go wrong."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

from errors import EXIT_FAILED, ConfigurationError, PartUnavailable, WeavloaderError
from settings import Hub as HubSettings
from settings import Paths, Settings
from stack import fetching, light
from tests.fixtures.redis import free_port
from tests.hub.fake import TOKEN, FakeHub, fake_hub
from tests.hub.locked import published

FILE = "vision_encoder.onnx"
CONTENTS = {
    "clip_vit_b32": {"vision_model.onnx": b"seen" * 1000, "tokenizer.json": b"{}"},
    "florence2_captioner": {FILE: bytes(range(256)) * 400, "tokenizer.json": b"{ }"},
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub whose files the lock file pins."""
    for name, files in CONTENTS.items():
        (tmp_path / "published" / name).mkdir(parents=True)
        for file, content in files.items():
            (tmp_path / "published" / name / file).write_bytes(content)
    monkeypatch.setattr(light, "LOCK", tmp_path / "lock.json")
    with fake_hub() as running:
        published(running, tmp_path / "published", light.LOCK)
        light.models.cache_clear()
        yield running
    light.models.cache_clear()


@pytest.fixture
def settings(tmp_path: Path, hub: FakeHub) -> Settings:
    return Settings(paths=Paths(data=tmp_path, cache=tmp_path / "cache"), hub=HubSettings(endpoint=hub.endpoint))


def fetch(settings: Settings) -> list[str]:
    """The names of what was fetched."""
    return [one.file.name for one in fetching.fetch(settings, lambda _step, _done, _total: None)]


def target(settings: Settings, name: str = FILE) -> Path:
    model = "florence2_captioner" if name == FILE else "clip_vit_b32"
    return light.weights(settings.paths.cache) / model / name


def test_every_file_is_there_as_it_is_on_the_hub_and_asked_for_once(settings: Settings, hub: FakeHub) -> None:
    assert sorted(fetch(settings)) == sorted(name for files in CONTENTS.values() for name in files)
    for model, files in CONTENTS.items():
        folder = light.weights(settings.paths.cache) / model
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
        assert light.lacking(settings.paths.cache, model) == []
    asked = len(hub.asked)
    assert fetch(settings) == []
    assert len(hub.asked) == asked


def test_who_waits_for_another_s_end_says_so_and_finds_all_there(settings: Settings, hub: FakeHub) -> None:
    fetch(settings)
    asked = len(hub.asked)
    other = (light.weights(settings.paths.cache) / ".lock").open("w")
    fcntl.flock(other, fcntl.LOCK_EX)  # closing it ends the wait
    assert fetching.fetch(settings, lambda *_: None, waiting=other.close) == []
    assert other.closed
    assert len(hub.asked) == asked


def test_a_connection_that_breaks_is_gone_on_with_where_it_was(settings: Settings, hub: FakeHub) -> None:
    hub.cut = 5000
    fetch(settings)
    assert target(settings).read_bytes() == CONTENTS["florence2_captioner"][FILE]
    assert [one.headers.get("Range") for one in hub.given if "Range" in one.headers] == ["bytes=5000-"]


def test_what_an_ended_process_left_is_gone_on_with(settings: Settings, hub: FakeHub) -> None:
    part = target(settings).with_name(f"{FILE}.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENTS["florence2_captioner"][FILE][:777])
    (one,) = [one for one in fetching.plan(settings.paths.cache) if one.file.name == FILE]
    assert one.left == one.file.bytes - 777
    fetch(settings)
    assert target(settings).read_bytes() == CONTENTS["florence2_captioner"][FILE]
    assert not part.exists()
    assert "bytes=777-" in [one.headers.get("Range") for one in hub.given]


def test_a_server_without_ranges_begins_again(settings: Settings, hub: FakeHub) -> None:
    hub.cut, hub.ranges = 5000, False
    fetch(settings)
    assert target(settings).read_bytes() == CONTENTS["florence2_captioner"][FILE]


def test_a_left_part_that_is_another_file_s_is_found_by_its_sum(settings: Settings) -> None:
    part = target(settings).with_name(f"{FILE}.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 777)
    with pytest.raises(PartUnavailable, match="not the pinned"):
        fetch(settings)
    assert not part.exists()
    fetch(settings)
    assert target(settings).read_bytes() == CONTENTS["florence2_captioner"][FILE]


def test_content_of_another_sum_is_never_used(settings: Settings, hub: FakeHub) -> None:
    hub.content = bytes(len(CONTENTS["clip_vit_b32"]["vision_model.onnx"]))
    with pytest.raises(PartUnavailable, match=r"vision_model\.onnx .* has the SHA-256 \w+, not the pinned") as failed:
        fetch(settings)
    assert failed.value.cause == "checksum"
    assert not target(settings, "vision_model.onnx").exists()


def test_a_hub_that_tells_another_sum_is_left_before_a_byte_is_fetched(settings: Settings, hub: FakeHub) -> None:
    hub.etag = "0" * 64
    with pytest.raises(PartUnavailable, match="nothing was fetched of it"):
        fetch(settings)
    assert hub.given == []


def test_a_hub_that_gives_another_commit_is_left(settings: Settings, hub: FakeHub) -> None:
    hub.commit = "0" * 40
    with pytest.raises(PartUnavailable, match="given at the revision 0000"):
        fetch(settings)


def test_a_page_in_the_place_of_a_file_is_told(settings: Settings, hub: FakeHub) -> None:
    hub.content = b"<html>Sign in to the network</html>"
    with pytest.raises(PartUnavailable, match=r"has 35 bytes there.* is HF_ENDPOINT a model hub\?"):
        fetch(settings)


def test_a_gated_repository_wants_a_token_which_the_storage_never_gets(settings: Settings, hub: FakeHub) -> None:
    hub.gated = True
    with pytest.raises(ConfigurationError, match=r"refused \(401\): set HF_TOKEN"):
        fetch(settings)
    section = HubSettings(endpoint=hub.endpoint, token="another")
    with pytest.raises(ConfigurationError, match="the login of HF_TOKEN may not") as refused:
        fetch(settings.model_copy(update={"hub": section}))
    assert "another" not in str(refused.value)
    fetch(settings.model_copy(update={"hub": HubSettings(endpoint=hub.endpoint, token=TOKEN)}))
    assert hub.given
    assert not any("Authorization" in one.headers for one in hub.given)


def test_a_revision_that_is_not_there_is_named(settings: Settings, hub: FakeHub) -> None:
    hub.files.clear()
    with pytest.raises(ConfigurationError, match=r"of tiny/clip_vit_b32 at http://127\.\S+ is not there \(404\)"):
        fetch(settings)


def test_a_busy_hub_is_asked_again_when_it_says(settings: Settings, hub: FakeHub) -> None:
    hub.busy = 2
    assert len(fetch(settings)) == 4


def test_a_hub_that_stays_busy_is_given_up(settings: Settings, hub: FakeHub) -> None:
    hub.busy = 1000
    with pytest.raises(PartUnavailable, match="the hub answers 429"):
        fetch(settings)
    assert hub.busy > 990


def test_without_room_nothing_is_asked_for(settings: Settings, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "SPARE", 10**18)
    with pytest.raises(WeavloaderError, match=r"make room, or set WEAVLOADER_CACHE_DIR") as refused:
        fetch(settings)
    assert refused.value.exit_code == EXIT_FAILED
    assert hub.asked == []


def test_a_cache_that_cannot_be_written_is_named(settings: Settings) -> None:
    (settings.paths.cache).mkdir()
    light.weights(settings.paths.cache).touch()
    with pytest.raises(
        WeavloaderError, match=r"the cache \S+/cache cannot be used .*set WEAVLOADER_CACHE_DIR"
    ) as refused:
        fetch(settings)
    assert refused.value.exit_code == EXIT_FAILED


def test_what_stands_where_a_file_belongs_is_named(settings: Settings) -> None:
    target(settings).mkdir(parents=True)
    with pytest.raises(WeavloaderError, match=rf"cannot be used \(\S+{FILE}\.part: Is a directory\)"):
        fetch(settings)


def test_where_nobody_answers_it_is_said_at_once(settings: Settings) -> None:
    away = settings.model_copy(update={"hub": HubSettings(endpoint=f"http://127.0.0.1:{free_port()}")})
    with pytest.raises(PartUnavailable, match="no model hub answers at") as failed:
        fetch(away)
    assert failed.value.cause == "hub_away"


def test_a_hub_that_is_down_counts_as_none(settings: Settings, hub: FakeHub) -> None:
    hub.down = True
    with pytest.raises(PartUnavailable, match=r"no model hub answers at .* \(status 503\)"):
        fetch(settings)


def test_a_damaged_file_is_fetched_again(settings: Settings) -> None:
    fetch(settings)
    file = target(settings)
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert [one.file.name for one in fetching.check(settings.paths.cache, lambda *_: None)] == [FILE]
    assert fetch(settings) == [FILE]
    assert file.read_bytes() == CONTENTS["florence2_captioner"][FILE]


def test_the_pins_are_commits_and_sums(tmp_path: Path) -> None:
    models = light.models()
    assert set(models) == {path.parent.name for path in light.REPOSITORY.glob("*/config.pbtxt")}
    for model in models.values():
        assert len(model.revision) == 40
        assert int(model.revision, 16)
        assert len({file.name for file in model.files}) == len(model.files)
        assert all(file.bytes > 0 and len(file.sha256) == 64 and int(file.sha256, 16) for file in model.files)
