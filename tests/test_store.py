"""One store behind several Prometheus servers: samples arrive, and check.sh says so if they don't.

The sites scrape every second. The tests build on each other."""

import pathlib
import re
import time

import pytest

from lab import LABEL, RUN, Model, docker, edit, end, fetch, fetch_json, free_ports, image, run, start, until, value
from lab import vector
from test_accidents import scene  # noqa: F401 (a fixture)


@pytest.fixture(scope="module")
def lab(make_lab):
    image("prom/prometheus")
    lab = make_lab("store")
    for file in lab.stack.glob("store/*/site.yml"):
        edit(file, "_interval: 5s", "_interval: 1s")
    lab.sites = {name: f"http://127.0.0.1:{lab.ports[port]}" for name, port in (("a", 19091), ("b", 19092))}
    # One model for each site; the result of the second is too high.
    models = [Model(lab.ports[5001]).start("--interval", "1"), Model(lab.ports[5002]).start("--value", "0.95")]
    yield lab
    for each in models:
        each.stop()


def both_arrive(lab):
    return value(lab.store, "count(count by (site) (model_result) == 1)") == 2


def samples(url, selector, begun, ended):
    """The samples of the selector in that time: a set of (series, time, value)."""
    found = vector(url, f"{selector}[{ended - begun}s]", time=ended)
    return {
        (str(sorted(labels.items() - {("site", labels.get("site"))})), *sample)
        for labels, values in found for sample in values
    }


def is_complete(lab, site, begun, ended):
    """The number of samples that the site has of that time, or 0 if the store hasn't the same."""
    scraped = samples(lab.sites[site], '{job="model_mock"}', begun, ended)
    stored = samples(lab.store, f'{{job="model_mock",site="{site}"}}', begun, ended)
    return len(scraped) if scraped == stored else 0


def site_b_alerts(lab):
    return value(lab.sites["b"], 'ALERTS{alertname="ModelResultHigh",alertstate="firing"}') == 1


def now():
    return int(time.time())


def test_two_sites_write_and_are_told_apart(lab):
    said = lab.run("store", "up")
    assert f"http://localhost:{lab.ports[19090]}" in said and "Grafana isn't running" in said
    until(30, "both sites are in the store", lambda: both_arrive(lab))
    assert value(lab.store, 'model_result{site="b"}') == 0.95
    assert "what site-a writes arrives" in lab.run("check", "store")
    lab.run("store", "up")
    for name in ("store", "site-a", "site-b"):
        # A volume without a name would stay after its container.
        form = '{{range .Mounts}}{{if eq .Type "volume"}}{{.Name}} {{end}}{{end}}'
        volumes = docker("inspect", "-f", form, lab.container(name, "-store")).split()
        assert volumes == [f"{lab.project}-store_{name}-data"]
    listening = [line.split()[3] for line in run("ss", "-ltnH").splitlines()]
    for port in (19090, 19091, 19092):
        here = [address for address in listening if address.endswith(f":{lab.ports[port]}")]
        assert here == [f"127.0.0.1:{lab.ports[port]}"]


def test_another_page_in_the_browser_cannot_read_it(lab):
    for url in (lab.store, *lab.sites.values()):
        answer = run("curl", "-qsi", "--noproxy", "*", "-H", "Origin: http://example.org", f"{url}/api/v1/labels")
        assert "200 OK" in answer and "Access-Control-Allow-Origin" not in answer


def test_samples_wait_while_the_store_is_down(lab, record_property):
    begun = now()
    docker("kill", lab.container("store", "-store"))
    said = until(40, "check.sh says so", lambda: failing(lab, "a", "b"))
    assert "no sample is lost while site-a runs" in said
    until(30, "site b alerts without its store", lambda: site_b_alerts(lab))
    docker("start", lab.container("store", "-store"))
    time.sleep(3)
    ended = now()
    scraped = until(30, "the store has all of site a", lambda: is_complete(lab, "a", begun, ended))
    until(30, "the store has all of site b", lambda: is_complete(lab, "b", begun, ended))
    record_property("measured", f"{ended - begun} s without the store: of {scraped} samples of site a, 0 are missing")
    until(20, "check.sh is content", lambda: "0 failed" in lab.run("check", "store", code=None))


def failing(lab, *sites):
    """The output of check.sh, if it says that samples of these sites don't arrive."""
    said = lab.run("check", "store", code=None)
    return all(f"FAIL  what site-{site} writes arrives" in said for site in sites) and said


