from __future__ import annotations

import io
import random
import struct
import zlib

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageFile, ImageOps

from pipelines.decode import image as image_module
from pipelines.decode.image import decode_image, decode_image_into


def encode(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, format, **options)
    return sink.getvalue()


def gradient(width: int = 24, height: int = 24) -> Image.Image:
    """Red grows to the right, green downwards."""
    red = np.tile(np.linspace(0, 255, width), (height, 1))
    green = np.tile(np.linspace(0, 255, height)[:, None], (1, width))
    pixels = np.stack([red, green, np.full_like(red, 30)], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def photograph(width: int, height: int) -> Image.Image:
    """Noise with the spectrum of photographs: amplitudes fall with the frequency."""
    chance = np.random.default_rng(0)
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    fall = np.maximum(np.hypot(down, across), 1 / max(width, height)) ** -1.3
    planes = []
    for _ in range(3):
        plane = np.fft.irfft2(
            fall * np.exp(2j * np.pi * chance.random(fall.shape)), (height, width)
        )
        planes.append(128 + 45 * (plane - plane.mean()) / plane.std())
    return Image.fromarray(np.clip(np.stack(planes, axis=-1), 0, 255).astype(np.uint8))


JPEG = encode(gradient(), "JPEG")


def solid(colour: tuple[int, ...], mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (8, 8), colour)


@pytest.mark.parametrize(
    ("format", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("JPEG", {"quality": 95, "subsampling": 0}, 4),
        ("WEBP", {"quality": 95}, 12),
        ("JPEG", {"quality": 95, "progressive": True}, 8),
    ],
)
def test_each_format_decodes_to_rgb(format, options, tolerance):
    decoded = decode_image(encode(gradient(), format, **options), 24)
    assert decoded.shape == (24, 24, 3)
    assert decoded.dtype == np.uint8
    error = np.abs(decoded.astype(int) - np.asarray(gradient()).astype(int))
    assert error.mean() <= tolerance / 2
    assert error.max() <= tolerance * 4


@pytest.mark.parametrize(
    ("picture", "options", "expected"),
    [
        (solid((90,), "L"), {}, (90, 90, 90)),
        (solid((1,), "1"), {}, (255, 255, 255)),
        (solid((200, 0, 0, 255), "RGBA"), {}, (200, 0, 0)),
        (solid((200, 0, 0, 0), "RGBA"), {}, (255, 255, 255)),
        (solid((0, 0, 0, 128), "RGBA"), {}, (127, 127, 127)),
        (solid((0, 128), "LA"), {}, (127, 127, 127)),
        (solid((0, 204, 51)).convert("P"), {}, (0, 204, 51)),
        (solid((10, 200, 30)), {"transparency": (10, 200, 30)}, (255, 255, 255)),
        (solid((7,), "L"), {"transparency": 7}, (255, 255, 255)),
        (solid((7,), "L"), {"transparency": 8}, (7, 7, 7)),
    ],
)
def test_every_png_mode_becomes_rgb_with_alpha_over_white(picture, options, expected):
    decoded = decode_image(encode(picture, **options), 8)
    assert np.abs(decoded.astype(int) - np.array(expected)).max() <= 1


def test_a_transparent_palette_goes_over_white():
    palette = solid((0, 204, 51)).convert("P")
    index = palette.getpixel((0, 0))
    decoded = decode_image(encode(palette, transparency=index), 8)
    assert decoded.min() == 255


def test_transparent_webp_goes_over_white():
    decoded = decode_image(encode(solid((0, 0, 0, 0), "RGBA"), "WEBP", lossless=True), 8)
    assert decoded.min() == 255


def test_sixteen_bit_grey_is_scaled_and_not_clipped():
    grey = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    decoded = decode_image(encode(Image.fromarray(grey)), 64)
    assert np.abs(decoded[..., 0].astype(int) - (grey >> 8)).max() == 0


def test_cmyk_jpeg_has_the_colours_of_its_rgb():
    cmyk = gradient().convert("CMYK")
    decoded = decode_image(encode(cmyk, "JPEG", quality=98, subsampling=0), 24)
    expected = np.asarray(cmyk.convert("RGB")).astype(int)
    assert np.abs(decoded.astype(int) - expected).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_the_exif_orientation_is_applied(orientation, format):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100} if format != "PNG" else {}
    data = encode(gradient(), format, exif=exif, **options)
    tagged = gradient()
    tagged.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(tagged)).astype(int)
    assert np.abs(decode_image(data, 24).astype(int) - expected).mean() < 6


