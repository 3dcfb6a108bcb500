"""When an accelerator's answer counts as the CPU's."""

import numpy as np
import pytest

from examples.llm.against_cpu import compare

EXACT = np.array([[10.0, 9.99, 0, -3], [1, 2, 8, 4]], np.float32)
#: What bfloat16 on the CPU does to them: by 0.02 at most.
SHORT = EXACT + np.array([[0.02, -0.01, 0, 0], [0, 0.01, 0, 0]], np.float32)


def test_the_same_tokens_pass():
    verdict = compare(EXACT + 0.01, SHORT, EXACT)
    assert verdict.ties == {}
    assert (verdict.device, verdict.cpu) == pytest.approx((1e-3, 2e-3), rel=1e-3)
    verdict.check()


def test_another_token_passes_where_two_tie():
    verdict = compare(EXACT + np.array([[-0.02, 0.02, 0, 0], [0, 0, 0, 0]], np.float32), SHORT, EXACT)
    assert verdict.ties == {0: pytest.approx(1e-3, rel=1e-2)}
    verdict.check()


def test_another_token_fails_elsewhere():
    device = EXACT.copy()
    device[1, 3] = 8.05
    with pytest.raises(AssertionError, match="logits differ from float32 by 4"):
        compare(device, SHORT, EXACT).check()
    near = EXACT.copy()
    near[1, 2:] = 7.95, 7.96
    exact = EXACT.copy()
    exact[1, 3] = 7.94
    with pytest.raises(AssertionError, match="token 1 leaves the CPU's answer"):
        compare(near, exact + (SHORT - EXACT), exact).check()
