"""Pipeline files: read, changed, and problems with their lines."""

import json

import pytest

from stabilize_celery.cli.failures import Mistake
from stabilize_celery.cli.pipeline_file import read_pipeline, refused, unknown_tasks
from stabilize_celery.engine.creation import Creation
from stabilize_celery.models.problems import InvalidWorkflowError

NIGHTLY = """\
application: accept
name: nightly
stages:
  - ref_id: fetch
    tasks: [{name: fetch, implementing_class: work}]
  - ref_id: load
    join_threshold: -1
    join_type: N_OF_M
    requisite_stage_ref_ids: [fetsch]
    tasks:
      - {name: load, implementing_class: lode}
"""


def written(tmp_path, text, name="nightly.yaml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_every_problem_has_its_line(tmp_path):
    """The lines are those of the file, in its order; the near miss is suggested."""
    pipeline = read_pipeline(written(tmp_path, NIGHTLY))
    with pytest.raises(InvalidWorkflowError) as caught:
        Creation.of("x", pipeline.definition, retention_ms=0)

    first, *lines = str(refused(pipeline, caught.value)).splitlines()

    assert first.endswith("nightly.yaml: 2 problems, nothing was started")
    assert [line.split()[:2] for line in lines] == [["line", "7"], ["line", "9"]]
    assert "did you mean 'fetch'" in lines[1]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("", 1),
        ("name", 2),
        ("stages[1]", 6),
        ("stages[1].tasks[0].implementing_class", 11),
        ("stages[1].requisite_stage_ref_ids[0]", 9),
        ("stages[1].no_such.field", 6),
        ("stages[9].x", 3),
        ("stages['odd key']", 3),
    ],
)
def test_lines_of_paths(tmp_path, path, line):
    """A path that leads nowhere has the line of what is nearest around it."""
    assert read_pipeline(written(tmp_path, NIGHTLY)).line_of(path) == line


def test_json_is_read_with_its_lines(tmp_path):
    text = json.dumps({"name": "n", "stages": [{"ref_id": "a"}]}, indent=2)

    pipeline = read_pipeline(written(tmp_path, text, "n.json"))

    assert pipeline.definition == {"name": "n", "stages": [{"ref_id": "a"}]}
    assert pipeline.line_of("stages[0].ref_id") == 5


def test_json_that_is_no_yaml_is_read_too(tmp_path):
    assert read_pipeline(written(tmp_path, '{\n\t"name":\t"n"\n}', "n.json")).definition == {"name": "n"}


def test_dates_and_numbers_become_json(tmp_path):
    """What YAML makes of a date is the text that JSON has."""
    text = "context: {day: 2026-01-02, at: 2026-01-02T03:04:05, n: 0x10, f: 1.50, no: false, none: null, 7: x}\n"

    context = read_pipeline(written(tmp_path, text)).definition["context"]

    assert context == {
        "day": "2026-01-02",
        "at": "2026-01-02T03:04:05",
        "n": 16,
        "f": 1.5,
        "no": False,
        "none": None,
        "7": "x",
    }
    assert {type(value) for value in context.values()} == {str, int, float, bool, type(None)}


def test_set_puts_values_into_the_context(tmp_path):
    """A value is JSON where it can be read so, else text; dots lead into objects."""
    settings = ("n=7", "s=some text", "deep.er.list=[1, 2]", 'q="x"')

    context = read_pipeline(written(tmp_path, "name: n\n"), settings).definition["context"]

    assert context == {"n": 7, "s": "some text", "deep": {"er": {"list": [1, 2]}}, "q": "x"}


BOMB = "\n".join(["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))])
"""Eleven lines that stand for some 60 thousand million values."""


@pytest.mark.parametrize(
    ("text", "settings", "told"),
    [
        ("name: [1\n", (), "line 2"),
        ("name: x\nname: y\n", (), "line 2"),
        ("- a\n- b\n", (), "not a list"),
        ("", (), "not an empty file"),
        ("7", (), "not a single value"),
        ("name: !!python/object/apply:os.system [ls]\n", (), "stages|name|python"),
        ("name: n", ("nothing",), "key=value"),
        ("context: {a: 1}", ("a.b=1",), "'a' is not an object"),
        (BOMB, (), "aliases expand it"),
    ],
)
def test_what_is_no_pipeline_is_a_sentence(tmp_path, text, settings, told):
    """Nothing in a file is executed; what is wrong is said with its line."""
    path = written(tmp_path, text)
    if "python" in text:
        Creation_refuses(path)
        return
    with pytest.raises(Mistake, match=told):
        read_pipeline(path, settings)


def Creation_refuses(path):  # a tag is only text: the model refuses what it stands for
    with pytest.raises(InvalidWorkflowError):
        Creation.of("x", read_pipeline(path).definition, retention_ms=0)


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path):
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Mistake, match=r"missing\.yaml: there is no such file"):
        read_pipeline(tmp_path / "missing.yaml")
    with pytest.raises(Mistake, match="can't be read"):
        read_pipeline(tmp_path / "bytes.yaml")
    with pytest.raises(Mistake, match="can't be read"):
        read_pipeline(tmp_path)


def test_task_types_that_nobody_knows_are_found(tmp_path):
    """Only where workers are running; Celery tasks by prefix are nobody's to know."""
    pipeline = read_pipeline(
        written(tmp_path, NIGHTLY.replace("implementing_class: work", "implementing_class: celery:x"))
    )

    (problem,) = unknown_tasks(pipeline, {"load", "work"}, 4)

    assert "no task 'lode' is known to the 4 live workers; did you mean 'load'?" in str(problem)
    assert "known to the one live worker;" in str(unknown_tasks(pipeline, {"load", "work"}, 1)[0])
    assert unknown_tasks(pipeline, set(), 0) == []
    assert pipeline.told([problem], is_warning=True)[0].endswith("(warning)")


def test_json_that_is_none_is_not_taken_for_yaml(tmp_path):
    """YAML would read it, and name what is missing behind the mistake."""
    with pytest.raises(Mistake, match="line 2: Expecting value"):
        read_pipeline(written(tmp_path, '{"application": "a",\n "name": }', "n.json"))
