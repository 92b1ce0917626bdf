"""What `imsim compare` leaves out: rectangles, polygons and colours, and files that hold them."""

from __future__ import annotations

import csv
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from command import compared
from image_files import GREY, refusal, save

from imsim.cli import main

pytestmark = pytest.mark.usefixtures("empty_directory")
DOT = GREY.copy()
DOT[5:7, 9:12] ^= 1
DOT[20, 30] ^= 64


class TestIgnored:
    BOX = (9, 5, 3, 2)  # x, y, w, h of the first part of DOT

    def scores(self, capsys, *options: str, b=DOT, a=GREY) -> float:
        files = save("ref/a.png", a), save("t/a.png", b)
        assert main(["compare", "--json", *files, "--metrics", "pixels", *options]) == 0
        self.out, self.err = capsys.readouterr()
        return json.loads(self.out.splitlines()[1])["scores"]["pixels"]

    def test_rectangles(self, capsys):
        assert self.scores(capsys) == 7
        assert self.scores(capsys, "--ignore", "9,5,3,2") == 1
        assert "6 of 1920 pixels (0.3%) are left out by --ignore 9,5,3,2" in self.err
        assert self.scores(capsys, "--ignore", "9,5,3,2", "--ignore", "30,20,99,99") == 0
        assert self.scores(capsys, "--ignore", "10,5,2,2") == 3

    @pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "1,2,0,4", "-1,0,2,2", "1.5,0,2,2", ""])
    def test_no_rectangles(self, capsys, text):
        a = save("a.png", GREY)
        assert "expected x,y,w,h in whole pixels" in refusal(capsys, a, a, f"--ignore={text}")

    @pytest.mark.parametrize(
        ("name", "text", "left"),
        [
            ("i.csv", "file,x,y,w,h\na.png,9,5,3,2\nb.png,30,20,1,1\n", 1),
            ("i.csv", "x, y, w, h, file\n9, 5, 3, 2,\n", 1),
            ("i.csv", "file,x,y,w,h\nt/a.png,9,5,3,2\n", 1),
            ("i.csv", "file,x,y,w,h\na,30,20,1,1\n", 6),
            ("i.csv", "file,x,y,w,h\nb*,9,5,3,2\n", 7),
            ("i.yaml", "a.png: [[9, 5, 3, 2], '30,20,1,1']\n", 0),
            ("i.yml", "'*': [[9, 5, 3, 2]]\n", 1),
            ("i.yaml", "a.png: [[9, 5, 3, 2]]\na.png: [[30, 20, 1, 1]]\n", 0),
            ("i.yaml", "a: [[010, 5, 02, 2]]\n", 3),
            ("i.yaml", "other: &all [[9, 5, 3, 2]]\na: *all\n", 1),
            ("i.csv", "\ufefffile,x,y,w,h\r\n./t//a.png,9,5,3,2\r\n\r\n", 1),
            ("i.csv", "file,x,y,w,h\n[a].png,9,5,3,2\n", 7),
        ],
    )
    def test_files_of_rectangles(self, capsys, name, text, left):
        Path(name).write_text(text)
        assert self.scores(capsys, "--ignore-from", name) == left
        unused = any(f"\n{name}" in f"\n{text}" for name in ("b", "other", "[a]"))
        assert ("no image is called" in self.err) == unused

    @pytest.mark.parametrize(
        "shape",
        [
            {"shapes": [{"points": [[9, 5], [12, 5], [12, 7], [9, 7]]}]},
            {"shapes": [{"points": [[9, 5], [12, 7]], "shape_type": "rectangle"}]},
            {"shapes": [{"points": [[9, 5], [12, 5], [12, 7], [9, 7]], "shape_type": "rectangle"}]},
            {"shapes": [{"points": [[10.5, 6], [14, 6]], "shape_type": "circle"}]},
            {
                "type": "Feature",
                "geometry": {
                    "type": "MultiPolygon",
                    "coordinates": [[[[9, 5], [12, 5], [12, 7], [9, 7], [9, 5]]]],
                },
            },
        ],
    )
    def test_polygons(self, capsys, shape):
        Path("i.json").write_text(json.dumps(shape))
        assert self.scores(capsys, "--ignore-from", "i.json") == 1
        # A folder holds a file for each image.
        Path("j").mkdir()
        Path("j/b.json").write_text(json.dumps(shape))
        assert self.scores(capsys, "--ignore-from", "j") == 7
        Path("j/a.json").write_text(json.dumps(shape))
        assert self.scores(capsys, "--ignore-from", "j") == 1

    def test_holes(self, capsys):
        ring = [[0, 0], [48, 0], [48, 40], [0, 40]]
        hole = [[9, 5], [12, 5], [12, 7], [9, 7]]
        found = {"type": "FeatureCollection", "features": []}
        found["features"].append(
            {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring, hole]}}
        )
        Path("i.geojson").write_text(json.dumps(found))
        assert self.scores(capsys, "--ignore-from", "i.geojson") == 6

    @pytest.mark.parametrize(
        ("name", "text", "words"),
        [
            ("i.csv", "", "lacks the columns file, x, y, w, h"),
            ("i.csv", "file,x,y,w,h\na,1,2,3\n", "i.csv, line 2: '1,2,3,' is no rectangle"),
            ("i.yaml", "- 1\n", "expected the names of images"),
            ("i.yaml", "a: 1\n", "i.yaml, a: expected a list"),
            ("i.yaml", "a: [", "is no YAML"),
            (
                "i.yaml",
                "a: !!python/object/apply:os.system [ls]",
                "a: 'ls' is no rectangle",
            ),
            ("i.json", "{", "is no JSON"),
            ("i.json", "[]", "holds no polygons"),
            ("i.json", '{"type": "Point", "coordinates": [1, 2]}', "Point is no area"),
            ("i.json", '{"shapes": [{"points": [[1, 2]]}]}', "at least three points"),
            ("i.json", '{"shapes": [{"points": [[1, 2], [3, NaN], [4, 5]]}]}', "holds no polygons"),
            (
                "i.json",
                '{"shapes": [{"points": [[1, 1e999], [3, 4]], "shape_type": "circle"}]}',
                "holds no polygons",
            ),
            ("i.json", "[" * 100000, "nested too deeply"),
            ("i.txt", "", "expected a file of .csv"),
            ("i.csv", None, "cannot be read"),
            ("i.csv", f"file,x,y,w,h\n{'a' * 140000},1,2,3,4\n", "is no CSV"),
            ("i.csv", "file,x,y,w,h\nb,a.png,1,2,3,4\n", "line 2: has more cells than"),
            ("i.csv", 'file,x,y,w,h\n"a.png,1,2,3,4\na.png,1,2,3,4\n', "is no CSV: unexpected end"),
            ("i.yaml", f"a: {'[' * 1000}", "nested too deeply"),
            ("i.yaml", "a: &x [*x]\n", "a: '...' is no rectangle"),
        ],
    )
    def test_mistakes_in_files(self, capsys, name, text, words):
        if text is not None:
            Path(name).write_text(text)
        a = save("a.png", GREY)
        assert words in refusal(capsys, a, a, "--ignore-from", name)

    def test_a_colour_of_the_reference(self, capsys):
        marked = np.repeat(GREY[..., None], 3, axis=-1)
        marked[5:7, 9:12] = (255, 0, 255)
        for colour in ("#ff00ff", "magenta"):
            assert self.scores(capsys, "--ignore-colour", colour, a=marked) == 1
        wide = marked.astype(np.uint16) * 257
        files = (
            save("a.npy", wide),
            save("b.npy", np.repeat(257 * np.uint16(DOT)[..., None], 3, -1)),
        )
        call = ["--channel-axis", "-1", "--metrics", "pixels", "--ignore-colour", "magenta"]
        found, _ = compared(capsys, *files, *call)
        assert found["scored"][0]["scores"]["pixels"] == 1
        a = save("a.png", GREY)
        assert "expected a name, as magenta" in refusal(capsys, a, a, "--ignore-colour", "purpel")

    def test_transparent_parts_of_the_reference(self, capsys):
        alpha = np.full(GREY.shape, 255, np.uint8)
        alpha[5:7, 9:12] = 0
        reference = np.dstack([GREY] * 3 + [alpha])
        assert self.scores(capsys, "--ignore-transparent", a=reference) == 1
        assert "no data (transparent) at 6 of 1920 pixels, which are masked" in self.err
        # Of the test image they show the background.
        test = np.dstack([DOT] * 3 + [alpha])
        assert self.scores(capsys, "--ignore-transparent", a=GREY, b=test) == 7

    def test_large_files(self, capsys):
        a = np.random.default_rng(0).normal(size=(400, 300))
        b = a.copy()
        b[100:140, 50:90] += 1
        files = save("a.npy", a), save("b.npy", b)
        polygon = {"shapes": [{"points": [[50, 100], [90, 140]], "shape_type": "rectangle"}]}
        Path("i.json").write_text(json.dumps(polygon))
        call = [*files, "--metrics", "rmse", "--memory", "500kB"]
        for options in (["--ignore", "50,100,40,40"], ["--ignore-from", "i.json"]):
            found, err = compared(capsys, *call, *options)
            assert found["scored"][0]["scores"]["rmse"] == 0
            assert "1600 of 120000 pixels" in err[0]

    def test_the_page_hatches_them(self, capsys):
        files = save("a.png", GREY), save("b.png", DOT)
        assert main(["report", *files, "-o", "r.html", "--ignore", "9,5,3,2"]) == 0
        assert "The mask uses 1914 of 1920 pixels" in Path("r.html").read_text()

    def test_resume_knows_them(self, capsys):
        save("r/1.png", GREY), save("t/1.png", DOT)
        call = ["compare", "r", "t", "--metrics", "pixels", "-o", "o.csv"]
        assert main([*call, "--ignore", "9,5,3,2"]) == 0
        assert main([*call, "--resume"]) == 2
        assert "another run" in capsys.readouterr().err

    @pytest.mark.parametrize(
        "name", ["new\nline", 'quo"te', "com,ma", "e\u0301", "\u00e9", "img[1]", "b*", "\U0001f600"]
    )
    def test_names_as_people_write_them(self, capsys, name):
        for one in (name, "img1", "b2"):
            save(f"r/{one}.png", GREY), save(f"t/{one}.png", DOT)
        with open("i.csv", "w", newline="", encoding="utf-8") as file:
            other = unicodedata.normalize("NFC", name)
            csv.writer(file).writerows([["file", *"xywh"], [f"{other}.png", 9, 5, 3, 2]])
        call = ["r", "t", "--metrics", "pixels", "--ignore-from", "i.csv"]
        found, err = compared(capsys, *call)
        counts = {Path(row["test"]).stem: row["scores"]["pixels"] for row in found["scored"]}
        also = ["b2"] if name == "b*" else []
        assert counts == {n: 1 if n in (name, *also) else 7 for n in (name, "img1", "b2")}
        assert not any("no image is called" in line for line in err)

    @pytest.mark.parametrize("tests", [["t"], ["t", "t"], ["./t/"]])
    def test_a_folder_of_shapes_has_the_paths_of_the_images(self, capsys, tests):
        for name in ("1", "sub/1", "sub/s[0]"):
            save(f"r/{name}.png", GREY), save(f"t/{name}.png", DOT)
        shape = {"shapes": [{"points": [[9, 5], [12, 7]], "shape_type": "rectangle"}]}
        Path("j/sub").mkdir(parents=True)
        call = ["r", *tests, "--metrics", "pixels", "--ignore-from", "j"]
        for place, want in (("1.json", [1, 7, 7]), ("sub/1.png.json", [7, 1, 7])):
            Path("j", place).write_text(json.dumps(shape))
            found, err = compared(capsys, *call)
            assert [row["scores"]["pixels"] for row in found["scored"]] == want * len(tests)
            assert not any("no image is called" in line for line in err)
            Path("j", place).unlink()
        Path("j/s.json").write_text(json.dumps(shape))
        _, err = compared(capsys, *call)
        assert "imsim: note: --ignore-from j/s.json: no image is called s" in err
        Path("k").mkdir()
        Path("k/1.json").write_text(json.dumps(shape))
        Path("j/link").symlink_to("../k")  # folders of shapes may be linked, as those of images
        Path("k/back").symlink_to("../k")
        save("r/link/1.png", GREY), save("t/link/1.png", DOT)
        found, _ = compared(capsys, *call)
        counts = [row["scores"]["pixels"] for row in found["scored"]]
        assert counts == [7, 1, 7, 7] * len(tests)  # of 1, link/1 and those in sub
        Path("j/gone").symlink_to("nowhere")
        _, err = compared(capsys, *call, status=2)
        assert "imsim: error: j/gone: is a link that leads nowhere" in err
        Path("j/gone").unlink(), Path("j/link").unlink()
        Path("j/s.json").rename("j/b.json")
        assert main(["report", "r/1.png", "t/1.png", "-o", "r.html", "--ignore-from", "j"]) == 0
        Path("j/b.json").rename("j/1.json")
        assert main(["report", "r/1.png", "t/1.png", "-o", "r.html", "--ignore-from", "j"]) == 0
        assert "The mask uses 1914 of 1920 pixels" in Path("r.html").read_text()

    def test_images_of_stacks(self, capsys):
        for name, image in (("a.tif", GREY), ("b.tif", DOT)):
            save(name, np.stack([image, image]), photometric="minisblack")
        for name, want in (("b.tif[1]", [7, 1]), ("b[0]", [1, 7]), ("b", [1, 1])):
            Path("i.csv").write_text(f"file,x,y,w,h\n{name},9,5,3,2\n")
            call = ["a.tif", "b.tif", "--metrics", "pixels", "--ignore-from", "i.csv"]
            found, err = compared(capsys, *call)
            assert [row["scores"]["pixels"] for row in found["scored"]] == want
            assert not any("no image is called" in line for line in err)
        Path("j").mkdir()
        shape = {"shapes": [{"points": [[9, 5], [12, 7]], "shape_type": "rectangle"}]}
        Path("j/b.json").write_text(json.dumps(shape))
        found, _ = compared(capsys, *call[:-1], "j")
        assert [row["scores"]["pixels"] for row in found["scored"]] == [1, 1]

    def test_what_covers_nothing_is_said(self, capsys):
        said = "ref/a.png: --ignore 48,0,9,9 covers no pixel of it"
        assert self.scores(capsys, "--ignore", "48,0,9,9") == 7
        assert said in self.err
        assert self.scores(capsys, "--ignore", "47,39,9,9") == 7
        assert "covers no pixel" not in self.err
        a = save("a.npy", np.zeros((400, 300)))
        call = [a, a, "--metrics", "rmse", "--memory", "500kB"]
        for place in ("0,400,9,9", "0,399,9,9"):
            _, err = compared(capsys, *call, "--ignore", place)
            assert any("covers no pixel" in line for line in err) == ("400" in place)

    @pytest.mark.parametrize("option", ["--ignore-value=0", "--ignore-colour=black"])
    @pytest.mark.parametrize("swapped", [False, True])
    def test_what_images_are_filled_up_with_is_no_value_of_theirs(self, capsys, option, swapped):
        images = [np.full((20, 30), 200, np.uint8), np.full((25, 36), 200, np.uint8)]
        images[0][3, 4] = images[1][3, 4] = 0
        files = [save(f"{k}.png", image) for k, image in enumerate(images[:: -1 if swapped else 1])]
        call = [*files, "--on-size-mismatch", "pad", "--metrics", "pixels,pixel_share", option]
        found, err = compared(capsys, *call, "--fail-over", "pixels=0", status=1)
        only_one = 25 * 36 - 20 * 30
        scores = found["scored"][0]["scores"]
        assert (scores["pixels"], scores["pixel_share"]) == (only_one, only_one / (25 * 36 - 1))
        assert any("0.png: 1 of 900 pixels" in line for line in err)

    def test_of_many_names_that_fit_nothing_some_are_told(self, capsys):
        Path("i.csv").write_text("file,x,y,w,h\n" + "".join(f"{k},1,2,3,4\n" for k in range(50)))
        assert self.scores(capsys, "--ignore-from", "i.csv") == 7
        lines = self.err.splitlines()
        assert sum("no image is called" in line for line in lines) == 3
        assert lines[-1] == "imsim: note: 47 more names are of no image"

    def test_a_changed_file_is_seen_by_resume(self, capsys):
        save("r/1.png", GREY), save("t/1.png", DOT)
        Path("i.csv").write_text("file,x,y,w,h\n,9,5,3,2\n")
        call = ["compare", "r", "t", "--metrics", "pixels", "-o", "o.csv", "--ignore-from", "i.csv"]
        assert main(call) == main([*call, "--resume"]) == 0
        # A first pair that is equal tells nothing of it.
        Path("i.csv").write_text("file,x,y,w,h\n,30,20,1,1\n")
        assert main([*call, "--resume"]) == 2
        assert "another run" in capsys.readouterr().err

    def test_files_that_come_and_go_are_seen_by_resume(self, capsys):
        shape = {"shapes": [{"points": [[9, 5], [12, 7]], "shape_type": "rectangle"}]}
        mask = np.zeros(GREY.shape, bool)
        mask[:9] = True
        Path("j").mkdir()
        for name in "01":  # the first one is always scored again
            save(f"r/{name}.png", GREY), save(f"t/{name}.png", DOT), save(f"m/{name}.png", mask)
            Path(f"j/{name}.json").write_text(json.dumps(shape))
        for options, file in (
            (["--ignore-from", "j"], "j/1.json"),
            (["--mask", "m", "--mask-missing", "whole"], "m/1.png"),
        ):
            Path("o.csv").unlink(missing_ok=True)
            call = ["compare", "r", "t", "--metrics", "pixels", "-o", "o.csv", *options]
            assert main(call) == main([*call, "--resume"]) == 0
            Path(file).unlink()
            assert main([*call, "--resume"]) == 2
            assert "another run" in capsys.readouterr().err

    def test_they_are_not_replaced_by_results(self, capsys):
        a = save("a.png", GREY)
        Path("i.csv").write_text("file,x,y,w,h\n")
        for option in ("-o", "--junit"):
            words = refusal(capsys, a, a, "--ignore-from", "i.csv", option, "i.csv")
            assert "i.csv: is a file to be read" in words


