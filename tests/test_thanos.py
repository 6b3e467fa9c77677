"""The Thanos store behind two sites. The sites scrape every second. The tests build on each other."""

import re
import time

import pytest

from lab import ROOT, docker, is_readable, require_image, run, until, value, vector
from sites import arrives_from_both, failing, with_models


def test_the_sites_differ_only_in_the_address_of_the_store():
    plain, thanos = ((ROOT / f"stack/store/{engine}/site.yml").read_text() for engine in ("prometheus", "thanos"))
    assert plain.replace("127.0.0.1:19090/api/v1/write", "127.0.0.1:19291/api/v1/receive") == thanos != plain


@pytest.fixture(scope="module")
def lab(make_lab):
    require_image("quay.io/thanos/thanos")
    yield from with_models(make_lab("thanos"))


def names(lab, *services):
    return [f"{lab.project}-store-{service}-1" for service in services]


def replicas(lab):
    """The site and the receiver of each copy of the result."""
    copies = vector(lab.store, "model_result", dedup="false")
    return {(labels["site"], labels["replica"], labels["tenant_id"]) for labels, _ in copies}


def test_it_answers_like_one_prometheus(lab):
    assert f"The store  http://localhost:{lab.ports[19090]}\n" in lab.run("store", "up", "thanos")
    until(60, "both sites are in the store", lambda: arrives_from_both(lab))
    assert "the samples of site-b arrive" in lab.run("check", "store")
    copies = {(site, replica, "default-tenant") for site in "ab" for replica in "123"}
    until(60, "three copies", lambda: replicas(lab) == copies)
    series = [sorted(labels) for labels, _ in vector(lab.store, "model_result")]
    assert series == [["__name__", "instance", "job", "site"]] * 2
    assert not is_readable(f"{lab.store}/api/v1/labels")


def test_nothing_listens_on_another_address_and_nothing_runs_as_root(lab):
    """Also on ports that the system chose."""
    services = ["store", "router", "site-a", "site-b", "receive-1", "receive-2", "receive-3"]
    pids = docker("inspect", "-f", "{{.State.Pid}}", *names(lab, *services)).split()
    lines = [line for line in run("ss", "-ltnpH").splitlines() if any(f"pid={pid}," in line for pid in pids)]
    if not lines:
        pytest.skip("only root sees which processes listen")
    assert all(line.split()[3].startswith("127.0.0.1:") for line in lines), lines
    users = {run("ps", "-o", "uid=", "-p", pid).strip() for pid in pids}
    assert "0" not in users


def samples(url, begun, ended):
    """How many results of the models the server has from that time."""
    return value(url, f"sum(count_over_time(model_result[{ended - begun}s]))", time=ended)


def is_complete(lab, begun, ended):
    """Whether the store has as many results as both sites together."""
    scraped = [samples(url, begun, ended) for url in lab.sites.values()]
    return all(scraped) and sum(scraped) == samples(lab.store, begun, ended)


def test_with_one_receiver_down_no_sample_is_missing_and_with_two_check_says_so(lab):
    begun = int(time.time())
    page = (ROOT / "stack/store/README.md").read_text().replace("modelmock-store", f"{lab.project}-store")
    kill_one, kill_two, start_both = re.findall("^docker [^;\n]*", page, re.M)
    run("sh", "-c", kill_one)
    until(60, "all samples of 10 s", lambda: time.time() > begun + 10 and is_complete(lab, begun, begun + 10))
    lab.run("check", "store")
    run("sh", "-c", kill_two)
    until(60, "check.sh says so", lambda: failing(lab, "a", "b"))
    run("sh", "-c", start_both)
    ended = int(time.time())
    # The receivers lack different samples now, and Query takes each one from a receiver that has it.
    until(90, "three copies", lambda: len(replicas(lab)) == 6)
    until(90, "all samples", lambda: is_complete(lab, begun, ended))


def test_down_and_up_keep_the_data(lab):
    ended = int(time.time())
    stored = lambda: samples(lab.store, ended - 10, ended)
    until(60, "all samples of 10 s", lambda: time.time() > ended + 3 and is_complete(lab, ended - 10, ended))
    before = stored()
    lab.run("store", "down")
    lab.run("store", "up", "thanos")
    until(60, "the data from before", lambda: stored() == before)


def test_the_labs_own_prometheus_writes_to_it(lab):
    page = (lab.stack / "store/README.md").read_text()
    with (lab.stack / "prometheus/prometheus.yml").open("a") as file:
        file.write(re.search("^# prometheus.yml: to this store\n.*?(?=^```)", page, re.M | re.S)[0])
    lab.up("prometheus")
    until(60, "its samples are in the store", lambda: value(lab.store, 'model_result{site=""}') == 0.5)
    assert "the samples of Prometheus arrive" in lab.run("check", "prometheus", code=None)
