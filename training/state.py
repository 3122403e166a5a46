"""What a checkpoint's state may lack, and whether it was saved under other conditions than it is resumed under."""

SCHEMA = 1  # of what `Trainer.state` gives
# Schema -> how the names of weights began in it, and how they begin in the next one.
RENAMED = {0: {"base.": ""}}


def weights_of_today(weights: dict, schema: int) -> dict:
    """Return weights of an older schema under today's names."""
    for number in range(schema, SCHEMA):
        for old, new in RENAMED[number].items():
            weights = {new + name.removeprefix(old) if name.startswith(old) else name: v for name, v in weights.items()}
    return weights


def completed(state: dict) -> dict:
    """Return a checkpoint's state with what earlier versions, or other options, did not keep."""
    parts = {"rollout": {}, "provenance": {}, "schema": 0} | state
    if type(parts["schema"]) is not int or not 0 <= parts["schema"] <= SCHEMA:
        raise ValueError(f"it is of schema {parts['schema']!r}"[:100])
    agent = state["agent"] | {"weights": weights_of_today(state["agent"]["weights"], parts["schema"])}
    return parts | {
        "agent": agent,
        "clocks": {"evaluated": None} | state["clocks"],
        "episodes": {"score": float("nan")} | state["episodes"],
        "random": {"cuda": []} | state["random"],
    }


def moved(kept: dict, here: dict) -> list[str]:
    """Return a sentence where a run goes on with another machine, packages, renderer or commit than it was saved with."""
    if not isinstance(kept, dict):
        raise ValueError("its provenance is none")
    differ = [f"{name} {str(kept[name])[:80]} (now {here[name]})" for name in here if kept.get(name, here[name]) != here[name]]
    if not differ:
        return []
    return [
        f"the checkpoint was saved with {', '.join(differ)}: the run goes on, close to what it would have been, not to the bit"
    ]
