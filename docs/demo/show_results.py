"""Print the volumes of a finished demonstration, and where its tables and pictures are."""

import csv
import json
import sys
from math import dist
from pathlib import Path
from typing import Any

Row = dict[str, str]
SAME_LESION_MM = 12.0  # between centres; painted ones lie further apart than twice that


def find(folder: Path, pattern: str) -> list[Path]:
    """Files that a run should have left, or the end of the demonstration."""
    found = sorted(folder.glob(pattern))
    if not found:
        sys.exit(f"the demonstration failed: {folder / pattern} was not written")
    return found


def read_rows(table: Path) -> list[Row]:
    """All rows of a table."""
    with table.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def read_sidecar(file: Path) -> dict[str, Any]:
    """A JSON file."""
    content: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return content


def rows_of(table: Path, task: str) -> list[Row]:
    """What the table of all tasks says of one, or the end of the demonstration."""
    rows = [row for row in read_rows(table) if row["task"] == task]
    if not rows or any(row["status"] != "done" for row in rows):
        sys.exit(f"the demonstration failed: {table} has no results of task {task}")
    return rows


def volume_line(row: Row) -> str:
    """A structure: its name, its volume in millilitres, and its part of the brain."""
    line = f"  {row['name']:<28}{float(row['volume_mm3']) / 1000:8.2f} ml"
    if row["fraction_of_brain"] == "n/a":
        return line
    return f"{line}{100 * float(row['fraction_of_brain']):9.3f} % of the brain"


def brain_lines(row: Row) -> list[str]:
    """The volume of the brain, which is the same for all structures of a scan."""
    if row["brain_mm3"] == "n/a":
        return ["  The brain was not measured"]
    if row["fraction_of_brain"] == "n/a":  # the row is the brain itself
        return []
    return [f"  {'Brain and ventricles':<28}{float(row['brain_mm3']) / 1000:8.2f} ml"]


def painted_lines(painted: list[dict[str, Any]], found: list[Row]) -> list[str]:
    """Painted lesions beside those that were found where they lie, and what was found elsewhere."""
    places = [[float(row[f"{axis}_mm"]) for axis in "xyz"] for row in found]
    near = [
        [i for i, place in enumerate(places) if dist(place, one["CentreMm"]) <= SAME_LESION_MM]
        for one in painted
    ]
    lines = ["  Lesion      painted       found"]
    for number, (one, there) in enumerate(zip(painted, near, strict=True), start=1):
        found_mm3 = sum(float(found[i]["volume_mm3"]) for i in there)
        answer = f"{found_mm3 / 1000:9.2f} ml" if there else "   nothing"
        lines.append(f"  {number:<8}{one['VolumeMm3'] / 1000:8.2f} ml{answer}")
    elsewhere = set(range(len(found))) - {i for there in near for i in there}
    more_mm3 = sum(float(found[i]["volume_mm3"]) for i in elsewhere)
    if elsewhere:
        lines.append(f"  elsewhere, where none is: {len(elsewhere)}, {more_mm3 / 1000:.2f} ml")
    return lines


def lesion_lines(output_dir: Path, table: Path) -> list[str]:
    """What was painted and what was found, for tasks that find lesions; else nothing."""
    stem = table.stem.removesuffix("_dseg")
    if not (each := table.with_name(f"{stem}_desc-lesions_dseg.tsv")).is_file():
        return []
    links = read_sidecar(output_dir / "dataset_description.json")["DatasetLinks"]
    source = read_sidecar(table.with_suffix(".json"))["Sources"][0].removeprefix("bids:raw:")
    scan = output_dir / links["raw"] / source
    sidecar = read_sidecar(scan.with_name(scan.name.replace(".nii.gz", ".json")))
    lines = ["  The FLAIR is simulated, and its lesions are painted:"]
    return [*lines, *painted_lines(sidecar["PaintedLesions"], read_rows(each))]


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
        *lesion_lines(output_dir, table),
        f"Label map        {label_map}",
        f"Its volumes      {table}",
        f"Group table      {group}",
        f"Labels on scan   {picture}",
    ]


def main(output_dir: Path) -> None:
    """Print what a person wants to see first."""
    for table in find(output_dir, "sub-*/anat/*_dseg.tsv"):
        if "_desc-" not in table.name:  # such as lesions one by one, which their task tells
            print("\n".join(task_lines(output_dir, table)))
    print(f"\nAll tasks        {find(output_dir, 'group_volumes.tsv')[0]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
