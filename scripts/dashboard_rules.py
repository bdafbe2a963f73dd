# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints what the dashboard asks Prometheus as recording rules, so that promtool can say whether it is PromQL.

python -m scripts.dashboard_rules deploy/grafana/omps-worker.json >rules.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PUT_IN = {"$__rate_interval": "5m", "$__interval": "1m", "$job": ".*"}
"""What Grafana would put in for its variables."""


def rules_of(dashboard: dict[str, Any]) -> dict[str, Any]:
    """A file of rules, as JSON, with one for each query of the dashboard."""
    rules = []
    for panel in dashboard["panels"]:
        for number, target in enumerate(panel.get("targets", [])):
            expression = target["expr"]
            for variable, value in PUT_IN.items():
                expression = expression.replace(variable, value)
            rules.append({"record": f"panel:{panel['id']}:query{number}", "expr": expression})
    return {"groups": [{"name": "dashboard", "rules": rules}]}


if __name__ == "__main__":
    json.dump(rules_of(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), sys.stdout)
