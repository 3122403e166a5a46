"""Compare the replay with a plain list of rows: samples, saving, refused rows."""

import json

import numpy as np
import pytest
import torch

from foreground.errors import UserError
from foreground.training import chunks
from foreground.training.chunks import damaged_chunks, remove_unlisted
from foreground.training.files import Damaged, NotSaved
from foreground.training.replay import Replay
from tests.support.small import row_layout

SHAPE, ACTION, CONDITION = (2, 3, 3), 2, 1
LAYOUT = row_layout(SHAPE, ACTION, condition=CONDITION)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 8)


def make_rows(number: int, num_envs: int, episode: int = 5) -> dict:
    """Row `number` of every stream; the reward tells which row and stream it is."""
    first = np.full(num_envs, number % episode == 0)
    tag = number + 1000.0 * np.arange(num_envs)
    return {
        "image": np.broadcast_to(
            (tag % 251).astype(np.uint8)[:, None, None, None], (num_envs, *SHAPE)
        ).copy(),
        "action": np.where(first[:, None], 0, tag[:, None] + np.arange(ACTION)).astype(np.float32),
        "reward": np.where(first, 0, tag).astype(np.float32),
        "is_first": first,
        "is_terminal": np.full(num_envs, number % episode == episode - 1),
        "condition": tag[:, None].astype(np.float32),
    }


def filled(
    rows: int, capacity: int = 40, num_envs: int = 2, seed: int = 0, recent_steps: int = 0
) -> tuple[Replay, list[list[dict]]]:
    """A replay after some rows, and the slow reference: a list of rows for each stream, never
    shortened.
    """
    replay, reference = (
        Replay(LAYOUT, capacity, num_envs=num_envs, seed=seed, recent_steps=recent_steps),
        [[] for _ in range(num_envs)],
    )
    for number in range(rows):
        new = make_rows(number, num_envs)
        replay.add(new)
        for stream, history in enumerate(reference):
            history.append({name: value[stream] for name, value in new.items()})
    return replay, reference


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a
    )


@pytest.mark.parametrize("recent_steps", [0, 12])
def test_every_sequence_is_a_slice_of_one_stream_and_every_start_occurs(recent_steps):
    for rows in (3, 19, 20, 21, 47, 60):
        for num_envs in (1, 2, 3):
            replay, reference = filled(
                rows, capacity=20 * num_envs, num_envs=num_envs, recent_steps=recent_steps
            )
            held = min(rows, 20)
            assert len(replay) == held * num_envs
            length = min(held, 4)
            batch = replay.sample(600, length)
            seen = set()
            for b in range(600):
                stream, start = divmod(int(batch["condition"][b, 0, 0]), 1000)
                if (stream, start) not in seen:
                    seen.add((stream, start))
                    for name, value in batch.items():
                        wanted = np.stack(
                            [row[name] for row in reference[stream][start : start + length]]
                        )
                        assert np.array_equal(value[b].numpy(), wanted), name
            starts = range(rows - held, rows - length + 1)
            assert seen == {(stream, start) for stream in range(num_envs) for start in starts}


def test_starts_are_uniform():
    replay, _ = filled(33, capacity=20, num_envs=1)
    starts = replay.sample(17_000, 4)["condition"][:, 0, 0].numpy().astype(int)
    counts = np.bincount(starts - 13, minlength=17)
    assert len(counts) == 17
    # chi-square, 16 degrees of freedom: one in ten thousand.
    assert ((counts - 1000) ** 2 / 1000).sum() < 46


@pytest.mark.parametrize("num_envs", [1, 2])
def test_half_of_the_sequences_start_in_the_newest_steps(num_envs):
    replay, _ = filled(33, capacity=33 * num_envs, num_envs=num_envs, recent_steps=9 * num_envs)
    tags = replay.sample(60_000, 4)["condition"][:, 0, 0].numpy().astype(int)
    stream, start = np.divmod(tags, 1000)
    likely = np.full(30, 1 / 60)  # half of the draws are among all 30 starts of a stream
    likely[-9:] += 1 / 18
    for own in range(num_envs):
        counts = np.bincount(start[stream == own], minlength=30)
        expected = 60_000 / num_envs * likely
        assert ((counts - expected) ** 2 / expected).sum() < 70  # chi-square: one in ten thousand


