"""What a user of Docker's Python SDK does with a swarm; run by sdk-clients.test.ts. Ends with 0 and prints "ok", or says
what was not as it is with Docker. The prefix keeps the names of several runs apart."""

import sys
import time

import docker
from docker.types import ConfigReference, EndpointSpec, Resources, RestartPolicy, SecretReference, ServiceMode, UpdateConfig

client = docker.DockerClient(base_url=sys.argv[1])
prefix = sys.argv[2]


def name(of):
    return prefix + of


def wait(what, attempt):
    end = time.time() + 60
    while time.time() < end:
        found = attempt()
        if found:
            return found
        time.sleep(0.2)
    raise Exception("timed out: " + what)


def refused(status, text, call):
    try:
        call()
    except docker.errors.APIError as error:
        assert error.response.status_code == status, (error.response.status_code, error.explanation)
        assert text in error.explanation, error.explanation
    else:
        raise Exception("not refused: " + text)


began = int(time.time())
assert client.ping()
assert client.version()["ApiVersion"]
info = client.info()["Swarm"]
assert info["LocalNodeState"] == "active" and info["ControlAvailable"], info
assert client.swarm.attrs["JoinTokens"]["Worker"].startswith("SWMTKN-1-")

node = client.nodes.list(filters={"role": "manager"})[0]
assert node.attrs["ManagerStatus"]["Leader"]
spec = node.attrs["Spec"]
node.update({**spec, "Labels": {"sdk": "yes"}})
node.reload()
assert node.attrs["Spec"]["Labels"] == {"sdk": "yes"}

secret = client.secrets.create(name=name("secret"), data=b"s3cret", labels={"a": "b"})
assert client.secrets.get(secret.id).attrs["Spec"]["Labels"] == {"a": "b"}
assert "Data" not in client.secrets.get(secret.id).attrs["Spec"]
config = client.configs.create(name=name("config"), data=b"c0nfig")
assert [one.id for one in client.configs.list(filters={"name": name("config")})] == [config.id]
network = client.networks.create(name("net"), driver="overlay", attachable=True, labels={"a": "b"})
network.reload()
assert network.attrs["Scope"] == "swarm" and network.attrs["Attachable"], network.attrs
refused(409, "already exists", lambda: client.networks.create(name("net"), driver="overlay"))
refused(409, "already exists", lambda: client.secrets.create(name=name("secret"), data=b"x"))

service = client.services.create(
    "alpine:latest",
    command=["sh", "-c"],
    args=["cat /run/secrets/one /two; echo; echo to-stderr >&2; echo $GREETING; exec sleep 600"],
    name=name("web"),
    env=["GREETING=hello"],
    labels={"sdk": prefix, "io.swarmctl.drain": "0s"},
    container_labels={"in": "it"},
    mode=ServiceMode("replicated", replicas=1),
    networks=[network.id],
    endpoint_spec=EndpointSpec(mode="vip"),
    resources=Resources(mem_limit=64 * 1024 * 1024),
    restart_policy=RestartPolicy(condition="on-failure", delay=1),
    update_config=UpdateConfig(parallelism=0, order="stop-first"),
    secrets=[SecretReference(secret.id, name("secret"), filename="one")],
    configs=[ConfigReference(config.id, name("config"), filename="/two")],
    stop_grace_period=1_000_000_000,
)
refused(409, "already exists", lambda: client.services.create("alpine:latest", name=name("web")))
refused(400, "must be", lambda: client.services.create("alpine:latest", name="a b"))


def running(count):
    tasks = service.tasks(filters={"desired-state": "running"})
    return len(tasks) == count and all(task["Status"]["State"] == "running" for task in tasks) and tasks


task = wait("a running task", lambda: running(1))[0]
assert task["ServiceID"] == service.id and task["NodeID"] == node.id
container = client.containers.get(task["Status"]["ContainerStatus"]["ContainerID"])
assert container.labels["com.docker.swarm.service.name"] == name("web") and container.labels["in"] == "it"


def logs(**options):
    return b"".join(service.logs(stdout=True, **options)).decode()


wait("the task's output", lambda: "hello" in logs())
assert "s3cretc0nfig" in logs() and "to-stderr" not in logs(), logs()
wait("the task's errors", lambda: "to-stderr" in logs(stderr=True))
assert len(logs(stderr=True, tail=1).splitlines()) == 1

assert [one.id for one in client.services.list(filters={"label": "sdk=" + prefix})] == [service.id]
service.scale(2)
wait("two tasks", lambda: running(2))
service.reload()
service.update(env=["GREETING=bye"], labels={"sdk": prefix, "io.swarmctl.drain": "0s", "more": "1"})
service.reload()
assert service.attrs["Spec"]["TaskTemplate"]["ContainerSpec"]["Env"] == ["GREETING=bye"]
assert service.attrs["Spec"]["Mode"] == {"Replicated": {"Replicas": 2}}, service.attrs["Spec"]["Mode"]
assert service.attrs["PreviousSpec"]["Labels"] == {"sdk": prefix, "io.swarmctl.drain": "0s"}
wait("the new output", lambda: logs().count("bye") == 2)
refused(400, "is in use by the following service", secret.remove)

service.remove()
wait("no service", lambda: not client.services.list(filters={"name": name("web")}))
wait("no task", lambda: not [one for one in client.api.tasks() if one["ServiceID"] == service.id])
secret.remove()
config.remove()
wait("no network", lambda: network.remove() is None)

seen = client.events(since=began, until=int(time.time()) + 1, decode=True)
told = {(one["Type"], one["Action"]) for one in seen if one.get("scope") == "swarm" or one.get("Type") == "network"}
for kind in ("service", "secret", "config", "network"):
    for action in ("create", "remove"):
        assert (kind, action) in told, (kind, action, told)
assert ("service", "update") in told and ("node", "update") in told, told
print("ok")
