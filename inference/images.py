"""What is done to a picture before a model sees it: pure functions, the bytes that come in are never changed.

An image is judged by its header before anything is decoded, and decoded once: JPEG at reduced scale through
libjpeg-turbo (strict, so that a truncated file is noticed), everything else through Pillow.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from functools import cache
from io import BytesIO

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from errors import ConfigurationError, PermanentError
from records import Picture
from sections import HEIC_BRANDS
from settings import Fetch

Pixels = NDArray[np.uint8]

THUMBNAIL_SIDE = 512
# A thumbnail that the decoder's own scaling gives need not be resized, which costs more than decoding (measured):
# 640x480 becomes 480x360, 1920x1080 480x270.
SHORTEST_THUMBNAIL_SIDE = 448
THUMBNAIL_QUALITY = 85
# A photograph has about 0.1 to 1 byte a pixel: what claims a hundred pixels a byte and more than the cap is a bomb.
BOMB_PIXELS_PER_BYTE = 100
# A progressive JPEG has about ten scans; each costs a pass over all its pixels, however few bytes it has.
MAX_SCANS = 100
# libjpeg-turbo's scales in eighths that are quick (measured: 7/8, 6/8 and 5/8 cost more than decoding in full, so they
# serve only where nothing has to be resized afterwards).
SCALES = (1, 2, 3, 4, 8)

# What Pillow calls formats that have another name too.
_PILLOWS = {"JPG": "JPEG", "TIF": "TIFF", "HEIC": "HEIF"}
_HEIF = "HEIF"

_MAGIC = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"BM")

# What of a JPEG's header may say how it is to be turned.
_MAY_TURN = {"exif", "xmp"}

# EXIF 2.3, tag 0x0112: how to turn the stored pixels so that they stand upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# TIFF 6.0: how many bits a value has, and whether 0 is white.
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0

# Pillow's own limit is a warning of the whole process; here every image's header is held against the setting instead.
Image.MAX_IMAGE_PIXELS = None


def prepare(data: bytes, fetch: Fetch) -> Picture:
    """Check an image and make its thumbnail.

    Raises ``PermanentError`` with the cause ``image_empty``, ``image_truncated`` (or damaged), ``not_an_image``,
    ``image_format``, ``image_bomb`` or ``image_too_large``.
    """
    header = _check_header(data, fetch)
    upright, size, orientation = _decode(data, header, THUMBNAIL_SIDE)
    jpeg = simplejpeg.encode_jpeg(upright, quality=THUMBNAIL_QUALITY, colorsubsampling="420", fastdct=True)
    return Picture(
        data=data,
        format=_name(header),
        orientation=orientation,
        width=size[0],
        height=size[1],
        content_hash=hashlib.sha256(data).hexdigest(),
        jpeg=jpeg,
    )


def pixels(picture: Picture, longest: int | None) -> Pixels:
    """The original's pixels as uint8[H,W,3], RGB, upright, the longest side at most ``longest`` (None: as it is).

    For the models that take raw pixels. Raises ``PermanentError`` (``image_truncated``) when it cannot be decoded.
    """
    upright, _, _ = _decode(picture.data, open_image(picture.data, None), longest)
    return upright


class ImagePreparer:
    """Runs ``prepare`` in threads of its own, so that the event loop goes on meanwhile. Threads start at first use.

    Where it does not ``keep_originals`` a picture's ``data`` are empty: while its models are asked nobody needs them.
    ``observe`` is told, in the caller's context, how each ended (``success`` or the cause) and its seconds in a thread.
    """

    def __init__(
        self,
        fetch: Fetch,
        threads: int,
        observe: Callable[[str, float], None] = lambda _status, _seconds: None,
        *,
        keep_originals: bool = True,
    ) -> None:
        _accepted(fetch.formats)
        self._fetch, self._observe, self._keep_originals = fetch, observe, keep_originals
        self._threads = ThreadPoolExecutor(max(1, threads), thread_name_prefix="prepare")

    async def prepare(self, data: bytes) -> Picture:
        """The checked picture. Raises ``PermanentError`` as ``prepare`` does."""
        run = copy_context().run  # a thread has no context of its caller's
        return await asyncio.get_running_loop().run_in_executor(self._threads, run, self._prepare, data)

    def _prepare(self, data: bytes) -> Picture:
        began, status = time.perf_counter(), "success"
        try:
            picture = prepare(data, self._fetch)
            return picture if self._keep_originals else replace(picture, data=b"")
        except Exception as error:
            status = error.cause if isinstance(error, PermanentError) else type(error).__name__
            raise
        finally:
            self._observe(status, time.perf_counter() - began)

    def close(self) -> None:
        """End the threads; what has not begun is cancelled."""
        self._threads.shutdown(wait=True, cancel_futures=True)


@cache
def _accepted(formats: tuple[str, ...]) -> tuple[str, ...]:
    """The names that Pillow knows the formats by. Raises ``ConfigurationError`` for one that it does not know."""
    Image.init()
    names = tuple(_PILLOWS.get(name.upper(), name.upper()) for name in formats)
    for name in names:
        if name not in Image.OPEN and name != _HEIF:
            raise ConfigurationError(
                f"WEAVLOADER_IMAGE_FORMATS has {name!r}, which cannot be decoded here: use JPEG, PNG, WEBP, TIFF, GIF,"
                " BMP or HEIC."
            )
    return names


def _name(header: Image.Image) -> str:
    """The format's name; MPO is a JPEG with further pictures after it, as some cameras write it."""
    return "JPEG" if header.format == "MPO" else header.format or ""


