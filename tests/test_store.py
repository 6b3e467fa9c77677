"""One store behind two sites, on a real engine: what is scraped arrives, whatever is killed, and what does
not is known. A scrape is due each second. The tests build on each other."""

import re
import time

import pytest

from lab import LABEL, Model, docker, edit, fetch, fetch_json, image, run, until, value


@pytest.fixture(scope="module")
def lab(make_lab):
    image("prom/prometheus")
    lab = make_lab("store")
    for file in lab.stack.glob("store/*/site.yml"):
        file.write_text(file.read_text().replace("_interval: 5s", "_interval: 1s"))
    lab.sites = {name: f"http://127.0.0.1:{lab.ports[port]}" for name, port in (("a", 19091), ("b", 19092))}
    # That of each site; the second's result is too high.
    models = [Model(lab.ports[5001]).start("--interval", "1"), Model(lab.ports[5002]).start("--value", "0.95")]
    yield lab
    for each in models:
        each.stop()


def both_arrive(lab):
    return value(lab.store, "count(count by (site) (model_result) == 1)") == 2


def container(lab, service):
    return lab.container(service, "-store")


def alerts(lab, site):
    return value(lab.sites[site], 'ALERTS{alertname="ModelResultHigh",alertstate="firing"}') == 1


def samples(url, selector, begun, ended):
    """All that it has of the selector in that time: (series, time, value)."""
    found = fetch_json(f"{url}/api/v1/query", query=f"{selector}[{ended - begun}s]", time=ended, timeout=30)["data"]["result"]
    series = [({label: name for label, name in each["metric"].items() if label != "site"}, each["values"]) for each in found]
    return {(str(sorted(labels.items())), *sample) for labels, values in series for sample in values}


def compare(lab, site, begun, ended):
    """How many samples the site has of that time, how many of them the store lacks, and how many it alone has."""
    scraped = samples(lab.sites[site], '{job="model_mock"}', begun, ended)
    stored = samples(lab.store, f'{{job="model_mock",site="{site}"}}', begun, ended)
    return len(scraped), len(scraped - stored), len(stored - scraped)


def is_same(lab, site, begun, ended):
    scraped, lost, added = compare(lab, site, begun, ended)
    return scraped > 0 and lost == added == 0 and scraped


def metric(url, name):
    """Of that Prometheus itself."""
    return float(re.search(rf"^{name}(?:{{.*}})? (\S+)$", fetch(f"{url}/metrics"), re.M)[1])


def none_failed(lab):
    return all(metric(url, "prometheus_remote_storage_samples_failed_total") == 0 for url in lab.sites.values())


def scrapes_since(lab, site, moment):
    return until(30, f"site {site} scrapes", lambda: value(lab.sites[site], "max(timestamp(up))") > moment)


def now():
    return int(time.time())


def test_two_sites_write_and_are_told_apart(lab):
    said = lab.run("store", "up")
    assert f"http://localhost:{lab.ports[19090]}" in said and "Grafana does not run" in said
    until(30, "both sites are in the store", lambda: both_arrive(lab))
    assert value(lab.store, 'model_result{site="b"}') == 0.95
    assert "what site-a writes arrives" in lab.run("check", "store")
    lab.run("store", "up")
    form = "{{.HostConfig.CapDrop}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.Memory}} {{.HostConfig.NetworkMode}}"
    assert docker("inspect", "-f", form, container(lab, "store")) == "[ALL] true 536870912 host"


def test_another_folders_store_keeps_its_data(lab):
    other = lab.work / "other"
    lab.copy(other)
    said = run(other / "scripts/store.sh", "down", "--volumes", env=lab.env, code=1)
    assert str(lab.stack / "store") in said
    assert both_arrive(lab)


def test_a_store_that_is_killed_gets_all(lab, record_property):
    begun = now()
    time.sleep(2)
    docker("kill", container(lab, "store"))
    time.sleep(17)
    said = lab.run("check", "store", code=1)
    assert "FAIL  what site-a writes arrives" in said and "nothing is lost while site-a runs" in said
    time.sleep(max(0, begun + 27 - time.time()))
    assert alerts(lab, "b"), "site b does not alert without its store"
    docker("start", container(lab, "store"))
    time.sleep(3)
    ended = now()
    scraped = until(30, "all of site a is in the store", lambda: is_same(lab, "a", begun, ended))
    until(30, "all of site b is in the store", lambda: is_same(lab, "b", begun, ended))
    record_property("measured", f"25 s without the store: {scraped} samples of site a, 0 of them not in the store afterwards")
    assert none_failed(lab)
    until(20, "check.sh is content", lambda: "0 failed" in lab.run("check", "store", code=None))


