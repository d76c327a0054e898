"""`emu images`: which ready guests there are, and which are here."""

from __future__ import annotations

import sys
from typing import Any

from emu.images import store
from emu.images.catalog import CATALOG, Image, find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

STATUSES = {"1": "there was nothing to remove"}


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the actions of `emu images`."""
    parser.add_argument("--json", action="store_true", help="list as JSON")
    actions = parser.add_subparsers(dest="action", metavar="list | fetch | remove")
    listing = actions.add_parser("list", help="the guests there are; also without a word")
    listing.add_argument("--json", action="store_true", default=False, help="as JSON")
    fetching = actions.add_parser("fetch", help="make a guest's image of packages that are fetched")
    fetching.add_argument("name", metavar="IMAGE", nargs="+", help="as emu images lists them")
    fetching.add_argument("-q", "--quiet", action="store_true", help="tell nothing of what is done meanwhile")
    removing = actions.add_parser("remove", help="remove a guest's image; its changes are kept")
    removing.add_argument("name", metavar="IMAGE", nargs="+", help="as emu images lists them")
    removing.add_argument(
        "--changes", action="store_true", help="remove as well what the guest has written to its disk"
    )


def main(args: Namespace) -> int:
    """Lists, fetches or removes images; 0, or 1 where there was nothing to remove."""
    images = [find(name) for name in getattr(args, "name", ())]
    if args.action == "fetch":
        for image in images:
            print(store.fetch(image, quiet=args.quiet))
        return 0
    if args.action == "remove":
        return max([_remove(image, args.changes) for image in images])
    facts = [describe(image) for image in CATALOG]
    if args.json:
        import json

        print(json.dumps(facts, indent=2))
    else:
        print(table(facts))
    return 0


def describe(image: Image) -> dict[str, Any]:
    """The facts of an image, as values that JSON can hold; sizes in bytes."""
    folder, guest = store.place(image), store.guest_place(image)
    here, changed = folder.is_dir(), guest.is_dir()
    return {
        "name": image.name,
        "about": image.about,
        "architecture": image.architecture,
        "here": here,
        "path": str(folder),
        "size": store.size(folder) if here else None,
        "changes": str(guest / store.DISK) if changed else None,
        "changes_size": (guest / store.DISK).stat().st_blocks * 512 if changed else None,
    }


def table(facts: list[dict[str, Any]]) -> str:
    """The facts for people."""
    rows = [("NAME", "ARCH", "SIZE", "CHANGES", "WHAT IT IS")]
    for fact in facts:
        size = _megabytes(fact["size"]) if fact["here"] else "not here"
        changes = "-" if fact["changes"] is None else _megabytes(fact["changes_size"])
        rows.append((fact["name"], fact["architecture"], size, changes, fact["about"]))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join((*(word.ljust(width) for word, width in zip(row[:4], widths, strict=True)), row[4]))
        for row in rows
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


def _remove(image: Image, changes: bool) -> int:
    removed = store.forget(image) if changes else False  # fails, and nothing is lost, while the guest runs
    removed = store.remove(image) or removed
    if not changes and store.guest_place(image).is_dir():
        print(
            f"emu: the guest's own disk stays in {store.guest_place(image)};"
            f" emu images remove --changes {image.name} removes it",
            file=sys.stderr,
        )
    if not removed:
        print(f"emu: of {image.name} nothing is here to be removed", file=sys.stderr)
    return 0 if removed else 1
