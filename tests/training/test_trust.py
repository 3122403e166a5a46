"""Files of others in a run folder are left alone, and their content is not trusted."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import gymnasium
import numpy as np
import pytest
import torch
import yaml

from foreground import envs, same, saved, train
from foreground.configs import run as run_configs
from foreground.errors import UserError
from foreground.evaluation import episodes, films
from foreground.training import checkpoint, files, options
from foreground.training import chunks as replay_chunks
from foreground.training.logger import Logger
from tests.faults import checkpoint_ablation, disk, runs
from tests.faults.states import put

ROOT = Path(__file__).parents[2]


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    """A small run that was saved, with chunks."""
    torch.set_num_threads(1)
    monkeypatch.setattr(replay_chunks, "CHUNK_ROWS", 16)
    trainer = checkpoint_ablation.make(tmp_path / "run", checkpoint_ablation.WORDS)
    checkpoint_ablation.run_to(trainer, checkpoint_ablation.CUT)
    return trainer


class Said(list):
    """As much of a progress bar as a save asks for."""

    def message(self, text: str) -> None:
        self.append(text)


def chunks(trainer) -> set[str]:
    return {path.name for path in (trainer.folder / "replay").iterdir()}


@pytest.mark.parametrize("how", ["unreadable", "refused"])
def test_what_cannot_be_read_this_moment_costs_no_chunk(trainer, monkeypatch, how):
    """A checkpoint that fails for a transient reason lists chunks that a later one needs."""
    before, said, real = chunks(trainer), Said(), files._regular

    def unreadable(path, limit):
        if path.name == "tensors.safetensors":
            raise files.Damaged("no memory", path)
        return real(path, limit)

    def refused(*_, **__):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        if how == "unreadable":
            patched.setattr(files, "_regular", unreadable)
        else:
            patched.setattr(checkpoint, "prune", refused)
        trainer.save(said)
    assert chunks(trainer) >= before
    assert said == [] if how == "unreadable" else "training continues" in said[0]
    trainer.save(said)
    assert trainer.resume() == []


def test_what_was_set_aside_keeps_its_chunks_until_two_newer_ones_verify(trainer):
    """A person may know better, and put the whole file back in its place."""
    root, said = trainer.folder / "checkpoints", Said()
    newest = checkpoint.steps(root)[-1]
    listed = {
        listing["name"]
        for chunk in checkpoint.peek(newest, "replay", "manifest")["chunks"]
        for listing in chunk["files"]
    }
    (newest / "tensors.safetensors").write_bytes(b"damaged")
    resumed = checkpoint_ablation.make(trainer.folder, checkpoint_ablation.WORDS)
    assert "is damaged" in resumed.resume()[0]
    [aside] = checkpoint.rejected(root)
    resumed.save(said)
    assert listed <= chunks(resumed)
    assert len(listed) > len(
        checkpoint.peek(checkpoint.steps(root)[-1], "replay", "manifest")["chunks"]
    )
    checkpoint_ablation.run_to(resumed, checkpoint_ablation.CUT + 80)
    assert not aside.exists()
    assert len(checkpoint.steps(root)) == 2
    assert said == []


@pytest.mark.parametrize("what", ["", "chunk", "line", "film"])
def test_what_a_full_disk_left_in_pieces_is_found(trainer, what):
    """The look of `python -m tests.faults full` at a run's files."""
    run, film = trainer.folder, trainer.folder / "evaluation.mp4"
    (run / "metrics.jsonl").write_text(
        '{"step": 1}\n' + '{"ste\n' * (what == "line") + '{"step": 2}\n'
    )
    films.write_film(film, np.zeros((3, 8, 8, 3), np.uint8), 20.0)
    if what == "film":
        film.write_bytes(film.read_bytes()[:60])
    if what == "chunk":
        next((run / "replay").iterdir()).write_bytes(b"")
    assert bool(disk.broken(run, 0)) == bool(what)


