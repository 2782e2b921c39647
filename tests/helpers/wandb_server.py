"""A small Weights & Biases server for the tests: what wandb 0.31 asks of one, answered from memory.

It keeps runs as the real one does (history by line number: a batch that is sent again lands on itself), sweeps with
their agents, and saved views. It can go away, come back at the same address, hang, and answer 500.
"""

import gzip
import itertools
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml

ENTITY = "tester"


@dataclass
class Run:
    """One run as the server has it."""

    name: str
    project: str
    fields: dict = field(default_factory=dict)  # groupName, jobType, displayName, tags, sweep: as last given
    config: dict = field(default_factory=dict)
    history: list[dict] = field(default_factory=list)
    summary: dict = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    state: str = "running"

    def steps(self) -> list[int]:
        return [row["step"] for row in self.history]

    def receive(self, body: dict) -> None:
        """What the client streams: pieces of files, each from a line number on, and the end of the run."""
        for name, piece in body.get("files", {}).items():
            lines = [json.loads(line) for line in piece["content"]]
            if name == "wandb-history.jsonl":
                at = piece["offset"]
                assert at <= len(self.history), f"{self.name}: a gap before history line {at}"
                self.history[at:] = lines
            elif name == "wandb-summary.json":
                self.summary = lines[-1]
        if body.get("complete"):
            self.state = "finished" if body["exitcode"] == 0 else "failed"

    def as_bucket(self) -> dict:
        """The run in the server's words."""
        return {
            "id": f"id-{self.name}",
            "name": self.name,
            "displayName": self.fields.get("displayName"),
            "sweepName": self.fields.get("sweep"),
            "tags": self.fields.get("tags") or [],
            "group": self.fields.get("groupName"),
            "jobType": self.fields.get("jobType"),
            "state": self.state,
            "config": json.dumps(self.config),
            "wandbConfig": json.dumps({"t": 1}),
            "summaryMetrics": json.dumps(self.summary),
            "systemMetrics": "{}",
            "historyKeys": {"lastStep": self.history[-1]["_step"] if self.history else -1, "keys": {}},
            "historyLineCount": len(self.history),
            "historyTail": json.dumps([json.dumps(row) for row in self.history[-1:]]),
            "eventsLineCount": 0,
            "eventsTail": "[]",
            "logLineCount": 0,
            "user": {"name": ENTITY, "username": ENTITY},
            "project": {"id": "project", "name": self.project, "entity": {"id": "entity", "name": ENTITY}},
        }


@dataclass
class Sweep:
    """A grid over `parameters: {name: {values: [...]}}`, handed out to agents run by run."""

    name: str
    config: dict
    queue: list[dict]


