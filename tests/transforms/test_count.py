"""How many of this folder's tests an op may have by default: the next op must not make the suite much longer.

Counted over the tests of this session, so that nothing is collected twice: of a session with few of them it says little.
"""

import collections

from jax_aiter.ops.catalogue import all_ops
from tests.thinning import function_of, op_of

#: One for each module that asks something of it, more where a function is about few ops and keeps its `thinning.LEAST`.
MOST = 30
ON_AVERAGE = 18


def test_of_each_op_few_run_by_default(request):
    if request.config.getoption("markexpr") != "not exhaustive":
        return
    items = [item for item in request.session.items if item.path.parent.name == "transforms" and op_of(item)]
    counts = collections.Counter(op_of(item) for item in items)
    common = ", ".join(f"{name} {count}" for name, count in counts.most_common(5))
    assert all(count <= MOST for count in counts.values()), common
    assert counts.total() <= ON_AVERAGE * len(all_ops()), collections.Counter(map(function_of, items)).most_common(5)
