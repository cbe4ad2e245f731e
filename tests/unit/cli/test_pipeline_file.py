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
    text = (
        "context: {day: 2026-01-02, at: 2026-01-02T03:04:05, n: 0x10, f: 1.50, no: false, none: null, '7': x,\n"
        "  t: !!str 2026-01-02, yes: &yes true, too: *yes}\n"
    )

    context = read_pipeline(written(tmp_path, text)).definition["context"]

    assert context == {
        "day": "2026-01-02",
        "at": "2026-01-02T03:04:05",
        "n": 16,
        "f": 1.5,
        "no": False,
        "none": None,
        "7": "x",
        "t": "2026-01-02",
        "yes": True,
        "too": True,
    }
    assert context["yes"] is True
    assert context["too"] is True
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
        ("name: !!python/object/apply:os.system [ls]\n", (), "line 1: the tag !!python/object/apply:os.system has no"),
        ("name: n\ncontext: {x: !mine {a: 1}}\n", (), "line 2: the tag !mine has no meaning in a pipeline"),
        ("name: n\ncontext: {x: !!str [a]}\n", (), "line 2: the tag !!str has no meaning"),
        ("name: n\ncontext: {x: !!bool maybe}\n", (), "line 2: 'maybe' can't be read as !!bool"),
        ("name: n\ncontext: {x: 2026-02-31}\n", (), "line 2: '2026-02-31' can't be read as !!timestamp .*needs quotes"),
        ("name: n\ncontext: &all {x: *all}\n", (), "line 2: an alias to this stands within it"),
        ("name: n\ncontext: {x: &all [1, *all]}\n", (), "line 2: an alias to this stands within it"),
        ("&all {name: n, context: *all}\n", (), "line 1: an alias to this stands within it"),
        ("name: n", ("nothing",), "key=value"),
        ("context: {a: 1}", ("a.b=1",), "'a' is not an object"),
        (BOMB, (), "aliases expand it"),
    ],
)
def test_what_is_no_pipeline_is_a_sentence(tmp_path, text, settings, told):
    """Nothing in a file is executed; what is wrong is said with its line."""
    with pytest.raises(Mistake, match=told):
        read_pipeline(written(tmp_path, text), settings)


@pytest.mark.parametrize(
    ("context", "told"),
    [
        ("x: !!binary aGk=", "line 4    context.x: object is not JSON: bytes; decode it, or pass base64 text"),
        ("x: !!set {a, b}", "line 4    context.x: object is not JSON: set; pass a sorted list"),
        ("y: {3: c}", "line 4    context.y: key 3 is not JSON: keys must be text, not int"),
        ("y: {1: a, '1': b}", "line 4    context.y: key 1 is not JSON: keys must be text, not int"),
        ("y: {true: c}", "line 4    context.y: key True is not JSON: keys must be text, not bool"),
        ("y: {null: c}", "line 4    context.y: key None is not JSON: keys must be text, not NoneType"),
        ("y: {2026-01-02: c}", "line 4    context.y: key datetime.date(2026, 1, 2) is not JSON"),
    ],
)
def test_what_json_has_not_is_refused_with_its_line(tmp_path, context, told):
    """Nothing is made into something that it was not: another value would be stored than the file says."""
    pipeline = read_pipeline(written(tmp_path, f"{NIGHTLY_HEAD}context:\n  {context}\n"))

    with pytest.raises(InvalidWorkflowError) as caught:
        Creation.of("x", pipeline.definition, retention_ms=0)

    assert told in str(refused(pipeline, caught.value))


NIGHTLY_HEAD = "name: nightly\nstages: [{ref_id: a, tasks: [{name: t, implementing_class: t}]}]\n"
MERGED = """\
name: nightly
context:
  base: &base
    join_threshold: -1
    tasks: [{name: t, implementing_class: t}]
  more: &more {<<: *base, retries: 1}
stages:
  - ref_id: a
    <<: *more
    name: x
  - <<: [*more, {type: z}]
    ref_id: b
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("stages[0].ref_id", 8),
        ("stages[0].join_threshold", 4),
        ("stages[0].tasks[0].name", 5),
        ("stages[0].retries", 6),
        ("stages[1].type", 11),
        ("stages[1].ref_id", 12),
    ],
)
def test_what_a_merge_key_brings_has_the_line_where_it_is_written(tmp_path, path, line):
    """There it can be corrected, also if it comes through several of them."""
    assert read_pipeline(written(tmp_path, MERGED)).line_of(path) == line


def test_lists_of_pairs_and_ordered_mappings_are_read(tmp_path):
    """They have a form in JSON: lists of two, and an object."""
    text = "context:\n  p: !!pairs [a: 1, a: 2]\n  o: !!omap [b: 1, a: 2]\n"

    pipeline = read_pipeline(written(tmp_path, text))

    assert pipeline.definition == {"context": {"p": [["a", 1], ["a", 2]], "o": {"b": 1, "a": 2}}}
    assert pipeline.line_of("context.o.a") == 3
    assert pipeline.line_of("context.p[0]") == 2


def test_an_anchor_may_be_used_again(tmp_path):
    """An alias means the nearest one before it; nothing is said about that."""
    assert read_pipeline(written(tmp_path, "context: [&a 1, &a 2, *a]")).definition == {"context": [1, 2, 2]}


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
