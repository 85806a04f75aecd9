"""What Prometheus would find."""

import urllib.request

from prometheus_client.parser import text_string_to_metric_families


def scrape(port: int) -> dict[str, float]:
    """Return the samples of a part, each by its name and its labels: `name label=value`."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    samples = [sample for family in families for sample in family.samples]
    labels = ["".join(f" {name}={each.labels[name]}" for name in sorted(each.labels)) for each in samples]
    return {each.name + suffix: each.value for each, suffix in zip(samples, labels, strict=True)}
