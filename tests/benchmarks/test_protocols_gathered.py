"""Results of protocols of distraction: one file a run, and their tables."""

import json
from pathlib import Path

import pytest

from benchmarks import protocols, result_files
from foreground.errors import UserError

ROWS = [
    {"kind": "clean", "severity": "", "mean": 200.0, "interval": [190.0, 210.4], "share": 1.0},
    {"kind": "light", "severity": "easy", "mean": 50.0, "interval": [40.0, 60.0], "share": 0.25},
]
SCORES = {
    "task": "walker-run",
    "agent": "infopower",
    "seed": 3,
    "env_frame": 500,
    "background": "/home/me/clips",
    "hardware": {"cpu": "one"},
    "commit": "abc",
    "checkpoint_sha256": "sum",
    "options": {"episodes": 5, "seed": 1000, "protocol": "all", "dynamic": False},
    "sources": {
        "heldout": {"path": "/home/me/clips", "sha256": "all", "clips": {"/home/me/a.mp4": "x"}}
    },
    "scores": {"heldout": {}, "random policy, heldout": {}},
    "complete": True,
}
PROTOCOL = {"side": "heldout", "clips": "/home/me/clips", "rows": ROWS}


def evaluation(folder: Path, **changes) -> Path:
    folder.mkdir()
    (folder / "scores.json").write_text(json.dumps(SCORES | changes))
    (folder / "protocol.json").write_text(json.dumps(PROTOCOL))
    return folder


def test_a_run_is_gathered_with_its_origin_and_without_paths(tmp_path, capsys):
    into = tmp_path / "results"
    folders = [evaluation(tmp_path / "a"), evaluation(tmp_path / "b", agent="c_dreamer")]
    protocols.main([*map(str, folders), "--into", str(into)])
    *_, last = capsys.readouterr().out.splitlines()
    names = [f"walker-run-{agent}-video-seed3.json" for agent in ("infopower", "c_dreamer")]
    assert json.loads(last) == {"written": names}
    row = result_files.read(into / names[0])
    assert row["command"] == (
        "python eval.py RUN --protocol all --episodes 5 --seed 1000 --dynamic false"
    )
    assert (row["commit"], row["hardware"], row["episodes"]) == ("abc", {"cpu": "one"}, 5)
    assert row["clips"] == {"heldout": {"sha256": "all", "number": 1, "sums": ["x"]}}
    assert row["rows"] == ROWS
    assert "/home" not in (into / names[0]).read_text()
    both = result_files.read_all(into)
    lines = protocols.table(both, "walker-run").splitlines()
    assert lines[0] == (
        "| kind | severity | c_dreamer, 500 frames, seed 3 | infopower, 500 frames, seed 3 |"
    )
    assert lines[2].startswith("| clean |  | 200 [190, 210] |")
    assert lines[3].endswith("| 50 [40, 60], 25 % | 50 [40, 60], 25 % |")
    assert len(protocols.table(both, "walker-walk").splitlines()) == 2


def test_what_is_no_whole_evaluation_is_refused(tmp_path):
    with pytest.raises(UserError, match="no protocol was evaluated here"):
        protocols.gathered(tmp_path)
    with pytest.raises(UserError, match="not complete"):
        protocols.gathered(evaluation(tmp_path / "half", complete=False))


def test_a_run_that_returns_nothing_has_no_shares(tmp_path):
    """eval.py writes null for a share of nothing."""
    row = protocols.gathered(evaluation(tmp_path / "a"))
    row["rows"] = [cell | {"mean": 0.0, "interval": None, "share": None} for cell in ROWS]
    assert protocols.table([row], "walker-run").splitlines()[3] == "| light | easy | 0 |"


@pytest.mark.parametrize(
    ("background", "side", "words"),
    [
        ("clean", "heldout", ""),
        ("train", "train", " --background train"),
        ("/home/me/other", "heldout", " --background PATH/other"),
        ("/home/me/other", "all", " --background PATH/other --all_clips true"),
    ],
)
def test_the_command_names_clips_that_are_not_the_run_s_held_out_ones(
    tmp_path, background, side, words
):
    folder = evaluation(tmp_path / "a", scores={background: {}})
    (folder / "protocol.json").write_text(json.dumps(PROTOCOL | {"side": side}))
    command = protocols.gathered(folder)["command"]
    assert command.endswith(f"--seed 1000 --dynamic false{words}")


def test_two_evaluations_of_one_run_are_refused(tmp_path):
    folders = [evaluation(tmp_path / "a"), evaluation(tmp_path / "b", env_frame=1000)]
    with pytest.raises(UserError, match="2 evaluations have one result file"):
        protocols.main([*map(str, folders), "--into", str(tmp_path / "results")])
    assert not (tmp_path / "results").exists()


def test_published_returns_are_those_of_the_table():
    """The first and the last number of both halves of results_table.png."""
    text = protocols.published("color_hard", "video_easy")
    lines = [line.strip("| ").split(" | ") for line in text.splitlines()]
    assert lines[0][:4] == ["task", "kind", "severity", "curl"]
    assert lines[2][:4] == ["walker-walk", "dmc_gb color", "hard", "445 ± 99"]
    assert lines[6][0] == "finger-spin"
    assert lines[6][-1] == "972 ± 6"
    assert lines[7][:4] == ["walker-walk", "dmc_gb video", "easy", "556 ± 133"]
    assert lines[11][-1] == "808 ± 33"
    assert len(lines) == 12


def test_published_returns_have_the_averages_of_their_table():
    """The last line of results_video_hard.png, which no row holds."""
    rows = json.loads(protocols.PUBLISHED.read_text())["rows"]
    hard = [row["mean"] for row in rows if (row["kind"], row["severity"]) == ("video", "hard")]
    averages = {name: round(sum(row[name] for row in hard) / len(hard)) for name in hard[0]}
    wanted = {"sac": 175, "drq": 179, "rad": 187, "soda": 213, "svea": 481, "sgqn": 626}
    assert averages == wanted | {"madi": 751}
    assert protocols.published("video_hard").count("dmc_gb video") == len(hard) == 6