def open_image(data: bytes, formats: tuple[str, ...] | None) -> Image.Image:
    """The image by its header, nothing decoded. Raises ``UnidentifiedImageError`` or ``PermanentError``."""
    if _begins_as_heic(data):
        _know_heic()
    elif formats is not None:
        formats = tuple(name for name in formats if name != _HEIF)
    try:
        return Image.open(BytesIO(data), formats=formats)
    except (UnidentifiedImageError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise nearly anything on damaged bytes
        raise _damaged(data, error) from None


def _check_header(data: bytes, fetch: Fetch) -> Image.Image:
    """The image by its header, which says that it may be decoded."""
    if not data:
        raise PermanentError("the image is empty (0 bytes): its source holds no picture", cause="image_empty")
    if len(data) > fetch.max_bytes:
        raise PermanentError(
            f"the image has {len(data)} bytes, over the cap of {fetch.max_bytes} (WEAVLOADER_MAX_IMAGE_BYTES)",
            cause="image_too_large",
        )
    accepted = _accepted(fetch.formats)
    try:
        header = open_image(data, accepted)
    except UnidentifiedImageError:
        raise _unidentified(data, accepted) from None
    count = header.width * header.height
    if count > fetch.max_pixels:
        bomb = count > BOMB_PIXELS_PER_BYTE * len(data)
        raise PermanentError(
            f"the image claims {header.width}x{header.height} pixels in {len(data)} bytes, over the cap of"
            f" {fetch.max_pixels} pixels (WEAVLOADER_MAX_IMAGE_PIXELS)",
            cause="image_bomb" if bomb else "image_too_large",
        )
    if header.info.get("progressive") and data.count(b"\xff\xda") > MAX_SCANS:
        raise PermanentError(f"the JPEG has more than {MAX_SCANS} scans", cause="image_bomb")
    return header


def _unidentified(data: bytes, accepted: tuple[str, ...]) -> PermanentError:
    """Why no accepted format knows these bytes: a format that is left out, a cut header, or no image at all."""
    try:
        other = open_image(data, None).format
    except (UnidentifiedImageError, PermanentError):
        if data.startswith(_MAGIC) or any(magic.startswith(data) for magic in _MAGIC) or _begins_as_heic(data):
            return PermanentError(f"the image ends within its header, after {len(data)} bytes", cause="image_truncated")
        return PermanentError(f"these {len(data)} bytes are not an image", cause="not_an_image")
    return PermanentError(
        f"the image is {other}, and WEAVLOADER_IMAGE_FORMATS accepts {', '.join(accepted)}", cause="image_format"
    )


@cache
def _know_heic() -> None:
    """Have Pillow open HEIC from now on. Its library takes 5 MB, and most processes never see one."""
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False)


def _begins_as_heic(data: bytes) -> bool:
    """Pillow's opener does not know one that is cut off."""
    return data[4:8] == b"ftyp" and data[8:12] in HEIC_BRANDS


def _damaged(data: bytes, error: Exception) -> PermanentError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    if "Decompressed data too large" in reason:  # a PNG's text chunks, inflated
        return PermanentError(f"the image inflates beyond reason: {reason}", cause="image_bomb")
    return PermanentError(f"the image of {len(data)} bytes is truncated or damaged: {reason}", cause="image_truncated")


