"""ICC profiles of RGB spaces that cameras and phones write, made from their primaries."""

from __future__ import annotations

import struct

import numpy as np

Pair = tuple[float, float]

DISPLAY_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.3127, 0.3290), 2.2)
ADOBE_RGB = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), (0.3127, 0.3290), 2.19921875)
PROPHOTO = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001), (0.3457, 0.3585), 1.8)

INKS = np.array([[0.05, 0.65, 0.90], [0.90, 0.10, 0.50], [0.98, 0.90, 0.05], [0.12, 0.12, 0.12]])
"""What is left of red, green and blue (encoded as in sRGB) behind full cyan, magenta, yellow,
black of the press that :func:`cmyk_profile` is of."""

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def _xyz(pair: Pair) -> np.ndarray:
    x, y = pair
    return np.array([x / y, 1.0, (1 - x - y) / y])


def rgb_profile(red: Pair, green: Pair, blue: Pair, white: Pair, gamma: float) -> bytes:
    """Return a matrix profile (ICC version 2) of an RGB space."""
    columns = np.stack([_xyz(red), _xyz(green), _xyz(blue)], axis=1)
    target = _xyz(white)
    matrix = columns * np.linalg.solve(columns, target)
    cones = np.diag((_BRADFORD @ _D50) / (_BRADFORD @ target))
    matrix = np.linalg.inv(_BRADFORD) @ cones @ _BRADFORD @ matrix

    def numbers(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78)
    tags = {
        b"desc": text + bytes(-len(text) % 4),
        b"cprt": b"text" + bytes(4) + b"none\0\0\0\0",
        b"wtpt": b"XYZ " + bytes(4) + numbers(*_D50),
        **{
            name: b"XYZ " + bytes(4) + numbers(*column)
            for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), matrix.T, strict=True)
        },
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    return _profile(tags, b"mntrRGB XYZ ")


def printed(cmyk: np.ndarray) -> np.ndarray:
    """Return the sRGB that the press prints: ``(n, 4)`` inks in 0..1 to ``(n, 3)`` in 0..1."""
    return np.prod(1 - cmyk[:, :, None] * (1 - INKS), axis=1)


def cmyk_profile(grid: int = 9) -> bytes:
    """Return the profile of that press (ICC version 2, a table of 8 bits to Lab)."""
    from PIL import Image, ImageCms

    steps = np.linspace(0, 1, grid)
    inks = np.stack(np.meshgrid(*[steps] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    seen = Image.fromarray((printed(inks)[None] * 255).round().astype(np.uint8))
    lab = ImageCms.profileToProfile(
        seen, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    # Pillow's LAB holds signed a and b; the table wants them with 128 added.
    table = np.asarray(lab)[0].copy()
    table[:, 1:] ^= 0x80
    identity = bytes(range(256))
    head = b"mft1" + bytes(4) + bytes([4, 3, grid, 0])
    head += struct.pack(">9i", *(65536 * n for n in (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    lut = head + identity * 4 + table.tobytes() + identity * 3
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78)
    tags = {
        b"desc": text + bytes(-len(text) % 4),
        b"cprt": b"text" + bytes(4) + b"none\0\0\0\0",
        b"wtpt": b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in _D50)),
        b"A2B0": lut + bytes(-len(lut) % 4),
    }
    return _profile(tags, b"prtrCMYKLab ")


def _profile(tags: dict[bytes, bytes], kind: bytes) -> bytes:
    offset = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data
    head = struct.pack(">I", offset + len(body)) + b"none" + bytes.fromhex("02400000") + kind
    white = struct.pack(">3i", *(round(value * 65536) for value in _D50))
    return head + bytes(12) + b"acsp" + bytes(28) + white + bytes(48) + table + body
