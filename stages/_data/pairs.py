"""Training pairs: two frames of one person that differ in view and, where the data has it, in pose.

A person here is a subject in one variant, hence in one colour: the renders of its scans, the frames of its videos (a
body of its own in each), or its photos. Who was seen once gives no pair. Step k draws its people from a window that
moves over a shuffled list of them: memory is bounded whatever the size of the data, most frames are in memory when
they are drawn, and every batch is a pure function of (seed, step).
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stages._core.runtime import Runtime
from stages._core.seeds import rng_for
from stages._core.stage import Paths
from stages._core.store import open_store
from stages._data.offers import offered_stores
from stages._data.shots import Shot, ShotReader, unpack_uv

SHOT_ROWS = 8
"""Longest shot: renders have 8 views; a video is cut so that each shot's frames are spread over all of it."""


@dataclass(frozen=True)
class PairRules:
    """What a batch is.

    Attributes:
        seed: of the draws.
        image_size: pixels per side.
        batch: pairs per step.
        rows: which of them this process loads; all are drawn.
        window: people in use at a time; their shots stay in memory.
        turnover: new people per step.
        merged: add the textures merged over the input's shot.
        same: the target is the input itself, for what is compressed rather than turned.
    """

    seed: int
    image_size: int
    batch: int
    window: int = 96
    turnover: float = 0.25
    merged: bool = False
    same: bool = False
    rows: slice = field(default_factory=lambda: slice(None))


class Frame(NamedTuple):
    """One usable image.

    Attributes:
        shot: number of its shot.
        place: in the shot.
        scan: name of its scan.
        view: its camera's number.
    """

    shot: int
    place: int
    scan: str
    view: int


Pair = tuple[Frame, Frame]
"""Input and target."""


@dataclass
class Pairs:
    """A batch on the training device.

    Attributes:
        rgb: (B, 3, S, S) the input in [−1, 1] on black (−1).
        mask: (B, 1, S, S) in [0, 1].
        texture: (B, 5, T, T) colour, sampled, filled of the input, in [0, 1].
        merged: the same, merged over the input's shot; no numbers unless asked for.
        target: (B, 3, S, S) the frame to be rendered, in [−1, 1] on white (+1).
        target_mask: (B, 1, S, S) in [0, 1].
        uv: (B, S, S, 2) raster of the target's body in [0, 1], −1 on the background.
        face: (B, 1, S, S) 1 where the target shows the front of the face.
        centre: (B, 2) a random point of the target's body, px.
    """

    rgb: Tensor
    mask: Tensor
    texture: Tensor
    merged: Tensor
    target: Tensor
    target_mask: Tensor
    uv: Tensor
    face: Tensor
    centre: Tensor

    def split(self, size: int) -> list["Pairs"]:
        """The same in parts of at most so many pairs."""
        fields = [getattr(self, f.name).split(size) for f in dataclasses.fields(self)]
        return [Pairs(*part) for part in zip(*fields, strict=True)]

    @staticmethod
    def unpack(packed: Mapping[str, Tensor], device: str) -> "Pairs":
        """From the small integers that a loading process sends."""
        p = {name: value.to(device) for name, value in packed.items()}
        mask, target_mask = p["mask"][:, None].float() / 255, p["target_mask"][:, None].float() / 255
        rgb, target = (p[name].permute(0, 3, 1, 2).float() / 255 for name in ("rgb", "target"))
        return Pairs(
            rgb=2 * rgb * mask - 1,
            mask=mask,
            texture=p["texture"].float() / 255,
            merged=p["merged"].float() / 255,
            target=2 * (target * target_mask + 1 - target_mask) - 1,
            target_mask=target_mask,
            uv=unpack_uv(p["uv"]),
            face=p["face"][:, None].float(),
            centre=p["centre"],
        )