def test_a_site_that_is_killed_loses_nothing_that_it_sent(lab):
    begun = now()
    time.sleep(5)
    sent = now()
    until(10, "the store has caught up", lambda: is_same(lab, "a", begun, sent))
    docker("kill", container(lab, "site-a"))
    time.sleep(3)
    docker("start", container(lab, "site-a"))
    scrapes_since(lab, "a", sent + 3)
    until(10, "what it had is in the store", lambda: is_same(lab, "a", begun, sent))
    begun = now() + 1
    time.sleep(4)
    until(20, "what it scrapes now is in the store", lambda: is_same(lab, "a", begun, begun + 3))
    assert none_failed(lab)


def test_a_site_that_is_killed_while_the_store_is_away_loses_what_was_not_sent(lab, record_property):
    """The limit of this: what was not sent stays in the site, which does not send it any more."""
    begun = now()
    docker("kill", container(lab, "store"))
    time.sleep(10)
    docker("kill", container(lab, "site-a"))
    killed = now()
    docker("start", container(lab, "site-a"), container(lab, "store"))
    scrapes_since(lab, "a", killed + 1)
    back = now() + 1
    time.sleep(4)
    until(20, "what it scrapes now is in the store", lambda: is_same(lab, "a", back, back + 3))
    scraped, lost, _ = compare(lab, "a", begun, killed)
    record_property("measured", f"a site killed after 10 s without its store: {lost} of its {scraped} samples of that time never arrive")
    assert lost > 0, "nothing is lost, and the text says otherwise"
    until(20, "site b, which ran, lost nothing", lambda: is_same(lab, "b", begun, killed))


def test_grafana_has_it_as_a_data_source_while_it_runs(lab):
    image("grafana/grafana")
    lab.run("up", "grafana")
    assert "Grafana has the data source Store" in lab.run("store", "up")
    lab.run("store", "up")
    proxy = f"{lab.grafana}/api/datasources/proxy/uid/store/api/v1/query"

    def asked():
        answer = fetch_json(proxy, query="count(count by (site) (model_result))", password=lab.password())
        return answer["data"]["result"][0]["value"][1]

    assert until(20, "its answer", asked) == "2"
    lab.run("store", "down")
    # Its proxy would remember it for some seconds.
    with pytest.raises(OSError, match="404"):
        fetch(f"{lab.grafana}/api/datasources/uid/store", password=lab.password())
    lab.run("down", "--volumes")


def writing_fails(lab, *sites):
    said = lab.run("check", "store", code=None)
    return all(f"FAIL  what site-{site} writes arrives" in said for site in sites) and said


def test_a_full_store_is_told_and_the_sites_go_on(lab, record_property):
    lab.run("store", "down", "--volumes")
    file = lab.stack / "store/compose.yaml"
    before = file.read_text()
    small = '  store-data:\n    driver_opts: {type: tmpfs, device: tmpfs, o: "size=64m,mode=777"}'
    edit(file, r"^  store-data:$", small)
    lab.run("store", "up")
    # The engine empties such a disk when the last container lets go of it.
    volume = ["-v", f"{lab.project}-store_store-data:/held"]
    holder = docker("run", "-d", "-i", "--rm", "--label", LABEL, *volume, "--entrypoint", "/bin/cat", image("prom/prometheus"))
    until(30, "both sites are in the store", lambda: both_arrive(lab))
    lab.run("check", "store")
    begun = now()
    fill = ["exec", container(lab, "store"), "sh", "-c"]
    docker(*fill, "cat /dev/zero >/prometheus/fill", code=None)
    until(60, "check.sh says that writing fails", lambda: writing_fails(lab, "a", "b"))
    assert value(lab.sites["a"], "up") == 1 and alerts(lab, "b")
    docker(*fill, "rm /prometheus/fill")
    docker("restart", container(lab, "store"))
    ended = now()
    time.sleep(3)
    scraped = until(40, "what was scraped while it was full is there", lambda: is_same(lab, "a", begun, ended))
    assert none_failed(lab)
    record_property("measured", f"a full store for {ended - begun} s: {scraped} samples of site a, 0 of them not in the store afterwards")
    docker("rm", "-f", "-v", holder)
    file.write_text(before)


def test_what_a_store_refuses_is_told_as_lost(lab):
    """The samples are not tried again."""
    lab.run("store", "down", "--volumes")
    edit(lab.stack / "store/compose.yaml", r"^.*enable-remote-write-receiver\n", "")
    lab.run("store", "up")
    said = until(30, "check.sh says that writing fails", lambda: writing_fails(lab, "a"))
    assert "samples were refused and are lost" in said
    until(20, "site a scrapes", lambda: value(lab.sites["a"], "up") == 1)
    until(20, "site b alerts", lambda: alerts(lab, "b"))


def test_down_with_volumes_leaves_nothing(lab):
    lab.run("store", "down", "--volumes")
    for listing in (["ps", "-aq"], ["volume", "ls", "-q"]):
        assert docker(*listing, "--filter", f"label=com.docker.compose.project={lab.project}-store") == ""
