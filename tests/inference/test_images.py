"""What is accepted as an image, and what is made of it."""

from __future__ import annotations

import hashlib
import struct
import tracemalloc
from contextlib import suppress
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from errors import ConfigurationError, PermanentError
from inference.images import ImagePreparer, pixels, prepare
from settings import Fetch
from tests.inference.pictures import (
    BLUE,
    FETCH,
    FORMATS,
    GREEN,
    RED,
    WHITE,
    claiming_jpeg,
    claiming_png,
    corner_colours,
    corners,
    deep_png,
    deep_tiff,
    encoded,
    noise,
    opened,
)

UPRIGHT = [RED, GREEN, BLUE, WHITE]


def cause_of(data: bytes, fetch: Fetch = FETCH) -> str:
    with pytest.raises(PermanentError) as refused:
        prepare(data, fetch)
    assert "\n" not in str(refused.value)
    return refused.value.cause


@pytest.mark.parametrize("format", FORMATS)
def test_every_accepted_format_becomes_a_jpeg_thumbnail(format: str) -> None:
    picture = prepare(encoded(corners(), format), FETCH)
    assert (picture.format, picture.width, picture.height, picture.orientation) == (format, 96, 64, 1)
    assert opened(picture).format == "JPEG"
    assert opened(picture).mode == "RGB"
    assert corner_colours(opened(picture)) == UPRIGHT


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1920, 1080), (512, 288)),
        ((1080, 1920), (288, 512)),
        ((640, 480), (512, 384)),
        ((512, 512), (512, 512)),
        ((513, 100), (512, 100)),
        ((511, 300), (511, 300)),
        ((96, 64), (96, 64)),
        ((1, 1), (1, 1)),
        ((3000, 2), (512, 1)),
        ((2, 3000), (1, 512)),
        ((1366, 768), (512, 288)),
    ],
)
def test_the_thumbnails_longest_side_is_at_most_512_and_nothing_is_enlarged(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    picture = prepare(encoded(noise(*size), "PNG"), FETCH)
    assert (picture.width, picture.height) == size
    assert opened(picture).size == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1920, 1080), (480, 270)),
        ((1080, 1920), (270, 480)),
        ((640, 480), (480, 360)),
        ((960, 640), (480, 320)),
        ((513, 100), (449, 88)),
        ((512, 512), (512, 512)),
        ((511, 300), (511, 300)),
        ((2592, 1944), (512, 384)),  # an eighth is too small, two eighths are too large
        ((96, 64), (96, 64)),
        ((1, 1), (1, 1)),
        ((3000, 2), (512, 1)),
        ((2, 3000), (1, 512)),
    ],
)
def test_a_jpegs_thumbnail_is_what_the_decoder_scales_to_where_that_is_448_to_512(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    picture = prepare(encoded(noise(*size), "JPEG"), FETCH)
    assert (picture.width, picture.height) == size
    assert opened(picture).size == expected


def test_the_thumbnail_looks_like_the_picture() -> None:
    original = noise(160, 90).resize((1920, 1080), Image.Resampling.BICUBIC)
    thumbnail = np.asarray(opened(prepare(encoded(original, quality=95), FETCH)), float)
    reference = np.asarray(original.resize((480, 270), Image.Resampling.LANCZOS), float)
    assert np.abs(thumbnail - reference).mean() < 3


def test_the_content_hash_is_the_sha256_of_the_original_bytes_which_are_kept() -> None:
    data = encoded(corners())
    copy = bytes(bytearray(data))
    picture = prepare(data, FETCH)
    assert picture.content_hash == hashlib.sha256(copy).hexdigest()
    assert picture.data is data
    assert data == copy


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF"])
def test_every_exif_orientation_stands_upright(format: str, orientation: int) -> None:
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    upright = corners(960, 640)
    stored = upright if undo is None else upright.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    # as bytes: of an object pillow-heif's writer does not see the orientation, which a HEIC has in a box of its own
    picture = prepare(encoded(stored, format, exif=exif.tobytes()), FETCH)
    assert (picture.width, picture.height) == (960, 640)
    assert opened(picture).size == ((480, 320) if format == "JPEG" else (512, 341))
    assert corner_colours(opened(picture)) == UPRIGHT
    assert corner_colours(Image.fromarray(pixels(picture, 300))) == UPRIGHT
    assert pixels(picture, None).shape == (640, 960, 3)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_taken_as_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert prepare(encoded(corners(), exif=exif), FETCH).orientation == 1


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_data_do_not_cost_the_picture() -> None:
    data = encoded(corners(), exif=b"Exif\0\0II*\0\xff\xff\xff\xff\xff\xff")
    assert corner_colours(opened(prepare(data, FETCH))) == UPRIGHT


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
@pytest.mark.parametrize("progressive", [False, True])
def test_grey_cmyk_and_progressive_jpegs_become_rgb(mode: str, progressive: bool) -> None:
    picture = prepare(encoded(corners(1200, 800).convert(mode), progressive=progressive), FETCH)
    seen = opened(picture)
    assert (seen.mode, seen.size) == ("RGB", (512, 341) if mode == "CMYK" else (450, 300))
    if mode == "L":
        assert np.ptp(np.asarray(seen, int), axis=2).max() <= 2
    else:
        assert corner_colours(seen) == UPRIGHT


def test_sixteen_bit_grey_is_scaled_not_cut() -> None:
    ramp = np.linspace(0, 65535, 256 * 16).astype(np.uint16).reshape(16, 256).copy()
    ramp[:] = np.linspace(0, 65535, 256).astype(np.uint16)
    seen = pixels(prepare(encoded(Image.fromarray(ramp), "PNG"), FETCH), None)
    assert seen.shape == (16, 256, 3)
    assert np.abs(seen[0, :, 0].astype(int) - np.arange(256)).max() <= 1


def deep_ramp(channels: int) -> np.ndarray:
    """uint16[16,256,C]: each channel rises evenly over its whole range; with four the last is opaque."""
    ramp = np.broadcast_to(np.linspace(0, 65535, 256).astype(np.uint16)[None, :, None], (16, 256, channels)).copy()
    if channels in (2, 4):
        ramp[..., -1] = 65535
    return ramp


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_png_of_sixteen_bits_is_scaled_not_cut(channels: int) -> None:
    seen = pixels(prepare(deep_png(deep_ramp(channels)), FETCH), None)
    assert np.abs(seen[0].astype(int) - np.arange(256)[:, None]).max() <= 1


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_of_sixteen_bits_is_scaled_not_cut(channels: int, order: str) -> None:
    seen = pixels(prepare(deep_tiff(deep_ramp(channels), order=order), FETCH), None)
    assert np.abs(seen[0].astype(int) - np.arange(256)[:, None]).max() <= 1


def test_a_tiff_of_twelve_bits_is_scaled_by_its_own_range() -> None:
    seen = pixels(prepare(deep_tiff(deep_ramp(1) >> 4, bits=12), FETCH), None)
    assert np.abs(seen[0, :, 0].astype(int) - np.arange(256)).max() <= 1


def test_a_deep_tiff_whose_zero_is_white_is_not_a_negative() -> None:
    seen = pixels(prepare(deep_tiff(deep_ramp(1), photometric=0), FETCH), None)
    assert np.abs(seen[0, :, 0].astype(int) - np.arange(255, -1, -1)).max() <= 1


def test_a_dark_deep_picture_stays_dark() -> None:
    """Values that fit into 8 bits are nearly black in a picture of 16; cutting would make a bright picture of them."""
    assert pixels(prepare(deep_png(np.full((16, 16, 3), 255, np.uint16)), FETCH), None).max() <= 1


def test_a_heic_is_a_picture_unless_it_is_left_out() -> None:
    data = encoded(corners(), "HEIF", quality=95)
    assert corner_colours(opened(prepare(data, Fetch(formats=("heic",))))) == UPRIGHT
    assert cause_of(data, Fetch(formats=("JPEG", "PNG"))) == "image_format"


def test_floating_point_pixels_are_scaled_from_least_to_greatest() -> None:
    values = np.linspace(-3.0, 7.0, 64, dtype=np.float32).reshape(8, 8)
    values[0, 1] = np.nan
    seen = pixels(prepare(encoded(Image.fromarray(values), "TIFF"), FETCH), None)
    assert (seen[0, 0, 0], seen[-1, -1, 0]) == (0, 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1"])
def test_what_is_transparent_lies_on_white_and_palettes_become_rgb(mode: str) -> None:
    image = corners().convert("RGBA")
    image.putalpha(255)
    image.paste((0, 0, 0, 0), (0, 0, 48, 32))
    if mode == "P":
        data = encoded(corners().quantize(16), "PNG")
        assert corner_colours(opened(prepare(data, FETCH))) == UPRIGHT
        return
    seen = opened(prepare(encoded(image.convert(mode), "PNG"), FETCH))
    if mode == "1":
        assert seen.mode == "RGB"
    else:
        assert min(seen.getpixel((10, 10))) > 240


def test_a_palette_png_with_transparency_lies_on_white() -> None:
    image = corners().quantize(16)
    clear = image.getpixel((0, 0))
    seen = opened(prepare(encoded(image, "PNG", transparency=clear), FETCH))
    assert min(seen.getpixel((10, 10))) > 240


def test_the_first_frame_of_an_animation_counts() -> None:
    data = encoded(corners(), "GIF", save_all=True, append_images=[Image.new("RGB", (96, 64), "black")])
    assert corner_colours(opened(prepare(data, FETCH))) == UPRIGHT


def test_a_jpeg_with_further_pictures_behind_it_is_a_jpeg() -> None:
    data = encoded(corners(), "MPO", save_all=True, append_images=[corners()])
    assert prepare(data, FETCH).format == "JPEG"


def test_an_empty_file_is_named_so() -> None:
    assert cause_of(b"") == "image_empty"


@pytest.mark.parametrize("data", [b"<html>not found</html>", b"\0" * 1000, b"%PDF-1.4 ...", b"x", b'{"error": 1}'])
def test_what_is_no_image_is_named_so(data: bytes) -> None:
    assert cause_of(data) == "not_an_image"


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_cut_anywhere_before_its_last_pixels_is_truncated(format: str) -> None:
    data = encoded(noise(120, 90), format)
    # What follows the pixels (a PNG's IEND, a GIF's end marks) may be missing without a pixel lost.
    end = len(data) - {"PNG": 24, "GIF": 6, "BMP": 1}.get(format, 1)
    for length in sorted({2, 3, 5, 8, 13, *np.linspace(20, end, 60).astype(int)}):
        cause = cause_of(data[: int(length)])
        assert cause == "image_truncated" or (length < 12 and cause == "not_an_image"), (length, cause)


@pytest.mark.parametrize("size", [(640, 480), (1920, 1080)])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_is_read_to_its_end_at_every_scale(size: tuple[int, int], progressive: bool) -> None:
    data = encoded(noise(*size), progressive=progressive)
    for missing in (1, 2, 3, 50, len(data) // 2):
        assert cause_of(data[:-missing]) == "image_truncated"
    assert cause_of(data[: len(data) // 2] + b"\xff\xd9") == "image_truncated"


def test_a_jpeg_with_stray_or_trailing_bytes_is_accepted() -> None:
    data = encoded(corners())
    assert corner_colours(opened(prepare(data + b"\0" * 1000, FETCH))) == UPRIGHT
    assert corner_colours(opened(prepare(data[:-2] + b"\x11\x22" + data[-2:], FETCH))) == UPRIGHT


def test_a_format_that_is_left_out_is_named() -> None:
    only_jpeg = Fetch(formats=("JPEG",))
    assert cause_of(encoded(corners(), "PNG"), only_jpeg) == "image_format"
    assert cause_of(encoded(corners(), "ICO"), FETCH) == "image_format"
    assert prepare(encoded(corners()), Fetch(formats=("jpg",))).format == "JPEG"


def test_an_unknown_format_in_the_settings_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="WEAVLOADER_IMAGE_FORMATS has 'JPOG'"):
        ImagePreparer(Fetch(formats=("JPOG",)), 1)


@pytest.mark.parametrize("data", [claiming_png(60000, 60000), claiming_jpeg(65500, 65500), claiming_png(2**31 - 1, 9)])
def test_a_bomb_is_refused_by_its_header_before_anything_is_decoded(data: bytes) -> None:
    tracemalloc.start()
    try:
        assert cause_of(data) == "image_bomb"
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_a_progressive_jpeg_of_very_many_scans_is_a_bomb() -> None:
    data = encoded(corners(), progressive=True)
    scan = data.rindex(b"\xff\xda")
    last = data[scan:-2]
    assert cause_of(data[:-2] + last * 200 + data[-2:]) == "image_bomb"


def test_a_png_whose_text_inflates_beyond_reason_is_refused() -> None:
    import zlib

    body = b"comment\0\0" + zlib.compress(b"a" * 100_000_000, 9)
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    data = encoded(corners(), "PNG")
    assert cause_of(data[:33] + chunk + data[33:]) in ("image_bomb", "image_truncated")


def test_pixels_and_bytes_over_the_caps_are_too_large() -> None:
    data = encoded(noise(400, 300), quality=95)
    assert cause_of(data, Fetch(max_pixels=400 * 300 - 1)) == "image_too_large"
    assert cause_of(data, Fetch(max_bytes=len(data) - 1)) == "image_too_large"
    assert prepare(data, Fetch(max_pixels=400 * 300, max_bytes=len(data))).width == 400


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("format", FORMATS)
def test_damaged_bytes_give_a_picture_or_a_permanent_error_and_nothing_else(format: str) -> None:
    original = encoded(noise(64, 48), format)
    rng = np.random.default_rng(7)
    for _ in range(150):
        data = bytearray(original)
        for position in rng.integers(0, len(data), 8):
            data[position] = rng.integers(0, 256)
        with suppress(PermanentError):
            prepare(bytes(data), FETCH)


def test_pixels_come_within_the_asked_side_and_do_not_touch_the_picture() -> None:
    picture = prepare(encoded(corners(1600, 1200)), FETCH)
    before = (bytes(picture.data), bytes(picture.jpeg))
    assert pixels(picture, 896).shape == (672, 896, 3)
    assert pixels(picture, 2000).shape == (1200, 1600, 3)
    assert pixels(picture, None).dtype == np.uint8
    assert (picture.data, picture.jpeg) == before


async def test_an_observer_hears_how_each_decoding_ended_and_how_long_it_took() -> None:
    heard: list[tuple[str, float]] = []
    preparer = ImagePreparer(FETCH, 1, observe=lambda status, seconds: heard.append((status, seconds)))
    try:
        await preparer.prepare(encoded(noise(1920, 1080)))
        with pytest.raises(PermanentError):
            await preparer.prepare(b"")
    finally:
        preparer.close()
    assert [status for status, _ in heard] == ["success", "image_empty"]
    assert heard[0][1] > heard[1][1] > 0


async def test_the_preparer_works_in_its_threads_and_raises_what_prepare_does() -> None:
    preparer = ImagePreparer(FETCH, 2)
    try:
        assert (await preparer.prepare(encoded(corners()))).width == 96
        with pytest.raises(PermanentError, match="0 bytes"):
            await preparer.prepare(b"")
    finally:
        preparer.close()


def test_a_thumbnail_is_itself_an_image_and_stays_the_same_size() -> None:
    once = prepare(encoded(noise(1920, 1080)), FETCH)
    twice = prepare(once.jpeg, FETCH)
    assert Image.open(BytesIO(twice.jpeg)).size == Image.open(BytesIO(once.jpeg)).size


async def test_an_original_that_no_model_reads_is_let_go() -> None:
    data = encoded(corners())
    kept, lean = ImagePreparer(FETCH, 1), ImagePreparer(FETCH, 1, keep_originals=False)
    try:
        whole, without = await kept.prepare(data), await lean.prepare(data)
    finally:
        kept.close()
        lean.close()
    assert (whole.data, without) == (data, replace(whole, data=b""))
