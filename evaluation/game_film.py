"""The film of a family of games: a row a game, a column a mode, the same start in all.

A target that the agent does not see is drawn into the film.

Shapes: K modes, T steps, P places (x, or x and y).
"""

from collections.abc import Iterator, Mapping

import cv2
import gymnasium
import numpy as np
import torch

from foreground import build
from foreground.agents.agent import WorldModelAgent
from foreground.agents.commanders import Fixed
from foreground.configs.run import RunConfig
from foreground.envs.families import Game, Targets
from foreground.envs.offers import Simulated, offered
from foreground.evaluation import posture, tiles
from foreground.evaluation.driver import Driver, Film, memory_of, policy_of
from foreground.evaluation.skills import Looks, in_waves
from foreground.training import pictures

ROWS = 6  # games that are shown, those of training first
STEPS = 100  # agent steps of the film
SIDE = 192  # pixels of an image


def pages(
    config: RunConfig,
    agent: WorldModelAgent,
    side: str,
    source,
    rows: Mapping[str, Mapping],
    title: str,
) -> tuple[np.ndarray, float]:
    """Return the film as pages (T, H, W, 3), and its frames per second.

    rows   game -> measures of `games.modes_in`, for the labels
    """
    shown = (*config.games.train, *config.games.heldout)[:ROWS]
    played = [_play(config, agent, side, source, game) for game in shown]
    colours = tiles.colours_of(np.arange(config.modes.num_modes) / config.modes.num_modes)
    length = min(film.shape[1] for film, _, _ in played)
    parts = [
        tiles.pages(
            film[:, :length],
            labels_of(rows[game.name]),
            colours,
            None if paths is None else paths[:, : length + 1],
            config.modes.num_modes,
            heading_of(game.name, rows[game.name]),
            SIDE,
        )
        for game, (film, paths, _) in zip(shown, played)
    ]
    return np.stack(list(_below(title, parts))), played[0][2]


def labels_of(row: Mapping) -> list[str]:
    """Return what stands above each mode of a game."""
    modes = sum(key.startswith("mode_") for key in row)
    return [f"mode {mode}: return {row[f'mode_{mode}']:.0f}" for mode in range(modes)]


def heading_of(name: str, row: Mapping) -> str:
    """Return what stands above a game."""
    held = " (held out)" if row["kind"] == "heldout" else ""
    if "mode_1" not in row:
        return f"{name}{held}"
    return f"{name}{held}: mode {row['likeliest']} is chosen, mode {row['best']} is best"


def _below(title: str, parts: list[Iterator[np.ndarray]]) -> Iterator[np.ndarray]:
    """Yield the pages of several films below each other, under a title."""
    for frames in zip(*parts):
        width = max(frame.shape[1] for frame in frames)
        yield np.concatenate([pictures.label_strip(title, width), *frames])


def mark(images: np.ndarray, place: tuple[float, ...], physics) -> None:
    """Draw a reacher's hidden target into images (K, T, H, W, 3), in place, for people.

    The camera looks down on the origin.
    """
    height = images.shape[2]
    half = float(physics.model.cam_pos[0, 2] * np.tan(np.deg2rad(physics.model.cam_fovy[0]) / 2))
    pixels = height / 2 / half  # of a metre
    x, y = height / 2 + pixels * place[0], height / 2 - pixels * place[1]
    radius = pixels * float(physics.named.model.geom_size["target", 0])
    fixed = [round(value * (1 << tiles.FRACTION)) for value in (x, y, radius)]
    for image in images.reshape(-1, *images.shape[2:]):
        cv2.circle(
            image, (fixed[0], fixed[1]), fixed[2], pictures.INK, 1, cv2.LINE_AA, tiles.FRACTION
        )


def _play(
    config: RunConfig, agent: WorldModelAgent, side: str, source, game: Game
) -> tuple[np.ndarray, np.ndarray | None, float]:
    """Return film (K, T, H, W, 3), paths (K, T + 1, P) where the robot can travel, and frames per
    second.
    """
    make_env = build.environment_maker(config, side, source, (game,), SIDE)
    modes = torch.eye(config.modes.num_modes, device=agent.device)
    seed, environment = config.evaluation.seed, config.environment
    steps = min(STEPS, environment.time_limit // environment.action_repeat)
    looks = []

    def wave(envs: list[gymnasium.Env], rows: slice) -> tuple[np.ndarray, np.ndarray]:
        simulated = offered(envs[0], Simulated)
        body = posture.body(simulated.physics) if simulated else None
        looks.append((body, envs[0].metadata.get("render_fps", 20.0)))
        film, look = Film(), Looks()
        policy = policy_of(agent, Fixed(modes[rows]))
        Driver(envs, policy, memory_of(agent, len(envs)), [film, look]).run(
            [seed] * len(envs), steps
        )
        images = np.stack(film.images, 1)
        if simulated and isinstance(config.games, Targets):
            mark(images, game.values, simulated.physics)
        return images, np.stack(look.states, 1)

    films, states = (np.concatenate(part) for part in zip(*in_waves(make_env, len(modes), wave)))
    body, fps = looks[0]
    paths = states[..., list(body.place)] if body and body.place else None
    return films, paths, fps
