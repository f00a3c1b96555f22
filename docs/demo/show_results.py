"""Print the volumes of a finished demonstration, and where its tables and pictures are."""

import csv
import sys
from pathlib import Path


def find(folder: Path, pattern: str) -> list[Path]:
    """Files that a run should have left, or the end of the demonstration."""
    found = sorted(folder.glob(pattern))
    if not found:
        sys.exit(f"the demonstration failed: {folder / pattern} was not written")
    return found


def volume_lines(table: Path) -> list[str]:
    """One line per structure: its name and its volume in millilitres."""
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    if not rows:
        sys.exit(f"the demonstration failed: {table} has no rows")
    return [f"  {row['name']:<28}{float(row['volume_mm3']) / 1000:8.2f} ml" for row in rows]


def task_lines(output_dir: Path, table: Path) -> list[str]:
    """Volumes of one task, and where its files are."""
    task = table.name.partition("_seg-")[2].partition("_")[0]
    subject = table.relative_to(output_dir).parts[0]
    (label_map,) = find(table.parent, f"{table.stem}.nii.gz")
    (picture,) = find(output_dir, f"{subject}/figures/{table.stem}.png")
    (group,) = find(output_dir, f"group_{task}.tsv")
    return [
        f"\nVolumes in the MNI152 template, task {task}:",
        *volume_lines(table),
        f"Label map        {label_map}",
        f"Its volumes      {table}",
        f"Group table      {group}",
        f"Labels on scan   {picture}",
    ]


def main(output_dir: Path) -> None:
    """Print what a person wants to see first."""
    for table in find(output_dir, "sub-*/anat/*_dseg.tsv"):
        print("\n".join(task_lines(output_dir, table)))
    print(f"\nAll tasks        {find(output_dir, 'group_volumes.tsv')[0]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
