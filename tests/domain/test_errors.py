"""The tree of errors: a code and a sentence each."""

import re

import pytest

from rqueue import errors
from rqueue.errors import RqueueError

ALL = [thing for thing in vars(errors).values() if isinstance(thing, type) and issubclass(thing, Exception)]
KINDS = RqueueError.__subclasses__()


def test_every_error_belongs_to_the_tree():
    assert all(issubclass(error, RqueueError) for error in ALL)


def test_every_code_is_its_own():
    codes = [error.code for error in ALL]
    assert len(set(codes)) == len(codes) > 20
    assert all("code" in vars(error) for error in ALL)


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_every_error_has_a_code_in_words_and_a_docstring_that_is_a_sentence(error):
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", error.code)
    assert re.fullmatch(r"[A-Z][^\n]{10,99}\.", error.__doc__)


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_the_docstring_is_the_message_when_there_is_no_better_one(error):
    assert (error().message, error().field, str(error())) == (error.__doc__, None, error.__doc__)
    better = error("better", "here")
    assert (better.message, better.field, str(better)) == ("better", "here", "better")


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_every_error_is_of_one_kind(error):
    assert sum(issubclass(error, kind) for kind in KINDS) == (error is not RqueueError)
