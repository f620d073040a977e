"""Fixed knowledge: what stored answers are worth, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from docs.markdown import command, load, percent, source, table

__all__ = ["ABLATION", "NAMES", "page"]

ABLATION = "experiments/results/knowledge_ablation_cpu.json"
FEW = "experiments/results/knowledge_few_images_cpu.json"
STORE = "benchmarks/results/knowledge.json"
SEQUENCES = "benchmarks/results/sequence_knowledge.json"
LIMITED = {
    "ResNet-20": "experiments/results/limited_resources_resnet20_cpu.json",
    "ResNet-20 by a live teacher": "experiments/results/limited_resources_resnet20_live_cpu.json",
    "ResNet-20 by labels alone": "experiments/results/limited_resources_resnet20_labels_cpu.json",
    "ResNet-56": "experiments/results/limited_resources_resnet56_cpu.json",
    "MobileNetV2, digits": "experiments/results/limited_resources_mobilenet_v2_cpu.json",
    "ResNet-20, digits": "experiments/results/limited_resources_digits_cpu.json",
}
PROJECTION = "experiments/results/limited_resources_resnet50_projection_cpu.json"
NAMES = {
    "none": "labels alone",
    "logits": "one stored answer",
    "assistant": "assistant, taught on one stored answer",
    "blend": "`blend` of it with the student's own",
    "tail": "`tail`: the teacher's last block on restyled features",
    "bank": "bank of interim networks, as EKG",
    "views": "the two views that were stored, and no others",
    "crossed": "crossed assistant, taught across two",
    "live": "teacher running in every step",
    "teacher": "(the teacher itself)",
}


def _by_name(path: str) -> dict[str, Mapping[str, Any]]:
    return {row["name"]: row for row in load(path)["rows"]}


def _ablation() -> str:
    rows = _by_name(ABLATION)
    lines = []
    for name, text in NAMES.items():
        row = rows[name]
        seeds = [percent(row[key]) for key in sorted(row) if key[9:].isdigit()]
        epoch = row.get("epoch_cpu_seconds")
        lines.append(
            [text, " / ".join(seeds), percent(row["accuracy"])]
            + ["" if epoch is None else f"{epoch:.1f}", f"{row['train_view_variance']:.2f}"]
        )
    head = ["taught by", "each seed", "mean", "CPU s per epoch", "variance of logits over views"]
    return table(head, lines)


def _few() -> str:
    rows = _by_name(FEW)
    return table(
        ["taught by", "test accuracy", "variance over views / over images, training images"],
        [
            [text, percent(rows[name]["accuracy"]), f"{rows[name]['train_view_ratio']:.3f}"]
            for name, text in NAMES.items()
            if name in rows
        ],
    )


def _limited() -> str:
    lines = []
    for network, path in LIMITED.items():
        result = load(path)
        config, stages = result["config"], result["config"]["stages"]
        seconds = " + ".join(f"{stage['cpu_seconds']:.0f}" for stage in stages.values())
        for row in result["rows"]:
            lines.append(
                [network, row["name"], percent(row["accuracy"]), f"{row['num_params']:,}"]
                + [f"{row['flops'] / 1e6:.1f}", f"{config['train_images'] or 'all'}"]
                + [config["student_epochs"], seconds if row["name"] == "student" else ""]
            )
    head = ["network", "", "accuracy", "parameters", "MFLOPs", "training images", "epochs"]
    return table([*head, "CPU s of the stages"], lines)


def _store() -> str:
    return table(
        ["stored per example", "bytes on disk", "written / s", "read / s, shuffled"],
        [
            [row["what"], f"{row['bytes']:,.0f}", f"{row['write']:,.0f}", f"{row['read']:,.0f}"]
            for row in load(STORE)["storage"]
        ],
    )


def _steps() -> str:
    steps = load(STORE)["steps"]
    names = {
        "without a teacher": "none, seconds",
        "stored logits and features, prefetched": "stored, seconds",
        "live teacher": "live, seconds",
    }
    return table(
        ["a student's step", "seconds", "of a step without a teacher"],
        [
            [text, f"{steps[name]:.2f}", f"{steps[name] / steps['none, seconds']:.2f}x"]
            for text, name in names.items()
        ],
    )


def _worth() -> str:
    """Return what answers are worth: all the images a few times, and few images many times."""
    ablation, few = load(ABLATION)["config"]["config"], load(FEW)["config"]["config"]
    pruned, few_pruned = _by_name(ABLATION)["pruned"], _by_name(FEW)["pruned"]
    return f"""## What it is worth

ResNet-20 teaches the half of its FLOPs that learned gates leave ({percent(pruned["accuracy"])}
before any training), {ablation["train_images"]:,} training images, {ablation["student_epochs"]}
epochs, all test images. {source(ABLATION)}

