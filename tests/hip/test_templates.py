"""The forms of templates that are filled in, and those that are refused."""

import pytest

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.hip.build import source, templates
from jax_aiter.kernels.hip.build.catalogue import CATALOGUE, TEMPLATES
from jax_aiter.kernels.store import sources
from tests.hip.compiled import needs_source

VALUES = {"name": "f", "size": 16, "on": True, "off": False, "kind": "auto"}


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("void {{name}}({{ size }});", "void f(16);"),
        ('{{"true" if on else "false"}} {{"true" if off else "false"}}', "true false"),
        ("{% if on %}a{% else %}b{% endif %}{% if off %}c{% endif %}", "a"),
        ("{% if kind == 'auto' %}a{% else %}b{% endif %}{% if kind == 'fp8' %}c{% else %}d{% endif %}", "ad"),
        ("{% if on %}{% if off %}a{% else %}b{% endif %}c{% endif %}", "bc"),
        ("{% if off %}{% if on %}a{% else %}b{% endif %}c{% endif %}d", "d"),
        ('extern "C" { void {{name}}(); }', 'extern "C++" { void f(); }'),
    ],
)
def test_what_a_template_stands_for(text, want):
    assert templates.rendered(text, VALUES, "here") == want


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("{{other}}", "wants a value 'other'"),
        ("{{ size + 1 }}", r"wants a value 'size \+ 1'"),
        ("{% for x in y %}{% endfor %}", r"has \{% for x in y %\}, which is not understood"),
        ("{% endif %}", "not understood"),
        ("{% if on %}", "ends within an if"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(text, rule):
    with pytest.raises(KernelBuildError, match=rule):
        templates.rendered(text, VALUES, "here")


def test_a_name_holds_its_values():
    name = templates.named("pa_v1", VALUES)
    assert templates.parts(name) == ("pa_v1", VALUES)
    assert templates.parts("cache") == ("cache", {})
    assert not set(TEMPLATES) & set(CATALOGUE)


@pytest.mark.parametrize("template", TEMPLATES)
def test_values_tell_sources_apart_that_are_one_file(template):
    one, other = (needs_source(templates.named(template, {"block_size": size})) for size in (16, 32))
    assert (one.files, one.tree) == (other.files, other.tree)
    assert one.identity != other.identity
    assert len({one, other, source.source(one.where, one.name)}) == 2
    assert sources.has(one.where, one.files[0])
