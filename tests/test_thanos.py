"""The Thanos store behind two sites: its files, and that the loss of one receiver leaves no gap.

The sites scrape every second. The tests build on each other."""

import json
import re
import time

import pytest

from lab import ROOT, Model, docker, edit, image, needs_docker, run, until, value, vector
from test_store import both_arrive, failing, is_complete, now, samples

RECEIVERS = ["receive-1", "receive-2", "receive-3"]
EVERY = ["store", "router", "site-a", "site-b", *RECEIVERS]


@pytest.fixture(scope="module")
def services():
    """The services, as Compose reads the files."""
    needs_docker()
    files = [word for name in ("compose", "thanos") for word in ("-f", ROOT / f"stack/store/{name}.yaml")]
    compose = ["env", "GRAFANA_PASSWORD=none", "docker", "compose", "--env-file", "/dev/null", *files]
    return json.loads(run(*compose, "config", "--format", "json"))["services"]


def addresses(service):
    return dict(re.findall(r"^--([a-z.-]*address)=(.*)$", "\n".join(service["command"]), re.M))


def test_the_ring_and_query_name_the_receivers(services):
    served = [addresses(services[name])["grpc-address"] for name in RECEIVERS]
    router, query = ("\n".join(services[name]["command"]) for name in ("router", "store"))
    ring = json.loads(re.search("--receive.hashrings=(.*)", router)[1])
    assert [part["endpoints"] for part in ring] == [served]
    assert re.findall(r"address: ([\d.:]+)", query) == served
    assert "--receive.replication-factor=3" in router
    folders = [re.search("--tsdb.path=(.*)", "\n".join(services[name]["command"]))[1] for name in RECEIVERS]
    assert len(set(folders)) == 3


def test_all_have_limits_and_listen_on_this_machine_only(services):
    ports = [address for service in services.values() for address in addresses(service).values()]
    ports = [address for address in ports if not address.endswith(":0")]
    assert len(ports) == len(set(ports)) == 7
    for name, service in services.items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and int(service["mem_limit"]) <= 2**29, name
        assert all(address.startswith("127.0.0.1:") for address in addresses(service).values()), name
        assert not service.get("user", "").startswith(("root", "0")), name
        volumes = [mount for mount in service["volumes"] if mount["type"] == "volume"]
        assert all(mount.get("source") for mount in volumes), f"{name} has a volume without a name"
    for name in ["router", *RECEIVERS]:
        # The default of each of these is all addresses.
        expected = {"remote-write.address", "http-address", "grpc-address", "receive.capnproto-address"}
        assert set(addresses(services[name])) == expected


def test_the_sites_differ_only_in_the_address_of_the_store(services):
    plain, thanos = ((ROOT / f"stack/store/{engine}/site.yml").read_text() for engine in ("prometheus", "thanos"))
    router = addresses(services["router"])["remote-write.address"]
    assert plain.replace("127.0.0.1:19090/api/v1/write", f"{router}/api/v1/receive") == thanos != plain


@pytest.fixture(scope="module")
def lab(make_lab):
    """Two sites with a model each, and the store with samples of both."""
    image("prom/prometheus")
    image("quay.io/thanos/thanos")
    lab = make_lab("thanos")
    for file in (lab.stack / "store/thanos/site.yml", lab.stack / "prometheus/prometheus.yml"):
        edit(file, "_interval: 5s", "_interval: 1s")
    lab.sites = {site: f"http://127.0.0.1:{lab.ports[port]}" for site, port in (("a", 19091), ("b", 19092))}
    models = [Model(lab.ports[5001]).start("--interval", "1"), Model(lab.ports[5002]).start("--value", "0.95")]
    lab.said = lab.run("store", "up", "thanos")
    until(30, "both sites are in the store", lambda: both_arrive(lab))
    yield lab
    for model in models:
        model.stop()


def names(lab, *services):
    return [f"{lab.project}-store-{service}-1" for service in services]


def test_it_answers_like_one_prometheus(lab):
    assert f"The store  http://localhost:{lab.ports[19090]}\n" in lab.said
    assert "what site-b writes arrives" in lab.run("check", "store")
    copies = {(site, replica, "default-tenant") for site in "ab" for replica in "123"}
    until(60, "three copies", lambda: {
        (labels["site"], labels["replica"], labels["tenant_id"])
        for labels, _ in vector(lab.store, "model_result", dedup="false")
    } == copies)
    assert [sorted(labels) for labels, _ in vector(lab.store, "model_result")] == [
        ["__name__", "instance", "job", "site"]
    ] * 2


def test_nothing_listens_on_another_address(lab):
    pids = docker("inspect", "-f", "{{.State.Pid}}", *names(lab, *EVERY)).split()
    lines = [line for line in run("ss", "-ltnpH").splitlines() if any(f"pid={pid}," in line for pid in pids)]
    if not lines:
        pytest.skip("only root sees the processes that listen: run sudo -E scripts/test.sh thanos")
    assert all(line.split()[3].startswith("127.0.0.1:") for line in lines), lines
    users = {run("ps", "-o", "uid=", "-p", pid).strip() for pid in pids}
    assert "0" not in users


def test_without_one_receiver_no_sample_is_missing(lab):
    begun = now()
    docker("kill", *names(lab, "receive-1"))
    time.sleep(8)
    until(20, "all samples of both sites", lambda: all(is_complete(lab, site, begun, now() - 3) for site in "ab"))
    lab.run("check", "store")
    docker("start", *names(lab, "receive-1"))
    until(60, "the receiver is back", lambda: {labels["replica"] for labels, _ in vector(
        lab.store, "model_result", dedup="false")} == {"1", "2", "3"})
    # The receiver lacks some samples now, and Query must take them from the others.
    back = now()
    until(20, "still all samples", lambda: all(is_complete(lab, site, begun, back) for site in "ab"))


def test_without_two_receivers_new_samples_wait(lab, record_property):
    begun = now() - 5
    docker("kill", *names(lab, "receive-1", "receive-2"))
    until(60, "check.sh says so", lambda: failing(lab, "a", "b"))
    assert not is_complete(lab, "a", begun, now())
    docker("start", *names(lab, "receive-1", "receive-2"))
    back = now()
    until(60, "all samples of both sites", lambda: all(is_complete(lab, site, begun, back) for site in "ab"))
    record_property("measured", f"two receivers down for {back - begun - 5} s: all samples {now() - back} s later")


def test_down_and_up_keep_the_data(lab):
    begun, ended = now() - 13, now() - 3
    before = samples(lab.store, '{job="model_mock"}', begun, ended)
    assert before
    lab.run("store", "down")
    lab.run("store", "up", "thanos")
    until(30, "the data from before", lambda: samples(lab.store, '{job="model_mock"}', begun, ended) == before)


def test_the_labs_own_prometheus_writes_to_it(lab):
    page = (lab.stack / "store/README.md").read_text()
    with (lab.stack / "prometheus/prometheus.yml").open("a") as file:
        file.write(re.search("^# prometheus.yml: to this store\n.*?(?=^```)", page, re.M | re.S)[0])
    lab.up("prometheus")
    until(30, "its samples are in the store", lambda: value(lab.store, 'model_result{site=""}') == 0.5)
    assert "what Prometheus writes arrives" in lab.run("check", "prometheus", code=None)
