"""What a replay serves: pictures of a folder and frames of a video, read only when they are asked for."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import quote

from errors import UsageError
from records import image_id

#: What a picture's first bytes look like. WEBP has its name after the length.
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"II*\x00", b"MM\x00*")
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".heic", ".heif"})
_JPEG_QUALITY = 90
_FRAMES_KEPT = 64

Report = Callable[[str], None]


@dataclass(frozen=True)
class ReplayNode:
    """A node that pictures are said to come from. Coordinates in degrees, None where unknown; with ``gps`` it also
    reports them as a receiver does, else they are in its manifest only.
    """

    vsn: str
    name: str = ""
    project: str = ""
    address: str = ""
    latitude: float | None = None
    longitude: float | None = None
    gps: bool = False

    @property
    def node(self) -> str:
        """The node's hardware id: 16 hexadecimal digits made from the vsn."""
        return hashlib.sha256(self.vsn.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class ReplayPicture:
    """One picture of a replay: what identifies it, whose it is, and how to read its bytes.

    ``path`` is relative to what is replayed, as bytes of the file system; ``content_hash`` is the SHA-256 in hex of the
    file (of the whole video for a frame, whose path then says which).
    """

    path: bytes
    content_hash: str
    node: ReplayNode
    camera: str
    read: Callable[[], bytes] = field(repr=False, compare=False)

    @property
    def identity(self) -> str:
        """Content hash and relative path, as they stand in the picture's URL."""
        return f"{self.content_hash[:16]}/{quote(self.path)}"

    @property
    def id(self) -> str:
        """The image's id, whatever port it is served from and whenever."""
        return image_id("replay", self.identity)

    @property
    def filename(self) -> str:
        """The file's own name."""
        return self.path.rpartition(b"/")[2].decode("utf-8", "replace")


def load_folder(
    folder: Path, *, vsn: str = "R001", node: ReplayNode | None = None, report: Report | None = None
) -> list[ReplayPicture]:
    """All pictures below a folder, in the order of their paths; the camera is the name of a picture's own folder.

    A file counts as a picture by its first bytes or its suffix (a damaged picture is part of a stream too). Hidden
    files are left out; a file that cannot be read is left out and reported. Raises ``UsageError`` when the folder
    cannot be read at all.
    """
    folder = folder.absolute()
    if not os.access(folder, os.R_OK | os.X_OK) or not folder.is_dir():
        raise UsageError(f"{folder} is not a folder that can be read")
    tell = report or (lambda line: None)
    node = node or ReplayNode(vsn)
    pictures = []
    for path in _files(folder, tell):
        try:
            digest = _digest_of_picture(path)
        except OSError as error:
            tell(f"left out: {path} cannot be read ({(error.strerror or 'error').lower()})")
            continue
        if digest is not None:
            pictures.append(
                ReplayPicture(os.fsencode(path.relative_to(folder)), digest, node, _name(path.parent), path.read_bytes)
            )
    return pictures


def _name(folder: Path) -> str:
    return os.fsencode(folder.name).decode("utf-8", "replace")


def _files(folder: Path, tell: Report) -> Iterator[Path]:
    def failed(error: OSError) -> None:
        tell(f"left out: {error.filename} cannot be read ({(error.strerror or 'error').lower()})")

    for top, folders, names in os.walk(folder, onerror=failed):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(top, name)


def _digest_of_picture(path: Path) -> str | None:
    """SHA-256 of the file in hex, read in pieces; None when the file is no picture."""
    if not stat.S_ISREG(path.stat().st_mode):
        return None
    with path.open("rb") as file:
        start = file.read(16)
        known = start.startswith(_MAGIC) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")
        if not known and path.suffix.lower() not in _SUFFIXES:
            return None
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_video(
    video: Path, every_seconds: float = 1.0, *, vsn: str = "R001", node: ReplayNode | None = None, camera: str = ""
) -> list[ReplayPicture]:
    """A frame every so many seconds of a video, as JPEG; the camera is the file's name unless given.

    Only the index of frames is read here. Raises ``UsageError`` when the file is no video that can be read.
    """
    if every_seconds <= 0:
        raise UsageError(f"{every_seconds:g} s between frames is not possible: give a positive number")
    video = video.absolute()
    frames = _VideoFrames(video)
    with video.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    node = node or ReplayNode(vsn)
    camera = camera or os.fsencode(video.stem).decode("utf-8", "replace")

    def picture(time: int, seconds: float) -> ReplayPicture:
        name = f"{camera}-{round(seconds * 1000):09d}.jpg"
        path = os.fsencode(video.name) + b"/" + name.encode()
        return ReplayPicture(path, digest, node, camera, lambda: frames.read(time))

    return [picture(time, seconds) for time, seconds in frames.choose(every_seconds)]


class _VideoFrames:
    """Decodes chosen frames of a video. It reads on where it is when asked for what comes next, as a stream is."""

    def __init__(self, path: Path) -> None:
        import av  # only a replay of a video needs it

        self._path = path
        self._lock = Lock()
        self._chosen: list[int] = []
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._decoder: Iterator[Any] | None = None
        self._container: Any = None
        self._position = -1
        try:
            with closing(av.open(str(path))) as container:
                stream = container.streams.video[0]
                self._base = float(stream.time_base or 0)
                self._times = sorted({packet.pts for packet in container.demux(stream) if packet.pts is not None})
        except (av.FFmpegError, OSError, IndexError) as error:
            why = "it has no video" if isinstance(error, IndexError) else getattr(error, "strerror", "") or "damaged"
            raise UsageError(f"{path} is not a video that can be read ({why.lower()})") from None
        if not self._times or not self._base:
            raise UsageError(f"{path} is not a video that can be read (it has no timed frames)")

    def choose(self, every_seconds: float) -> list[tuple[int, float]]:
        """The first frame at or after each multiple of so many seconds: its time stamp and its time in seconds."""
        first = self._times[0]
        step = 0
        chosen: list[tuple[int, float]] = []
        while (index := bisect_left(self._times, first + step * every_seconds / self._base - 0.5)) < len(self._times):
            time = self._times[index]
            if not chosen or chosen[-1][0] != time:
                chosen.append((time, (time - first) * self._base))
            # a gap in the video is stepped over at once
            step = max(step + 1, int((time - first) * self._base / every_seconds))
        self._chosen = [time for time, _ in chosen]
        return chosen

    def read(self, time: int) -> bytes:
        """The frame as JPEG. Raises ``OSError`` when the video cannot be decoded there."""
        with self._lock:
            if time not in self._kept:
                try:
                    self._decode(time)
                finally:
                    if time not in self._kept:
                        self._close()
            data = self._kept.get(time)
            if data is None:
                raise OSError(f"{self._path} has a frame that cannot be decoded")
            return data

    def _decode(self, target: int) -> None:
        import av

        try:
            if self._decoder is None or target <= self._position or target - self._position > 30 / self._base:
                self._close()
                self._container = av.open(str(self._path))
                stream = self._container.streams.video[0]
                self._container.seek(target, stream=stream)
                self._decoder = self._container.decode(stream)
            for frame in self._decoder:
                if frame.pts is None:
                    continue
                self._position = frame.pts
                index = bisect_left(self._chosen, frame.pts)
                if index < len(self._chosen) and self._chosen[index] == frame.pts:
                    self._keep(frame.pts, _jpeg(frame))
                if frame.pts >= target:
                    return
        except av.FFmpegError as error:
            raise OSError(f"{self._path} cannot be decoded: {error}") from None

    def _keep(self, time: int, data: bytes) -> None:
        self._kept[time] = data
        while len(self._kept) > _FRAMES_KEPT:
            self._kept.popitem(last=False)

    def _close(self) -> None:
        self._decoder, self._position = None, -1
        if self._container is not None:
            with suppress(OSError):
                self._container.close()
            self._container = None


def _jpeg(frame: Any) -> bytes:
    """The frame upright (phones record a rotation beside the pixels)."""
    image = frame.to_image()
    if frame.rotation:
        image = image.rotate(frame.rotation, expand=True)
    output = io.BytesIO()
    image.save(output, "JPEG", quality=_JPEG_QUALITY)
    return output.getvalue()
