"""What train.py --help shows besides its options, and the names of other programs' options."""

import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from foreground.configs import renamed
from foreground.envs import SUITE
from foreground.training.option_help import Manual, described

# Options that --help shows first.
FIRST = (
    "agent", "task", "size", "total_frames", "seed", "init_from", "folder", "device", "threads",
    "accept_changes",
    "environment.action_repeat", "environment.num_envs", "background.source",
    "training.batch_size", "training.train_ratio",
    "training.prefill", "training.evaluate_every", "training.checkpoint_every",
    "evaluation.episodes", "evaluation.latent",
    "world_model.objective.terms", "actor_critic.rewards", "actor_critic.entropy_coef",
    "optimiser.model_lr",
)  # fmt: skip

# Names of options in other programs, and what they are here.
ELSEWHERE = {
    ("env", "env_id", "env_name", "environment_id", "domain", "domain_name"):
        "write --task, as in --task walker-walk",
    ("algo", "algorithm", "method", "model", "alg"): "write --agent, as in --agent dreamer",
    ("learning_rate", "lr"):
        "write --optimiser.model_lr, --optimiser.actor_lr or --optimiser.critic_lr",
    ("world_model_lr",): "write --optimiser.model_lr",
    ("policy_lr",): "write --optimiser.actor_lr",
    ("value_lr",): "write --optimiser.critic_lr",
    ("grad_clip", "max_grad_norm", "clip_grad"):
        "write --optimiser.model_clip or --optimiser.policy_clip",
    (
        "total_timesteps", "timesteps", "total_steps", "num_steps", "max_steps", "steps",
        "train_steps", "num_train_steps",
        "num_timesteps", "num_train_frames", "num_frames",
    ): "write --total_frames, in env frames: agent steps times --environment.action_repeat",
    ("n_envs", "num_workers", "envs", "parallel"): "write --environment.num_envs",
    ("frame_skip", "frameskip", "repeat"): "write --environment.action_repeat",
    ("img_size", "resolution", "render_size"): "write --environment.image_size",
    ("gamma",): "write --actor_critic.discount",
    ("gae_lambda", "lambda"): "write --actor_critic.lam",
    ("ent_coef", "alpha"): "write --actor_critic.entropy_coef",
    ("buffer_size", "replay_size", "replay_capacity", "memory_size"): "write --training.capacity",
    ("learning_starts", "seed_steps", "seed_frames", "num_seed_frames", "warmup_steps"):
        "write --training.prefill",
    ("utd", "replay_ratio", "update_every"):
        "write --training.train_ratio, replayed steps per agent step",
    ("eval_freq", "eval_interval", "eval_every", "eval_every_frames"):
        "write --training.evaluate_every",
    ("eval_episodes", "num_eval_episodes", "n_eval_episodes"): "write --evaluation.episodes",
    ("save_freq", "save_interval", "save_every", "checkpoint_interval"):
        "write --training.checkpoint_every",
    ("logdir", "log_dir", "output", "outdir", "output_dir", "save_dir", "workdir", "work_dir",
     "exp_name", "run_name", "name"):
        "write --folder",
    ("resume", "checkpoint", "load", "load_checkpoint", "restore"):
        "the same command on the same --folder resumes",
    ("video", "videos", "dataset", "data", "data_dir", "distractor", "distractors",
     "background"): "write --background.source",
    ("gpu", "cuda", "use_cuda"): "write --device cuda",
    ("cpu", "no_cuda"): "write --device cpu",
    ("precision", "fp16", "amp", "bf16"):
        "leave it out: updates on CUDA are in bfloat16, on a CPU in float32",
    ("wandb", "use_wandb", "wandb_project", "track", "logger", "tensorboard", "comet", "mlflow"):
        "leave it out: the run folder has TensorBoard files (make tensorboard) and metrics.jsonl",
}  # fmt: skip


def manual(presets: Path, agents: Iterable[str], settle: Callable[[Any], Any]) -> Manual:
    """Return the manual of train.py.

    presets   the folder with the agents' files
    settle    as in `Manual`
    """

    def lists() -> dict[str, list[str]]:
        tasks = textwrap.wrap(", ".join(SUITE), 110, break_on_hyphens=False)
        return {"Tasks, for --task:": tasks, "Agents, for --agent:": described(presets, agents)}

    elsewhere = {name: answer for names, answer in ELSEWHERE.items() for name in names}
    return Manual(FIRST, lists, renamed.answers() | elsewhere, settle, "python train.py")
