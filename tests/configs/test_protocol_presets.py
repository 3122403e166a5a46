"""Presets of other works' protocols: each number against the place where it was published."""

import pytest

from foreground.configs.run import PRESETS
from foreground.training.presets import load_yaml, preset_names

# google-research, distracting_control/suite_utils.py: DIFFICULTY_SCALE, DIFFICULTY_NUM_VIDEOS;
# hard takes every video, here 0.
DCS = {
    f"protocol_dcs_{level}": {
        "background.max_clips": number,
        "distraction.camera": scale,
        "distraction.colour": scale,
    }
    for level, scale, number in (("easy", 0.1, 4), ("medium", 0.2, 8), ("hard", 0.3, 0))
}
# nicklashansen/dmcontrol-generalization-benchmark, src/env/wrappers.py: ColorWrapper loads
# color_easy.pt or color_hard.pt, whose spread tests/envs/test_palette.py has, and shows no video.
COLOR = {
    f"protocol_dmc_gb_color_{level}": {"background.source": "none", "distraction.palette": level}
    for level in ("easy", "hard")
}
# The same file, VideoWrapper: 10 videos behind the robot and its floor, 100 in place of both.
VIDEO = {
    f"protocol_dmc_gb_video_{level}": {"background.max_clips": number, "environment.mask": mask}
    for level, number, mask in (("easy", 10, "sky"), ("hard", 100, "sky_and_floor"))
}
PUBLISHED = {
    # facebookresearch/deep_bisim4control, train.py: total_frames 1000; dmc2gym/wrappers.py:
    # grayscale=True, and the mask of pixels whose blue is above red and green.
    "protocol_dbc": {
        "background.grey": True,
        "background.max_frames": 1000,
        "environment.mask": "colour",
    },
    # VinAIResearch/TPC-tensorflow, its source of natural videos: in colour, the mask of DBC.
    "protocol_tpc": {"environment.mask": "colour"},
    # InfoPower (ICLR 2022), experiments: backgrounds that change every 50 steps.
    "protocol_infopower": {"background.redraw_every": 50},
    **DCS,
    **COLOR,
    **VIDEO,
}


def values_of(name: str) -> dict:
    """Return dotted key -> value of a preset."""
    sections = load_yaml(PRESETS / f"{name}.yaml").items()
    return {f"{section}.{key}": value for section, own in sections for key, value in own.items()}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_protocol_has_the_published_numbers_and_sets_nothing_else(name):
    assert values_of(name) == PUBLISHED[name]


def test_every_protocol_has_its_source():
    there = {name for name in preset_names(PRESETS) if name.startswith("protocol_")}
    assert there == set(PUBLISHED)
