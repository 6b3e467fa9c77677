"""One store behind several Prometheus servers: samples arrive, and check.sh says so if they don't.

The sites scrape every second. The tests build on each other."""

import re

import pytest

from lab import (
    LABEL,
    docker,
    edit,
    fetch,
    fetch_json,
    free_ports,
    is_readable,
    replace_file,
    require_image,
    until,
    value,
    vector,
)
from sites import arrives_from_both, failing, with_models


@pytest.fixture(scope="module")
def lab(make_lab):
    yield from with_models(make_lab("store"))


def test_two_sites_write_and_are_told_apart(lab):
    output = lab.run("store", "up")
    assert f"http://localhost:{lab.ports[19090]}" in output and "Grafana isn't running" in output
    until(60, "both sites are in the store", lambda: arrives_from_both(lab))
    assert value(lab.store, 'model_result{site="b"}') == 0.95
    retention = lambda url: fetch_json(f"{url}/api/v1/status/runtimeinfo")["data"]["storageRetention"]
    assert [retention(url) for url in (lab.store, *lab.sites.values())] == ["90d or 1GiB", *["15d or 512MiB"] * 2]
    assert "the samples of site-a arrive" in lab.run("check", "store")
    lab.run("store", "up")
    assert lab.exposed() == []
    for url in (lab.store, *lab.sites.values()):
        assert not is_readable(f"{url}/api/v1/labels")


def test_without_the_store_a_site_alerts_and_check_says_that_samples_wait(lab):
    docker("kill", lab.container("store", "-store"))
    output = until(60, "check.sh says so", lambda: failing(lab, "a", "b"))
    # It doesn't wait much longer than three scrapes.
    ages = re.findall(r"the newest that arrived is (\d+) s older", output)
    assert min(map(int, ages)) < 40, ages
    assert "no sample is lost while site-a runs" in output
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
        replace_file(tmp_path / f"{number}.yml", text)
        options = ["--label", LABEL, "--network", "host", "-v", f"{tmp_path}:/files:ro"]
        options.append(require_image("prom/prometheus"))
        flags = [f"--config.file=/files/{number}.yml", f"--web.listen-address=127.0.0.1:{free_ports(1)[0]}"]
        students.append(docker("run", "-d", *options, *flags))

    def written():
        found = vector(lab.store, '{student!="",__name__!~"model_.+_.*"}')
        return {(labels["__name__"], labels["student"], result) for labels, result in found}

    results = {("model_result", number, f"0.{number}") for number in "123"}
    until(60, "three students", lambda: written() == results | {("up", number, "1") for number in "123"})
    docker("rm", "-f", "-v", *students)


def test_grafana_has_it_as_a_data_source_while_it_runs(lab):
    require_image("grafana/grafana")
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
    output = until(60, "check.sh says that writing fails", lambda: failing(lab, "a"))
    assert "samples were refused and are lost" in output
