"""What is installed is what was pinned."""

import re

from tests.programs import CHECKOUT


def test_each_package_is_pinned_with_hashes() -> None:
    text = (CHECKOUT / "requirements.txt").read_text()
    packages = re.split(r"\n(?=[a-z])", re.sub(r"(?m)^\s*#.*\n", "", text).strip())
    assert len(packages) > 50
    for package in packages:
        assert re.match(r"[\w.\[\]-]+==[^\s;]+", package), package[:80]
        assert "--hash=sha256:" in package, package[:80]
    assert "://" not in text
