"""Write the tables of docs/prevention.md anew from the metrics: `python scripts/prevention_page.py`."""

from pathlib import Path

from attention_collapse.files import read_json, write_text
from attention_collapse.params import load_params
from attention_collapse.report.prevention_page import fill, tables

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Fill the page."""
    study = load_params(ROOT / "params.yaml").prevention
    page = ROOT / "docs" / "prevention.md"
    found = read_json(ROOT / "metrics" / "embedded" / "prevention.json")
    write_text(page, fill(page.read_text("utf-8"), tables(found, study)))


if __name__ == "__main__":
    main()
