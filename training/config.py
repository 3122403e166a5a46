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
        "Do the updates of a step while the environments take the next one, in their own processes:"
        " faster, and each action is by weights that are a step older.",
    )
    rare_rewards: float = option(
        0.0,
        "Share of sequences that are drawn because they hold a reward after ten steps of the "
        "episode without one. It is multiplied by the share of rows without a reward, and at most "
        "ten times what a uniform sample has. The others are drawn by `recent_steps`.",
        ge=0.0,
        le=1.0,
    )
    recent_steps: int = option(
        0,
        "Half of the sequences are drawn from this many newest agent steps, the others from all; "
        "0: all from all.",
        ge=0,
    )
    prefill: int = option(2000, "Env frames of noise for actions before learning starts.", ge=1)
    capacity: int = option(
        500_000, "Agent steps that the replay holds, or fewer if the run is shorter.", ge=64
    )
    log_every: int = option(1000, "Env frames between two lines of metrics.", ge=1)
    video_every: int = option(
        10_000, "Env frames between two pictures of the latent and of training.", ge=1
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
