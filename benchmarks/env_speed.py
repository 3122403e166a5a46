"""Speed of the video environment: whole agent steps, and the frame against dm_control's default
one.

    python -m benchmarks.env_speed [--task walker-walk] [--size 64] [--rounds 5]

The last line is one JSON object:
    steps_per_s       agent steps (action repeat 2, video behind the robot, with resets) per wall
                      second, one process
    steps_per_cpu_s   the same per CPU second
    frames_per_cpu_s  frame, mask and composite
    default_per_cpu_s dm_control's physics.render with its defaults, and the colour key of older
                      work
    frame_ratio       frames_per_cpu_s / default_per_cpu_s
    distracted_per_cpu_s
                      agent steps per CPU second with every kind of distraction as well
    distracted_ratio  distracted_per_cpu_s / steps_per_cpu_s

Each figure is the median over the rounds. The ways take turns within a round, so that a busy
machine slows all alike.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from benchmarks import result_files
from foreground import envs
from foreground.envs.distraction import DistractionConfig
from foreground.errors import UserError, run_main
from foreground.option import config_class, option
from foreground.training import options

EVERYTHING = DistractionConfig(
    palette="hard",
    camera=0.3,
    colour=0.3,
    light=1.0,
    shadow=1.0,
    occlusion=5,
    blur=5,
    noise=5,
    compression=5,
)


@config_class
class SpeedConfig:
    """Foreground: speed of the video environment."""

    task: str = option("walker-walk", "The task.", choices=envs.TASKS)
    size: int = option(64, "Height and width of the frames.", ge=8, le=1024)
    rounds: int = option(5, "Repetitions; the median is printed.", ge=1)
    source: str = option("starter", "What plays behind the robot.")


def rate(call: Callable[[], None], seconds: float) -> tuple[float, float]:
    """Return calls per wall second and per CPU second (all threads), over about `seconds` of wall
    time.
    """
    wall, cpu, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - wall < seconds:
        call()
        count += 1
    return count / (time.perf_counter() - wall), count / (time.process_time() - cpu)


def stepper(environment) -> Callable[[], None]:
    """Return a function that takes one agent step with a random action, over episodes."""
    environment.action_space.seed(0)
    actions = [environment.action_space.sample() for _ in range(512)]
    environment.reset(seed=0)
    turn = 0

    def step() -> None:
        nonlocal turn
        turn += 1
        _, _, terminated, truncated, _ = environment.step(actions[turn % len(actions)])
        if terminated or truncated:
            environment.reset()

    return step


def main(argv: list[str]) -> None:
    arguments = options.parse(SpeedConfig, argv, None, description=SpeedConfig.__doc__)
    if arguments.source == "none":
        raise UserError(
            "without a video there is nothing to composite",
            "--source",
            "give starter, procedural or a folder",
        )
    config = envs.BackgroundConfig(arguments.source)
    background = envs.load_background(config, "train", arguments.size)
    environment = envs.make(
        arguments.task, size=arguments.size, action_repeat=2, background=background
    )
    distracted = envs.make(
        arguments.task,
        size=arguments.size,
        action_repeat=2,
        background=background,
        distraction=EVERYTHING,
    )
    renderer, video = environment.renderer, environment.background
    # Imports MuJoCo, whose failure is told by run_main.
    from foreground.envs.rendering import colour_rule_mask, composite

    def cheap_frame() -> None:
        composite(*renderer.foreground(), video.frame())

    def default_frame() -> None:
        picture = environment.physics.render(arguments.size, arguments.size, camera_id=0)
        np.where(colour_rule_mask(picture)[..., None], picture, video.frame())

    ways = {
        "steps": (stepper(environment), 2.0),
        "distracted": (stepper(distracted), 2.0),
        "frames": (cheap_frame, 1.0),
        "default": (default_frame, 1.0),
    }
    for call, _ in ways.values():
        rate(call, 0.2)
    rounds = [{name: rate(*way) for name, way in ways.items()} for _ in range(arguments.rounds)]
    for one in rounds:
        print(
            "  ".join(
                f"{name} {wall:.0f}/s, {cpu:.0f} per CPU s" for name, (wall, cpu) in one.items()
            )
        )

    def median(pick: Callable) -> float:
        return round(statistics.median(pick(one) for one in rounds), 1)

    result = {
        "task": arguments.task,
        "size": arguments.size,
        "background": video.clips.source,
        "steps_per_s": median(lambda one: one["steps"][0]),
        "steps_per_cpu_s": median(lambda one: one["steps"][1]),
        "frames_per_cpu_s": median(lambda one: one["frames"][1]),
        "default_per_cpu_s": median(lambda one: one["default"][1]),
        "frame_ratio": median(lambda one: one["frames"][1] / one["default"][1]),
        "distracted_per_cpu_s": median(lambda one: one["distracted"][1]),
        "distracted_ratio": median(lambda one: 100 * one["distracted"][1] / one["steps"][1]) / 100,
    } | result_files.origin("env_speed", argv)
    environment.close()
    distracted.close()
    print(json.dumps(result))


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
