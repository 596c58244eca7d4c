"""compose.yaml, the Kubernetes manifests, the systemd unit and the nginx configuration agree with each other, with the image
and with the program."""

import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
PROGRAM = os.environ.get("LSTMD") or os.environ.get("LSTMD_BIN") or str(ROOT / "build/lstmd")
IMAGE = (DOCKER / "Dockerfile").read_text()
NGINX = (DOCKER / "nginx.conf").read_text()


@pytest.fixture(scope="module")
def defaults():
    """Returns the program's defaults: {section: {key: value}}."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("LSTMD")}
    return yaml.safe_load(subprocess.run([PROGRAM, "config"], cwd=ROOT, env=clean, capture_output=True, text=True, check=True).stdout)


def in_image(pattern):
    return re.search(pattern, IMAGE, re.M)[1]


class Strict(yaml.SafeLoader):
    """Refuses a key that occurs twice. YAML forbids that and Compose refuses it, but the loader takes the last one."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for key in keys if keys.count(key) > 1]
        assert not twice, f"{node.start_mark}: {twice[0]} is there twice"
        return super().construct_mapping(node, deep)


@pytest.mark.parametrize("path", sorted([ROOT / "openapi.yaml", *(path for name in ("config", "docker", "model") for path in (ROOT / name).rglob("*.yaml"))]), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_key_of_a_yaml_file_is_there_twice(path):
    assert any(list(yaml.load_all(path.read_text(), Strict)))


# --- Compose ---


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((DOCKER / "compose.yaml").read_text())


def test_compose_declares_what_its_services_use(compose):
    services = compose["services"]
    named = [volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])]
    for kind, used in {
        "volumes": {name for name in named if not name.startswith(".")},
        "networks": {name for service in services.values() for name in service["networks"]},
        "secrets": {name for service in services.values() for name in service.get("secrets", [])},
    }.items():
        assert used == set(compose[kind]), kind
    assert {name for service in services.values() for name in service.get("depends_on", {})} <= set(services)
    # Each file mounted from here is in the repository, or the commands at the top make it.
    made = re.search(r"mkdir -p (.*?) &&", (DOCKER / "compose.yaml").read_text())[1].split()
    files = [secret["file"] for secret in compose["secrets"].values()] + [name for name in named if name.startswith(".")]
    for path in (pathlib.PurePath(file) for file in files):
        assert (DOCKER / path).is_file() or path.parts[0] in made, path
    assert (DOCKER / services["lstmd"]["build"]["context"] / services["lstmd"]["build"]["dockerfile"]).is_file()


def test_compose_gives_the_daemon_what_it_is_told_of(compose, defaults):
    daemon, proxy = (compose["services"][name] for name in ("lstmd", "nginx"))
    environment = daemon["environment"]
    assert environment["LSTMD_AUTH_ADMIN_TOKEN_FILE"] == f"/run/secrets/{daemon['secrets'][0]}"
    assert [volume.split(":")[1] for volume in daemon["volumes"]] == [environment["LSTMD_SERVER_STATE_DIR"]]
    scraped = re.search(r"scrapes ([a-z]+):\d+", (DOCKER / "compose.yaml").read_text())[1]
    assert scraped in compose["services"] and environment["LSTMD_SERVER_HOSTS"] == scraped
    (network,) = set(daemon["networks"]) & set(proxy["networks"])
    assert compose["networks"][network]["internal"], "the daemon is reached through nginx alone"
    assert environment["LSTMD_SERVER_TRUSTED_PROXIES"] == compose["networks"][network]["ipam"]["config"][0]["subnet"]
    assert daemon["read_only"] and daemon["cap_drop"] == ["ALL"] and "ports" not in daemon
    assert proxy["depends_on"]["lstmd"]["condition"] == "service_healthy" and "\nHEALTHCHECK " in IMAGE
    assert float(daemon["stop_grace_period"].rstrip("s")) > defaults["server"]["drain_seconds"]


def test_requests_come_with_a_name_that_the_daemon_answers_to():
    """Otherwise the answer is 421. nginx sends "localhost"; a cluster makes names that this test cannot know."""
    hosts = re.findall(r"^\s*proxy_set_header Host (\S+);", (DOCKER / "nginx.conf").read_text(), re.M)
    assert hosts == ["localhost"]
    deployment = yaml.safe_load((KUBERNETES / "base/deployment.yaml").read_text())
    assert environment_of(deployment)["LSTMD_SERVER_HOSTS"] == "*"


