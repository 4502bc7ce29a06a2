"""The runner of the model says what it lacks, and what is left out of the model is in it."""

import re

import pytest
from model.run import SPECIFICATION, CannotRunError, java, states_in
from model.sizes import MUTANTS, SIZES


def test_without_java_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    with pytest.raises(CannotRunError, match="default-jre-headless"):
        java()


def test_the_model_has_exactly_the_rules_that_are_left_out_of_it() -> None:
    text = SPECIFICATION.read_text(encoding="utf-8")
    named = set(re.findall(r'M\("(\w+)"\)', text))
    for names in re.findall(r"Mutant \\(?:not)?in \{([^}]*)\}", text):
        named |= set(re.findall(r'"(\w+)"', names))

    assert named == {mutant.name for mutant in MUTANTS}


def test_a_configuration_has_every_constant_of_the_model() -> None:
    text = SPECIFICATION.read_text(encoding="utf-8")
    declared = text[text.index("CONSTANTS") : text.index("VARIABLES")]
    declared = re.sub(r"\\\*[^\n]*", "", declared).removeprefix("CONSTANTS")

    for size in SIZES.values():
        lines = size.constants("none").splitlines()
        assert {name.strip() for name in declared.split(",")} == {
            line.split("=")[0].strip() for line in lines
        }


def test_the_number_of_states_is_read_from_what_tlc_says() -> None:
    said = "299,314 states generated, 92,506 distinct states found, 0 states left on queue."

    assert 92_506 == states_in(said)