@pytest.mark.parametrize(("agent", "differ"), [("slim", True), ("infopower_paper", False)])
def test_a_run_from_before_an_option_goes_on_as_it_was_or_not_at_all(tmp_path, agent, differ):
    words = [
        "--agent",
        agent,
        "--size",
        "cpu",
        "--background.source",
        "none",
        "--folder",
        str(tmp_path),
        "--actor_critic.target_std",  # which those runs did not have
        "",
    ]
    config = run_configs.read(words, cuda=False)
    mapping = options.to_dict(config)
    for key in ("tanh_entropy_coef", "noise_correlation"):
        del mapping["actor_critic"][key]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(mapping))
    old = run_configs.load(tmp_path)
    assert old.actor_critic.tanh_entropy_coef == old.actor_critic.noise_correlation == 0
    if differ:
        with pytest.raises(UserError, match=r"actor_critic.tanh_entropy_coef is 0.0 there"):
            same.check_same(config, tmp_path)
        again = [
            *words,
            "--actor_critic.tanh_entropy_coef",
            "0",
            "--actor_critic.noise_correlation",
            "0",
        ]
        same.check_same(run_configs.read(again, cuda=False), tmp_path)
    else:
        same.check_same(config, tmp_path)


def test_another_agent_is_named_first_and_a_table_by_the_entries_that_differ(tmp_path):
    def config(*words: str):
        return run_configs.read(
            ["--background.source", "none", "--size", "cpu", *words], cuda=False
        )

    (tmp_path / "config.yaml").write_text(options.to_yaml(config("--agent", "infopower")))
    with pytest.raises(UserError) as refused:
        same.check_same(config("--agent", "dreamer"), tmp_path)
    line = str(refused.value)
    assert line.startswith(
        "error: another run lives here: agent is infopower there, dreamer here; "
    )
    assert "objective.terms.reconstruction is absent there, 1.0 here" in line
    assert "{" not in line
    assert "objective.terms.reward" not in line


def test_files_of_others_are_left_alone(tmp_path):
    for name in (
        "model.safetensors",
        "stream-000-row-000000000000-0123456789ab.safetensors",
        ".tmp-notes",
    ):
        (tmp_path / name).write_text("mine")
    assert replay_chunks.remove_unlisted(tmp_path, []) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", ".tmp-notes"}


def test_a_folder_of_something_else_is_no_run(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(
        UserError, match=r"holds metrics.jsonl and no config.yaml.*choose another --folder"
    ):
        train.prepare(
            [
                *runs.SMALL,
                "--total_frames",
                "400",
                "--background.source",
                "none",
                "--folder",
                str(tmp_path),
            ]
        )


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (
            ["--world_model.objective.terms", "contrastve=1"],
            "unknown information term 'contrastve'.*contrastive",
        ),
        (
            ["--world_model.objective.constraint", "reward,predctability"],
            "names 'predctability'.*predictability",
        ),
        (
            ["--actor_critic.rewards", "task=1,empowrment=1"],
            "unknown reward 'empowrment'.*empowerment",
        ),
    ],
)
def test_names_are_looked_up_before_clips_are_read(tmp_path, words, what):
    with pytest.raises(UserError, match=what):
        train.prepare(
            [
                *words,
                "--background.source",
                str(tmp_path / "absent"),
                "--folder",
                str(tmp_path / "run"),
            ]
        )