@pytest.mark.parametrize(("width", "height"), [(40, 20), (20, 40), (41, 20), (20, 20), (21, 20)])
def test_the_centre_is_cropped(width, height):
    columns = np.tile(np.arange(width, dtype=np.uint8)[:, None], (height, 1, 3))
    rows = np.tile(np.arange(height, dtype=np.uint8)[:, None, None], (1, width, 3))
    side = min(width, height)
    across = decode_image(encode(Image.fromarray(columns)), side)[0, :, 0]
    down = decode_image(encode(Image.fromarray(rows)), side)[:, 0, 0]
    assert across.tolist() == list(range((width - side) // 2, (width - side) // 2 + side))
    assert down.tolist() == list(range((height - side) // 2, (height - side) // 2 + side))


@pytest.mark.parametrize("size", [1, 7, 12, 24, 50])
@pytest.mark.parametrize(("width", "height"), [(24, 24), (48, 30), (5, 300), (1, 1)])
def test_any_size_gives_a_square(size, width, height):
    assert decode_image(encode(gradient(width, height)), size).shape == (size, size, 3)


def test_shrinking_averages_what_it_leaves_out():
    dots = np.zeros((64, 64, 3), np.uint8)
    dots[::4, ::4] = 240  # one pixel of sixteen
    decoded = decode_image(encode(Image.fromarray(dots)), 16).astype(int)
    assert np.abs(decoded - 15).max() <= 1


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 100, b"not an image", encode(gradient(), "GIF"), encode(gradient(), "BMP")],
    ids=["empty", "zeros", "text", "gif", "bmp"],
)
def test_what_is_not_such_an_image_is_refused(data):
    with pytest.raises(ValueError, match=r"^not a readable image \("):
        decode_image(data, 8)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_cut_image_is_refused(format):
    data = encode(gradient(200, 200), format)
    with pytest.raises(ValueError, match="not a readable image"):
        decode_image(data[: len(data) // 2], 8)


def test_a_jpeg_that_ends_early_anywhere_is_refused():
    data = encode(gradient(200, 200), "JPEG")
    for share in (0.3, 0.5, 0.7, 0.9, 0.97):
        with pytest.raises(ValueError, match="not a readable image"):
            decode_image(data[: round(share * len(data))], 16)


def test_too_many_pixels_are_refused_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr(image_module, "MAX_PIXELS", 23 * 24)
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(ValueError, match=r"^24x24 pixels is too large$"):
        decode_image(encode_before(gradient()), 8)
    with pytest.raises(ValueError, match=r"^24x24 pixels is too large$"):
        decode_image(JPEG, 8)


def test_a_jpeg_of_endless_scans_is_refused(monkeypatch):
    monkeypatch.setattr(image_module, "MAX_SCANS", 2)
    decode_image(encode(gradient(), "JPEG"), 8)
    with pytest.raises(ValueError, match="scans is too slow"):
        decode_image(encode(gradient(), "JPEG", progressive=True), 8)


def encode_before(picture: Image.Image) -> bytes:
    """PNG bytes without Pillow, whose own ``load`` the test has taken away."""
    width, height = picture.size

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(3 * width)) * height)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (8001, 8000), (2**31 - 1, 1)])
def test_a_bomb_is_refused_by_its_header(width, height):
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    whole = encode_before(gradient())
    data = whole[:16] + head + struct.pack(">I", zlib.crc32(b"IHDR" + head)) + whole[33:]
    with pytest.raises(ValueError, match=r"too large|DecompressionBomb"):
        decode_image(data, 8)


