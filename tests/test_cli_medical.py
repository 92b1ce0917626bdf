"""`imsim compare --volume` on NIfTI and DICOM: the same voxels, wherever they come from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import compared
from image_files import refusal, save
from medical_files import AFFINE, CHANGED, SPACING, VOLUME, dicom, save_nifti, save_series

import imsim
from imsim.cli import main

pytest.importorskip("nibabel", reason="nibabel is not installed: pip install 'imsim[medical]'")
pytest.importorskip("pydicom", reason="pydicom is not installed: pip install 'imsim[medical]'")
pytestmark = pytest.mark.usefixtures("empty_directory")

RANGE = ("--volume", "--data-range", "4095")
FEW = (*RANGE, "--metrics", "rmse,ssim")
WANTED = dict(
    imsim.compare(VOLUME, CHANGED, ["rmse", "ssim"], data_range=4095, ndim=3, spacing=SPACING)
)


def one(capsys, *arguments, status=0):
    found, err = compared(capsys, *arguments, status=status)
    return found["scored"][0], err


def stored(volume):
    return (volume.astype(int) + 1100).astype(np.uint16)


@pytest.mark.parametrize("first", ["nifti", "packed", "dicom"])
@pytest.mark.parametrize("second", ["nifti", "dicom"])
def test_the_same_voxels_from_any_format(first, second, capsys):
    def save_as(kind, name, volume):
        if kind == "dicom":
            return save_series(name, stored(volume), RescaleSlope=1, RescaleIntercept=-1100)
        return save_nifti(f"{name}.nii{'.gz' if kind == 'packed' else ''}", volume)

    row, _ = one(capsys, save_as(first, "a", VOLUME), save_as(second, "b", CHANGED), *FEW)
    assert row["scores"] == pytest.approx(WANTED, rel=1e-12)
    assert row["spacing"] == list(SPACING)


def test_types_of_quantities_are_widened(capsys):
    a = save_nifti("a.nii", VOLUME)
    wide = save_nifti("b.nii", CHANGED.astype(np.int32))
    row, _ = one(capsys, a, wide, *FEW)
    assert row["scores"] == pytest.approx(WANTED)
    assert any("widened to int32" in note for note in row["notes"])
    network = save("c.npy", CHANGED.astype(np.float32))
    row, err = one(capsys, a, network, *RANGE, "--metrics", "rmse")
    assert row["scores"] == pytest.approx({"rmse": WANTED["rmse"]}, rel=1e-6)
    assert "c.npy: has no spacing; that of a.nii is used, 0.7 x 0.8 x 3 mm" in "\n".join(err)
    # Grey levels of an array of bytes are no quantity.
    err = refusal(capsys, a, save("d.npy", (CHANGED // 16).astype(np.uint8)), *FEW)
    assert "save both as one type of numbers" in err


def test_another_spacing_is_refused_or_said(capsys):
    a = save_nifti("a.nii", VOLUME)
    b = save_nifti("b.nii", CHANGED, AFFINE @ np.diag([1, 1, 1.01, 1]))
    found, _ = compared(capsys, a, b, *FEW, status=2)
    reason = found["failed"][0]["reason"]
    assert "b.nii: its spacing is 0.7 x 0.8 x 3.03 mm, not 0.7 x 0.8 x 3 mm" in reason
    assert "resample one of them; --spacing compares the voxels as they are stored" in reason
    row, _ = one(capsys, a, b, *FEW, "--spacing", "3,0.8,0.7")
    assert row["scores"] == pytest.approx(WANTED)
    assert "3.03 mm" in row["notes"][0]
    near = save_nifti("c.nii", CHANGED, AFFINE @ np.diag([1, 1, 1.0001, 1]))
    assert one(capsys, a, near, *FEW)[1] == []


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        (np.diag([-1, 1, 1, 1]), "its width goes to the right, not to the left"),
        (np.eye(4)[[2, 1, 0, 3]], "its depth goes to the right, not to the head"),
        (
            np.array([[0.995, -0.0998, 0, 0], [0.0998, 0.995, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
            "its height is turned by 5.7 degrees",
        ),
    ],
)
def test_another_orientation_is_refused(turn, words, capsys):
    cube = np.diag([-1.0, -1.0, 1.0, 1.0])
    a, b = save_nifti("a.nii", VOLUME, cube), save_nifti("b.nii", CHANGED, turn @ cube)
    found, _ = compared(capsys, a, b, *FEW, status=2)
    assert words in found["failed"][0]["reason"]
    row, err = one(capsys, a, b, *FEW, "--spacing", "1,1,1")
    assert words in "\n".join(row["notes"])
    assert words in "\n".join(err)


def test_another_place_is_said(capsys):
    moved = AFFINE.copy()
    moved[:3, 3] += 0, 3, 4
    a, b = save_nifti("a.nii", VOLUME), save_nifti("b.nii", CHANGED, moved)
    row, err = one(capsys, a, b, *FEW)
    assert row["scores"] == pytest.approx(WANTED)
    assert "b.nii: begins 5 mm from where a.nii does" in "\n".join(err)


def test_windows_of_many_voxels_have_a_remedy(capsys):
    fine = AFFINE @ np.diag([0.1, 0.1, 0.1, 1])
    a, b = save_nifti("a.nii", VOLUME, fine), save_nifti("b.nii", CHANGED, fine)
    row, _ = one(capsys, a, b, *FEW, status=2)
    assert "ssim needs at least 31x115x131" in row["skipped"]["ssim"]
    assert row["skipped"]["ssim"].endswith("with --spacing 1,1,1 in voxels")
    assert one(capsys, a, b, *FEW, "--spacing", "1,1,1")[0]["skipped"] == {}


def test_masks_have_a_place_too(capsys):
    a, b = save_nifti("a.nii", VOLUME), save_nifti("b.nii", CHANGED)
    inside = np.zeros(VOLUME.shape, np.uint8)
    inside[:, 1:, 1:] = 1
    mask = save_nifti("m.nii.gz", inside)
    row, _ = one(capsys, a, b, *RANGE, "--metrics", "rmse", "--mask", mask)
    assert row["scores"]["rmse"] == pytest.approx(
        imsim.rmse(VOLUME, CHANGED, ndim=3, mask=inside > 0)
    )
    save_nifti("n.nii", inside, AFFINE @ np.diag([-1, 1, 1, 1]))
    found, _ = compared(capsys, a, b, *FEW, "--mask", "n.nii", status=2)
    assert "n.nii: its width goes to the right" in found["failed"][0]["reason"]


def test_labels_have_a_place_too(capsys):
    labels = np.zeros(VOLUME.shape, np.uint8)
    labels[:, 1:, 1:] = 4
    moved = AFFINE.copy()
    moved[:3, 3] += 0, 3, 4
    a, b = save_nifti("a.nii", VOLUME), save_nifti("b.nii", CHANGED, moved)
    few = (*RANGE, "--metrics", "rmse")
    row, err = one(capsys, a, b, *few, "--labels", save_nifti("l.nii", labels))
    assert (row["label"], row["spacing"]) == (4, pytest.approx(SPACING))
    want = imsim.rmse(VOLUME, CHANGED, ndim=3, mask=labels > 0)
    assert row["scores"]["rmse"] == pytest.approx(want)
    assert "b.nii: begins 5 mm from where a.nii does" in "\n".join(err)
    save_nifti("n.nii", labels, AFFINE @ np.diag([-1, 1, 1, 1]))
    found, _ = compared(capsys, a, b, *few, "--labels", "n.nii", status=2)
    assert "n.nii: its width goes to the right" in found["failed"][0]["reason"]


def test_padding_is_left_out_of_scores(capsys):
    padded = VOLUME.copy()
    padded[:, :3] = -2000
    a = save_series("a", padded, PixelPaddingValue=-2000)
    row, _ = one(capsys, a, save_series("b", CHANGED), *RANGE, "--metrics", "rmse")
    wanted = imsim.rmse(VOLUME, CHANGED, ndim=3, mask=padded != -2000)
    assert row["scores"]["rmse"] == pytest.approx(wanted)


def test_folders_of_series_are_paired_by_name(capsys):
    for folder, volume in (("r", VOLUME), ("t", CHANGED)):
        save_series(f"{folder}/case.1", volume)
        save_nifti(f"{folder}/case2.nii{'.gz' if folder == 'r' else ''}", volume)
        save_series(f"{folder}/sub/case3", volume)
    save_series("t/case.9", CHANGED)
    run = ["compare", "r", "t", *FEW, "--maps", "maps", "-o", "rows.json"]
    assert main(run) == 0
    *rows, end = (json.loads(line) for line in Path("rows.json").read_text().splitlines())
    assert (end["kind"], end["counts"]["no partner"]) == ("end", 1)
    assert [row.get("test") for row in rows] == [
        None,
        *("t/case.1", "t/case2.nii", "t/sub/case3", "t/case.9"),
    ]
    assert rows[-1]["kind"] == "no partner"
    for row in rows[1:-1]:
        assert row["scores"] == pytest.approx(WANTED)
    assert sorted(str(path) for path in Path("maps").rglob("*.tif")) == [
        "maps/case.1.ssim.tif",
        "maps/case2.ssim.tif",
        "maps/sub/case3.ssim.tif",
    ]
    assert main([*run, "--resume"]) == 0
    save_series("t/sub/case3", VOLUME)  # changed since
    assert main([*run, "--resume"]) == 2
    assert "another run" in capsys.readouterr().err


def test_a_series_against_many(capsys):
    save_series("a", VOLUME), save_series("b", CHANGED)
    found, _ = compared(capsys, "a", "a", "b/", *FEW)
    assert [row["test"] for row in found["scored"]] == ["a", "b/"]
    assert found["scored"][1]["scores"] == pytest.approx(WANTED)


def test_without_volume_a_series_is_a_folder_of_images(capsys):
    save_series("a", VOLUME)
    found, _ = compared(capsys, "a", "a", "--metrics", "rmse")
    assert [row["scores"] for row in found["scored"]] == [{"rmse": 0}] * len(VOLUME)


def test_a_folder_of_volumes_is_not_compared_with_one(capsys):
    save_series("r/a", VOLUME), save_series("b", VOLUME)
    err = refusal(capsys, "r", "b", "--volume")
    assert "b: is one volume, a folder of DICOM files, but the reference r is a folder of" in err


def test_a_page_on_two_series(capsys):
    save_series("a", VOLUME), save_nifti("b.nii", CHANGED)
    mask = save_nifti("m.nii", np.ones(VOLUME.shape, np.uint8))
    run = ["report", "a", "b.nii", *RANGE, "--mask", mask, "-o", "page.html"]
    assert main(run) == 0
    html = Path("page.html").read_text(encoding="utf-8")
    assert "b.nii against a" in html
    assert "Spacing 0.7 × 0.8 × 3, in which" in html
    assert ">H</span>" in html  # the directions of the reference
    assert f"{WANTED['ssim']:.6g}" in html
    turned = save_nifti("c.nii", CHANGED, AFFINE @ np.diag([-1, 1, 1, 1]))
    run[2] = turned
    assert main(run) == 2
    assert "its width goes to the right" in capsys.readouterr().err
    assert main([*run, "--spacing", "3,0.8,0.7"]) == 0
    assert "its width goes to the right" in Path("page.html").read_text(encoding="utf-8")


def test_units_of_dicom_that_differ_are_said(capsys):
    for name, tags in {
        "a": {"RescaleType": "HU"},
        "b": {"RescaleType": "OD"},
        "c": {"RescaleType": "US"},
        "d": {"RescaleType": "HU"},
    }.items():
        data = dicom(VOLUME[0], RescaleSlope="1", RescaleIntercept="0", **tags)
        data.save_as(f"{name}.dcm", enforce_file_format=True)
    found, _ = compared(capsys, *(f"{name}.dcm" for name in "abcd"), "--metrics", "rmse")
    said = [[note for note in row["notes"] if "units" in note] for row in found["scored"]]
    assert [len(notes) for notes in said] == [1, 0, 0]
    assert "its values are in units of 'OD', and those of the reference of 'HU'" in said[0][0]
