"""Named settings of random changes, and what a name that is none is told."""

import dataclasses

import pytest

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.training.randomisation import NAMED, NONE, PARTS, Randomisation, parse

pytestmark = pytest.mark.quick

FIELDS = {field.name for field in dataclasses.fields(Randomisation)}


def changed(settings):
    return {name for name in FIELDS if getattr(settings, name) != getattr(NONE, name)} - {"share"}


def test_the_parts_are_all_that_can_be_changed():
    parts = [field for fields in PARTS.values() for field in fields]
    assert len(parts) == len(set(parts)) and set(parts) == FIELDS - {"share"}
    for name, fields in PARTS.items():
        assert changed(parse(name)) == set(fields), name
    images = set(parts) - set(PARTS["inputs"])
    assert changed(parse("light")) == changed(parse("wide")) == images
    assert parse("none") == NONE and not changed(NONE)


def test_names_are_joined():
    joined, wide = parse("wide+inputs"), parse("wide")
    assert changed(joined) == FIELDS - {"share"}
    assert (joined.share, joined.dwi_bias, joined.drop_nihss) == (0.85, wide.dwi_bias, 0.25)
    assert parse("inputs+light") == parse("light+inputs")
    assert parse("bias+noise+adc").adc_scale == 0.05
    assert (parse("inputs").share, parse("light+inputs").share) == (1.0, 0.7)


def test_what_each_does_is_known():
    assert parse("place").changes_place and parse("place").changes_images
    for name in set(PARTS) - {"place"}:
        settings = parse(name)
        assert (settings.changes_place, settings.changes_images) == (False, name != "inputs"), name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wild", f"randomisation is 'wild'; expected one of {', '.join(NAMED)}, or several"),
        ("", "randomisation is ''; expected one of none"),
        ("bias+", "randomisation is 'bias.'; expected one of none"),
        ("wide_missing", "as in light.inputs"),
        ("wide+bias", "bias changes what another name changes already .dwi_bias, adc_bias"),
        ("noise+noise", "leave one of them out"),
    ],
)
def test_other_names_are_refused_with_what_there_is(text, message):
    with pytest.raises(InputError, match=message):
        parse(text)
