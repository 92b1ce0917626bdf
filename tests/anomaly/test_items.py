"""Items in frames and strips: found, parted, cut out, and judged one by one."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.base import BaseEstimator

import imsim
from imsim.anomaly import AnomalyDetector, Item, ItemDetector, ItemFinder, LineScan, storage
from imsim.anomaly.detector import OddImageWarning, UnscorableImageWarning
from imsim.anomaly.pieces import MARGIN
from imsim.anomaly.xray import UnusableImageWarning

RADIUS = 12
NOISE = 0.01


def belt(shape: tuple[int, int], seed: int = 0) -> Any:
    """A beam without items."""
    return 1 + NOISE * np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def put(frame: Any, y: float, x: float, radius: float = RADIUS, depth: float = 1.0) -> Any:
    """Let a ball absorb; its rim is thin."""
    rows, columns = np.mgrid[: frame.shape[0], : frame.shape[1]]
    inside = np.maximum(radius**2 - (rows - y) ** 2 - (columns - x) ** 2, 0)
    frame *= np.exp(-depth * np.sqrt(inside) / RADIUS).astype(np.float32)
    return frame


def singles(count: int = 12) -> Any:
    """Balls with radii from 11 to 13 pixels, one in each image."""
    return np.stack(
        [put(belt((40, 40), i), 20, 20, 11 + 2 * i / (count - 1)) for i in range(count)]
    )


@pytest.fixture(scope="module")
def finder() -> ItemFinder:
    return ItemFinder().fit(singles())


def kinds(items: list[Item]) -> list[str]:
    return [item.kind for item in items]


def same(a: list[Item], b: list[Item]) -> bool:
    """Whether two lists hold the same items, to the last bit."""

    def plain(item: Item) -> Any:
        crop = None if item.crop is None else (item.crop.dtype.str, item.crop.tobytes())
        return item._replace(crop=crop)

    return [plain(item) for item in a] == [plain(item) for item in b]


class TestCut:
    def test_places(self, finder: ItemFinder) -> None:
        frame = put(put(belt((60, 110)), 20, 20), 35, 80, 11)
        first, second = finder.cut(frame)
        assert kinds([first, second]) == ["item", "item"]
        assert (first.centre_y, first.centre_x) == pytest.approx((20, 20), abs=0.2)
        assert (second.centre_y, second.centre_x) == pytest.approx((35, 80), abs=0.2)
        # The mean over 3x3 pixels reaches beyond the rim, which is thin.
        assert abs(first.width - 25) <= 2
        assert abs(second.height - 23) <= 2
        assert (first.x, first.y) == (20 - first.width // 2, 20 - first.height // 2)
        assert abs(first.area - np.pi * RADIUS**2) < 60
        assert first.reason is None

    def test_crops_hold_the_item_in_its_background(self, finder: ItemFinder) -> None:
        frame = put(belt((90, 110)), 40, 60)
        (item,) = finder.cut(frame)
        assert item.crop is not None
        assert item.crop.shape == finder.shape_ == (40, 40)
        assert item.crop.dtype == frame.dtype
        top, left = item.y + item.height // 2 - 20, item.x + item.width // 2 - 20
        assert (item.crop == frame[top : top + 40, left : left + 40]).all()

    @pytest.mark.parametrize("apart", [22, 23, 24])
    def test_touching_items_are_parted(self, finder: ItemFinder, apart: float) -> None:
        frame = belt((80, 100))
        for y, x in ((30, 30), (30, 30 + apart), (30 + 0.87 * apart, 30 + apart / 2)):
            put(frame, y, x)
        assert ndimage.label(finder.mark(frame))[1] == 1
        found = finder.cut(frame)
        assert kinds(found) == ["item"] * 3
        assert sorted(round(item.centre_x) for item in found) == pytest.approx(
            [30, 30 + apart / 2, 30 + apart], abs=1
        )

    def test_flat_sides_that_meet(self) -> None:
        def bar(frame: Any, y: int, x: int) -> Any:
            frame[y : y + 16, x : x + 30] -= 0.5
            return frame

        finder = ItemFinder().fit(np.stack([bar(belt((30, 50), i), 7, 10) for i in range(6)]))
        apart = bar(bar(belt((60, 100)), 10, 10), 27, 10)  # a line of background between them
        assert ndimage.label(finder.mark(apart))[1] == 1
        assert kinds(finder.cut(apart)) == ["item", "item"]
        shifted = bar(bar(belt((60, 100)), 10, 10), 26, 25)
        assert kinds(finder.cut(shifted)) == ["item", "item"]
        (one,) = finder.cut(bar(bar(belt((60, 100)), 10, 10), 26, 10))  # no neck, and no line
        assert (one.kind, one.crop) == ("large", None)

    @pytest.mark.parametrize(
        "inside", [0.0, 0.05, 1.0, 5.0], ids=["metal", "stone", "hole", "bright"]
    )
    def test_bodies_and_holes_part_nothing(self, finder: ItemFinder, inside: float) -> None:
        frame = put(put(belt((60, 80)), 30, 25), 30, 49)
        plain = finder.cut(frame)
        frame[24:36, 22:29] = inside
        found = finder.cut(frame)
        assert kinds(found) == ["item", "item"]
        for one, other in zip(found, plain, strict=True):
            # A hole that is larger than gaps between items moves the line between them a little.
            assert one[1:7] == pytest.approx(other[1:7], abs=0 if inside < 0.1 else 1)

    def test_a_crack_parts_nothing(self, finder: ItemFinder) -> None:
        frame = put(belt((40, 40)), 20, 20)
        frame[5:25, 19:22] = 1
        assert kinds(finder.cut(frame)) == ["item"]

    def test_neighbours_have_no_influence(self, finder: ItemFinder) -> None:
        frame = put(put(put(belt((70, 90)), 25, 25), 25, 48), 50, 36)
        found = finder.cut(frame)
        assert kinds(found) == ["item"] * 3
        for number, item in enumerate(found):
            changed = frame.copy()
            y, x = round(item.centre_y), round(item.centre_x)
            changed[y - 5 : y + 6, x - 5 : x + 6] *= 0.5
            again = finder.cut(changed)
            assert (finder.mark(changed) == finder.mark(frame)).all()
            for other in range(3):
                assert same([found[other]], [again[other]]) is (other != number)

    def test_background_replaces_neighbours(self, finder: ItemFinder) -> None:
        frame = 1.1 * put(put(belt((60, 90)), 30, 17), 30, 45)  # brighter than the good images
        labels, count = ndimage.label(finder.mark(frame))
        assert count == 2
        padded = np.pad(frame, 40, constant_values=np.nan)
        labels = np.pad(labels, 40)
        for item in finder.cut(frame):
            assert item.crop is not None
            top, left = item.y + item.height // 2 + 20, item.x + item.width // 2 + 20
            place = np.s_[top : top + 40, left : left + 40]
            own = labels == labels[70, 40 + round(item.centre_x)]
            square = np.ones((2 * MARGIN + 1, 2 * MARGIN + 1))
            others = ndimage.binary_dilation((labels > 0) & ~own, square)
            kept = np.isfinite(padded[place]) & (own | ~others)[place]
            assert (item.crop[kept] == padded[place][kept]).all()
            assert 100 < (~kept).sum() < 400
            assert item.crop[~kept].mean() == pytest.approx(1.1, abs=0.003)
            assert item.crop[~kept].std() == pytest.approx(NOISE, rel=0.2)

    def test_what_is_no_item_is_said(self, finder: ItemFinder) -> None:
        frame = belt((120, 160))
        put(frame, 30, 30)
        put(frame, 60, 5)  # cut
        put(frame, 30, 80, 4)  # debris
        frame[60:110, 60:130] = 0.4  # a sheet
        put(frame, 30, 120)
        frame[30, 120] = np.nan
        frame[10, 10] = 0  # a single pixel is no object
        found = finder.cut(frame)
        at = {item.kind: item for item in found}
        assert len(found) == 5
        assert at.keys() == {"item", "cut", "debris", "large", "damaged"}
        assert (at["cut"].x, round(at["cut"].centre_y)) == (0, 60)
        assert (round(at["debris"].centre_y), round(at["debris"].centre_x)) == (30, 80)
        assert (at["large"].y, at["large"].height) == pytest.approx((60, 50), abs=2)
        assert round(at["damaged"].centre_x) == 120
        for kind, words in (
            ("cut", "touches the border"),
            ("debris", "smaller than any item"),
            ("large", "larger than an item"),
            ("damaged", "NaN"),
        ):
            assert words in str(at[kind].reason)
            assert at[kind].crop is None

    def test_too_many_items_that_hang_together_say_so(self, finder: ItemFinder) -> None:
        frame = belt((260, 260))
        for y in range(24, 240, 20):
            for x in range(24, 240, 20):
                put(frame, y, x)
        (found,) = finder.cut(frame)
        assert found.kind == "large"
        assert re.match(r"is as large as \d\d items: so many", str(found.reason))

    def test_only_the_item_at_the_border_is_cut(self, finder: ItemFinder) -> None:
        found = finder.cut(put(put(belt((60, 60)), 30, 8), 30, 31))
        assert sorted(kinds(found)) == ["cut", "item"]

    def test_a_lone_nan_is_said(self, finder: ItemFinder) -> None:
        frame = belt((40, 40))
        frame[4:10, 20:26] = np.inf
        assert kinds(finder.cut(frame)) == ["damaged"]

    @pytest.mark.parametrize("level", [1e38, -3e38])
    def test_numbers_near_the_largest_float_say_so_without_a_warning(
        self, finder: ItemFinder, level: float
    ) -> None:
        assert kinds(finder.cut(np.full((60, 80), level, np.float32))) == ["cut"]

    def test_frames_without_items(self, finder: ItemFinder) -> None:
        assert finder.cut(belt((50, 70))) == []
        (dark,) = finder.cut(np.zeros((100, 200), np.float32))
        assert dark.kind == "cut"
        assert "background as bright" in str(dark.reason)

    @pytest.mark.parametrize("is_light", [False, True])
    def test_no_item_is_lost_in_another_background(self, is_light: bool) -> None:
        """Not even where the background moves away from the items, and they from the threshold."""
        side = -1 if is_light else 1
        finder = ItemFinder().fit(side * singles())
        frame = side * put(put(belt((60, 90)), 30, 17), 30, 45)
        changed = [frame + side * shift for shift in np.linspace(0, 2, 41, dtype=np.float32)]
        assert all(finder.cut(other) for other in changed)
        assert kinds(finder.cut(changed[-1])) == ["cut"]
        assert "background as bright" in str(finder.cut(changed[-1])[0].reason)
        scan = LineScan(finder)
        parts = [item for row in changed[-1] for item in scan.feed(row[None])]
        assert kinds([*parts, *scan.end()]) == ["cut"]

    def test_a_glint_is_no_other_background(self, finder: ItemFinder) -> None:
        frame = put(put(belt((60, 90)), 30, 17), 30, 45)
        before = finder.mark(frame)
        frame[5:20, 60:80] += 3
        assert (finder.mark(frame)[:, :55] == before[:, :55]).all()
        assert kinds(finder.cut(frame)) == ["item", "item"]

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64])
    @pytest.mark.parametrize("is_light", [False, True])
    def test_light_and_dark_items_of_any_type(self, dtype: Any, is_light: bool) -> None:
        def counts(images: Any) -> Any:
            values = 1.1 - images if is_light else images
            scale = 200 if dtype == np.uint8 else 4000
            return np.round(np.clip(values, 0, 1.2) * scale).astype(dtype)

        finder = ItemFinder().fit(counts(singles()))
        frame = put(put(belt((60, 80)), 30, 25), 30, 49)
        found = finder.cut(counts(frame))
        assert kinds(found) == ["item", "item"]
        assert finder.side_ == (1 if is_light else -1)
        assert {item.crop.dtype for item in found if item.crop is not None} == {np.dtype(dtype)}

    def test_an_item_near_the_corner(self, finder: ItemFinder) -> None:
        (item,) = finder.cut(put(belt((28, 28)), 14, 14))  # smaller than a crop
        assert item.kind == "item"
        assert item.crop is not None
        assert item.crop.shape == finder.shape_


class TestFit:
    def test_from_frames(self) -> None:
        frames = np.stack([belt((70, 120), i) for i in range(5)])
        for frame in frames:
            put(put(put(put(frame, 20, 20), 20, 60, 11), 50, 60, 13), 50, 30)
            put(frame, 20, 119)  # cut
            put(frame, 40, 90, 3)  # a crumb
        put(frames[0], 20, 83)  # touches another one
        finder = ItemFinder().fit(frames)
        single = ItemFinder().fit(singles())
        assert finder.limits_.smallest == pytest.approx(single.limits_.smallest, rel=0.05)
        assert finder.limits_.largest == pytest.approx(single.limits_.largest, rel=0.05)
        assert finder.threshold_ == pytest.approx(single.threshold_, rel=0.1)
        assert kinds(finder.cut(put(belt((40, 40)), 20, 20, 3))) == []  # good frames have crumbs
        assert kinds(finder.cut(put(belt((40, 40)), 20, 20, 6))) == ["debris"]
        found = [item for frame in frames for item in finder.cut(frame)]
        assert kinds(found).count("item") == 5 * 4 + 1

    def test_items_with_a_waist(self) -> None:
        def dumbbell(frame: Any, y: int, x: int) -> Any:
            return put(put(frame, y, x - 9, 10), y, x + 8, 10)

        good = np.stack([dumbbell(belt((40, 60), i), 20, 30) for i in range(6)])
        finder = ItemFinder().fit(good)
        assert kinds(finder.cut(good[0])) == ["item"]
        frame = dumbbell(dumbbell(belt((80, 90)), 20, 30), 38, 38)
        assert ndimage.label(finder.mark(frame))[1] == 1
        assert kinds(finder.cut(frame)) == ["item", "item"]

    def test_rings_keep_their_hole(self) -> None:
        def ring(frame: Any, y: int, x: int) -> Any:
            rows, columns = np.mgrid[: frame.shape[0], : frame.shape[1]]
            reach = np.hypot(rows - y, columns - x)
            frame[(reach > 7) & (reach < 15)] -= 0.5
            return frame

        finder = ItemFinder().fit(np.stack([ring(belt((40, 40), i), 20, 20) for i in range(4)]))
        found = finder.cut(ring(ring(belt((60, 90)), 30, 25), 30, 54))
        assert kinds(found) == ["item", "item"]

    def test_faulty_columns(self) -> None:
        frames = np.stack([belt((70, 120), i) for i in range(6)])
        for i, frame in enumerate(frames):
            put(put(put(frame, 20, 20 + i), 40, 58, 11), 45, 100, 13)
        sound = ItemFinder().fit(frames)
        frames[:, :, 57] = 0
        frames[:, :, 100] = 3
        finder = ItemFinder().fit(frames)
        assert np.flatnonzero(finder.faults_).tolist() == [57, 100]
        assert finder.limits_.largest == pytest.approx(sound.limits_.largest, rel=0.1)
        for frame in frames:
            found = finder.cut(frame)
            assert kinds(found) == ["item"] * 3
            assert all(item.crop is not None and item.crop.min() > 0.1 for item in found)
            scan = LineScan(finder)
            strips = [item for rows in np.split(frame, 7) for item in scan.feed(rows)]
            assert same([*strips, *scan.end()], found)
        with pytest.raises(imsim.ShapeError, match="60 pixels wide, but faulty columns"):
            finder.cut(belt((70, 60)))

    def test_crops_of_a_given_size(self) -> None:
        finder = ItemFinder(shape=(64, 48)).fit(singles())
        assert {finder.cut(one)[0].crop.shape for one in singles()} == {(64, 48)}
        with pytest.raises(imsim.OptionError, match=r"shape=\(24, 40\); good items have up to"):
            ItemFinder(shape=(24, 40)).fit(singles())

    def test_odd_images_are_left_out(self) -> None:
        good = np.concatenate([singles(), belt((2, 40, 40))])
        good[13] = np.nan
        with pytest.warns(UnusableImageWarning, match="2 of 14 images are not learned from"):
            finder = ItemFinder().fit(good)
        assert list(finder.left_out_) == [12, 13]
        assert "NaN" in finder.left_out_[13]

    @pytest.mark.parametrize("odd", [np.nan, 0.0, 3.0])
    def test_images_that_are_left_out_set_no_limit(self, odd: float) -> None:
        good = np.concatenate([singles(), np.full((1, 40, 40), odd, np.float32)])
        with pytest.warns(UnusableImageWarning, match="1 of 13"):
            finder = ItemFinder().fit(good)
        sound = ItemFinder().fit(good[:-1])
        assert finder.threshold_ == sound.threshold_
        assert (finder.limits_, finder.shape_) == (sound.limits_, sound.shape_)

    @pytest.mark.parametrize(
        ("good", "words"),
        [
            (np.ones((5, 40, 40)), "show no items that stand out"),
            (np.zeros((5, 40, 40), np.uint8), "show no items that stand out"),
            (np.full((5, 40, 40), np.nan), "show no items that stand out"),
            (singles()[:2], "show 2 whole items"),
            (singles()[:, :20], "show 0 whole items"),
            (singles()[0], "expected a non-empty"),
            (singles()[:, :5, :5], "expected at least 8x8"),
            (np.zeros((0, 40, 40)), "non-empty"),
            ([["a"]], "dtype"),
        ],
    )
    @pytest.mark.filterwarnings("ignore::imsim.anomaly.xray.UnusableImageWarning")
    def test_what_is_refused(self, good: Any, words: str) -> None:
        with pytest.raises(imsim.ImsimError, match=words):
            ItemFinder().fit(good)

    @pytest.mark.parametrize(
        "options",
        [{"shape": 40}, {"shape": (40, 8)}, {"shape": (40, 40.0)}, {"longest": 3}, {"longest": 39}],
    )
    def test_options_that_are_refused(self, options: Any) -> None:
        with pytest.raises(imsim.OptionError, match=next(iter(options))):
            ItemFinder(**options).fit(singles())

    def test_not_fitted(self) -> None:
        with pytest.raises(imsim.ImsimError, match="not fitted"):
            ItemFinder().cut(belt((40, 40)))
        with pytest.raises(imsim.ImsimError, match="not fitted"):
            ItemDetector().inspect(belt((1, 40, 40)))
        with pytest.raises(imsim.OptionError, match="finder=3"):
            LineScan(3)  # type: ignore[arg-type]

    def test_frames_that_are_refused(self, finder: ItemFinder) -> None:
        with pytest.raises(imsim.DTypeError, match="is of type uint8, the good images of float"):
            finder.cut(np.zeros((40, 40), np.uint8))
        with pytest.raises(imsim.ShapeError, match=r"\(height, width\)"):
            finder.cut(belt((2, 40, 40)))


def long_belt() -> Any:
    """Touching items, debris, NaN, an endless strap that an item touches, a cut one at each end."""
    frame = belt((330, 90), 7)
    for y, x in ((5, 20), (40, 15), (40, 38), (61, 27), (90, 60), (150, 15), (185, 30), (327, 20)):
        put(frame, y, x)
    put(frame, 100, 20, 5)
    frame[60:280, 70:74] = 0.4  # longer than items are
    put(frame, 215, 62)
    frame[120, 10] = np.nan
    for k in range(20):  # lone pixels are left out, pairs are not
        frame[10 + 15 * k : 12 + 15 * k, 84] = -1
    return frame


@pytest.fixture(scope="module")
def finder_for_strips() -> ItemFinder:
    return ItemFinder(longest=100).fit(singles())


class TestStrips:
    @given(cuts=st.lists(st.integers(0, 330), max_size=40), every=st.sampled_from([0, 1, 2, 7, 50]))
    def test_any_partition_gives_the_same(
        self, finder_for_strips: ItemFinder, cuts: list[int], every: int
    ) -> None:
        frame = long_belt()
        places = sorted([*cuts, *(range(0, 330, every) if every else [])])
        scan = LineScan(finder_for_strips)
        found = [item for rows in np.split(frame, places) for item in scan.feed(rows)]
        assert same([*found, *scan.end()], finder_for_strips.cut(frame))

    def test_what_is_on_the_belt(self, finder_for_strips: ItemFinder) -> None:
        found = finder_for_strips.cut(long_belt())
        assert kinds(found).count("item") == 5
        assert kinds(found).count("cut") == 2
        large = [item for item in found if item.kind == "large"]
        assert [item.y + item.height for item in large] == [159, 259, 281]
        assert "goes on" in str(large[0].reason)
        # Within a strip, everything lies where the whole image has it.
        labels, count = ndimage.label(finder_for_strips.mark(long_belt()))
        rows = {(s[0].start, s[1].start) for s in ndimage.find_objects(labels)}
        alone = [i for i in found if i.kind in ("debris", "cut")]
        assert {(i.y, i.x) for i in alone} <= rows
        assert count > 5

    def test_items_come_when_they_are_complete(self, finder: ItemFinder) -> None:
        scan, frame = LineScan(finder), put(belt((200, 60)), 30, 30)
        came = [len(scan.feed(rows)) for rows in np.split(frame, 25)]
        assert came.index(1) <= (30 + RADIUS + 20 + MARGIN + 2 + 16) // 8 + 1
        assert sum(came) == 1
        assert scan.end() == []

    def test_memory_is_bounded(self, finder_for_strips: ItemFinder) -> None:
        scan, most, found = LineScan(finder_for_strips), 0, []
        for seed in range(60):
            rows = belt((20, 70), seed)
            rows[:, 10:14] = 0.4 if seed else 1  # no end
            found += scan.feed(rows)
            rows_of = [scan._strips._rows, *scan._strips._waiting]
            most = max(most, sum(len(part) for part in rows_of if part is not None))
        assert most < 100 + 20 + MARGIN + 40
        assert kinds(found) == ["large"] * 11
        assert [item.y for item in found] == [19 + 100 * k for k in range(11)]

    def test_the_memory_of_the_caller_may_change(self, finder: ItemFinder) -> None:
        frame, scan, buffer = put(belt((60, 60)), 30, 30), LineScan(finder), belt((5, 60))
        found = []
        for rows in np.split(frame, 12):
            buffer[:] = rows
            found += scan.feed(buffer)
        assert same([*found, *scan.end()], finder.cut(frame))

    def test_odd_strips(self, finder: ItemFinder) -> None:
        scan = LineScan(finder)
        assert scan.end() == []
        with pytest.raises(imsim.ImsimError, match="has ended"):
            scan.feed(belt((5, 60)))
        scan = LineScan(finder)
        assert scan.feed(belt((5, 60))) == scan.feed(belt((0, 60))) == []
        with pytest.raises(imsim.ShapeError, match="rows have 50 pixels, those before 60"):
            scan.feed(belt((5, 50)))
        with pytest.raises(imsim.ShapeError, match=r"\(height, width\)"):
            scan.feed(belt((1, 60))[0])


@pytest.fixture(scope="module")
def detector() -> ItemDetector:
    with pytest.warns(UserWarning, match="few for a false-alarm rate"):
        return ItemDetector(AnomalyDetector(random_state=0)).fit(singles(16))


class TestVerdicts:
    def frame(self) -> Any:
        frame = put(put(put(belt((90, 130), 3), 30, 30), 30, 54), 60, 42)
        frame[28:31, 53:56] *= 0.2  # in the second one
        put(frame, 60, 100, 5)
        return put(frame, 85, 80)

    def test_one_per_item(self, detector: ItemDetector) -> None:
        rows = detector.inspect_frame(self.frame())
        found = {(row.kind, round(row.centre_x)): row for row in rows}
        assert found.keys() == {
            *(("item", 30), ("item", 54), ("item", 42)),
            *(("debris", 100), ("cut", 80)),
        }
        assert [found["item", x].verdict for x in (30, 54, 42)] == ["good", "anomaly", "good"]
        assert found["debris", 100].verdict == "anomaly"
        assert found["cut", 80].verdict == "not inspected"
        for row in rows:
            assert np.isnan(row.anomaly_score) == (row.kind != "item") == (row.reason is not None)
        again = detector.inspect(np.stack([belt((90, 130), 3), self.frame()]))
        assert repr([row._replace(frame=0) for row in again]) == repr(rows)
        assert {row.frame for row in again} == {1}

    def test_strips_have_the_same_verdicts(self, detector: ItemDetector) -> None:
        scan = detector.scan()
        found = [row for rows in np.split(self.frame(), [7, 8, 40, 66]) for row in scan.feed(rows)]
        assert repr([*found, *scan.end()]) == repr(detector.inspect_frame(self.frame()))

    def test_saved_and_loaded(self, detector: ItemDetector, tmp_path: Any) -> None:
        detector.save(tmp_path / "m.safetensors")
        again = ItemDetector.load(tmp_path / "m.safetensors")
        assert repr(again.inspect_frame(self.frame())) == repr(detector.inspect_frame(self.frame()))
        assert again.finder_.limits_ == detector.finder_.limits_
        with pytest.raises(imsim.OptionError, match=r"use ItemDetector\.load"):
            AnomalyDetector.load(tmp_path / "m.safetensors")
        detector.finder_.save(tmp_path / "f.safetensors")
        finder = ItemFinder.load(tmp_path / "f.safetensors")
        assert same(finder.cut(self.frame()), detector.finder_.cut(self.frame()))

    @pytest.mark.parametrize(
        ("field", "value"),
        [("shape", [8, 40]), ("shape", 3), ("longest", 0), ("depth", 3), ("side", 2)],
    )
    def test_files_that_are_refused(
        self, detector: ItemDetector, tmp_path: Any, field: str, value: Any
    ) -> None:
        finder = detector.finder_
        state, arrays = finder.get_state()
        where = state if field in state else arrays
        where[field] = value if field in state else np.array(value)
        storage.write(tmp_path / "f.safetensors", "ItemFinder", state, arrays)
        with pytest.raises(imsim.OptionError, match="cannot be loaded"):
            ItemFinder.load(tmp_path / "f.safetensors")

    def test_what_was_learned_from(self) -> None:
        good = singles(16)
        good[5] = np.nan
        put(good[3], 2, 2, 8)  # cut
        plain = AnomalyDetector(random_state=0, false_alarm_rate=0.2)
        with pytest.warns(UnusableImageWarning, match="1 of 16"):
            detector = ItemDetector(plain).fit(good)
        assert list(detector.left_out_) == [5]
        assert detector.kinds_ == {"item": 15, "cut": 1}
        assert len(detector.detector_.held_out_scores_) == 15

    def test_every_item_that_was_not_learned_from_is_named(self) -> None:
        good = np.concatenate([singles(30), singles(30)[::-1]], axis=2)
        rng = np.random.default_rng(0)
        for frame in good[4:7]:
            for x in (20, 60):  # each in its own way
                frame[12:28, x - 8 : x + 8] *= rng.choice([0.2, 1], (16, 16))
        plain = AnomalyDetector(preprocess=None, random_state=0, false_alarm_rate=0.2)
        with pytest.warns(OddImageWarning, match=r"images\[4\] has an item at x="):
            detector = ItemDetector(plain).fit(good)
        assert {4, 5, 6} <= set(detector.odd_)
        assert len(detector.odd_) <= 6  # of 30 frames, a few good ones beside
        for reason in (detector.odd_[frame] for frame in (4, 5, 6)):
            assert len(set(re.findall(r"has an item at x=(\d+), y=\d+ that is un", reason))) == 2
        assert detector.left_out_ == {}

    def test_every_item_that_cannot_be_used_is_named(self) -> None:
        class Preprocess(BaseEstimator):  # type: ignore[misc]
            def fit(self, images: Any) -> Any:
                return self

            def transform(self, images: Any) -> Any:
                masks = np.ones(images.shape, np.bool_)
                masks[6:8] = False
                return images, masks, {6: "is refused", 7: "is refused"}

        good = np.concatenate([singles(), singles()[::-1]], axis=2)
        plain = AnomalyDetector(
            preprocess=Preprocess(), data_range=1.0, false_alarm_rate=0.1, random_state=0
        )  # some crops are copies
        with pytest.warns(UnscorableImageWarning, match=r"index 3; images\[3\] has an item"):
            detector = ItemDetector(plain).fit(good)
        reason = detector.left_out_[3]
        assert len(set(re.findall(r"has an item at x=(\d+), y=\d+ that is refused", reason))) == 2

    def test_what_is_refused(self) -> None:
        with pytest.raises(imsim.OptionError, match="detector=3"):
            ItemDetector(3).fit(singles())  # type: ignore[arg-type]
        with pytest.raises(imsim.OptionError, match="finder='x'"):
            ItemDetector(finder="x").fit(singles())  # type: ignore[arg-type]
