"""Pages of reports: all that is there and nothing else, readable by everyone, safe to open."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
from pathlib import Path

import pytest

from jaxcompress.annotations import Json
from jaxcompress.report import page, write_page
from jaxcompress.report.__main__ import main
from jaxcompress.report.schema import problems
from tests.report.made_up import DETAILS, minimal, numbers_of, report_of, row_of, seen, whole

RESULTS = Path(__file__).parents[2] / "experiments" / "results"
EVERYTHING = {"run": whole()}
SEVERAL = {"first": whole(), "second": whole()}
HEADINGS = ["Summary", "Accuracy against cost", "What was changed", "Training"]
HEADINGS += ["Stages and their cost", "Further figures", "Settings and environment"]


def headings(text: str) -> list[str]:
    return [part for level in "123456" for part in seen(text).texts_of(f"h{level}")]


def test_everything_of_a_report_is_on_the_page() -> None:
    text = page(EVERYTHING)
    assert set(HEADINGS) <= set(headings(text))
    values = {float(value) for value in re.findall(r'data-value="([^"]+)"', text)}
    report = EVERYTHING["run"]
    assert numbers_of([report["rows"], report["stages"]]) - numbers_of(
        [row.get("details", {}).get("ranks", []) for row in report["rows"]]
    ) <= values | {8.0, 3.0}
    for word in ("net.py:7", "params/b[0]", "43953a340eed", "views.pad", "3.11.7", "train_loss"):
        assert word in text, word


def test_every_number_of_a_table_is_the_reports() -> None:
    for reports in (EVERYTHING, SEVERAL, {"run": minimal()}):
        values = re.findall(r'data-value="([^"]+)"', page(reports))
        assert {float(value) for value in values} <= numbers_of(list(reports.values()))


def test_the_summary_says_how_much_smaller_and_how_accurate() -> None:
    text = page(EVERYTHING).replace("\N{NO-BREAK SPACE}", " ")
    assert "<strong>dense</strong>, the original: 853,018 parameters, 251 MFLOPs" in text
    half = text.split("<strong>half</strong>")[1].split("</li>")[0]
    assert half.startswith(
        " (75 of 80 channels left, 1 kernel in two factors, 79.9 % zeros in 1 leaf)"
    )
    assert "50.0 % fewer parameters, 50.0 % fewer FLOPs and 50.0 % fewer bytes on disk" in half
    assert "92.74 % of 1,000 test examples are right, 0.65 points below dense" in half


def test_networks_judged_by_other_examples_are_not_compared() -> None:
    rows = [row_of("dense", 0.9, 1.0), row_of("some", 0.95, 0.5, count=100)]
    text = page({"run": report_of(rows)})
    assert "points above" not in text and "<svg" not in text
    rows = [row_of("dense", 0.9, 1.0), row_of("some", 0.95, 0.5)]
    assert "points above" in page({"run": report_of(rows)})


def test_what_a_report_lacks_is_left_out() -> None:
    text = page({"run": minimal()})
    assert [h for h in headings(text) if h in HEADINGS] == ["Summary", "Settings and environment"]
    assert "<svg" not in text and "None" not in text and "nothing was measured" in text
    without = copy.deepcopy(EVERYTHING["run"])
    del without["rows"][1]["details"]["ranks"], without["stages"]
    text = page({"run": without})
    assert "Singular values" not in text and "Stages" not in text and "Channels" in text


def test_one_budget_draws_no_picture() -> None:
    rows = [row_of("one", 0.9, 0.5), row_of("other", 0.8, 0.5)]
    assert "<svg" not in page({"run": report_of(rows)})


def test_runs_stand_side_by_side() -> None:
    better = copy.deepcopy(whole())
    better["rows"][1]["accuracy"] = 0.93
    text = page({"first": whole(), "second": better})
    pictures = [name for name in labels(text) if "against" in name]
    assert pictures[0] == "Accuracy against FLOPs: 6 networks, 3 of them not dominated"
    assert "half: 92.74\N{NO-BREAK SPACE}%" in text and "dominated by second: half" in text
    assert {"Run: first", "Run: second"} <= set(headings(text))
    ids = [attributes["id"] for _, attributes in seen(text).elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    other = whole() | {"config": {"dataset": "cifar10"}}
    kinds = [h for h in headings(page({"first": whole(), "second": other})) if " on 1,000" in h]
    assert len(kinds) == 2, "networks of other data are in one picture"


def labels(text: str) -> list[str]:
    return [a["aria-label"] or "" for a in seen(text).named("svg") if "aria-label" in a]


def test_scores_that_fall_are_better_lower() -> None:
    rows = [
        row_of(name, None, share, score=score, metric="bits per character", lower_is_better=True)
        for name, share, score in (("dense", 1.0, 1.5), ("half", 0.5, 2.0), ("bad", 0.75, 2.5))
    ]
    text = page({"run": report_of(rows)})
    assert "bad: 2.5" in text and "dominated by half" in text and "Lower is better" in text
    assert "half</strong>" in text and "bits per character 2" in text


def test_a_screen_reader_finds_its_way() -> None:
    for reports in (EVERYTHING, SEVERAL, {"run": minimal()}):
        parsed = seen(page(reports))
        levels = [int(tag[1]) for tag, _ in parsed.elements if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(b <= a + 1 for a, b in zip(levels, levels[1:], strict=False)), levels
        assert all(attributes.get("scope") in ("row", "col") for attributes in parsed.named("th"))
        pictures = parsed.named("svg")
        assert all(a.get("aria-label") or a.get("aria-hidden") == "true" for a in pictures)
        assert all("viewbox" in a or "viewBox" in a for a in pictures)
        ids = {attributes.get("id") for _, attributes in parsed.elements}
        assert {a["aria-labelledby"] for a in parsed.named("section")} <= ids
        assert len(parsed.named("caption")) == len(parsed.named("table"))
        assert parsed.named("html")[0]["lang"] == "en" and parsed.named("main")


def test_every_figure_has_its_numbers_as_a_table() -> None:
    text = page(EVERYTHING)
    figures = text.split("<figure>")[1:]
    assert len(figures) == 10
    assert all("<table" in figure.split("</figure>")[0] for figure in figures)


def hostile(value: Json) -> Json:
    """Put something into every string that would do harm unescaped."""
    if isinstance(value, dict):
        return {name: hostile(part) for name, part in value.items()}
    if isinstance(value, list):
        return [hostile(part) for part in value]
    bad = """"'></td></svg></style><script>alert(1)</script><img src=x onerror=alert(1)>"""
    return f"{value}{bad}" if isinstance(value, str) else value


