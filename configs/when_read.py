"""What decides whether a section of options, or an option of it, has an effect: a reason in words,
and a test of the whole RunConfig.
"""

from foreground.envs import backgrounds, registry
from foreground.envs.tasks import ANY_WAY_UP

DISCOVERING = (
    "where discovery is among --actor_critic.rewards, as for slim, metra and goal",
    lambda run: any("discovery" in name.split("+") for name in run.actor_critic.rewards),
)
MEASURING = (
    "by agents with skills, such as slim, metra and diayn",
    lambda run: run.learns_skills,
)
PLAYING = backgrounds.PLAYING[0], lambda run: backgrounds.PLAYING[1](run.background)
OF_GYMNASIUM = "where --task is gymnasium:ENV_ID", lambda run: registry.is_gymnasium(run.task)
OF_SUITE = "by tasks of dm_control's suite", lambda run: not registry.is_gymnasium(run.task)
SHOWING_FLOOR = (
    "by tasks of dm_control's suite, where no video hides the floor (--environment.mask sky)",
    lambda run: (
        OF_SUITE[1](run) and (run.background.source == "none" or run.environment.mask == "sky")
    ),
)
FALLING = (
    "by quadruped-walk and quadruped-run",
    lambda run: registry.canonical(run.task) in ANY_WAY_UP,
)
SIDE_BY_SIDE = (
    "where --environment.num_envs is above 1",
    lambda run: run.environment.num_envs > 1,
)
PAID = (
    "where task or game is among --actor_critic.rewards",
    lambda run: any({"task", "game"} & set(name.split("+")) for name in run.actor_critic.rewards),
)
OBSERVING = (
    "where --environment.proprioception is true",
    lambda run: run.environment.proprioception,
)
FLAT = "by every agent but hierarchical", lambda run: not run.hierarchy.duration
UNCONDITIONED = (
    "where task is among --actor_critic.rewards, by agents without skills, modes or hierarchy",
    lambda run: (
        "task" in run.actor_critic.rewards
        and not (run.skill.size or run.modes.num_modes or run.hierarchy.duration)
    ),
)
