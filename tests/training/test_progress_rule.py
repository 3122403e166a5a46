"""Test the rule `Progress` in a run: which episodes it reads, and when."""

import math

import torch

from foreground.training.rollout import Episode
from tests.faults import checkpoint_ablation
from tests.support.training_runs import OFTEN, run

WORDS = [*OFTEN, "--agent", "infopower_progress"]


def trainer_of(folder):
    torch.set_num_threads(1)
    return checkpoint_ablation.make(folder, WORDS)


def test_no_row_is_learned_from_before_its_episode_was_used_for_validation(tmp_path):
    trainer = trainer_of(tmp_path)
    replay, seen, learned = trainer.replay, [], []
    gather, sample, validate = replay._sequences, replay.sample, trainer.agent.validate
    newest = []

    def gathered(stream, start, length):
        newest.append(int(start.max()) + length)
        return gather(stream, start, length)

    def sampled(*words):
        batch = sample(*words)
        learned.append((len(seen), newest[-1]))
        return batch

    def noted(episode):
        assert bool(episode["is_first"][0, 0])
        assert not episode["is_first"][0, 1:].any()
        seen.append(replay.row_count)
        return validate(episode)

    replay._sequences, replay.sample, trainer.agent.validate = gathered, sampled, noted
    run(trainer, 400)
    assert len(seen) == trainer.episodes > 4
    after_first = [(number, stop) for number, stop in learned if number]
    assert len(after_first) > 20
    assert all(stop <= seen[number - 1] for number, stop in after_first)
    # What was used for validation is learned from.
    assert max(stop - seen[number - 1] for number, stop in after_first) > -5


def test_the_multiplier_moves_in_a_run_and_the_metrics_say_so(tmp_path):
    trainer = trainer_of(tmp_path)
    trainer.agent.world_model.rule.episodes.fill_(20)  # as after 20 episodes, all of C 0
    run(trainer, 230)
    assert float(trainer.agent.world_model.rule.log_multiplier) != math.log(10)
    row = trainer.agent.validate(trainer.replay.newest(0, 9))
    assert {
        f"model/objective/{name}" for name in ("new_constraint", "level", "slack")
    } == row.keys()
    assert not any(value.requires_grad for value in row.values())


def test_an_agent_without_the_rule_sees_no_episode(tmp_path):
    trainer = checkpoint_ablation.make(tmp_path, OFTEN)
    trainer.agent.validate = lambda episode: 1 / 0
    trainer.rollout.finished = [Episode(0, 1.0, 3)]
    assert run(trainer, 200).said == []
