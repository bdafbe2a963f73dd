# SPDX-License-Identifier: GPL-3.0-or-later
"""Print the dashboard's queries as recording rules, so that promtool can check whether they are valid PromQL.

python -m scripts.dashboard_rules deploy/grafana/omps-worker.json >rules.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

VARIABLES = {"$__rate_interval": "5m", "$__interval": "1m", "$job": ".*"}
"""The values that Grafana would substitute for its variables."""


def rules_of(dashboard: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a rules file, with one rule for each query of the dashboard."""
    rules = []
    for panel in dashboard["panels"]:
        for number, target in enumerate(panel.get("targets", [])):
            expression = target["expr"]
            for variable, value in VARIABLES.items():
                expression = expression.replace(variable, value)
            rules.append({"record": f"panel:{panel['id']}:query{number}", "expr": expression})
    return {"groups": [{"name": "dashboard", "rules": rules}]}


if __name__ == "__main__":
    json.dump(rules_of(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), sys.stdout)
