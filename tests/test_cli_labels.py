"""`imsim compare --labels`: a row for each region of a label image."""

from __future__ import annotations

import csv
import io
import re
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from command import by_kind, compared
from image_files import GREY, NOISY, png_of, save, save_packed
from medical_files import dicom
from PIL import Image, features

import imsim
from imsim.cli import main

pytestmark = pytest.mark.usefixtures("empty_directory")

LABELS = np.zeros(GREY.shape, np.uint8)
LABELS[2:20, 3:20], LABELS[22:38, 5:40], LABELS[0, 0] = 1, 2, 7
METRICS = ["ssim", "rmse"]
FLAGS = ("--metrics", ",".join(METRICS))


def files(*names: str) -> list[str]:
    return [save("a.png", GREY), *(save(name, NOISY) for name in names or ("b.png",))]


def expected(labels: np.ndarray = LABELS) -> imsim.Regions:
    with pytest.warns(imsim.EmptyMaskWarning):
        return imsim.regions(GREY, NOISY, labels, METRICS)


def rows_of(capsys, *arguments: str, status: int = 0) -> list[dict[str, str]]:
    assert main(["compare", "--csv", *arguments]) == status
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def test_csv(capsys):
    rows = rows_of(capsys, *files(), "--labels", save("l.png", LABELS), *FLAGS)
    want = expected()
    assert list(rows[0]) == ["reference", "test", *want, "status", "notes", "options"]
    for k, row in enumerate(rows):
        assert [row["reference"], row["test"], row["status"]] == ["a.png", "b.png", "scored"]
        for column in want:
            np.testing.assert_equal(float(row[column]), float(want[column][k]))
        assert row["options"] == '{"labels": "l.png"}'
    assert [row["notes"][:20] for row in rows] == ["", "", "b.png, label 7: ssim"]


def test_json(capsys):
    want = expected()
    lines, said = compared(capsys, *files(), "--labels", save("l.png", LABELS), *FLAGS)
    (run,) = lines["run"]
    assert run["labels"] == "l.png"
    assert [row["label"] for row in lines["scored"]] == [1, 2, 7]
    assert [row["pixels"] for row in lines["scored"]] == want.pixels.tolist()
    assert lines["scored"][1]["bbox"] == [22, 5, 38, 40]
    assert lines["scored"][1]["scores"] == {name: want[name][1] for name in METRICS}
    assert lines["scored"][2]["scores"]["ssim"] == "NaN"
    (note,) = said
    assert note.startswith(
        "imsim: note: b.png, label 7: ssim: no position could be scored: too few"
    )


def test_a_table_for_each_of_a_few_pairs(capsys):
    assert (
        main(["compare", *files("b.png", "c.png"), "--labels", save("l.png", LABELS), *FLAGS]) == 0
    )
    tables = capsys.readouterr().out.rstrip().split("\n\n")
    assert [one.splitlines()[0].split(":")[0] for one in tables] == ["b.png", "c.png"]
    assert tables[0].split("\n", 1)[1] == str(expected())


def test_a_row_for_each_region_of_many_pairs(capsys):
    names = [f"{letter}.png" for letter in "bcdef"]
    assert main(["compare", *files(*names), "--labels", save("l.png", LABELS), *FLAGS]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[1:4]] == [f"b.png, label {k}" for k in (1, 2, 7)]
    assert "15 regions scored" in lines
    assert lines[-1].split("  ")[-1].strip() == "b.png, label 1"  # the worst


def test_a_limit_holds_for_each_region(capsys):
    labels = save("l.png", LABELS)
    second, largest = np.sort(expected()["rmse"])[-2:]
    assert main(["compare", *files(), "--labels", labels, *FLAGS, "--fail-under", "rmse=1e3"]) == 0
    capsys.readouterr()
    limit = f"rmse={(second + largest) / 2}"
    assert main(["compare", *files(), "--labels", labels, *FLAGS, "--fail-under", limit]) == 1
    assert "imsim: fails: b.png, label 1: rmse is" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["uint16", "int32", "int64"])
@pytest.mark.parametrize("name", ["l.npy", "l.tif"])
def test_labels_of_other_files(capsys, kind, name):
    labels = LABELS.astype(kind) * 300
    (lines, _) = compared(capsys, *files(), "--labels", save(name, labels), *FLAGS)
    assert [row["label"] for row in lines["scored"]] == [300, 600, 2100]


