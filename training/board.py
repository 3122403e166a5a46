"""TensorBoard's first page, descriptions of curves, and layouts, as records for `Logger`.

A few curves have a second name that is first in the alphabet, since TensorBoard opens its first
group. These and others are on the page Custom Scalars; options and returns are on the page HParams.
"""

from tensorboard.compat.proto.summary_pb2 import (
    DATA_CLASS_BLOB_SEQUENCE,
    DATA_CLASS_SCALAR,
    Summary,
    SummaryMetadata,
)
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING

from foreground.training import described

FIRST = {  # key -> its second name
    "evaluation/return_heldout": "at_a_glance/return_heldout",
    "evaluation/return_clean": "at_a_glance/return_without_video",
    "episode/return": "at_a_glance/return_training",
    "model/reward/explained": "at_a_glance/reward_explained",
    "evaluation/heldout": "at_a_glance/film_heldout",  # an image, like the next one
    "evaluation/clean": "at_a_glance/film_without_video",
}
KEPT = "at_a_glance/what_the_latent_keeps"  # also an image
LAYOUT = {  # page -> chart -> patterns of keys
    "return": {
        "return of the deterministic policy": ["evaluation/return_.*"],
        "return of training episodes": ["episode/return"],
    },
    "latent": {
        "reward explained": [
            "model/reward/explained",
            "model/games/explained",
            "evaluation/latent/reward_explained",
        ],
        "KL of posterior and prior, nats": ["model/predictability/kl"],
        "R2 of a probe": ["evaluation/latent/(state|background)/network/(mean|pixels)"],
    },
    "skills": {
        "nats of the skill, and their upper bound": [
            "evaluation/skills/identifiability/(nats|cap)"
        ],
        "violations": ["evaluation/skills/violation/mean"],
    },
    "policy": {
        "entropy, nats": ["policy/entropy"],
        "imagined return and value": ["policy/.*/(return|value)"],
        "means beyond 0.9": ["policy/saturation"],
    },
}
OPTIONS = (  # of a run, on the page HParams
    "agent",
    "task",
    "size",
    "seed",
    "total_frames",
    "background.source",
    "environment.action_repeat",
    "training.batch_size",
    "training.batch_length",
    "training.train_ratio",
    "optimiser.model_lr",
    "optimiser.actor_lr",
    "optimiser.critic_lr",
)
RESULTS = (
    "evaluation/return_heldout",
    "evaluation/return_train",
    "evaluation/return_clean",
    "episode/return",
)


def scalars(values: dict[str, float], known: set[str]) -> list[Summary.Value]:
    """Return values as TensorBoard's records, those of `FIRST` twice; tags that are not `known`
    with a description.
    """
    return [
        Summary.Value(
            tag=tag,
            simple_value=value,
            metadata=_description(key, tag, known, "scalars", DATA_CLASS_SCALAR),
        )
        for key, value in values.items()
        for tag in names(key)
    ]


def _description(
    key: str, tag: str, known: set[str], plugin: str, data_class: int
) -> SummaryMetadata | None:
    """Return the description of a tag that is not `known`, and add the tag to them."""
    if tag in known:
        return None
    known.add(tag)
    return SummaryMetadata(
        summary_description=described.sentence(key),
        # Without it the data server drops the description.
        plugin_data=SummaryMetadata.PluginData(plugin_name=plugin),
        data_class=data_class,
    )


def names(key: str) -> tuple[str, ...]:
    """Return the tags of a key: itself, and its second name where it has one."""
    return (key, FIRST[key]) if key in FIRST else (key,)


def picture(
    key: str, encoded: bytes, shape: tuple[int, ...], known: set[str]
) -> list[Summary.Value]:
    """Return a PNG or GIF of shape (H, W, C) under its names; tags that are not `known` with a
    description.
    """
    height, width, channels = shape
    image = Summary.Image(
        height=height, width=width, colorspace=channels, encoded_image_string=encoded
    )
    return [
        Summary.Value(
            tag=tag,
            image=image,
            metadata=_description(key, tag, known, "images", DATA_CLASS_BLOB_SEQUENCE),
        )
        for tag in names(key)
    ]


def text(name: str, markdown: str) -> Summary.Value:
    """Return a text for TensorBoard's page Text."""
    return _of_plugin(f"{name}/text_summary", "text", markdown.encode())


def layout(skills: bool) -> Summary.Value:
    """Return the layout of the page Custom Scalars, with skills only where a run has any."""
    from tensorboard.plugins.custom_scalar import layout_pb2, metadata

    pages = []
    for page, charts in LAYOUT.items():
        if page == "skills" and not skills:
            continue
        lines = [
            layout_pb2.Chart(
                title=title,
                multiline=layout_pb2.MultilineChartContent(tag=[f"^{key}$" for key in keys]),
            )
            for title, keys in charts.items()
        ]
        pages.append(layout_pb2.Category(title=page, chart=lines))
    content = layout_pb2.Layout(category=pages).SerializeToString()
    return _of_plugin(metadata.CONFIG_SUMMARY_TAG, metadata.PLUGIN_NAME, content)


def hparams(run: str, options: dict[str, str | float | int | bool]) -> list[Summary.Value]:
    """Return the records of the page HParams: options of a run, and its curves that are results."""
    from tensorboard.plugins.hparams import summary_v2

    metrics = [
        summary_v2.Metric(key, display_name=key, description=described.sentence(key))
        for key in RESULTS
    ]
    config = summary_v2.hparams_config_pb([summary_v2.HParam(name) for name in options], metrics)
    return [*config.value, *summary_v2.hparams_pb(options, trial_id=run).value]


def _of_plugin(tag: str, plugin: str, content: bytes) -> Summary.Value:
    one = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(
        dtype=DT_STRING, string_val=[content], tensor_shape=one if plugin == "text" else None
    )
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin))
    return Summary.Value(tag=tag, metadata=metadata, tensor=tensor)