def test_hostile_strings_are_text() -> None:
    report = hostile(whole())
    report["config"]["<b onclick=x>"] = "<i>"
    bad = hostile("run")
    text = page({bad: report, "other": whole()})
    parsed, clean = seen(text), seen(page({"run": whole(), "other": whole()}))
    assert len(parsed.named("script")) == len(parsed.named("style")) == 1
    assert not parsed.named("img", "i", "b")
    attributes = {name for _, given in parsed.elements for name in given}
    assert attributes <= {name for _, given in clean.elements for name in given}
    assert bad in "".join(text for _, text in parsed.texts)


def test_the_page_asks_the_network_for_nothing() -> None:
    for reports in (EVERYTHING, SEVERAL):
        text = page(reports)
        parsed = seen(text)
        assert "://" not in text and "url(" not in text and "@import" not in text
        assert not any("src" in a or "style" in a for _, a in parsed.elements)
        assert not parsed.named("link", "iframe", "img", "object")
        assert all((a["href"] or "").startswith("#") for a in parsed.named("a"))
        policy = parsed.named("meta")[1]["content"] or ""
        assert policy.startswith("default-src 'none';")
        for tag in ("style", "script"):
            content = text.split(f"<{tag}>")[1].split(f"</{tag}>")[0]
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            assert f"{tag}-src 'sha256-{digest}'" in policy


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_pages_of_real_reports_are_light(path: Path, tmp_path: Path) -> None:
    text = write_page(tmp_path / "page.html", [path]).read_text()
    report = json.loads(path.read_text())
    seen(text)
    assert len(text) < 500_000 and all(row["name"] in text for row in report["rows"])