@pytest.mark.parametrize("seed", range(16))
def test_options_together_are_what_each_says(capsys, seed):
    """Counts of two sizes, a mask, rectangles, a value and a colour, by the words of the help."""
    rng = np.random.default_rng(seed)
    rule, channels = ("crop", "pad")[seed % 2], [(), (3,)][seed // 2 % 2]
    sides = rng.integers(3, 13, (2, 2))
    a, b = (rng.integers(0, 3, (*s, *channels)).astype(np.uint8) * 127 for s in sides)
    common = tuple(map(slice, sides.min(axis=0)))
    b[common] = a[common]
    b[0, 0] ^= 1
    frame = tuple(sides.min(axis=0) if rule == "crop" else sides.max(axis=0))

    def framed(pixels):
        kept = pixels[: frame[0], : frame[1]]
        pads = [(0, frame[0] - kept.shape[0]), (0, frame[1] - kept.shape[1])]
        return np.pad(kept, [*pads, *[(0, 0)] * (kept.ndim - 2)]).astype(int)

    has_a, has_b = (framed(np.ones(s, bool)) > 0 for s in sides)
    x, y = (framed(image).reshape(*frame, -1) for image in (a, b))
    mask = rng.random(sides[0]) > 0.2
    mask[0, 0] = True
    left, top = rng.integers(0, 9, 2)
    used = (has_a | has_b) & ((framed(mask) > 0) | ~has_a)
    used[top : top + 3, left : left + 2] = False
    used &= ~((x == 127).any(axis=-1) & has_a) & ~((y == 127).any(axis=-1) & has_b)
    used &= ~((x == 0).all(axis=-1) & has_a)
    differs = np.where(has_a & has_b, (x != y).any(axis=-1), True) & used
    call = [save("a.png", a), save("b.png", b), "--mask", save("m.png", mask)]
    call += ["--on-size-mismatch", rule, "--ignore", f"{left},{top},2,3", "--ignore-value", "127"]
    call += ["--ignore-colour", "black", "--metrics", "pixels,pixel_share"]
    found, _ = compared(capsys, *call)
    want = [differs.sum(), differs.sum() / used.sum()] if used.any() else ["NaN", "NaN"]
    assert list(found["scored"][0]["scores"].values()) == want
