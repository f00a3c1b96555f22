"""Print the volumes of a finished demonstration, and where its tables and picture are."""

import csv
import sys
from pathlib import Path

TABLES = ("group_deepbrain.tsv", "group_volumes.tsv")


def find_one(folder: Path, pattern: str) -> Path:
    """The file that a run should have left, or the end of the demonstration."""
    found = sorted(folder.glob(pattern))
    if not found:
        sys.exit(f"the demonstration failed: {folder / pattern} was not written")
    return found[0]


def volume_lines(table: Path) -> list[str]:
    """One line per structure: its name and its volume in millilitres."""
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    if not rows:
        sys.exit(f"the demonstration failed: {table} has no rows")
    return [f"  {row['name']:<24}{float(row['volume_mm3']) / 1000:8.2f} ml" for row in rows]


def main(output_dir: Path) -> None:
    """Print what a person wants to see first."""
    table = find_one(output_dir, "sub-*/anat/*_seg-deepbrain_dseg.tsv")
    picture = find_one(output_dir, "sub-*/figures/*.png")
    group = [find_one(output_dir, name) for name in TABLES]
    print("\nVolumes in the MNI152 template:")
    print("\n".join(volume_lines(table)))
    print(f"\nLabel map        {find_one(table.parent, '*_seg-deepbrain_dseg.nii.gz')}")
    print(f"Its volumes      {table}")
    print(f"Group tables     {group[0]}\n                 {group[1]}")
    print(f"Labels on scan   {picture}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
