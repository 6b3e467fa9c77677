"""Two sites that write to one store, a Prometheus or Thanos. They scrape every second."""

from lab import Model, edit, require_whole, value


def with_models(lab):
    """The lab with a model for each site. The result of the second one is too high."""
    # An older Prometheus doesn't say how far it wrote.
    require_whole("prom/prometheus")
    for file in lab.stack.glob("store/*/site.yml"):
        edit(file, "_interval: 5s", "_interval: 1s")
    lab.sites = {name: f"http://127.0.0.1:{lab.ports[port]}" for name, port in (("a", 19091), ("b", 19092))}
    models = [Model(lab.ports[5001]).start("--interval", "1"), Model(lab.ports[5002]).start("--value", "0.95")]
    yield lab
    for each in models:
        each.stop()


def arrives_from_both(lab):
    return value(lab.store, "count(count by (site) (model_result) == 1)") == 2


def failing(lab, *sites):
    """The output of check.sh, if it says that samples of these sites don't arrive."""
    output = lab.run("check", code=None)
    return all(f"FAIL  the samples of site-{site} arrive" in output for site in sites) and output
