"""Test environments of dm_control in processes: imports, renderers, workers."""

import functools
import os
import pickle
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np

from foreground import envs
from tests.support.dmc import PROCEDURAL


def test_factories_pickle_and_workers_draw_the_same_pictures():
    background = envs.load_background(PROCEDURAL, "train")
    factory = functools.partial(envs.make, "cartpole-swingup", background=background)
    assert len(pickle.dumps(factory)) < 10_000, "the frames themselves must not be pickled"
    vectors = [
        gymnasium.vector.AsyncVectorEnv([factory, factory], context="forkserver"),
        gymnasium.vector.SyncVectorEnv([factory, factory]),
    ]
    actions = np.random.default_rng(0).uniform(-1, 1, (5, 2, 1)).astype(np.float32)
    pictures = []
    for vector in vectors:
        seen = [vector.reset(seed=7)[0].copy()]
        seen += [vector.step(action)[0].copy() for action in actions]
        pictures.append(np.stack(seen))
        vector.close()
    np.testing.assert_array_equal(*pictures)
    assert (pictures[0][:, 0] != pictures[0][:, 1]).any()


def run_python(code: str, **variables: str) -> subprocess.CompletedProcess:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        **variables,
    }
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )


def test_import_is_cheap_and_overwrites_nothing():
    code = (
        "import os, sys, foreground.envs\nprint('mujoco' in sys.modules, "
        "os.environ['MUJOCO_GL'], 'torch' in sys.modules)"
    )
    assert run_python(code, MUJOCO_GL="osmesa").stdout.split() == ["False", "osmesa", "False"]


def test_no_egl_is_one_line():
    code = """
import ctypes
load = ctypes.CDLL.__init__
def without_egl(self, name, *arguments, **keywords):
    if name and "EGL" in str(name):
        raise OSError(f"{name}: cannot open shared object file")
    load(self, name, *arguments, **keywords)
ctypes.CDLL.__init__ = without_egl
from foreground import envs
from foreground.errors import UserError
try:
    envs.make("walker-walk")
except UserError as error:
    print(error)
"""
    result = run_python(code, MUJOCO_GL="egl")
    assert "apt-get install" in result.stdout, result.stderr
    assert result.stdout.count("\n") == 1


def test_an_optimiser_may_step_after_the_first_picture():
    """It imports triton where torch brings it, whose LLVM does not bear Mesa's before it: a
    segmentation fault.
    """
    code = """
import foreground.envs.dmc, torch
environment = foreground.envs.dmc.make("cartpole-swingup")
environment.reset(seed=0)
weight = torch.nn.Parameter(torch.zeros(3))
weight.grad = torch.ones(3)
torch.optim.Adam([weight]).step()
environment.step(environment.action_space.sample())
"""
    assert (
        subprocess.run(
            [sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False
        ).returncode
        == 0
    )