def test_the_indices_of_a_palette_are_the_labels(capsys):
    picture = Image.fromarray(LABELS)
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [200] * (3 * 5))
    picture.save("l.png", transparency=0)
    (lines, _) = compared(capsys, *files(), "--labels", "l.png", *FLAGS)
    assert [row["label"] for row in lines["scored"]] == [1, 2, 7]


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_grey_levels_of_few_bits_are_not_scaled(capsys, depth):
    labels = np.minimum(LABELS, 2**depth - 1)
    bits = (labels[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    lines = np.packbits(bits.reshape(len(labels), -1), axis=-1)
    header = struct.pack(">IIBBBBB", 48, 40, depth, 0, 0, 0, 0)
    data = zlib.compress(np.pad(lines, ((0, 0), (1, 0))).tobytes())
    content = png_of((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    Path("l.png").write_bytes(content)
    (lines, _) = compared(capsys, *files(), "--labels", "l.png", *FLAGS)
    assert [row["label"] for row in lines["scored"]] == sorted({*labels.flat} - {0})


@pytest.mark.parametrize("bits", [2, 4])
def test_tiff_of_few_bits_is_not_scaled(capsys, bits):
    labels = np.minimum(LABELS, 2**bits - 1)
    save_packed("l.tif", labels, bits)
    (lines, _) = compared(capsys, *files(), "--labels", "l.tif", *FLAGS)
    assert [row["label"] for row in lines["scored"]] == sorted({*labels.flat} - {0})


def test_the_indices_of_a_palette_in_tiff_are_the_labels(capsys):
    palette = np.zeros((3, 256), np.uint16)
    palette[0, 1:] = 65535
    save("l.tif", LABELS, photometric="palette", colormap=palette)
    (lines, _) = compared(capsys, *files(), "--labels", "l.tif", *FLAGS)
    assert [row["label"] for row in lines["scored"]] == [1, 2, 7]


@pytest.mark.parametrize("name", ["l.jpg", "l.avif"])
def test_formats_that_change_numbers_are_refused(capsys, name):
    if name == "l.avif" and not features.check("avif"):
        pytest.skip("needs a Pillow that writes AVIF")
    save(name, LABELS, quality=95)
    refused(capsys, name)


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "jpegxl", "jpegxr", "lerc"])
@pytest.mark.parametrize("memory", [(), ("--memory", "1 MB")], ids=["memory", "disk"])
def test_compressions_of_tiff_that_may_change_numbers_are_refused(capsys, compression, memory):
    labels = np.zeros((1024, 1100), np.uint8)
    labels[: LABELS.shape[0], : LABELS.shape[1]] = LABELS
    save("l.tif", labels, compression=compression, tile=(256, 256))
    refused(capsys, "l.tif", *memory)


FITS = {
    "RICE_1": {},
    "HCOMPRESS_1": {"hcomp_scale": 2},
    "GZIP_1": {"quantize_level": 16, "quantize_method": -1},
}


@pytest.mark.parametrize("form", FITS)
def test_tiles_of_fits_that_changed_numbers_are_refused(capsys, form):
    fits = pytest.importorskip("astropy.io.fits")
    labels = LABELS.astype(np.int32 if form == "HCOMPRESS_1" else np.float32)

    def put(name, pixels, **options):
        hdu = fits.CompImageHDU(pixels, compression_type=form, **options)
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(name)

    put("l.fits", labels, **FITS[form])
    refused(capsys, "l.fits")
    put("exact.fits", LABELS.astype(np.int32))
    (lines, _) = compared(capsys, *files(), "--labels", "exact.fits", *FLAGS)
    assert [row["label"] for row in lines["scored"]] == [1, 2, 7]


@pytest.mark.parametrize(
    ("syntax", "earlier", "kind"),
    [
        ("1.2.840.10008.1.2.4.50", None, "MONOCHROME2"),
        ("1.2.840.10008.1.2.4.91", None, "MONOCHROME2"),
        ("1.2.840.10008.1.2.4.90", "01", "MONOCHROME2"),
        ("1.2.840.10008.1.2.1", "01", "MONOCHROME2"),
        ("1.2.840.10008.1.2.1", "00", "MONOCHROME1"),
        ("1.2.840.10008.1.2.1", "00", "MONOCHROME2"),
    ],
)
def test_labels_in_dicom(capsys, syntax, earlier, kind):
    data = dicom(LABELS, PhotometricInterpretation=kind, LossyImageCompression=earlier or "00")
    data.file_meta.TransferSyntaxUID = syntax
    if ".2.4." in syntax:
        pydicom = pytest.importorskip("pydicom")
        content = BytesIO()
        if syntax.endswith("50"):
            Image.fromarray(LABELS).save(content, "jpeg")
        else:
            Image.fromarray(LABELS).save(content, "jpeg2000", no_jp2=True)
        data.PixelData = pydicom.encaps.encapsulate([content.getvalue()])
        data["PixelData"].is_undefined_length = True
    data.save_as("l.dcm", enforce_file_format=True)
    if kind == "MONOCHROME1":
        assert main(["compare", *files(), "--labels", "l.dcm"]) == 2
        assert "l.dcm: is stored with 0 as white" in capsys.readouterr().err
    elif earlier == "00":
        (lines, _) = compared(capsys, *files(), "--labels", "l.dcm", *FLAGS)
        assert [row["label"] for row in lines["scored"]] == [1, 2, 7]
    else:
        refused(capsys, "l.dcm")


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_labels_with_0_as_white_are_refused(capsys, dtype):
    save("l.tif", LABELS.astype(dtype), photometric="miniswhite")
    assert main(["compare", *files(), "--labels", "l.tif"]) == 2
    assert "l.tif: is stored with 0 as white" in capsys.readouterr().err


def test_filters_and_codecs_that_change_numbers_are_refused(capsys):
    h5py, zarr = pytest.importorskip("h5py"), pytest.importorskip("zarr")
    numcodecs = pytest.importorskip("numcodecs")
    with h5py.File("l.h5", "w") as file:
        file.create_dataset("x", data=LABELS.astype("f4"), chunks=(8, 8), scaleoffset=1)
    refused(capsys, "l.h5")
    with h5py.File("q.nc", "w") as file:
        file["x"] = LABELS.astype("f4")
        file["x"].attrs["_QuantizeBitGroomNumberOfSignificantDigits"] = 3
    refused(capsys, "q.nc")
    with h5py.File("exact.h5", "w") as file:
        file.create_dataset("x", data=LABELS, chunks=(8, 8), scaleoffset=0, compression="gzip")
    codec = numcodecs.BitRound(3)
    options = {"zarr_format": 2, "chunks": (8, 8)}
    zarr.create_array("l.zarr", data=LABELS.astype("f4"), filters=[codec], **options)
    refused(capsys, "l.zarr")
    zarr.create_array("exact.zarr", data=LABELS, **options)
    for name in ("exact.h5", "exact.zarr"):
        (lines, _) = compared(capsys, *files(), "--labels", name, *FLAGS)
        assert [row["label"] for row in lines["scored"]] == [1, 2, 7]


@pytest.mark.parametrize("form", ["PXR24", "B44", "DWAA", "ZIP"])
def test_compressions_of_openexr_that_change_numbers_are_refused(capsys, form):
    library, imath = pytest.importorskip("OpenEXR"), pytest.importorskip("Imath")
    header = library.Header(48, 40)
    kind = imath.PixelType(imath.PixelType.FLOAT)
    header["channels"] = {"Y": imath.Channel(kind)}
    header["compression"] = imath.Compression(getattr(imath.Compression, f"{form}_COMPRESSION"))
    file = library.OutputFile("l.exr", header)
    file.writePixels({"Y": LABELS.astype(np.float32).tobytes()})
    file.close()
    if form != "ZIP":
        refused(capsys, "l.exr")
        return
    (lines, _) = compared(capsys, *files(), "--labels", "l.exr", *FLAGS)
    assert [row["label"] for row in lines["scored"]] == [1, 2, 7]


def refused(capsys, name, *options):
    assert main(["compare", *files(), "--labels", name, *options]) == 2
    words = f"imsim: error: {name}: is compressed as .*may change numbers.*as PNG"
    assert re.match(words, capsys.readouterr().err)


def test_a_mask_leaves_out_pixels_of_regions(capsys):
    mask = np.full(GREY.shape, 255, np.uint8)
    mask[:, 10:] = 0
    arguments = [*files(), "--labels", save("l.png", LABELS), "--mask", save("m.png", mask)]
    (lines, _) = compared(capsys, *arguments, *FLAGS)
    want = expected(np.where(mask, LABELS, 0))
    assert [row["pixels"] for row in lines["scored"]] == want.pixels.tolist()
    assert [row["scores"]["rmse"] for row in lines["scored"]] == want["rmse"].tolist()


def test_a_region_that_is_left_out_is_not_forgotten(capsys):
    call = [*files("a2.png"), "--labels", save("l.png", LABELS), *FLAGS, "--ignore", "5,22,35,16"]
    (lines, err) = compared(capsys, *call, "--fail-under", "rmse=1e9", status=1)
    want = expected(np.where(LABELS == 2, 0, LABELS))
    assert [row["label"] for row in lines["scored"]] == [1, 2, 7]
    one, two, seven = (row["scores"]["rmse"] for row in lines["scored"])
    assert (one, two, seven) == (want["rmse"][0], "NaN", want["rmse"][1])
    assert (lines["scored"][1]["pixels"], lines["scored"][1]["bbox"]) == (0, [0, 0, 0, 0])
    assert lines["scored"][1]["notes"] == ["a2.png, label 2: ssim, rmse: every pixel is left out"]
    assert "imsim: fails: a2.png, label 2: rmse is NaN" in err


def test_a_stack_of_labels(capsys):
    stack = np.stack([GREY, NOISY])
    labels = np.stack([LABELS, LABELS + 1])
    arguments = [save("a.png", GREY), save("s.tif", stack), "--labels", save("l.tif", labels)]
    (lines, _) = compared(capsys, *arguments, "--metrics", "rmse")
    rows = [(row["test"], row["label"]) for row in lines["scored"]]
    assert rows == [("s.tif[0]", k) for k in (1, 2, 7)] + [("s.tif[1]", k) for k in (1, 2, 3, 8)]


@pytest.mark.parametrize("dtype", ["f4", "f8", ">f8"])
def test_whole_numbers_that_are_stored_as_floats(capsys, dtype):
    labels = (LABELS.astype(int) * 300 - 300 * (LABELS == 2) * 3).astype(dtype)
    (lines, _) = compared(capsys, *files(), "--labels", save("l.npy", labels), *FLAGS)
    assert [row["label"] for row in lines["scored"]] == [-300, 300, 2100]


def test_whole_numbers_of_nifti(capsys):
    nibabel = pytest.importorskip("nibabel")
    rng = np.random.default_rng(0)
    a = rng.integers(0, 200, (14, 16, 18), dtype=np.uint8)
    labels = np.zeros(a.shape)
    labels[1:13, 2:14, 3:15], labels[0, 0, 0] = 4, 1000
    np.save("a.npy", a)
    for name, array in (("a.nii", a), ("l.nii", labels)):
        nibabel.save(nibabel.Nifti1Image(array.T, np.eye(4), dtype=array.dtype), name)
    given = ("a.nii", "a.nii", "--volume", "--labels", "l.nii", "--metrics", "rmse")
    (lines, _) = compared(capsys, *given)
    assert [row["label"] for row in lines["scored"]] == [4, 1000]


@pytest.mark.parametrize("form", ["--csv", "--json", "--no"])
def test_a_slice_without_labels_has_a_row(capsys, form):
    save("s.tif", np.stack([NOISY] * 4), photometric="minisblack")
    save("l.tif", np.stack([LABELS, 0 * LABELS, LABELS, LABELS]), photometric="minisblack")
    call = ["compare", save("a.png", GREY), "s.tif", "--labels", "l.tif", "--metrics", "rmse"]
    call += [form] * (form != "--no")
    assert main(call) == 0
    out, err = capsys.readouterr()
    assert "l.tif[1]: holds no label" in err
    if form == "--json":
        rows = by_kind(out)["scored"]
        assert [row.get("label") for row in rows] == [1, 2, 7, None, *[1, 2, 7] * 2]
        assert rows[3]["scores"] == {"rmse": "NaN"}
        assert "holds no label" in rows[3]["notes"][0]
    elif form == "--csv":
        rows = list(csv.DictReader(io.StringIO(out)))
        assert [row["label"] for row in rows] == ["1", "2", "7", "", *["1", "2", "7"] * 2]
        assert (rows[3]["rmse"], rows[3]["test"]) == ("nan", "s.tif[1]")
    assert main([*call, "--fail-under", "rmse=1e9"]) == 1
    assert "fails: s.tif[1]: rmse is NaN" in capsys.readouterr().err


def test_labels_that_are_all_left_out_have_their_rows(capsys):
    call = [*files(), "--labels", save("l.png", LABELS), *FLAGS, "--ignore", "0,0,48,40"]
    (lines, _) = compared(capsys, *call, "--fail-under", "rmse=1e9", status=1)
    assert [row["label"] for row in lines["scored"]] == [1, 2, 7]
    assert all(row["scores"]["rmse"] == "NaN" for row in lines["scored"])


def test_metrics_that_cannot_run(capsys):
    a, b = save("a.tif", GREY.astype(np.uint16)), save("b.tif", NOISY.astype(np.uint16))
    labels = save("l.png", LABELS)
    (lines, said) = compared(capsys, a, b, "--labels", labels, *FLAGS, status=2)
    assert all("--data-range" in row["skipped"]["ssim"] for row in lines["scored"])
    assert any("ssim was skipped" in line for line in said)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.repeat(LABELS[..., None], 3, axis=-1), "3 channels.*one whole number a pixel.*palette"),
        (LABELS + 0.5, "64-bit float, grey, with the value [0-9.]*, but.*one whole number a pixel"),
        (np.where(LABELS, LABELS, np.nan), "with the value nan"),
        (np.where(LABELS, 2.0**60, 0), "with the value 1.15"),
        (LABELS.astype(np.complex64), "type complex64"),
        (LABELS[:-1], "the labels are 48 x 39 pixels.*must have the same size"),
        (np.zeros_like(LABELS), "holds no label"),
    ],
)
def test_labels_that_are_none(capsys, labels, words):
    name = "l.npy" if labels.dtype.kind in "fc" else "l.png"
    assert main(["compare", *files(), "--labels", save(name, labels)]) == 2
    assert re.match(f"imsim: error: {name}: .*{words}", capsys.readouterr().err)


