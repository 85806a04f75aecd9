"""All rules of ours. A rule takes the objects of one build and yields a sentence for each fault."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from knative.verify import functions, monitoring, network, pods, settings
from knative.verify.objects import Object

Rule = Callable[[Sequence[Object]], Iterable[str]]
RULES: tuple[Rule, ...] = (*functions.RULES, *pods.RULES, *settings.RULES, *network.RULES, *monitoring.RULES)


def faults(objects: Sequence[Object]) -> Iterator[str]:
    """Yield what is wrong with a build."""
    for rule in RULES:
        yield from rule(objects)