def test_nginx_finds_the_daemon_its_certificate_and_its_ports(compose, defaults):
    daemon, proxy = (compose["services"][name] for name in ("lstmd", "nginx"))
    port = str(defaults["server"]["port"])
    assert re.search(r"\n    server (\S+)", NGINX)[1] == f"lstmd:{port}"
    assert daemon["expose"] == [port] and in_image(r"^EXPOSE (\d+)$") == port
    mounts = {volume.split(":")[0]: volume.split(":")[1] for volume in proxy["volumes"]}
    assert mounts["./nginx.conf"] == "/etc/nginx/conf.d/default.conf"
    made = re.search(r"-keyout (\S+) -out (\S+)\n", (DOCKER / "compose.yaml").read_text()).groups()
    wanted = re.findall(r"ssl_certificate(?:_key)?\s+(\S+);", NGINX)
    assert {file.replace("tls/", mounts["./tls"] + "/") for file in made} == set(wanted)
    assert {mapping.split(":")[1] for mapping in proxy["ports"]} == set(re.findall(r"listen (\d+)", NGINX))


def test_nginx_takes_no_larger_bodies_and_waits_longer_than_a_stream_is_silent(defaults):
    (most,) = re.findall(r"\n    client_max_body_size (\d+)m;", NGINX)
    assert defaults["limits"]["max_body"] == f"{most}MiB"
    (most,) = re.findall(r"\n        client_max_body_size (\d+)g;", NGINX)
    assert defaults["limits"]["max_dataset"] == f"{most}GiB" and defaults["limits"]["max_import"] == "1GiB"
    (seconds,) = re.findall(r"\n    proxy_read_timeout (\d+)s;", NGINX)
    assert int(seconds) > 2 * defaults["server"]["ping_seconds"] and int(seconds) > defaults["limits"]["request_timeout"]


# --- Kubernetes ---

KUBERNETES = DOCKER / "kubernetes"
OVERLAYS = ("serve", "train")
SHARED_KINDS = {"Deployment": "apps/v1", "Service": "v1", "NetworkPolicy": "networking.k8s.io/v1"}
KINDS = {
    "serve": {**SHARED_KINDS, "HorizontalPodAutoscaler": "autoscaling/v2", "PodDisruptionBudget": "policy/v1"},
    "train": {**SHARED_KINDS, "PersistentVolumeClaim": "v1"},
}


def documents(path):
    return list(yaml.safe_load_all(path.read_text()))


def merged(value, patch):
    """Does the part of a strategic merge that these patches need: it merges lists of named things by name."""
    if isinstance(value, dict) and isinstance(patch, dict):
        result = {**value, **{key: merged(value.get(key), item) for key, item in patch.items()}}
        return {key: item for key, item in result.items() if item is not None}
    if isinstance(value, list) and isinstance(patch, list) and all("name" in item for item in patch):
        changed = {item["name"]: item for item in patch}
        kept = [merged(item, changed.pop(item["name"], {})) for item in value]
        return list(changed.values()) + kept
    return patch


def built(directory):
    """Builds a kustomization: {kind: document}. No document may occur twice."""
    (kustomization,) = documents(directory / "kustomization.yaml")
    assert set(kustomization) <= {"apiVersion", "kind", "resources", "patches"}
    found = {}
    for name in kustomization["resources"]:
        path = directory / name
        for document in built(path).values() if path.is_dir() else documents(path):
            assert document["kind"] not in found, document["kind"]
            found[document["kind"]] = document
    for patch in kustomization.get("patches", []):
        for change in documents(directory / patch["path"]):
            assert found[change["kind"]]["metadata"]["name"] == change["metadata"]["name"]
            found[change["kind"]] = merged(found[change["kind"]], change)
    return found


@pytest.fixture(params=OVERLAYS)
def overlay(request):
    return request.param


@pytest.fixture
def manifests(overlay):
    return built(KUBERNETES / "overlays" / overlay)


def container_of(deployment):
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return container


def environment_of(deployment):
    return {one["name"]: one["value"] for one in container_of(deployment)["env"]}


KUSTOMIZE = next((command for command in (["kubectl", "kustomize"], ["kustomize", "build"]) if shutil.which(command[0])), None)


