"""The structures that Python hands to the C++ kernels: the same fields in the same order, of the same size."""

import ctypes
import re

import pytest

from models.recurrent import compiler
from models.recurrent.layout import Norm, Sequence

INTERFACE = (compiler.SOURCES / "interface.h").read_text()


def declared(structure: str) -> list[str]:
    """Return the fields of a C++ structure in their order."""
    body = re.search(rf"struct {structure} {{(.*?)^}};", INTERFACE, re.S | re.M)
    assert body is not None
    statements = [" ".join(text.split()) for text in re.sub(r"//.*", "", body[1]).split(";")]
    names = [re.sub(r"^(const )?\w+", "", statement) for statement in statements if statement]
    return [name.strip(" *") for statement in names for name in statement.split(",")]


@pytest.mark.parametrize("structure", [Norm, Sequence], ids=lambda structure: structure.__name__)
def test_fields_are_the_same_in_the_same_order(structure):
    assert declared(structure.__name__) == [field[0] for field in structure._fields_]


def test_size_is_the_same():
    assert compiler.library().sequence_bytes() == ctypes.sizeof(Sequence)
