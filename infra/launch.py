"""Entry for a cluster.

spark-submit --py-files dist/sluice-<version>.zip infra/launch.py run --config config.yaml
"""

import os
import sys
from pathlib import Path

from jobs.__main__ import main

if __name__ == "__main__":
    os.environ.setdefault("SLUICE_MODEL_PATH", str(Path(__file__).resolve().parent))  # demo_clip/
    sys.exit(main(sys.argv[1:]))
