"""What every benchmark says of the machine, and what it keeps others from saying."""

import logging
import os
from datetime import UTC, datetime
from typing import Any


def machine() -> dict[str, Any]:
    """What the figures hold for."""
    return {
        "cores": os.cpu_count(),
        "load_before": [round(load, 1) for load in os.getloadavg()],
        "date": datetime.now(UTC).date().isoformat(),
    }


def log(*chatty: str) -> None:
    """Show the progress of a long run, and of these loggers and the libraries' errors alone."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in ("py4j", "mlflow", *chatty):
        logging.getLogger(name).setLevel(logging.ERROR)
