"""DICOM: slices in the order of their places, their spacing, and what is no even row of slices."""

from __future__ import annotations

import io
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from image_files import contents, save
from medical_files import (
    AFFINE,
    DEPTH,
    HEIGHT,
    SPACING,
    VOLUME,
    WIDTH,
    changed,
    dicom,
    frames,
    name_of,
    save_series,
)
from PIL import Image

from imsim._images import ImageFileError, Reading, is_series
from imsim._images.metadata import way_of

pydicom = pytest.importorskip(
    "pydicom", reason="pydicom is not installed: pip install 'imsim[medical]'"
)
pytestmark = pytest.mark.usefixtures("empty_directory")

VOLUMES = Reading(volume=True)


def read(name):
    (found,) = contents(name, VOLUMES)
    return found


def refusal(name, words):
    with pytest.raises(ImageFileError, match=words):
        contents(name, VOLUMES)


def test_slices_are_put_in_the_order_of_their_places():
    found = read(save_series("s", VOLUME))
    assert np.array_equal(found.pixels, VOLUME)
    assert found.pixels.dtype == np.int16
    assert found.space.spacing == SPACING  # from places: SliceThickness is 5
    assert [way_of(d) for d in found.space.directions] == [
        "to the head",
        "to the back",
        "to the left",
    ]
    assert found.space.origin == pytest.approx(AFFINE[:3, 3])
    assert found.notes == ()
    assert found.path == "s"


def test_the_order_follows_the_normal_whatever_the_axes():
    """Sagittal slices: rows to the back, columns to the feet, so that the normal is to the left."""
    for place, pixels in enumerate(VOLUME):
        data = dicom(
            pixels,
            ImageOrientationPatient=[0, 1, 0, 0, 0, -1],
            ImagePositionPatient=[4 - 2.5 * place, 7, 8],
            InstanceNumber=place,
        )
        Path("s").mkdir(exist_ok=True)
        data.save_as(f"s/{place}.dcm", enforce_file_format=True)
    found = read("s")
    normal = np.cross([0, 1, 0], [0, 0, -1])
    assert np.array_equal(found.pixels, VOLUME[:: 1 if normal[0] < 0 else -1])
    assert found.space.spacing == (2.5, 0.8, 0.7)
    assert [way_of(d)[7:] for d in found.space.directions] == [
        "left" if normal[0] > 0 else "right",
        "feet",
        "back",
    ]


def test_slope_and_intercept_of_each_slice():
    stored = (VOLUME.astype(int) + 1024).astype(np.uint16)
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1024, "BitsStored": 12, "HighBit": 11}
    found = read(save_series("ct", stored, **tags))
    assert np.array_equal(found.pixels, VOLUME)
    assert found.pixels.dtype == np.int16
    assert found.notes == ("its values are 1 x stored - 1024, as its header says",)
    save_series("pet", VOLUME)
    for place in range(DEPTH):
        changed("pet", place, RescaleSlope=0.5 * place + 0.25, RescaleIntercept=0)
    found = read("pet")
    assert found.pixels.dtype == np.float32
    scale = (0.5 * np.arange(DEPTH) + 0.25)[:, None, None]
    assert np.array_equal(found.pixels, (scale * VOLUME).astype(np.float32))
    assert "rescaled by 12 slopes" in found.notes[0]


def test_slices_of_large_numbers_beside_rescaled_ones_keep_their_digits():
    save_series("s", VOLUME)
    changed("s", 0, RescaleSlope=0.5, RescaleIntercept=0)
    large = np.full(VOLUME[1].shape, 2**24 + 1, np.int32)
    changed("s", 1, BitsAllocated=32, BitsStored=32, HighBit=31, PixelData=large.tobytes())
    found = read("s").pixels
    assert np.array_equal(found[1], large)
    assert np.array_equal(found[0], VOLUME[0] / 2)


@pytest.mark.parametrize("kind", [np.uint16, np.int16])
def test_monochrome1_is_inverted(kind):
    stored = np.arange(VOLUME.size, dtype=kind).reshape(VOLUME.shape)
    found = read(save_series("s", stored, PhotometricInterpretation="MONOCHROME1"))
    assert np.array_equal(found.pixels, (65535 if kind is np.uint16 else -1) - stored.astype(int))
    assert "MONOCHROME1" in found.notes[0]


