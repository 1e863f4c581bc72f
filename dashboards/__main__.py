"""Generate the dashboards' JSON: `python -m dashboards`."""

from __future__ import annotations

from dashboards.made import files

if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
        print(path)
