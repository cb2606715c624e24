"""The list of models: one place in the code, and the same in errors and in the documentation."""

from __future__ import annotations

import pytest

from engine.model_errors import UnsupportedModel
from engine.supported import FAMILIES, PAGE, family_of, page

from .checkpoints import FAMILIES as CHECKPOINTS


def test_the_page_in_the_documentation_is_up_to_date() -> None:
    """Else run ``python -m engine.supported``."""
    text = PAGE.read_text(encoding="utf-8")

    assert page(text) == text


def test_the_error_names_every_family_and_the_models_in_it() -> None:
    with pytest.raises(UnsupportedModel) as raised:
        family_of(("Gemma3ForCausalLM", "OtherModel"))

    message = str(raised.value)
    assert "'Gemma3ForCausalLM, OtherModel'" in message
    for family in FAMILIES:
        assert f"{family.architecture} ({', '.join(family.models)})" in message


def test_every_family_has_a_checkpoint_that_is_compared_with_transformers() -> None:
    compared = {f"{name}ForCausalLM" for name, _ in CHECKPOINTS.values()}

    assert {family.architecture for family in FAMILIES} == compared
