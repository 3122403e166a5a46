"""Options of an evaluation by eval.py."""

from foreground.option import config_class, option

LATENT = "with --latent", lambda config: config.latent
SKILLS = "with --skills", lambda config: config.skills
AIMING = "with --skills or --reach", lambda config: config.skills or config.reach
PLAN = "with --plan", lambda config: config.plan
ADAPT = "with --adapt", lambda config: config.adapt
PROTOCOLS = ("none", "dcs", "dmc_gb", "corruption", "all")
MOVING = (
    "with --protocol dcs, corruption or all",
    lambda config: config.protocol in ("dcs", "corruption", "all"),
)
META = "with --adapt and --meta", lambda config: config.adapt and config.meta != "none"


@config_class
class EvalConfig:
    """Foreground: evaluate a run, with the deterministic policy."""

    run: str = option(help="Run folder, or one checkpoint folder in it.", path=True)
    episodes: int = option(10, "Episodes per background.", ge=1)
    background: tuple[str, ...] = option(
        ("auto",),
        "What plays behind the robot: clean, train, heldout, or a path to other videos "
        "(its held-out side); auto: heldout, or clean where nothing distracts the run. Several "
        r"with commas between, and \, for a comma in a path.",
        path=True,
    )
    all_clips: bool = option(
        False, "Of a path play all clips, whatever their side; of one file, that one."
    )
    output: str = option(
        "",
        "Folder of the results; without it RUN/evaluation/NAME, where NAME says "
        "checkpoint, task, background and what is "
        "measured. An earlier evaluation in the same folder stays until this one is "
        "complete, and is then replaced.",
        path=True,
    )
    accept_changes: bool = option(
        False,
        "Score with the run's clips as they are now, although they are not those that it "
        "was trained with.",
    )
    seed: int = option(1000, "Seed of the first episode.", ge=0, le=2**31 - 1)
    random: bool = option(
        False,
        "Play the random policy, too, and with --skills or --reach the untrained agent: the floor "
        "that a score is held against.",
    )
    protocol: str = option(
        "none",
        "Also play a protocol of distraction, kinds by severities: the Distracting Control Suite,"
        " DMControl-GB, corruption of the image and light, or all.",
        choices=PROTOCOLS,
    )
    dynamic: bool = option(
        True,
        "Whether distractions of the protocol also change within an episode.",
        read_if=MOVING,
    )
    latent: bool = option(
        False, "Also fit probes: what of the simulator's state and of the clip the latent holds."
    )
    latent_episodes: int = option(
        64,
        "Episodes for the probes, half to fit, half to score; few find too little.",
        ge=4,
        read_if=LATENT,
    )
    latent_actors: tuple[str, ...] = option(
        (),
        "Runs whose policies move the robot in these episodes, with commas between; none: "
        "RUN's own. The same list for "
        "several runs makes their latents comparable: each reads the same episodes.",
        path=True,
        read_if=LATENT,
    )
    task: str = option("", "Play another task of the same body; without it the run's own.")
    skill: int = option(-1, "Play one skill by its id, throughout; -1: as they are drawn.", ge=-1)
    skills: bool = option(
        False,
        "Also measure the skills: identifiability, coverage, goals, the best one's return, "
        "gaps between backgrounds.",
    )
    skill_number: int = option(
        48, "Skills that are measured; 3 rollouts each.", ge=2, read_if=SKILLS
    )
    best_of: int = option(
        16, "Skills of which the best is looked for on the task; 0: none.", ge=0, read_if=SKILLS
    )
    reach: bool = option(
        False,
        "Also send the robot to goal pictures, behind other clips than theirs: runs of goals or"
        " skills.",
    )
    goals: int = option(
        50, "Goals that the robot is sent to; with --skills 0: none.", ge=0, read_if=AIMING
    )
    plan: bool = option(
        False, "Also play by planning over skills: no policy is learned, a reward head is fitted."
    )
    plan_episodes: int = option(
        8, "Episodes with random skills that this reward head is fitted on.", ge=1, read_if=PLAN
    )
    games: bool = option(
        False, "Also play every game of the run's family, held-out ones too, under every mode."
    )
    adapt: str = option(
        "",
        "Adapt to a game: a name, or numbers that describe it, like speed=3 or mass=0.6,gain=1.2.",
    )
    steps: tuple[int, ...] = option(
        (0, 1, 5, 10, 50), "Steps of adaptation after which it is played.", ge=0, read_if=ADAPT
    )
    adapt_frames: int = option(
        4000, "Env frames of the game that these steps learn from.", ge=0, read_if=ADAPT
    )
    adapt_scope: str = option(
        "relation",
        "What adaptation moves: relation and modes, or the whole actor.",
        choices=("relation", "actor"),
        read_if=ADAPT,
    )
    adapt_rate: float = option(
        1e-3, "Learning rate of a step of adaptation.", gt=0.0, read_if=ADAPT
    )
    meta: str = option(
        "none",
        "How to choose where adaptation begins, on the run's own games.",
        choices=("none", "reptile", "fomaml"),
        read_if=ADAPT,
    )
    meta_rounds: int = option(30, "Rounds of that choice.", ge=1, read_if=META)
    device: str = option("auto", "Where to run the networks.", choices=("auto", "cpu", "cuda"))
    threads: int = option(0, "Threads of torch on the CPU; 0: one for each core.", ge=0, le=4096)
