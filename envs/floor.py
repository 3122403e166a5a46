"""A floor whose colours tell the place, for skills that shall cover places.

dm_control's floor repeats every two metres, so that an image does not tell where a robot is that
the camera follows. METRA (arXiv 2310.08887) and earlier work colour the floor by a gradient.
"""

import numpy as np

from foreground.envs.simulator import mujoco
from foreground.errors import UserError

FLOORS = ("own", "place")
EXTENT = 400.0  # metres of floor that the texture covers before it repeats
# Metres after which a colour channel is the same again: red and blue along x, green along y. From
# minus a quarter of it to plus a quarter a channel rises. Red and green change by 32 of 255 a
# metre.
PERIODS = {"red": 16.0, "green": 16.0, "blue": 160.0}
VISIBLE = 200.0  # metres of floor that are drawn to each side of the origin
NARROW = 1.0  # metres; a narrower floor is a track, and stays one


def colour_by_place(model) -> None:
    """Change the texture and the drawn size of a model's floor; physics stays the same.

    Call it before a renderer of the model is made. Planes are infinite to MuJoCo's physics: their
    sizes are for drawing.

    Raises: UserError for a model without a floor, or with several.
    """
    floors = [index for index in range(model.ngeom) if _is_floor(model, index)]
    if len(floors) != 1:
        what = f"this task has {len(floors)} floors to colour"
        raise UserError(what, "environment.floor", "choose own")
    (floor,) = floors
    material = model.geom_matid[floor]
    texture = model.mat_texid[material, mujoco.mjtTextureRole.mjTEXROLE_RGB]
    model.mat_texrepeat[material] = 2 / EXTENT  # to MuJoCo a texture is two metres long
    # Colours are those of the texture, whatever the light: the cheetah's floor lies in the dark, at
    # a third of them.
    model.mat_emission[material] = 1.0
    model.mat_specular[material] = 0.0
    for axis in (0, 1):
        if model.geom_size[floor, axis] >= NARROW:
            model.geom_size[floor, axis] = VISIBLE + abs(model.geom_pos[floor, axis])
    # Its first corner lies at the smallest x and the largest y of the plane.
    x = model.geom_pos[floor, 0] - model.geom_size[floor, 0]
    y = model.geom_pos[floor, 1] + model.geom_size[floor, 1]
    texels = _texels(model.tex_height[texture], model.tex_width[texture], x, y)
    first = model.tex_adr[texture]
    model.tex_data[first : first + texels.size] = texels.ravel()


def colour(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the colour of places in metres, (...) and (...) -> (..., 3), float64 in [0, 1]."""
    channels = (_wave(x, "red"), _wave(y, "green"), _wave(x, "blue"))
    return np.stack(channels, -1)


def _wave(place: np.ndarray, channel: str) -> np.ndarray:
    """Return a triangle wave in [0, 1] that is 1/2 and rises at 0."""
    phase = place / PERIODS[channel] + 0.25
    return 2 * np.abs(phase - np.round(phase))


def _texels(height: int, width: int, x: float, y: float) -> np.ndarray:
    """Return the texture from a corner at x, y along x and -y, uint8 (height, width, 3)."""
    columns = x + (np.arange(width) + 0.5) / width * EXTENT
    rows = y - (np.arange(height) + 0.5) / height * EXTENT
    return (colour(*np.meshgrid(columns, rows)) * 255).round().astype(np.uint8)


def _is_floor(model, geom: int) -> bool:
    """Return whether a geom is a plane with a texture."""
    if model.geom_type[geom] != mujoco.mjtGeom.mjGEOM_PLANE:
        return False
    material = model.geom_matid[geom]
    return material >= 0 and model.mat_texid[material, mujoco.mjtTextureRole.mjTEXROLE_RGB] >= 0
