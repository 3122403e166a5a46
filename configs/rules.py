"""Values of options that follow from others."""

from dataclasses import replace

from foreground.configs.schema import RunConfig
from foreground.envs import action_repeat_of, registry, specs

REPLAYED_PER_FRAME = 8.0  # steps, where the train ratio follows from the action repeat


def by_rule(config: RunConfig) -> RunConfig:
    """Return the config with numbers in place of each 0 that means "by the rule".

    The action repeat follows from the task's control interval, and the train ratio from the action
    repeat. So all tasks have the same number of updates for each environment frame.
    """
    repeat = config.environment.action_repeat or action_repeat_of(config.task)
    ratio = config.training.train_ratio or REPLAYED_PER_FRAME * repeat
    environment = replace(config.environment, action_repeat=repeat)
    if registry.is_gymnasium(config.task):
        limit = specs.time_limit_of(config.task, config.env_module, config.env_arguments)
        environment = replace(environment, time_limit=limit)
    training = replace(config.training, train_ratio=ratio)
    config = replace(
        config, task=registry.canonical(config.task), environment=environment, training=training
    )
    return with_continuation(config) if config.terminates else config


def with_continuation(config: RunConfig) -> RunConfig:
    """Return the config with the information term `continuation`, constrained if the reward is."""
    objective = config.world_model.objective
    terms = (
        objective.terms
        if "continuation" in objective.terms
        else objective.terms | {"continuation": 1.0}
    )
    constraint = objective.constraint
    if "reward" in constraint and "continuation" not in constraint:
        constraint = (*constraint, "continuation")
    objective = replace(objective, terms=terms, constraint=constraint)
    return replace(config, world_model=replace(config.world_model, objective=objective))
