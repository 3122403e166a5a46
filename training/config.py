"""Options of training."""

from foreground.option import config_class, option


@config_class
class TrainingConfig:
    batch_size: int = option(16, "Sequences B in a batch.", ge=1, le=100_000)
    batch_length: int = option(32, "Steps T of a sequence.", ge=2, le=100_000)
    train_ratio: float = option(
        64.0,
        "Replayed steps per agent step; 0: 8 for each env frame, so 8 times the action repeat.",
        ge=0.0,
        le=1e6,
    )
    overlap: bool = option(
        False,
        "Do the updates of a step while the environments take the next one in processes of their"
        " own. This is faster, but each action comes from weights that are one step older.",
    )
    rare_rewards: float = option(
        0.0,
        "Share of sequences drawn for a rare reward: one after ten or more steps of the same "
        "episode without a reward. The share is multiplied by that of rows without a reward, and "
        "is at most ten times that of a uniform sample. `recent_steps` decides on the others.",
        ge=0.0,
        le=1.0,
    )
    recent_steps: int = option(
        0,
        "Draw half of the sequences from this many of the newest agent steps, and the others from "
        "the whole replay; 0: all from the whole replay.",
        ge=0,
    )
    prefill: int = option(2000, "Env frames of noise for actions before learning starts.", ge=1)
    capacity: int = option(
        500_000, "Agent steps that the replay holds, or fewer if the run is shorter.", ge=64
    )
    log_every: int = option(1000, "Env frames between two lines of metrics.", ge=1)
    video_every: int = option(
        10_000, "Env frames between two videos of the decoded latent and of training.", ge=1
    )
    evaluate_every: int = option(
        25_000, "Env frames between two evaluations during training; 0: only at the end.", ge=0
    )
    evaluate_async: bool = option(
        False,
        "Evaluate in a separate process while training continues. The figures are the same, and "
        "are logged at the frame that was evaluated.",
    )
    checkpoint_every: int = option(10_000, "Env frames between two checkpoints.", ge=1)