def test_damage_never_raises_anything_else():
    """Anything but ValueError would stop a run where it should cost one sample."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    whole = [encode(gradient(), f, exif=exif) for f in ("JPEG", "PNG", "WEBP")]
    whole.append(encode(gradient().convert("P"), transparency=b"\0\x80"))
    whole += [encode(gradient(), "WEBP"), encode(gradient(), "WEBP", lossless=True)]
    chance = random.Random(0)
    refused = 0
    for turn in range(1200):
        data = bytearray(whole[turn % len(whole)])
        for _ in range(chance.choice([1, 2, 4])):
            # Most of the damage goes where the metadata is.
            reach = min(len(data), 250) if turn % 3 else len(data)
            data[chance.randrange(reach)] = chance.randrange(256)
        try:
            assert decode_image(bytes(data), 8).shape == (8, 8, 3)
        except ValueError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("error", [struct.error("x"), AttributeError("x"), KeyError(1), EOFError()])
def test_whatever_a_decoder_raises_is_a_value_error(monkeypatch, error):
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", broken)
    with pytest.raises(ValueError, match=f"not a readable image \\({type(error).__name__}\\)"):
        decode_image(encode(gradient()), 8)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_an_image_goes_straight_into_its_row(format):
    batch = np.zeros((3, 16, 16, 3), np.uint8)
    data = encode(photograph(100, 70), format)
    decode_image_into(data, batch[1])
    assert np.array_equal(batch[1], decode_image(data, 16))
    assert not batch[0].any()
    assert not batch[2].any()


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_jpeg_has_the_pixels_that_pillow_gives(mode, options):
    picture = photograph(64, 64).convert(mode)
    data = encode(picture, "JPEG", quality=90, **options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(decode_image(data, 64) - expected).max() <= 2


@pytest.mark.parametrize("options", [{"quality": 80}, {"lossless": True}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_plain_webp_has_the_pixels_that_pillow_gives_without_asking_it(
    monkeypatch, mode, options
):
    data = encode(photograph(63, 50).convert(mode), "WEBP", **options)
    expected = decode_by_pillow(data)
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("opened"))
    assert np.array_equal(decode_image(data, 50), expected)


def decode_by_pillow(data: bytes) -> np.ndarray:
    whole = Image.open(io.BytesIO(data)).convert("RGB")
    left = (whole.width - whole.height) // 2
    return np.asarray(whole.crop((left, 0, left + whole.height, whole.height)))


def test_a_webp_that_is_a_film_is_its_first_picture():
    pictures = [solid((200, 10, 10)), solid((10, 200, 10))]
    data = encode(pictures[0], "WEBP", lossless=True, save_all=True, append_images=pictures[1:])
    assert decode_image(data, 8)[0, 0].tolist() == [200, 10, 10]


@pytest.mark.parametrize(
    ("kind", "place", "sides"),
    [(b"VP8 ", 26, struct.pack("<HH", 16383, 16383)), (b"VP8L", 21, struct.pack("<I", 2**28 - 1))],
)
def test_a_webp_that_is_a_bomb_is_refused_by_its_header(kind, place, sides):
    data = bytearray(encode(gradient(), "WEBP", lossless=kind == b"VP8L"))
    assert data[12:16] == kind
    data[place : place + 4] = sides
    with pytest.raises(ValueError, match=r"1638[34]x1638[34] pixels is too large"):
        decode_image(bytes(data), 8)


@pytest.mark.parametrize("mode", ["CMYK", "RGB"])
def test_other_colours_of_jpeg_are_left_to_pillow(mode):
    picture = photograph(64, 64).convert(mode)
    data = encode(picture, "JPEG", quality=90, **({"keep_rgb": True} if mode == "RGB" else {}))
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(decode_image(data, 64), expected)


@pytest.mark.parametrize("size", [64, 83, 84, 100, 112, 167, 168, 224, 300])
@pytest.mark.parametrize(("width", "height"), [(448, 336), (336, 448)])
def test_a_jpeg_decoded_at_a_fraction_looks_as_if_it_was_not(size, width, height):
    picture = photograph(width, height)
    data = encode(picture, "JPEG", quality=95, subsampling=0)
    box = ((width - 336) // 2, (height - 336) // 2, (width + 336) // 2, (height + 336) // 2)
    expected = picture.resize((size, size), Image.Resampling.BILINEAR, box)
    error = np.abs(decode_image(data, size).astype(int) - np.asarray(expected).astype(int))
    assert error.mean() < 3.0  # a crop that is two pixels off gives 4.7 and more


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_large_jpeg_is_turned_like_a_small_one(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = gradient(300, 200)
    data = encode(picture, "JPEG", quality=95, exif=exif)
    picture.getexif()[0x0112] = orientation
    upright = ImageOps.exif_transpose(picture)
    left, top = (upright.width - 200) // 2, (upright.height - 200) // 2
    expected = upright.resize((32, 32), box=(left, top, left + 200, top + 200))
    error = np.abs(decode_image(data, 32).astype(int) - np.asarray(expected).astype(int))
    assert error.mean() < 3


@pytest.mark.parametrize("orientation", [0, 9, 255, 65535])
def test_an_orientation_that_does_not_exist_changes_nothing(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(
        decode_image(encode(gradient(), "JPEG", exif=exif), 24),
        decode_image(encode(gradient(), "JPEG"), 24),
    )


def test_an_orientation_in_xmp_is_applied_too():
    tag = b'<rdf:Description tiff:Orientation="3"/>'
    data = encode(gradient(), "JPEG", quality=95, xmp=tag)
    expected = np.asarray(gradient().rotate(180)).astype(int)
    assert np.abs(decode_image(data, 24).astype(int) - expected).mean() < 6


def test_a_fault_that_pillow_repairs_is_none():
    data = encode(gradient(), "JPEG")
    faulty = data[:-2] + bytes(64) + data[-2:]
    with pytest.raises(ValueError, match="extraneous bytes"):
        simplejpeg.decode_jpeg(faulty)
    assert np.array_equal(decode_image(faulty, 24), decode_image(data, 24))