{_ablation()}

A second stored answer is worth most: with it, both the crossed assistant, which learns from two
stored views how an answer changes with the view and answers for views that nobody stored, and
training on nothing but the two stored views come close to the live teacher.

With fewer images and more epochs the collapse that fixed knowledge is feared for begins to show:
{few["train_images"]} images, {few["student_epochs"]} epochs, one seed
({percent(few_pruned["accuracy"])} before any training). {source(FEW)}

{_few()}

{
        command(
            "python -m experiments.knowledge --data-dir tensorflow_datasets",
            "--weights resnet20_cifar10.safetensors --methods logits views crossed live none",
            "--seeds 0 --train-images 512 --student-epochs 30 --workdir runs/few",
        )
    }"""


def _one_run() -> str:
    """Return what the whole chain of stages gave, network by network."""
    mobile = load(LIMITED["MobileNetV2, digits"])["config"]
    return f"""## In one run

`experiments.limited_resources` stores what the teacher knows, learns gates, shrinks, fine-tunes
with the crossed assistant where nothing else is said, saves, and reports device-hours, each stage
resumable. These are short runs, which prove the mechanism: MobileNetV2's teacher saw 8 x 8 pixel
digits for {mobile["teacher_epochs"]} epochs, its half for {mobile["student_epochs"]}; the presets'
full length was never run.

{_limited()}

{
        command(
            "python -m experiments.limited_resources cifar10_resnet56",
            "--data-dir tensorflow_datasets --weights resnet56_cifar10.safetensors",
            "--train-images 2048 --student-epochs 4",
        )
    }"""


def _projected() -> str:
    """Return the device-hours that the largest preset would take."""
    row = load(PROJECTION)["rows"][0]
    hours = sum(value for key, value in row.items() if key.endswith("_device_hours"))
    return f"""\
`imagenet_resnet50` projects device-hours from measured steps: {hours:,.0f} on two cores
({row["forward_images_per_second"]:.0f} images/s forward,
{row["step_images_per_second"]:.0f} images/s fine-tuning). {source(PROJECTION)}"""


def _taught_characters() -> str:
    """Return bits per character of each way to teach, and what its store costs."""
    result = load(SEQUENCES)
    arms: dict[str, list[Mapping[str, Any]]] = {}
    for row in result["rows"]:
        arms.setdefault(row["arm"], []).append(row)
    lines = []
    for arm, rows in arms.items():
        bits, cost = [row["bits"] for row in rows], result["stores"].get(arm)
        mega = [f"{cost[name] / 1e6:.1f}" for name in ("bytes", "raw_bytes")] if cost else ["", ""]
        written = f"{cost['write_seconds']:.0f}" if cost else ""
        seconds = [
            sum(row[name] for row in rows) / len(rows) for name in ("step_seconds", "seconds")
        ]
        lines.append(
            [arm, " / ".join(f"{value:.3f}" for value in bits), f"{sum(bits) / len(bits):.3f}"]
            + [f"{1e3 * seconds[0]:.0f}", f"{seconds[1]:.0f}", *mega, written]
        )
    head = ["taught by", "bits per character, each seed", "mean", "CPU ms per step", "CPU s in all"]
    return table([*head, "MB on disk", "MB before compression", "CPU s to write"], lines)


def _sequences() -> str:
    """Return what stored answers to every token are worth."""
    result = load(SEQUENCES)
    config, data = result["config"], result["data"]
    return f"""## Sequences

A decoder of width {config["width"]} reads the sources of Python's standard library, a character a
token, {config["teacher_steps"]} steps of {config["batch_size"]} pieces of whole lines, at most
{config["length"]} characters each ({percent(data["filled"], 0)} of the positions are no padding);
every eighth file is held out. One of half the width learns from {config["examples"]:,} of the
pieces, {config["student_steps"]} steps, by labels alone or by them and the teacher's answers,
half and half, as `recipes.distill` does without further settings. {source(SEQUENCES)}

{_taught_characters()}

Stored answers teach what the live teacher does, without running it. Answers to tokens are compared
at temperature 1; that of images, 4, is worth next to nothing here. Seconds were taken beside other
work on the same cores.

{command("python -m benchmarks.sequence_knowledge")}"""


def page() -> str:
    """Return the page."""
    return f"""# Fixed knowledge and a synthetic teacher assistant

The teacher runs once; a view of an image is a pure function of (key, example, number), so that what
was stored fits any shuffle, any resume and any number of processes.

{_worth()}

{_one_run()}

{_projected()}

{_sequences()}

## What it costs

ResNet-56 teaching its half, batch 128. {source(STORE)}

{_steps()}

{_store()}
"""