def test_files_and_options_that_do_not_fit(capsys):
    arguments = ["compare", *files(), "--labels", save("l.png", LABELS)]
    for more in (["--maps", "maps"], ["-o", "x.csv", "--resume"]):
        assert main([*arguments, *more]) == 2
        assert "is for whole images, and --labels has a row for each region" in (
            capsys.readouterr().err
        )
    assert main([*arguments, "--csv", "-o", "l.png"]) == 2
    assert "is a file to be read" in capsys.readouterr().err
    assert main(["compare", *files(), "--labels", "none.png"]) == 2
    assert "none.png" in capsys.readouterr().err


def test_rows_in_a_file(capsys):
    labels = save("l.png", LABELS)
    assert main(["compare", *files(), "--labels", labels, *FLAGS, "-o", "x.json"]) == 0
    assert "3 regions scored" not in capsys.readouterr().err
    with open("x.json", encoding="utf-8") as file:
        assert len(by_kind(file.read())["scored"]) == 3


def test_labels_of_volumes(capsys):
    rng = np.random.default_rng(0)
    a = rng.integers(0, 200, (14, 16, 18), dtype=np.uint8)
    labels = np.zeros(a.shape, np.uint8)
    labels[1:13, 2:14, 3:15] = 4
    for name, array in (("a.npy", a), ("b.npy", a + 9), ("l.npy", labels)):
        np.save(name, array)
    given = ("a.npy", "b.npy", "--volume", "--spacing", "2,1,1", "--labels", "l.npy")
    names = ["imed", "rmse"]  # the first one takes the spacing
    (row,) = rows_of(capsys, *given, "--metrics", ",".join(names))
    want = imsim.regions(a, a + 9, labels, names, ndim=3, spacing=(2, 1, 1))
    assert [int(row[f"bbox-{k}"]) for k in range(6)] == [1, 2, 3, 13, 14, 15]
    assert [float(row[name]) for name in names] == [float(want[name][0]) for name in names]
    assert row["spacing"] == "2,1,1"
    lines, _ = compared(capsys, *given, "--metrics", "rmse")
    assert lines["scored"][0]["spacing"] == [2.0, 1.0, 1.0]
