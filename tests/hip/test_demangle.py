"""C++ names with types that a C++ library of before 2023 does not know, or takes for others."""

import pytest

from jax_aiter.kernels.hip.build import ck_compile
from jax_aiter.kernels.hip.worker.functions import demangle

TRAITS = "_Z5norm_I6traitsI{}{}fLi1ELi8ELb1ELi0EEEfRKN2ck6configE"


@pytest.mark.parametrize(
    ("codes", "types"),
    [
        (("DF16b", "DF16b"), ("__bf16", "__bf16")),
        (("DF16_", "DF16_"), ("_Float16", "_Float16")),
        (("DF16_", "DB8_"), ("_Float16", "_BitInt(8)")),
        (("f", "a"), ("float", "signed char")),
    ],
)
def test_a_structure_of_traits_is_spelt_as_its_template_arguments_are(codes, types):
    name = demangle(TRAITS.format(*codes))
    assert name == f"float norm_<traits<{', '.join(types)}, float, 1, 8, true, 0> >(ck::config const&)"
    assert ck_compile._types(name) == (*types, "float", "1", "8", "true", "0")


def test_what_refers_back_to_a_type_of_bits_has_it():
    pair = "pair<_BitInt(8), float>"
    assert demangle("_Z1fI4pairIDB8_fES2_EvT_") == f"void f<{pair}, {pair} >({pair})"


@pytest.mark.parametrize("name", ["no_name_of_cpp", "_ZDF16b", "hipLaunchKernel"])
def test_what_is_no_name_of_cpp_stays_as_it_is(name):
    assert demangle(name) == name
