"""A run shows itself on one line, as the report, in a notebook; from Python it leaves what the command line does."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from foolbench.bench import Run, evaluate
from foolbench.leaderboard.record.measure import Measure
from foolbench.leaderboard.record.record import Flag
from records import Recipe, record
from small_runs import inside, submit, tree

HOSTILE = "a\n<script>alert(1)</script><img src=x onerror=alert(1)>\x1b[31m&amp;"
TAGS = {"div", "style", "h4", "p", "dl", "dt", "dd", "small", "table", "thead", "tbody", "tr", "th", "td", "span", "i"}
TAGS |= {"ul", "li", "b", "details", "summary", "pre"}
REASON = "FB501: the attack raised ValueError: <b>bold</b>"


@pytest.fixture(scope="module")
def hostile() -> Run:
    made = record(Recipe(HOSTILE, fooled={"evolution": 1.0}, missing={"cppn": REASON}, tier="smoke"))
    flag = Flag(code="<i>code", attack="fgsm", sentence="Look at </li><li>this.", evidence={})
    return Run(made.model_copy(update={"flags": [flag]}), Path("runs/<u>-0123"))


class Tags(HTMLParser):
    """Every tag and text of a page; fails where one is closed that was not opened."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        assert {name for name, _ in attrs} <= {"class", "style", "colspan"}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def test_it_is_one_line(hostile: Run):
    line = repr(hostile)
    assert "\n" not in line
    assert line.isprintable()
    reason = hostile.record.scores.robust_score.reason
    assert f" on digits-v1 (smoke tier): robust score — ({reason}), clean accuracy 0.95 [" in line
    assert line.endswith("in runs/<u>-0123>")


@pytest.mark.parametrize("environment", [{"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"}, {"COLUMNS": "40"}])
def test_it_prints_as_the_report_in_plain_text(
    hostile: Run, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    report = str(hostile)
    assert "\x1b" not in report
    lines = report.splitlines()
    assert max(map(len, lines)) <= 120
    assert re.fullmatch(r"╭─ a <script>.*─╮", lines[0])
    assert "CPPN (indirect encoding) was not measured: FB501" in report
    assert lines[-1].startswith("Next: foolbench leaderboard")


def test_a_notebook_shows_it_without_scripts_and_without_anything_fetched(hostile: Run):
    page = Tags(hostile._repr_html_())
    assert page.tags == TAGS
    said = " ".join(" ".join(page.text).split())
    for words in (
        "a <script>alert(1)</script><img src=x onerror=alert(1)>\ufffd[31m&amp;",
        REASON,
        "FGSM: Look at </li><li>this.",
        "digits-v1 · smoke tier",
        "Uniform noise (control)",
        "not rankable",
        "runs/<u>-0123",
    ):
        assert words in said
    assert not re.search(r"https?:|url\(|@import", hostile._repr_html_())


def test_what_was_not_measured_has_no_bar(hostile: Run):
    row = re.search(r"<tr><th>CPPN \(indirect.*?</tr>", hostile._repr_html_(), re.DOTALL)
    assert row is not None
    assert "fb-bar" not in row[0]
    assert "width" not in row[0]


@pytest.mark.parametrize(
    ("measure", "text"),
    [
        (Measure(value=0.943, low=0.8791, high=0.97366, k=94, n=100), "0.943 [0.879, 0.974] (94/100)"),
        (Measure(value=41.234, low=38.87, high=43.58), "41.2 [38.9, 43.6]"),
        (Measure(value=0.9996, low=0.998, high=1.0, k=4998, n=5000), "0.9996 [0.998, 1] (4998/5000)"),
        (Measure(value=0.0, k=0, n=3), "0 (0/3)"),
        (Measure(value=100.0), "100"),
        (Measure(value=-0.0312, low=-0.1, high=0.04), "-0.0312 [-0.1, 0.04]"),
        (Measure(value=None, reason="no clean image right"), "— (no clean image right)"),
        (Measure(value=None), "—"),
    ],
)
def test_a_measure_prints_as_a_number_with_its_interval(measure: Measure, text: str):
    assert str(measure) == f"{measure}" == text


def test_scores_print_as_numbers():
    scores = record(Recipe("net")).scores
    lines = str(scores).splitlines()
    assert re.fullmatch(r"robust_score +\d\d\.\d \[\d\d\.\d, \d\d\.\d\]", lines[0])
    assert re.fullmatch(r"clean_accuracy +0\.95 \[0\.\d+, 0\.\d+\] \(114/120\)", lines[1])
    assert len(lines) == len(type(scores).model_fields)
    assert "\n" not in repr(scores)
    assert repr(scores).startswith("Scores(clean_accuracy=0.95 [")


def test_a_run_from_python_leaves_what_one_from_the_command_line_does(tmp_path: Path):
    path = submit(tmp_path)
    run = evaluate(path, out=tmp_path / "python", device="cpu", workers=1)
    assert inside("evaluate", path, "--out", tmp_path / "command", "--device", "cpu").returncode == 0
    python, command = tree(tmp_path / "python"), tree(tmp_path / "command")
    assert python.keys() == command.keys()
    report = python["report.txt"].decode()
    assert report == f"{run}\n"

    def rest(text: str) -> list[str]:
        told = text.replace(str(tmp_path / "python"), "RUN").replace(str(tmp_path / "command"), "RUN")
        return [line for line in told.splitlines() if " workers, " not in line]

    assert rest(report) == rest(command["report.txt"].decode())
    same = [name for name in python if name.startswith("evidence/")]
    assert same
    assert [python[name] for name in same] == [command[name] for name in same]