def test_padding_is_left_out():
    stored = VOLUME.copy()
    stored[3, :2] = -2000
    for value in (-2000, -2000 + 65536):  # as some writers store a signed one
        data = {} if value > 0 else {"PixelPaddingValue": value}
        save_series(f"p{value}", stored, **data)
        if value > 0:
            for place in range(DEPTH):
                path = Path(f"p{value}/{name_of(place)}")
                slice_ = pydicom.dcmread(path)
                slice_.add_new(0x00280120, "US", value)
                slice_.save_as(path, enforce_file_format=True)
        found = read(f"p{value}")
        assert np.array_equal(found.valid, stored != -2000)
        assert f"{2 * WIDTH} of {VOLUME.size} voxels are left out" in found.notes[-1]


def test_colours():
    colours = np.random.default_rng(1).integers(0, 256, (6, 4, 7, 3)).astype(np.uint8)
    found = read(save_series("rgb", colours))
    assert np.array_equal(found.pixels, colours)
    assert found.channel_axis == -1


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"ImagePositionPatient": None}, "no ImagePositionPatient or ImageOrientationPatient"),
        ({"ImagePositionPatient": [-10, -20, -27]}, "lie at the same place; .*one echo"),
        (
            {"ImagePositionPatient": [-10, -20, 30]},
            "27 mm apart, but most slices 3 mm; add what is",
        ),
        ({"ImagePositionPatient": [-9, -20, -15]}, "shifted by 1 mm .*tilted gantry"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "not parallel .*localisers"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "is no right angle"),
        ({"PixelSpacing": [0.8, 0.9]}, "2 values of PixelSpacing"),
        ({"PixelSpacing": [0.8, 0]}, "its PixelSpacing is"),
        ({"SeriesInstanceUID": "1.2.4"}, "2 series, which begin with 000.dcm, .*one series"),
        ({"Columns": WIDTH - 1}, f"its Columns is {WIDTH - 1}, but that of 000.dcm is {WIDTH}"),
        ({"PixelData": bytes(8)}, "damaged or not DICOM: "),
        ({"PixelData": None}, "damaged or not DICOM: "),
        ({"NumberOfFrames": 10**9}, "damaged: it has 1000000000 frames"),
        ({"BitsStored": 17}, "its pixels have 17 of 16 bits"),
        ({"ModalityLUTSequence": [pydicom.Dataset()]}, "through a table"),
    ],
)
def test_what_is_no_volume(tags, words):
    save_series("s", VOLUME)
    changed("s", 5, **tags)
    refusal("s", f"^s: .*{words}")


def test_a_missing_slice_is_a_gap():
    save_series("s", VOLUME)
    Path("s", name_of(4)).unlink()
    refusal("s", f"{name_of(3)} and {name_of(5)} are 6 mm apart, but most slices 3 mm")


def test_palettes_are_refused():
    save_series("s", VOLUME.astype(np.uint8), PhotometricInterpretation="PALETTE COLOR")
    refusal("s", "its pixels are stored as PALETTE COLOR; save it as MONOCHROME2")


def test_a_decoder_that_is_missing_is_named(monkeypatch):
    from pydicom.uid import JPEGLSLossless

    save_series("s", VOLUME)
    for path in Path("s").iterdir():
        data = pydicom.dcmread(path)
        data.file_meta.TransferSyntaxUID = JPEGLSLossless
        data.PixelData = pydicom.encaps.encapsulate([bytes(8)])
        data["PixelData"].is_undefined_length = True
        data.save_as(path, enforce_file_format=True)
    monkeypatch.setattr(
        "pydicom.pixels.decoders.base.Decoder.is_available", property(lambda _: False)
    )
    refusal("s", r"compression \(JPEG-LS .*not installed; pip install pylibjpeg")


def test_rle_is_decoded():
    save_series("s", VOLUME)
    for path in Path("s").iterdir():
        data = pydicom.dcmread(path)
        data.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
        data.save_as(path, enforce_file_format=True)
    assert np.array_equal(read("s").pixels, VOLUME)


@pytest.mark.parametrize("as_pipe", [False, True])
def test_deflated_files(as_pipe, monkeypatch):
    data = dicom(VOLUME[0])
    data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    data.save_as("a.dcm", enforce_file_format=True)
    content = Path("a.dcm").read_bytes()
    if as_pipe:
        os.remove("a.dcm")
        os.mkfifo("a.dcm")
        threading.Thread(target=lambda: Path("a.dcm").write_bytes(content), daemon=True).start()
        np.testing.assert_array_equal(contents("a.dcm")[0].pixels, VOLUME[0])
        return
    np.testing.assert_array_equal(contents("a.dcm")[0].pixels, VOLUME[0])
    for damaged in (content[:-9], content[:300], content[:400] + bytes(30) + content[430:]):
        Path("a.dcm").write_bytes(damaged)
        with pytest.raises(ImageFileError, match=r"a\.dcm: damaged"):
            contents("a.dcm")
    Path("a.dcm").write_bytes(content)
    monkeypatch.setattr("imsim._images.reading.memory_limit", lambda: 300.0)
    with pytest.raises(ImageFileError, match="takes more than 300 bytes if it is unpacked"):
        contents("a.dcm")