def test_three_students_write_to_it(lab, model, tmp_path):
    """With the block of the page, behind the finished stack's own file."""
    page = (lab.stack / "store/README.md").read_text()
    block = re.search("^# prometheus.yml: to the teacher's store\n.*?(?=^```)", page, re.M | re.S)[0]
    assert block.count('"17"') == 1 and block.count("192.168.1.10") == 1
    extra = re.search(r"^ *- (--web.listen-address=192\S+)", page, re.M)[0]
    port = free_ports(1)[0]
    # Here the teacher's address is another one of this machine.
    own = f"( *- --web.listen-address=127.0.0.1:{lab.ports[19090]})"
    edit(lab.stack / "store/compose.yaml", f"^{own}$", rf"\1\n{extra.rsplit('=', 1)[0]}=127.0.0.2:{port}")
    lab.run("store", "up")
    names = [f"{RUN}-student-{number}" for number in "123"]
    for number, name in zip("123", names):
        folder = tmp_path / number
        run("cp", "-r", lab.stack / "prometheus", folder)
        run("chmod", "-R", "a+rX", folder)
        with (folder / "prometheus.yml").open("a") as file:
            file.write(re.sub(r"http://[\d.:]+", f"http://127.0.0.2:{port}", block).replace('"17"', f'"{number}"'))
        target = model("--value", f"0.{number}").port
        edit(folder / "prometheus.yml", f"localhost:{lab.ports[5000]}", f"localhost:{target}")
        flags = ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
        flags += [f"--web.listen-address=127.0.0.1:{free_ports(1)[0]}"]
        docker("run", "-d", "--rm", "--label", LABEL, "--name", name, "--network", "host",
               "-v", f"{folder}:/etc/prometheus:ro", image("prom/prometheus"), *flags)
    expected = {("1", "0.1"), ("2", "0.2"), ("3", "0.3")}
    until(40, "three students", lambda: {
        (labels["student"], result) for labels, result in vector(lab.store, 'model_result{student!=""}')
    } == expected)
    assert {labels["__name__"] for labels, _ in vector(lab.store, '{student!="",__name__!~"model_.*"}')} == {"up"}
    docker("rm", "-f", "-v", *names)


def test_grafana_has_it_as_a_data_source_while_it_runs(lab):
    image("grafana/grafana")
    lab.run("up", "grafana")
    assert "Grafana has the data source Store" in lab.run("store", "up")
    lab.run("store", "up")
    proxy = f"{lab.grafana}/api/datasources/proxy/uid/store/api/v1/query"

    def sites():
        answer = fetch_json(proxy, query="count(count by (site) (model_result{site!=''}))", password=lab.password())
        return answer["data"]["result"][0]["value"][1]

    assert until(20, "its answer", sites) == "2"
    lab.run("store", "down")
    # Grafana's proxy would remember the data source for some seconds.
    with pytest.raises(OSError, match="404"):
        fetch(f"{lab.grafana}/api/datasources/uid/store", password=lab.password())
    lab.run("down", "--volumes")


def test_check_says_that_samples_a_store_refuses_are_lost(lab):
    lab.run("store", "down", "--volumes")
    edit(lab.stack / "store/compose.yaml", r"^.*enable-remote-write-receiver\n", "")
    lab.run("store", "up")
    said = until(30, "check.sh says that writing fails", lambda: failing(lab, "a"))
    assert "samples were refused and are lost" in said
    until(20, "site b alerts", lambda: site_b_alerts(lab))


def test_an_interrupted_pull_ends_and_leaves_no_file(scene, tmp_path):
    env = scene.env("hang") | {"TMPDIR": str(tmp_path)}
    with open(scene.folder / "said", "wb") as said:
        store = start(scene.lab / "scripts/store.sh", "up", env=env, stdout=said, stderr=said)
    pull = until(10, "the pull", lambda: int((scene.folder / "calls.pull").read_text()))
    end(store)
    assert "interrupted" in (scene.folder / "said").read_text()
    until(5, "the end of the pull", lambda: not pathlib.Path(f"/proc/{pull}").exists())
    assert not list(tmp_path.iterdir())


def test_down_with_volumes_leaves_nothing(lab):
    lab.run("store", "down", "--volumes")
    for listing in (["ps", "-aq"], ["volume", "ls", "-q"]):
        assert docker(*listing, "--filter", f"label=com.docker.compose.project={lab.project}-store") == ""
