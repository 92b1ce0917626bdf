"""NIfTI files: the order of axes, spacing, units, directions, slopes, and what is damaged."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest
from image_files import contents
from medical_files import AFFINE, CHANGED, SPACING, VOLUME, save_nifti

from imsim._images import ImageFile, ImageFileError, Reading
from imsim._images.metadata import way_of

pytest.importorskip("nibabel", reason="nibabel is not installed: pip install 'imsim[medical]'")
pytestmark = pytest.mark.usefixtures("empty_directory")

VOLUMES = Reading(volume=True)


def read(name):
    (found,) = contents(name, VOLUMES)
    return found


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_axes_spacing_and_directions(name):
    found = read(save_nifti(name, VOLUME))
    assert found.ndim == 3
    assert found.pixels.dtype == np.int16
    assert np.array_equal(found.pixels, VOLUME)
    assert found.pixels.flags.writeable
    assert found.space.spacing == SPACING
    assert [way_of(d) for d in found.space.directions] == [
        "to the head",
        "to the back",
        "to the left",
    ]
    assert np.array_equal(found.space.origin, AFFINE[:3, 3])
    assert found.notes == ()
    assert str(found) == "17 x 14 x 12 voxels, signed 16-bit, grey, spacing 0.7 x 0.8 x 3 mm"


def test_version_2_and_the_other_byte_order():
    import nibabel as nib

    save_nifti("two.nii", VOLUME, kind=nib.Nifti2Image)
    assert np.array_equal(read("two.nii").pixels, VOLUME)
    image = nib.Nifti1Image(VOLUME.T, AFFINE, nib.Nifti1Header(endianness=">"))
    nib.save(image, "big.nii")
    found = read("big.nii")
    assert np.array_equal(found.pixels, VOLUME)
    assert found.pixels.dtype.isnative


def test_several_volumes():
    save_nifti("t.nii.gz", np.stack([VOLUME, CHANGED]))
    save_nifti("t.nii", np.stack([VOLUME, CHANGED]))
    for name in ("t.nii", "t.nii.gz"):
        one, two = contents(name, VOLUMES)
        assert one.path == f"{name}[0]"
        assert np.array_equal(one.pixels, VOLUME)
        assert np.array_equal(two.pixels, CHANGED)
        with ImageFile(f"{name}[1]", VOLUMES) as file:
            assert np.array_equal(file.read(0).pixels, CHANGED)


@pytest.mark.parametrize(
    ("slope", "intercept", "kind"),
    [(2, -7, np.int32), (2, 0, np.int32), (0.5, 1, np.float32), (1, 0, np.int16)],
)
def test_slope_and_intercept(slope, intercept, kind):
    found = read(save_nifti("a.nii", VOLUME, scaling=(slope, intercept)))
    assert found.pixels.dtype == kind
    assert np.array_equal(found.pixels, slope * VOLUME.astype(float) + intercept)
    assert bool(found.notes) == (kind != np.int16)


@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_a_large_intercept_leaves_all_digits(kind):
    found = read(save_nifti("a.nii", VOLUME.astype(kind), scaling=(0.25, 1e9)))
    assert np.array_equal(found.pixels, 0.25 * VOLUME.astype(float) + 1e9)


def test_a_slope_of_0_means_none():
    assert np.array_equal(read(save_nifti("a.nii", VOLUME, scaling=(0, 5))).pixels, VOLUME)


@pytest.mark.parametrize(("unit", "scale"), [("meter", 1e3), ("micron", 1e-3), ("unknown", 1)])
def test_units(unit, scale):
    found = read(save_nifti("a.nii", VOLUME, unit=unit))
    assert found.space.spacing == pytest.approx([scale * length for length in SPACING])
    assert found.space.origin == pytest.approx(scale * AFFINE[:3, 3])
    assert ("no unit" in "".join(found.notes)) == (unit == "unknown")


def test_without_directions_or_spacing():
    found = read(save_nifti("a.nii", VOLUME, affine=None, sform_code=0, qform_code=0))
    assert found.space.directions is None
    assert "no sform, no qform" in found.notes[0]
    save_nifti("b.nii", VOLUME)
    content = bytearray(Path("b.nii").read_bytes())
    content[80:84] = np.float32(0).tobytes()  # pixdim[1]
    Path("b.nii").write_bytes(content)
    found = read("b.nii")
    assert found.space.spacing is None or found.space.spacing[2] > 0
    assert "pixdim" in "".join(found.notes) or "zooms" in "".join(found.notes)


def test_two_spacings_are_said():
    save_nifti("a.nii", VOLUME)
    content = bytearray(Path("a.nii").read_bytes())
    content[80:84] = np.float32(0.9).tobytes()
    Path("a.nii").write_bytes(content)
    found = read("a.nii")
    assert found.space.spacing == (3.0, 0.8, 0.9)
    assert "two spacings" in found.notes[-1]


def test_colours_and_what_is_no_number():
    colours = np.random.default_rng(1).integers(0, 256, (4, 5, 6, 3)).astype(np.uint8)
    rgb = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    save_nifti("rgb.nii", np.ascontiguousarray(colours).view(rgb)[..., 0])
    found = read("rgb.nii")
    assert np.array_equal(found.pixels, colours)
    assert (found.ndim, found.channel_axis) == (3, -1)
    save_nifti("c.nii", VOLUME.astype(np.complex64))
    with pytest.raises(ImageFileError, match=r"c.nii: its values are of type complex64"):
        read("c.nii")


def test_vectors_are_refused():
    save_nifti("v.nii", np.zeros((3, 1, 4, 5, 6), np.float32))
    with pytest.raises(ImageFileError, match="a voxel holds 3 numbers"):
        read("v.nii")


def test_a_volume_is_no_image():
    save_nifti("a.nii.gz", VOLUME)
    with pytest.raises(ImageFileError, match=r"holds a volume, 17 x 14 x 12 voxels; .*--volume"):
        contents("a.nii.gz")


def test_what_is_damaged():
    save_nifti("a.nii", VOLUME)
    content = Path("a.nii").read_bytes()
    Path("short.nii").write_bytes(content[:-1])
    Path("head.nii").write_bytes(content[:346] + b"n+1"[:2])
    packed = gzip.compress(content)
    Path("cut.nii.gz").write_bytes(packed[: len(packed) // 2])
    Path("sum.nii.gz").write_bytes(packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:])
    Path("less.nii.gz").write_bytes(gzip.compress(content[:-1]))
    Path("more.nii.gz").write_bytes(gzip.compress(content + bytes(2**20 + 1)))
    Path("big.nii").write_bytes(content[:42] + np.array([0, 1, 1], "<i2").tobytes() + content[48:])
    far = content[:108] + np.array(1e30, "<f4").tobytes() + content[112:]
    Path("far.nii.gz").write_bytes(gzip.compress(far))
    names = "short.nii", "cut.nii.gz", "sum.nii.gz", "less.nii.gz", "more.nii.gz", "big.nii"
    for name in (*names, "far.nii.gz"):
        with pytest.raises(ImageFileError, match=f"^{name}: damaged"):
            contents(name, VOLUMES)
    with pytest.raises(ImageFileError, match=r"head.nii: "):
        contents("head.nii", VOLUMES)


def test_bytes_behind_the_voxels_are_said():
    save_nifti("a.nii", VOLUME)
    longer = Path("a.nii").read_bytes() + bytes(8)
    Path("a.nii").write_bytes(longer)
    Path("a.nii.gz").write_bytes(gzip.compress(longer))
    for name in ("a.nii", "a.nii.gz"):
        assert read(name).notes == ("8 bytes behind its voxels are left aside",)


def test_a_header_and_voxels_in_two_files_are_refused():
    import nibabel as nib

    nib.save(nib.Nifti1Pair(VOLUME.T, AFFINE), "a.img")
    with pytest.raises(ImageFileError, match=r"save it as one file, \.nii"):
        contents("a.hdr", VOLUMES)


def test_a_volume_that_is_too_large_is_refused_before_it_is_read():
    save_nifti("a.nii.gz", VOLUME)
    with pytest.raises(ImageFileError, match="--max-pixels 2856"):
        contents("a.nii.gz", Reading(volume=True, max_pixels=2855))


def test_the_package_that_is_missing_is_named(monkeypatch):
    save_nifti("a.nii", VOLUME)
    monkeypatch.setitem(sys.modules, "nibabel.nifti1", None)
    with pytest.raises(ImageFileError, match=r"needs the package nibabel; pip install 'imsim\[med"):
        contents("a.nii", VOLUMES)


@pytest.mark.parametrize("scaling", [(np.inf, 0), (2, np.nan), (2, np.inf)])
def test_a_scale_that_is_not_finite_is_damage(scaling):
    with pytest.raises(ImageFileError, match=r"^a.nii: damaged: its values would be"):
        read(save_nifti("a.nii", VOLUME, scaling=scaling))


def test_nan_as_slope_means_none_and_is_said():
    found = read(save_nifti("a.nii", VOLUME, scaling=(np.nan, 0)))
    assert np.array_equal(found.pixels, VOLUME)
    assert found.notes == ("its header has NaN as slope; its values are taken as stored",)