def test_a_replay_of_no_more_than_the_newest_steps_is_drawn_uniformly():
    replay, _ = filled(12, capacity=33, num_envs=1, recent_steps=9)
    starts = replay.sample(9_000, 4)["condition"][:, 0, 0].numpy().astype(int)
    assert ((np.bincount(starts, minlength=9) - 1000) ** 2 / 1000).sum() < 34  # chi-square


def test_a_replay_from_when_every_row_had_a_condition_loads(tmp_path):
    """Of size 0, where there were no skills."""
    layout = row_layout(SHAPE, ACTION)
    replay = Replay(layout, 40, num_envs=2)
    for number in range(12):
        replay.add(
            {name: value for name, value in make_rows(number, 2).items() if name != "condition"}
        )
    manifest, tail = replay.save(tmp_path)
    manifest = manifest | {"layout": manifest["layout"] | {"condition": "[0] torch.float32"}}
    tail = tail | {"condition": torch.zeros(2, 4, 0)}
    copy = Replay(layout, 40, num_envs=2)
    assert copy.load(tmp_path, manifest, tail) == []
    assert torch.equal(copy.peek(2, 12)["reward"], replay.peek(2, 12)["reward"])


def test_shapes_and_types():
    replay, _ = filled(9)
    batch = replay.sample(5, 3)
    assert {name: (tuple(value.shape), value.dtype) for name, value in batch.items()} == {
        "image": ((5, 3, *SHAPE), torch.uint8),
        "action": ((5, 3, ACTION), torch.float32),
        "reward": ((5, 3), torch.float32),
        "is_first": ((5, 3), torch.bool),
        "is_terminal": ((5, 3), torch.bool),
        "condition": ((5, 3, CONDITION), torch.float32),
    }
    assert replay.nbytes == Replay.bytes_needed(LAYOUT, 40, num_envs=2)


def test_samples_do_not_share_memory_with_the_ring():
    replay, _ = filled(9)
    before = replay.sample(64, 9)["image"].sum()
    replay.sample(64, 9)["image"].zero_()
    replay.set_generator_state(np.random.default_rng(0).bit_generator.state)
    assert replay.sample(64, 9)["image"].sum() == before


def test_sampler_is_seeded_and_its_state_can_be_taken_back():
    (a, _), (b, _), (c, _) = filled(20), filled(20), filled(20, seed=1)
    state = json.loads(json.dumps(a.generator_state()))
    first = a.sample(8, 4)
    assert equal(first, b.sample(8, 4))
    assert not equal(first, c.sample(8, 4))
    a.set_generator_state(state)
    assert equal(first, a.sample(8, 4))


def test_peek_gives_the_newest_rows_and_leaves_the_sampler_alone():
    replay, _ = filled(30)
    before = replay.generator_state()
    assert replay.peek(6, 8)["condition"][:, 0, 0].tolist() == [22, 1022, 14, 1014, 10, 1010]
    assert replay.generator_state() == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": np.zeros((2, *SHAPE), np.float32)}, "image has type float32, expected uint8"),
        ({"image": np.zeros((2, 3, 3, 3), np.uint8)}, "image has shape"),
        ({"reward": np.zeros((2, 1), np.float32)}, "reward has shape"),
        ({"is_first": np.ones(2, bool)}, "must be zero where is_first"),
        ({"is_first": np.zeros(2, np.int64)}, "is_first has type int64"),
        ({"extra": np.zeros(2)}, "extra"),
    ],
)
def test_rows_that_break_the_contract_are_refused(change, words):
    replay, _ = filled(3)
    with pytest.raises(ValueError, match=words):
        replay.add(make_rows(3, 2) | change)
    assert len(replay) == 6


def test_too_few_rows():
    replay, _ = filled(3)
    assert replay.can_sample(3)
    assert not replay.can_sample(4)
    with pytest.raises(ValueError, match="3 rows a stream, 4"):
        replay.sample(1, 4)


