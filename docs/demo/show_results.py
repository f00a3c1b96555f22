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


def rows_of(table: Path, task: str) -> list[dict[str, str]]:
    """What the table of all tasks says of one, or the end of the demonstration."""
    with table.open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream, delimiter="\t") if row["task"] == task]
    if not rows or any(row["status"] != "done" for row in rows):
        sys.exit(f"the demonstration failed: {table} has no results of task {task}")
    return rows


def volume_line(row: dict[str, str]) -> str:
    """A structure: its name, its volume in millilitres, and its part of the brain."""
    line = f"  {row['name']:<28}{float(row['volume_mm3']) / 1000:8.2f} ml"
    if row["fraction_of_brain"] == "n/a":
        return line
    return f"{line}{100 * float(row['fraction_of_brain']):9.3f} % of the brain"


def brain_lines(row: dict[str, str]) -> list[str]:
    """The volume of the brain, which is the same for all structures of a scan."""
    if row["brain_mm3"] == "n/a":
        return ["  The brain was not measured"]
    if row["fraction_of_brain"] == "n/a":  # the row is the brain itself
        return []
    return [f"  {'Brain and ventricles':<28}{float(row['brain_mm3']) / 1000:8.2f} ml"]


def task_lines(output_dir: Path, table: Path) -> list[str]:
    """Volumes of one task, and where its files are."""
    task = table.name.partition("_seg-")[2].partition("_")[0]
    subject = table.relative_to(output_dir).parts[0]
    (label_map,) = find(table.parent, f"{table.stem}.nii.gz")
    (picture,) = find(output_dir, f"{subject}/figures/{table.stem}.png")
    (group,) = find(output_dir, f"group_{task}.tsv")
    rows = rows_of(find(output_dir, "group_volumes.tsv")[0], task)
    return [
        f"\nVolumes in the MNI152 template, task {task}:",
        *(volume_line(row) for row in rows),
        *brain_lines(rows[0]),
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
