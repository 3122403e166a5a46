"""What a checkpoint's state may lack, and whether it was saved under other conditions than it is resumed under."""


def completed(state: dict) -> dict:
    """Return a checkpoint's state with what earlier versions, or other options, did not keep."""
    parts = {"rollout": {}, "provenance": {}} | state
    return parts | {
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