@pytest.mark.skipif(not KUSTOMIZE, reason="SKIPPED: neither kubectl nor kustomize is installed")
def test_kustomize_builds_what_these_tests_look_at(overlay, manifests):
    done = subprocess.run([*KUSTOMIZE, str(KUBERNETES / "overlays" / overlay)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    def sorted_lists(value):
        if isinstance(value, dict):
            return {key: sorted_lists(item) for key, item in value.items()}
        return sorted(map(sorted_lists, value), key=lambda item: json.dumps(item, sort_keys=True)) if isinstance(value, list) else value

    theirs = {document["kind"]: document for document in yaml.safe_load_all(done.stdout)}
    assert sorted_lists(theirs) == sorted_lists(manifests)


def test_every_manifest_is_part_of_something(manifests):
    used = {KUBERNETES / name for name in ("monitor.yaml", "gateway.yaml", "ingress.yaml")}
    for directory in (KUBERNETES / "base", *(KUBERNETES / "overlays" / name for name in OVERLAYS)):
        (kustomization,) = documents(directory / "kustomization.yaml")
        names = kustomization["resources"] + [patch["path"] for patch in kustomization.get("patches", [])]
        used |= {directory / "kustomization.yaml"} | {directory / name for name in names if name.endswith(".yaml")}
    assert used == set(KUBERNETES.rglob("*.yaml"))


def test_manifests_select_the_pods_of_the_deployment_and_name_its_port(overlay, manifests):
    found = manifests
    assert {kind: document["apiVersion"] for kind, document in found.items()} == KINDS[overlay]
    specs = {kind: document["spec"] for kind, document in found.items()}
    labels = specs["Deployment"]["template"]["metadata"]["labels"]
    assert labels and specs["Deployment"]["selector"]["matchLabels"] == labels
    assert specs["Service"]["selector"] == labels
    assert specs["NetworkPolicy"]["podSelector"]["matchLabels"] == labels

    ports = {port["name"]: port["containerPort"] for port in container_of(found["Deployment"])["ports"]}
    assert ports == {"http": int(in_image(r"^EXPOSE (\d+)$"))}
    (service,) = specs["Service"]["ports"]
    assert service["targetPort"] in ports
    assert [port["port"] for rule in specs["NetworkPolicy"]["ingress"] for port in rule["ports"]] == list(ports)
    annotations = specs["Deployment"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(ports["http"])


def quantity(text):
    """Converts a number of processors: "2" or "1400m"."""
    return int(text[:-1]) / 1000 if text.endswith("m") else int(text)


def test_replicas_that_serve_are_scaled_by_what_every_cluster_measures():
    found = built(KUBERNETES / "overlays/serve")
    deployment, scaler = found["Deployment"], found["HorizontalPodAutoscaler"]["spec"]
    assert scaler["scaleTargetRef"] == {key: deployment[key] for key in ("apiVersion", "kind")} | {"name": deployment["metadata"]["name"]}
    (metric,) = scaler["metrics"]
    assert metric["type"] == "Resource" and metric["resource"]["name"] == "cpu"
    most = quantity(container_of(deployment)["resources"]["limits"]["cpu"])
    assert most / 2 < quantity(metric["resource"]["target"]["averageValue"]) < most
    budget = found["PodDisruptionBudget"]["spec"]
    assert budget["selector"]["matchLabels"] == deployment["spec"]["template"]["metadata"]["labels"]
    assert budget["minAvailable"] < scaler["minReplicas"] <= scaler["maxReplicas"]
    assert "replicas" not in deployment["spec"], "each apply would undo what the autoscaler did"
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_a_daemon_that_trains_is_alone_with_its_state():
    found = built(KUBERNETES / "overlays/train")
    spec = found["Deployment"]["spec"]
    assert spec["replicas"] == 1 and spec["strategy"] == {"type": "Recreate"}
    assert found["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteOncePod"]


def test_pods_have_the_volumes_that_the_daemon_is_told_of(overlay, manifests):
    deployment = manifests["Deployment"]
    volumes = {volume["name"]: volume for volume in deployment["spec"]["template"]["spec"]["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container_of(deployment)["volumeMounts"]}
    assert set(volumes) == set(mounts)
    environment = environment_of(deployment)
    text = (KUBERNETES / "overlays" / overlay / "kustomization.yaml").read_text()
    command = re.search(r"kubectl create secret generic (\S+) --from-literal=(\w+)=", text)
    assert volumes["token"]["secret"]["secretName"] == command[1]
    assert environment["LSTMD_AUTH_ADMIN_TOKEN_FILE"] == f"{mounts['token']}/{command[2]}"
    assert mounts.get("state") == environment.get("LSTMD_SERVER_STATE_DIR")
    assert ("state" in mounts) == (overlay == "train")
    if "state" in volumes:
        claim = volumes["state"]["persistentVolumeClaim"]["claimName"]
        assert claim == manifests["PersistentVolumeClaim"]["metadata"]["name"]


def test_pods_are_this_version_unprivileged_probed_and_given_time_to_end(manifests, defaults):
    pod = manifests["Deployment"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["image"] == f"lstmd:{(ROOT / 'VERSION').read_text().split()[0]}"
    user, group = in_image(r"^USER (\d+:\d+)$").split(":")
    context = pod["securityContext"]
    assert context["runAsNonRoot"] and (context["runAsUser"], context["runAsGroup"]) == (int(user), int(group))
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    contract = yaml.safe_load((ROOT / "openapi.yaml").read_text())["paths"]
    probes = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
    for probe in probes.values():
        assert probe["port"] == "http" and contract[probe["path"]]["get"]["security"] == []
    assert probes["readiness"]["path"] == "/readyz" and probes["liveness"]["path"] == "/healthz"
    wait = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > wait + defaults["server"]["drain_seconds"]
    assert int(container["resources"]["limits"]["cpu"]) == int(environment_of(manifests["Deployment"])["LSTMD_ENGINE_THREADS"])


def test_prometheus_gives_the_pods_the_name_that_the_alerts_ask_for():
    (monitor,) = documents(KUBERNETES / "monitor.yaml")
    deployment = built(KUBERNETES / "base")["Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"] == labels
    job = labels[monitor["spec"]["jobLabel"]]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in {port["name"] for port in container_of(deployment)["ports"]}
    assert "get" in yaml.safe_load((ROOT / "openapi.yaml").read_text())["paths"][endpoint["path"]]
    # The comment has the rule for people who find pods by annotations. It names the pod's label as Prometheus does.
    (label,) = labels
    rule = re.search(r"__meta_kubernetes_pod_label_(\w+)\], regex: (\w+), target_label: job, replacement: (\w+)", (KUBERNETES / "monitor.yaml").read_text())
    assert rule.groups() == (re.sub(r"\W", "_", label), labels[label], job)
    rules = yaml.safe_load((DOCKER / "alerts.yaml").read_text())["groups"][0]["rules"]
    asked = {name for one in rules for name in re.findall(r'job="([^"]*)"', one["expr"])}
    assert asked == {job}
    assert "- job_name: " + job in (ROOT / "docs/operate.md").read_text()


# --- How clients get in: path rules as (path, is it a prefix) ---


def ingress_rules():
    (ingress,) = documents(KUBERNETES / "ingress.yaml")
    return [(one["path"], one["pathType"] == "Prefix") for one in ingress["spec"]["rules"][0]["http"]["paths"]]


def gateway_rules():
    route = documents(KUBERNETES / "gateway.yaml")[1]
    matches = [match["path"] for rule in route["spec"]["rules"] for match in rule["matches"]]
    return [(one["value"].rstrip("/") + "/" if one["type"] == "PathPrefix" else one["value"], one["type"] == "PathPrefix") for one in matches]


@pytest.mark.parametrize("rules", [ingress_rules, gateway_rules])
def test_what_needs_no_admin_token_is_let_in_and_nothing_else(rules):
    contract = yaml.safe_load((ROOT / "openapi.yaml").read_text())

    def is_let_in(path):
        return any(path == rule or (prefix and path.startswith(rule)) for rule, prefix in rules())

    def is_admins(operation):
        security = operation.get("security", contract["security"])
        return bool(security) and security[-1]["bearer"] == ["admin"]

    for path, item in contract["paths"].items():
        admins = any(is_admins(item[method]) for method in ("get", "post", "put", "delete") if method in item)
        assert is_let_in(path) != (admins or path in ("/healthz", "/health", "/metrics")), path
    page = (ROOT / "server/web/index.html").read_text()
    links = ["/" + link.removeprefix("./").lstrip("/") for link in re.findall(r'(?:href|src)="([^":]+)"', page) if not link.startswith("#")]
    assert len(links) > 4 and all(is_let_in(link) for link in links), links


def test_ingress_has_nothing_that_one_controller_alone_knows():
    (ingress,) = documents(KUBERNETES / "ingress.yaml")
    assert "annotations" not in ingress["metadata"] and "ingressClassName" not in ingress["spec"]
    service = built(KUBERNETES / "base")["Service"]
    (port,) = service["spec"]["ports"]
    for path in ingress["spec"]["rules"][0]["http"]["paths"]:
        assert path["backend"]["service"] == {"name": service["metadata"]["name"], "port": {"name": port["name"]}}
    (tls,) = ingress["spec"]["tls"]
    assert tls["hosts"] == [rule["host"] for rule in ingress["spec"]["rules"]]


def test_gateway_leads_to_the_service_and_keeps_sessions_at_their_replica(defaults):
    gateway, route, policy = documents(KUBERNETES / "gateway.yaml")
    assert [one["kind"] for one in (gateway, route, policy)] == ["Gateway", "HTTPRoute", "BackendTrafficPolicy"]
    assert route["spec"]["parentRefs"] == [{"name": gateway["metadata"]["name"]}]
    (listener,) = gateway["spec"]["listeners"]
    assert route["spec"]["hostnames"] == [listener["hostname"]]
    service = built(KUBERNETES / "base")["Service"]
    (port,) = service["spec"]["ports"]
    for rule in route["spec"]["rules"]:
        assert rule["backendRefs"] == [{"name": service["metadata"]["name"], "port": port["port"]}]
        assert len(rule["matches"]) <= 8, "older releases of the Gateway API take no more"
    assert float(route["spec"]["rules"][0]["timeouts"]["request"].rstrip("s")) > defaults["limits"]["request_timeout"]
    (target,) = policy["spec"]["targetRefs"]
    assert (target["kind"], target["name"]) == (route["kind"], route["metadata"]["name"])
    header = policy["spec"]["loadBalancer"]["consistentHash"]["header"]["name"]
    assert f"$http_{header.lower().replace('-', '_')} " in NGINX, "nginx.conf and this agree on the header"


# --- The image's configuration ---


def test_image_has_its_settings_in_a_file_that_another_file_can_stand_for():
    """Settings in the environment would win over a mounted file."""
    environment = dict(re.findall(r"\b(LSTMD_\w+)=(\S+)", "".join(re.findall(r"^ENV .*$", IMAGE, re.M))))
    assert set(environment) == {"LSTMD_CONFIG"}
    assert in_image(r"^COPY --from=build /source/docker/lstmd.yaml (\S+)$") == environment["LSTMD_CONFIG"]
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    taken = re.findall(r"^COPY --from=build /source/(?!build/)(\S+)", IMAGE, re.M)
    assert len(taken) > 2 and all({path, path.split("/")[0]} & let_in for path in taken), "the build does not see it"
    clean = {key: value for key, value in os.environ.items() if not key.startswith("LSTMD")}
    command = [PROGRAM, "config", "--config", str(DOCKER / "lstmd.yaml")]
    checked = subprocess.run(command, env=clean, capture_output=True, text=True)
    shown = yaml.safe_load(checked.stdout)
    assert [shown["model"]["path"] in line for line in checked.stderr.splitlines()] == [True], "it is in the image alone"
    assert shown["server"]["listen"] == "0.0.0.0"
    assert os.path.dirname(shown["model"]["path"]) == in_image(r"^COPY --from=build /source/model/pretrained (\S+)$")


# --- systemd ---


def test_unit_waits_longer_than_the_daemon_drains_and_allows_its_connections(defaults):
    unit = dict(re.findall(r"^(\w+)=(.+)$", (DOCKER / "lstmd.service").read_text(), re.M))
    assert int(unit["TimeoutStopSec"]) > defaults["server"]["drain_seconds"]
    assert int(unit["LimitNOFILE"]) > defaults["limits"]["max_connections"]
    assert "Environment" not in unit, "it would win over the configuration file"


def calls_of(names):
    """Returns the system calls of a SystemCallFilter. It expands groups as this machine's systemd does."""
    environment = {**os.environ, "SYSTEMD_COLORS": "0"}
    groups = {}
    for line in subprocess.run(["systemd-analyze", "syscall-filter"], capture_output=True, text=True, env=environment).stdout.splitlines():
        if line.startswith("@"):
            group = groups[line] = []
        elif line.startswith("    ") and "#" not in line:
            group.append(line.strip())
    return set().union(*(calls_of_group(groups, name) for name in names))


def calls_of_group(groups, name):
    return set().union(*(calls_of_group(groups, member) for member in groups[name])) if name in groups else {name}


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="SKIPPED: systemd-analyze is not installed (Debian's package systemd)")
def test_unit_allows_the_system_calls_that_an_import_makes():
    """The calls: those that the import's sandbox allows, those that make the sandbox, and those that start an import and a
    training job."""
    filters = re.findall(r"^SystemCallFilter=(.+)$", (DOCKER / "lstmd.service").read_text(), re.M)
    allowed = calls_of(["@default"] + filters[0].split()) - calls_of(filters[1].removeprefix("~").split())
    sandbox = (ROOT / "base/sandbox.c").read_text()
    wanted = set(re.findall(r"SCMP_SYS\((\w+)\)", sandbox)) | set(re.findall(r"\bSYS_(\w+)", sandbox))
    assert len(wanted) > 50 and "landlock_restrict_self" in wanted
    wanted |= {"seccomp", "prctl", "clone", "clone3", "vfork", "execve", "setpgid", "sched_setscheduler", "sched_setattr", "setpriority", "prlimit64"}
    assert not wanted - allowed
