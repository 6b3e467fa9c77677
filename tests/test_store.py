"""One store behind several Prometheus servers: samples arrive, and check.sh says so if they don't.

The sites scrape every second. The tests build on each other."""

import re

import pytest

from lab import LABEL, Model, docker, edit, fetch, free_ports, image, put, until, value, vector
from test_stack import exposed, is_readable


def with_models(lab):
    """The lab with a model for each site. The result of the second one is too high."""
    image("prom/prometheus")
    for file in lab.stack.glob("store/*/site.yml"):
        edit(file, "_interval: 5s", "_interval: 1s")
    lab.sites = {name: f"http://127.0.0.1:{lab.ports[port]}" for name, port in (("a", 19091), ("b", 19092))}
    models = [Model(lab.ports[5001]).start("--interval", "1"), Model(lab.ports[5002]).start("--value", "0.95")]
    yield lab
    for each in models:
        each.stop()


@pytest.fixture(scope="module")
def lab(make_lab):
    yield from with_models(make_lab("store"))


def arrives_from_both(lab):
    return value(lab.store, "count(count by (site) (model_result) == 1)") == 2


def test_two_sites_write_and_are_told_apart(lab):
    said = lab.run("store", "up")
    assert f"http://localhost:{lab.ports[19090]}" in said and "Grafana isn't running" in said
    until(60, "both sites are in the store", lambda: arrives_from_both(lab))
    assert value(lab.store, 'model_result{site="b"}') == 0.95
    assert "the samples of site-a arrive" in lab.run("check", "store")
    lab.run("store", "up")
    assert exposed(lab) == []
    for url in (lab.store, *lab.sites.values()):
        assert not is_readable(f"{url}/api/v1/labels")


def failing(lab, *sites):
    """The output of check.sh, if it says that samples of these sites don't arrive."""
    said = lab.run("check", code=None)
    return all(f"FAIL  the samples of site-{site} arrive" in said for site in sites) and said


def test_without_the_store_a_site_alerts_and_check_says_that_samples_wait(lab):
    docker("kill", lab.container("store", "-store"))
    said = until(60, "check.sh says so", lambda: failing(lab, "a", "b"))
    assert "no sample is lost while site-a runs" in said
    firing = 'ALERTS{alertname="ModelResultHigh",alertstate="firing"}'
    until(60, "site b alerts", lambda: value(lab.sites["b"], firing) == 1)
    assert f"localhost:{lab.ports[9093]}/" in fetch(f"{lab.sites['b']}/api/v1/alertmanagers")
    docker("start", lab.container("store", "-store"))
    until(60, "check.sh is content", lambda: "0 failed" in lab.run("check", "store", code=None))


def test_three_students_write_to_it(lab, model, tmp_path):
    """With the block of the page, behind the finished stack's own file."""
    # Here the teacher's address is another one of this machine.
    page = (lab.stack / "store/README.md").read_text().replace("192.168.1.10", "127.0.0.2")
    block = re.search("^# prometheus.yml: to the teacher's store\n.*?(?=^```)", page, re.M | re.S)[0]
    line = re.search(r"^ *- --web.listen-address=127.*\n", page, re.M)[0]
    own = line.replace("127.0.0.2", "127.0.0.1")
    edit(lab.stack / "store/compose.yaml", f"^{own}", own + line)
    lab.run("store", "up")
    configuration = (lab.stack / "prometheus/prometheus.yml").read_text() + block
    students = []
    for number in "123":
        target = model("--value", f"0.{number}").address
        text = configuration.replace('"17"', f'"{number}"').replace(f"localhost:{lab.ports[5000]}", target)
        put(tmp_path / f"{number}.yml", text)
        options = ["--label", LABEL, "--network", "host", "-v", f"{tmp_path}:/files:ro", image("prom/prometheus")]
        flags = [f"--config.file=/files/{number}.yml", f"--web.listen-address=127.0.0.1:{free_ports(1)[0]}"]
        students.append(docker("run", "-d", *options, *flags))

    def written():
        found = vector(lab.store, '{student!="",__name__!~"model_.+_.*"}')
        return {(labels["__name__"], labels["student"], result) for labels, result in found}

    results = {("model_result", number, f"0.{number}") for number in "123"}
    until(60, "three students", lambda: written() == results | {("up", number, "1") for number in "123"})
    docker("rm", "-f", "-v", *students)


def test_grafana_has_it_as_a_data_source_while_it_runs(lab):
    image("grafana/grafana")
    lab.run("up", "grafana")
    assert "Grafana has the data source Store" in lab.run("store", "up")
    lab.run("store", "up")
    proxy, sites = f"{lab.grafana}/api/datasources/proxy/uid/store", "count(count by (site) (model_result{site!=''}))"
    until(60, "its answer", lambda: value(proxy, sites, password=lab.password()) == 2)
    assert '"timeInterval":"5s"' in fetch(f"{lab.grafana}/api/datasources/uid/store", password=lab.password())
    lab.run("store", "down")
    # Grafana's proxy would remember the data source for some seconds.
    with pytest.raises(OSError, match="404"):
        fetch(f"{lab.grafana}/api/datasources/uid/store", password=lab.password())
    lab.run("down", "--volumes")


def test_down_with_volumes_leaves_nothing(lab):
    lab.run("store", "down", "--volumes")
    for listing in (["ps", "-aq"], ["volume", "ls", "-q"]):
        assert docker(*listing, "--filter", f"label=com.docker.compose.project={lab.project}-store") == ""


def test_check_says_that_samples_a_store_refuses_are_lost(lab):
    edit(lab.stack / "store/compose.yaml", r"^.*enable-remote-write-receiver\n", "")
    lab.run("store", "up")
    said = until(60, "check.sh says that writing fails", lambda: failing(lab, "a"))
    assert "samples were refused and are lost" in said
