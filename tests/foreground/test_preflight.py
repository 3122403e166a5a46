"""Test the memory checks before training against the tensors that an update saves."""

import contextlib

import pytest
import torch
from gymnasium.spaces import Box

from foreground import build, preflight
from foreground.configs import run as runs
from foreground.errors import UserError
from tests.support.small import (
    row_layout,
)


@pytest.mark.slow
def test_what_does_not_fit_is_refused_before_it_is_made(monkeypatch):
    """The preset's networks and batch fit; a batch of a hundred times the rows does not."""
    monkeypatch.setattr(preflight, "free_memory", lambda: 2 << 30)
    for words, said in (
        ([], ""),
        (["--training.batch_size", "800"], "an update of 800x32"),
        (["--training.batch_size", "800", "--compile", "true"], "an update of 800x32"),
        (
            ["--actor_critic.imag_starts", "0", "--actor_critic.horizon", "800"],
            "imagination from as many starts",
        ),
        (
            ["--actor_critic.imag_starts", "100000", "--actor_critic.horizon", "50"],
            "",
        ),  # there are 256 states to start from
        (["--actor_critic.units", "16384"], "parameters need"),
    ):
        run = runs.read(["--agent", "infopower", "--size", "cpu", *words], cuda=False)
        with pytest.raises(UserError, match=said) if said else contextlib.nullcontext():
            preflight.check_model(run, Box(-1, 1, (2,)), "cpu")


def test_the_replay_leaves_room_for_an_update(monkeypatch):
    monkeypatch.setattr(build, "free_memory", lambda: 2 << 30)
    run = runs.read(
        ["--size", "cpu", "--total_frames", "60000", "--environment.action_repeat", "2"], cuda=False
    )
    layout = row_layout((64, 64, 3), 2)
    bytes_of_images = 30_000 * 64 * 64 * 3
    build.make_replay(run, layout, "cpu", (2 << 30) - bytes_of_images * 2)
    with pytest.raises(
        UserError,
        match=r"the replay needs 0\.3 GiB and 0\.2 GiB are free for it: --training\.capacity",
    ):
        build.make_replay(run, layout, "cpu", (2 << 30) - bytes_of_images // 2)


def test_the_replay_samples_as_configured():
    words = ["--agent", "infopower", "--size", "cpu", "--training.recent_steps", "20"]
    run = runs.read([*words, "--training.rare_rewards", "0.3"], cuda=False)
    replay, _ = build.make_replay(run, row_layout((64, 64, 3), 2), "cpu")
    assert (replay.recent_steps, replay.rare_share) == (20, 0.3)


def test_what_an_image_keeps_is_what_the_encoder_saves():
    """Against the real thing."""
    run = runs.read(["--agent", "infopower", "--size", "cpu"], cuda=False)
    config, kept = run.agent_config, {}
    spaces = build.spaces_of(run, Box(-1, 1, (2,)))
    agent = build.make_agent(run, Box(-1, 1, (2,)), "cpu")
    weights = {parameter.data_ptr() for parameter in agent.parameters()}
    keep = lambda value: kept.setdefault(value.untyped_storage().data_ptr(), value)  # noqa: E731
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        agent.world_model.encoder(
            torch.zeros(5, 2, 64, 64, 3, dtype=torch.uint8), torch.zeros(5, 2, dtype=torch.bool)
        )
    found = (
        sum(
            value.untyped_storage().nbytes()
            for place, value in kept.items()
            if place not in weights
        )
        / 10
    )
    assert preflight.bytes_per_image(config, spaces) == pytest.approx(found, rel=0.1)


@pytest.mark.parametrize("gradient", ["dynamics", "own_return", "reinforce"])
@pytest.mark.parametrize("name", ["infopower", "slim"])
def test_what_imagination_keeps_is_what_its_loss_saves(name, gradient):
    """Against the real thing."""
    words = [
        "--agent",
        name,
        "--size",
        "cpu",
        "--actor_critic.actor_grad",
        gradient,
        "--actor_critic.imag_starts",
        "0",
    ]
    run = runs.read(words, cuda=False)
    spaces, found = build.spaces_of(run, Box(-1, 1, (2,))), {}
    agent = build.make_agent(run, Box(-1, 1, (2,)), "cpu")
    weights = {parameter.data_ptr() for parameter in agent.parameters()}
    for number in (8, 40):
        kept = {}
        keep = lambda value, kept=kept: kept.setdefault(value.untyped_storage().data_ptr(), value)  # noqa: E731
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            condition = agent.skills.draw(number, torch.device("cpu")) if spaces.condition else None
            agent.learners["imagination"].behaviour_losses(
                agent.world_model.initial(number, torch.device("cpu")), condition
            )
        found[number] = sum(
            value.untyped_storage().nbytes()
            for place, value in kept.items()
            if place not in weights
        )
    assert preflight.bytes_of_imagination(run.agent_config, spaces, 32) == pytest.approx(
        found[40] - found[8], rel=0.15
    )
