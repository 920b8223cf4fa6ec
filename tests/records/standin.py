"""A stand-in for W&B's server on this machine: answers what its client asks, and keeps everything that is uploaded."""

import gzip
import json
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

VIEWER = {"id": "1", "entity": "me", "username": "me", "email": "", "flags": "{}", "admin": False}
VIEWER |= {"teams": {"edges": []}, "apiKeys": {"edges": []}}


class StandIn(ThreadingHTTPServer):
    """Serves until closed; one that `refuses` knows no key.

    `runs`: variables of every UpsertBucket; `lines`: what was streamed, by file; `files`: bytes, by the name they were
    announced under; `artifacts` and `views`: variables of every CreateArtifact and UpsertView2.
    """

    daemon_threads = True

    def __init__(self, refuses=False):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.refuses = refuses
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.lock, self.runs, self.files, self.artifacts, self.operations = Lock(), [], {}, [], []
        self.lines, self.views = defaultdict(list), []
        Thread(target=self.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def handle_error(self, *_):
        """A client that ends its connection is no error."""

    def place(self, name):
        return {"name": name, "displayName": name, "uploadUrl": f"{self.url}/upload/{name}", "uploadHeaders": []}

    def answer(self, operation, variables):
        """What the client needs to hear to go on."""
        self.operations.append(operation)
        given = variables.get("input") or variables
        number = str(len(self.operations))
        if operation == "UpsertBucket":
            self.runs.append(variables)
            project = {"id": "1", "name": "xmodal", "entity": {"id": "1", "name": "me"}}
            name = variables.get("name") or "run"
            bucket = {"id": "UnVuOnYxOg==", "name": name, "displayName": name, "project": project, "config": "{}"}
            bucket |= {"sweepName": None, "historyLineCount": 0, "summaryMetrics": "{}", "tags": []}
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if operation == "CreateRunFiles":
            files = [self.place(name) for name in variables["files"]]
            return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}
        if operation == "CreateArtifact":
            self.artifacts.append(given)
            sequence = {"id": number, "latestArtifact": None}
            return {"createArtifact": {"artifact": {"id": number, "state": "PENDING", "artifactSequence": sequence}}}
        if operation == "CreateArtifactManifest":
            file = {"id": number, **self.place(f"manifest{number}.json")}
            return {"createArtifactManifest": {"artifactManifest": {"id": number, "file": file}}}
        if operation == "CreateArtifactFiles":
            more = {"storagePath": "kept", "uploadMultipartUrls": None, "artifact": {"id": number}}
            places = [
                self.place(f"{each['artifactID']}/{each['name']}") | {"name": each["name"]}
                for each in given["artifactFiles"]
            ]
            nodes = [{"node": {"id": number, **place, **more}} for place in places]
            return {"createArtifactFiles": {"files": {"edges": nodes}}}
        if operation == "UpsertView2":
            self.views.append(variables)
            return {"upsertView": {"view": {"id": "Vmlldzox", "name": variables["name"]}}}
        return {
            "Viewer": {"viewer": VIEWER},
            "GetDefaultEntity": {"viewer": VIEWER},
            "ServerInfo": {"viewer": VIEWER, "serverInfo": None},
            "ArtifactType": {"project": {"artifact": None}},
            "CommitArtifact": {"commitArtifact": {"artifact": {"id": number, "digest": number}}},
            "OrganizationCoreWeaveOrganizationID": {"entity": {"organization": None}},
            "RunResumeStatus": {"model": {"bucket": None}},
        }.get(operation, {})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Silent."""

    def body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            sent = b"".join(parts)
        else:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(sent) if self.headers.get("Content-Encoding") == "gzip" else sent

    def reply(self, content, status=200):
        sent = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def do_GET(self):
        self.reply({})

    def do_PUT(self):
        with self.server.lock:
            self.server.files[self.path.removeprefix("/upload/")] = self.body()
        self.reply({})

    def do_POST(self):
        asked = json.loads(self.body() or b"{}")
        if self.server.refuses:
            self.reply({"errors": [{"message": "permission denied"}]}, 401)
            return
        with self.server.lock:
            if self.path.startswith("/graphql"):
                operation = asked.get("operationName") or asked["query"].split("(")[0].split("{")[0].split()[-1]
                self.reply({"data": self.server.answer(operation, asked.get("variables") or {})})
                return
            for name, chunk in asked.get("files", {}).items():
                self.server.lines[name] += chunk["content"]
        self.reply({"exitcode": None, "limits": {}})
