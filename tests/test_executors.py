"""Where the work of a run is done: each image once, whatever happens to those who do it."""

from __future__ import annotations

from collections import Counter, deque
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imsim import get_workers
from imsim.cli import fleet as on_workers
from imsim.cli.jobs import MOST_IMAGES, Opened, Part, Queue, as_they_come, in_order, next_size


class Simulated:
    """A cluster in this process, whose workers die of some images and of nothing else.

    Tasks end in an order of its own, and take a time by the number of their images.
    """

    def __init__(self, lengths: list[int], deadly: set[Any], slots: int, order: Any) -> None:
        self.lengths, self.deadly, self._slots, self._order = lengths, deadly, slots, order
        self._tasks: deque[list[Part]] = deque()
        self.most = self.largest = 0
        self.blamed: list[int] = []

    def slots(self) -> int:
        return self._slots

    def __len__(self) -> int:
        return len(self._tasks)

    def submit(self, parts: list[Part]) -> None:
        assert parts
        self._tasks.append(parts)
        self.most = max(self.most, len(self._tasks))

    def ended(self) -> Any:
        self._tasks.rotate(self._order(len(self._tasks)))
        parts = self._tasks.popleft()
        opened, images = Opened(), []
        for part in parts:
            chosen = opened.choice(part)(self.lengths[part.subject])
            images += [(part.subject, index) for index in chosen]
        self.largest = max(self.largest, len(images))
        if self.deadly & set(images):
            yield parts, None
        else:
            yield parts, on_workers.Done(opened.answer(images), 0.001 * len(images))


@given(
    st.lists(st.integers(1, 200), min_size=1, max_size=12),
    st.integers(1, 5),
    st.data(),
)
def test_each_image_once(lengths, slots, data):
    """Images that kill workers are lost, alone; with the first one of a file, the file may be."""
    every = [(subject, index) for subject, length in enumerate(lengths) for index in range(length)]
    some = st.sets(st.sampled_from(every), max_size=5)
    done, deadly = data.draw(some), data.draw(some)
    simulated = Simulated(lengths, deadly, slots, lambda n: data.draw(st.integers(0, n - 1)))
    parts = [
        Part(subject, done=frozenset(i for s, i in done if s == subject))
        for subject in range(len(lengths))
    ]
    answers = list(as_they_come(simulated, parts, lambda part: (part.subject, part.start, "lost")))
    found = Counter(result for answer in answers for result in answer.results)
    lost = {result[:2] for result in found if len(result) == 3}
    unknown = {subject for subject, index in lost if index == 0}
    assert set(found.values()) <= {1}
    assert lost == (deadly - done) - {(s, i) for s, i in deadly if s in unknown and i > 0}
    scored = {result for result in found if len(result) == 2}
    assert scored == {image for image in set(every) - done - deadly if image[0] not in unknown} | {
        image for image in scored if image[0] in unknown
    }
    assert simulated.most <= 3 * slots


def test_few_tasks_are_under_way_and_they_grow():
    """So that a million images are no million tasks at once."""
    simulated = Simulated([1] * 20_000, set(), 2, lambda n: 0)
    answers = list(as_they_come(simulated, map(Part, range(20_000)), lambda part: None))
    assert sum(len(answer.results) for answer in answers) == 20_000
    assert simulated.most == 6
    assert 200 < simulated.largest <= MOST_IMAGES
    assert len(answers) < 150


def test_a_long_stack_is_opened_a_few_times_only():
    simulated = Simulated([100_000], set(), 4, lambda n: 0)
    answers = list(as_they_come(simulated, [Part(0)], lambda part: None))
    assert sum(len(answer.results) for answer in answers) == 100_000
    assert len(answers) < 40


def test_a_task_takes_about_a_quarter_of_a_second():
    size = 1
    for _ in range(20):
        size = next_size(size, size, 0.01 * size, 2)
    assert size == 25
    size = next_size(size, 25, 5.0, 2)  # something is slow now
    assert size == 1
    for _ in range(20):  # the scheduler of a thousand workers gets fewer tasks
        size = next_size(size, size, 0.01 * size, 1000)
    assert size == 200


def test_tasks_become_small_at_the_end():
    queue = Queue(map(Part, range(100)))
    taken = [len(queue.take(1000, 4)) for _ in range(30)]
    assert taken[:3] == [12, 11, 9]
    assert sum(taken) <= 100
    assert taken[-1] == 1


@pytest.mark.parametrize(
    ("tasks", "own", "threads"), [(4, 1, 4), (1, 1, 16), (16, 4, 1), (100, 1, 1), (2, 8, 2)]
)
def test_threads_are_the_cpus_of_a_machine_divided_by_its_tasks(monkeypatch, tasks, own, threads):
    system = pytest.importorskip("dask.system")
    pytest.importorskip("distributed")
    monkeypatch.setattr(system, "CPU_COUNT", 16)
    worker = SimpleNamespace(address="tcp://10.0.0.7:1234", state=SimpleNamespace(nthreads=own))
    assert on_workers._threads(worker, Counter({"10.0.0.8": tasks})) == threads
    assert on_workers._threads(worker, Counter({"10.0.0.8": 3, "10.0.0.7": tasks})) == threads


@pytest.mark.parametrize("singly", [True, False])
@pytest.mark.parametrize(("threads", "number"), [(1, 9), (4, 3), (4, 50)])
def test_here_results_are_in_order(singly, threads, number):
    """Many items at once take one thread each, few or large ones all of them."""
    found = list(in_order(range(number), lambda i: (i, get_workers()), threads, singly=singly))
    one = threads == 1 or (number == 50 and not singly)
    assert found == [(i, (i, 1 if one else threads)) for i in range(number)]
