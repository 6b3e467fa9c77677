"""The Thanos store behind two sites, on a real engine: what is killed, and that it has each sample of the sites.

It works on a copy where a scrape is due each second; one store is started for all, and what a test kills
it starts again. Only the class is scraped as seldom as a lab's.
"""

import json
import re
import subprocess
import time

import pytest

from lab import LABEL, ROOT, Model, docker, edit, fetch_json, free_ports, image, modelmock, needs_docker, run, until, value, vector
from test_store import both_arrive, compare, is_same, metric, none_failed, now, samples

RECEIVERS = ["receive-1", "receive-2", "receive-3"]


@pytest.fixture(scope="module")
def services():
    """What runs, as Compose reads the files."""
    needs_docker()
    files = [word for name in ("compose", "thanos") for word in ("-f", ROOT / f"stack/store/{name}.yaml")]
    said = run("env", "GRAFANA_PASSWORD=none", "docker", "compose", "--env-file", "/dev/null", *files, "config", "--format", "json")
    return json.loads(said)["services"]


def addresses(service):
    return dict(re.findall(r"^--([a-z.-]*address)=(.*)$", "\n".join(service["command"]), re.M))


# What needs no image of Thanos.


def test_the_ring_and_query_name_the_receivers(services):
    served = [addresses(services[name])["grpc-address"] for name in RECEIVERS]
    router, query = ("\n".join(services[name]["command"]) for name in ("router", "store"))
    ring = json.loads(re.search("--receive.hashrings=(.*)", router)[1])
    assert [part["endpoints"] for part in ring] == [served]
    assert re.findall(r"address: ([\d.:]+)", query) == served
    assert "--receive.replication-factor=3" in router


def test_all_are_bounded_and_meant_for_this_machine_alone(services):
    volumes = [mount["source"] for service in services.values() for mount in service.get("volumes", []) if mount["type"] == "volume"]
    assert len(volumes) == len(set(volumes)) == len([*RECEIVERS, "site-a", "site-b"])
    ports = [address for service in services.values() for address in addresses(service).values() if not address.endswith(":0")]
    assert len(ports) == len(set(ports)) == 7
    for name, service in services.items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and int(service["mem_limit"]) <= 2**29, name
        assert all(address.startswith("127.0.0.1:") for address in addresses(service).values()), name
    for name in ["router", *RECEIVERS]:
        # Each of these is on all addresses where it is not named.
        assert set(addresses(services[name])) == {"remote-write.address", "http-address", "grpc-address", "receive.capnproto-address"}


def test_the_sites_write_elsewhere_and_are_the_same(services):
    plain, thanos = ((ROOT / f"stack/store/{engine}/site.yml").read_text() for engine in ("prometheus", "thanos"))
    router = addresses(services["router"])["remote-write.address"]
    assert plain.replace("http://127.0.0.1:19090/api/v1/write", f"http://{router}/api/v1/receive") == thanos != plain


# What needs it.


@pytest.fixture(scope="module")
def lab(make_lab):
    """Two sites with a model each, and the store, which has of both."""
    image("prom/prometheus")
    image("quay.io/thanos/thanos")
    lab = make_lab("thanos")
    lab.thanos = lab.stack / "store/thanos.yaml"
    for file in (lab.stack / "store/thanos/site.yml", lab.stack / "prometheus/prometheus.yml"):
        edit(file, "_interval: 5s", "_interval: 1s")
    # One receiver's disk is so small that it can be filled; what is on it goes when the receiver ends.
    edit(lab.thanos, "^  receive-3-data:", "  receive-3-data: {driver_opts: {type: tmpfs, device: tmpfs, o: size=64m}}")
    lab.sites = {site: f"http://127.0.0.1:{lab.ports[port]}" for site, port in (("a", 19091), ("b", 19092))}
    models = [Model(lab.ports[5001]).start("--interval", "1"), Model(lab.ports[5002]).start("--value", "0.95")]
    lab.said = lab.run("store", "up", "thanos")
    until(30, "both sites are in the store", lambda: both_arrive(lab))
    yield lab
    for model in models:
        model.stop()