def test_what_a_link_leads_to_is_not_written_to(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    frames = np.zeros((3, 8, 8, 3), np.uint8)
    for name in ("film.mp4", "strip.png", "whole.json", ".tmp-whole.json"):
        (tmp_path / name).symlink_to(victim)
    films.write_film(tmp_path / "film.mp4", frames, 20.0)
    films.write_picture(tmp_path / "strip.png", frames[0])
    files.write_atomic(tmp_path / "whole.json", b"{}")
    assert victim.read_text() == "mine"
    assert films.length(str(tmp_path / "film.mp4")) == 3


@pytest.mark.timeout(20)
def test_a_pipe_is_not_waited_for(tmp_path):
    for name in ("scores.json", "metrics.jsonl"):
        os.mkfifo(tmp_path / name)
    files.write_atomic(tmp_path / "scores.json", b"{}")
    with Logger(tmp_path, resume_step=3) as logger:
        logger.scalars(4, {"a": 1.0})


def test_a_film_that_is_not_whole_takes_no_place(tmp_path, monkeypatch, capsys):
    path, frames = tmp_path / "film.mp4", np.zeros((9, 8, 8, 3), np.uint8)
    films.write_film(path, frames, 20.0)
    monkeypatch.setattr(films, "length", lambda _: 4)  # as on a disk that became full
    films.write_film(path, frames, 20.0)
    monkeypatch.undo()
    assert "no film could be written" in capsys.readouterr().err
    assert films.length(str(path)) == 9
    assert os.listdir(tmp_path) == ["film.mp4"]


def test_odd_lines_are_no_reason_to_stop(tmp_path):
    odd = ['{"step": "x"}', '{"step": null}', "[" * 100_000, "9" * 5000, '{"step": 1e400}']
    (tmp_path / "metrics.jsonl").write_text(
        "\n".join(['{"step": 1}', *odd, '{"step": 2}', '{"step": 9}', ""])
    )
    (tmp_path / "events.out.tfevents.².1.foreground").write_text("")
    with Logger(tmp_path, resume_step=3):
        pass
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'


INDICES = ["jnt_qposadr", "body_parentid", "actuator_trnid", "nobody"]


@pytest.mark.parametrize("name", INDICES)
def test_indices_of_a_simulator_are_not_taken(name):
    """MuJoCo follows them without a look: a forged one leads out of its memory."""
    env = envs.make("cartpole-balance", size=16)
    env.reset(seed=0)
    taken = env.snapshot
    taken["simulator"]["model"][name] = np.array([10**8, 10**8])
    with pytest.raises(ValueError, match="no task changes"):
        env.snapshot = taken
    env.reset(seed=0)
    env.step(np.zeros(1))


@pytest.mark.parametrize("place", ["/agent/weights", "/agent", "/clocks"])
def test_a_foreign_checkpoint_is_one_line_for_those_who_only_read(trainer, tmp_path, place):
    words = [*runs.SMALL, *checkpoint_ablation.WORDS]
    config = run_configs.read(words, cuda=False)
    (trainer.folder / "config.yaml").write_text(options.to_yaml(config))
    path = checkpoint.save(
        trainer.folder / "checkpoints",
        9999,
        put(checkpoint_ablation.state_of(trainer.folder), place, [1]),
    )
    with pytest.raises(UserError, match="whole and does not fit"):
        saved.load_agent(config, saved.load_run(path), torch.device("cpu"))
    if place != "/clocks":
        begun = run_configs.read(
            [*words, "--agent", "finetune", "--init_from", str(trainer.folder)], cuda=False
        )
        with pytest.raises(UserError, match="whole and does not fit"):
            saved.load_pretrained(trainer.agent, begun)


class Broken(gymnasium.Env):
    """As a simulator that fails."""

    observation_space = gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        return np.zeros((8, 8, 3), np.uint8), {}

    def step(self, action):
        raise RuntimeError("the pole is gone")


def test_an_environment_that_fails_in_an_evaluation_is_one_line():
    def policy_of(made):
        return lambda memory, image, is_first: (torch.zeros(1, 1), memory), None

    with pytest.raises(UserError, match="the pole is gone") as failed:
        episodes.play(Broken, policy_of, 1, 0)
    assert failed.value.exit_code == 5


def test_a_message_that_cannot_be_printed_stops_nothing(tmp_path):
    """Closed streams and characters outside the encoding cost only the message."""
    script = "import sys; from foreground.errors import run_main, say; "
    script += "run_main(lambda _: (say('ünï ☃', sys.stdout), open('{}/done', 'w').close()), [])"
    for index, end in enumerate((">&-", "2>&-", ">&- 2>&- <&-", "")):
        folder = tmp_path / str(index)
        folder.mkdir()
        line = f'"{sys.executable}" -c "{script.format(folder)}" {end}'
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=ROOT,
            env=os.environ | {"PYTHONIOENCODING": "ascii"},
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr
        assert os.listdir(folder) == ["done"]
        assert not done.stderr
    assert done.stdout == b"\\xfcn\\xef \\u2603\n"


def test_pictures_are_what_they_were_given(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8)
    films.write_picture(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png"))[..., ::-1], picture)
