"""Test what TensorBoard shows: sentences, curves, layout, options; the docs agree."""

from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from foreground.configs import run as runs
from foreground.configs import schema
from foreground.training import board, described, options
from foreground.training.logger import Logger

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "metrics.md").read_text()


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def test_the_docs_hold_the_rows_of_the_table():
    lines = PAGE.splitlines()
    first = lines.index("| key | unit | what it is | trivial, or alarm |") + 2
    rows = [row.in_the_docs for row in described.rows() if not row.shown]
    assert lines[first : first + len(rows)] == rows, (
        "write the rows of training/metrics.yaml into docs/reference/metrics.md"
    )
    assert lines[first + len(rows)] == ""
    pictures = [row.in_the_docs for row in described.rows() if row.shown]
    assert [line for line in lines if "(GIF) |" in line or "(picture) |" in line] == pictures


def test_every_key_has_the_sentence_of_its_row():
    """Also where a later row with a word in capitals would fit it."""
    for row in described.rows():
        for key in row.keys:
            assert described.sentence(described.ANY.sub("x", key)) == row.sentence, key


def test_a_word_in_capitals_stands_for_any():
    assert described.sentence("policy/discovery+use/return").startswith(
        "Mean lambda-return in imagination."
    )
    assert described.sentence("evaluation/latent/ahead/10/state").startswith(
        "The same 1, 5 and 10 imagined steps ahead"
    )
    assert described.sentence("policy/task/elsewhere") == ""


def test_a_curve_has_its_sentence_and_the_first_ones_a_second_name(tmp_path):
    with Logger(tmp_path) as logger:
        for step in (10, 20):
            logger.scalars(step, {"return_heldout": float(step)}, "evaluation")
            logger.scalars(step, {"model/predictability/kl": 3.0, "of_tomorrow": 1.0})
    events = read(tmp_path)
    for tag in ("evaluation/return_heldout", "at_a_glance/return_heldout"):
        assert [(event.step, event.value) for event in events.Scalars(tag)] == [
            (10, 10.0),
            (20, 20.0),
        ]
        told = events.SummaryMetadata(tag)
        assert told.summary_description == described.sentence("evaluation/return_heldout")
        # The data server keeps a sentence only where these two are given.
        assert told.plugin_data.plugin_name == "scalars"
        assert told.data_class == board.DATA_CLASS_SCALAR
    assert sorted(events.Tags()["scalars"])[0].startswith("at_a_glance/")
    assert "of_tomorrow" in events.Tags()["scalars"]
    lines = (tmp_path / "metrics.jsonl").read_text()
    assert "at_a_glance" not in lines


def test_a_picture_has_its_sentence(tmp_path):
    with Logger(tmp_path) as logger:
        for step in (1, 2):
            logger.video(step, "evaluation/heldout", np.zeros((2, 8, 8, 3), np.uint8), 20.0)
    events = read(tmp_path)
    # Short runs have no other picture at first sight.
    for tag in ("evaluation/heldout", "at_a_glance/film_heldout"):
        assert [event.step for event in events.Images(tag)] == [1, 2]
        assert events.SummaryMetadata(tag).summary_description.startswith(
            "The first 64 steps of the first"
        )


@pytest.mark.parametrize("skills", [True, False])
def test_return_and_latent_are_laid_out_first(tmp_path, skills):
    with Logger(tmp_path) as logger:
        logger.options({"agent": "infopower"}, skills)
    (tensor,) = read(tmp_path).Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(tensor.tensor_proto.string_val[0])
    assert [page.title for page in layout.category] == [
        "return",
        "latent",
        *["skills"] * skills,
        "policy",
    ]
    chart = layout.category[0].chart[0]
    assert list(chart.multiline.tag) == ["^evaluation/return_.*$"]


def test_every_chart_is_of_keys_that_there_are():
    keys = [
        described.ANY.sub("task", key)
        for row in described.rows()
        if not row.shown
        for key in row.keys
    ]
    for charts in board.LAYOUT.values():
        for patterns in charts.values():
            for pattern in patterns:
                assert any(described.re.fullmatch(pattern, key) for key in keys), pattern
    assert all(described.sentence(key) for key in (*board.FIRST, *board.RESULTS))


def test_options_and_results_are_hparams(tmp_path):
    config = runs.read(["--task", "cheetah-run", "--seed", "7"], cuda=False)
    with Logger(tmp_path / "one") as logger:
        logger.options({key: options.value_of(config, key) for key in board.OPTIONS}, skills=False)
    events = read(tmp_path / "one")
    start = plugin_data_pb2.HParamsPluginData.FromString(
        events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    ).session_start_info
    assert start.hparams["task"].string_value == "cheetah-run"
    assert start.hparams["seed"].number_value == 7
    assert start.group_name == "one"
    experiment = plugin_data_pb2.HParamsPluginData.FromString(
        events.SummaryMetadata("_hparams_/experiment").plugin_data.content
    ).experiment
    assert [info.name.tag for info in experiment.metric_infos] == list(board.RESULTS)


def test_options_are_those_of_the_newest_start(tmp_path):
    for start, frames in enumerate((100, 900)):
        with Logger(tmp_path, resume_step=100 * start) as logger:
            logger.options({"total_frames": frames}, skills=False)
            logger.scalars(100 * start + 50, {"episode/return": 1.0})
    events = read(tmp_path)
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    told = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert told.hparams["total_frames"].number_value == 900
    assert [event.step for event in events.Scalars("episode/return")] == [50, 150]


# The others begin with another run.
OWN_TERMS = sorted({*schema.agents_in(ROOT / "configs")} - {*schema.FOLLOWING})


@pytest.mark.parametrize("agent", OWN_TERMS)
def test_every_term_of_an_agent_has_a_row(agent):
    config = runs.read(["--agent", agent, "--size", "cpu"], cuda=False)
    for term in config.world_model.objective.terms:
        assert described.sentence(f"model/objective/{term}"), term