@pytest.fixture
def measured(record_property):
    return lambda figure: record_property("measured", figure)


def names(lab, *services):
    return [f"{lab.project}-store-{service}-1" for service in services]


def kill(lab, *services):
    docker("kill", "-s", "KILL", *names(lab, *services))


def revive(lab, *services):
    docker("start", *names(lab, *services))


def copies(lab, replica, begun, ended):
    """How many samples of that time that receiver has."""
    selector = f'{{job="model_mock",replica="{replica}"}}[{ended - begun}s]'
    return sum(len(samples) for _, samples in vector(lab.store, selector, time=ended, dedup="false"))


def arrives(lab, measured, what, begun, ended):
    """All that the sites have of that time comes into the store, and nothing was refused, which would be lost."""
    began = time.monotonic()
    until(60, "the store has all of both sites", lambda: is_same(lab, "a", begun, ended) and is_same(lab, "b", begun, ended))
    scraped, lost, _ = compare(lab, "a", begun, ended)
    measured(f"{what}: of {scraped} samples of a site the store lacks {lost}, {time.monotonic() - began:.0f} s afterwards")
    assert none_failed(lab)


def waiting(lab):
    """How many samples of site a wait to be written."""
    return metric(lab.sites["a"], "prometheus_remote_storage_samples_pending")


def test_it_is_asked_as_one_prometheus_is(lab):
    assert f"The store  http://localhost:{lab.ports[19090]}\n" in lab.said
    assert "what site-b writes arrives" in lab.run("check", "store")

    def copies_asked():
        return {
            (labels["site"], labels["replica"], labels["tenant_id"])
            for labels, _ in vector(lab.store, "model_result", dedup="false")
        }

    until(60, "three copies", lambda: copies_asked() == {(site, replica, "default-tenant") for site in "ab" for replica in "123"})
    assert sorted(tuple(labels) for labels, _ in vector(lab.store, "model_result")) == [("__name__", "instance", "job", "site")] * 2


def test_nothing_listens_on_another_address(lab):
    pids = docker("inspect", "-f", "{{.State.Pid}}", *names(lab, "store", "router", "site-a", "site-b", *RECEIVERS)).split()
    lines = [line for line in run("ss", "-ltnpH").splitlines() if any(f"pid={pid}," in line for pid in pids)]
    if not lines:
        pytest.skip("which process listens is root's to see: run the tests as root")
    assert all(line.split()[3].startswith("127.0.0.1:") for line in lines), lines


def test_one_receiver_is_killed_and_all_goes_on(lab, measured):
    begun = now()
    kill(lab, "receive-1")
    killed = now()
    for _ in range(5):
        time.sleep(1)
        scraped, lost, _ = compare(lab, "a", begun - 3, now() - 3)
        assert scraped and not lost, f"{lost} of {scraped} samples cannot be asked for"
    assert waiting(lab) < 150, "what is written waits"
    revive(lab, "receive-1")
    back = now()
    arrives(lab, measured, "one receiver killed", begun, back)
    # What it missed stays missing: the other two answer for it.
    until(30, "it keeps again", lambda: copies(lab, 1, back, now()))
    mine, others = copies(lab, 1, killed + 1, back), copies(lab, 2, killed + 1, back)
    measured(f"the receiver that was away has {mine} samples of that time, another {others}")
    assert mine < others / 2, "it was filled again, and the page says that it is not"


def test_two_receivers_are_killed_and_what_is_new_waits(lab, measured):
    begun = now() - 5
    kill(lab, "receive-1", "receive-2")
    killed = now()
    time.sleep(6)
    scraped, lost, _ = compare(lab, "a", begun, now())
    measured(f"two of three killed for {now() - killed} s: of {scraped} samples {lost} cannot be asked for, {waiting(lab):.0f} wait")
    assert 0 < lost < scraped
    revive(lab, "receive-1", "receive-2")
    arrives(lab, measured, "two receivers killed", begun, now())


def test_the_router_is_killed_and_what_is_new_waits(lab, measured):
    begun = now()
    kill(lab, "router")
    time.sleep(3)
    assert waiting(lab)
    revive(lab, "router")
    arrives(lab, measured, "the router killed", begun, now())


