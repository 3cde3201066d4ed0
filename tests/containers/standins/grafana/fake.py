"""Stands where Grafana would be: reads its password and its provisioned files, then answers on its port."""

import http.server
import os
import pathlib
import signal
import sys

assert pathlib.Path(os.environ["GF_SECURITY_ADMIN_PASSWORD__FILE"]).read_text().strip()
PROVISIONING = pathlib.Path("/etc/grafana/provisioning")
assert "http://prometheus:9090" in (PROVISIONING / "datasources/weavloader.yml").read_text()
assert "/var/lib/grafana/dashboards" in (PROVISIONING / "dashboards/weavloader.yml").read_text()
assert "panels" in pathlib.Path("/var/lib/grafana/dashboards/weavloader.json").read_text()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/api/health" else 404)
        self.end_headers()


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http.server.HTTPServer(("", 3000), Handler).serve_forever()