def _decode(data: bytes, header: Image.Image, longest: int | None) -> tuple[Pixels, tuple[int, int], int]:
    """The upright RGB pixels within ``longest``, their full upright size (width, height), and how they were turned."""
    try:
        orientation = _orientation(header)
        scaled = (
            _decode_jpeg(data, header, longest) if _name(header) == "JPEG" and header.mode in ("L", "RGB") else None
        )
        size = header.size
        if scaled is not None and orientation == 1 and _fits((scaled.shape[1], scaled.shape[0]), size, longest):
            return scaled, size, orientation  # Pillow would copy it twice
        image = Image.fromarray(scaled) if scaled is not None else _load(header, longest)
        if scaled is None:
            size = header.size if _name(header) != "JPEG" else size
            # Pillow turns a TIFF upright itself when it loads it.
            orientation = _orientation(header) if header.format == "TIFF" else orientation
        image = _opaque(_fit(image, size, longest))
    except (PermanentError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise nearly anything on damaged bytes
        raise _damaged(data, error) from None
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    if orientation >= 5:
        size = size[1], size[0]
    return np.asarray(image), size, orientation


def _orientation(header: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where nothing sensible is said."""
    if not header.info.keys() & _MAY_TURN and _name(header) == "JPEG":
        return 1
    try:
        value = header.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - damaged EXIF data say nothing about the picture
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _target(size: tuple[int, int], longest: int | None) -> tuple[int, int]:
    """The size within ``longest`` of the same shape; never larger than it is, never less than a pixel."""
    width, height = size
    side = max(size)
    if longest is None or side <= longest:
        return size
    return max(1, round(width * longest / side)), max(1, round(height * longest / side))


def _decode_jpeg(data: bytes, header: Image.Image, longest: int | None) -> Pixels | None:
    """A JPEG at the scale that makes a thumbnail, else at the smallest quick one that still covers ``longest``; None
    where Pillow has to judge the file.
    """
    width, height = header.size
    scale = _thumbnail_scale(header.size) if longest == THUMBNAIL_SIDE else None
    if scale is None:
        target = _target(header.size, longest)
        scale = next(n for n in SCALES if -(-width * n // 8) >= target[0] and -(-height * n // 8) >= target[1])
    try:
        decoded: Pixels = simplejpeg.decode_jpeg(
            data,
            "RGB",
            fastdct=longest is not None,
            min_width=-(-width * scale // 8),
            min_height=-(-height * scale // 8),
            strict=True,
        )
    except ValueError as error:
        if "premature end" in str(error).lower():
            raise _damaged(data, error) from None
        return None  # stray bytes between segments, as some cameras leave them, or a rare kind of JPEG
    return decoded


def _thumbnail_scale(size: tuple[int, int]) -> int | None:
    """The scale in eighths whose result is a thumbnail as it is; None where there is none, or none is needed."""
    if max(size) <= THUMBNAIL_SIDE:
        return None
    sides = ((n, -(-max(size) * n // 8)) for n in range(7, 0, -1))
    return next((n for n, side in sides if SHORTEST_THUMBNAIL_SIDE <= side <= THUMBNAIL_SIDE), None)


def _load(header: Image.Image, longest: int | None) -> Image.Image:
    """The first frame, decoded by Pillow, as 8 bits a channel: L, RGB, RGBA or CMYK."""
    if longest is not None and _name(header) == "JPEG":
        header.draft(None, _target(header.size, longest))
    header.load()
    if header.mode in ("I", "F") or header.mode.startswith("I;16"):
        return Image.fromarray(_grey(header))
    if header.mode in ("P", "PA", "LA", "La", "RGBa") or "transparency" in header.info:
        return header.convert("RGBA")
    if header.mode in ("L", "RGB", "RGBA", "CMYK"):
        return header
    return header.convert("RGB")


def _grey(image: Image.Image) -> Pixels:
    """A decoded picture of one channel of more than 8 bits, as 8 bits."""
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS, (16,))[0]
    values = _eight_bit(np.asarray(image), bits if image.mode.startswith("I;16") else None)
    return 255 - values if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else values


def _eight_bit(values: NDArray[np.generic], bits: int | None) -> Pixels:
    """Grey values of more than 8 bits, scaled linearly: by the range of so many bits, or from least to greatest."""
    wide = np.nan_to_num(values.astype(np.float32))
    low, high = (0.0, 2.0**bits - 1) if bits else (float(wide.min()), float(wide.max()))
    scaled: Pixels = np.rint((wide - low) * (255.0 / ((high - low) or 1.0))).clip(0, 255).astype(np.uint8)
    return scaled


def _fits(now: tuple[int, int], size: tuple[int, int], longest: int | None) -> bool:
    """Whether what was decoded need not be resized."""
    is_thumbnail = longest == THUMBNAIL_SIDE and SHORTEST_THUMBNAIL_SIDE <= max(now) <= longest
    return is_thumbnail or now == _target(size, longest)


def _fit(image: Image.Image, size: tuple[int, int], longest: int | None) -> Image.Image:
    """The image at the size that ``size`` has within ``longest`` (Hamming filter: sharper than bilinear, as quick); one
    that the decoder made a thumbnail is left so.
    """
    target = _target(size, longest)
    return (
        image if _fits(image.size, size, longest) else image.resize(target, Image.Resampling.HAMMING, reducing_gap=2.0)
    )


def _opaque(image: Image.Image) -> Image.Image:
    """RGB, what is transparent on white."""
    if image.mode == "RGBA":
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
