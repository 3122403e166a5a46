"""Options that were renamed or came later: what older runs, results and command lines say, in
today's names.
"""

from typing import Any

# Options that came later -> the value of runs and results that do not name them, where that is not
# today's default.
BEFORE = {
    "actor_critic.tanh_entropy_coef": 0.0,
    "actor_critic.noise_correlation": 0.0,
    "actor_critic.value_limit": 8.0,
    "world_model.reward_limit": 8.0,
}
# Old name of an option -> its name today. Both are in the same section.
RENAMED = {
    "begin": "init_weights",
    "frames": "total_frames",
    "skills": "init_from",
    "environment.number": "environment.num_envs",
    "evaluation.skills": "evaluation.num_skills",
    "family.heldout_number": "family.num_heldout_games",
    "family.number": "family.num_games",
    "world_model.frames": "world_model.frame_stack",
    "world_model.picture_frames": "world_model.decoder_frames",
    "world_model.contrastive.bound": "world_model.contrastive.estimator",
    "world_model.contrastive.source": "world_model.contrastive.anchor",
    "world_model.empowerment.shapes": "world_model.empowerment.train_representation",
    "world_model.objective.maximum": "world_model.objective.multiplier_max",
    "world_model.objective.minimum": "world_model.objective.multiplier_min",
    "actor_critic.closed_loop": "actor_critic.policy_input_grad",
    "actor_critic.deviation_floor": "actor_critic.reward_norm_min",
    "actor_critic.entropy": "actor_critic.entropy_coef",
    "actor_critic.factors": "actor_critic.reward_scales",
    "actor_critic.feedback": "actor_critic.policy_input_grad",
    "actor_critic.gradient": "actor_critic.actor_grad",
    "actor_critic.normalise": "actor_critic.reward_norm",
    "actor_critic.replay_value": "actor_critic.replay_value_coef",
    "actor_critic.scale_floor": "actor_critic.return_norm_min",
    "actor_critic.scale_rate": "actor_critic.norm_rate",
    "actor_critic.slow_every": "actor_critic.target_update_every",
    "actor_critic.slow_rate": "actor_critic.target_tau",
    "actor_critic.squash": "actor_critic.tanh_entropy_coef",
    "actor_critic.starts": "actor_critic.imag_starts",
    "actor_critic.target_updates": "actor_critic.target_std_updates",
    "actor_critic.trace": "actor_critic.lam",
    "optimiser.actor_rate": "optimiser.actor_lr",
    "optimiser.average": "optimiser.ema_decay",
    "optimiser.critic_rate": "optimiser.critic_lr",
    "optimiser.decay_after": "optimiser.lr_decay_after",
    "optimiser.model_rate": "optimiser.model_lr",
    "skill.hold": "skill.duration",
    "discovery.form": "discovery.kind",
    "discovery.multiplier": "discovery.multiplier_init",
    "discovery.rate": "discovery.lr",
    "hierarchy.hold": "hierarchy.duration",
    "modes.action": "modes.action_info_coef",
    "modes.explore": "modes.uniform_prob",
    "modes.game": "modes.game_info_coef",
    "modes.minimum": "modes.multiplier_min",
    "modes.number": "modes.num_modes",
    "modes.rate": "modes.lr",
    "modes.round": "modes.update_every",
}
# Options that no longer exist -> the value with which they did nothing. With another value they are
# refused as unknown.
DROPPED = {"training.recency": 1.0}
# Old name of an option -> old value -> value today, for options whose values were renamed as well.
VALUES = {
    "actor_critic.closed_loop": {False: 0.0, True: 1.0},
    "actor_critic.gradient": {"score": "reinforce", "path": "dynamics"},
    "world_model.contrastive.source": {"state": "posterior", "prediction": "prior"},
}


def renamed(key: str, value: Any) -> tuple[str, Any]:
    """Return today's name and value of an option that an older version wrote."""
    values = VALUES.get(key, {})
    known = isinstance(value, str | bool) and value in values
    return RENAMED.get(key, key), values[value] if known else value


def of_today(flat: dict) -> dict:
    """Return the options of an older run or result (dotted key -> value) in today's names, with
    those that came later.
    """
    return BEFORE | dict(
        renamed(key, value) for key, value in flat.items() if not _is_dropped(key, value)
    )


def mapping_of_today(mapping: dict) -> dict:
    """Return the nested options of an older run in today's names, with those that came later."""
    found = _renamed_below(mapping, "")
    for key, value in BEFORE.items():
        section, _, name = key.rpartition(".")
        if isinstance(found.get(section), dict):
            found[section].setdefault(name, value)
    return found


def _renamed_below(mapping: dict, prefix: str) -> dict:
    found = {}
    for name, value in mapping.items():
        key = f"{prefix}{name}"
        if _is_dropped(key, value):
            continue
        if isinstance(value, dict) and key not in RENAMED:
            found[name] = _renamed_below(value, f"{key}.")
        else:
            key, value = renamed(key, value)
            found[key.removeprefix(prefix)] = value
    return found


def _is_dropped(key: str, value: Any) -> bool:
    return key in DROPPED and value == DROPPED[key]


def command_of_today(command: str) -> str:
    """Return a command of train.py that an older version wrote, in today's names."""
    found = []
    key = ""
    for word in command.split(" "):
        if word.startswith("--"):
            key, equals, value = word.removeprefix("--").partition("=")
            name, value = renamed(key, value)
            found.append(f"--{name}{equals}{value}")
        else:
            found.append(str(renamed(key, word)[1]))
            key = ""
    return " ".join(found)


def answers() -> dict[str, str]:
    """Return what to write in place of each old name on a command line."""
    return {old: f"write --{new}{_new_values(old)}" for old, new in RENAMED.items()}


def answers_in_files() -> dict[str, str]:
    """Return what to write in place of each old name in a YAML file, within the same section."""
    return {
        old: f"write {new.rpartition('.')[2]}{_new_values(old)}" for old, new in RENAMED.items()
    }


def _new_values(old: str) -> str:
    """Return today's words for the values of an old option; "" where they are the same."""
    values = VALUES.get(old, {})
    words = [f"{value} for {shown}" for shown, value in values.items() if isinstance(shown, str)]
    return f" ({', '.join(words)})" if words else ""
