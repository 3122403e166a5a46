"""Test that --help of a program says what it does and what its arguments are."""

import pytest

from benchmarks import doors, peer_speed, update_speed
from foreground.errors import UserError

PROGRAMS = {
    doors: ("Train, kill and resume", "hopper", "--save"),
    peer_speed: ("Time an update of r2dreamer", "CHECKOUT", "train.py --help"),
    update_speed: ("Time one update", "--against CHECKOUT", "train.py --help"),
}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_help_says_what_a_program_does_and_takes(program, capsys):
    with pytest.raises(SystemExit) as ended:
        program.main(["--help"])
    assert ended.value.code in (0, None)
    said = capsys.readouterr().out
    for part in PROGRAMS[program]:
        assert part in said


@pytest.mark.parametrize(
    ("program", "words"),
    [(peer_speed, []), (update_speed, ["--against"]), (doors, ["hoper"])],
    ids=["peer_speed", "update_speed", "doors"],
)
def test_a_missing_or_unknown_argument_is_one_line(program, words):
    with pytest.raises(UserError) as caught:
        program.main(words)
    assert "\n" not in str(caught.value)
