"""The keeper of the style finds what it is there to find, and nothing else."""

from tools.tidy import findings_in, untested

GOOD_C = "/* A file. */\n\nint kv_f(void)\n{\n    return 0;\n}\n"


def said(path: str, text: str) -> list[str]:
    return [finding.what for finding in findings_in(path, text)]


def test_good_files_have_no_findings() -> None:
    assert [] == said("native/a.c", GOOD_C)
    assert [] == said("kvstore/a.py", '"""A module."""\n')
    assert [] == said("kvstore/__init__.py", "")
    assert [] == said("kvstore/a.py", '"""An unsharded cache neither blocks nor waits."""\n')


def test_a_module_needs_a_docstring() -> None:
    assert ["a module opens with a docstring"] == said("kvstore/a.py", "x = 1\n")


def test_a_c_file_needs_a_comment() -> None:
    (what,) = said("native/a.c", GOOD_C.split("\n", 2)[2])

    assert "opens with a comment" in what


def test_long_files_and_functions() -> None:
    body = "    x = 1\n" * 70
    long_c = GOOD_C.replace("    return 0;\n", "    f();\n" * 68)

    assert ["f: 71 lines, 70 is the limit of a function"] == said(
        "a.py", f'"""A."""\n\n\ndef f():\n{body}'
    )
    assert ["int kv_f(void): 71 lines, 70 is the limit of a function"] == said("a.c", long_c)
    assert ["501 lines, 500 is the limit"] == said("a.sh", "true\n" * 501)


def test_unfinished_work_and_banned_words() -> None:
    unfinished, banned = "TO" + "DO", "chu" + "nk"

    assert [f"{unfinished}: finish it, or file an issue"] == said("a.sh", f"# {unfinished}\n")
    for text in (f"# {banned}s", f"{banned}_size=1", f"kv_{banned}"):
        assert [f"{banned!r}: the word here is extent"] == said("a.sh", text)


def test_a_c_file_is_tested_by_itself_or_with_its_concept() -> None:
    files = {f"native/engine/{name}.c" for name in ("slab", "slab_pack", "journal", "index_row")}
    tests = {"tests/native/test_slab.c", "tests/native/test_index_row.c"}

    assert ["native/engine/journal.c"] == [finding.path for finding in untested(files | tests)]
