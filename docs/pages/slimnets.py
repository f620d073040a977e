"""SlimNets: weights, distillation and their combination."""

from __future__ import annotations

from docs.markdown import command, load, percent, source, table

__all__ = ["PUBLISHED", "page"]

PUBLISHED = "experiments/results/slimnets_published.json"
SHORT = "experiments/results/slimnets_cpu.json"
STEP = "benchmarks/results/masked_step.json"


def _rows(path: str) -> str:
    lines = []
    for row in load(path)["rows"]:
        paper = row["paper_accuracy"]
        lines.append(
            [row["name"], percent(paper), percent(row["accuracy"])]
            + [percent(row["relative_accuracy"], 1), f"{row['num_params']:,}"]
            + [f"{row['num_nonzero']:,}", f"{row['fewer_params']:.1f}x", f"{row['bytes']:,}"]
            + [f"{row['fewer_bytes']:.1f}x", f"{row['cpu_seconds']:,.0f}"]
        )
    head = ["row", "paper", "ours", "of VGG-19's", "parameters", "non-zeros", "fewer", "bytes"]
    return table([*head, "fewer", "CPU s"], lines)


def page() -> str:
    """Return the page."""
    published, short, step = load(PUBLISHED)["config"], load(SHORT)["config"], load(STEP)
    teacher = next(row for row in load(SHORT)["rows"] if row["name"] == "teacher")
    return f"""# SlimNets: weights, distillation and their combination

SlimNets' headline is VGG-19 (20,554,826 parameters, 92.4 %, the paper's figure) made 85x smaller at
96 % of its accuracy by a distilled NIN pruned to a quarter (88.69 %). Ours starts from the public
weights of ResNet-20, prunes them gradually while the stored answers of ResNet-56 teach it,
{published["scale"]["epochs"]} epochs of CIFAR-10, and stores int8 values with bit masks;
{published["test_images"]:,} test images of what was saved and loaded again, seeds
{", ".join(map(str, published["seeds"]))}; "fewer" is against VGG-19. {source(PUBLISHED)}

{_rows(PUBLISHED)}

{
        command(
            "python -m experiments.slimnets published --data-dir tensorflow_datasets",
            "--weights-dir weights --rows resnet20-170x resnet20-340x",
        )
    }

## Every row of the paper, from scratch, too short

{short["train_images"]:,} training images, {short["scale"]["epochs"]} epochs, quarter-width
convolutional networks (LeNets at full width), {
        short["test_images"]:,} test images of what was saved
and loaded again. Nothing is trained long enough here to be compared with the paper (the teacher
itself reaches {
        percent(teacher["accuracy"])
    }): compare within a column, not across, and read it as a
proof that every row runs. {source(SHORT)}

{_rows(SHORT)}

A step under masks takes {step["masked"]:.2f}x the time of the dense one,
{step["masked, an event each step"]:.2f}x where masks change. {source(STEP)}
"""