def test_a_page_is_light_at_the_size_of_large_networks() -> None:
    details = {name: DETAILS[name] * 60 for name in ("groups", "ranks", "sparsity", "frozen")}
    details["ranks"] = [
        rank | {"spectrum": [[n, 1 / n] for n in range(1, 49)], "full": 48}
        for rank in details["ranks"]
    ]
    rows = [row_of(f"network {n}", 0.5 + n / 1000, 0.5 + n / 400) for n in range(200)]
    rows[0]["details"] = details
    assert len(page({"run": report_of(rows)})) < 1_000_000


def test_the_command_writes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(json.dumps(whole()))
    main([str(tmp_path / "first"), str(tmp_path / "second")])
    assert "report.html" in capsys.readouterr().out
    assert "Run: second" in (tmp_path / "first" / "report.html").read_text()
    main([str(tmp_path / "first"), "--output", str(tmp_path / "one.html")])
    assert "Run: second" not in (tmp_path / "one.html").read_text()
    with pytest.raises(SystemExit):
        main([str(tmp_path / "third"), str(tmp_path / "fourth")])
    said = capsys.readouterr().err
    assert "third" in said and "fourth" in said and "there is no" in said


def test_damaged_reports_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{")
    with pytest.raises(ValueError, match="a report is JSON, but .*report.json"):
        write_page(tmp_path / "page.html", [tmp_path])
    with pytest.raises(ValueError, match="a: rows is missing; b: .*rows\\[0\\]: flops is str"):
        wrong = whole()
        wrong["rows"][0]["flops"] = "5M"
        page({"a": {k: v for k, v in whole().items() if k != "rows"}, "b": wrong})
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        ("groups", {"name": "a", "before": 4, "after": 5}, "after is 5, of 4"),
        ("groups", {"name": "a", "before": 4}, "after is missing"),
        ("sparsity", {"path": "a", "size": 4, "nonzero": True}, "nonzero is bool"),
        ("ranks", DETAILS["ranks"][0] | {"spectrum": [[1]]}, "spectrum is no list of"),
        ("ranks", DETAILS["ranks"][0] | {"rank": 9}, "rank is 9, of 8"),
        ("frozen", {"reason": "a", "source": "", "axes": [1]}, "axes is no list of names"),
        ("curves", {"name": "a", "epochs": [1], "values": [1.0, 2.0]}, "two lists of as many"),
        ("curves", {"name": "a", "epochs": [1], "values": [float("nan")]}, "as many numbers"),
        ("layers", {}, "layers is none of groups"),
    ],
)
def test_wrong_details_are_named(name: str, entry: Json, message: str) -> None:
    report = report_of([row_of("a", 0.5, 1.0, details={name: [entry]})])
    (problem,) = problems(report)
    assert problem.startswith("rows[0]: details: ") and message in problem


def test_wrong_stages_and_scores_are_named() -> None:
    report = report_of([row_of("a", None, 1.0, score="1")], stages=[{"name": "a"}, {"seconds": -1}])
    said = "; ".join(problems(report))
    assert "score is str" in said and "metric is missing" in said
    assert "stages[0]: seconds is missing" in said and "stages[1]: name is missing" in said
    stage = {"name": "a", "seconds": float("inf")}
    assert "seconds is inf" in problems(report_of([], stages=[stage]))[0]