class PairSource(Dataset[dict[str, Tensor]]):
    """Item k is the packed batch of step k. It holds paths and row numbers; readers open where it is used."""

    def __init__(self, inputs: Paths, datasets: Sequence[str], split: str, rules: PairRules) -> None:
        """Find the people of a split in some data sets.

        Args:
            inputs: `data`, the folder with the offers of the data sets, and `body`.

        Raises:
            ValueError: when no person has two usable frames.
        """
        self.rules, self.body = rules, inputs["body"]
        self.data_sets = offered_stores(inputs["data"], datasets)
        self.shots: list[tuple[int, tuple[int, ...]]] = []
        self.people: list[list[Frame]] = []
        for number, paths in enumerate(self.data_sets):
            textures = open_store(paths["textures"], "textures")
            self._add_people(number, textures.index.loc[textures.ok_rows(split)])
        if not self.people:
            raise ValueError(f"no {split} person has two usable frames; training needs pairs of frames")
        self._readers: dict[int, ShotReader] = {}

    def __len__(self) -> int:
        return len(self.people)

    def __getstate__(self) -> dict[str, Any]:
        here = {name: value for name, value in self.__dict__.items() if name != "_kept_shots"}
        return {**here, "_readers": {}}

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """The packed batch of one step."""
        rng = rng_for(self.rules.seed, "pairs", step)
        return self.pack(
            [self._draw_pair(p, rng) for p in self._draw_people(step, rng)], rng, self.rules.rows
        )

    def fixed(self, count: int) -> dict[str, Tensor]:
        """A packed batch that is the same in every run, of different people as far as there are."""
        rng = rng_for(self.rules.seed, "pairs", "fixed")
        order = rng.permutation(len(self.people))
        return self.pack([self._draw_pair(p, rng) for p in np.resize(order, count)], rng)

    def pack(
        self, pairs: Sequence[Pair], rng: np.random.Generator, rows: slice = slice(None)
    ) -> dict[str, Tensor]:
        """Some of the pairs as a batch for `Pairs.unpack`; the middles of crops are drawn for all of them."""
        shots = [(self._shot(a), self._shot(b)) for a, b in pairs[rows]]
        points = shots[0][0].points.shape[1]  # of one body, hence as many in all shots
        centres = [int(rng.integers(points)) for _ in pairs][rows]
        samples = [
            _sample(source, a.place, target, b.place, centre, merged=self.rules.merged)
            for (a, b), (source, target), centre in zip(pairs[rows], shots, centres, strict=True)
        ]
        return {name: torch.from_numpy(np.stack([s[name] for s in samples])) for name in samples[0]}

    def _add_people(self, data_set: int, index: pd.DataFrame) -> None:
        """Cut frames into people and shots."""
        for _, person in index.groupby(["source", "subject", "variant"], sort=False):
            frames: list[Frame] = []
            for scan, rows in person.groupby("scan", sort=False):
                count = -(-len(rows) // SHOT_ROWS)
                for first in range(count):
                    part = rows.iloc[first::count]
                    frames += [
                        Frame(len(self.shots), place, str(scan), int(view))
                        for place, view in enumerate(part["view"])
                    ]
                    self.shots.append((data_set, tuple(int(row) for row in part.index)))
            if len(frames) > 1:
                self.people.append(frames)

    def _draw_pair(self, person: int, rng: np.random.Generator) -> Pair:
        """An input, and a target of another scan and another view; failing that, whatever differs most."""
        frames = self.people[person]
        first = frames[rng.integers(len(frames))]
        if self.rules.same:
            return first, first
        others = [f for f in frames if f != first]
        best = max(_difference(first, f) for f in others)
        wanted = [f for f in others if _difference(first, f) == best]
        return first, wanted[rng.integers(len(wanted))]

    def _draw_people(self, step: int, rng: np.random.Generator) -> list[int]:
        """People of this step's window, distinct as far as it has enough."""
        rules, count = self.rules, len(self.people)
        newest = int(step * rules.turnover) + rules.batch
        width = min(rules.window, newest, count)
        offsets = rng.choice(width, size=rules.batch, replace=width < rules.batch)
        positions = [divmod(newest - 1 - int(offset), count) for offset in offsets]
        return [int(_round(rules.seed, number, count)[place]) for number, place in positions]

    def _shot(self, frame: Frame) -> Shot:
        return self._kept_shots(frame.shot)

    @functools.cached_property
    def _kept_shots(self) -> Callable[[int], Shot]:
        """Two shots, input's and target's, for each person of the window, however many data sets they come from."""
        return functools.lru_cache(maxsize=2 * self.rules.window)(self._read_shot)

    def _read_shot(self, number: int) -> Shot:
        data_set, rows = self.shots[number]
        if data_set not in self._readers:
            self._readers[data_set] = ShotReader(self.data_sets[data_set], self.body, self.rules.image_size)
        return self._readers[data_set].read(rows)


def pair_batches(source: PairSource, steps: range, runtime: Runtime) -> Iterator[Pairs]:
    """The batches of some steps in order, loaded ahead by another process where there is a core for it."""
    workers = min(runtime.workers - 1, 4)
    loader = DataLoader(
        source,
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        generator=torch.Generator(),  # its own, or starting it would advance the training's random state
    )
    for packed in loader:
        yield Pairs.unpack(packed, runtime.device)


@functools.lru_cache(maxsize=4)
def _round(seed: int, number: int, count: int) -> np.ndarray:
    """The order of all people in one round of the endless list."""
    return rng_for(seed, "pairs", "round", number).permutation(count)


def _difference(a: Frame, b: Frame) -> int:
    """2 for another pose, 1 for another view."""
    return 2 * (a.scan != b.scan) + (a.view != b.view)


def _sample(
    source: Shot, place: int, target: Shot, target_place: int, centre: int, *, merged: bool
) -> dict[str, np.ndarray]:
    """One pair as arrays."""
    return {
        "rgb": source.rgb[place],
        "mask": source.mask[place],
        "texture": source.texture[place],
        "merged": source.merged if merged else np.zeros(0, np.uint8),
        "target": target.rgb[target_place],
        "target_mask": target.mask[target_place],
        "uv": target.uv[target_place],
        "face": target.face[target_place],
        "centre": target.points[target_place, centre],
    }