@pytest.mark.filterwarnings("ignore:The decoded RLE segment")
def test_rle_of_another_length_than_its_pixels_is_damaged():
    data = dicom(VOLUME[0])
    data.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
    data.save_as("a.dcm", enforce_file_format=True)
    right = contents("a.dcm")[0].pixels
    (whole,) = pydicom.encaps.generate_frames(data.PixelData, number_of_frames=1)

    def save(frame):
        data.PixelData = pydicom.encaps.encapsulate([frame])
        data.save_as("a.dcm", enforce_file_format=True)

    save(whole + bytes(4))  # filled up
    np.testing.assert_array_equal(contents("a.dcm")[0].pixels, right)
    for damaged in (whole[:90] + whole[96:], whole[:80] + b"\2\1" + whole[80:], whole[:60]):
        save(damaged)
        with pytest.raises(ImageFileError, match=r"a\.dcm: damaged"):
            contents("a.dcm")


@pytest.mark.parametrize("syntax", ["JPEGBaseline8Bit", "JPEG2000Lossless", "JPEG2000"])
def test_frames_without_their_end_are_damaged(syntax):
    grey = VOLUME[0].astype(np.uint8)
    stream = io.BytesIO()
    form = ("jpeg", {}) if syntax.startswith("JPEGB") else ("jpeg2000", {"no_jp2": True})
    Image.fromarray(grey).save(stream, form[0], **form[1])
    whole = stream.getvalue()
    data = dicom(grey)
    data.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
    for zeros in (0, 2, 20, len(whole) // 2):
        content = whole[: len(whole) - zeros] + bytes(zeros)
        data.PixelData = pydicom.encaps.encapsulate([content])
        data["PixelData"].is_undefined_length = True
        data.save_as("a.dcm", enforce_file_format=True)
        if zeros:
            with pytest.raises(ImageFileError, match=r"a\.dcm: damaged: .*mark of their end"):
                contents("a.dcm")
        else:
            assert contents("a.dcm")[0].pixels.shape == grey.shape


def test_what_fills_a_frame_up_is_no_damage():
    grey = VOLUME[0].astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "jpeg")
    data = dicom(grey)
    data.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
    for filled in (b"", b"\xff", b"\0\0", b"\0"):
        data.PixelData = pydicom.encaps.encapsulate([stream.getvalue() + filled])
        data["PixelData"].is_undefined_length = True
        data.save_as("a.dcm", enforce_file_format=True)
        assert contents("a.dcm")[0].pixels.shape == grey.shape


def test_a_stream_that_no_decoder_reads_need_not_be_damaged():
    imagecodecs = pytest.importorskip("imagecodecs")
    deep = VOLUME[0].astype(np.uint16) & 4095
    stream = imagecodecs.jpeg8_encode(deep, bitspersample=12)
    data = dicom(deep, BitsStored=12, HighBit=11)
    data.file_meta.TransferSyntaxUID = pydicom.uid.JPEGExtended12Bit
    data.PixelData = pydicom.encaps.encapsulate([stream])
    data["PixelData"].is_undefined_length = True
    data.save_as("a.dcm", enforce_file_format=True)
    decoder = pydicom.pixels.get_decoder(pydicom.uid.JPEGExtended12Bit)
    if decoder.available_plugins != ("pillow",):
        return  # another one may read it
    words = r"a\.dcm: damaged, or of a kind that no installed decoder reads: .*12-bit.*pip install"
    with pytest.raises(ImageFileError, match=words):
        contents("a.dcm")


def test_frames_are_slices():
    order = np.random.default_rng(2).permutation(DEPTH)
    frames(VOLUME[order], order.tolist()).save_as("f.dcm", enforce_file_format=True)
    found = read("f.dcm")
    assert found.space.spacing == SPACING
    assert np.array_equal(found.pixels, VOLUME - np.arange(DEPTH)[:, None, None])
    with pytest.raises(ImageFileError, match="holds 12 frames; compare it as one: --volume"):
        contents("f.dcm")
    frames(VOLUME, [0, *range(DEPTH - 1)]).save_as("g.dcm", enforce_file_format=True)
    refusal("g.dcm", "frame 0 and frame 1 lie at the same place")


def test_frames_without_places_are_taken_as_they_are_stored():
    data = dicom(VOLUME, ImagePositionPatient=None, ImageOrientationPatient=None)
    data.save_as("f.dcm", enforce_file_format=True)
    found = read("f.dcm")
    assert np.array_equal(found.pixels, VOLUME)
    assert found.space.spacing is None
    assert "no positions" in found.notes[0]