def test_a_receivers_disk_is_full_and_all_goes_on(lab, measured):
    disk = ("run", "--rm", "--label", LABEL, "--user", "root", "-v", f"{lab.project}-store_receive-3-data:/disk", "--entrypoint")
    assert "No space left" in docker(*disk, "dd", image("prom/prometheus"), "if=/dev/zero", "of=/disk/fill", "bs=64k", code=1)
    begun = now()
    # The last page of the disk has room for some more.
    until(40, "the receiver keeps nothing", lambda: copies(lab, 3, now() - 5, now() - 3) == 0)
    assert copies(lab, 2, now() - 5, now() - 3)
    arrives(lab, measured, "a receiver's disk full", begun, now())
    docker(*disk, "rm", image("prom/prometheus"), "/disk/fill")
    begun = now()
    until(30, "it keeps again", lambda: copies(lab, 3, begun, now()))


def test_all_are_killed_and_started_again(lab, measured):
    begun = now() - 5
    kill(lab, "store", "router", *RECEIVERS)
    time.sleep(3)
    lab.run("check", "store", code=1)
    revive(lab, "store", "router", *RECEIVERS)
    arrives(lab, measured, "all of the store killed", begun, now())


def test_down_and_up_keep_what_was_there(lab, measured):
    begun, ended = now() - 13, now() - 3
    before = samples(lab.store, '{job="model_mock"}', begun, ended)
    assert before
    lab.run("store", "down")
    lab.run("store", "up", "thanos")
    until(30, "the store has what it had", lambda: samples(lab.store, '{job="model_mock"}', begun, ended) == before)
    measured(f"down and up: {len(before)} samples were there and are there")


def test_the_labs_own_prometheus_writes_to_it(lab):
    page = (lab.stack / "store/README.md").read_text()
    with (lab.stack / "prometheus/prometheus.yml").open("a") as file:
        file.write(re.search("^# prometheus.yml: to this store\n.*?(?=^```)", page, re.M | re.S)[0])
    lab.up("prometheus")
    until(30, "what it scraped is in the store", lambda: value(lab.store, 'model_result{site=""}') == 0.5)
    assert "what Prometheus writes arrives" in lab.run("check", "prometheus", code=None)


def test_a_class_is_behind_it(lab, measured, process):
    """200 models at two sites: all are up, and each query of the class' dashboard has an answer in time."""
    edit(lab.stack / "store/thanos/site.yml", "_interval: 1s", "_interval: 5s")
    ports = free_ports(200)
    for port in ports:
        process(modelmock(), "--listen", f"127.0.0.1:{port}", "--quiet", stdout=subprocess.DEVNULL)
    for site, its_ports in (("a", ports[:100]), ("b", ports[100:])):
        targets = json.dumps([f"127.0.0.1:{port}" for port in its_ports])
        edit(lab.stack / f"store/site-{site}/targets.yml", "^- targets: .*", f"- targets: {targets}\n  labels: {{class: class-{site}}}")
    until(40, "200 models are up", lambda: value(lab.store, 'sum(up{class=~"class-.*"})') == 200)
    queries = re.findall(r'"expr": "((?:\\.|[^"\\])*)"', (lab.stack / "grafana/dashboards/class.json").read_text())
    assert len(queries) >= 9
    slowest = 0

    def answer(query):
        return fetch_json(f"{lab.store}/api/v1/query_range", query=query, start=now() - 900, end=now(), step=5)["data"]["result"]

    for query in queries:
        query = json.loads(f'"{query}"').replace("$class", "class-.*").replace("$__range", "15m")
        until(20, f"an answer to {query}", lambda: answer(query))
        began = time.monotonic()
        answer(query)
        slowest = max(slowest, time.monotonic() - began)
    measured(f"{len(queries)} queries about 200 models, 15 minutes of each: the slowest took {slowest:.2f} s")
    assert slowest < 5
    memory = docker("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}", *names(lab, "store", "router", *RECEIVERS))
    measured("; ".join(memory.replace(f"{lab.project}-store-", "").splitlines()))
