"""What one end of a link tells of the other: silence, an end with and without a word, steps that do not come to one."""

import multiprocessing
import os
import queue
import threading
import time

import pytest

from examples.llm.distributed.link import Gone, Kind, Link
from examples.llm.serving.fault import Fault

PATIENCE = 0.5


class End:
    """A link, and what it said of the other end."""

    def __init__(self, connection, patience: float = PATIENCE):
        self.told: queue.Queue[Gone | None] = queue.Queue()
        self.link = Link(connection, "the other", patience, self.told.put)


@pytest.fixture
def pipe():
    ends = multiprocessing.Pipe()
    yield ends
    for end in ends:
        end.close()


def test_ends_that_say_nothing_for_long_live(pipe):
    """Ten times the patience, in next to no processor time; then what is said is heard, in order."""
    a, b = (End(x) for x in pipe)
    begin = time.process_time()
    time.sleep(10 * PATIENCE)
    assert time.process_time() - begin < 0.1 * 10 * PATIENCE
    assert a.told.empty()
    assert b.told.empty()
    for i in range(3):
        a.link.say(Kind.STEP, bytes([i]), soon=i > 0)
    assert [b.link.hear(Kind.STEP) for _ in range(3)] == [(Kind.STEP, bytes([i])) for i in range(3)]
    for _ in range(3):
        b.link.say(Kind.DONE)
    time.sleep(2 * PATIENCE)
    assert a.told.empty()


def test_an_end_that_is_silent_is_given_up(pipe):
    a = End(pipe[0])
    gone = a.told.get(timeout=10 * PATIENCE)
    assert str(gone) == "the other has said nothing for 0.5 s"
    for _ in range(2):
        with pytest.raises(Gone, match="has said nothing"):
            a.link.hear(Kind.STEP)


def test_an_end_that_lives_but_finishes_nothing_is_given_up(pipe):
    a, b = (End(x) for x in pipe)
    a.link.say(Kind.STEP, soon=False)
    time.sleep(2 * PATIENCE)
    assert a.told.empty()
    b.link.say(Kind.DONE)
    a.link.say(Kind.STEP)
    assert str(a.told.get(timeout=10 * PATIENCE)) == "the other has not finished a step in 0.5 s"
    assert b.told.empty()


def test_an_end_that_is_closed_is_lost_at_once(pipe):
    a = End(pipe[0], patience=600)
    closing = threading.Timer(0.2, pipe[1].close)
    closing.start()
    with pytest.raises(Gone, match="the other has ended"):
        a.link.hear(Kind.STEP)
    closing.join()  # who is told may be ahead of who tells: a connection being closed is not to be closed again
    assert str(a.told.get(timeout=5)) == "the other has ended"
    with pytest.raises(Gone, match=r"cannot be reached: .*Broken pipe"):
        a.link.say(Kind.STEP)


def test_an_end_that_says_so_is_not_lost(pipe):
    a, b = (End(x, patience=600) for x in pipe)
    b.link.say(Kind.STEP, b"last")
    b.link.end()
    assert a.told.get(timeout=5) is None
    assert a.link.hear(Kind.STEP, Kind.END) == (Kind.STEP, b"last")
    with pytest.raises(Gone, match="the other has ended"):
        a.link.hear(Kind.STEP)
    a.link.end()
    pipe[0].close()
    assert b.told.empty()  # who has said that it ends asks for nobody


def test_an_end_that_fails_says_why(pipe):
    a, b = (End(x, patience=600) for x in pipe)
    b.link.say(Kind.FAILED, b"no memory")
    assert str(a.told.get(timeout=5)) == "the other failed: no memory"


def test_sending_to_an_end_that_reads_nothing_ends(pipe):
    """More than the system holds for it."""
    a = End(pipe[0])
    with pytest.raises(Gone, match=r"cannot be reached: .*\[Errno 11\]"):
        a.link.say(Kind.STEP, bytes(1 << 28))
    assert a.told.get(timeout=10 * PATIENCE) is not None


@pytest.mark.parametrize("said", [b"", b"\xff", b"\x05"], ids=["nothing", "no kind", "a step that nobody waits for"])
def test_garbage_is_no_message(pipe, said):
    a = End(pipe[0], patience=600)
    pipe[1].send_bytes(said)
    assert str(a.told.get(timeout=5)).startswith("what the other says is no message")


def test_half_a_message_is_not_waited_for(pipe):
    a = End(pipe[0])
    os.write(pipe[1].fileno(), (100).to_bytes(4, "big") + b"half")
    assert str(a.told.get(timeout=10 * PATIENCE)).startswith("the other has ended: [Errno 11]")


def test_of_faults_the_first_counts_and_late_listeners_hear_of_it():
    fault, heard = Fault(), []
    fault.listen(heard.append)
    own = ValueError("collective failed")
    assert fault.behind(own, seconds=0) is own
    first = Gone("process 1 has ended")
    threading.Timer(0.2, fault.happened, [first]).start()
    assert fault.behind(own, seconds=10) is first
    fault.happened(Gone("process 2 has ended"))
    fault.listen(heard.append)
    assert heard == [first, first]