def test_one_slice_is_an_image():
    dicom(VOLUME[0], RescaleSlope=1, RescaleIntercept=3).save_as("a.dcm", enforce_file_format=True)
    (found,) = contents("a.dcm")
    assert (found.ndim, found.pixels.shape) == (2, (HEIGHT, WIDTH))
    assert np.array_equal(found.pixels, VOLUME[0] + 3)
    refusal("a.dcm", "one slice, and no volume; name the folder")
    Path("s").mkdir()
    Path("a.dcm").rename("s/a.dcm")
    refusal("s", "one slice, and no volume; put all slices")


def test_what_a_series_is():
    save_series("s", VOLUME)
    for path in list(Path("s").iterdir()):
        path.rename(path.with_suffix(""))  # many have no ending
    Path("s/DICOMDIR").write_bytes(bytes(128) + b"DICM")
    Path("s/notes.txt").write_text("no image")
    Path("s/.hidden.dcm").write_bytes(b"")
    assert is_series("s")
    found = read("s")
    assert np.array_equal(found.pixels, VOLUME)
    assert "left aside of the folder: 3" in found.notes[0]
    Path("p").mkdir()
    save("p/a.png", np.zeros((4, 4), np.uint8))
    Path("p/README").write_text("no image")
    assert not is_series("p")
    refusal("p", "^p: is a folder without DICOM files")
    with pytest.raises(ImageFileError, match=r"^s: cannot be read"):
        contents("s")
    Path("s/extra.dcm").write_bytes(b"no DICOM")
    refusal("s", "extra.dcm: damaged or not DICOM")


def test_several_frames_beside_other_files_are_refused():
    save_series("s", VOLUME)
    frames(VOLUME, range(DEPTH)).save_as("s/f.dcm", enforce_file_format=True)
    refusal("s", "f.dcm: holds 12 frames, and 12 other files lie beside it")


def test_a_volume_that_is_too_large_is_refused():
    save_series("s", VOLUME)
    with pytest.raises(ImageFileError, match="--max-pixels 2856"):
        contents("s", Reading(volume=True, max_pixels=2855))


def test_the_package_that_is_missing_is_named(monkeypatch):
    save_series("s", VOLUME)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    refusal("s", r"DICOM needs the package pydicom; pip install 'imsim\[medical\]'")


SLICE = VOLUME[0].astype(np.uint16)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"RescaleSlope": "0", "RescaleIntercept": "5"}, "its values would be 0 x stored"),
        ({"BitsStored": 12, "HighBit": 15}, r"of which 15 is the highest \(HighBit\); only 11"),
        ({"Rows": HEIGHT - 1}, f"take {2 * (HEIGHT - 1) * WIDTH} bytes, .* {2 * HEIGHT * WIDTH}"),
        ({"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}, "its pixels take .* bytes"),
        ({"Rows": HEIGHT + 1}, "damaged"),
        ({"Rows": None}, "damaged: its header lacks Rows"),
        ({"PhotometricInterpretation": None}, "its header lacks PhotometricInterpretation"),
        ({"PixelRepresentation": None}, "its header lacks PixelRepresentation"),
    ],
)
def test_pixels_that_are_not_those_of_the_header(tags, words):
    dicom(SLICE).save_as("a.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(contents("a.dcm")[0].pixels, SLICE)
    dicom(SLICE, **tags).save_as("a.dcm", enforce_file_format=True)
    with pytest.raises(ImageFileError, match=f"^a.dcm: .*{words}"):
        contents("a.dcm")


def test_a_byte_that_makes_the_length_even_is_no_damage():
    odd = np.arange(15, dtype=np.uint8).reshape(3, 5)
    for filling in (b"\0", bytes(99)):  # and what fills up a block
        data = dicom(odd, PixelData=odd.tobytes() + filling)
        data.save_as("a.dcm", enforce_file_format=True)
        np.testing.assert_array_equal(contents("a.dcm")[0].pixels, odd)


def test_dicom_without_an_image():
    data = dicom(SLICE, Rows=None, Columns=None, PixelData=None)
    data.save_as("a.dcm", enforce_file_format=True)
    with pytest.raises(ImageFileError, match="is DICOM without an image"):
        contents("a.dcm")


def test_a_stream_that_is_signed_although_the_header_says_otherwise():
    path = pydicom.data.get_testdata_file("J2K_pixelrep_mismatch.dcm", download=False)
    if path is None:
        pytest.skip("pydicom came without its test files")
    data = pydicom.dcmread(path)
    np.testing.assert_array_equal(
        contents(path)[0].pixels, data.pixel_array * data.RescaleSlope + data.RescaleIntercept
    )