@pytest.mark.parametrize("rows", [1, 7, 8, 19, 20, 29, 53, 64])
@pytest.mark.parametrize("saves", [1, 3])
def test_load_gives_the_same_replay(tmp_path, rows, saves):
    replay, _ = filled(0)
    for number in range(rows):
        replay.add(make_rows(number, 2))
        if number and number % max(1, rows // saves) == 0:
            replay.save(tmp_path)
    length = min(3, rows)
    replay.sample(4, length)
    manifest, tail = replay.save(tmp_path)
    copy = Replay(LAYOUT, 40, num_envs=2, seed=9)
    assert copy.load(tmp_path, json.loads(json.dumps(manifest)), tail) == []
    # And both continue alike, over the write head and the next save.
    for number in range(rows, rows + 30):
        assert equal(replay.sample(64, length), copy.sample(64, length))
        for each in (replay, copy):
            each.add(make_rows(number, 2))
    (manifest_a, tail_a), (manifest_b, tail_b) = replay.save(tmp_path), copy.save(tmp_path)
    assert equal(tail_a, tail_b)
    assert manifest_a["count"] == manifest_b["count"]


def test_chunks_are_written_once_and_the_tail_is_short(tmp_path):
    replay, _ = filled(17)
    _, tail = replay.save(tmp_path)
    stamps = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(stamps) == 4  # two chunks of eight rows, two streams
    assert tail["reward"].shape == (2, 1)
    for number in range(17, 26):
        replay.add(make_rows(number, 2))
    replay.save(tmp_path)
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(after) == 6
    assert stamps.items() <= after.items()
    assert all(len(name) <= 64 for name in after)


def test_chunks_go_only_when_no_manifest_lists_them(tmp_path):
    replay, _ = filled(17)
    old, _ = replay.save(tmp_path)
    for number in range(17, 60):
        replay.add(make_rows(number, 2))
    new, tail = replay.save(tmp_path)
    assert remove_unlisted(tmp_path, [old, new]) == 0
    assert remove_unlisted(tmp_path, [new]) == 4
    assert damaged_chunks(tmp_path, new) == []
    assert len(damaged_chunks(tmp_path, old)) == 4
    Replay(LAYOUT, 40, num_envs=2).load(tmp_path, new, tail)


@pytest.mark.parametrize("fault", ["flip", "truncate", "missing", "link", "folder"])
def test_a_damaged_chunk_is_noticed_and_can_be_given_up(tmp_path, fault):
    replay, _ = filled(29)
    manifest, tail = replay.save(tmp_path)
    path = sorted(tmp_path.glob("stream-001*"))[1]  # rows 16 to 23 of stream 1
    content = path.read_bytes()
    path.unlink()
    if fault == "flip":
        path.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    elif fault == "truncate":
        path.write_bytes(content[:-1])
    elif fault == "link":
        (tmp_path / "elsewhere").write_bytes(content)
        path.symlink_to(tmp_path / "elsewhere")
    elif fault == "folder":
        path.mkdir()
    assert [stop for stop, _ in damaged_chunks(tmp_path, manifest)] == [24]
    copy = Replay(LAYOUT, 40, num_envs=2)
    with pytest.raises(Damaged):
        copy.load(tmp_path, manifest, tail)
    assert len(copy) == 0
    sentences = copy.load(tmp_path, manifest, tail, salvage=True)
    assert len(sentences) == 1
    assert path.name in sentences[0]
    assert len(copy) == (29 - 24) * 2
    assert set(copy.sample(200, 2)["condition"][..., 0].flatten().tolist()) == {
        1000.0 * stream + row for stream in range(2) for row in range(24, 29)
    }
    copy.add(make_rows(29, 2))
    again = Replay(LAYOUT, 40, num_envs=2)
    again.load(tmp_path, *copy.save(tmp_path))
    assert len(again) == len(copy) == 12


def test_another_size_is_refused_and_another_capacity_is_not(tmp_path):
    replay, _ = filled(29)
    manifest, tail = replay.save(tmp_path)
    with pytest.raises(UserError, match="num_envs 2, this run has 1"):
        Replay(LAYOUT, 40, num_envs=1).load(tmp_path, manifest, tail)
    with pytest.raises(UserError, match="layout"):
        Replay(row_layout(SHAPE, 3, condition=CONDITION), 40, num_envs=2).load(
            tmp_path, manifest, tail
        )
    for capacity, held in ((20, 20), (100, 40)):
        copy = Replay(LAYOUT, capacity, num_envs=2)
        copy.load(tmp_path, manifest, tail)
        assert len(copy) == held
        assert int(copy.sample(500, 1)["condition"].min()) == 29 - held // 2


def test_malformed_manifests_are_damage_not_a_crash(tmp_path):
    replay, _ = filled(29)
    manifest, tail = replay.save(tmp_path)
    changes = [
        {"count": "x"},
        {"first": None},
        {"chunks": [{}]},
        {"chunks": 3},
        {"generator": {"a": 1}},
        {"tail_start": -1},
        {"chunks": manifest["chunks"][:-1]},
        {"count": 10**9},
        {
            "chunks": [
                chunk | {"files": [{"name": "../x", "bytes": 1, "sha256": "0" * 64}] * 2}
                for chunk in manifest["chunks"]
            ]
        },
    ]
    for change in changes:
        copy = Replay(LAYOUT, 40, num_envs=2)
        with pytest.raises(Damaged):
            copy.load(tmp_path, manifest | change, tail)
        assert len(copy) == 0
    with pytest.raises(Damaged):
        copy.load(tmp_path, manifest, {})


@pytest.mark.parametrize("far", [2**53, 2**62, 2**63 - 22, 2**70, -1])
def test_rows_of_impossible_numbers_are_damage(tmp_path, far):
    """Three places that agree with each other."""
    replay, _ = filled(5)
    manifest, tail = replay.save(tmp_path)
    copy = Replay(LAYOUT, 40, num_envs=2)
    forged = manifest | {"first": far, "tail_start": far, "count": far + 5}
    with pytest.raises(Damaged, match="no possible number"):
        copy.load(tmp_path, forged, tail)
    assert len(copy) == 0


def test_a_chunk_outside_the_folder_is_not_read(tmp_path):
    replay, _ = filled(29)
    manifest, tail = replay.save(tmp_path / "replay")
    listing = manifest["chunks"][0]["files"][0]
    (tmp_path / "replay" / listing["name"]).rename(tmp_path / "outside")
    listing["name"] = "../outside"
    with pytest.raises(Damaged, match="listing of a file is malformed"):
        Replay(LAYOUT, 40, num_envs=2).load(tmp_path / "replay", manifest, tail)


def test_a_full_disk_is_reported_and_the_next_save_makes_up_for_it(tmp_path, monkeypatch):
    replay, _ = filled(29)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("foreground.training.files.os.write", full)
        with pytest.raises(NotSaved, match="No space left"):
            replay.save(tmp_path)
    assert not list(tmp_path.iterdir())
    copy = Replay(LAYOUT, 40, num_envs=2)
    copy.load(tmp_path, *replay.save(tmp_path))
    assert len(copy) == 40


@pytest.mark.parametrize("rows", [4, 13, 15, 16, 44, 63])
def test_running_is_the_first_row_of_the_episode_under_way(rows):
    replay, _ = filled(rows)  # a ring of 20 rows a stream, episodes of 5
    assert replay.running() == (rows - 1) // 5 * 5


def test_running_is_that_of_the_stream_whose_episode_is_the_oldest():
    replay, _ = filled(11)
    row = make_rows(11, 2) | {"is_first": np.array([True, False])}
    row["reward"][0] = row["action"][0] = 0
    replay.add(row)
    assert replay.running() == 10


@pytest.mark.parametrize("recent_steps", [0, 12])
def test_samples_stop_before_a_row(recent_steps):
    for rows, stop in ((13, 10), (33, 30), (63, 60)):
        replay, _ = filled(rows, recent_steps=recent_steps)
        assert replay.can_sample(stop - replay.first_row, stop)
        assert not replay.can_sample(stop - replay.first_row + 1, stop)
        newest = replay.sample(400, 3, stop)["condition"].numpy()[..., 0] % 1000
        assert newest.max() == stop - 1
        assert newest.min() == replay.first_row
    with pytest.raises(ValueError, match="holds 10 rows a stream, 11"):
        filled(13)[0].sample(1, 11, 10)


def test_newest_rows_of_a_stream():
    replay, reference = filled(33)
    batch = replay.newest(1, 7)
    for name, value in batch.items():
        assert np.array_equal(
            value[0].numpy(), np.stack([row[name] for row in reference[1][-7:]])
        ), name
    assert replay.newest(0, 99)["reward"].shape == (1, 20)