class WandbServer:
    """`with WandbServer() as server:`; `server.environment` sends a subprocess's wandb there."""

    def __init__(self):
        self.runs: dict[str, Run] = {}
        self.sweeps: dict[str, Sweep] = {}
        self.views: dict[str, dict] = {}
        self.asked: list[str] = []  # operations and paths, in their order
        self.behaviour = "answer"  # or hang, or fail
        self.port = 0
        self.http: ThreadingHTTPServer | None = None
        self.released = threading.Event()

    def __enter__(self) -> "WandbServer":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        where = {"WANDB_BASE_URL": f"http://127.0.0.1:{self.port}", "WANDB_API_KEY": "0" * 40}
        # Seconds, whole ones. Left alone, rows are sent every 15, and wandb's process has 30 to start, which is little
        # on a machine whose cores all run tests.
        return {**where, "WANDB__FILE_STREAM_TRANSMIT_INTERVAL": "1", "WANDB__SERVICE_WAIT": "120"}

    def start(self) -> None:
        """Listen; after a stop, at the same port."""
        handler = type("Handler", (_Handler,), {"server_of_runs": self})
        self.released.clear()
        self.http = _Listener(("127.0.0.1", self.port), handler)
        self.port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Refuse connections, and cut those that are open; what was received stays."""
        if self.http is None:
            return
        self.released.set()
        self.http.shutdown()
        self.http.cut()
        self.http.server_close()
        self.http = None

    @contextmanager
    def behaving(self, how: str):
        self.behaviour = how
        yield
        self.behaviour = "answer"

    # --- what is asked ------------------------------------------------------------------------------------------------

    def answer(self, operation: str, query: str, given: dict, host: str) -> dict:
        """The `data` of a GraphQL answer."""
        name = given.get("name") or given.get("run")
        run = self.runs.get(name)
        if operation in ("Viewer", "GetDefaultEntity"):
            viewer = {"id": "user", "entity": ENTITY, "username": ENTITY, "name": ENTITY, "email": "", "flags": "{}"}
            return {"viewer": {**viewer, "admin": False, "deletedAt": None, "teams": {"edges": []}, "apiKeys": None}}
        if operation == "ServerFeaturesQuery":
            return {"serverInfo": {"features": []}}
        if operation == "RunResumeStatus":
            entity = {"id": "entity", "name": ENTITY}
            model = {"id": "project", "name": given["project"], "entity": entity}
            return {"model": {**model, "bucket": run and run.as_bucket()}}
        if operation == "UpsertBucket":
            inserted = run is None
            run = self.runs.setdefault(name, Run(name, given["project"]))
            run.fields |= {key: value for key, value in given.items() if value is not None}
            run.config |= json.loads(given.get("config") or "{}")
            run.state = "running"
            return {"upsertBucket": {"bucket": run.as_bucket(), "inserted": inserted}}
        if operation == "CreateRunFiles":
            files = [{"name": f, "uploadUrl": f"http://{host}/upload/{name}/{f}"} for f in given["files"]]
            return {"createRunFiles": {"runID": name, "uploadHeaders": [], "files": files}}
        if operation == "Run":
            return {"project": {"internalId": "1", "run": run and {"projectId": "1", **run.as_bucket()}}}
        if operation == "UpsertSweep":
            return {"upsertSweep": {"sweep": self._new_sweep(given), "configValidationWarnings": []}}
        if operation in ("Sweep", "SweepWithRuns", "GetSweep"):
            return {"project": {"sweep": self._description(self.sweeps[given["sweep"]])}}
        if operation == "CreateAgent":
            return {"createAgent": {"agent": {"id": f"agent-{given['sweep']}"}}}
        if operation == "Heartbeat":
            return {"agentHeartbeat": {"agent": {"id": given["id"]}, "commands": json.dumps(self._next(given))}}
        if operation == "CreateProject":
            project = {"id": "project", "name": given["input"]["name"], "entityName": ENTITY}
            return {"result": {"project": project, "model": project, "inserted": True}}
        if operation == "View":
            saved = self.views.get(given["viewName"])
            node = saved and {"id": f"id-{saved['name']}", "displayName": saved["displayName"], "spec": saved["spec"]}
            return {"project": saved and {"allViews": {"edges": [{"node": node}]}}}
        if operation == "UpsertView2":
            self.views[given["name"]] = given
            return {"upsertView": {"view": {"id": f"id-{given['name']}", "name": given["name"]}, "inserted": True}}
        raise AssertionError(f"the server does not know {operation}:\n{query}\n{given}")

    def _new_sweep(self, given: dict) -> dict:
        config = yaml.safe_load(given["config"])
        keys, choices = zip(*((key, choice["values"]) for key, choice in config["parameters"].items()), strict=True)
        queue = [dict(zip(keys, values, strict=True)) for values in itertools.product(*choices)]
        name = f"sweep{len(self.sweeps)}"
        self.sweeps[name] = Sweep(name, config, queue)
        return {
            "name": name,
            "project": {"id": "p", "name": given["projectName"], "entity": {"id": "e", "name": ENTITY}},
        }

    def _description(self, sweep: Sweep) -> dict:
        known = {
            "id": f"id-{sweep.name}",
            "name": sweep.name,
            "state": "RUNNING",
            "config": yaml.safe_dump(sweep.config),
        }
        return {**known, "createdAt": "", "heartbeatAt": "", "method": "grid", "runs": {"edges": []}}

    def _next(self, given: dict) -> list[dict]:
        """An agent with a run gets no command, one without a run gets the next one, or the command to exit."""
        if json.loads(given["runState"]):
            return []
        sweep = self.sweeps[given["id"].removeprefix("agent-")]
        if not sweep.queue:
            return [{"type": "exit"}]
        arguments = {key: {"value": value} for key, value in sweep.queue.pop(0).items()}
        run = {"run_id": f"{sweep.name}-run{len(sweep.queue)}", "program": sweep.config["program"]}
        return [{"type": "run", "args": arguments, **run}]


class _Listener(ThreadingHTTPServer):
    """Remembers its connections, so that a stop can cut them as the death of a server does."""

    daemon_threads = True

    def __init__(self, *arguments):
        self.connections = []
        super().__init__(*arguments)

    def process_request(self, request, client_address):
        self.connections.append(request)
        super().process_request(request, client_address)

    def cut(self) -> None:
        for connection in self.connections:
            self.shutdown_request(connection)

    def handle_error(self, *_) -> None:
        """A connection that breaks is what the tests are about; an operation that is not known shows in `asked`."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of_runs: WandbServer

    def do_PUT(self) -> None:
        _, _, run, name = self.path.split("/", 3)
        self.server_of_runs.runs[run].files[name] = self._body()
        self._reply({})

    def do_POST(self) -> None:
        server, body = self.server_of_runs, self._body()
        if self.path == "/graphql":
            request = json.loads(body)
            query, given = request["query"], request.get("variables") or {}
            operation = request.get("operationName") or re.search(r"(?:query|mutation)\s+(\w+)", query)[1]
            self._reply(lambda: {"data": server.answer(operation, query, given, self.headers["Host"])}, operation)
        elif match := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
            self._reply(lambda: server.runs[match[1]].receive(json.loads(body)) or {}, "file_stream")
        else:
            self._reply({}, self.path)  # telemetry, which nobody is to send

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _reply(self, content, operation: str = "") -> None:
        server = self.server_of_runs
        if operation:
            server.asked.append(operation)
        if server.behaviour == "hang":
            server.released.wait()
            return
        if server.behaviour == "fail":
            self._send(500, b"{}")
            return
        try:
            answer = content() if callable(content) else content
        except Exception as error:
            server.asked.append(f"not answered: {error!r}")
            self._send(400, b"{}")
            return
        self._send(200, json.dumps(answer).encode())

    def _send(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass
