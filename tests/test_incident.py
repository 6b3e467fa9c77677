"""Each incident from its start to its end: refused, hinted at, solved by the script, accepted, removed."""

import re

import pytest

from lab import assert_one_line
from oncall import NAMES, play


def solved_by_the_script(on_call):
    output = on_call.do("start", on_call.name)
    assert output.startswith("starting the copy") and "A colleague writes:" in output
    assert output.split("\n\n", 1)[1] == (on_call.folder / "message.txt").read_text()
    # Each sentence that a student reads before the third hint leaves the cause open.
    refused = on_call.check(code=1)
    hints = [on_call.do("hint") for _ in range(3)]
    assert [hint[:11] for hint in hints] == ["Hint 1 of 3", "Hint 2 of 3", "Hint 3 of 3"]
    assert refused.startswith("FAIL  the cause is still there.")
    assert_one_line(refused)
    assert "you have seen all hints" in on_call.do("hint", code=1)
    solved = on_call.do("solve")
    for part in ("What happened: ", "How to see it: ", "What would have prevented it: ", "For answers.md: "):
        assert part in solved
    checked = on_call.check()
    assert "ok    the cause is gone\n" in checked and "ok    a high result is mailed\n" in checked
    assert solved.split("proves it.\n\n")[1] in checked
    # It wasn't the student who solved it.
    assert re.search(rf"^shown \S+Z {on_call.name} 3 \d+$", on_call.results.read_text(), re.M)
    assert "solved" not in on_call.results.read_text().split("\n", 1)[1]
    on_call.end()


@pytest.fixture(scope="module")
def played(make_lab, request):
    return play(make_lab, request, solved_by_the_script)


@pytest.mark.parametrize("name", NAMES)
def test_from_its_start_to_its_end(played, name):
    played[name].result()
