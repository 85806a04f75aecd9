"""How things look in a terminal."""

import pytest

from stems.cli import terminal
from stems.cli.tail import fresh


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("song", 6, "song  "),
        ("a long song", 6, "a lon…"),
        ("夜に駆ける", 10, "夜に駆ける"),
        ("夜に駆ける", 7, "夜に駆…"),
        ("夜に駆ける", 8, "夜に駆… "),
        ("cafe\u0301", 5, "cafe\u0301 "),
    ],
)
def test_columns_of_any_script(text: str, columns: int, shown: str) -> None:
    assert terminal.fit(text, columns) == shown
    assert terminal.width(shown) == columns


def test_a_file_name_cannot_steer_the_terminal() -> None:
    assert terminal.plain("a\033[2Jb\nc\udcff") == "a�[2Jb c�"
    assert terminal.plain("song\u202e3pm.exe \u2066x\u2069 \x9b2J") == "song�3pm.exe �x� �2J"
    assert terminal.plain("👩\u200d🎤 می\u200cخواهم") == "👩\u200d🎤 می\u200cخواهم", "joiners belong to the words"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (terminal.duration(192.4), "3:12"),
        (terminal.duration(3723), "1:02:03"),
        (terminal.took(0.84), "0.8 s"),
        (terminal.took(48.2), "48 s"),
        (terminal.took(192), "3:12 min"),
        (terminal.size(0), "0 B"),
        (terminal.size(999), "999 B"),
        (terminal.size(84_141_911), "84.1 MB"),
        (terminal.size(481_154), "481 kB"),
        (terminal.size(2.5e9), "2.5 GB"),
        (terminal.shares(0.41, 10), "████░░░░░░"),
        (terminal.ago(0)[-5:], "d ago"),
    ],
)
def test_numbers_for_people(shown: str, expected: str) -> None:
    assert shown == expected


@pytest.mark.parametrize(
    ("seen", "now", "expected"),
    [
        ("", "abc", "abc"),
        ("abc", "abc", ""),
        ("abc", "abcde", "de"),
        ("abcd", "cdef", "ef"),  # the list was trimmed meanwhile
        ("abcd", "d", ""),  # a shorter list was asked for
        ("abcd", "wxyz", "wxyz"),  # more lines came than the list holds
        ("abcd", "", ""),  # Redis was emptied
        ("aaa", "aaaaa", "aa"),
        ("abab", "ababab", "ab"),
    ],
)
def test_new_lines_of_a_trimmed_list(seen: str, now: str, expected: str) -> None:
    assert "".join(fresh(list(seen), list(now))) == expected
