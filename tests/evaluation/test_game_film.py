"""Test the film of games: labels, and hidden targets where they are."""

import numpy as np

from foreground import envs
from foreground.evaluation import game_film


def centre_of(mask: np.ndarray) -> np.ndarray:
    return np.array([axis.mean() for axis in np.nonzero(mask)])


def test_a_hidden_target_is_drawn_where_the_simulator_has_it():
    """dm_control's own target is put there, and its image is compared."""
    env = envs.make("reacher-easy", size=32, render_mode="rgb_array", render_size=192)
    try:
        env.reset(seed=0)
        images = []
        for place in ((0.1, -0.15), (-0.12, 0.1)):
            env.physics.named.model.geom_pos["target", :2] = place
            env.physics.forward()
            images.append(env.render())
        differ = (np.abs(images[0].astype(int) - images[1]) > 30).any(-1)
        differ[:, :96] = False  # the first target is on the right
        marked = np.stack([np.stack([images[1]])])
        game_film.mark(marked, (0.1, -0.15), env.physics)
        drawn = (marked[0, 0] != images[1]).any(-1)
        np.testing.assert_allclose(centre_of(drawn), centre_of(differ), atol=1.5)
        assert abs(np.ptp(np.nonzero(drawn)[0]) - np.ptp(np.nonzero(differ)[0])) <= 4
    finally:
        env.close()


def test_a_game_s_row_says_which_mode_is_chosen():
    row = {"kind": "heldout", "mode_0": 12.4, "mode_1": 250.6, "likeliest": 0, "best": 1}
    assert game_film.labels_of(row) == ["mode 0: return 12", "mode 1: return 251"]
    heading = game_film.heading_of("speed=3", row)
    assert heading == "speed=3 (held out): mode 0 is chosen, mode 1 is best"
    assert game_film.heading_of("forward", {"kind": "train", "mode_0": 1.0}) == "forward"
